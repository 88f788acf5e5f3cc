"""From a suite file to a :class:`Suite`: every class is looked up, every hyperparameter checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rocompare.errors import SuiteError, UnknownName
from rocompare.suite import registry
from rocompare.suite.models import AlgorithmConfig, Budget, ScenarioConfig, Suite, SuiteFile
from rocompare.suite.yaml import Document

MAX_BYTES = 1 << 20
"""Of a suite file."""


def load_suite(path: str | Path, allow_local_code: bool = False) -> Suite:
    """Read and check a suite file.

    Args:
        allow_local_code: whether classes in files beside the suite may be run.

    Raises:
        SuiteError: with every problem found, each naming file, line and key.
    """
    text = _read(Path(path))
    return parse_suite(text, str(path), Path(path).parent if allow_local_code else None)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SuiteError([f"{path}: no such file"]) from None
    except OSError as error:
        raise SuiteError([f"{path}: cannot be read: {error.strerror}"]) from None
    except ValueError as error:  # a NUL in the path
        raise SuiteError([f"{str(path)!r}: not a path: {error}"]) from None
    if len(data) > MAX_BYTES:
        raise SuiteError([f"{path}: larger than 1 MiB, which is no suite file"])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SuiteError([f"{path}:{line}: not UTF-8 text"]) from None


def parse_suite(text: str, source: str = "<suite>", folder: Path | None = None) -> Suite:
    """Check the text of a suite file.

    Args:
        source: names it in errors.
        folder: where classes in files may be run from; None: no such class is allowed.
    """
    document = Document(text, source)
    if document.data is None:
        raise SuiteError([f"{source}: the file is empty; see `rocompare run --help`"])
    if not isinstance(document.data, dict):
        raise SuiteError([f"{source}:1: expected a mapping with name, seeds, budget, ..."])
    problems: list[str] = []
    try:
        written = SuiteFile.model_validate(document.data)
    except ValidationError as error:
        problems, written = document.explain(error, SuiteFile, ()), None
    points = written.evaluation.points if written else 0
    if written and points > written.budget.env_steps:
        message = "evaluation.points must not exceed budget.env_steps"
        problems.append(document.at(("budget",), message))
    algorithms, scenarios = [], []
    # Whatever is wrong above, entries that can be read are looked at too: all is said at once.
    named = _entries(document.data.get("algorithms"), empty=True)
    for name, params in named.items():
        use = params.pop("use", name)
        path = ("algorithms", name)
        resolved = _resolve(document, problems, "algorithm", use, params, path, folder)
        if resolved is not None:
            given = tuple(params)
            use, checked, local = resolved
            algorithms.append(
                AlgorithmConfig(name=name, use=use, params=checked, given=given, local=local)
            )
    for name, params in _entries(document.data.get("scenarios")).items():
        path = ("scenarios", name)
        if "env" not in params:
            problems.append(document.at(path, "'env' is missing: the environment's name"))
            continue
        env = params.pop("env")
        own = _own_settings(document, problems, params, path, algorithms, set(named))
        resolved = _resolve(document, problems, "environment", env, params, path, folder)
        if resolved is not None:
            env, checked, local = resolved
            scenarios.append(ScenarioConfig(name=name, env=env, params=checked, local=local, **own))
            budget = scenarios[-1].budget
            if budget is not None and points > budget.env_steps:
                message = "evaluation.points must not exceed env_steps"
                problems.append(document.at((*path, "budget"), message))
    if written and written.reference is not None and written.reference not in registry.REFERENCES:
        hint = registry.nearest(written.reference, registry.REFERENCES)
        message = f"unknown reference '{written.reference[:80]}'{hint}"
        problems.append(document.at(("reference",), message))
    if problems or written is None:
        raise SuiteError(problems)
    return Suite(
        name=written.name,
        seeds=written.seeds,
        budget=written.budget,
        evaluation=written.evaluation,
        algorithms=tuple(algorithms),
        scenarios=tuple(scenarios),
        reference=written.reference,
    )


def _entries(part: Any, empty: bool = False) -> dict[str, dict[str, Any]]:
    """Copies of those entries that are mappings, or nothing at all where that is allowed."""
    if not isinstance(part, dict):
        return {}
    return {
        name: dict(entry or {})
        for name, entry in part.items()
        if isinstance(entry, dict) or (empty and entry is None)
    }


def _own_settings(
    document: Document,
    problems: list[str],
    params: dict[str, Any],
    path: tuple[str, ...],
    algorithms: list[AlgorithmConfig],
    named: set[str],
) -> dict[str, Any]:
    """A scenario's own ``budget`` and ``algorithms``, taken out of ``params``.

    Args:
        algorithms: the suite's that are sound, of those that are ``named``.
    """
    own: dict[str, Any] = {}
    if "budget" in params:
        try:
            own["budget"] = Budget.model_validate(params.pop("budget"))
        except ValidationError as error:
            problems.extend(document.explain(error, Budget, (*path, "budget")))
    entries = params.pop("algorithms", {})
    if not isinstance(entries, dict):
        message = "expected the algorithms' names, and hyperparameters for each"
        problems.append(document.at((*path, "algorithms"), message))
        return own
    by_name = {algorithm.name: algorithm for algorithm in algorithms}
    own["algorithms"] = {}
    for name, entry in entries.items():
        where = (*path, "algorithms", name)
        if name in named and name not in by_name:
            continue  # what is wrong with it was said where it stands
        if name not in by_name:
            message = f"the suite has no algorithm '{name[:80]}'{registry.nearest(name, named)}"
            problems.append(document.at(where, message))
            continue
        if not isinstance(entry, dict):
            problems.append(document.at(where, f"expected hyperparameters, got {entry!r:.80}"))
            continue
        base = by_name[name]
        model = base.load().Config
        try:
            checked = model.model_validate({**base.params, **entry})
        except ValidationError as error:
            problems.extend(document.explain(error, model, where))
            continue
        given = tuple(dict.fromkeys([*base.given, *entry]))
        update = {"params": checked.model_dump(mode="json"), "given": given}
        own["algorithms"][name] = base.model_copy(update=update)
    return own


def _resolve(
    document: Document,
    problems: list[str],
    kind: str,
    use: Any,
    params: dict[str, Any],
    path: tuple[str, ...],
    folder: Path | None,
) -> tuple[str, dict[str, Any], registry.LocalFile | None] | None:
    """The class's place, its checked parameters and its file, or a line in ``problems``."""
    key = "use" if kind == "algorithm" else "env"
    where = (*path, key) if (*path, key) in document.lines else path
    if not isinstance(use, str):
        problems.append(document.at(where, f"expected the {kind}'s name, got {use!r:.80}"))
        return None
    try:
        local = registry.local_file(use, folder) if registry.is_local(use) else None
        model = registry.load(kind, use, local).Config
        checked = model.model_validate(params)
    except UnknownName as error:
        problems.append(document.at(where, str(error)))
    except ValidationError as error:
        problems.extend(document.explain(error, model, path, also=(key,)))
    else:
        return registry.target(kind, use), checked.model_dump(mode="json"), local
    return None
