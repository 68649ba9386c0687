"""A long run on a real Atari game, watched from outside: python benchmarks/soak.py [--minutes 45] [--json FILE].

One process of `qladder train` plays Pong and learns, with checkpoints, evaluations and health as often as they come in
days of a run, then gets SIGTERM. Once its replay is full, memory, open files, threads and agent
steps per second of the last quarter are compared with those of the first. The exit status is 1 where memory grew by
more than 1 %, files or threads by one, speed fell by more than 3 %, or it took over 20 seconds to save and end.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from memory import growth

from qladder.runners.checkpoint import checkpoints
from qladder.runners.run_folder import provenance, write_json

COMMAND = (  # a constant share of random actions, so that steps cost the same throughout
    "dqn ALE/Pong-v5 --steps 100000000 --seed 0 --agent.epsilon 0.1 --replay.capacity 50000 --run.learning-starts 5000 "
    "--run.log-every 1000 --run.health-every 5000 --run.checkpoint-every 20000 --run.eval-every 50000 --name run"
)
FULL = 60_000  # agent steps after which the replay is full, and evaluations and checkpoints have come at least once
PERIOD = 5.0  # seconds between two looks
SAVED_WITHIN = 20.0  # seconds from SIGTERM


def watch(folder: Path, minutes: float) -> tuple[list[tuple[float, ...]], float]:
    """What was seen: seconds, bytes of memory, files, threads, bytes of the folder; and how long the end took."""
    seen = []
    command = [sys.executable, "-m", "qladder.runners", "train", *COMMAND.split(), "--out", str(folder)]
    with (folder / "log.txt").open("w") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)
    began = time.monotonic()
    process = Path("/proc") / str(child.pid)
    while (lasted := time.monotonic() - began) < minutes * 60:
        time.sleep(PERIOD)
        if child.poll() is not None:
            raise SystemExit((folder / "log.txt").read_text())
        pages = int((process / "statm").read_text().split()[1])
        files, threads = (len(list((process / name).iterdir())) for name in ("fd", "task"))
        size = sum(path.stat().st_size for path in list(folder.rglob("*")) if path.is_file())
        seen.append((lasted, pages * resource.getpagesize(), files, threads, size))
    child.send_signal(signal.SIGTERM)
    stopped = time.monotonic()
    status = child.wait(10 * SAVED_WITHIN)
    if status != 143:
        raise SystemExit(f"it ended with {status}: {(folder / 'log.txt').read_text()}")
    return seen, time.monotonic() - stopped


def quarters(values: Any) -> tuple[float, float]:
    """The medians of the first quarter and of the last."""
    quarter = len(values) // 4
    return float(np.median(values[:quarter])), float(np.median(values[-quarter:]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--json", type=Path, help="file for the report")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qladder-soak-") as place:
        folder = Path(place)
        seen, ending = watch(folder, args.minutes)
        records = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
        memory, newest = growth(folder / "run"), checkpoints(folder / "run")[0].name
    logged = [r for r in records if "time/steps_per_second" in r and r["agent_steps"] > FULL]
    if memory is None or len(logged) < 8:
        raise SystemExit("too short: its replay was not full long enough")
    full_at = next(r["time/seconds"] for r in logged)
    late = np.array([row for row in seen if row[0] > full_at])
    rates = [r["time/steps_per_second"] for r in logged]
    names = sorted({name for r in logged for name in r if name.startswith("time/share_")})
    told = {
        "agent_steps": records[-1]["agent_steps"],
        "newest_checkpoint": newest,
        "memory": memory,
        **{
            name: quarters(late[:, 1 + i])
            for i, name in enumerate(("resident_bytes", "files", "threads", "folder_bytes"))
        },
        "most_files": late[:, 2].max(),
        "most_threads": late[:, 3].max(),
        "steps_per_second": quarters(rates),
        "shares": {name.removeprefix("time/share_"): np.mean([r.get(name, 0.0) for r in logged]) for name in names},
        "seconds_from_sigterm": ending,
    }
    bars = {
        "memory": told["resident_bytes"][1] <= 1.01 * told["resident_bytes"][0],
        "files": told["files"][1] <= told["files"][0],
        "threads": told["threads"][1] <= told["threads"][0],
        "speed": told["steps_per_second"][1] >= 0.97 * told["steps_per_second"][0],
        "ending": ending <= SAVED_WITHIN,
    }
    command = " ".join(["python benchmarks/soak.py", *sys.argv[1:]])
    report = {"command": command, "run": COMMAND, "minutes": args.minutes, **told, "within": bars, **provenance()}
    if args.json is not None:
        write_json(args.json, report)
    print(json.dumps({**told, "within": bars}))
    return int(not all(bars.values()))


if __name__ == "__main__":
    sys.exit(main())
