"""Small run folders for tests, written as a run leaves them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qladder.runners.config import resolve
from qladder.runners.run_folder import write_config
from qladder.runners.suite_file import Task

MANIFEST = {
    "versions": {"qladder": "0.1.0", "torch": "2.13.0"},
    "git": {"commit": "0123abc", "dirty": False},
    "device": "cpu",
    "threads": 1,
}


def summary(agent: str, env: str, seed: int, score: float, **changes: Any) -> dict[str, Any]:
    """A finished run of 1000 agent steps, 4 frames and 0.25 updates each, evaluated at 0, 500 and 1000."""
    curve = [
        {"agent_steps": k, "frames": 4 * k, "updates": k // 4, "seconds": k / 100, "episodes": k // 10, "mean": mean}
        for k, mean in ((0, 0.0), (500, score / 2), (1000, score))
    ]
    evaluation = {
        "mean": score,
        "iqm": score,
        "interval": [score - 1, score + 1],
        "returns": [score - 1, score + 1],
        "episodes": 2,
        "exact": None,
        "human_normalized": None,
        "protocol": "toy-text",
        "checkpoint_agent_steps": 1000,
        "optimal_return_in_limit": None,
        "optimal_return": None,
    }
    evaluation |= changes.pop("evaluation", {})
    return {
        "agent": agent,
        "env": env,
        "family": "toy-text",
        "seed": seed,
        "protocol": {"name": "toy-text", "version": 1, "hash": "aaaaaaaaaaaa"},
        "steps": 1000,
        "agent_steps": 1000,
        "frames": 4000,
        "updates": 250,
        "episodes": 100,
        "seconds": 10.0,
        "exit_reason": "finished",
        "evaluation": evaluation,
        "curve": curve,
        "settings_hash": f"settings-of-{agent}",
    } | changes


def write_run(parent: Path, agent: str, env: str, seed: int, score: float, **changes: Any) -> Path:
    """Writes `summary.json` (with `changes`) and `manifest.json` to a folder of their own below `parent`."""
    folder = parent / f"run-{sum(1 for _ in parent.iterdir()) if parent.exists() else 0}"
    folder.mkdir(parents=True)
    manifest = changes.pop("manifest", MANIFEST | {"command_line": f"qladder train {agent} {env} --seed {seed}"})
    (folder / "summary.json").write_text(json.dumps(summary(agent, env, seed, score, **changes)))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def write_seeds(parent: Path, agent: str, env: str, scores: Sequence[float], **changes: Any) -> list[Path]:
    """One run for each score, with seeds 0, 1, …"""
    return [write_run(parent, agent, env, seed, score, **changes) for seed, score in enumerate(scores)]


def leave(folder: Path, task: Task, seed: int, score: float, **changes: Any) -> Path:
    """A finished run of a suite's task, with its settings."""
    config = resolve(task.agent, task.env, task.table(seed))
    protocol = {"name": config.protocol.name, "version": config.protocol.version, "hash": config.protocol.hash}
    run = write_run(folder, task.label, task.env, seed, score, protocol=protocol, steps=config.run.steps, **changes)
    write_config(run, config)
    return run
