"""How near to the ideal a suite keeps its cores at work: python benchmarks/packing.py [--steps N] [--json FILE].

Sixteen equal runs on one core each, two side by side. The ideal is eight times what two of them take that are started
by hand at the same time, measured before and after. `qladder suite` is timed as a whole: planning, the runs, the
report. The exit status is 1 where it takes more than 1.1 times the ideal.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from qladder.runners.jobs import single_threaded
from qladder.runners.run_folder import provenance, write_json

SUITE = """
summary = "sixteen equal runs"
seeds = 16
[[task]]
agent = "dqn"
env = "CartPole-v1"
steps = {}
settings.run = {{ eval_every = 1_000_000 }}
"""
SIDE_BY_SIDE, RUNS, BAR = 2, 16, 1.1


def by_hand(place: Path, steps: int, name: str) -> float:
    """Seconds of two runs at the same time."""
    began = time.monotonic()
    words = ["train", "dqn", "CartPole-v1", "--steps", str(steps), "--run.eval-every", "1000000", "--run.threads", "1"]
    command = [sys.executable, "-m", "qladder.runners", *words, "--out", str(place), "--json"]
    two = [
        subprocess.Popen(
            [*command, "--seed", str(seed), "--name", f"{name}-{seed}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for seed in range(SIDE_BY_SIDE)
    ]
    if any(process.wait() for process in two):
        raise SystemExit("a run by hand failed")
    return time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=25_000, help="agent steps of each run")
    parser.add_argument("--json", type=Path, help="file for the report")
    args = parser.parse_args()
    os.environ.update(single_threaded())
    with tempfile.TemporaryDirectory(prefix="qladder-packing-") as place:
        folder = Path(place)
        (folder / "s.toml").write_text(SUITE.format(args.steps))
        hand = [by_hand(folder, args.steps, "before")]
        began = time.monotonic()
        words = ["suite", str(folder / "s.toml"), "--jobs", str(SIDE_BY_SIDE), "--out", str(folder / "suite"), "--json"]
        subprocess.run([sys.executable, "-m", "qladder.runners", *words], check=True, stdout=subprocess.DEVNULL)
        took = time.monotonic() - began
        hand.append(by_hand(folder, args.steps, "after"))
    ideal = RUNS / SIDE_BY_SIDE * sum(hand) / len(hand)
    told = {"runs": RUNS, "seconds": took, "two_by_hand": hand, "ideal_seconds": ideal, "ratio": took / ideal}
    if args.json is not None:
        command_line = " ".join(["python benchmarks/packing.py", *sys.argv[1:]])
        write_json(args.json, {"command": command_line, **told, **provenance()})
    print(json.dumps(told))
    return int(took > BAR * ideal)


if __name__ == "__main__":
    sys.exit(main())
