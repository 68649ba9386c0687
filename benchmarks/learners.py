"""Whether the bfloat16 learner learns as the float32 one does: area under the evaluation curve, paired by seed.

python benchmarks/learners.py --out DIR [--seeds 10] [--steps 8000] [--jobs 2]

Both learners train DQN on Catch with 84 x 84 pixels, one thread each; the rest of the settings is the shipped one. The
area is the mean of the evaluation curve on a scale from 0 (every ball missed) to 1 (every ball caught), and the two are
equivalent where the 95 % interval of the mean difference lies within +-0.05. Runs that are in DIR are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from qladder.runners.config import resolve
from qladder.runners.run_folder import run_name, write_json
from qladder.runners.stats import mean_interval

ENV = "qladder/Catch84-v0"
LEARNERS = ("cpu-bf16", "eager")
MARGIN = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=8_000)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    jobs = [(learner, seed) for seed in range(arguments.seeds) for learner in LEARNERS]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda job: train(arguments.out, arguments.steps, *job), jobs))
    told = result(arguments.out, arguments.seeds)
    write_json(arguments.out / "results.json", told)
    low, high = told["interval"]
    print(f"cpu-bf16 - eager: {told['difference']:+.4f} [{low:+.4f}, {high:+.4f}], {arguments.seeds} seeds")
    print(f"equivalent within +-{MARGIN}: {'yes' if told['equivalent'] else 'no'}")


def train(out: Path, steps: int, learner: str, seed: int) -> None:
    run = folder(out, learner, seed)
    if (run / "summary.json").exists():
        return
    command = (
        f"train dqn {ENV} --seed {seed} --learner {learner} --steps {steps} --run.threads 1 --run.eval-episodes 50"
    )
    resume = ["--resume"] if run.exists() else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-m", "qladder.runners.cli", *command.split(), "--out", str(run.parent), *resume]
    subprocess.run(arguments, check=True, env=environment, capture_output=True)


def folder(out: Path, learner: str, seed: int) -> Path:
    return out / learner / run_name(resolve("dqn", ENV, {"run": {"seed": seed}}))


def area(run: Path) -> float:
    curve = json.loads((run / "summary.json").read_text())["curve"]
    returns = [point["mean"] for point in curve]
    return (sum(returns) / len(returns) + 1) / 2


def result(out: Path, seeds: int) -> dict[str, Any]:
    areas = {learner: [area(folder(out, learner, seed)) for seed in range(seeds)] for learner in LEARNERS}
    differences = [a - b for a, b in zip(*areas.values(), strict=True)]
    low, high = mean_interval(differences)
    if low is None or high is None:
        raise SystemExit("an interval needs two seeds")
    manifest = json.loads((folder(out, LEARNERS[0], 0) / "manifest.json").read_text())
    return {
        "env": ENV,
        "seeds": seeds,
        "areas": areas,
        "difference": sum(differences) / seeds,
        "interval": [low, high],
        "margin": MARGIN,
        "equivalent": low > -MARGIN and high < MARGIN,
        "git": manifest["git"],
        "machine": manifest["machine"],
    }


if __name__ == "__main__":
    main()
