"""One dummy batch before training: whether what an update computes is an update of Q-learning at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from qladder.agents.agent import EnvSpec
from qladder.envs.errors import FaultyUpdateError
from qladder.replay.sequences import SequenceConfig, Sequences
from qladder.replay.types import Batch, Step

ROWS = 8
WINDOWS = 2  # sequences, each of many steps
TIMES = 3  # steps of a dummy rollout, of which the second ends some episodes
TOLERANCE = 1e-3  # bfloat16 and the order of sums; what these checks find is far larger


class Look(Protocol):
    """What an update computes of a batch."""

    @property
    def target(self) -> Tensor: ...  # [B, K]
    @property
    def td(self) -> Tensor: ...  # [B]
    @property
    def loss(self) -> Tensor: ...  # a number


def dummy_batch(spec: EnvSpec, num_actions: int, gamma: float, rng: np.random.Generator) -> Batch:
    """Observations anywhere within their bounds, rewards around zero, every second transition terminal."""
    reward, discount = rng.normal(size=ROWS), gamma * (np.arange(ROWS) % 2)
    ones = np.ones(ROWS, dtype=np.float32)
    obs, next_obs = (_observations(spec, rng, ROWS) for _ in range(2))
    action = rng.integers(num_actions, size=ROWS)
    rewards, discounts = reward.astype(np.float32), discount.astype(np.float32)
    return Batch(obs, action, rewards, discounts, next_obs, ones, np.arange(ROWS))


def probe(see: Callable[[Batch], Look], online: nn.Module, target: nn.Module, batch: Batch, others: Batch) -> None:
    """Looks at one update's parts as `see` computes them, which must draw the same random numbers every time.

    Shapes; finite numbers; a gradient for every parameter of `online` and none for `target` or through the target
    values; terminal transitions whose targets know nothing of what follows, where others' targets do, if the network
    tells it apart at all (deep plain layers hardly do at the start); rows that do not mix. `others` is a batch to take
    different observations and rewards from.

    Raises:
        FaultyUpdateError: what is wrong, in one line.
    """
    look = see(batch)
    _shapes(look)
    _finite(look)
    _gradients(look, online, target)
    terminal = np.asarray(batch.discount) == 0
    elsewhere = see(batch._replace(next_obs=others.next_obs)).target
    if _differs(elsewhere, look.target)[torch.from_numpy(terminal)].any():
        raise FaultyUpdateError("before training: the targets of terminal transitions depend on what follows them")
    if elsewhere.equal(look.target):
        here, there = (see(batch._replace(obs=obs)).td[:, None] for obs in (batch.next_obs, others.next_obs))
        if _differs(here, there)[torch.from_numpy(~terminal)].any():
            raise FaultyUpdateError("before training: no target depends on what follows")
    first = np.arange(ROWS) == 0
    mixed = batch._replace(
        obs=_instead(first, others.obs, batch.obs), reward=_instead(first, others.reward, batch.reward)
    )
    if _differs(see(mixed).td[1:, None], look.td[1:, None]).any():
        raise FaultyUpdateError("before training: the TD error of a transition depends on others of its batch")


def dummy_sequences(
    spec: EnvSpec, num_actions: int, gamma: float, replay: SequenceConfig, state_size: int, rng: np.random.Generator
) -> Sequences:
    """Windows without an episode's end, of which every second one bootstraps nowhere; the last step of each is none."""
    slots, learnt = replay.length + replay.n_step, replay.length - replay.burn_in
    size = learnt, WINDOWS
    obs = np.stack([_observations(spec, rng, WINDOWS) for _ in range(slots)])
    reward = rng.normal(size=size).astype(np.float32)
    discount = np.broadcast_to(gamma * (np.arange(WINDOWS) % 2), size).astype(np.float32)
    next_slot = np.minimum(replay.burn_in + 1 + np.arange(learnt), slots - 1)[:, None].repeat(WINDOWS, 1)
    mask = np.ones(size, np.float32)
    mask[-1] = learnt == 1
    reset, state = np.zeros((slots, WINDOWS), np.bool_), np.zeros((WINDOWS, state_size), np.float32)
    action = rng.integers(num_actions, size=size)
    ones, index = np.ones(WINDOWS, np.float32), np.arange(WINDOWS)
    return Sequences(obs, reset, state, action, reward, discount, next_slot, mask, ones, index)


