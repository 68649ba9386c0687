"""Claims put to the test: tunes the arms, runs them, and judges; a claim's runs are a suite like any other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from qladder.envs.errors import UserError
from qladder.envs.protocol import Protocol
from qladder.runners.arrays import DAMAGED
from qladder.runners.claim_file import Claim, Question, check_seeds, claim_names, load_claim, settings_table
from qladder.runners.claim_runs import ClaimRuns, diverged, read_claim
from qladder.runners.claim_verdict import Answer, Measures, answers, measures
from qladder.runners.config import resolve
from qladder.runners.crew import alone
from qladder.runners.progress import say
from qladder.runners.run_folder import write_json, write_text
from qladder.runners.shipped import CONFIGS
from qladder.runners.suite import run_suite
from qladder.runners.suite_file import Task
from qladder.runners.taken import own_cost, trained_runs

OUT = Path("runs") / "claims"
LAST = "verdicts.json"
"""What the last report said, for `qladder claims list`."""
KEPT = CONFIGS.parent / "docs" / "results" / "claims"
"""The runs that come with the repository, and what a report says of them; not there where qladder was installed."""


@dataclass(frozen=True)
class Card:
    """A claim with what its runs showed."""

    claim: Claim
    found: ClaimRuns
    measures: Measures
    answers: list[Answer]
    stale: list[str]  # stamps of other versions of the file that have runs, where this one has none

    @property
    def cost(self) -> dict[str, float]:
        """Of all runs, the tuning's too: how many, agent steps, and seconds, by the wall clock and of the CPU.

        Those that took another's weights cost their evaluation alone.
        """
        every = [*self.found.runs, *self.found.tuning]
        own = [own_cost(run) for run in every]
        return {
            "runs": len(every),
            "tuning_runs": len(self.found.tuning),
            "taken": sum(run.taken for run in every),
            **{name: sum(cost[name] for cost in own) for name in ("agent_steps", "seconds", "cpu_seconds")},
        }

    def measured(self, question: Question) -> Measures:
        """Of each run by the question's clock, as far as those went that it asks of; nothing, and told, if nowhere."""
        if question.over == "agent_steps":
            return self.measures
        asked = [arm for arm, number in question.contrast.items() if number]
        places = tuple(p for p in self.claim.place if not question.places or p.env in question.places)
        claim = replace(self.claim, place=places)
        try:
            return measures(claim, self.found.runs, asked, question.over, self.found.lost)
        except UserError as error:
            say(f"{self.claim.name}, {question.name}: {error}")
            return measures(claim, [], asked)

    def to_json(self) -> dict[str, Any]:
        """All that the page shows, and each run's measure."""
        return {
            "name": self.claim.name,
            "stamp": self.claim.stamp,
            "stale": self.stale,
            "cost": self.cost,
            "tuned": [{**asdict(t), "trial": t.trial.label} for t in self.found.tuned],
            "diverged": [str(run.folder) for run in self.found.lost],
            "other_settings": [str(run.folder) for run in self.found.others],
            "answers": [{**asdict(a), "question": a.question.name} for a in self.answers],
            "measures": self.measures,
        }


def run_claim(
    name: str,
    *,
    out: Path = OUT,
    seeds: int | None = None,
    jobs: int | None = None,
    retries: int = 0,
    executor: Literal["local", "ray"] = "local",
    mix_code: bool = False,
    progress: bool = False,
) -> list[str]:
    """Tunes and runs what is missing of a claim, as `run_suite` does; what failed, in words.

    Raises:
        UserError: no such claim, one that does not hold together, too few `seeds`, or finished runs of other code of
            yours, unless `mix_code`.
        StoppedError: Ctrl-C or SIGTERM; the same call goes on.
    """
    claim = load_claim(name)
    check_seeds(claim, seeds or claim.seeds, claim.name)
    place = out / f"{claim.name}-{claim.stamp}"
    lost = {run.arm for run in diverged(claim, place)}
    trials = [task for _, _, task in claim.tuning_tasks() if task.label not in lost]
    _check_runs(claim)
    failed: list[str] = []
    run = partial(run_suite, jobs=jobs, retries=retries, executor=executor, mix_code=mix_code, progress=progress)
    if trials:
        if progress:
            say(f"{claim.name}: {len(trials)} trials with {claim.tuning_seeds} seeds")
        tuning = _write_suite(place / "tuning.toml", claim, trials, claim.tuning_seeds, claim.tuning_first_seed)
        done = run(str(tuning), out=str(place / "tuning"), trained=_trained(claim, out))
        hopeless = {run.folder for run in diverged(claim, place)}
        failed += [f"{row['run']}: {row['reason']}" for row in done.failed if Path(row["run"]) not in hopeless]
    found = read_claim(claim, place)
    for arm in claim.arm:
        if claim.trials(arm) and not arm.tuned_as and arm.name not in found.chosen:
            raise UserError(
                f"{claim.name}: {_not_chosen(arm.name, found)}{''.join(f'; {line}' for line in failed[:1])}"
            )
    tasks = list(claim.tasks(found.chosen))
    final = _write_suite(place / "verdict.toml", claim, tasks, seeds or claim.seeds, claim.first_seed)
    done = run(str(final), out=str(place / "runs"), trained=_trained(claim, out))
    hopeless = {run.folder for run in read_claim(claim, place).lost}
    return failed + [f"{row['run']}: {row['reason']}" for row in done.failed if Path(row["run"]) not in hopeless]


