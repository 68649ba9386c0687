"""What checkpoints of a full Atari replay take: `python benchmarks/checkpoints.py [ENV] [--capacity 1000000]`.

The replay is filled with frames of real games, played at random. The first checkpoint writes all of it; then more is
played, spooled as a run spools it, and saved again, a few times; at last the state is loaded into an empty replay.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from qladder.replay.frames import FrameReplay
from qladder.replay.types import Step
from qladder.runners import checkpoint
from qladder.runners.config import resolve
from qladder.runners.loading import make_environment
from qladder.runners.run_folder import provenance
from qladder.runners.segments import Segments
from qladder.runners.training import SPOOL_EVERY


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("env", nargs="?", default="ALE/Pong-v5")
    parser.add_argument("--capacity", type=int, default=1_000_000)
    parser.add_argument("--more", type=int, default=100_000, help="agent steps from one checkpoint to the next")
    parser.add_argument("--again", type=int, default=3, help="checkpoints after the first")
    args = parser.parse_args()
    config = resolve("dqn", args.env, {"replay": {"capacity": args.capacity}})
    env, rng = make_environment(config, True), np.random.default_rng(0)
    spec, obs = env.spec, env.reset()
    assert spec.num_actions is not None
    replay, empty = (FrameReplay(config.replay, spec, 0.99, np.random.default_rng(0)) for _ in range(2))

    def play(agent_steps: int) -> None:
        nonlocal obs
        for _ in range(agent_steps // spec.num_envs):
            action = rng.integers(spec.num_actions, size=spec.num_envs)
            time_step = env.step(action)
            replay.add(Step(obs, action, time_step.reward, time_step.discount, time_step.last, time_step.next_obs))
            obs = time_step.obs

    with tempfile.TemporaryDirectory(prefix="qladder-checkpoints-") as folder:
        run, segments = Path(folder), Segments(Path(folder) / "checkpoints")
        play(args.capacity)
        began = time.monotonic()
        checkpoint.save(run, 0, {"agent": {"replay": replay.state_dict()}}, segments)
        result = {"first_seconds": time.monotonic() - began, "later_seconds": [], "spooling_seconds": []}
        for number in range(1, args.again + 1):
            spooling = 0.0
            for _ in range(args.more // SPOOL_EVERY):
                play(SPOOL_EVERY)
                began = time.monotonic()
                segments.spool({"agent": {"replay": replay.state_dict()}})
                spooling += time.monotonic() - began
            began = time.monotonic()
            path = checkpoint.save(run, number, {"agent": {"replay": replay.state_dict()}}, segments)
            result["later_seconds"].append(time.monotonic() - began)
            result["spooling_seconds"].append(spooling)
        on_disk = sum(file.stat().st_size for file in run.rglob("*") if file.is_file())
        began = time.monotonic()
        empty.load_state_dict(checkpoint.load(path)["agent"]["replay"])
        result["load_seconds"] = time.monotonic() - began
        one, other = replay.sample(64), empty.sample(64)
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    command = "python benchmarks/checkpoints.py " + " ".join(sys.argv[1:])
    sizes = {"replay_bytes": replay.nbytes, "disk_bytes": on_disk, "capacity": args.capacity, "more": args.more}
    print(json.dumps({"command": command, **sizes, **result, **provenance()}, indent=1))


if __name__ == "__main__":
    main()
