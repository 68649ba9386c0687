"""What others have published: small tables of ours, and whole curves from files that a user has fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qladder.envs.errors import UserError, nearest
from qladder.envs.reading import told
from qladder.runners.arrays import DAMAGED
from qladder.runners.reference_files import Published, read_curves
from qladder.runners.settings import read_toml
from qladder.runners.shipped import CONFIGS
from qladder.runners.stats import Floats

SUFFIXES = (".json", ".csv")
FRAME_SKIP = 4
"""Frames of an agent step, in all that is published on Atari."""


@dataclass(frozen=True)
class Reference:
    """One published agent on one environment."""

    name: str  # `source:agent`
    env: str
    mean: Floats  # [K] returns; the last one is the score
    frames: Floats  # [K] of the emulator (elsewhere than on Atari: agent steps); nan where they are not told
    spread: float | None = None  # standard deviation of the score
    spread_over: str = ""  # seeds or episodes
    protocol: str = ""  # the name of one of ours, or in words
    kind: str = ""  # training or evaluation
    which: str = ""  # of a run's networks or episodes
    seeds: int | str | None = None  # in words where a source says two things
    source: str = ""

    @property
    def frames_per_step(self) -> int:
        return FRAME_SKIP if self.env.startswith("ALE/") else 1


def reference_names() -> list[str]:
    """All tables that there are."""
    return sorted(p.stem for p in (CONFIGS / "references").glob("*.toml"))


def find_references(asked: Sequence[str], envs: Sequence[str]) -> list[Reference]:
    """Of what was asked for, all that is of these environments.

    Each is `TABLE`, `TABLE:AGENT` or a file: Dopamine's JSON, DQN Zoo's CSV, Stable-Baselines3's monitor.csv, or
    TensorBoard's event file. A file that does not tell its environment is `ENV=FILE`, unless there is but one.

    Raises:
        UserError: there is no such table, agent or file, it is damaged, or says nothing of these environments.
    """
    found: list[Reference] = []
    for one in asked if envs else ():
        some = _from_file(one, envs) if _is_file(one) else _from_table(one)
        ours = [reference for reference in some if reference.env in envs]
        if not ours:
            theirs = ", ".join(sorted({reference.env for reference in some})[:5])
            raise UserError(f"--reference {one}: nothing of {', '.join(envs)}; it is of {theirs} ...")
        found += ours
    return found


def _is_file(one: str) -> bool:
    path = one.rpartition("=")[2]
    return path.endswith(SUFFIXES) or "tfevents" in Path(path).name


def _from_table(one: str) -> list[Reference]:
    name, _, agent = one.partition(":")
    if name not in reference_names():
        raise UserError(
            f"--reference {one}: there is no such table{nearest(name, reference_names())} (qladder list references)"
        )
    table = read_toml(CONFIGS / "references" / f"{name}.toml")
    agents = table["scores"] if "kind" in table else _scale(table)
    if agent and agent not in agents:
        raise UserError(f"--reference {one}: {name} has no '{agent}'{nearest(agent, agents)}")
    return [
        _of_table(name, which, key, value, table)
        for which, rows in agents.items()
        if not agent or which == agent
        for key, value in rows.items()
    ]


def _scale(table: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Of a table of scales the two ends as two agents."""
    ends = ("random", table["mark"])
    return {end: {env: pair[i] for env, pair in table["scores"].items()} for i, end in enumerate(ends)}


def _of_table(name: str, agent: str, key: str, value: Any, table: Mapping[str, Any]) -> Reference:
    frames = table.get("frames", [float("nan")])
    if isinstance(value, dict):
        frames, value = value["frames"], value["mean"]
    mean = value if isinstance(value, list) else [value]
    return Reference(
        name=f"{name}:{agent}",
        env=_env(key),
        mean=np.array(mean, dtype=np.float64),
        frames=np.array(frames, dtype=np.float64),
        spread=table.get("spread", {}).get(agent, {}).get(key),
        spread_over=table.get("spread_over", ""),
        protocol=table.get("protocol", ""),
        kind=table.get("kind", "evaluation"),
        which=_of(agent, table.get("which", "")),
        seeds=_of(agent, table.get("seeds")),
        source=table["source"],
    )


def _of(agent: str, fact: Any) -> Any:
    """Where a fact is another for each agent, this one's."""
    return fact[agent] if isinstance(fact, dict) else fact


def _env(key: str) -> str:
    """A game by its name, or an id as it is."""
    return key if "-v" in key else f"ALE/{key}-v5"


def _from_file(one: str, envs: Sequence[str]) -> list[Reference]:
    env, equals, place = ("", "", one) if Path(one).is_file() else one.rpartition("=")
    path = Path(place)
    if not path.is_file():
        raise UserError(f"--reference {one}: there is no such file")
    try:
        curves = read_curves(path)
    except (OSError, *DAMAGED) as error:
        raise UserError(f"--reference {one}: cannot be read as published curves: {told(error)}") from error
    if equals and len({curve.game for curve in curves}) > 1:
        raise UserError(f"--reference {one}: it tells of several environments; --reference {path} takes those that fit")
    if not equals and len(envs) > 1 and not all(curve.game for curve in curves):
        raise UserError(f"--reference {one}: it does not tell its environment; --reference ENV={path} does")
    return [_of_file(path, curve, env or (_env(curve.game) if curve.game else envs[0])) for curve in curves]


def _of_file(path: Path, curve: Published, env: str) -> Reference:
    in_steps = curve.in_steps and env.startswith("ALE/")
    return Reference(
        name=f"{path.name}:{curve.agent}" if curve.agent else path.name,
        env=env,
        mean=curve.mean,
        frames=curve.at * (FRAME_SKIP if in_steps else 1),
        spread=curve.spread,
        spread_over="seeds",
        protocol=curve.protocol,
        kind=curve.kind,
        which=curve.which,
        seeds=curve.runs,
        source=path.name,
    )
