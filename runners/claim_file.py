"""What a claim's TOML file says: a sentence, the arms that put it to the test, and the rule that judges them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, MinLen

from qladder.envs.errors import UserError, nearest
from qladder.runners.scales import Scale, scale
from qladder.runners.settings import Table, build, dump, merge, read_toml
from qladder.runners.shipped import CONFIGS
from qladder.runners.suite_file import Task

Settings = dict[str, dict[str, Any]]
Text = Annotated[str, MinLen(1)]
CLAIMS = CONFIGS / "claims"
PROSE = ("claim", "said_by", "held_equal", "not_equal", "would_change", "literature", "examined", "seeds")
"""What may change after the runs: it decides nothing, and more seeds are more of the same."""


@dataclass(frozen=True)
class Trial:
    """Settings that an arm is tried with before its verdict's seeds."""

    label: Text
    settings: Settings


@dataclass(frozen=True)
class Arm:
    """An agent, by its difference from the claim's base."""

    name: Text
    what: str = ""
    """In plain words."""
    agent: str = ""
    """By default the base's."""
    settings: Settings = field(default_factory=dict)
    trials: tuple[Trial, ...] = ()
    """By default the claim's."""
    tuned_as: str = ""
    """Another arm, whose best trial it has too: where both are one network that is evaluated in two ways."""


@dataclass(frozen=True)
class Place:
    """An environment, and the returns that count as 0 and 1 there."""

    env: Text
    steps: Annotated[int, Gt(0)]
    low: float | None = None
    """By default random play."""
    high: float | None = None
    """By default what counts as solved."""
    settings: Settings = field(default_factory=dict)

    @cached_property
    def scale(self) -> Scale:
        """UserError where the file names no returns and none are known."""
        known = scale(self.env)
        low = self.low if self.low is not None else known and known.random
        high = self.high if self.high is not None else known and known.mark
        if low is None or high is None or not low < high:
            raise UserError(
                f"place {self.env}: low = {low} and high = {high}: must be the returns that count as 0 and 1"
            )
        return Scale(low, high, "claim")


@dataclass(frozen=True)
class Factor:
    """One of several things that are there or not: each combination of them is an arm."""

    name: Text
    on: Settings
    off: Settings


@dataclass(frozen=True)
class Question:
    """One verdict: whether the arms' measures, each times its number, add up to more than `delta`."""

    name: Text
    sentence: Text
    """What is supported where they do."""
    contrast: dict[str, float] = field(default_factory=dict)
    """Arms and their numbers: an interaction has four, `a > c b` is `a - c b`."""
    effect: tuple[str, ...] = ()
    """Instead, of factors: what one of them adds on average; of two, how much more with the other than without."""
    delta: float = 0.05
    """The smallest effect that matters, of a measure that is 0 for random play and 1 for a task that is solved."""
    places: tuple[str, ...] = ()
    """Environments; by default all."""
    over: Literal["agent_steps", "cpu_seconds"] = "agent_steps"
    """The clock of areas under curves; seconds as far as the quickest run took that is asked of."""


