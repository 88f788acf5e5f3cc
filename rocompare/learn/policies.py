"""Trained policies: packed into safetensors files, found again beside their results, and played.

A file ``policy_<n>.safetensors`` holds the networks that executing the policy of seed n needs, and
nothing that runs code: for the network ``actor`` of N agents ``actor.0.weight [N, in, out]`` and
``actor.0.bias [N, out]``, and so on for each layer. What they belong to stands in the cell's
``config.yaml`` beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.torch
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from rocompare.api import Algorithm, Env, EnvSpec, Mode
from rocompare.errors import ResultsError, printable
from rocompare.learn import evaluate
from rocompare.learn.nn import MLP
from rocompare.results import files
from rocompare.results.records import Execution
from rocompare.results.store import policy_file
from rocompare.results.summary import read_config
from rocompare.suite.load import parse_suite
from rocompare.suite.models import Cell

if TYPE_CHECKING:
    from rocompare.results.reader import StoredCell

FORMAT = "rocompare policy 1"
MAX_BYTES = 256 << 20
_FILE = re.compile(r"policy_(\d{1,18})\.safetensors")


def pack(algorithm: Algorithm, progress: float) -> list[bytes]:
    """The content of each seed's policy file; nothing where there are no networks to keep.

    Args:
        progress: share of the budget at the newest update, which ``act`` is given.
    """
    layers = dict(_layers(algorithm))
    if not layers:
        return [b"" for _ in algorithm.seeds]
    packed = []
    for i, seed in enumerate(algorithm.seeds):
        tensors = {name: layer[i].clone().cpu() for name, layer in layers.items()}
        about = json.dumps({"seed": seed, "progress": progress})
        # One entry: safetensors writes several in any order, and a seed is the same file each time.
        packed.append(safetensors.torch.save(tensors, {FORMAT: about}))
    return packed


def unpack(data: bytes, algorithm: Algorithm) -> float:
    """Put a policy file's content into ``algorithm``, which has the one seed that it is of.

    Returns:
        The progress that it was packed with.

    Raises:
        ValueError: it is no policy, or none of this seed or of these networks.
    """
    try:
        tensors, about = safetensors.torch.load(data), _about(data)
        found, progress = int(about["seed"]), float(about["progress"])
    except Exception as error:  # safetensors has an exception of its own for each kind of damage
        raise ValueError(f"damaged ({error!s:.100}); delete it") from None
    seed = algorithm.seeds[0]
    if found != seed:
        raise ValueError(f"not the policy of seed {seed}; was it renamed?")
    places = dict(_layers(algorithm))
    shapes = {name: tuple(place.shape[1:]) for name, place in places.items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in tensors.items()}:
        raise ValueError("its networks are not those of its configuration")
    for name, place in places.items():
        place[0].copy_(tensors[name])
    return progress


def _about(data: bytes) -> dict[str, Any]:
    """What :func:`pack` says in a file's head beside the tensors."""
    size = int.from_bytes(data[:8], "little")
    about: dict[str, Any] = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][FORMAT])
    return about


def _layers(algorithm: Algorithm) -> Iterator[tuple[str, Tensor]]:
    """Names and views ``[S, ...]`` of everything that :func:`pack` keeps."""
    found = {name: part for name, part in vars(algorithm).items() if isinstance(part, MLP)}
    trained = [name for name, net in found.items() if net.flat.requires_grad]
    for attribute in algorithm.executes_with or trained:
        part = getattr(algorithm, attribute)
        if isinstance(part, MLP):
            for number, (weight, bias) in enumerate(part.layers(part.flat.detach())):
                yield f"{attribute}.{number}.weight", weight.view(*part.groups, *weight.shape[1:])
                yield f"{attribute}.{number}.bias", bias.view(*part.groups, bias.shape[2])
        elif isinstance(part, Tensor):
            yield attribute, part
        else:
            raise TypeError(f"executes_with: '{attribute}' is no MLP and no tensor [S, ...]")


class Policy:
    """The trained policy of one seed.

    Attributes:
        spec: what it acts in; see :class:`rocompare.api.EnvSpec`.
        seed: the one it was trained with.
        modes: the ways in which it can execute, the headline's first.
    """

    def __init__(self, cell: Cell, path: Path, device: str = "cpu") -> None:
        self.cell, self.path, self.device = cell, path, torch.device(device)
        self.seed = cell.seeds[0]
        env_class, algorithm_class = cell.scenario.load(), cell.algorithm.load()
        self._env_class = env_class
        self._env_config = env_class.Config.model_validate(cell.scenario.params)
        self.spec: EnvSpec = cell.scenario.spec()
        config = algorithm_class.Config.model_validate(cell.algorithm.params)
        self._algorithm: Algorithm = algorithm_class(self.spec, config, cell.seeds, self.device)
        self.modes: tuple[Execution, ...] = evaluate.executions(self._algorithm)
        try:
            self._progress = unpack(files.read(path, MAX_BYTES), self._algorithm)
        except ResultsError:
            raise
        except ValueError as error:
            raise ResultsError(f"{path}: {error}") from None

    @torch.no_grad()
    def act(self, obs: Tensor | NDArray[Any], mode: Mode = "decentralised") -> Tensor:
        """Choose actions.

        Args:
            obs: ``[E, N, O]`` observations of E environments, or ``[N, O]`` of one.
            mode: one of ``modes``.

        Returns:
            ``[E, N, A]``, or ``[N, A]``: in ``[-1, 1]``, or one-hot if ``spec.discrete``.
        """
        if mode not in self.modes:
            raise ValueError(f"mode '{mode}': this policy executes {', '.join(self.modes)}")
        x = torch.as_tensor(np.asarray(obs) if not isinstance(obs, Tensor) else obs)
        x = x.to(self.device, torch.float32)
        wanted = self.spec.n_agents, self.spec.obs_dim
        if x.shape[-2:] != wanted or x.dim() not in (2, 3):
            raise ValueError(f"obs has shape {list(x.shape)}, expected [E, *{list(wanted)}]")
        batch = x.reshape(1, -1, *wanted)
        return self._algorithm.act(batch, mode, self._progress)[0].view(*x.shape[:-1], -1)

    def make_env(self, copies: int, stream: str, **changes: Any) -> Env:
        """The environment that it was trained in, ``copies`` of it.

        Args:
            stream: names the random numbers of the episodes; training's is ``env``.
            changes: other values of the environment's parameters.
        """
        config = self._env_config.model_copy(update=changes)
        env: Env = self._env_class(config, self.cell.seeds, copies, stream, self.device)
        return env

    def play(
        self,
        env: Env,
        mode: Mode,
        episodes: int,
        look: Callable[[Env], None] = lambda env: None,
    ) -> evaluate.Evaluation:
        """An episode in each of the ``episodes`` copies of ``env``; ``look`` is called before each
        step."""
        return evaluate.play(env, self._algorithm, mode, self._progress, episodes, look)


