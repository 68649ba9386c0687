"""How often the rule of claims says what, in simulation: python benchmarks/claims.py [--json FILE].

Two arms of one environment, measured with the same seeds. What a seed gives to both alike has five times the spread of
their difference, which has the spread `delta`, the smallest effect that matters. The true effect is none, just `delta`,
or twice that:

* with none, and with one that just matters, `supported` in at most 5 %;
* with one that is twice as large, `supported` in at least 80 %;
* the same where a claim has four questions, or ten, of which the others have effects that just matter.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qladder.runners.claim_file import Claim, Question, load_claim
from qladder.runners.claim_verdict import Measures, answers
from qladder.runners.run_folder import provenance, write_json


def drawn(claim: Claim, effect: float, delta: float, seeds: int, rng: np.random.Generator) -> Measures:
    """Measures of the first two arms."""
    alike, apart = rng.normal(0, 5 * delta, seeds), rng.normal(effect, delta, seeds)
    one, other = (arm.name for arm in claim.arm[:2])
    env = claim.place[0].env
    return {one: {env: dict(enumerate(alike + apart))}, other: {env: dict(enumerate(alike))}}


def outcomes(effect: float, seeds: int, questions: int, times: int, rng: np.random.Generator) -> dict[str, float]:
    """How often the first of so many questions has each outcome; `effect` in units of delta."""
    claim = replace(load_claim("sorting"), seeds=seeds)
    one, other = (arm.name for arm in claim.arm[:2])
    question = Question("first", "first", {one: 1.0, other: -1.0}, delta=0.05)
    counted: Counter[str] = Counter()
    for _ in range(times):
        effects = [effect, *[1.0] * (questions - 1)]
        found = [(claim, question, drawn(claim, e * question.delta, question.delta, seeds, rng)) for e in effects]
        counted[answers(found)[0].outcome] += 1
    return {outcome: counted[outcome] / times for outcome in ("supported", "refuted", "undecided")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    began = time.monotonic()
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for seeds in (5, 10, 12, 20):
        for questions in (1, 4, 10):
            for effect in (0.0, 1.0, 2.0):
                times = options.times if questions == 1 else max(options.times // 5, 1)
                told = outcomes(effect, seeds, questions, times, rng)
                rows.append(
                    {"seeds": seeds, "questions": questions, "effect_in_deltas": effect, "times": times, **told}
                )
                print(json.dumps(rows[-1]), flush=True)
    if options.json is not None:
        command = " ".join(["python benchmarks/claims.py", *sys.argv[1:]])
        write_json(
            options.json, {"command": command, "seconds": time.monotonic() - began, "rows": rows, **provenance()}
        )


if __name__ == "__main__":
    main()