@dataclass(frozen=True)
class Claim:
    """A sentence that people repeat, and an experiment that can refute it."""

    name: str
    claim: Text
    said_by: Text
    hypothesis: Text
    held_equal: Text
    not_equal: Text
    would_change: Text
    """What would change the verdict."""
    place: Annotated[tuple[Place, ...], MinLen(1)]
    question: Annotated[tuple[Question, ...], MinLen(1)]
    metric: Literal["area", "score"] = "area"
    """Of each run: the area under its curve of evaluations over agent steps, or the final evaluation."""
    seeds: Annotated[int, Gt(1)] = 10
    first_seed: Annotated[int, Ge(0)] = 0
    tuning_seeds: Annotated[int, Gt(0)] = 2
    tuning_first_seed: Annotated[int, Ge(0)] = 1_000
    arm: tuple[Arm, ...] = ()
    factor: tuple[Factor, ...] = ()
    """Their combinations are arms too."""
    trial: tuple[Trial, ...] = ()
    """What every arm is tried with, on the tuning's seeds; the best by the metric goes on."""
    agent: str = "dqn"
    settings: Settings = field(default_factory=dict)
    """Of all arms."""
    literature: tuple[str, ...] = ()
    examined: str = ""
    """Of an undecided or refuted claim: whether it is the truth, too few seeds, or a fault."""

    @property
    def stamp(self) -> str:
        """Of everything that decides a verdict; a rule that is changed afterwards has another."""
        told = {key: value for key, value in dump(self).items() if key not in PROSE}
        for arm in told["arm"]:
            if not arm["tuned_as"]:  # as it was stamped before there was such a thing
                del arm["tuned_as"]
        for question in told["question"]:
            if question["over"] == "agent_steps":  # likewise
                del question["over"]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]

    def trials(self, arm: Arm) -> tuple[Trial, ...]:
        """What the arm is tried with, or the one that it is tuned as; none where nothing is tuned."""
        tried = next(other for other in self.arm if other.name == arm.tuned_as) if arm.tuned_as else arm
        return tried.trials or self.trial

    def tuning_tasks(self) -> Iterator[tuple[Arm, Trial, Task]]:
        """Every arm that is tuned by itself with every trial, on every environment."""
        for arm in self.arm:
            if arm.tuned_as:
                continue
            for trial in self.trials(arm):
                for place in self.place:
                    yield arm, trial, self._task(arm, place, f"{arm.name} {trial.label}", trial.settings)

    def tasks(self, chosen: dict[str, Trial]) -> Iterator[Task]:
        """Every arm on every environment, with the trial that was chosen for it, or for the arm that it is tuned as."""
        for arm in self.arm:
            trial = chosen.get(arm.tuned_as or arm.name)
            for place in self.place:
                yield self._task(arm, place, arm.name, trial.settings if trial else {})

    def _task(self, arm: Arm, place: Place, label: str, tried: Settings) -> Task:
        stamped: Settings = {"run": {"claim": f"{self.name} {self.stamp}"}}
        settings = merge(self.settings, place.settings, arm.settings, tried, stamped)
        return Task(arm.agent or self.agent, place.env, label, place.steps, settings=settings)


def claim_names() -> list[str]:
    """Of those that come with qladder."""
    return sorted(path.stem for path in CLAIMS.glob("*.toml"))


def load_claim(name: str) -> Claim:
    """A claim by name, or from a TOML file.

    Raises:
        UserError: there is none (with the nearest name), or it does not hold together: an arm that a question names and
            nobody made, a question without arms, unequal numbers of trials, tuning on the verdict's seeds.
    """
    path = Path(name) if name.endswith(".toml") else CLAIMS / f"{name}.toml"
    if not path.is_file():
        raise UserError(f"claim '{name}': there is no such claim{nearest(name, claim_names())} (qladder claims list)")
    table = read_toml(path)
    if "name" in table:
        raise UserError(f"{path.name}.name: a claim is called by its file's name")
    claim: Claim = build(Claim, {**table, "name": path.stem}, path.name)
    claim = replace(claim, arm=(*claim.arm, *_combinations(claim.factor)))
    _check(claim, path.name)
    return replace(claim, question=tuple(_spelt_out(question, claim.factor) for question in claim.question))


def _combinations(factors: Sequence[Factor]) -> Iterator[Arm]:
    """All of them on first, called by what is on."""
    for on in product((True, False), repeat=len(factors)) if factors else ():
        there = [factor.name for factor, is_on in zip(factors, on, strict=True) if is_on]
        settings = merge(*[factor.on if is_on else factor.off for factor, is_on in zip(factors, on, strict=True)])
        yield Arm(" + ".join(there) or "none of them", settings=settings)


