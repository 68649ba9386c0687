"""How long a report of many runs takes: python benchmarks/reports.py [--runs 1000] [--points 200] [--json FILE].

Run folders of ten agents on ten environments are made up, with smooth random curves, and `qladder report` is run on
them as a process of its own. Told: its seconds, the most memory it held, and the bytes of the page; the exit status is
1 where they are more than 20 seconds, 1.5 GB or 15 MB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from qladder.runners.run_folder import provenance, write_json

ENVS = (
    *("CartPole-v1", "MountainCar-v0", "Acrobot-v1", "LunarLander-v3", "FrozenLake-v1"),
    *("Taxi-v4", "CliffWalking-v1", "Blackjack-v1", "qladder/Catch-v0", "FrozenLake8x8-v1"),
)
AGENTS = 10
SECONDS, BYTES, PAGE = 20.0, 1.5e9, 15e6


def make_up(folder: Path, runs: int, points: int) -> None:
    """So many finished runs, spread over agents and environments."""
    rng = np.random.default_rng(0)
    for number in range(runs):
        agent, env, seed = number % AGENTS, number // AGENTS % len(ENVS), number // AGENTS // len(ENVS)
        steps = 1_000 * np.arange(1, points + 1)
        means = (1 + agent) * np.tanh(steps / steps[-1] * 3) + np.cumsum(rng.normal(0, 0.05, points))
        curve = [
            {
                "agent_steps": int(k),
                "frames": 4 * int(k),
                "updates": int(k) // 4,
                "seconds": float(k) / 500 * (1 + 0.1 * rng.random()),
                "episodes": int(k) // 100,
                "mean": float(mean),
            }
            for k, mean in zip(steps, means, strict=True)
        ]
        last = curve[-1]
        returns = [float(x) for x in rng.normal(last["mean"], 1, 100)]
        evaluation = {
            "mean": last["mean"],
            "iqm": last["mean"],
            "interval": [last["mean"] - 1, last["mean"] + 1],
            "returns": returns,
            "episodes": 100,
            "protocol": "classic",
            "checkpoint_agent_steps": last["agent_steps"],
        }
        told = {
            "agent": f"agent-{agent}",
            "env": ENVS[env],
            "family": "classic",
            "seed": seed,
            "protocol": {"name": "classic", "version": 1, "hash": "0" * 12},
            "steps": last["agent_steps"],
            **{name: last[name] for name in ("agent_steps", "frames", "updates", "episodes", "seconds")},
            "exit_reason": "finished",
            "evaluation": evaluation,
            "curve": curve,
            "settings_hash": f"settings-{agent}",
        }
        run = folder / f"run-{number}"
        run.mkdir(parents=True)
        (run / "summary.json").write_text(json.dumps(told))
        (run / "manifest.json").write_text(json.dumps({"device": "cpu", "command_line": f"qladder train {number}"}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--points", type=int, default=200, help="evaluations of each run")
    parser.add_argument("--json", type=Path, help="file for the report")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qladder-reports-") as place:
        make_up(Path(place) / "runs", args.runs, args.points)
        command = [sys.executable, "-m", "qladder.runners", "report", f"{place}/runs", "--out", f"{place}/out"]
        began = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        lasted = time.monotonic() - began
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        page = (Path(place) / "out" / "report.html").stat().st_size
    told = {"runs": args.runs, "points": args.points, "seconds": lasted, "memory_bytes": memory, "page_bytes": page}
    if args.json is not None:
        write_json(
            args.json, {"command": " ".join(["python benchmarks/reports.py", *sys.argv[1:]]), **told, **provenance()}
        )
    print(json.dumps(told))
    return int(lasted > SECONDS or memory > BYTES or page > PAGE)


if __name__ == "__main__":
    sys.exit(main())
