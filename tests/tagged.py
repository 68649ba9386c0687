"""Scripted environments whose every observation says where it comes from, and the transitions they should leave."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from qladder.envs.spec import EnvSpec
from qladder.replay.types import Step


class Episode(NamedTuple):
    """How one episode goes."""

    length: int  # agent steps
    terminated: bool  # else truncated
    lost: frozenset[int]  # steps at which a life is lost


@st.composite
def episodes(draw: st.DrawFn) -> Episode:
    """Any short episode."""
    length = draw(st.integers(1, 12))
    lost = draw(st.frozensets(st.integers(0, length - 2), max_size=3)) if length > 1 else frozenset()
    return Episode(length, draw(st.booleans()), lost)


class Transition(NamedTuple):
    """What a replay should give back for one step of one environment."""

    obs: Any
    action: int
    reward: float
    discount: float
    next_obs: Any


def tagged_spec(num_envs: int, stack: int) -> EnvSpec:
    """Pictures of three pixels that hold the environment, the episode and the step, modulo 256."""
    return EnvSpec("tagged", num_envs, True, (stack, 3) if stack > 1 else (3,), "uint8", None, 5, stack=stack)


def tagged_steps(script: Sequence[Sequence[Episode]], count: int, stack: int) -> Iterator[Step]:
    """`count` agent steps of all environments; each repeats its episodes, under new numbers, for as long as needed."""
    players = [_play(env, episodes, stack) for env, episodes in enumerate(script)]
    for _ in range(count):
        fields = zip(*(next(player) for player in players), strict=True)
        yield Step(*(np.array(field) for field in fields))


def transitions(steps: Sequence[Step], env: int, n: int, gamma: float) -> tuple[dict[int, Transition], int]:
    """The naive reference: all complete transitions by the slot they start in, and the number of slots written.

    What a step in the middle of an episode led to is written as the next step's observation, so a window of n steps is
    complete when the step after it is there, and one cut short at once.
    """
    told: dict[int, Transition] = {}
    slot = 0
    for t, step in enumerate(steps):
        window = []
        for later in steps[t : t + n]:
            window.append(later)
            if later.last[env]:
                break
        if t + n < len(steps) or window[-1].last[env]:
            reward, factor = 0.0, 1.0
            for inside in window:
                reward += factor * float(inside.reward[env])
                factor *= gamma * float(inside.discount[env])
            told[slot] = Transition(step.obs[env], int(step.action[env]), reward, factor, window[-1].next_obs[env])
        slot += 2 if step.last[env] else 1  # the true last observation takes a slot of its own
    return told, slot


def _play(env: int, episodes: Sequence[Episode], stack: int) -> Iterator[tuple[Any, ...]]:
    number = 0
    while True:
        episode = episodes[number % len(episodes)]
        frames = deque([np.zeros(3, np.uint8)] * stack, maxlen=stack)
        frames.append(_frame(env, number, 0))
        obs = _observation(frames)
        for t in range(episode.length):
            action = (2 * env + 3 * number + t) % 5
            reward = 8.0 * env + number / 4 + (t + 1) ** 2 - 3 * action
            last = t == episode.length - 1
            discount = 0.0 if t in episode.lost or (last and episode.terminated) else 1.0
            frames.append(_frame(env, number, t + 1))
            next_obs = _observation(frames)
            yield obs, action, reward, discount, last, next_obs
            obs = next_obs
        number += 1


def _frame(env: int, episode: int, t: int) -> Any:
    return np.array([env + 1, episode, t % 256], np.uint8)


def _observation(frames: deque[Any]) -> Any:
    return np.stack(frames) if len(frames) > 1 else frames[0]
