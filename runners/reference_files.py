"""Whole published curves, read from files that a user has fetched."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qladder.runners.stats import Floats

RETURNS = ("eval/return", "eval/mean_reward", "rollout/ep_rew_mean", "charts/episodic_return", "train/episode_return")
"""Tags of qladder, Stable-Baselines3 and CleanRL, first what is preferred."""

FRAMES_COUNTED = "NoFrameskip-v4"
FRAMES = 1e6
"""Of one iteration of Dopamine's: 250,000 agent steps."""


@dataclass(frozen=True)
class Published:
    """A curve of one agent in a file, averaged over what was measured at one time."""

    agent: str  # empty where the file does not tell, as is `game`
    game: str  # a name, or an environment's id
    at: Floats  # [K] frames or, where `in_steps`, agent steps
    in_steps: bool
    mean: Floats  # [K]
    spread: float | None  # standard deviation of the last values
    runs: int
    protocol: str
    kind: str
    which: str


def read_curves(path: Path) -> list[Published]:
    """Of Dopamine's JSON, DQN Zoo's CSV, Stable-Baselines3's monitor.csv or TensorBoard's event file.

    Raises:
        OSError, ValueError, LookupError, TypeError, AttributeError: it is damaged, or of another kind.
    """
    read: Callable[[Path], list[Published]] = _csv
    if "tfevents" in path.name:
        read = _events
    elif path.suffix == ".json":
        read = _dopamine
    found = read(path)
    if not found or any(len(curve.mean) == 0 for curve in found):
        raise ValueError("it holds no curve")
    return found


def _curve(points: Iterable[tuple[float, float]], *, agent: str = "", game: str = "", **facts: Any) -> Published:
    by_time: dict[float, list[float]] = {}
    for at, value in points:
        if np.isfinite(value):
            by_time.setdefault(float(at), []).append(float(value))
    times = sorted(by_time)
    last = by_time[times[-1]] if times else []
    return Published(
        agent=agent,
        game=game,
        at=np.array(times, dtype=np.float64),
        mean=np.array([np.mean(by_time[at]) for at in times], dtype=np.float64),
        spread=float(np.std(last, ddof=1)) if len(last) > 1 else None,
        runs=len(last),
        **facts,
    )


def _dopamine(path: Path) -> list[Published]:
    """Rows of `Agent`, `Game`, `Iteration` and `Value`, training returns of an iteration, for each run one."""
    by_agent: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in json.loads(path.read_text(encoding="utf-8")):
        frame = (int(row["Iteration"]) + 1) * FRAMES
        by_agent.setdefault((str(row["Agent"]), str(row["Game"])), []).append((frame, float(row["Value"])))
    facts: dict[str, Any] = {
        "in_steps": False,
        "protocol": "dopamine",
        "kind": "training",
        "which": "each million frames",
    }
    return [_curve(points, agent=agent, game=game, **facts) for (agent, game), points in by_agent.items()]


def _csv(path: Path) -> list[Published]:
    lines = path.read_text(encoding="utf-8").splitlines()
    if lines and lines[0].startswith("#"):
        return [_monitor(str(json.loads(lines[0][1:]).get("env_id") or ""), list(csv.DictReader(lines[1:])))]
    by_game: dict[str, list[tuple[float, float]]] = {}
    for row in csv.DictReader(lines):
        point = float(row["frame"]), float(row["eval_episode_return"])
        by_game.setdefault(_game(row), []).append(point)
    facts: dict[str, Any] = {"in_steps": False, "protocol": "dqn-zoo", "kind": "evaluation", "which": "an iteration"}
    return [_curve(points, game=game, **facts) for game, points in by_game.items()]


def _game(row: Mapping[str, str]) -> str:
    """DQN Zoo's names are in snake case."""
    return "".join(word[:1].upper() + word[1:] for word in (row.get("environment_name") or "").split("_"))


def _monitor(env: str, rows: Sequence[Mapping[str, str]]) -> Published:
    """Episodes `r` of length `l`, in means of a hundred, as Stable-Baselines3's own plots have them."""
    steps = np.cumsum([int(row["l"]) for row in rows])
    returns = [float(row["r"]) for row in rows]
    window = min(100, len(returns))
    smooth: Any = np.convolve(returns, np.ones(window) / window, "valid") if returns else []
    points = zip(steps[window - 1 :] if window else [], smooth, strict=True)
    game, which = env.removesuffix(FRAMES_COUNTED), f"mean of {window} episodes"
    in_steps = game == env  # else Monitor, below the wrapper that repeats actions, counts frames
    return _curve(points, game=game, in_steps=in_steps, protocol="", kind="training", which=which)


def _events(path: Path) -> list[Published]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path), size_guidance={"scalars": 0})
    events.Reload()
    tag = next((tag for tag in RETURNS if tag in events.Tags()["scalars"]), None)
    if tag is None:
        raise ValueError(f"it has no scalar among {', '.join(RETURNS)}")
    kind = "evaluation" if tag.startswith("eval") else "training"
    points = [(event.step, event.value) for event in events.Scalars(tag)]
    return [_curve(points, in_steps=True, protocol="", kind=kind, which=tag)]