def probe_sequences(
    see: Callable[[Sequences], Look], online: nn.Module, target: nn.Module, batch: Sequences, others: Sequences
) -> None:
    """As `probe`, of an update that learns from sequences; `see` gives targets and TD errors `[L, B]`.

    Raises:
        FaultyUpdateError: what is wrong, in one line.
    """
    look, size = see(batch), np.shape(batch.action)
    shapes = tuple(look.target.shape), tuple(look.td.shape), tuple(look.loss.shape)
    if shapes != (size, size, ()):
        told = f"targets are {shapes[0]}, TD errors {shapes[1]}, the loss {shapes[2]}"
        raise FaultyUpdateError(f"before training: of {size} steps {told}; they must be {size}, {size} and ()")
    _finite(look)
    _gradients(look, online, target)
    terminal = torch.from_numpy(batch.discount[0] == 0)
    elsewhere = see(batch._replace(obs=others.obs))
    if _differs(elsewhere.target.T, look.target.T)[terminal].any():
        raise FaultyUpdateError("before training: the targets of terminal transitions depend on what follows them")
    told_apart = _differs(elsewhere.td.T, look.td.T)[~terminal].any()  # by the network, where targets are the same
    if elsewhere.target.equal(look.target) and told_apart:
        raise FaultyUpdateError("before training: no target depends on what follows")
    beside = see(batch._replace(reward=np.where(batch.mask > 0, batch.reward, others.reward)))
    if not torch.isclose(beside.loss, look.loss, rtol=TOLERANCE):
        raise FaultyUpdateError("before training: the loss depends on steps that there are not")
    first = np.arange(WINDOWS) == 0
    mixed = batch._replace(obs=_instead(first, others.obs.swapaxes(0, 1), batch.obs.swapaxes(0, 1)).swapaxes(0, 1))
    if _differs(see(mixed).td.T[1:], look.td.T[1:]).any():
        raise FaultyUpdateError("before training: the TD error of a sequence depends on others of its batch")


def dummy_steps(spec: EnvSpec, num_actions: int, rng: np.random.Generator) -> list[Step]:
    """Some steps of 8 environments, every second of which ends an episode at the second step; no extras."""
    obs = [_observations(spec, rng, ROWS) for _ in range(TIMES + 1)]
    steps = []
    for t in range(TIMES):
        over = (np.arange(ROWS) % 2 == 1) & (t == 1)
        action, reward = rng.integers(num_actions, size=ROWS), rng.normal(size=ROWS).astype(np.float32)
        steps.append(Step(obs[t], action, reward, (~over).astype(np.float32), over, obs[t + 1], None))
    return steps


