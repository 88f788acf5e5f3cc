"""Suite files: pydantic models, and YAML loading that says file, line and key in every error.

Nothing here imports torch; the algorithms and environments that a suite names are imported only
when their hyperparameters are checked.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from rocompare.errors import SuiteError, UnknownName
from rocompare.suite import registry

MAX_BYTES = 1 << 20
MAX_NAME = 64
"""Letters of a suite's, an algorithm's or a scenario's name."""
TUNED = "_tuned"
"""What `rocompare tune` adds to names: they can stand beside the untuned ones in a table."""
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._+-]{{0,{MAX_NAME - 1}}}", re.ASCII)


def _check_name(name: str) -> str:
    # Names become folders: no separators, no leading dot, nothing that leaves the results folder.
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise ValueError(
            f"a name has 1 to {MAX_NAME} letters, digits, '_', '-', '+' or '.', begins with a "
            f"letter or digit and does not end in '.'; got {name[:80]!r}"
        )
    return name


def check_seeds(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | list):
        raise ValueError(f"expected a number of seeds or a list of them, got {value!r:.80}")
    if isinstance(value, int):
        if not 1 <= value <= 10_000:
            raise ValueError(f"the number of seeds is between 1 and 10000, got {str(value)[:80]}")
        return tuple(range(value))
    seen = set()
    for seed in value:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise ValueError(f"a seed is an integer from 0 to 2**63 - 1, got {seed!r:.80}")
        if seed in seen:
            raise ValueError(f"seed {seed} is listed twice")
        seen.add(seed)
    return tuple(value)


Name = Annotated[str, AfterValidator(_check_name)]
Seeds = Annotated[
    tuple[int, ...], BeforeValidator(check_seeds), Field(min_length=1, max_length=10_000)
]
_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Budget(BaseModel):
    model_config = _STRICT

    env_steps: int = Field(gt=0, le=10**9)
    """Environment steps per seed, the same for every algorithm."""
    envs: int = Field(1, gt=0, le=4096)
    """Environments per seed that step side by side; they share the budget."""


class Evaluation(BaseModel):
    model_config = _STRICT

    episodes: int = Field(100, gt=0, le=100_000)
    """Episodes per evaluation and seed."""
    points: int = Field(20, gt=0, le=10_000)
    """Evaluations, evenly spaced; the last, at the end of training, is the one reported."""


class AlgorithmConfig(BaseModel):
    """An algorithm's name in the suite, its class, and its resolved hyperparameters."""

    model_config = _STRICT

    name: str
    use: str
    params: dict[str, Any]
    given: tuple[str, ...] = Field((), exclude=True)
    """The hyperparameters that the suite itself sets, which tuning leaves as they are."""
    local: registry.LocalFile | None = Field(None, exclude=True)
    """The file of a class beside the suite."""

    def load(self) -> Any:
        """The class."""
        return registry.load("algorithm", self.use, self.local)


class ScenarioConfig(BaseModel):
    """A scenario's name in the suite, its environment's class, and resolved parameters."""

    model_config = _STRICT

    name: str
    env: str
    params: dict[str, Any]
    local: registry.LocalFile | None = Field(None, exclude=True)
    """The file of a class beside the suite."""
    budget: Budget | None = Field(None, exclude=True)
    """The scenario's own, instead of the suite's."""
    algorithms: dict[str, AlgorithmConfig] = Field(default_factory=dict, exclude=True)
    """By name, the algorithms whose hyperparameters are others here."""

    def load(self) -> Any:
        """The class."""
        return registry.load("environment", self.env, self.local)

    def declared(self) -> dict[str, Any]:
        """What the environment says of itself that results are judged by."""
        env_class = self.load()
        spec = env_class(env_class.Config.model_validate(self.params), [0], 1).spec
        return {
            "safe_return": None if spec.safe_return is None else float(spec.safe_return),
            "optimal_return": None if spec.optimal_return is None else float(spec.optimal_return),
            "basins": list(spec.basins),
        }


class _SuiteFile(BaseModel):
    """A suite as written, before the classes it names are looked up."""

    model_config = _STRICT

    name: Name
    seeds: Seeds
    budget: Budget
    evaluation: Evaluation = Evaluation(episodes=100, points=20)
    algorithms: dict[Name, dict[str, Any] | None] = Field(min_length=1)
    scenarios: dict[Name, dict[str, Any]] = Field(min_length=1)
    reference: str | None = None


