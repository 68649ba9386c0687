"""What a suite's TOML file says: agents on environments, how many seeds, and variants of their settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, MinLen

from qladder.envs.errors import UserError, nearest
from qladder.runners.scales import Scale, own_scales
from qladder.runners.settings import Table, build, merge, read_toml
from qladder.runners.shipped import CONFIGS


@dataclass(frozen=True)
class Task:
    """One agent on one environment; `settings` lie over the shipped ones."""

    agent: str
    env: str
    label: str = ""
    """What comparisons call it; by default the agent's name."""
    steps: Annotated[int, Gt(0)] | None = None
    """Agent steps, however many episodes they make."""
    episodes: Annotated[int, Gt(0)] | None = None
    """Stop after this many episodes, if not after `steps`."""
    at_least: float | None = None
    """A seed passes with this score."""
    protocol: str | None = None
    """By default that of the environment's family."""
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)

    def table(self, seed: int) -> Table:
        """The settings of one seed, as `train` takes them."""
        run: Table = {**self.settings.get("run", {}), "seed": seed, "threads": 1}
        if self.label:
            run["label"] = self.label
        if self.steps is not None:
            run["steps"] = self.steps
            run.setdefault("episodes", "none")
        if self.episodes is not None:
            run["episodes"] = self.episodes
            run.setdefault("steps", 1_000_000_000)
        protocol = {} if self.protocol is None else {"protocol": self.protocol}
        return {**self.settings, "run": run, "env": {**self.settings.get("env", {}), **protocol}}


@dataclass(frozen=True)
class Trial:
    """Settings that every task of a suite is tried with, but for what a task says itself."""

    label: Annotated[str, MinLen(1)]
    settings: dict[str, dict[str, Any]]
    steps: Annotated[int, Gt(0)] | None = None
    """Agent steps, in place of the tasks'."""


@dataclass(frozen=True)
class Suite:
    """Tasks, each run with so many seeds from the first."""

    summary: str
    seeds: Annotated[int, Gt(0)]
    tasks: Annotated[tuple[Task, ...], MinLen(1)]
    first_seed: Annotated[int, Ge(0)] = 0
    delta: Annotated[float, Ge(0)] = 0.0
    """The smallest difference of returns that matters."""
    scales: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By environment the returns of random play and of a solved task, where qladder does not know them."""
    mix_protocols: bool = False
    """Whether tasks on one environment may follow different protocols; the report then tells each agent's."""

    @property
    def own_scales(self) -> dict[str, Scale]:
        return own_scales(self.scales, "scales")


def load_suite(name: str) -> Suite:
    """A suite by name, or from a TOML file; UserError with the nearest name where there is none.

    A task's `agent` and `env` may be lists: each agent on each environment, with what else the task says. Where the
    file has `[[trial]]` tables, each with a `label` and `settings`, each task is run with the settings of
    every one of them, its own laid over them: the same trials for all.
    """
    path = Path(name) if name.endswith(".toml") else CONFIGS / "suites" / f"{name}.toml"
    names = sorted(p.stem for p in (CONFIGS / "suites").glob("*.toml"))
    if not path.is_file():
        if (CONFIGS / "claims" / f"{name}.toml").is_file():
            raise UserError(f"'{name}' is a claim, not a suite: qladder claims run {name} begins with what it takes")
        raise UserError(f"suite '{name}': there is no such suite{nearest(name, names)} (qladder list suites)")
    table = read_toml(path)
    if "claim" in table:
        raise UserError(f"{path.name} is a claim, not a suite: qladder claims run {name}")
    tasks = [one for i, t in enumerate(_tables(table, "task", path)) for one in _tasks(t, f"{path.name} task {i + 1}")]
    trials = [build(Trial, t, f"{path.name} trial {i + 1}") for i, t in enumerate(_tables(table, "trial", path))]
    if not tasks:
        raise UserError(f"{path.name}: there is no task in it, each under [[task]]")
    for trial in trials:
        if set_elsewhere := {"seed", "label", "steps", "episodes"} & trial.settings.get("run", {}).keys():
            raise UserError(f"{path.name} trial '{trial.label}': run.{min(set_elsewhere)} is the suite's own")
    tasks = [_tried(task, trial) for task in tasks for trial in trials] if trials else tasks
    suite: Suite = build(Suite, {**table, "tasks": tasks}, path.name)
    own_scales(suite.scales, f"{path.name} scales")
    return suite


def _tables(table: Table, name: str, path: Path) -> list[Table]:
    found = table.pop(name, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UserError(f"{path.name} '{name}': must be tables, each under [[{name}]]")
    return found


def _tried(task: Table, trial: Trial) -> Table:
    label = f"{task.get('label') or task['agent']} {trial.label}"
    steps = {} if trial.steps is None else {"steps": trial.steps}
    return {**task, **steps, "label": label, "settings": merge(trial.settings, task.get("settings", {}))}


def _tasks(table: Table, where: str) -> list[Table]:
    """One for each agent on each environment, checked."""
    lists = {key: table[key] for key in ("agent", "env") if isinstance(table.get(key), list)}
    if empty := [key for key, some in lists.items() if not some]:
        raise UserError(f"{where}.{empty[0]} = []: must name one at least")
    if len(lists.get("agent", ())) > 1 and "label" in table:
        raise UserError(f"{where}.label = '{table['label']}': {len(lists['agent'])} agents cannot share a name")
    found = [{**table, **dict(zip(lists, some, strict=True))} for some in product(*lists.values())]
    for one in found:
        build(Task, one, where)
    return found
