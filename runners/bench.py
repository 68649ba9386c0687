"""Where the time of a DQN run goes on this machine, part by part, and how far the whole is from its arithmetic."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from qladder.agents.networks import multiply_adds, q_network
from qladder.envs.errors import UserError
from qladder.envs.seeding import generator
from qladder.replay.frames import FrameReplay
from qladder.replay.types import Step
from qladder.runners.config import Config, resolve
from qladder.runners.device import flushed_denormals, set_up_torch
from qladder.runners.loading import make_agent, make_environment
from qladder.runners.loop import Ratio, clip, interact
from qladder.runners.memory import available, check_replay
from qladder.runners.run_folder import provenance

SETTINGS: dict[str, Any] = {
    "env": {"protocol": "nature-2015"},
    "agent": {"epsilon": {"start": 0.1, "end": 0.1, "over": 0}},
    "replay": {"capacity": 100_000},
    "run": {"update_every": 4, "updates": 1, "device": "cpu"},
}


def bench(
    env: str, settings: Mapping[str, Any] | None = None, *, seconds: float = 2.0, rounds: int = 5, peers: bool = False
) -> dict[str, Any]:
    """Medians over `rounds` of each part, `seconds` a time, in turn: what `qladder bench --json` prints.

    By default one update of a batch for every four agent steps, at a tenth of random actions. The floor of four agent
    steps is their updates' arithmetic at this machine's matrix-product rate (bfloat16 where the learner is
    `cpu-bf16`), four environment steps and four actions; environments step on all cores, so no part is counted twice.
    `peers` take their turns in the same rounds, four times as long, since they do whole updates at a fraction of the
    rate.

    Raises:
        UserError: an environment of which no pictures come, settings that do not fit, or peers that are not installed.
    """
    from qladder.runners.settings import merge

    config = resolve("dqn", env, merge(SETTINGS, settings or {}))
    others = _peers(config) if peers else {}
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
            **{name: peer.loop for name, peer in others.items()},
        }
        times: dict[str, list[float]] = {name: [] for name in jobs}
        with flushed_denormals(config):
            for _ in range(rounds):
                for name, job in jobs.items():
                    times[name].append(_time(job, 4 * seconds if name in others else seconds))
    finally:
        parts.close()
        for peer in others.values():
            peer.close()
    return {**_result(config, parts, times), "peers": {name: _against(times, name) for name in others}}


def table(result: Mapping[str, Any]) -> list[str]:
    """The lines that `qladder bench` prints."""
    parts, rate, updates = (result[k] for k in ("parts", "steps_per_second", "updates_per_4_steps"))
    count = f"{updates:g} update{'' if updates == 1 else 's'}"
    gflop, gflops, floor = (result[k] for k in ("gflop_per_update", "matrix_product_gflops", "floor_ms_of_4"))
    units = {"environment": "per agent step", "acting": "per agent step", "update": "each", "sampling": "of it"}
    lines = [
        f"dqn on {result['env']}: {result['num_envs']} environments, {result['threads']} threads, {result['learner']}"
    ]
    for name, unit in units.items():
        lines.append(
            f"  {name:11s} {parts[name]['ms']:9.3f} ms {unit:18s} {parts[name]['share_of_loop']:4.0%} of the loop"
        )
    return [
        *lines,
        f"  whole loop  {parts['loop']['ms']:9.3f} ms per 4 agent steps  {rate:,.0f} agent steps/s",
        f"  floor       {floor:9.3f} ms                     the loop reaches {parts['loop']['share_of_floor']:.0%}",
        f"              ({count} of {gflop:.3f} GFLOP at {gflops:,.0f} GFLOP/s, 4 environment steps, 4 actions)",
        *(
            f"{name}: {peer['steps_per_second']:,.0f} agent steps/s; qladder is {peer['ratio']:.2f} times as fast "
            f"[{min(peer['ratios']):.2f}, {max(peer['ratios']):.2f}]"
            for name, peer in result["peers"].items()
        ),
    ]


class _Parts:
    """The pieces of a run under way; each method does some work and tells how many units it was."""

    def __init__(self, config: Config) -> None:
        if set_up_torch(config) != "cpu":
            raise UserError("qladder bench: its floor and its peers are a CPU's; --device cpu works")
        self.env, self._stage = (make_environment(config, batched=True) for _ in range(2))
        self._stage.reset()
        spec = self.env.spec
        if len(spec.obs_shape) != 3:
            raise UserError(f"qladder bench {spec.id}: it is for environments of pictures, such as ALE/Pong-v5")
        if config.agent.distribution == "implicit-quantile":
            raise UserError("qladder bench: the floor of implicit quantiles is not reckoned; other distributions work")
        check_replay(config.replay, spec, limit=available())
        self.agent = make_agent(config, spec, "cpu")
        self.learner = getattr(self.agent, "learner", None)
        self.replay = FrameReplay(config.replay, spec, config.agent.gamma, generator(0, "bench"))
        self.num_envs, self._rng = spec.num_envs, np.random.default_rng(0)
        self._actions, self._batch = spec.num_actions or 0, config.replay.batch_size
        ratio = Ratio(4 * self.num_envs, config.run.update_every, config.run.updates)
        self._moments = interact(self.env, self.agent, ratio, config.protocol.clip_rewards)
        network = q_network(config.agent, spec, self._actions, torch.Generator())
        macs = multiply_adds(network, torch.zeros(1, *spec.obs_shape, dtype=torch.uint8))
        self.flop = (
            2 * self._batch * (4 * sum(macs) - macs[0])
        )  # two forwards, all weights, all inputs but the pictures
        dtype = torch.bfloat16 if self.learner == "cpu-bf16" else torch.float32
        self._left, self._right = (torch.randn(1024, 1024).to(dtype) for _ in range(2))
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
        return 1

    def loop(self) -> int:
        next(self._moments)
        return self.num_envs


def _time(job: Callable[[], int], seconds: float) -> float:
    """Milliseconds per unit, after two units of warm-up."""
    job()
    job()
    units, began = 0, time.perf_counter()
    while (lasted := time.perf_counter() - began) < seconds:
        units += job()
    return 1000 * lasted / units


def _peers(config: Config) -> dict[str, Any]:
    """One environment, as is its habit, and as many as qladder has: either may be the faster."""
    from qladder.runners.peers import StableBaselines3

    return {f"stable-baselines3, N = {n}": StableBaselines3(config, n) for n in sorted({1, config.env.num_envs})}


def _against(times: Mapping[str, list[float]], peer: str) -> dict[str, Any]:
    ratios = [theirs / ours for theirs, ours in zip(times[peer], times["loop"], strict=True)]
    rate = 1000 / float(np.median(times[peer]))
    return {"steps_per_second": rate, "ratio": float(np.median(ratios)), "ratios": ratios}


def _result(config: Config, parts: _Parts, times: Mapping[str, list[float]]) -> dict[str, Any]:
    ms = {name: float(np.median(t)) for name, t in times.items()}
    gflops = 2 * 1024**3 / ms["matrix_product"] / 1e6
    updates = 4 * config.run.updates / config.run.update_every
    of_four = {"environment": 4 * ms["environment"], "acting": 4 * ms["acting"], "update": updates * ms["update"]}
    arithmetic = parts.flop / gflops / 1e6
    floor = updates * arithmetic + of_four["environment"] + of_four["acting"]
    loop = 4 * ms["loop"]
    shares = {name: {"ms": ms[name], "share_of_loop": value / loop} for name, value in of_four.items()}
    shares["sampling"] = {"ms": ms["sampling"], "share_of_loop": updates * ms["sampling"] / loop}
    shares["update"]["share_of_floor"] = arithmetic / ms["update"]
    return {
        "env": config.env.id,
        "num_envs": parts.num_envs,
        "learner": parts.learner,
        "updates_per_4_steps": updates,
        "threads": torch.get_num_threads(),
        **provenance(config.table()),
        "steps_per_second": 1000 / ms["loop"],
        "steps_per_second_of_rounds": [1000 / value for value in times["loop"]],
        "gflop_per_update": parts.flop / 1e9,
        "matrix_product_gflops": gflops,
        "floor_ms_of_4": floor,
        "parts": {**shares, "loop": {"ms": loop, "share_of_loop": 1.0, "share_of_floor": floor / loop}},
    }