class Suite(BaseModel):
    """A checked suite: algorithms x scenarios x seeds, with budgets."""

    model_config = _STRICT

    name: str
    seeds: tuple[int, ...]
    budget: Budget
    evaluation: Evaluation
    algorithms: tuple[AlgorithmConfig, ...]
    scenarios: tuple[ScenarioConfig, ...]
    reference: str | None = None

    def cells(self) -> list[Cell]:
        """Every algorithm on every scenario, scenario by scenario."""
        return [
            Cell(
                self.name, scenario, scenario.algorithms.get(algorithm.name, algorithm),
                self.seeds, scenario.budget or self.budget, self.evaluation,
                (int(algorithm.load().version), int(scenario.load().version)),
            )
            for scenario in self.scenarios
            for algorithm in self.algorithms
        ]  # fmt: skip

    def select(
        self,
        seeds: int | None = None,
        algorithms: list[str] | None = None,
        scenarios: list[str] | None = None,
    ) -> Suite:
        """The part of the suite with these names, and with seeds ``0..seeds-1`` if given."""
        chosen = self
        if seeds is not None:
            try:
                chosen = chosen.model_copy(update={"seeds": check_seeds(seeds)})
            except ValueError as error:
                raise SuiteError([f"--seeds: {error}"]) from None
        for kind, names in (("algorithms", algorithms), ("scenarios", scenarios)):
            if not names:
                continue
            entries = {entry.name: entry for entry in getattr(self, kind)}
            for name in names:
                if name not in entries:
                    raise SuiteError(
                        [
                            f"--{kind[:-1]}: suite '{self.name}' has no '{name[:80]}'"
                            f"{registry.nearest(name, entries)}"
                        ]
                    )
            kept = tuple(entry for name, entry in entries.items() if name in names)
            chosen = chosen.model_copy(update={kind: kept})
        return chosen


@dataclass(frozen=True)
class Cell:
    """One algorithm on one scenario, with all its seeds: what trains as one program."""

    suite: str
    scenario: ScenarioConfig
    algorithm: AlgorithmConfig
    seeds: tuple[int, ...]
    budget: Budget
    evaluation: Evaluation
    versions: tuple[int, int]

    @property
    def path(self) -> Path:
        """The cell's folder under the results folder."""
        return Path(self.suite, self.scenario.name, self.algorithm.name, self.key)

    @property
    def label(self) -> str:
        return f"{self.scenario.name} · {self.algorithm.name}"

    def resolved(self) -> dict[str, Any]:
        """Everything that a seed's result depends on but the seed, as plain data."""
        parts: dict[str, dict[str, Any]] = {}
        for kind, entry, version in (
            ("algorithm", self.algorithm, self.versions[0]),
            ("scenario", self.scenario, self.versions[1]),
        ):
            parts[kind] = {**entry.model_dump(mode="json"), "version": version}
            if entry.local:  # whoever edits a file beside the suite need not think of a version
                parts[kind]["sha256"] = entry.local.sha256
        parts["budget"] = self.budget.model_dump(mode="json")
        parts["evaluation"] = self.evaluation.model_dump(mode="json")
        return parts

    @functools.cached_property
    def key(self) -> str:
        """Hash of :meth:`resolved` without names: a renamed cell is the same training."""
        data = self.resolved()
        for part in ("algorithm", "scenario"):
            del data[part]["name"]
        text = json.dumps(data, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def with_seeds(self, seeds: tuple[int, ...]) -> Cell:
        return replace(self, seeds=seeds)


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
    document = _Document(text, source)
    if document.data is None:
        raise SuiteError([f"{source}: the file is empty; see `rocompare run --help`"])
    if not isinstance(document.data, dict):
        raise SuiteError([f"{source}:1: expected a mapping with name, seeds, budget, ..."])
    problems: list[str] = []
    try:
        written = _SuiteFile.model_validate(document.data)
    except ValidationError as error:
        problems, written = document.explain(error, _SuiteFile, ()), None
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
    document: _Document,
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
    document: _Document,
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


class _Document:
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
