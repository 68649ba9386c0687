"""Whether a run's memory grows once its replay is full: `python benchmarks/memory.py RUN [--json]`.

Reads `time/memory_gb` from the run's metrics, which `qladder train` samples every `run.log_every` agent steps.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from qladder.runners.config import resolve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = growth(arguments.run)
    if result is None:
        raise SystemExit(f"{arguments.run}: 8 samples after its replay was full are needed")
    if arguments.json:
        print(json.dumps(result))
    else:
        print(
            "{run}: over {steps_after_full:,} agent steps after the replay was full, {samples} samples".format(**result)
        )
        print(
            "median MB {first_quarter_mb:.1f} in the first quarter, {last_quarter_mb:.1f} in the last".format(**result)
        )
        print("least {least_mb:.1f} MB, most {most_mb:.1f} MB".format(**result))


def growth(run: Path) -> dict[str, Any] | None:
    """Megabytes early and late among the samples after a run's replay was full; None below 8 samples."""
    config = resolve(None, None, {}, run / "config.toml")
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    told = [(r["agent_steps"], 1000 * r["time/memory_gb"]) for r in records if "time/memory_gb" in r]
    # an episode of T steps takes T + 1 slots, so the replay is full a little before as many steps
    full = [(steps, mb) for steps, mb in told if config.replay is not None and steps >= config.replay.capacity]
    if len(full) < 8:
        return None
    steps, mb = np.array(full).T
    quarter = len(mb) // 4
    return {
        "run": run.name,
        "steps_after_full": int(steps[-1] - steps[0]),
        "samples": len(mb),
        "first_quarter_mb": float(np.median(mb[:quarter])),
        "last_quarter_mb": float(np.median(mb[-quarter:])),
        "least_mb": float(mb.min()),
        "most_mb": float(mb.max()),
    }


if __name__ == "__main__":
    main()
