"""What the first updates make of a network: units that fall silent, and how far states' values come apart.

`python benchmarks/first_updates.py [--seeds K] [--json F]`: Rainbow on Pong by its preset, and without what the preset
adds, learns from one random game of 6,000 agent steps. Units that fall silent are a run's dormant ones.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from qladder.agents.dqn import DQN
from qladder.envs.seeding import generator
from qladder.replay.types import Step
from qladder.runners.config import Config, resolve
from qladder.runners.device import set_up_torch
from qladder.runners.loading import make_agent, make_environment
from qladder.runners.run_folder import provenance

PRESET = Path("pong-rainbow")
PLAIN = {"mean_image": False, "pixel_scale": 255.0}
ARMS: dict[str, dict[str, Any]] = {
    "as the preset": {},
    "one mean for all pixels": PLAIN,
    "wide at first": {"begin_std": "none"},
    "neither": {**PLAIN, "begin_std": "none"},
    "neither, means instead of distributions": {**PLAIN, "begin_std": "none", "distribution": "mean"},
}
LOOKS = (1, 100, 500)  # updates
STEPS = 750  # of each environment
SHOWN = 200  # observations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = [row for seed in range(arguments.seeds) for row in looked(seed)]
    for name in ARMS:
        for updates in LOOKS:
            of = [row for row in rows if (row["arm"], row["updates"]) == (name, updates)]
            dormant, spread = ([row[key] for row in of] for key in ("dormant", "spread"))
            told = " ".join(f"{share:.2f}" for share in dormant)
            print(f"{name}, {updates} updates: dormant {told}, spread of values {' '.join(f'{s:.3f}' for s in spread)}")
    if arguments.json:
        what = {"command": f"python benchmarks/first_updates.py --seeds {arguments.seeds}", **provenance()}
        arguments.json.write_text(json.dumps({**what, "rows": rows}, indent=1) + "\n")


def looked(seed: int) -> Iterator[dict[str, Any]]:
    """For each arm and look the share of dormant units, and the standard deviation of states' values."""
    configs = {name: resolve(None, None, {"agent": arm, "run": {"seed": seed}}, PRESET) for name, arm in ARMS.items()}
    game = list(random_game(configs["as the preset"]))
    for name, config in configs.items():
        set_up_torch(config)
        env = make_environment(config, batched=True)
        agent = make_agent(config, env.spec, "cpu")
        env.close()
        assert isinstance(agent, DQN)
        for step in game:
            agent.observe(step)
        shown = generator(seed, "shown").choice(len(game), size=SHOWN)
        obs = np.concatenate([game[i].obs[:1] for i in shown])
        done = 0
        for updates in LOOKS:
            agent.learn(updates - done)
            done = updates
            yield {
                "seed": seed,
                "arm": name,
                "updates": updates,
                "dormant": float(agent.health()["health/dormant"]),
                "spread": float(agent.values(obs).max(1).values.std()),
            }


def random_game(config: Config) -> Iterator[Step]:
    """By actions that are drawn evenly."""
    env = make_environment(config, batched=True)
    rng, obs = generator(config.run.seed, "play"), env.reset()
    for _ in range(STEPS):
        action = rng.integers(env.spec.num_actions or 0, size=env.spec.num_envs)
        got = env.step(action)
        yield copy.deepcopy(Step(obs, action, got.reward, got.discount, got.last, got.next_obs))
        obs = got.obs
    env.close()


if __name__ == "__main__":
    main()
