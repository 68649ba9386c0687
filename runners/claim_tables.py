"""What a card shows beside verdicts: how much arms depend on settings, how soon they learn, how long all of it took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from qladder.runners.claim_file import Arm
from qladder.runners.claims import Card
from qladder.runners.curves import FRAMES_PER_SECOND
from qladder.runners.groups import Group
from qladder.runners.progress import duration
from qladder.runners.reach import Reached, reached
from qladder.runners.runs import RunSummary
from qladder.runners.wording import number

LEVELS = (0.1, 0.25, 0.5, 1.0)
"""Of the way from random play to a solved task."""


def tunability(card: Card, arm: Arm) -> str:
    """Over all settings that an arm was tried with: the range of its measure, the mean, how many diverged."""
    if arm.tuned_as:
        return f"none: as {arm.tuned_as}"
    tried = [t for t in card.found.tuned if t.arm == arm.name]
    values = [t.value for t in tried if t.value is not None]
    lost = sum(t.diverged for t in tried)
    parts = []
    if values:
        mean = sum(values) / len(values)
        parts.append(f"{number(min(values))} to {number(max(values))}, mean {number(mean)}")
    return "; ".join([*parts, *([f"{lost} of {len(tried)} diverged"] if lost else [])]).replace("-", "−")


def experience(card: Card, grouped: Sequence[Group]) -> list[dict[str, Any]]:
    """For each arm and environment when its seeds first were so far on their way; nothing without curves."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for level in LEVELS:
        marks = {
            group.env: place.scale.random + level * (place.scale.mark - place.scale.random)
            for group in grouped
            for place in card.claim.place
            if group.env.partition(" ")[0] == place.env
        }
        for row in reached(grouped, marks):
            known = rows.setdefault((row.agent, row.env), {"arm": row.agent, "env": row.env, "cells": []})
            known["cells"].append(_when(row))
    return list(rows.values())


def _when(row: Reached) -> str:
    """The median over seeds, where half of them got there; and how many did."""
    many = f"{row.reached} of {row.seeds}"
    steps, frames = row.median["agent_steps"], row.median["frames"]
    if steps is None or frames is None:
        return many
    return f"{steps:,.0f} steps, {duration(frames / FRAMES_PER_SECOND)} of play; {many}"


def elapsed(runs: Iterable[RunSummary]) -> float | None:
    """Seconds by the clock in which at least one was under way or paused; None where none tells its start and end."""
    total, until = 0.0, float("-inf")
    spans = [(_at(run, "started"), _at(run, "ended")) for run in runs]
    known = sorted((start, end) for start, end in spans if start is not None and end is not None)
    for start, end in known:
        total += max(end - max(start, until), 0.0)
        until = max(until, end)
    return total if known else None


def _at(run: RunSummary, name: str) -> float | None:
    """A time of its manifest in seconds since 1970."""
    try:
        return datetime.strptime(str(run.manifest.get(name)), "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:
        return None
