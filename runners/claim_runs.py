"""The runs in a claim's folder: which of them count, and which trial of each arm they choose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qladder.envs.errors import UserError
from qladder.runners.arrays import DAMAGED
from qladder.runners.claim_file import Claim, Trial
from qladder.runners.claim_verdict import Lost, measures
from qladder.runners.config import Config, resolve
from qladder.runners.likeness import same_settings, written
from qladder.runners.runs import RunSummary, diverged_in, find_runs
from qladder.runners.suite_file import Task

Wanted = dict[tuple[str, str], list[Config]]
"""By label and environment: the settings that a run may have, any seed."""


@dataclass(frozen=True)
class Tuned:
    """What came of one trial of one arm: the mean measure over environments and the tuning's seeds."""

    arm: str
    trial: Trial
    value: float | None  # None until all have ended
    chosen: bool
    diverged: bool  # a loss or a weight was not finite any more: worse than every other


@dataclass(frozen=True)
class ClaimRuns:
    """What lies in a claim's folder."""

    tuning: list[RunSummary]
    tuned: list[Tuned]
    runs: list[RunSummary]  # of the verdict
    lost: list[Lost]  # of the verdict too
    others: list[RunSummary]
    """Left out: made with other settings than the claim and what qladder ships come to today."""

    @property
    def chosen(self) -> dict[str, Trial]:
        """By arm; without those of which a trial has still to end."""
        return {t.arm: t.trial for t in self.tuned if t.chosen}


def read_claim(claim: Claim, place: Path) -> ClaimRuns:
    """The runs in `place`, a claim's folder, that are what the claim asks for today."""
    wanted = _wanted(task for _, _, task in claim.tuning_tasks())
    tuning, others = _split(place / "tuning", wanted)
    tuned = list(_tuned(claim, tuning, {run.arm for run in diverged(claim, place)}))
    chosen = {t.arm: t.trial for t in tuned if t.chosen}
    if chosen.keys() == {t.arm for t in tuned}:
        tasks = list(claim.tasks(chosen))
    else:  # without the tuning's runs nobody knows which trials were chosen
        trials = range(len(claim.trials(claim.arm[0])))
        tasks = [task for i in trials for task in claim.tasks({arm.name: claim.trials(arm)[i] for arm in claim.arm})]
    wanted = _wanted(tasks)
    runs, more = _split(place / "runs", wanted)
    return ClaimRuns(tuning, tuned, runs, _lost(place / "runs", wanted), others + more)


def diverged(claim: Claim, place: Path) -> list[Lost]:
    """The tuning's runs that ended with numbers that are not finite; their arm is called with its trial."""
    return _lost(place / "tuning", _wanted(task for _, _, task in claim.tuning_tasks()))


def _lost(folder: Path, wanted: Wanted) -> list[Lost]:
    found = []
    for run in diverged_in(folder):
        if (label := _label(run, wanted)) is not None:
            table = written(run)
            found.append(Lost(run, label, str(table["env"]["id"]), int(table["run"]["seed"])))
    return found


def _tuned(claim: Claim, tuning: Sequence[RunSummary], lost: set[str]) -> Iterator[Tuned]:
    """Every arm's trials; of equal ones the first is chosen, and none where one has still to end."""
    found = measures(claim, tuning, {task.label for _, _, task in claim.tuning_tasks()})
    for arm in claim.arm:
        if arm.tuned_as:
            continue
        labels = [f"{arm.name} {trial.label}" for trial in claim.trials(arm)]
        values = [None if label in lost else _mean(found[label], claim) for label in labels]
        known = [value for value in values if value is not None]
        ended = all(value is not None or label in lost for label, value in zip(labels, values, strict=True))
        best = values.index(max(known)) if known and ended else None
        for i, trial in enumerate(claim.trials(arm)):
            yield Tuned(arm.name, trial, values[i], i == best, labels[i] in lost)


def _mean(found: Mapping[str, Mapping[int, float]], claim: Claim) -> float | None:
    """Over environments and the tuning's seeds, once all are there."""
    values = [value for by_seed in found.values() for value in by_seed.values()]
    return float(np.mean(values)) if len(values) == len(claim.place) * claim.tuning_seeds else None


def _wanted(tasks: Iterable[Task]) -> Wanted:
    wanted: Wanted = {}
    for task in tasks:
        wanted.setdefault((task.label, task.env), []).append(resolve(task.agent, task.env, task.table(0)))
    return wanted


def _split(folder: Path, wanted: Wanted) -> tuple[list[RunSummary], list[RunSummary]]:
    """The runs that are wanted, and the others; none where the first has still to end."""
    runs = find_runs([folder]).runs if any(folder.glob("*/summary.json")) else []
    kept = [run for run in runs if _label(run.folder, wanted, run) is not None]
    return kept, [run for run in runs if run not in kept]


def _label(folder: Path, wanted: Wanted, run: RunSummary | None = None) -> str | None:
    """Of the run in `folder`, where its settings, and what its summary says of it, are those of one that is wanted."""
    try:
        table = written(folder)
        label, env = str(table["run"]["label"]), str(table["env"]["id"])
        for config in wanted.get((label, env), []):
            same = run is None or (run.steps, run.protocol.hash) == (config.run.steps, config.protocol.hash)
            if same and same_settings(table, config):
                return label
    except (UserError, *DAMAGED):
        pass
    return None
