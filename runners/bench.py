"""Where the time of a DQN run goes on this machine, part by part, and how far the whole is from its arithmetic."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from qladder.agents.networks import multiply_adds, q_network
from qladder.envs.errors import UserError
from qladder.envs.seeding import generator
from qladder.replay.frames import UniformReplay
from qladder.replay.types import Step
from qladder.runners.config import Config, resolve
from qladder.runners.loading import make_agent, make_environment, set_up_torch
from qladder.runners.loop import Ratio, clip, interact
from qladder.runners.memory import check_replay

SETTINGS: dict[str, Any] = {
    "agent": {"epsilon": {"start": 0.1, "end": 0.1, "over": 0}},
    "replay": {"capacity": 100_000},
    "run": {"update_every": 4, "updates": 1},
}


def bench(
    env: str, settings: Mapping[str, Any] | None = None, *, seconds: float = 2.0, rounds: int = 5
) -> dict[str, Any]:
    """Medians over `rounds` of each part, `seconds` a time, in turn: what `qladder bench --json` prints.

    One update of a batch for every four agent steps, at a tenth of random actions. The floor of four agent steps is the
    update's arithmetic at this machine's matrix-product rate (bfloat16 where the learner is `cpu-bf16`), four
    environment steps and four actions; environments step on all cores, so no part is counted twice.

    Raises:
        UserError: an environment of which no pictures come, or settings that do not fit.
    """
    from qladder.runners.settings import merge

    config = resolve("dqn", env, merge(SETTINGS, settings or {}))
    parts = _Parts(config)
    try:
        parts.fill()
        jobs: dict[str, Callable[[], int]] = {
            "matrix_product": parts.matrix_product,
            "environment": parts.environment,
            "acting": parts.acting,
            "sampling": parts.sampling,
            "update": parts.update,
            "loop": parts.loop,
        }
        times: dict[str, list[float]] = {name: [] for name in jobs}
        for _ in range(rounds):
            for name, job in jobs.items():
                times[name].append(_time(job, seconds))
    finally:
        parts.close()
    return _result(config, parts, {name: float(np.median(t)) for name, t in times.items()}, times["loop"])


def table(result: Mapping[str, Any]) -> list[str]:
    """The lines that `qladder bench` prints."""
    ms, share, rate = result["ms"], result["share_of_loop"], result["agent_steps_per_second"]
    gflop, gflops, floor = (result[k] for k in ("gflop_per_update", "matrix_product_gflops", "floor_ms_of_4"))
    return [
        f"dqn on {result['env']}: {result['num_envs']} environments, {result['threads']} threads, {result['learner']}",
        f"  environment {ms['environment']:9.3f} ms per agent step      {share['environment']:4.0%} of the loop",
        f"  acting      {ms['acting']:9.3f} ms per agent step      {share['acting']:4.0%}",
        f"  update      {ms['update']:9.3f} ms each                {share['update']:4.0%}",
        f"  sampling    {ms['sampling']:9.3f} ms of it",
        f"  whole loop  {ms['loop_of_4']:9.3f} ms per 4 agent steps    {rate:,.0f} agent steps/s",
        f"  floor       {floor:9.3f} ms                     the loop reaches {result['share_of_floor']:.0%}",
        f"              ({gflop:.3f} GFLOP at {gflops:,.0f} GFLOP/s, 4 environment steps, 4 actions)",
    ]


class _Parts:
    """The pieces of a run under way; each method does some work and tells how many units it was."""

    def __init__(self, config: Config) -> None:
        device = set_up_torch(config)
        self.env, self._stage = (make_environment(config, batched=True) for _ in range(2))
        self._stage.reset()
        spec = self.env.spec
        if len(spec.obs_shape) != 3:
            raise UserError(f"qladder bench {spec.id}: it is for environments of pictures, such as ALE/Pong-v5")
        check_replay(config.replay, spec)
        self.agent = make_agent(config, spec, device)
        self.learner = getattr(self.agent, "learner", None)
        self.replay = UniformReplay(config.replay, spec, config.agent.gamma, generator(0, "bench"))
        self.num_envs, self._rng = spec.num_envs, np.random.default_rng(0)
        self._actions, self._batch = spec.num_actions or 0, config.replay.batch_size
        ratio = Ratio(4 * self.num_envs, config.run.update_every, config.run.updates)
        self._moments = interact(self.env, self.agent, ratio, config.protocol.clip_rewards)
        network = q_network(config.agent.network, config.agent.hidden, spec, self._actions, torch.Generator())
        macs = multiply_adds(network, torch.zeros(1, *spec.obs_shape, dtype=torch.uint8))
        self.flop = (
            2 * self._batch * (4 * sum(macs) - macs[0])
        )  # two forwards, all weights, all inputs but the pictures
        dtype = torch.bfloat16 if self.learner == "cpu-bf16" else torch.float32
        self._left, self._right = (torch.randn(1024, 1024, device=device).to(dtype) for _ in range(2))
        self._obs: Any = None

    def close(self) -> None:
        """Ends the environments' threads."""
        self.env.close()
        self._stage.close()

    def fill(self) -> None:
        """Some hundred steps in both memories."""
        for moment in self._moments:
            step = moment.time_step
            if self._obs is not None:
                action = np.zeros(self.num_envs, np.int64)
                fields = (clip(step.reward), step.discount, step.last, step.next_obs, None)
                self.replay.add(Step(self._obs, action, *fields))
            self._obs = step.obs
            if moment.agent_steps >= 100 * self.num_envs:
                return

    def matrix_product(self) -> int:
        torch.mm(self._left, self._right)
        self._wait()
        return 1

    def environment(self) -> int:
        self._stage.step(self._rng.integers(self._actions, size=self.num_envs))
        return self.num_envs

    def acting(self) -> int:
        self.agent.act(self._obs, np.zeros(self.num_envs, np.bool_), False)
        return self.num_envs

    def sampling(self) -> int:
        self.replay.sample(self._batch)
        return 1

    def update(self) -> int:
        self.agent.learn(1)
        self._wait()
        return 1

    def loop(self) -> int:
        next(self._moments)
        return self.num_envs

    def _wait(self) -> None:
        if self._left.is_cuda:
            torch.cuda.synchronize()


def _time(job: Callable[[], int], seconds: float) -> float:
    """Milliseconds per unit, after two units of warm-up."""
    job()
    job()
    units, began = 0, time.perf_counter()
    while (lasted := time.perf_counter() - began) < seconds:
        units += job()
    return 1000 * lasted / units


def _result(config: Config, parts: _Parts, ms: Mapping[str, float], loops: list[float]) -> dict[str, Any]:
    gflops = 2 * 1024**3 / ms["matrix_product"] / 1e6
    per_four = {"environment": 4 * ms["environment"], "acting": 4 * ms["acting"], "update": ms["update"]}
    floor = parts.flop / gflops / 1e6 + per_four["environment"] + per_four["acting"]
    loop = 4 * ms["loop"]
    return {
        "env": config.env.id,
        "num_envs": parts.num_envs,
        "learner": parts.learner,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "gflop_per_update": parts.flop / 1e9,
        "matrix_product_gflops": gflops,
        "ms": {**{k: ms[k] for k in ("environment", "acting", "sampling", "update")}, "loop_of_4": loop},
        "share_of_loop": {name: value / loop for name, value in per_four.items()},
        "floor_ms_of_4": floor,
        "share_of_floor": floor / loop,
        "agent_steps_per_second": 1000 / ms["loop"],
        "agent_steps_per_second_of_rounds": [1000 / value for value in loops],
    }
