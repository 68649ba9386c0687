"""What of a run's settings its steps are too few for; told before it starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from qladder.agents.schedules import Clocks, Schedule
from qladder.runners.config import Config


def cautions(config: Config, frames_per_step: int) -> Iterator[str]:
    """A line for each; none where a number of episodes may end the run at any time."""
    run = config.run
    if run.episodes is not None:
        return
    updates = max(0, run.steps - run.learning_starts) // run.update_every * run.updates
    if not updates:
        yield (
            f"no update will be made: run.learning_starts = {run.learning_starts:,}, "
            f"run.update_every = {run.update_every:,}, run.steps = {run.steps:,}"
        )
        return
    end = Clocks(run.steps * frames_per_step, run.steps, updates)
    idle = set() if config.replay is None or config.replay.prioritized else {"importance"}
    for field in fields(config.agent):
        if field.name in idle:
            continue
        schedule = getattr(config.agent, field.name)
        if isinstance(schedule, Schedule) and (left := schedule(end)) != schedule.end:
            clock = schedule.clock.replace("_", " ")
            yield (
                f"agent.{field.name} gets no further than {left:.3g}: it goes to {schedule.end:g} over "
                f"{schedule.over:,} {clock}, and the run has {getattr(end, schedule.clock):,}"
            )
