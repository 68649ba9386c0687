"""How often intervals cover and verdicts err, in simulation: python benchmarks/intervals.py [--json FILE].

Scores of seeds are drawn from distributions whose truth is known: normal; skewed (log-normal); bimodal (an agent that
succeeds with 500 +- 10 and fails with 110 +- 30), with 5, 7 and 9 of 10 seeds successful. For each:

* how often the 95 % interval of the interquartile mean, of five seeds or fewer of the mean, holds the truth;
* how often a verdict on two equal agents is not `undecided`, and one on agents that differ by exactly the smallest
  difference that matters is `equivalent`: both at most 5 %;
* the same of two, three and five seeds, which are judged by Student's t;
* how often agents that reach 500, and nothing else above 200, with 9 and 7 of 10 seeds are called `equivalent` where 10
  matter, because all seeds of both happened to reach it: at most 5 %;
* how often a report on four or ten equal agents holds a single verdict that is not `undecided`: at most 5 %;
* how often as many seeds as a plan from ten asks for, for 80 %, find the difference that it was made for.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from qladder.runners.bootstrap import resampled
from qladder.runners.contrast import FEW, contrast, corrected, seeds_needed, verdict
from qladder.runners.run_folder import provenance, write_json
from qladder.runners.stats import Floats, iqm, iqm_rows, mean_interval

SEEDS = 10

Draw = Callable[[np.random.Generator, int], Floats]


def bimodal(share: float) -> Draw:
    def draw(rng: np.random.Generator, n: int) -> Floats:
        return np.where(rng.random(n) < share, rng.normal(500, 10, n), rng.normal(110, 30, n))

    return draw


DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(0, 1, n),
    "skewed": lambda rng, n: rng.lognormal(0, 1, n),
    "bimodal 0.5": bimodal(0.5),
    "bimodal 0.7": bimodal(0.7),
    "bimodal 0.9": bimodal(0.9),
}


def coverage(draw: Draw, seeds: int, times: int, rng: np.random.Generator) -> float:
    """How often the interval that is shown of so many seeds holds the distribution's IQM, of five or fewer its mean."""
    many, covered = draw(rng, 2_000_000), 0
    truth = float(many.mean()) if seeds <= FEW else iqm(many)
    for _ in range(times):
        scores = draw(rng, seeds)
        low, high = mean_interval(scores) if seeds <= FEW else resampled([scores], iqm_rows, rng).interval()
        covered += low is not None and high is not None and low <= truth <= high
    return covered / times


def errors(draw: Draw, seeds: int, times: int, rng: np.random.Generator) -> dict[str, float]:
    """How often equal agents are told apart, and agents that differ by just what matters are called equivalent."""
    spread = float(draw(rng, 100_000).std())
    decided = equivalent = 0
    for _ in range(times):
        one, other = draw(rng, seeds), draw(rng, seeds)
        decided += verdict(contrast(one, other, paired=True).difference, 0.0) != "undecided"
        equivalent += verdict(contrast(one + spread, other, paired=True).difference, spread) == "equivalent"
    return {"told_apart": decided / times, "called_equivalent": equivalent / times}


def alike(seeds: int, times: int, rng: np.random.Generator) -> float:
    """How often agents that succeed with 9 and 7 of 10 seeds are called equivalent."""

    def draw(share: float) -> Floats:
        return np.where(rng.random(seeds) < share, 500.0, rng.uniform(100, 200, seeds))

    judged = [verdict(contrast(draw(0.9), draw(0.7), paired=True).difference, 10.0) for _ in range(times)]
    return judged.count("equivalent") / times


def wrong_reports(draw: Draw, agents: int, seeds: int, times: int, rng: np.random.Generator) -> float:
    """How often a report on equal agents holds a single verdict that is not `undecided`."""
    wrong = 0
    for _ in range(times):
        scores = [draw(rng, seeds) for _ in range(agents)]
        pairs = [contrast(one, other, paired=True).difference for one, other in combinations(scores, 2)]
        wrong += any(judged != "undecided" for judged in corrected(pairs, 0.0))
    return wrong / times


def power(draw: Draw, times: int, rng: np.random.Generator) -> dict[str, float]:
    """How often a difference of a spread is found with as many seeds as a plan from ten of each agent asks for."""
    size = float(draw(rng, 100_000).std())
    found, asked = 0, []
    for _ in range(times):
        plan = seeds_needed(contrast(draw(rng, SEEDS), draw(rng, SEEDS), paired=False), size)
        if plan is None:
            raise SystemExit("a plan of more than ten thousand seeds")
        asked.append(plan)
        found += verdict(contrast(draw(rng, plan) + size, draw(rng, plan), paired=False).difference, 0.0) == "better"
    return {"found": found / times, "median_seeds": float(np.median(asked))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=2_000, help="simulations of each kind")
    parser.add_argument("--json", type=Path, help="file for the report")
    args = parser.parse_args()
    began = time.monotonic()
    told: dict[str, Any] = {}
    for number, (name, draw) in enumerate(DISTRIBUTIONS.items()):
        rng = np.random.default_rng(number)
        told[name] = {
            "coverage": {n: coverage(draw, n, args.times, rng) for n in (3, FEW, SEEDS, 20)},
            "errors": errors(draw, SEEDS, args.times, rng),
            "errors_of_few": {n: errors(draw, n, args.times, rng) for n in (2, 3, FEW)},
            "wrong_reports": {n: wrong_reports(draw, n, SEEDS, args.times // 10, rng) for n in (4, 10)},
            "power": power(draw, args.times, rng),
        }
        print(f"{name}: {json.dumps(told[name])}", file=sys.stderr, flush=True)
    rng = np.random.default_rng(len(DISTRIBUTIONS))
    told["alike"] = {n: alike(n, args.times, rng) for n in (2, 3, FEW, 6, 8, SEEDS)}
    print(f"alike: {json.dumps(told['alike'])}", file=sys.stderr, flush=True)
    command = " ".join(["python benchmarks/intervals.py", *sys.argv[1:]])
    report = {"command": command, "times": args.times, "seconds": time.monotonic() - began, "found": told}
    if args.json is not None:
        write_json(args.json, {**report, **provenance()})
    print(json.dumps(told, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
