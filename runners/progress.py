"""What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere, always on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from qladder.runners.cautions import cautions
from qladder.runners.config import Config

SECONDS_BETWEEN_LINES = 10


def say(text: str) -> None:
    """One line on standard error; where nobody reads it any more (a pipe or a terminal that is gone) nothing."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds for people: `41 s`, `12 min`, `3.5 h`, `2.1 days`."""
    for unit, name in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= unit * 2:
            return f"{seconds / unit:.{0 if seconds >= 10 * unit else 1}f} {name}"
    return f"{seconds:.{0 if seconds >= 10 else 1}f} s"


class Progress:
    """Agent steps done, rate, time left, latest returns."""

    def __init__(self, config: Config, *, enabled: bool) -> None:
        self._config, self._enabled = config, enabled
        self._bar: Any = None
        self._task: Any = None
        self._said = time.monotonic()
        self._eval = ""

    def start(self, agent_steps: int, folder: Path, frames_per_step: int) -> None:
        """Says what starts, where its settings came from, and what of them its steps are too few for."""
        if not self._enabled:
            return
        config = self._config
        who = f"{config.agent_name} on {config.env.id}, seed {config.run.seed}"
        say(f"{who}, protocol {config.protocol.name} -> {folder}")
        say("settings: " + " < ".join(("class defaults", *config.sources)))
        for line in cautions(config, frames_per_step):
            say(f"caution: {line}")
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn(),
                console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task("", total=config.run.steps, completed=agent_steps)
            with suppress(OSError):
                self._bar.start()

    def update(self, agent_steps: int, values: Mapping[str, Any]) -> None:
        """After each logged measurement."""
        if not self._enabled:
            return
        rate = values["time/steps_per_second"]
        train = f", return {values['train/episode_return']:.4g}" if "train/episode_return" in values else ""
        text = f"{rate:,.0f} steps/s{train}{self._eval}"
        if self._bar is not None:
            with suppress(OSError):
                self._bar.update(self._task, completed=agent_steps, description=text)
        elif time.monotonic() - self._said > SECONDS_BETWEEN_LINES:
            run = self._config.run
            left = f"about {duration((run.steps - agent_steps) / max(rate, 1e-9))} left"
            ahead = "learning has not begun" if agent_steps <= run.learning_starts else left
            say(f"{agent_steps:,} of {run.steps:,} agent steps, {text}, {ahead}")
            self._said = time.monotonic()

    def evaluated(self, mean: float) -> None:
        """After each evaluation."""
        self._eval = f", evaluation {mean:.4g}"

    def note(self, text: str) -> None:
        """What goes on beside training."""
        if self._bar is not None:
            with suppress(OSError):
                self._bar.update(self._task, description=text)
        elif self._enabled:
            say(text)

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            with suppress(OSError):
                self._bar.stop()
