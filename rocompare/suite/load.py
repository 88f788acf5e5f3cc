"""From a suite file to a :class:`Suite`: every class is looked up, every hyperparameter checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from rocompare.errors import SuiteError, UnknownName, UserError
from rocompare.suite import library, options, registry
from rocompare.suite.models import (
    AlgorithmConfig,
    Budget,
    Curriculum,
    ScenarioConfig,
    SearchCost,
    Suite,
    SuiteFile,
)
from rocompare.suite.yaml import Document

Model = TypeVar("Model", bound=BaseModel)

MAX_BYTES = 1 << 20
"""Of a suite file."""
MAX_PROBLEMS = 50
"""Of a suite, that are told: whoever has mended these sees the next."""


def load_suite(
    path: str | Path, allow_local_code: bool = False, settings: Sequence[str] = ()
) -> Suite:
    """Read and check a suite.

    Args:
        path: a file, or the name of a suite that comes with rocompare.
        allow_local_code: whether classes in files beside the suite, and modules in the working
            folder, may be run.
        settings: what is otherwise than in the file, ``"svnr.policy_lr=0.01"`` for example; see
            :func:`rocompare.suite.options.apply`.

    Raises:
        SuiteError: with every problem found, each naming file (or setting), line and key.
    """
    path = library.find(path)
    document = Document(_read(path), str(path))
    return _check(document, settings, path.parent, allow_local_code)


def parse_suite(
    text: str,
    source: str = "<suite>",
    settings: Sequence[str] = (),
    folder: Path | None = None,
    allow_local_code: bool = False,
) -> Suite:
    """Check the text of a suite.

    Without a folder, whoever writes the text also says which modules are imported: whatever Python
    finds. Classes in files need a folder that they lie in.

    Args:
        source: names the text in errors.
        settings, allow_local_code: as in :func:`load_suite`.
        folder: treat the text as that of a file which lies there.
    """
    return _check(Document(text, source), settings, folder, allow_local_code)


def _read(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise SuiteError(f"{path}: cannot be read: it is no regular file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SuiteError(f"{path}: no such file") from None
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # a NUL in the path
        if isinstance(error, SuiteError):
            raise
        raise SuiteError(f"{path}: not a path: {error}") from None
    if len(data) > MAX_BYTES:
        raise SuiteError(f"{path}: larger than 1 MiB, which is no suite file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SuiteError(f"{path}:{line}: not UTF-8 text") from None


def _check(
    document: Document, settings: Sequence[str], folder: Path | None, allow_local_code: bool
) -> Suite:
    """The suite that the document describes.

    Args:
        folder: where the file lies; None if the text is none of a file.
    """
    if document.data is None:
        raise SuiteError(f"{document.source}: the file is empty; see `rocompare run --help`")
    if not isinstance(document.data, dict):
        raise SuiteError(f"{document.source}:1: expected a mapping with name, seeds, budget, ...")
    options.apply(document, settings)
    return _Checker(document, folder, allow_local_code).suite()


class _Checker:
    """One document: what is sound of it, and a line for each problem."""

    def __init__(self, document: Document, folder: Path | None, allow_local_code: bool) -> None:
        self.document = document
        self.folder = folder
        self.allow_local_code = allow_local_code
        self._guarded = folder is not None and not allow_local_code
        self.problems: list[str] = []
        self.algorithms: dict[str, AlgorithmConfig] = {}
        """Those that are sound."""
        self.named: tuple[str, ...] = ()
        """All algorithms' names."""

    def suite(self) -> Suite:
        data = self.document.data
        written = self._validate(SuiteFile, data, ())
        points = written.evaluation.points if written else 0
        if written:
            self._check_points(points, written.budget, ("budget",))
        # Whatever is wrong above, entries that can be read are looked at too: all is said at once.
        entries = _entries(data.get("algorithms"), empty=True)
        self.named = tuple(entries)
        for name, params in entries.items():
            self._add_algorithm(name, params, written.search.get(name) if written else None)
        scenarios = []
        for name, params in _entries(data.get("scenarios")).items():
            scenario = self._scenario(name, params)
            if scenario is not None:
                scenarios.append(scenario)
                self._check_pairs(scenario)
                self._check_curricula(scenario)
                if scenario.budget is not None:
                    self._check_points(points, scenario.budget, ("scenarios", name, "budget"))
        for name in written.search if written else ():
            if name not in self.named:
                hint = registry.nearest(name, self.named)
                self._add(("search", name), f"the suite has no algorithm '{name[:80]}'{hint}")
        reference = written.reference if written else None
        if reference is not None and reference not in registry.REFERENCES:
            hint = registry.nearest(reference, registry.REFERENCES)
            self._add(("reference",), f"unknown reference '{reference[:80]}'{hint}")
        if self.problems or written is None:
            raise SuiteError(self.problems)
        return Suite(
            name=written.name,
            seeds=written.seeds,
            budget=written.budget,
            evaluation=written.evaluation,
            algorithms=tuple(self.algorithms.values()),
            scenarios=tuple(scenarios),
            reference=reference,
            keep_policies=written.keep_policies,
        )

    def _add_algorithm(self, name: str, params: dict[str, Any], search: SearchCost | None) -> None:
        use, path = params.pop("use", name), ("algorithms", name)
        curriculum = self._curriculum(params, path)
        resolved = self._resolve("algorithm", use, params, path)
        if resolved is not None:
            place, checked, local = resolved
            self.algorithms[name] = AlgorithmConfig(
                name=name,
                use=place,
                params=checked,
                curriculum=curriculum,
                given=tuple(params),
                search=search,
                local=local,
            )

    def _curriculum(self, params: dict[str, Any], path: tuple[str, ...]) -> Curriculum | None:
        """Taken out of an algorithm's ``params``, which stand at ``path``."""
        if "curriculum" not in params:
            return None
        where = (*path, "curriculum")
        checked = self._validate(Curriculum, params.pop("curriculum"), where)
        if checked is not None and not checked.starts:
            self._add(where, "expected a parameter of the environment and where it starts")
            return None
        return checked

    def _scenario(self, name: str, params: dict[str, Any]) -> ScenarioConfig | None:
        path = ("scenarios", name)
        if "env" not in params:
            self._add(path, "'env' is missing: the environment's name")
            return None
        env = params.pop("env")
        own: dict[str, Any] = {}
        if "budget" in params:
            own["budget"] = self._validate(Budget, params.pop("budget"), (*path, "budget"))
        own["algorithms"] = self._own_algorithms(params.pop("algorithms", {}), path)
        resolved = self._resolve("environment", env, params, path)
        if resolved is None:
            return None
        place, checked, local = resolved
        return ScenarioConfig(name=name, env=place, params=checked, local=local, **own)

    def _own_algorithms(self, entries: Any, path: tuple[str, ...]) -> dict[str, AlgorithmConfig]:
        """A scenario's own hyperparameters: by name, the algorithms that are others there."""
        if not isinstance(entries, dict):
            message = "expected the algorithms' names, and hyperparameters for each"
            self._add((*path, "algorithms"), message)
            return {}
        own = {}
        for name, entry in entries.items():
            where = (*path, "algorithms", name)
            base = self.algorithms.get(name)
            if base is None:
                if name not in self.named:  # else what is wrong with it was said where it stands
                    hint = registry.nearest(name, self.named)
                    self._add(where, f"the suite has no algorithm '{name[:80]}'{hint}")
                continue
            if not isinstance(entry, dict):
                self._add(where, f"expected hyperparameters, got {entry!r:.80}")
                continue
            if not self._allowed(entry, where):
                continue
            entry = dict(entry)
            curriculum = self._curriculum(entry, where) or base.curriculum
            checked = self._validate(base.load().Config, {**base.params, **entry}, where)
            if checked is not None:
                given = tuple(dict.fromkeys([*base.given, *entry]))
                update = {
                    "params": checked.model_dump(mode="json"),
                    "given": given,
                    "curriculum": curriculum,
                }
                own[name] = base.model_copy(update=update)
        return own

    def _resolve(
        self, kind: str, name: Any, params: dict[str, Any], path: tuple[str, ...]
    ) -> tuple[str, dict[str, Any], registry.LocalFile | None] | None:
        """The class's place, its checked parameters and its file; None if something is wrong."""
        key = "use" if kind == "algorithm" else "env"
        where = (*path, key) if self.document.has((*path, key)) else path
        if not isinstance(name, str):
            self._add(where, f"expected the {kind}'s name, got {name!r:.80}")
            return None
        try:
            allowed = self.folder if self.allow_local_code else None
            local = registry.local_file(name, allowed) if registry.is_local(name) else None
            if self._guarded:
                registry.refuse_local(name, self.folder)
            model = registry.load(kind, name, local).Config
        except UnknownName as error:
            self._add(where, str(error))
            return None
        if not self._allowed(params, path):
            return None
        also = ("use", "curriculum") if kind == "algorithm" else ("env", "budget", "algorithms")
        checked = self._validate(model, params, path, also)
        if checked is None:
            return None
        return registry.target(kind, name), checked.model_dump(mode="json"), local

    def _allowed(self, params: dict[str, Any], path: tuple[str, ...]) -> bool:
        """Whether no parameter names code that lies here and that nobody has allowed to run.

        A model may import what its parameters name: that of a PettingZoo factory does.
        """
        before = len(self.problems)
        for key, value in params.items():
            if self._guarded and isinstance(value, str):
                try:
                    registry.refuse_local(value, self.folder)
                except UnknownName as error:
                    self._add((*path, key), str(error))
        return len(self.problems) == before

    def _check_pairs(self, scenario: ScenarioConfig) -> None:
        """Algorithms must be able to play in the scenario's environment.

        Environments that do not come with rocompare are not built for that: they may be costly.
        """
        if registry.is_foreign(scenario.env):
            return
        spec = scenario.spec()
        self._check_actions(scenario, spec)
        for base in self.algorithms.values():
            algorithm = scenario.algorithms.get(base.name, base)
            cls = algorithm.load()
            unfit = getattr(cls, "unfit", None)  # a class of the user's need not have it
            try:
                reason = unfit and unfit(spec, cls.Config.model_validate(algorithm.params))
            except Exception as error:  # or it may fail in any way
                reason = f"{type(error).__name__}: {error}"
            if reason:
                self._add(("scenarios", scenario.name), f"{base.name} cannot play here: {reason}")

    def _check_curricula(self, scenario: ScenarioConfig) -> None:
        """A curriculum must change something in the scenario, and end at its values."""
        env = scenario.load()
        settable = getattr(env, "settable", ())
        for base in self.algorithms.values():
            algorithm = scenario.algorithms.get(base.name, base)
            if algorithm.curriculum is None:
                continue
            problem = _misfit(algorithm.curriculum, scenario, env, settable)
            if problem:
                message = f"the curriculum of {base.name} does not fit here: {problem}"
                self._add(("scenarios", scenario.name), message)

    def _check_actions(self, scenario: ScenarioConfig, spec: Any) -> None:
        """Algorithms must take the environment's kind of actions."""
        kind = "discrete" if spec.discrete else "continuous"
        unfit = [a.name for a in self.algorithms.values() if kind not in _actions(a.load())]
        if unfit:
            fit = [
                name
                for name in registry.ALGORITHMS
                if kind in _actions(registry.load("algorithm", name))
            ]
            message = (
                f"its actions are {kind}, which {', '.join(unfit)} cannot take; algorithms that "
                f"can: {', '.join(fit) or 'none of those that ship'}"
            )
            self._add(("scenarios", scenario.name), message)

    def _check_points(self, points: int, budget: Budget, path: tuple[str, ...]) -> None:
        if points > budget.env_steps:
            key = ("evaluation", "points")
            message = f"must not exceed env_steps: {points} evaluations in {budget.env_steps} steps"
            if key in self.document.settings:
                self._add(key, message)
            else:
                self._add((*path, "env_steps"), f"evaluation.points {message}")

    def _validate(
        self, model: type[Model], data: Any, path: tuple[str, ...], also: tuple[str, ...] = ()
    ) -> Model | None:
        """``data``, which stands at ``path``, as the model; None if something is wrong with it."""
        try:
            return model.model_validate(data)
        except ValidationError as error:
            self._extend(self.document.explain(error, model, path, also))
            return None

    def _add(self, path: tuple[str, ...], message: str) -> None:
        self._extend([self.document.at(path, message)])

    def _extend(self, lines: Iterable[str]) -> None:
        for line in lines:
            if len(self.problems) == MAX_PROBLEMS:
                rest = f"{self.document.source}: and more; mend these {MAX_PROBLEMS} first"
                raise SuiteError([*self.problems, rest])
            self.problems.append(line)


def _misfit(
    curriculum: Curriculum, scenario: ScenarioConfig, env: Any, settable: Sequence[str]
) -> str:
    """Why a curriculum does not fit a scenario, or nothing."""
    starts = {name: value for name, value in curriculum.starts.items() if name in settable}
    if not starts:
        known = ", ".join(settable) or "nothing"
        return f"it changes {', '.join(curriculum.starts):.80}, and what can be changed is {known}"
    for name, value in curriculum.ends.items():
        if name in starts and scenario.params[name] != value:
            return f"'{name}' ends at {value:g}, and the scenario's is {scenario.params[name]:g}"
    try:
        env.check_set(env.Config.model_validate(scenario.params), starts)
    except UserError as error:
        return str(error)
    return ""


def _actions(algorithm: Any) -> Any:
    """Kinds of actions that an algorithm's class takes."""
    return getattr(algorithm, "actions", ("continuous",))


def _entries(part: Any, empty: bool = False) -> dict[str, dict[str, Any]]:
    """Copies of those entries that are mappings, or nothing at all where that is allowed."""
    if not isinstance(part, dict):
        return {}
    return {
        name: dict(entry or {})
        for name, entry in part.items()
        if isinstance(entry, dict) or (empty and entry is None)
    }