def probe_rollout(
    see: Callable[[list[Step]], Look], online: nn.Module, steps: list[Step], others: list[Step], gamma: float
) -> None:
    """As `probe`, of an update that learns from `B = T * N` steps in order; `see` gives targets and TD errors `[B]`.

    Raises:
        FaultyUpdateError: what is wrong, in one line.
    """
    look, rows = see(steps), TIMES * ROWS
    shapes = tuple(look.target.shape), tuple(look.td.shape), tuple(look.loss.shape)
    if shapes != ((rows,), (rows,), ()):
        told = f"targets are {shapes[0]}, TD errors {shapes[1]}, the loss {shapes[2]}"
        raise FaultyUpdateError(f"before training: of {rows} steps {told}; they must be ({rows},), ({rows},) and ()")
    _finite(look)
    _gradients(look, online, nn.Module())
    before, ended = (np.arange(rows) < 2 * ROWS), np.tile(steps[1].last, TIMES)
    later = [steps[0], steps[1]._replace(next_obs=others[1].next_obs), *others[2:]]
    elsewhere = see(later).target
    if _differs(elsewhere[:, None], look.target[:, None]).numpy()[before & ended].any():
        raise FaultyUpdateError("before training: the targets of steps that end an episode depend on what follows them")
    if gamma and elsewhere[before & ~ended].equal(look.target[before & ~ended]):
        there = see([*steps[:2], steps[2]._replace(obs=others[2].obs)]).td
        if _differs(there[:, None], look.td[:, None]).numpy()[~before & ~ended].any():
            raise FaultyUpdateError("before training: no target depends on what follows")
    first = np.arange(ROWS) == 0
    mixed = [
        a._replace(
            obs=_instead(first, b.obs, a.obs),
            reward=_instead(first, b.reward, a.reward),
            next_obs=_instead(first, b.next_obs, a.next_obs),
        )
        for a, b in zip(steps, others, strict=True)
    ]
    if _differs(see(mixed).td[:, None], look.td[:, None]).cpu().numpy()[~np.tile(first, TIMES)].any():
        raise FaultyUpdateError("before training: the TD error of an environment depends on the others")


def _shapes(look: Look) -> None:
    shapes = tuple(look.target.shape), tuple(look.td.shape), tuple(look.loss.shape)
    if len(shapes[0]) != 2 or shapes[0][0] != ROWS or shapes[1:] != ((ROWS,), ()):
        raise FaultyUpdateError(
            f"before training: of {ROWS} transitions targets are {shapes[0]}, TD errors {shapes[1]}, the loss "
            f"{shapes[2]}; they must be ({ROWS}, K), ({ROWS},) and ()"
        )


def _finite(look: Look) -> None:
    if not all(numbers.isfinite().all() for numbers in (look.target, look.td, look.loss)):
        raise FaultyUpdateError("before training: an update of ordinary numbers is not finite")


def _gradients(look: Look, online: nn.Module, target: nn.Module) -> None:
    if look.target.requires_grad or any(p.requires_grad for p in target.parameters()):
        raise FaultyUpdateError("before training: the targets carry a gradient")
    named = {name: p for name, p in online.named_parameters() if p.requires_grad}
    if not look.loss.requires_grad:
        raise FaultyUpdateError("before training: the loss has no gradient")
    found = dict(zip(named, torch.autograd.grad(look.loss, [*named.values()], allow_unused=True), strict=True))
    if missed := [name for name, gradient in found.items() if gradient is None]:
        raise FaultyUpdateError(f"before training: no gradient reaches {', '.join(missed)}")
    gradients = [gradient for gradient in found.values() if gradient is not None]
    if not all(gradient.isfinite().all() for gradient in gradients):
        raise FaultyUpdateError("before training: a gradient of ordinary numbers is not finite")
    if not any(gradient.any() for gradient in gradients):
        raise FaultyUpdateError("before training: the gradient is zero")


def _differs(a: Tensor, b: Tensor) -> Tensor:
    """Which rows `[B]` of `[B, K]` do."""
    apart: Tensor = (a - b).detach().abs().amax(1).cpu() > TOLERANCE * max(1.0, float(b.detach().abs().max()))
    return apart


def _instead(where: Any, one: Any, other: Any) -> Any:
    return np.where(where.reshape(-1, *[1] * (other.ndim - 1)), one, other)


def _observations(spec: EnvSpec, rng: np.random.Generator, count: int) -> Any:
    if spec.num_states is not None:
        return rng.integers(spec.num_states, size=count)
    shape, dtype = (count, *spec.obs_shape), np.dtype(spec.obs_dtype)
    if dtype.kind in "iu":
        return rng.integers(0, min(256, np.iinfo(dtype).max + 1), size=shape).astype(dtype)
    within = rng.normal(size=shape)
    if spec.low is not None and spec.high is not None:
        within = np.clip(within, spec.low, spec.high)
    return within.astype(dtype)