def _not_chosen(arm: str, found: ClaimRuns) -> str:
    trials = [t for t in found.tuned if t.arm == arm]
    missing = [t.trial.label for t in trials if t.value is None and not t.diverged]
    if not missing:
        return f"all trials of arm '{arm}' diverged"
    return f"arm '{arm}' has no best trial, since '{missing[0]}' has not ended with a score for every seed"


def _check_runs(claim: Claim) -> None:
    """UserError where arms would be scored otherwise than others, or once: an area needs two points."""
    protocols: dict[str, Protocol] = {}
    for task in claim.tasks({}):
        config = resolve(task.agent, task.env, task.table(0))
        usual = protocols.setdefault(task.env, config.protocol)
        if usual.hash != config.protocol.hash:
            told = f"protocol {config.protocol.name} for '{task.label}', and {usual.name} for another"
            raise UserError(f"{claim.name}: on {task.env} {told}; the arms of a claim follow one")
        if claim.metric == "area" and (config.run.eval_every or 1) >= config.run.steps:
            told = f"{claim.name}: metric = 'area' needs two evaluations of a run, and run.eval_every is"
            raise UserError(f"{told} {config.run.eval_every:,} of {config.run.steps:,} steps on {task.env}")


def _trained(claim: Claim, out: Path) -> dict[str, Path] | None:
    """Runs of all claims whose weights others may take; None where this one's measure needs each run's curve."""
    return trained_runs(sorted(out.glob("*-*/*/"))) if claim.metric == "score" else None


def cards(names: Sequence[str], out: Path = OUT, *, only_run: bool = False) -> list[Card]:
    """Of claims by name, or those among them that have runs; each verdict tells whether it holds among all of them.

    Raises:
        UserError: no such claim, or one that does not hold together.
    """
    claims = [load_claim(name) for name in names]
    drafts = [_draft(claim, out) for claim in claims]
    drafts = [draft for draft in drafts if draft.found.runs or draft.found.lost or draft.stale or not only_run]
    questions = [(d.claim, question, d.measured(question)) for d in drafts for question in d.claim.question]
    judged = iter(answers(questions))
    return [replace(draft, answers=[next(judged) for _ in draft.claim.question]) for draft in drafts]


def list_claims(out: Path = OUT) -> list[dict[str, Any]]:
    """What there is: each claim, who said it, what it takes, its last verdicts, and those of the runs that are kept."""
    last, kept = _last(out), _last(KEPT)
    return [_listed(load_claim(name), last, kept) for name in claim_names()]


def write_last(shown: Iterable[Card], out: Path = OUT) -> None:
    """Keeps the verdicts for `list_claims`; those of claims that are not shown, or have no runs, stay as they were."""
    verdicts = {
        card.claim.name: {
            "stamp": card.claim.stamp,
            "cpu_seconds": round(card.cost["cpu_seconds"]),
            "verdicts": {a.question.name: a.outcome for a in card.answers},
        }
        for card in shown
        if card.found.runs
    }
    write_json(out / LAST, {**_last(out), **verdicts})


def _last(out: Path) -> dict[str, Any]:
    try:
        found = json.loads((out / LAST).read_text(encoding="utf-8"))
    except (OSError, *DAMAGED):
        return {}
    return found if isinstance(found, dict) else {}


def _listed(claim: Claim, last: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    told = [known for known in (last.get(claim.name), kept.get(claim.name)) if isinstance(known, dict)]
    took = [known.get("cpu_seconds") for known in told if known["stamp"] == claim.stamp]
    steps = sum(task.steps or 0 for _, _, task in claim.tuning_tasks()) * claim.tuning_seeds
    final = list(claim.tasks({}))
    return {
        "name": claim.name,
        "claim": claim.claim,
        "said_by": claim.said_by,
        "runs": len(list(claim.tuning_tasks())) * claim.tuning_seeds + len(final) * claim.seeds,
        "agent_steps": steps + sum(task.steps or 0 for task in final) * claim.seeds,
        "cpu_seconds": next((seconds for seconds in took if seconds), None),  # of all runs, when they were last made
        "verdicts": _verdicts(claim, last.get(claim.name)),
        "kept": _verdicts(claim, kept.get(claim.name)),
    }


def _verdicts(claim: Claim, known: Any) -> dict[str, str]:
    """Of each question, as a report has told them."""
    if not isinstance(known, dict):
        return {question.name: "not run" for question in claim.question}
    stale = known["stamp"] != claim.stamp
    return {q.name: "stale" if stale else known["verdicts"].get(q.name, "not run") for q in claim.question}


def _draft(claim: Claim, out: Path) -> Card:
    place = out / f"{claim.name}-{claim.stamp}"
    found = read_claim(claim, place)
    others = sorted(p.name.removeprefix(f"{claim.name}-") for p in out.glob(f"{claim.name}-*") if p != place)
    stale = [] if found.runs else [stamp for stamp in others if len(stamp) == len(claim.stamp)]
    arms = [arm.name for arm in claim.arm]
    return Card(claim, found, measures(claim, found.runs, arms, lost=found.lost), [], stale)


def _write_suite(path: Path, claim: Claim, tasks: Sequence[Task], seeds: int, first_seed: int) -> Path:
    """The claim's runs as a suite's file."""
    import tomli_w

    table = {
        "summary": claim.hypothesis,
        "seeds": seeds,
        "first_seed": first_seed,
        "task": [settings_table(task) for task in tasks],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path.with_name(f".{path.name}.claim")):  # another process may be at work on the same claim
        write_text(path, tomli_w.dumps(table))
    return path
