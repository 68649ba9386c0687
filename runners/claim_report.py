"""One page of cards: what each claim says, what its runs showed, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from qladder.runners.claim_file import Arm, Claim, Question
from qladder.runners.claim_tables import LEVELS, elapsed, experience, tunability
from qladder.runners.claim_verdict import Answer
from qladder.runners.claims import Card
from qladder.runners.curves import CLOCKS, CPU, Clock
from qladder.runners.diff import setting_text
from qladder.runners.figures import Style, clock_svg, colours, scores_svg
from qladder.runners.groups import groups
from qladder.runners.progress import duration
from qladder.runners.report import facts, page, settings_between, shipped, signed, write_page
from qladder.runners.stats import middle

SIZE = (9.2, 3.7)  # inches
TOLD = ("machine.processor", "machine.cores", "versions.torch", "versions.gymnasium", "git.commit")
METRICS = {
    "area": "the mean of all greedy evaluations on the way, over agent steps: who learns sooner has more",
    "score": "the evaluation of the final weights",
}
RULE = (
    "Supported: the whole interval of the effect is above the smallest one that matters. Refuted: all of it is below, "
    "so that no effect refutes too. Both are corrected for the questions of a card (Holm 1979), so that with a "
    "probability of 95 % none of a card is wrong, whatever else is on the page; a verdict that is not sure once all "
    "questions of the page are corrected for says so. The intervals that are printed are 95 % each by itself. A run "
    "that diverged counts as 0."
)


def write_claims(cards: Sequence[Card], path: Path, title: str = "qladder claims") -> Path:
    """Writes the page; returns its path. UserError where it cannot be written."""
    html = page(
        shipped("claims.html"),
        title=title,
        overview=_overview(cards),
        cards=[_card(card, i) for i, card in enumerate(cards)],
        rule=RULE,
        chip=_chip,
        told_of=told_of,
        metric=lambda claim: METRICS[claim.metric],
        setting=setting_text,
    )
    write_page(path, html)
    return path


def told_of(answer: Answer) -> dict[str, Any]:
    """What was asked and what it came to; of a contrast that only takes away, the other way round: `a < 0.5`."""
    question, effect, interval = answer.question, answer.effect, answer.interval
    delta, relation = question.delta, ">"
    if question.contrast and not any(weight > 0 for weight in question.contrast.values()):
        question = replace(question, contrast={arm: -weight for arm, weight in question.contrast.items()})
        delta, relation, effect = -delta, "<", None if effect is None else -effect
        low, high = interval
        interval = (None, None) if low is None or high is None else (-high, -low)
    limit = signed(f"{delta:g}")
    return {"says": f"{formula(question)} {relation} {limit}", "limit": limit, "effect": effect, "interval": interval}


def formula(question: Question) -> str:
    """A contrast as people write it: `a + b - 0.9 c`, names with a comma in quotes; of factors, in words."""
    clock = ", over CPU seconds of training," if question.over == "cpu_seconds" else ""
    if question.effect:
        first, *others = question.effect
        return f"what {first} adds" + "".join(f", with {other} more than without" for other in others) + clock
    parts = []
    for arm, weight in question.contrast.items():
        if weight:
            size = "" if abs(weight) == 1 else f"{abs(weight):g} × "
            name = f"“{arm}”" if "," in arm else arm
            parts.append(f"{'−' if weight < 0 else '+'} {size}{name}")
    return " ".join(parts).removeprefix("+ ") + clock


def _card(card: Card, place: int) -> dict[str, Any]:
    claim = card.claim
    grouped = sorted(groups(card.found.runs), key=lambda g: _arm(claim, g.label))
    styles = colours(grouped)
    chosen = {t.arm: t.trial.label for t in card.found.tuned if t.chosen}
    of_place = {p.env: [g for g in grouped if g.env.partition(" ")[0] == p.env] for p in claim.place}
    told = facts([run.manifest for run in card.found.runs])
    return {
        "claim": claim,
        "answers": card.answers,
        "stale": card.stale,
        "cost": card.cost,
        "elapsed": elapsed([*card.found.runs, *card.found.tuning]),
        "levels": [f"{level:.0%}" for level in LEVELS],
        "experience": experience(card, grouped),
        "tuned": card.found.tuned,
        "others": len(card.found.others),
        "lost": [f"{arm} on {env} (seeds {seeds})" for (arm, env), seeds in _lost(card).items()],
        "trials": len(claim.trials(claim.arm[0])),
        "at_an_end": _at_an_end(card),
        "scales": "; ".join(f"{p.scale.random:g} and {p.scale.mark:g} ({p.env})" for p in claim.place),
        "figures": _scores(card, styles, place)
        if claim.metric == "score"
        else [
            (
                env,
                clock_svg(some, clock, styles, SIZE, f"c{place}-{i}-{j}-", each_seed=False),
            )
            for j, clock in enumerate(_clocks(claim))
            for i, (env, some) in enumerate(of_place.items())
            if some
        ],
        "rows": [
            {
                "name": arm.name,
                "what": arm.what,
                "middles": [_middle(card.measures[arm.name][p.env]) for p in claim.place],
                "seeds": min(len(card.measures[arm.name][p.env]) for p in claim.place),
                "chosen": chosen.get(arm.tuned_as or arm.name, "-"),
                "tried": tunability(card, arm),
                "diverged": _diverged(card, arm),
                "colour": styles[arm.name][0] if arm.name in styles else "transparent",
            }
            for arm in claim.arm
        ],
        "differs": settings_between(of_place[claim.place[0].env]),
        "facts": [(key, values) for key, values in told if key in TOLD],
    }


def _scores(card: Card, styles: dict[str, Style], place: int) -> list[tuple[str, str]]:
    """A picture for each environment; curves would show little of runs that took another's weights."""
    figures = []
    for i, env in enumerate(place.env for place in card.claim.place):
        scores = {arm: [*by_env[env].values()] for arm, by_env in card.measures.items() if by_env[env]}
        figures += [("", scores_svg(scores, styles, SIZE[0], f"c{place}-{i}-", env))] if scores else []
    return figures


