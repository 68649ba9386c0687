"""Runs killed at random instants and resumed, against runs that were never killed.

python benchmarks/kills.py [NAME ...] [--kills 300] [--seed 0] [--json FILE]

Every start of `qladder train` is a process of its own; it gets SIGKILL at a random instant, from its first line of code
to its last, and is resumed until the run is finished. Its measurements (all but `time/`), its last checkpoint and its
final evaluation must then be those of the undisturbed run, bit for bit; if so, another run begins, until so many kills
have been made. On Atari, where the protocol's final evaluation takes minutes, a run is over with its last checkpoint.
The exit status is 1 where one run diverged or could not go on.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qladder.runners import checkpoint
from qladder.runners.run_folder import provenance, write_json
from qladder.runners.verify import differences, measurements

PIXELS = (
    "--env.protocol nature-full-games --agent.hidden 32 --replay.capacity 1500 --run.learning_starts 600 "
    "--run.eval-every 100000 --run.threads 1 --steps 2000"
)
COMMANDS = {
    "table": "q-learning Taxi-v4 --steps 60000",
    "traces": "q-lambda CliffWalking-v1 --steps 30000",
    "tiles": "linear-sarsa MountainCar-v0 --steps 30000",
    "dqn": "dqn CartPole-v1 --steps 3000 --env.num-envs 1",
    "dqn-8": "dqn CartPole-v1 --steps 6000 --env.num-envs 8",
    "rainbow": "rainbow CartPole-v1 --steps 2500",
    "r2d2": "r2d2 CartPole-v1 --steps 3000",
    "pqn": "pqn CartPole-v1 --steps 20000",
    "pong": f"dqn ALE/Pong-v5 --env.num-envs 1 {PIXELS}",
    "pong-8": f"dqn ALE/Pong-v5 --env.num-envs 8 {PIXELS}",
    "breakout-8": f"rainbow ALE/Breakout-v5 --env.num-envs 8 {PIXELS}",
}
CHECKPOINTS = 12  # of a run
LIMIT = 600.0  # seconds of one start


class Row(NamedTuple):
    """What became of the runs of one command."""

    name: str
    command: str
    kills: int
    in_training: int  # kills after the first measurement
    runs: int
    divergent: int
    lost: int  # could not go on, or began from nothing though a checkpoint was there
    seconds: float


def start(words: list[str], out: Path, kill_after: float | None, last: Path | None = None) -> int | None:
    """The exit status of one start, None where it was killed in time; 0 also once the checkpoint `last` is there."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (out / "log.txt").open("a", encoding="utf-8") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "qladder.runners", "train", *words], stdout=log, stderr=log, env=environment
        )
        end = time.monotonic() + (LIMIT if kill_after is None else kill_after)
        while (left := end - time.monotonic()) > 0 and not (last is not None and last.exists()):
            try:
                return child.wait(left if last is None else min(left, 0.1))
            except subprocess.TimeoutExpired:
                pass
        done = last is not None and last.exists()
        child.kill()
        child.wait()
        return 0 if done else None


def resumed_at(run: Path) -> str | None:
    """The checkpoint that the run was resumed from last, and exactly."""
    last = json.loads((run / "manifest.json").read_text(encoding="utf-8")).get("resumed", [{"exact": False}])[-1]
    return f"step-{last['agent_steps']:012d}" if last["exact"] else None


def alike(one: Path, other: Path) -> bool:
    """Whether two finished runs are the same run."""
    newest = [checkpoint.checkpoints(run)[0] for run in (one, other)]
    ends = [run / "summary.json" for run in (one, other)]
    scores = [json.loads(end.read_text(encoding="utf-8"))["evaluation"] if end.exists() else None for end in ends]
    same = newest[0].name == newest[1].name and not differences(*newest)
    return same and measurements(one) == measurements(other) and scores[0] == scores[1]


def torture(name: str, kills: int, rng: np.random.Generator) -> Row:
    """Kills runs of one command until it was done so often."""
    began = time.monotonic()
    words = COMMANDS[name].split()
    steps = int(words[words.index("--steps") + 1])
    words += ["--run.checkpoint-every", str(steps // CHECKPOINTS), "--run.log-every", str(steps // 50), "--name", "run"]
    made = in_training = runs = divergent = lost = 0
    with tempfile.TemporaryDirectory(prefix="qladder-kills-") as folder:
        whole, cut = Path(folder) / "whole", Path(folder) / "cut"
        whole.mkdir()
        ends = [
            place / "run" / "checkpoints" / f"step-{steps:012d}" if "ALE/" in words[1] else None
            for place in (whole, cut)
        ]
        before = time.monotonic()
        if start([*words, "--out", str(whole)], whole, None, ends[0]) != 0:
            raise SystemExit((whole / "log.txt").read_text(encoding="utf-8"))
        span = time.monotonic() - before
        while made < kills:
            shutil.rmtree(cut, ignore_errors=True)
            cut.mkdir()
            status = None
            while status is None:
                more = made < kills
                before = checkpoint.checkpoints(cut / "run")[:1]
                finished = (cut / "run" / "summary.json").exists()  # killed when all was done: it is left as it is
                after = rng.uniform(0, span) if more else None
                status = start([*words, "--out", str(cut), "--resume"], cut, after, ends[1])
                made += status is None
                in_training += status is None and (cut / "run" / "metrics.jsonl").is_file()
                lost += bool(before) and not checkpoint.checkpoints(cut / "run")
            runs += 1
            if status == 0 and before and not finished and resumed_at(cut / "run") != before[0].name:
                lost += 1  # it began elsewhere than at its newest checkpoint
            if status != 0:
                lost += 1
                print((cut / "log.txt").read_text(encoding="utf-8"), file=sys.stderr)
            elif not alike(whole / "run", cut / "run"):
                divergent += 1
    return Row(name, COMMANDS[name], made, in_training, runs, divergent, lost, round(time.monotonic() - began, 1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(COMMANDS)}; by default all")
    parser.add_argument("--kills", type=int, default=300, help="in all, shared by the commands")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the report")
    args = parser.parse_args()
    if unknown := set(args.names) - COMMANDS.keys():
        parser.error(f"no such commands: {', '.join(sorted(unknown))}")
    names = args.names or list(COMMANDS)
    rows = []
    for number, name in enumerate(names):
        kills = args.kills // len(names) + (number < args.kills % len(names))
        rows.append(torture(name, kills, np.random.default_rng([args.seed, number])))
        print(f"{rows[-1]}", file=sys.stderr, flush=True)
    totals = {
        key: sum(getattr(row, key) for row in rows) for key in ("kills", "in_training", "runs", "divergent", "lost")
    }
    command = "python benchmarks/kills.py " + " ".join(sys.argv[1:])
    report = {"command": command, **totals, "rows": [row._asdict() for row in rows], **provenance()}
    if args.json is not None:
        write_json(args.json, report)
    print(json.dumps(totals))
    return int(bool(totals["divergent"] or totals["lost"]))


if __name__ == "__main__":
    sys.exit(main())
