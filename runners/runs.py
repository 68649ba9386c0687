"""Run folders as they lie on disk: found, read and checked."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from annotated_types import Ge, Le

from qladder.envs.errors import DivergedError, UserError
from qladder.runners.likeness import settings_hash_of
from qladder.runners.run_folder import TRAINED_IN

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Finite = Annotated[float, Ge(-1e100), Le(1e100)]
"""What can be reckoned with and drawn."""

MARKS = ("summary.json", "manifest.json", "metrics.jsonl")
"""A folder that holds one of these is a run folder."""


@dataclass(frozen=True)
class ProtocolStamp:
    """Which protocol a run was made under; two are the same where their hashes are."""

    name: str
    version: int
    hash: str

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


@dataclass(frozen=True)
class FinalEvaluation:
    """The evaluation of a run's final weights; its `mean` is the run's score."""

    mean: Finite
    iqm: Finite  # of `returns`
    interval: tuple[Finite | None, Finite | None]  # of the mean over episodes; without width where that is exact
    returns: tuple[Finite, ...]
    episodes: int
    protocol: str
    checkpoint_agent_steps: int
    kind: str = "evaluation"  # or "training": the last returns of training
    exact: Finite | None = None  # the policy's expected return by dynamic programming
    human_normalized: Finite | None = None  # 0: random play, 1: human
    optimal_return_in_limit: Finite | None = None  # by dynamic programming, within the episode's step limit
    optimal_return: Finite | None = None  # without that limit


@dataclass(frozen=True)
class CurvePoint:
    """One evaluation during training, with all clocks."""

    agent_steps: int
    frames: int
    updates: int
    seconds: Finite
    episodes: int
    mean: Finite
    cpu_seconds: Finite | None = None  # but of evaluations; None where it was not measured


@dataclass(frozen=True)
class RunSummary:
    """What a run folder's `summary.json` says, and where it lies."""

    agent: str
    env: str  # the id, and the variant where there is one: another environment
    family: str
    seed: int
    protocol: ProtocolStamp
    steps: int  # planned agent steps
    agent_steps: int
    frames: int
    updates: int
    episodes: int
    seconds: Finite
    exit_reason: str
    evaluation: FinalEvaluation | None
    curve: tuple[CurvePoint, ...]
    settings_hash: str
    cpu_seconds: Finite | None = None  # of all cores, evaluations counted
    alarms: dict[str, bool] | None = None  # of measurements that could tell a trouble, whether they did
    joules: Finite | None = None  # of the machine's processors meanwhile, where they can be read
    variant: str = ""  # of the environment: what was given to its constructor, and wrappers
    folder: Path = Path()
    manifest: dict[str, Any] = field(default_factory=dict)  # `manifest.json`, empty where there is none

    @property
    def taken(self) -> bool:
        """Whether it trained nothing, but took another run's weights: its curve is its final evaluation."""
        return TRAINED_IN in self.manifest

    @property
    def optimum(self) -> float | None:
        """The best expected return there is: within the step limit where that is known, else without it."""
        if self.evaluation is None:
            return None
        within = self.evaluation.optimal_return_in_limit
        return self.evaluation.optimal_return if within is None else within


class LeftOut(NamedTuple):
    """A folder without a summary that can be read, and why: a run still under way, a killed or a damaged one."""

    folder: Path
    reason: str


class Found(NamedTuple):
    """All run folders under some paths; none is dropped."""

    runs: list[RunSummary]
    left_out: list[LeftOut]


