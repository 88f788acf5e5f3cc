"""YAML that knows the line of every key, so that an error says file, line and key.

Only plain data can be read: text, numbers, true and false, null, lists and mappings.
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


class _Loader(yaml.SafeLoader):
    """YAML with the scalars of YAML 1.2: `1e-3` is a number, `no` and `12:30` are text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z", re.ASCII), _first
    )


class Document:
    """A YAML file as plain data, with the line of every key."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.lines: dict[tuple[str | int, ...], int] = {(): 1}
        try:
            node = yaml.compose(text, Loader=_Loader)
            self.data = None if node is None else self._build(node, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            raise SuiteError([f"{source}:{line}: not valid YAML: {error.problem}"]) from None
        except yaml.YAMLError as error:  # an unprintable character
            raise SuiteError(
                [f"{source}: not valid YAML: {' '.join(str(error).split())}"]
            ) from None
        except RecursionError:
            raise SuiteError([f"{source}: nested too deeply"]) from None

    def _build(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        if len(path) > 16:
            raise SuiteError([f"{self.source}:{line}: nested too deeply"])
        if len(self.lines) > 100_000:
            raise SuiteError([f"{self.source}:{line}: too many entries (or aliases of aliases)"])
        if isinstance(node, yaml.MappingNode):
            return self._build_mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._build(item, (*path, i)) for i, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._build_scalar(node, path)

    def _build_mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag != "tag:yaml.org,2002:str":
                self._fail(line, path, f"a key must be text; quote it: {_shown(key_node)}")
            key = key_node.value
            if key in values:
                first = self.lines[(*path, key)]
                self._fail(line, path, f"'{key[:80]}' stands here twice (first in line {first})")
            self.lines[(*path, key)] = line
            values[key] = self._build(value_node, (*path, key))
        return values

    def _build_scalar(self, node: yaml.ScalarNode, path: tuple[str | int, ...]) -> Any:
        line = node.start_mark.line + 1
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        text = node.value
        if kind == "str":
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
        return self._fail(line, path, f"cannot read {_shown(node)} as {kind[:80]}")

    def _fail(self, line: int, path: tuple[str | int, ...], message: str) -> NoReturn:
        where = _dotted(path)
        raise SuiteError([f"{self.source}:{line}: {where + ': ' if where else ''}{message}"])

    def at(self, path: tuple[str | int, ...], message: str) -> str:
        """``file:line: key: message``; the line is that of the nearest key that stands there."""
        known = path
        while known not in self.lines:
            known = known[:-1]
        where = _dotted(path)
        return f"{self.source}:{self.lines[known]}: {where + ': ' if where else ''}{message}"

    def explain(
        self,
        error: ValidationError,
        model: type[BaseModel],
        prefix: tuple[str | int, ...],
        also: tuple[str, ...] = (),
    ) -> list[str]:
        """A line per problem that pydantic found below ``prefix``."""
        lines = []
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
            lines.append(self.at((*prefix, *loc), message))
        return lines


def _fields(model: type[BaseModel], loc: tuple[str | int, ...]) -> Iterator[str]:
    """Names of the fields of the model that stands at ``loc`` inside ``model``."""
    for part in loc:
        inner = model.model_fields[str(part)].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return
        model = inner
    yield from model.model_fields


def _dotted(path: tuple[str | int, ...]) -> str:
    return ".".join(str(part)[:80] for part in path)


def _shown(node: yaml.Node) -> str:
    return repr(node.value)[:80] if isinstance(node, yaml.ScalarNode) else "a collection"
