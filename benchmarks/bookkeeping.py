"""How much of the bare textbook loop's rate a run keeps: `python benchmarks/bookkeeping.py`.

The bare loop chooses, steps and updates with the same arithmetic, and does nothing else; the run is `train` with its
logging, evaluation and checkpoints. Both are measured in turn, several times, in this one process.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time

import gymnasium
import numpy as np

from qladder.envs.tiles import TileCoder
from qladder.runners import train

ROUNDS = 5


def bare_table(steps: int) -> float:
    """Agent steps per second of Q-learning on FrozenLake in a textbook's few lines."""
    env = gymnasium.make("FrozenLake-v1", disable_env_checker=True)
    rng = np.random.default_rng(0)
    q = np.ones((16, 4))
    state, _ = env.reset(seed=0)
    started = time.perf_counter()
    for _ in range(steps):
        action = int(rng.integers(4)) if rng.random() < 0.1 else int(q[state].argmax())
        next_state, reward, terminated, truncated, _ = env.step(action)
        q[state, action] += 0.1 * (reward + 0.99 * (not terminated) * q[next_state].max() - q[state, action])
        state = env.reset()[0] if terminated or truncated else next_state
    return steps / (time.perf_counter() - started)


def bare_tiles(steps: int) -> float:
    """Agent steps per second of linear Q-learning with tile coding on CartPole, likewise."""
    env = gymnasium.make("CartPole-v1", disable_env_checker=True)
    rng = np.random.default_rng(0)
    coder = TileCoder([-2.4, -2.0, -0.21, -2.5], [2.4, 2.0, 0.21, 2.5], 8, 16, 262_144)
    weights = [[0.0] * coder.num_features for _ in range(2)]
    active = coder(env.reset(seed=0)[0])
    started = time.perf_counter()
    for _ in range(steps):
        values = [sum(w[i] for i in active) for w in weights]
        action = int(rng.integers(2)) if rng.random() < 0.1 else values.index(max(values))
        obs, reward, terminated, truncated, _ = env.step(action)
        following = coder(obs)
        best = 0.0 if terminated else max(sum(w[i] for i in following) for w in weights)
        change = 0.1 / 16 * (float(reward) + 0.99 * best - values[action])
        for i in active:
            weights[action][i] += change
        active = coder(env.reset()[0]) if terminated or truncated else following
    return steps / (time.perf_counter() - started)


def run(agent: str, env: str, steps: int) -> float:
    """Agent steps per second of a run, by its own clock."""
    settings = {"run": {"steps": steps, "episodes": "none"}}
    if agent == "q-learning":
        settings["agent"] = {"step_size": 0.1, "step_size_power": 0.0}
    with tempfile.TemporaryDirectory() as out:
        result = train(agent, env, settings=settings, out=out)
    return steps / result["seconds"]


def main() -> None:
    """Prints one JSON object: rates (median) and the ratio run / bare of each round."""
    table = {}
    for name, bare, agent, env, steps in (
        ("FrozenLake-v1 table", bare_table, "q-learning", "FrozenLake-v1", 150_000),
        ("CartPole-v1 tiles", bare_tiles, "linear-q", "CartPole-v1", 40_000),
    ):
        pairs = [(run(agent, env, steps), bare(steps)) for _ in range(ROUNDS)]
        ratios = sorted(a / b for a, b in pairs)
        table[name] = {
            "run_steps_per_second": statistics.median(a for a, _ in pairs),
            "bare_steps_per_second": statistics.median(b for _, b in pairs),
            "ratio": statistics.median(ratios),
            "ratio_range": [ratios[0], ratios[-1]],
        }
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