def _clocks(claim: Claim) -> list[Clock]:
    """Those that its questions ask of."""
    return [CLOCKS[0], *([CPU] if any(question.over == "cpu_seconds" for question in claim.question) else [])]


def _diverged(card: Card, arm: Arm) -> str:
    """How many of an arm's runs had values beyond twice what can be earned; nothing where they do not tell."""
    told = [run.alarms for run in card.found.runs if run.agent == arm.name and run.alarms is not None]
    known = [alarms["health/largest_q"] for alarms in told if "health/largest_q" in alarms]
    return f"{sum(known)} of {len(known)}" if known else ""


def _lost(card: Card) -> dict[tuple[str, str], str]:
    """By arm and environment the seeds of the runs that diverged."""
    found: dict[tuple[str, str], str] = {}
    for run in sorted(card.found.lost, key=lambda run: run.seed):
        before = found.get((run.arm, run.env))
        found[run.arm, run.env] = str(run.seed) if before is None else f"{before}, {run.seed}"
    return found


def _at_an_end(card: Card) -> list[str]:
    """Arms whose first or last trial was better than the one beside it: files list three or more in order."""
    found = []
    for arm in card.claim.arm:
        tuned = [t for t in card.found.tuned if t.arm == arm.name]
        ends = [(tuned[0], tuned[1]), (tuned[-1], tuned[-2])] if len(tuned) > 2 else []
        if any(end.chosen and (beside.diverged or beside.value != end.value) for end, beside in ends):
            found.append(arm.name)
    return found


def _arm(claim: Claim, label: str) -> int:
    return next((i for i, arm in enumerate(claim.arm) if arm.name == label), len(claim.arm))


def _middle(by_seed: dict[int, float]) -> float | None:
    return middle(list(by_seed.values())) if by_seed else None


def _chip(answer: Answer, card: dict[str, Any]) -> Markup:
    if card["stale"]:
        return Markup('<span class="chip">stale</span>')
    kind = {"supported": "decided", "refuted": "refuted"}.get(answer.outcome, "")
    return Markup('<span class="chip {}">{}</span>').format(kind, answer.outcome)


def _overview(cards: Sequence[Card]) -> str:
    outcomes = [a.outcome for card in cards for a in card.answers]
    told = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in ("supported", "refuted", "undecided"))
    cpu = sum(card.cost["cpu_seconds"] for card in cards)
    claims, questions = _count(len(cards), "claim"), _count(len(outcomes), "question")
    return f"{claims}, {questions}: {told}; {duration(cpu)} of CPU time in all"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
