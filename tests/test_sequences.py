"""The replay of sequences against naive lists of episodes, from streams whose observations say where they come from."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tagged import Episode, episodes, tagged_spec, tagged_steps

from qladder.envs.errors import UserError
from qladder.replay.sequences import SequenceConfig, SequenceReplay, Sequences, mixed, sequence_bytes_per_slot
from qladder.replay.types import Step

GAMMA = 0.9
LONG_AND_SHORT = [Episode(7, False, frozenset({2})), Episode(1, True, frozenset()), Episode(4, True, frozenset())]
SCRIPT = [LONG_AND_SHORT, [Episode(1, False, frozenset())], [Episode(12, True, frozenset({3, 4}))]]


class Slot(NamedTuple):
    """What the naive reference has at one place of an environment's stream: a step, or an episode's end."""

    obs: Any
    state: Any  # before it
    starts: bool  # an episode starts here
    t: int | None  # number of the step; None for an end


def stream(script: Sequence[Sequence[Episode]], count: int, state_size: int = 2) -> list[Step]:
    """Steps whose recurrent state says environment and step."""
    steps = []
    for t, step in enumerate(tagged_steps(script, count, 1)):
        state = np.stack([np.full(state_size, 100 * env + t, np.float32) for env in range(len(script))])
        steps.append(step._replace(extras=state))
    return steps


def places(steps: Sequence[Step], env: int) -> list[Slot]:
    """An environment's stream, step by step, each episode with its true last observation behind it."""
    found, starts = [], True
    for t, step in enumerate(steps):
        found.append(Slot(step.obs[env], step.extras[env], starts, t))
        starts = bool(step.last[env])
        if starts:
            found.append(Slot(step.next_obs[env], np.zeros_like(step.extras[env]), False, None))
    return found


def naive_return(steps: Sequence[Step], env: int, t: int, n: int) -> tuple[float, float, Any]:
    """n-step return by recursion: reward, factor on the bootstrap, and the observation that is bootstrapped from."""
    step = steps[t]
    reward, factor = float(step.reward[env]), GAMMA * float(step.discount[env])
    if n == 1 or step.last[env]:
        return reward, factor, step.next_obs[env]
    later, beyond, obs = naive_return(steps, env, t + 1, n - 1)
    return reward + factor * later, factor * beyond, obs


def check(batch: Sequences, b: int, steps: Sequence[Step], config: SequenceConfig, env: int, start: int) -> None:
    """One sequence of a batch, slot by slot."""
    window = places(steps, env)[start : start + config.window]
    assert len(window) == config.window
    np.testing.assert_array_equal(batch.obs[:, b], [slot.obs for slot in window])
    np.testing.assert_array_equal(batch.state[b], window[0].state)
    assert batch.reset[1:, b].tolist() == [slot.starts for slot in window[1:]]
    assert not batch.reset[0, b]  # the state is that of the first slot already
    for k, slot in enumerate(window[config.burn_in : config.length]):
        assert batch.mask[k, b] == (slot.t is not None)
        if slot.t is None:
            continue
        reward, factor, obs = naive_return(steps, env, slot.t, config.n_step)
        assert batch.action[k, b] == steps[slot.t].action[env]
        assert batch.reward[k, b] == pytest.approx(reward, rel=1e-5, abs=1e-4)
        assert batch.discount[k, b] == pytest.approx(factor)
        np.testing.assert_array_equal(batch.obs[batch.next_slot[k, b], b], obs)
        between = batch.reset[config.burn_in + k + 1 : batch.next_slot[k, b] + 1, b]
        assert not between.any()  # no return looks over an episode's end


