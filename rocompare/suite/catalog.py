"""What can be named in a suite: algorithms, environments and their parameters, as data.

The types, bounds and defaults are those of the ``Config`` that checks them, and the meanings the
docstrings under its fields, so that no list has to be kept beside them.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from rocompare.errors import UnknownName
from rocompare.suite import library, registry

TABLES = {"algorithm": registry.ALGORITHMS, "environment": registry.ENVIRONMENTS}
KINDS = (*TABLES, "reference", "suite")
Schema = dict[str, Any]


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter of an algorithm, or a parameter of an environment."""

    name: str
    type: str
    range: str
    """The bounds, or the words to choose from; empty if there are none."""
    required: bool
    """Whether a suite must give it."""
    default: Any
    meaning: str

    @property
    def start(self) -> str:
        """The default, as a suite file writes it."""
        return "must be given" if self.required else written(self.default)


@dataclass(frozen=True)
class Entry:
    """An algorithm, an environment, a table of published values or a suite."""

    kind: str
    name: str
    place: str
    """``package.module:Class``, or the file."""
    about: str
    """One sentence."""


def overview(kind: str | None = None) -> list[Entry]:
    """Everything that ships, or all of one of ``KINDS``. Imports no class."""
    entries = [
        Entry(kind, name, place, about(place))
        for kind, table in TABLES.items()
        for name, place in table.items()
    ]
    entries += [
        Entry("reference", name, file, "Published returns: mean ± standard deviation.")
        for name, file in registry.REFERENCES.items()
    ]
    entries += [
        Entry("suite", name, str(path), library.about(path))
        for name, path in library.shipped().items()
    ]
    return [entry for entry in entries if kind in (None, entry.kind)]


def find(name: str) -> list[Entry]:
    """All that has this name: a suite can have an environment's.

    Raises:
        UnknownName: nothing has.
    """
    entries = overview()
    found = [entry for entry in entries if entry.name == name]
    if not found:
        hint = registry.nearest(name, {entry.name for entry in entries})
        raise UnknownName(f"nothing that comes with rocompare is called '{name[:80]}'{hint}")
    return found


def parameters(entry: Entry) -> list[Parameter]:
    """All of an algorithm or an environment, those that it shares with others last."""
    model = registry.load(entry.kind, entry.name).Config
    schema = model.model_json_schema()
    own = [field for field in schema["properties"] if field in inspect.get_annotations(model)]
    order = [*own, *(field for field in schema["properties"] if field not in own)]
    rows = []
    for field in order:
        part = schema["properties"][field]
        meaning = " ".join(part.get("description", "").replace("``", "").split())
        needed = field in schema.get("required", [])
        rows.append(
            Parameter(field, _type(part), _range(part), needed, part.get("default"), meaning)
        )
    return rows


def as_data(entry: Entry) -> dict[str, Any]:
    """An entry, with its parameters if it has any, for JSON."""
    data: dict[str, Any] = asdict(entry)
    if entry.kind in TABLES:
        data["parameters"] = [asdict(row) for row in parameters(entry)]
    return data


def about(place: str) -> str:
    """The first sentence of a module's docstring, which is read and not run."""
    spec = importlib.util.find_spec(place.partition(":")[0])
    assert spec is not None and spec.origin is not None
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return re.split(r"(?<=\.)\s(?=[A-Z])", paragraph, maxsplit=1)[0].replace("``", "")


def written(value: Any) -> str:
    """A value as a suite file has it."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


def _type(part: Schema) -> str:
    if "anyOf" in part:
        return " or ".join(_type(one) for one in part["anyOf"])
    if "enum" in part or "const" in part:
        return "one of"
    if part.get("type") == "array":
        item = _type(part.get("items", {}))
        return f"list of {item}s" if not item.startswith("list") else f"list of lists{item[4:]}"
    names = {"string": "text", "object": "mapping", "boolean": "true or false"}
    kind = str(part.get("type", "value"))
    return names.get(kind, kind)


def _range(part: Schema) -> str:
    if "anyOf" in part:
        return ", ".join(filter(None, (_range(one) for one in part["anyOf"])))
    if "enum" in part:
        return ", ".join(map(written, part["enum"]))
    if part.get("type") == "array":
        inner = _range(part.get("items", {}))
        return f"each {inner}" if inner and not inner.startswith("each") else inner
    signs = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    return ", ".join(f"{sign} {part[key]:g}" for key, sign in signs.items() if key in part)