def load_policy(
    path: str | Path,
    algorithm: str | None = None,
    scenario: str | None = None,
    seed: int | None = None,
    *,
    device: str = "cpu",
    allow_local_code: bool = False,
) -> Policy:
    """Load a trained policy.

    Args:
        path: a policy file, or a results folder (or part of one) in which to look for it.
        algorithm, scenario, seed: in a folder, which; may be left out where there is only one, and
            the seed is then the lowest.
        allow_local_code: run the algorithm's and the environment's code from files of the user's.

    Raises:
        ResultsError: no such policy, several, or a file that is none.
        SuiteError: its algorithm or environment cannot be had.
    """
    place = Path(path)
    if place.is_dir():
        place = _find(place, algorithm, scenario, seed)
    match = _FILE.fullmatch(place.name)
    if match is None:
        raise ResultsError(
            f"{place}: neither a results folder nor a policy (policy_<seed>.safetensors)"
        )
    if not place.exists():
        raise ResultsError(f"{place}: no such file")
    return Policy(_cell(place, int(match[1]), allow_local_code), place, device)


def _find(path: Path, algorithm: str | None, scenario: str | None, seed: int | None) -> Path:
    from rocompare.results.reader import Results  # training packs policies and never needs pandas

    def named(cell: StoredCell) -> bool:
        return algorithm in (None, cell.algorithm) and scenario in (
            None, cell.scenario, cell.label,
        )  # fmt: skip

    cells = Results(path).cells
    kept = {cell.place: _seeds_of(cell.folder) for cell in cells if named(cell)}
    chosen = [cell for cell in cells if kept.get(cell.place)]
    if not chosen:
        raise ResultsError(f"{path}: {_why_none(cells, kept, algorithm, scenario)}")
    if len(chosen) > 1:
        names = ", ".join(f"{cell.algorithm} on {cell.label}" for cell in chosen[:8])
        more = f" and {len(chosen) - 8} more" if len(chosen) > 8 else ""
        raise ResultsError(
            f"{path}: holds policies of {printable(names)}{more}; say which with --algorithm and "
            "--scenario"
        )
    seeds = kept[chosen[0].place]
    wanted = seeds[0] if seed is None else seed
    if wanted not in seeds:
        known = ", ".join(map(str, seeds[:20]))
        raise ResultsError(f"{chosen[0].folder}: no policy of seed {wanted}; there are {known}")
    return chosen[0].folder / policy_file(wanted)


def _why_none(
    cells: list[StoredCell],
    kept: dict[str, list[int]],
    algorithm: str | None,
    scenario: str | None,
) -> str:
    if kept:
        return (
            "no policies were kept here (keep_policies: false, --no-policies, or a version before "
            "0.2); run the suite into another folder to have them"
        )
    names = sorted({f"{cell.algorithm} on {cell.label}" for cell in cells})
    wanted = " on ".join(filter(None, [algorithm, scenario]))
    return f"no results of '{printable(wanted)}'; there are {printable(', '.join(names[:8]))}"


def _seeds_of(folder: Path) -> list[int]:
    found = (_FILE.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in found if match)


def _cell(path: Path, seed: int, allow_local_code: bool) -> Cell:
    """What the policy at ``path`` was trained as, from the configuration beside it."""
    config = read_config(path.parent)
    entries: dict[str, Any] = {}
    for kind, place in (("algorithm", "use"), ("scenario", "env")):
        part = config[kind]
        values = {place: part.get(place), **dict(part.get("params") or {})}
        if "curriculum" in part:
            values["curriculum"] = part["curriculum"]
        entries[f"{kind}s"] = {part.get("name"): values}
    suite = {"name": "play", "seeds": [seed], **entries}
    suite |= {name: config.get(name) for name in ("budget", "evaluation")}
    text = yaml.safe_dump(suite, sort_keys=False)
    source = str(path.parent / "config.yaml")
    cell = parse_suite(text, source, folder=Path.cwd(), allow_local_code=allow_local_code).cells()[
        0
    ]
    for kind, now in cell.resolved().items():
        recorded = config.get(kind)
        if isinstance(recorded, dict) and {**recorded, "declared": 0} != {**now, "declared": 0}:
            raise ResultsError(
                f"{path}: the {kind} that it was trained with is of another version, or its code "
                "or parameters have changed since; train it again, or play it with that version"
            )
    return cell
