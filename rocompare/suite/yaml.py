"""YAML that knows the line of every key, so that an error says file, line and key.

Only plain data can be read: text, numbers, true and false, null, lists and mappings. However a file
is written, reading it ends within seconds: depth and number of its entries are limited.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml
from pydantic import BaseModel, ValidationError

from rocompare.errors import SuiteError
from rocompare.suite import registry

_TAG = "tag:yaml.org,2002:"
MAX_DEPTH = 16
MAX_ENTRIES = 30_000
"""Keys, values and list items of a file, an alias counted as all that it stands for."""

Path = tuple[str | int, ...]
"""Keys, and numbers of list items, that lead to a value."""


class _Loader(yaml.SafeLoader):
    """YAML with the scalars of YAML 1.2: `1e-3` is a number, `no` and `12:30` are text.

    The merge key `<<` of YAML 1.1 is understood besides.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    entries = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.entries += 1
        if self.entries > MAX_ENTRIES:
            raise yaml.MarkedYAMLError(problem="too many entries", problem_mark=self.get_mark())
        return super().compose_node(parent, index)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _tag, re.compile(rf"(?:{_pattern})\Z", re.ASCII), _first)


class Document:
    """A YAML text as plain ``data`` (None if it is empty), and where every key was written.

    Args:
        source: names the text in errors.

    Raises:
        SuiteError: it is no YAML, holds something else than plain data, or too much of it.
    """

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.places: dict[Path, str] = {(): f"{source}:1"}
        self.settings: dict[Path, str] = {}
        """What was put in afterwards, and by which ``--set``."""
        self._entries = 0
        try:
            node = yaml.compose(text, Loader=_Loader)
            self.data: Any = None if node is None else self._build(node, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            raise SuiteError(f"{source}:{line}: not valid YAML: {error.problem}") from None
        except yaml.YAMLError as error:  # an unprintable character
            raise SuiteError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
        except RecursionError:
            raise SuiteError(f"{source}: nested too deeply") from None

    def _build(self, node: yaml.Node, path: Path) -> Any:
        self.places.setdefault(path, self._place(node))
        self._count(node)
        if len(path) > MAX_DEPTH:
            self._fail(node, (), "nested too deeply")
        if isinstance(node, yaml.MappingNode):
            values = {}
            for key, (key_node, value_node) in self._pairs(node, path).items():
                self.places[*path, key] = self._place(key_node)
                values[key] = self._build(value_node, (*path, key))
            return values
        if isinstance(node, yaml.SequenceNode):
            return [self._build(item, (*path, i)) for i, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._build_scalar(node, path)

    def _pairs(
        self, mapping: yaml.MappingNode, path: Path
    ) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Key and value by the key's text: what stands in ``mapping``, then what `<<` merges."""
        self._count(mapping)
        pairs: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in mapping.value:
            if key_node.tag == f"{_TAG}merge":
                several = isinstance(value_node, yaml.SequenceNode)
                merged.extend(value_node.value if several else [value_node])
                continue
            if key_node.tag != f"{_TAG}str":
                self._fail(key_node, path, f"a key must be text; quote it: {_shown(key_node)}")
            key = key_node.value
            if key in pairs:
                first = pairs[key][0].start_mark.line + 1
                message = f"'{key[:80]}' stands here twice (first in line {first})"
                self._fail(key_node, path, message)
            pairs[key] = key_node, value_node
        for other in merged:
            if not isinstance(other, yaml.MappingNode):
                self._fail(other, path, "'<<' takes a mapping, or a list of mappings")
            for key, pair in self._pairs(other, path).items():
                pairs.setdefault(key, pair)
        return pairs

    def _build_scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        kind = node.tag.removeprefix(_TAG)
        text = node.value
        if kind in ("str", "merge"):
            return text
        if kind == "null":
            return None
        if kind == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if kind in ("int", "float") and len(text) <= 100:
            with contextlib.suppress(ValueError):
                if kind == "int":
                    return int(text)
                return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
        return self._fail(node, path, f"cannot read {_shown(node)} as {kind[:80]}")

    def _count(self, node: yaml.Node) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            self._fail(node, (), "too many entries (or aliases of aliases)")

    def _place(self, node: yaml.Node) -> str:
        return f"{self.source}:{node.start_mark.line + 1}"

    def _fail(self, node: yaml.Node, path: Path, message: str) -> NoReturn:
        where = _dotted(path)
        raise SuiteError(f"{self._place(node)}: {where + ': ' if where else ''}{message}")

    def has(self, path: Path) -> bool:
        """Whether a key stands at ``path``, in the text or by a setting."""
        return path in self.places or path in self.settings

    def at(self, path: Path, message: str) -> str:
        """``file:line: key: message``, or ``--set setting: ...`` for what such an option put there.

        The line is that of the nearest key that stands in the file. Settings of what lies below
        ``path`` are named too: they may be why it is wrong.
        """
        known = path
        while not self.has(known):
            known = known[:-1]
        place = f"--set {self.settings[known]}" if known in self.settings else self.places[known]
        below = [s for key, s in self.settings.items() if key != known and key[: len(path)] == path]
        where = _dotted(path)
        why = f" (with --set {' --set '.join(below)})" if below else ""
        return f"{place}: {where + ': ' if where else ''}{message}{why}"

    def explain(
        self, error: ValidationError, model: type[BaseModel], prefix: Path, also: tuple[str, ...]
    ) -> Iterator[str]:
        """A line per problem that pydantic found below ``prefix``.

        Args:
            model: what was validated there.
            also: keys besides the model's fields that may stand there.
        """
        for detail in error.errors(include_url=False, include_context=False):
            loc = tuple(part for part in detail["loc"] if part != "[key]")
            message = detail["msg"].removeprefix("Value error, ")
            if detail["type"] == "extra_forbidden":
                known = [*_fields(model, loc[:-1]), *also]
                message = f"unknown key{registry.nearest(str(loc[-1]), known)}"
            elif detail["type"] == "missing":
                message = "missing"
            elif detail["type"] != "value_error":
                message = f"{message[0].lower()}{message[1:]}, got {detail['input']!r:.80}"
            yield self.at((*prefix, *loc), message)


def _fields(model: type[BaseModel], loc: Path) -> Iterator[str]:
    """Names of the fields of the model that stands at ``loc`` inside ``model``."""
    for part in loc:
        inner = model.model_fields[str(part)].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return
        model = inner
    yield from model.model_fields


def _dotted(path: Path) -> str:
    return ".".join(str(part)[:80] for part in path)


def _shown(node: yaml.Node) -> str:
    return repr(node.value)[:80] if isinstance(node, yaml.ScalarNode) else "a collection"
