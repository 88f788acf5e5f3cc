"""``--set NAME.KEY=VALUE``: what a run has otherwise than its suite file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rocompare.errors import SuiteError
from rocompare.suite import registry
from rocompare.suite.models import SuiteFile
from rocompare.suite.yaml import Document, Path


def apply(document: Document, settings: Sequence[str]) -> None:
    """Put values into the document, as if its text said so: they are checked with all else.

    ``svnr.policy_lr=0.01`` sets a hyperparameter of the suite's algorithm ``svnr``,
    ``narrow.s2=1.2`` a parameter of its scenario ``narrow``, and ``budget.env_steps=500`` what
    stands at the top. ``narrow.budget.env_steps`` and ``narrow.algorithms.svnr.policy_lr`` are a
    scenario's own. If a name is an algorithm's and a scenario's, ``algorithms.`` or ``scenarios.``
    stands before it. Values are YAML: a number, text or a list of them.

    Raises:
        SuiteError: a setting cannot be read, or sets what the suite does not have.
    """
    problems = []
    for setting in settings:
        try:
            _apply(document, setting)
        except SuiteError as error:
            problems += error.problems
    if problems:
        raise SuiteError(problems)


def _apply(document: Document, setting: str) -> None:
    where, equals, text = setting.partition("=")
    if not (where and equals):
        raise SuiteError(f"--set {setting}: expected NAME.KEY=VALUE, as in svnr.policy_lr=0.01")
    value = Document(text, f"--set {where}").data
    if isinstance(value, dict):
        raise SuiteError(f"--set {where}: a value is a number, text or a list, got a mapping")
    path = _path(document.data, where)
    node = document.data
    for depth, key in enumerate(path[:-1]):
        if node.get(key) is None:  # `maddpg:` with nothing behind it, or a part that is not written
            node[key] = {}
            document.settings.setdefault(path[: depth + 1], setting)
        node = node[key]
        if not isinstance(node, dict):
            raise SuiteError(f"--set {where}: '{'.'.join(path[: depth + 1])}' is no mapping")
    node[path[-1]] = value
    for below in [key for key in document.places if key[: len(path)] == path]:
        del document.places[below]
    document.settings[path] = setting


def _path(data: dict[str, Any], where: str) -> tuple[str, ...]:
    """The keys that ``where`` leads along; names may have dots, so what stands there decides."""
    path: tuple[str, ...] = ()
    rest = where
    while rest:
        known = _names(data, path)
        found = [name for name in known or () if rest == name or rest.startswith(f"{name}.")]
        if known is not None and not found:
            first = rest.partition(".")[0]
            hint = registry.nearest(first, known)
            raise SuiteError(f"--set {where}: the suite has no '{first[:80]}'{hint}")
        key = max(found, key=len) if found else rest.partition(".")[0]
        rest = rest[len(key) + 1 :]
        if path == () and key not in SuiteFile.model_fields:
            kinds = [kind for kind in ("algorithms", "scenarios") if key in _keys(data.get(kind))]
            if len(kinds) > 1:
                raise SuiteError(
                    f"--set {where}: '{key}' is an algorithm and a scenario; say algorithms.{key} "
                    f"or scenarios.{key}"
                )
            path = (kinds[0],)
        path = (*path, key)
    return path


def _names(data: dict[str, Any], path: Path) -> Iterable[str] | None:
    """The keys that can stand at ``path``; None if anything can."""
    algorithms, scenarios = _keys(data.get("algorithms")), _keys(data.get("scenarios"))
    if path == ():
        return [*SuiteFile.model_fields, *algorithms, *scenarios]
    if path[-1] == "algorithms" and len(path) in (1, 3):
        return algorithms
    return scenarios if path == ("scenarios",) else None


def _keys(part: Any) -> list[str]:
    return list(part) if isinstance(part, dict) else []