def find_runs(paths: Iterable[Path | str]) -> Found:
    """Every run in or below `paths`, each once, in the order of paths and names.

    Raises:
        UserError: a path that is no folder, or no run in any of them.
    """
    folders: dict[Path, Path] = {}
    found = Found([], [])
    for path in map(Path, paths):
        if not path.is_dir():
            raise UserError(f"{path}: no such folder")
        below = _run_folders(path)
        if not below:
            found.left_out.append(LeftOut(path, f"no run in or below it: a run folder holds {' or '.join(MARKS)}"))
        for folder in below:
            folders.setdefault(folder.resolve(), folder)
    if not folders and found.left_out:
        raise UserError(": ".join(map(str, found.left_out[0])))
    for folder in folders.values():
        try:
            if (folder / "summary.json").is_file():
                found.runs.append(read_run(folder))
            else:
                found.left_out.append(LeftOut(folder, _how_far(folder)))
        except UserError as error:
            found.left_out.append(LeftOut(folder, f"damaged: {str(error).removeprefix(f'{folder}/')}"))
    return found


def read_run(folder: Path | str) -> RunSummary:
    """The summary and manifest of one run folder.

    Raises:
        UserError: no summary, one that is half written, or a key that is missing or of the wrong type.
    """
    folder = Path(folder)
    file = folder / "summary.json"
    if not file.is_file():
        raise UserError(f"{folder}: no summary.json, so this is not a finished run")
    from pydantic import ValidationError

    try:
        run = _summaries().validate_json(_bytes(file), strict=True)
    except ValidationError as e:
        first = e.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        where = f"'{key}': " if key else ""
        raise UserError(f"{file}: {where}{first['msg'][:1].lower()}{first['msg'][1:]}") from None
    for key in ("agent", "env", "variant"):
        if not getattr(run, key).isprintable():
            raise UserError(f"{file}: '{key}': holds characters that cannot be printed")
    with suppress(UserError):  # without them the hash of its own version has to do
        run = replace(run, settings_hash=settings_hash_of(folder))
    return replace(run, env=env_name(run.env, run.variant), folder=folder, manifest=_manifest(folder / "manifest.json"))


def diverged_in(folder: Path) -> list[Path]:
    """The run folders in `folder` whose runs ended with a loss or weights that were not finite any more."""
    found = []
    for file in sorted(folder.glob("*/manifest.json")):
        with suppress(UserError):
            reason = str(_manifest(file).get("exit_reason"))
            found += [file.parent] if reason.startswith(f"failed: {DivergedError.__name__}") else []
    return found


def env_name(id: str, variant: str) -> str:
    """What comparisons call an environment: a variant is another one."""
    return f"{id} ({variant})" if variant else id


def read_metrics(folder: Path | str) -> list[dict[str, Any]]:
    """The records of `metrics.jsonl`, oldest first; none where there is no such file.

    A last line that was cut off in writing is skipped.

    Raises:
        UserError: any other line that is not a JSON object.
    """
    file = Path(folder) / "metrics.jsonl"
    if not file.is_file():
        return []
    lines = _bytes(file).split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line) if line else None
        except (ValueError, RecursionError):
            record = line
        if isinstance(record, dict):
            records.append(record)
        elif line and number < len(lines):
            raise UserError(f"{file}: line {number} is not a JSON object")
    return records


def _run_folders(path: Path) -> list[Path]:
    found = []
    for here, below, files in os.walk(path):
        if not set(MARKS).isdisjoint(files):
            found.append(Path(here))
            below.clear()
        below.sort()
    return found


def _how_far(folder: Path) -> str:
    steps = max((r["agent_steps"] for r in read_metrics(folder) if isinstance(r.get("agent_steps"), int)), default=None)
    where = "nothing measured yet" if steps is None else f"last measured at {steps:,} agent steps"
    return f"unfinished, {where}"


def _manifest(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        manifest = json.loads(_bytes(file))
    except (ValueError, RecursionError) as e:
        raise UserError(f"{file}: not valid JSON ({e})") from None
    if not isinstance(manifest, dict):
        raise UserError(f"{file}: not a JSON object")
    return manifest


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as e:
        raise UserError(f"{file}: cannot be read ({e.strerror})") from None


@lru_cache
def _summaries() -> TypeAdapter[RunSummary]:
    from pydantic import TypeAdapter

    return TypeAdapter(RunSummary)
