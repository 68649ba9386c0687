"""What a suite's TOML file says: agents on environments, how many seeds, and variants of their settings."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, MinLen

from qladder.envs.errors import UserError, nearest
from qladder.runners.config import CONFIGS
from qladder.runners.settings import Table, build, merge, read_toml


@dataclass(frozen=True)
class Task:
    """One agent on one environment; `settings` lie over the shipped ones."""

    agent: str
    env: str
    label: str = ""
    """What comparisons call it; by default the agent's name."""
    steps: Annotated[int, Gt(0)] | None = None
    """Agent steps."""
    episodes: Annotated[int, Gt(0)] | None = None
    """Stop after this many episodes."""
    at_least: float | None = None
    """A seed passes with this score."""
    settings: dict[str, Any] = field(default_factory=dict)

    def table(self, seed: int) -> Table:
        """The settings of one seed, as `train` takes them."""
        run: Table = {**self.settings.get("run", {}), "seed": seed, "threads": 1}
        if self.label:
            run["label"] = self.label
        if self.steps is not None:
            run["steps"] = self.steps
        if self.episodes is not None:
            run["episodes"] = self.episodes
            run.setdefault("steps", 1_000_000_000)
        return {**self.settings, "run": run}


@dataclass(frozen=True)
class Suite:
    """Tasks, each run with so many seeds from the first."""

    summary: str
    seeds: Annotated[int, Gt(0)]
    tasks: Annotated[tuple[Task, ...], MinLen(1)]
    first_seed: Annotated[int, Ge(0)] = 0


def load_suite(name: str) -> Suite:
    """A suite by name, or from a TOML file; UserError with the nearest name where there is none.

    Where the file has a table `grid` of settings ('SECTION.FIELD' = [VALUE, ...]), each task is run with every
    combination of their values: the same number of trials for all.
    """
    path = Path(name) if name.endswith(".toml") else CONFIGS / "suites" / f"{name}.toml"
    names = sorted(p.stem for p in (CONFIGS / "suites").glob("*.toml"))
    if not path.is_file():
        raise UserError(f"suite '{name}': there is no such suite{nearest(name, names)} (qladder list suites)")
    table = read_toml(path)
    tasks = [_task(t, f"{path.name} task {i + 1}") for i, t in enumerate(table.pop("task", []))]
    grid = table.pop("grid", {})
    for name, values in grid.items():
        if name.count(".") == 0 or not isinstance(values, list) or not values:
            raise UserError(f"{path.name} grid '{name}': must be 'SECTION.FIELD' = [VALUE, ...]")
    tasks = [variant for task in tasks for variant in _variants(task, grid)]
    return build(Suite, {**table, "tasks": tasks}, path.name)


def _variants(task: Table, grid: dict[str, list[Any]]) -> Iterator[Table]:
    """A task with every combination of the grid's values, labelled with them."""
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        words = [f"{name.partition('.')[2]}={value}" for name, value in chosen.items()]
        settings = functools.reduce(merge, (_nested(*item) for item in chosen.items()), task.get("settings", {}))
        label = " ".join([task.get("label") or task["agent"], *words])
        yield {**task, "label": label, "settings": settings} if grid else task


def _nested(name: str, value: Any) -> Table:
    return functools.reduce(lambda inner, key: {key: inner}, reversed(name.split(".")), value)


def _task(table: Table, where: str) -> Table:
    build(Task, table, where)
    return table
