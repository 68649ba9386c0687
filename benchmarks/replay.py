"""Memory and sampling time of a replay of Atari transitions, plain and compressed, filled by random play.

python benchmarks/replay.py [--transitions 1000000] [--compression none deflate] [--json] [GAME ...]
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch

from qladder.envs.seeding import generator
from qladder.replay.frames import FrameReplay
from qladder.replay.types import Step
from qladder.runners.config import resolve
from qladder.runners.loading import make_environment
from qladder.runners.memory import available, check_replay, resident

GAMES = ["ALE/Pong-v5", "ALE/Breakout-v5", "ALE/MsPacman-v5"]
BATCHES = 2_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("games", nargs="*", default=GAMES, metavar="GAME")
    parser.add_argument("--transitions", type=int, default=1_000_000)
    parser.add_argument("--compression", nargs="+", choices=["none", "deflate"], default=["none", "deflate"])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    told = []
    for game in arguments.games or GAMES:
        for compression in arguments.compression:
            told.append(measure(game, compression, arguments.transitions))
            if not arguments.json:
                print(line(told[-1]), flush=True)
    if arguments.json:
        print(json.dumps(told, indent=1))


def measure(game: str, compression: str, transitions: int) -> dict[str, Any]:
    """Fills a replay for 8 environments until it is full; times adding and sampling in milliseconds, on one thread."""
    settings = {"replay": {"capacity": transitions, "compression": compression}, "env": {"protocol": "nature-2015"}}
    config = resolve("dqn", game, settings)
    env = make_environment(config, batched=True)
    check_replay(config.replay, env.spec, limit=available())
    rng, n = np.random.default_rng(0), env.spec.num_envs
    before = resident()
    replay = FrameReplay(config.replay, env.spec, config.agent.gamma, generator(0, "replay"))
    obs, adding = env.reset(), 0.0
    for _ in range(transitions // n):
        action = rng.integers(env.spec.num_actions, size=n)
        step = env.step(action)
        began = time.perf_counter()
        replay.add(Step(obs, action, step.reward, step.discount, step.last, step.next_obs, None))
        adding += time.perf_counter() - began
        obs = step.obs
    env.close()
    times = []
    for _ in range(BATCHES):
        began = time.perf_counter()
        replay.sample(config.replay.batch_size)
        times.append(time.perf_counter() - began)
    return {
        "game": game,
        "compression": compression,
        "transitions": len(replay),
        "counted_gb": replay.nbytes / 1e9,
        "resident_gb": (resident() - before) / 1e9,
        "adding_ms_per_step": 1000 * adding / (transitions // n * n),
        "sampling_ms_median": 1000 * float(np.median(times)),
        "batch_size": config.replay.batch_size,
    }


def line(m: dict[str, Any]) -> str:
    return (
        f"{m['game']} {m['compression']}: {m['transitions']:,} transitions, {m['counted_gb']:.2f} GB counted, "
        f"{m['resident_gb']:.2f} GB resident; adding {m['adding_ms_per_step']:.4f} ms a step, "
        f"sampling {m['batch_size']} in {m['sampling_ms_median']:.3f} ms"
    )


if __name__ == "__main__":
    main()
