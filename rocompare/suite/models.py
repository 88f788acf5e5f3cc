"""What a suite is made of: algorithms, scenarios, budgets, and the cells that they make.

A cell's key says whether its results are there already. Nothing here imports torch: a class that a
suite names is imported when it is first asked for.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)

from rocompare.errors import SuiteError
from rocompare.suite import registry

MAX_NAME = 64
"""Letters of a suite's, an algorithm's or a scenario's name."""
TUNED = "_tuned"
"""What `rocompare tune` adds to names: they can stand beside the untuned ones in a table."""
NAME_PATTERN = rf"[A-Za-z0-9][A-Za-z0-9._+-]{{0,{MAX_NAME - 1}}}"
"""What a name looks like, as a regular expression."""


def _check_name(name: str) -> str:
    # Names become folders: no separators, no leading dot, nothing that leaves the results folder.
    if not re.fullmatch(NAME_PATTERN, name) or name.endswith("."):
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


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Name = Annotated[str, AfterValidator(_check_name)]
Seeds = Annotated[
    tuple[int, ...],
    BeforeValidator(check_seeds),
    Field(min_length=1, max_length=10_000),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 10_000},
                {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
            ]
        }
    ),
]
_STRICT = ConfigDict(
    extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
)


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


Start = Annotated[float | tuple[float, float], BeforeValidator(_as_tuple)]


class Curriculum(BaseModel):
    """How the game's reward changes while an algorithm trains; evaluations are on the target.

    The keys beside those below are parameters of the environment, and each says where the
    parameter starts, or where it starts and ends. It ends at the scenario's own value.
    """

    model_config = _STRICT | {"extra": "allow"}
    __pydantic_extra__: dict[str, Start]

    until: float = Field(0.6, gt=0, le=1)
    """Share of the budget at which the target is reached."""
    buffer: Literal["keep", "fresh"] | Annotated[int, Field(gt=0)] = "keep"
    """What is left of the replay buffer when the reward changes: all of it, nothing, or so many of
    the newest transitions. In games of one step what is left gets the rewards of the new game."""

    @property
    def starts(self) -> dict[str, float]:
        """By parameter, the value to start from."""
        extra = self.__pydantic_extra__ or {}
        return {name: v[0] if isinstance(v, tuple) else v for name, v in extra.items()}

    @property
    def ends(self) -> dict[str, float]:
        """The values that were said to end at."""
        extra = self.__pydantic_extra__ or {}
        return {name: v[1] for name, v in extra.items() if isinstance(v, tuple)}


class SearchCost(BaseModel):
    """What it took to find an algorithm's hyperparameters, for readers of its results."""

    model_config = _STRICT

    trials: int = Field(gt=0)
    """Sets of hyperparameters that were tried."""
    dimensions: int = Field(ge=0)
    """Hyperparameters that were searched."""
    hours: float = Field(ge=0)
    """Of training, all seeds together, on the machine of the search."""


class AlgorithmConfig(BaseModel):
    """An algorithm's name in the suite, its class, and its resolved hyperparameters."""

    model_config = _STRICT

    name: str
    use: str
    params: dict[str, Any]
    curriculum: Curriculum | None = None
    given: tuple[str, ...] = Field((), exclude=True)
    """The hyperparameters that the suite itself sets, which tuning leaves as they are."""
    search: SearchCost | None = Field(None, exclude=True)
    """What finding them took, where the suite says so."""
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

    def spec(self) -> Any:
        """The ``EnvSpec`` of one copy of the environment, which is built for that."""
        env_class = self.load()
        return env_class(env_class.Config.model_validate(self.params), [0], 1).spec

    def declared(self) -> dict[str, Any]:
        """What the environment says of itself that results are judged by."""
        spec = self.spec()
        return {
            "safe_return": None if spec.safe_return is None else float(spec.safe_return),
            "optimal_return": None if spec.optimal_return is None else float(spec.optimal_return),
            "basins": list(spec.basins),
        }


class SuiteFile(BaseModel):
    """A suite as written, before the classes it names are looked up."""

    model_config = _STRICT

    name: Name
    """Of the folder in the results folder that the suite's results go to."""
    seeds: Seeds
    """How many, which are 0, 1, 2 and so on, or a list of them."""
    budget: Budget
    """What training may use; a scenario can have a budget of its own."""
    evaluation: Evaluation = Evaluation(episodes=100, points=20)
    """How often, and on how many episodes, policies are evaluated."""
    algorithms: dict[Name, dict[str, Any] | None] = Field(min_length=1)
    """By a name of your own, hyperparameters, and `use`, the algorithm that they are of, unless the
    name is an algorithm's."""
    scenarios: dict[Name, dict[str, Any]] = Field(min_length=1)
    """By a name of your own, `env`, the environment, and its parameters; `budget` and `algorithms`
    (hyperparameters by name) where they are others than the suite's."""
    search: dict[Name, SearchCost] = Field(default_factory=dict)
    """By the algorithm's name, what it took to find its hyperparameters, as `rocompare tune` writes
    it; it stands beside the results."""
    reference: str | None = None
    """Published values to compare with."""
    keep_policies: bool = True
    """Whether the trained policies are kept beside the results."""


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
    keep_policies: bool = True
    """Whether trained policies are kept; no part of a cell's key."""

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
            if not parts[kind].get("curriculum", True):
                del parts[kind]["curriculum"]
            if entry.local:  # whoever edits a file beside the suite need not think of a version
                parts[kind]["sha256"] = entry.local.sha256
        for name in getattr(self.scenario.load(), "not_in_key", ()):
            del parts["scenario"]["params"][name]
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