def in_reach(replay: SequenceReplay, steps: Sequence[Step], config: SequenceConfig) -> dict[int, tuple[int, int]]:
    """By index, the environment and first place of all sequences that are complete and not overwritten."""
    num_envs, slots = len(steps[0].action), replay._ring.slots
    found = {}
    for env in range(num_envs):
        written = len(places(steps, env))
        for start in range(0, written - config.window + 1, config.period):
            if start >= written - slots:
                found[env * (slots // config.period) + start % slots // config.period] = (env, start)
    return found


def everything(replay: SequenceReplay, expected: dict[int, Any]) -> Sequences:
    return replay._sequences(np.array(sorted(expected)), np.ones(len(expected), np.float32))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_as_a_list_of_episodes(data: st.DataObject) -> None:
    script = data.draw(st.lists(st.lists(episodes(), min_size=1, max_size=4), min_size=1, max_size=4), "script")
    length, n = data.draw(st.integers(1, 9), "length"), data.draw(st.integers(1, 4), "n_step")
    period, burn_in = data.draw(st.integers(1, 10), "period"), data.draw(st.integers(0, length - 1), "burn-in")
    slots = length + n + 2 * (period - 1) + data.draw(st.integers(0, 15), "spare slots")
    config = SequenceConfig(
        capacity=slots * len(script) + data.draw(st.integers(0, len(script) - 1), "spare"),
        n_step=n,
        length=length,
        period=period,
        burn_in=burn_in,
        prioritized=data.draw(st.booleans(), "prioritized"),
    )
    replay, resumed = (make(config, len(script), seed) for seed in (0, 1))
    checks = data.draw(st.lists(st.integers(1, 80), min_size=1, max_size=3), "checked after")
    steps = stream(script, max(checks))
    for t, step in enumerate(steps, 1):
        replay.add(step)
        if t not in checks:
            continue
        expected = in_reach(replay, steps[:t], config)
        assert len(replay) == len(expected)
        if not expected:
            with pytest.raises(ValueError, match="yet"):
                replay.sample(8)
            continue
        if replay._priorities is not None:
            assert sorted(np.flatnonzero(replay._priorities._tree.values)) == sorted(expected)
        resumed.load_state_dict(copy.deepcopy(replay.state_dict()))
        whole, drawn = everything(replay, expected), replay.sample(4)
        for field, told, other in zip(Sequences._fields, resumed.sample(4), drawn, strict=True):
            np.testing.assert_array_equal(told, other, err_msg=field)
        for b, index in enumerate(sorted(expected)):
            check(whole, b, steps[:t], config, *expected[index])
        for b, index in enumerate(drawn.index.tolist()):
            check(drawn, b, steps[:t], config, *expected[index])


def make(config: SequenceConfig, num_envs: int, seed: int = 0, state_size: int = 2) -> SequenceReplay:
    return SequenceReplay(config, tagged_spec(num_envs, 1), GAMMA, np.random.default_rng(seed), state_size)


def filled(count: int = 100, **changes: Any) -> tuple[SequenceReplay, list[Step], SequenceConfig]:
    config = SequenceConfig(**{"capacity": 90, "n_step": 2, "length": 6, "burn_in": 2, "period": 3, **changes})
    replay, steps = make(config, 3), stream(SCRIPT, count)
    for step in steps:
        replay.add(step)
    return replay, steps, config


def test_uniform_over_all_sequences() -> None:
    replay, steps, config = filled()
    expected = in_reach(replay, steps, config)
    index = np.concatenate([replay.sample(64).index for _ in range(100)])
    found, count = np.unique(index, return_counts=True)
    assert found.tolist() == sorted(expected)
    mean = len(index) / len(expected)
    freedom = len(expected) - 1
    assert ((count - mean) ** 2 / mean).sum() < freedom + 4 * np.sqrt(2 * freedom)


def test_drawn_in_proportion_to_their_mixed_errors() -> None:
    replay, steps, config = filled(prioritized=True, priority_exponent=1.0, priority_max=0.75)
    index = np.array(sorted(in_reach(replay, steps, config)))
    ones = np.ones((4, len(index)), np.float32)
    error = ones * 0.01
    error[:, 0] = [4, 0, 0, 0]  # 0.75 * 4 + 0.25 * 1
    error[:, 1] = [1, 1, 1, 1]
    replay.update(index, error, ones)
    drawn = np.concatenate([replay.sample(50).index for _ in range(100)])
    share = [np.mean(drawn == index[i]) for i in (0, 1)]
    total = 3.25 + 1 + 0.01 * (len(index) - 2)
    assert share == pytest.approx([3.25 / total, 1 / total], abs=0.025)
    batch = replay.sample(50, importance=1.0)
    expected = {int(index[0]): 3.25, int(index[1]): 1.0}
    priority = np.array([expected.get(i, 0.01) for i in batch.index.tolist()])
    np.testing.assert_allclose(batch.weight, priority.min() / priority, rtol=1e-3)


def test_mixed_errors_by_hand() -> None:
    error = np.array([[1.0, 5.0, 7.0], [3.0, 9.0, 7.0]])
    mask = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert mixed(error, mask, 0.9).tolist() == pytest.approx([0.9 * 3 + 0.1 * 2, 5.0, 0.0])


def test_a_lost_life_cuts_the_return_and_the_state_goes_on() -> None:
    config = SequenceConfig(capacity=20, n_step=3, length=5, period=1)
    replay = make(config, 1)
    steps = stream([[Episode(9, False, frozenset({2}))]], 8)
    for step in steps:
        replay.add(step)
    batch = replay._sequences(np.array([0]), np.ones(1))
    reward = [float(step.reward[0]) for step in steps]
    assert batch.reward[:3, 0].tolist() == pytest.approx(
        [reward[0] + GAMMA * reward[1] + GAMMA**2 * reward[2], reward[1] + GAMMA * reward[2], reward[2]]
    )
    assert batch.discount[:, 0].tolist() == pytest.approx([0, 0, 0, GAMMA**3, GAMMA**3])
    assert not batch.reset.any()
    assert batch.mask.all()


def test_episodes_that_were_left_end_where_they_were() -> None:
    """As after a resume: what follows is another episode, and the return of what was left bootstraps from its end."""
    config = SequenceConfig(capacity=40, n_step=2, length=6, period=1)
    replay = make(config, 1)
    script = [[Episode(30, True, frozenset())]]
    for step in stream(script, 3):
        replay.add(step)
    replay.cut(np.array([True]))
    for step in stream(script, 7):
        replay.add(step)
    batch = replay._sequences(np.array([0]), np.ones(1))
    assert batch.reset[:, 0].tolist() == [False, False, False, True, False, False, False, False]
    assert batch.mask[:, 0].tolist() == [1, 1, 0, 1, 1, 1]
    assert batch.next_slot[[0, 1, 3], 0].tolist() == [2, 2, 5]
    assert batch.discount[[0, 1], 0].tolist() == pytest.approx([GAMMA**2, GAMMA])


def test_a_replay_without_states_needs_none() -> None:
    config = SequenceConfig(capacity=40, length=4, period=2)
    replay = make(config, 1, state_size=0)
    for step in stream([[Episode(5, True, frozenset())]], 20):
        replay.add(step._replace(extras=None))
    assert replay.sample(3).state.shape == (3, 0)


def test_states_of_the_same_version_are_the_same_and_only_few_are_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rings of ten sequences in parts of four, over two laps and more."""
    monkeypatch.setattr("qladder.replay.sequences.CHUNK_BYTES", 4 * 2 * 4)
    replay, _, _ = filled(0)
    before: dict[str, Any] = {}
    for step in stream(SCRIPT, 80):
        replay.add(step)
        states = replay.state_dict()["states"]
        new = [key for key, part in states.items() if key not in before or before[key]["version"] != part["version"]]
        assert len(new) <= 2 * 3
        for key in states.keys() - new:
            np.testing.assert_array_equal(states[key]["arrays"]["state"], before[key]["arrays"]["state"])
        before = copy.deepcopy(states)
    assert sorted(before) == [f"{env}-{part}" for env in range(3) for part in range(3)]
    assert [part["settled"] for part in before.values()].count(False) <= 3


@pytest.mark.parametrize(
    ("settings_", "said"),
    [
        ({"burn_in": 6}, r"replay\.burn_in = 6 with replay\.length = 6: no step is left to learn"),
        ({"capacity": 35}, r"replay\.capacity = 35 with replay\.length = 6: at least 36 for 3 env.* and period 3"),
    ],
)
def test_what_does_not_go_together(settings_: dict[str, int], said: str) -> None:
    shape = {"capacity": 36, "n_step": 2, "length": 6, "burn_in": 5, "period": 3}
    make(SequenceConfig(**shape), 3)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=said):
        make(SequenceConfig(**{**shape, **settings_}), 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"period": 2}, "sequences of period 3, not 2"),
        ({"length": 7}, "sequences of window 8, not 9"),
        ({"prioritized": True}, "drawn uniformly, not by priority"),
        ({"capacity": 81}, "'state'"),
    ],
)
def test_a_state_of_another_shape_changes_nothing(changes: dict[str, Any], said: str) -> None:
    state = filled()[0].state_dict()
    other = filled(50, **changes)[0]
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match=said):
        other.load_state_dict(state)
    np.testing.assert_equal(other.state_dict(), before)


@pytest.mark.parametrize("prioritized", [False, True])
def test_memory_is_reckoned_beforehand(prioritized: bool) -> None:
    config = SequenceConfig(capacity=4000, length=8, period=4, prioritized=prioritized)
    replay = make(config, 4, state_size=16)
    reckoned = 4000 * sequence_bytes_per_slot(tagged_spec(4, 1), config, 16)
    assert replay.nbytes <= reckoned <= 1.4 * replay.nbytes
