"""Which runs are alike, by their settings: those of one trial, and those that are trained alike."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from qladder.envs.errors import UserError
from qladder.runners.arrays import DAMAGED
from qladder.runners.config import Config, EnvConfig, RunConfig
from qladder.runners.settings import Table, defaults, read_toml, sections
from qladder.runners.shipped import agent_entry, settings_class_of

OWN = (
    *("seed", "device", "threads", "log_every", "health_every"),
    *("checkpoint_every", "checkpoint_minutes", "checkpoint_replay", "keep_every", "hang_after"),
)
"""Fields of `run` that may differ between runs of one trial."""
EVALUATED = {
    "env": ("eval_kwargs", "eval_wrappers"),
    "agent": ("stress", "stress_size"),
    "run": ("label", "claim", "eval_every", "eval_episodes"),
    "protocol": ("evaluation",),  # but where the score is that of the training, whose weights nobody else takes
}
"""Fields of which training knows nothing: what evaluations alone have, and what a run is called."""


def settings_hash(config: Config) -> str:
    """What two runs share that differ in their seed (and machine) only."""
    return _hash(_essential(config.table(), type(config.agent)))


def settings_hash_of(path: Path) -> str:
    """That of the run in `path`, by its settings as they would be hashed today.

    Raises:
        UserError: they cannot be read, or their agent is none of the house: nothing is imported that a file names.
    """
    table = written(path)
    agent = str(table.get("agent", {}).get("name"))
    if ":" in agent:
        raise UserError(f"{path}: {agent} is none of the house's agents")
    return _hash(_essential(table, settings_class_of(agent_entry(agent))))


def has_settings(path: Path, config: Config) -> bool:
    """Whether the run in `path` shares these settings; what its version did not know counts as at its default."""
    return same_settings(written(path), config)


def finished(path: Path, config: Config) -> dict[str, Any] | None:
    """The `summary.json` of the finished run of just these settings; None where the folder holds none, or damaged."""
    try:
        summary: dict[str, Any] = json.loads((path / "summary.json").read_text(encoding="utf-8"))
        good = (
            summary["exit_reason"] == "finished"
            and summary["steps"] == config.run.steps
            and summary["protocol"]["hash"] == config.protocol.hash
            and has_settings(path, config)
        )
    except (OSError, UserError, *DAMAGED):
        return None
    return summary if good else None


def same_settings(table: Table, config: Config) -> bool:
    """Of a run's settings as they were written down."""
    agent = type(config.agent)
    return _essential(table, agent) == _essential(config.table(), agent)


def written(path: Path) -> Table:
    """The settings in a run's folder as they stand there, by section."""
    file = path / "config.toml"
    return sections(read_toml(file), str(file))


def _hash(table: Table) -> str:
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:12]


def _essential(table: Table, agent: Any) -> Table:
    """Without seed and machine, and without what is at its default: so that a new field changes no older run's.

    `agent`: the dataclass of the agent's settings.
    """
    unsaid = {"env": EnvConfig, "agent": agent, "replay": agent.replay, "run": RunConfig}
    essential: Table = {}
    for section, fields in table.items():
        usual = defaults(unsaid[section]) if unsaid.get(section) else {}
        own = OWN if section == "run" else ()
        essential[section] = {k: v for k, v in fields.items() if k not in own and (k not in usual or usual[k] != v)}
    return essential


def training_hash(config: Config) -> str:
    """What two runs share whose weights come out the same on the same machine, by the same version; seeds count."""
    return _hash(_training(config.table(), type(config.agent)))


def training_differs(one: Config, other: Config) -> list[str]:
    """The settings, as `section.field`, in which one is trained otherwise than the other."""
    a, b = (_training(config.table(), type(config.agent)) for config in (one, other))
    fields = {(section, name) for table in (a, b) for section, values in table.items() for name in values}
    return [f"{s}.{name}" for s, name in sorted(fields) if a.get(s, {}).get(name) != b.get(s, {}).get(name)]


def own_modules(table: Table, *, training: bool = False) -> set[str]:
    """Those that a run's settings name for agents, environments or wrappers, and that are none of qladder's.

    With `training` only what that runs: not wrappers of evaluations alone.
    """
    kinds = ("wrappers", "train_wrappers", *(() if training else ("eval_wrappers",)))
    wrappers = [name for kind in kinds for name in table["env"].get(kind, ())]
    named = (table["agent"]["name"], table["env"]["id"], *wrappers)
    return {name.partition(":")[0] for name in named if ":" in name and not name.startswith("qladder.")}


def _training(table: Table, agent: Any) -> Table:
    essential = _essential(table, agent)
    learnt = {s: {k: v for k, v in fields.items() if k not in EVALUATED.get(s, ())} for s, fields in essential.items()}
    if not learnt.get("protocol"):
        learnt.pop("protocol", None)
    return {**learnt, "run": {**learnt["run"], "seed": table["run"]["seed"]}}
