"""Agent steps per second of whole training loops, agents in turn: `python benchmarks/rates.py ENV AGENT AGENT ...`.

Each at its shipped settings but for the protocol, a replay of 100,000 and a tenth of random actions; from one time of
learning to another, so that what is learnt from and what is learnt are whole.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from qladder.runners.config import resolve
from qladder.runners.device import set_up_torch
from qladder.runners.loading import make_agent, make_environment
from qladder.runners.loop import Moment, Ratio, interact
from qladder.runners.run_folder import provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("env")
    parser.add_argument("agents", nargs="+", help="the others are compared with the first")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each agent in each round, at least")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 is one per core")
    args = parser.parse_args()
    loops = {name: _moments(name, args.env, args.threads) for name in args.agents}
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(args.rounds):
        for name, moments in loops.items():
            rates[name].append(_rate(moments, args.seconds))
            print(f"{name}: {rates[name][-1]:.0f} agent steps/s", file=sys.stderr)
    first = np.array(rates[args.agents[0]])
    result = {
        "command": "python benchmarks/rates.py " + " ".join(sys.argv[1:]),
        **provenance(),
        "steps_per_second": {name: float(np.median(r)) for name, r in rates.items()},
        "ratios": {name: (np.array(r) / first).tolist() for name, r in rates.items()},
    }
    print(json.dumps(result, indent=1))


def _moments(name: str, env_id: str, threads: int) -> Iterator[Moment]:
    """A run under way, just after a time of learning."""
    tenth = {"start": 0.1, "end": 0.1, "over": 0}
    settings: dict[str, Any] = {"env": {"protocol": "nature-2015"}, "run": {"threads": threads}}
    config = resolve(name, env_id, settings)
    if not getattr(config.agent, "noisy", False):
        settings["agent"] = {"epsilon": tenth}
    if config.replay is not None:
        settings["replay"] = {"capacity": 100_000}
    config = resolve(name, env_id, settings)
    device = set_up_torch(config)
    env = make_environment(config, batched=True)
    agent = make_agent(config, env.spec, device)
    print(f"{name}: learner {getattr(agent, 'learner', None)}, {env.spec.num_envs} environments", file=sys.stderr)
    start = 0 if config.replay is None else 800
    moments = interact(env, agent, Ratio(start, config.run.update_every, config.run.updates), True)
    _until_learning(moments)
    return moments


def _rate(moments: Iterator[Moment], seconds: float) -> float:
    begun, began = _until_learning(moments), time.perf_counter()
    while True:
        at = _until_learning(moments)
        lasted = time.perf_counter() - began
        if lasted >= seconds:
            return (at - begun) / lasted


def _until_learning(moments: Iterator[Moment]) -> int:
    return next(moment.agent_steps for moment in moments if moment.metrics is not None)


if __name__ == "__main__":
    main()
