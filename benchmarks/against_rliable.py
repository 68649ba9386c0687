"""Our aggregate statistics against rliable's own code and scipy's, which are not among qladder's dependencies.

python -m pip install rliable "pandas<3" && python benchmarks/against_rliable.py [--json FILE]

On random score tables of many shapes: IQM, mean, median, optimality gap, probability of improvement, performance
profiles, Student's t intervals. rliable's IQM rounds the cut down where the number of values is no multiple of four,
and so keeps more than the middle half; ours weighs the values at the cut, and is compared where it is one. The exit
status is 1 where anything differs by more than rounding.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rliable import library, metrics
from scipy import stats as scipy_stats

from qladder.runners.overall import overall, probability_of_improvement, profile
from qladder.runners.run_folder import provenance, write_json
from qladder.runners.stats import iqm, mean_interval, t_probability

TABLES = 200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the report")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    worst: dict[str, float] = {}

    def compare(name: str, ours: object, theirs: object) -> None:
        apart = float(np.max(np.abs(np.asarray(ours, float) - np.asarray(theirs, float))))
        worst[name] = max(worst.get(name, 0.0), apart)

    for _ in range(TABLES):
        seeds, tasks = int(rng.integers(2, 12)), int(rng.integers(2, 10))
        a, b = (np.round(rng.normal(0.6, 0.5, (seeds, tasks)), 1) for _ in range(2))  # rounded, so that there are ties
        ours = overall(list(a.T), resamples=10)
        if a.size % 4 == 0:
            compare("IQM", ours.iqm.value, metrics.aggregate_iqm(a))
            compare("IQM of scipy", iqm(a.ravel()), scipy_stats.trim_mean(a, 0.25, axis=None))
        compare("mean", ours.mean.value, metrics.aggregate_mean(a))
        compare("median", ours.median.value, metrics.aggregate_median(a))
        compare("optimality gap", ours.optimality_gap.value, metrics.aggregate_optimality_gap(a))
        better = probability_of_improvement(list(a.T), list(b.T), resamples=10).value
        compare("probability of improvement", better, metrics.probability_of_improvement(a, b))
        marks = np.linspace(-1, 2, 31) + 0.013  # between the rounded scores
        shares = [share.value for share in profile(list(a.T), marks)]
        compare("profile", shares, [library.run_score_deviation(a, mark) for mark in marks])
        x = rng.normal(size=seeds)
        theirs = scipy_stats.t.interval(0.95, seeds - 1, loc=x.mean(), scale=scipy_stats.sem(x))
        compare("t interval of scipy", mean_interval(x), theirs)
        t, df = float(rng.uniform(0, 6)), float(rng.uniform(1, 40))
        compare("t probability of scipy", t_probability(t, df), 1 - 2 * scipy_stats.t.sf(t, df))
    told = {"tables": TABLES, "largest_difference": worst, "rliable": version("rliable"), "scipy": version("scipy")}
    if args.json is not None:
        command = " ".join(["python benchmarks/against_rliable.py", *sys.argv[1:]])
        write_json(args.json, {"command": command, **told, **provenance()})
    print(json.dumps(told))
    return int(max(worst.values()) > 1e-9)


if __name__ == "__main__":
    sys.exit(main())