def _spelt_out(question: Question, factors: Sequence[Factor]) -> Question:
    """With the contrast that its effect stands for."""
    if not question.effect:
        return question
    names = [factor.name for factor in factors]
    share = 2.0 ** (len(question.effect) - len(names))  # of the combinations of the other factors
    contrast = {}
    for arm, on in zip(_combinations(factors), product((True, False), repeat=len(factors)), strict=True):
        signs = [1 if on[names.index(name)] else -1 for name in question.effect]
        contrast[arm.name] = share * math.prod(signs)
    return replace(question, contrast=contrast)


def _check(claim: Claim, where: str) -> None:
    if len(claim.arm) < 2:
        raise UserError(f"{where}: it needs two arms at least, each under [[arm]], or factors, under [[factor]]")
    arms, places = [arm.name for arm in claim.arm], [place.env for place in claim.place]
    for names, what in ((arms, "arm"), (places, "place"), ([q.name for q in claim.question], "question")):
        if twice := next((n for n in names if names.count(n) > 1), None):
            raise UserError(f"{where} {what} '{twice}': there are two of them")
    factors = [factor.name for factor in claim.factor]
    for question in claim.question:
        if question.effect and question.contrast:
            raise UserError(f"{where} question '{question.name}': it has a contrast and an effect, and needs one")
        if not question.effect and not any(question.contrast.values()):
            raise UserError(f"{where} question '{question.name}'.contrast: no arm feeds it")
        if question.over != "agent_steps" and claim.metric != "area":
            raise UserError(f"{where} question '{question.name}'.over = '{question.over}': metric = 'area' has a clock")
        for name in question.effect:
            if name not in factors or question.effect.count(name) > 1:
                told = f"{where} question '{question.name}'.effect = {list(question.effect)}"
                raise UserError(f"{told}: must be one or more of the factors{nearest(name, factors)}")
        for arm in question.contrast:
            if arm not in arms:
                raise UserError(f"{where} question '{question.name}': there is no arm '{arm}'{nearest(arm, arms)}")
        for env in question.places:
            if env not in places:
                raise UserError(f"{where} question '{question.name}': there is no place '{env}'{nearest(env, places)}")
    for place in claim.place:
        _ = place.scale
    by_themselves = [arm.name for arm in claim.arm if not arm.tuned_as]
    for one in claim.arm:
        if one.tuned_as and (one.trials or one.tuned_as not in by_themselves):
            why = "it has trials of its own" if one.trials else "there is no such arm that is tuned by itself"
            told = f"{where} arm '{one.name}'.tuned_as = '{one.tuned_as}': {why}"
            raise UserError(f"{told}{'' if one.trials else nearest(one.tuned_as, by_themselves)}")
    counts = {len(claim.trials(arm)) for arm in claim.arm if not arm.tuned_as}
    if len(counts) > 1:
        told = ", ".join(f"{arm.name} {len(claim.trials(arm))}" for arm in claim.arm)
        raise UserError(f"{where}: every arm needs as many trials as the others; there are {told}")
    check_seeds(claim, claim.seeds, where)


def check_seeds(claim: Claim, seeds: int, where: str) -> None:
    """UserError where so many seeds of the verdict would be the tuning's too."""
    tuning = range(claim.tuning_first_seed, claim.tuning_first_seed + claim.tuning_seeds)
    verdict = range(claim.first_seed, claim.first_seed + seeds)
    if any(claim.trials(arm) for arm in claim.arm) and not set(tuning).isdisjoint(verdict):
        told = f"arms are tuned on seeds {tuning[0]} to {tuning[-1]}, which the verdict uses too"
        raise UserError(f"{where}: {told} (seeds {verdict[0]} to {verdict[-1]})")


def settings_table(task: Task) -> Table:
    """A task as a suite's file has it."""
    return {key: value for key, value in dump(task).items() if value not in ("none", "", {})}
