"""How far bfloat16 gradients are from float32 ones on replayed batches of real games.

python benchmarks/gradients.py [--steps 8000] [--batches 50] [--json] [GAME ...]

A DQN learns for a while in float32; then its TD loss's gradient is taken by both on the same batches with the same
weights, parameter by parameter.
"""

from __future__ import annotations

import argparse
import copy
import json
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from qladder.agents.dqn import DQN
from qladder.agents.networks import QNetwork
from qladder.agents.td import greedy, of_action
from qladder.agents.values import Mean
from qladder.replay.types import Batch
from qladder.runners.config import resolve
from qladder.runners.loading import make_agent, make_environment
from qladder.runners.loop import Ratio, interact

GAMES = ["ALE/Pong-v5", "ALE/Breakout-v5"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("games", nargs="*", metavar="GAME")
    parser.add_argument("--steps", type=int, default=8_000)
    parser.add_argument("--batches", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    told = [row for game in arguments.games or GAMES for row in measure(game, arguments.steps, arguments.batches)]
    if arguments.json:
        print(json.dumps(told, indent=1))
        return
    for row in told:
        print(
            "{game} {parameter:24s} cosine {cosine_median:.6f} (least {cosine_least:.6f}), "
            "relative error {error_median:.4f} (most {error_most:.4f})".format(**row)
        )


def measure(game: str, steps: int, batches: int) -> list[dict[str, Any]]:
    """One row per parameter of the network."""
    config = resolve("dqn", game, {"agent": {"learner": "eager"}, "replay": {"capacity": 20_000}})
    env = make_environment(config, batched=True)
    agent = make_agent(config, env.spec, "cpu")
    assert isinstance(agent, DQN)
    next(islice(interact(env, agent, Ratio(1_000, 4, 1), True), steps // env.spec.num_envs, None))
    env.close()
    exact, low = (copy.deepcopy(agent._online) for _ in range(2))
    low.lower()
    names = [name for name, _ in exact.named_parameters()]
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(batches):
        batch = agent._replay.sample(config.replay.batch_size)
        pairs = zip(names, gradients(exact, agent._target, batch), gradients(low, agent._target, batch), strict=True)
        for name, e, r in pairs:
            cosine = torch.nn.functional.cosine_similarity(e.flatten(), r.flatten(), dim=0)
            rows[name].append((float(cosine), float((e - r).norm() / e.norm())))
    told = []
    for name, values in rows.items():
        cosine, error = torch.tensor(values).T
        told.append(
            {
                "game": game,
                "parameter": name,
                "cosine_median": float(cosine.median()),
                "cosine_least": float(cosine.min()),
                "error_median": float(error.median()),
                "error_most": float(error.max()),
            }
        )
    return told


def gradients(network: QNetwork, target: QNetwork, batch: Batch) -> list[Tensor]:
    mean = Mean("huber")
    obs, next_obs, action, reward, discount = (
        torch.as_tensor(a) for a in (batch.obs, batch.next_obs, batch.action, batch.reward, batch.discount)
    )
    with torch.no_grad():
        next_q = target(next_obs)
        goal = mean.target(next_q, greedy(mean.mean(next_q)), reward, discount)
    network.zero_grad(set_to_none=True)
    torch.autograd.backward(mean.loss(of_action(network(obs), action), goal, None).loss.mean())
    return [p.grad.clone() for p in network.parameters() if p.grad is not None]


if __name__ == "__main__":
    main()
