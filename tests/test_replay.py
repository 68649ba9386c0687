"""The replay against a naive list of transitions, from streams whose observations say where they come from."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tagged import Episode, Transition, episodes, tagged_spec, tagged_steps, transitions

from qladder.envs.errors import UserError
from qladder.envs.spec import EnvSpec
from qladder.replay import store
from qladder.replay.frames import FrameReplay, ReplayConfig
from qladder.replay.recorder import frame
from qladder.replay.types import Batch, Step

GAMMA = 0.9
LONG_AND_SHORT = [Episode(7, False, frozenset({2})), Episode(1, True, frozenset()), Episode(4, True, frozenset())]
SCRIPT = [LONG_AND_SHORT, [Episode(1, False, frozenset())], [Episode(12, True, frozenset({3, 4}))]]


Compression = Literal["none", "deflate"]


@pytest.fixture(autouse=True, scope="module")
def early_dictionary() -> Iterator[None]:
    """Compression has its dictionary after a few observations, so that the tests see both sides of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "LEARN_AFTER", 12)
        yield


def make(
    *,
    num_envs: int = 3,
    stack: int = 3,
    n: int = 2,
    slots: int = 20,
    spare: int = 0,
    seed: int = 0,
    compression: Compression = "none",
) -> FrameReplay:
    config = ReplayConfig(capacity=slots * num_envs + spare, n_step=n, compression=compression)
    return FrameReplay(config, tagged_spec(num_envs, stack), GAMMA, np.random.default_rng(seed))


def in_reach(steps: list[Step], num_envs: int, stack: int, n: int, slots: int) -> dict[int, Transition]:
    """What the replay should hold, by flat index.

    Once a ring of `slots` has wrapped, its oldest stack - 1 slots are only the history of those after them.
    """
    expected: dict[int, Transition] = {}
    for env in range(num_envs):
        complete, written = transitions(steps, env, n, GAMMA)
        first = 0 if written <= slots else written - slots + stack - 1
        expected |= {env * slots + slot % slots: t for slot, t in complete.items() if slot >= first}
    return expected


def reachable(replay: FrameReplay) -> Any:
    """The flat index of every transition that could be drawn."""
    ring = replay._ring
    spans = zip(*ring.span(replay._stack - 1), strict=True)
    index = np.concatenate([env * ring.slots + (f + np.arange(c)) % ring.slots for env, (f, c) in enumerate(spans)])
    return index[replay._complete(index)] if len(index) else index


def everything(replay: FrameReplay) -> Batch:
    """Every transition that could be drawn, once."""
    return replay._batch(reachable(replay))


def on_tensors(replay: FrameReplay) -> None:
    """Lets the (empty) replay keep its observations where it would on a GPU."""
    shape, dtype = frame(tagged_spec(len(replay._ring.written), replay._stack))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    replay._recorder.store = store.TensorStore(len(replay._action), shape, dtype, device)


def check(batch: Batch, expected: dict[int, Transition]) -> None:
    assert (batch.action.dtype, batch.reward.dtype, batch.discount.dtype) == (np.int64, np.float32, np.float32)
    for i, index in enumerate(batch.index.tolist()):
        told = expected[index]
        np.testing.assert_array_equal(torch.as_tensor(batch.obs[i]).cpu(), told.obs)
        assert batch.action[i] == told.action
        assert batch.reward[i] == pytest.approx(told.reward, rel=1e-5, abs=1e-5)
        assert batch.discount[i] == pytest.approx(told.discount)
        np.testing.assert_array_equal(torch.as_tensor(batch.next_obs[i]).cpu(), told.next_obs)
    np.testing.assert_array_equal(batch.weight, np.ones(len(batch.index), np.float32))


@settings(deadline=None, max_examples=250)
@given(st.data())
def test_as_a_list_of_transitions(data: st.DataObject) -> None:
    script = data.draw(st.lists(st.lists(episodes(), min_size=1, max_size=4), min_size=1, max_size=9), "script")
    num_envs = len(script)
    stack, n = data.draw(st.integers(1, 4), "stack"), data.draw(st.integers(1, 5), "n_step")
    slots = stack + n + data.draw(st.integers(1, 15), "spare slots")
    checks = data.draw(st.lists(st.integers(1, 120), min_size=1, max_size=4), "checked after")
    shape: dict[str, Any] = {"num_envs": num_envs, "stack": stack, "n": n, "slots": slots}
    kept = data.draw(st.sampled_from(["none", "deflate", "tensor"]), "kept as")
    compression: Compression = "deflate" if kept == "deflate" else "none"
    replay = make(**shape, spare=data.draw(st.integers(0, num_envs - 1)), compression=compression)
    if kept == "tensor":
        on_tensors(replay)
    steps: list[Step] = []
    for step in tagged_steps(script, max(checks), stack):
        replay.add(step)
        steps.append(step)
        if len(steps) not in checks:
            continue
        expected = in_reach(steps, num_envs, stack, n, slots)
        assert sorted(reachable(replay).tolist()) == sorted(expected)
        assert len(expected) <= len(replay) <= slots * num_envs
        if expected:
            check(everything(replay), expected)
            check(replay.sample(8), expected)
        else:
            with pytest.raises(ValueError, match="yet"):
                replay.sample(8)


def test_stacks_may_be_longer_than_a_byte_counts() -> None:
    """Steps since the episode's start are counted up to the stack's length."""
    stack, script = 300, [[Episode(290, True, frozenset()), Episode(230, True, frozenset())]]
    replay, steps = make(num_envs=1, stack=stack, n=1, slots=900), []
    for step in tagged_steps(script, 500, stack):
        replay.add(step)
        steps.append(step)
    expected = in_reach(steps, 1, stack, 1, 900)
    assert sorted(reachable(replay).tolist()) == sorted(expected)
    assert len(expected) == 499  # all but the newest, of which the successor is not there yet
    check(everything(replay), expected)


def filled(count: int = 100, **shape: Any) -> tuple[FrameReplay, list[Step]]:
    replay = make(**shape)
    steps = list(tagged_steps(SCRIPT, count, replay._stack))
    for step in steps:
        replay.add(step)
    return replay, steps


def test_samples_uniformly() -> None:
    replay, steps = filled()
    expected = in_reach(steps, 3, 3, 2, 20)
    draws = 200 * len(expected)
    index, count = np.unique(np.concatenate([replay.sample(64).index for _ in range(draws // 64)]), return_counts=True)
    assert index.tolist() == sorted(expected)
    mean = count.sum() / len(expected)
    freedom = len(expected) - 1
    assert ((count - mean) ** 2 / mean).sum() < freedom + 4 * np.sqrt(2 * freedom)


def test_draws_are_independent_of_their_place_in_the_batch() -> None:
    replay, steps = filled()
    size = len(in_reach(steps, 3, 3, 2, 20))
    firsts, lasts = zip(*((b.index[0], b.index[-1]) for b in (replay.sample(8) for _ in range(40 * size))), strict=True)
    for place in (firsts, lasts):
        count = np.unique(place, return_counts=True)[1]
        assert len(count) == size
        assert ((count - 40) ** 2 / 40).sum() < size - 1 + 4 * np.sqrt(2 * (size - 1))


def test_life_loss_cuts_the_return_and_nothing_else() -> None:
    replay = make(num_envs=1, stack=2, n=3)
    steps = list(tagged_steps([[Episode(6, False, frozenset({2}))]], 6, 2))
    for step in steps:
        replay.add(step)
    batch = everything(replay)
    reward = [float(step.reward[0]) for step in steps]
    zero = np.zeros(3)
    np.testing.assert_allclose(batch.discount, [0, 0, 0, GAMMA**3, GAMMA**2, GAMMA], rtol=1e-6)
    assert batch.reward[1] == pytest.approx(reward[1] + GAMMA * reward[2])
    assert batch.reward[2] == pytest.approx(reward[2])
    np.testing.assert_array_equal(batch.obs[0], [zero, [1, 0, 0]])
    np.testing.assert_array_equal(batch.obs[3], [[1, 0, 2], [1, 0, 3]])  # the stack reaches over the lost life
    np.testing.assert_array_equal(batch.next_obs[5], [[1, 0, 5], [1, 0, 6]])


def test_stacks_in_an_episode_longer_than_a_byte_counts() -> None:
    replay = FrameReplay(ReplayConfig(700), tagged_spec(1, 4), GAMMA, np.random.default_rng(0))

    def stack(t: int) -> Any:
        return np.array([[u % 256, u // 256, 1] if u >= 0 else [0] * 3 for u in range(t - 3, t + 1)], np.uint8)[None]

    one, no = np.ones(1), np.zeros(1, np.bool_)
    for t in range(600):
        replay.add(Step(stack(t), one, one, one, no, stack(t + 1)))
    batch = everything(replay)
    assert len(batch.obs) == 599
    for obs, next_obs, index in zip(batch.obs, batch.next_obs, batch.index, strict=True):
        np.testing.assert_array_equal(obs, stack(index)[0])
        np.testing.assert_array_equal(next_obs, stack(index + 1)[0])


def test_numbered_states_and_vectors() -> None:
    for spec, obs in (
        (EnvSpec("states", 2, True, (), "int64", 500, 300), np.array([499, 7])),
        (EnvSpec("vectors", 2, True, (2,), "float32", None, 300), np.array([[0.5, -1e9], [3, 4]], np.float32)),
    ):
        replay = FrameReplay(ReplayConfig(10), spec, GAMMA, np.random.default_rng(0))
        replay.add(Step(obs, np.array([299, 0]), np.ones(2), np.ones(2), np.array([True, True]), obs + 1))
        batch = everything(replay)
        assert (batch.obs.dtype, batch.next_obs.dtype) == (obs.dtype, obs.dtype)
        np.testing.assert_array_equal(batch.obs, obs)
        np.testing.assert_array_equal(batch.next_obs, obs + 1)
        assert batch.action.tolist() == [299, 0]


def test_nothing_to_sample() -> None:
    replay = make(n=3)
    assert len(replay) == 0
    with pytest.raises(ValueError, match="empty"):
        replay.sample(1)
    for step in tagged_steps([[Episode(9, True, frozenset())]] * 3, 3, 3):
        replay.add(step)  # three steps a slot each; the third one's successor is not there yet
    with pytest.raises(ValueError, match="no complete transition"):
        replay.sample(1)


def test_capacity_too_small() -> None:
    make(stack=3, n=2, slots=6)
    with pytest.raises(UserError, match=r"replay\.capacity = 15: at least 18 for 3 environments"):
        make(stack=3, n=2, slots=5)


@pytest.mark.parametrize("count", [0, 5, 100])
@pytest.mark.parametrize("stack", [1, 3])
@pytest.mark.parametrize("compression", ["none", "deflate"])
def test_state_goes_on_as_if_never_stopped(count: int, stack: int, compression: Compression) -> None:
    stream = list(tagged_steps(SCRIPT, count + 60, stack))
    replay, copied = (make(stack=stack, seed=seed, compression=compression) for seed in (0, 1))
    for step in stream[:count]:
        replay.add(step)
    if count:
        replay.sample(3)
    copied.load_state_dict(copy.deepcopy(replay.state_dict()))
    for t in range(count, count + 60):
        if t:
            one, other = replay.sample(16), copied.sample(16)
            for field, told, expected in zip(Batch._fields, other, one, strict=True):
                np.testing.assert_array_equal(told, expected, err_msg=field)
        for r in (replay, copied):
            r.add(stream[t])
    check(everything(copied), in_reach(stream, 3, stack, 2, 20))


def test_state_holds_only_what_was_written() -> None:
    few, many = (filled(count)[0].state_dict() for count in (2, 100))
    assert [len(chunk["arrays"]["frame"]) for chunk in few["chunks"].values()] == few["written"].tolist()
    assert few["action"].shape == (3, 4)  # two steps and two ends in the environment of one-step episodes
    assert many["action"].shape == (3, 20)
    assert [len(chunk["arrays"]["frame"]) for chunk in many["chunks"].values()] == [20, 20, 20]


@pytest.mark.parametrize("compression", ["none", "deflate"])
def test_a_part_of_the_same_version_is_the_same_and_only_few_are_new(
    compression: Compression, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of four slots, in rings of twenty, over three laps."""
    monkeypatch.setattr("qladder.replay.recorder.CHUNK_BYTES", 12)
    replay, before = make(compression=compression), {}
    for t, step in enumerate(tagged_steps(SCRIPT, 60, 3)):
        written = replay.state_dict()["written"].copy()
        replay.add(step)
        state = replay.state_dict()
        chunks = state["chunks"]
        assert len(chunks) == sum(-(-min(int(n), 20) // 4) for n in state["written"])
        changed = [
            key for key, part in chunks.items() if key not in before or before[key]["version"] != part["version"]
        ]
        assert len(changed) <= 2 * (state["written"] > written).sum()
        for key, part in chunks.items():
            for name, array in part["arrays"].items():
                if key not in changed:
                    np.testing.assert_array_equal(array, before[key]["arrays"][name], err_msg=f"{key} at {t}")
        before = copy.deepcopy(chunks)
    copied = make(compression=compression)
    copied.load_state_dict(copy.deepcopy(replay.state_dict()))
    one, other = replay.sample(64), copied.sample(64)
    for field, told, expected in zip(Batch._fields, other, one, strict=True):
        np.testing.assert_array_equal(told, expected, err_msg=field)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"num_envs": 2}, "3 environments and stacks of 3, not 2 and 3"),
        ({"slots": 19}, "'action'"),
        ({"slots": 21}, "'action'"),
        ({"stack": 2}, "3 environments and stacks of 3, not 3 and 2"),
        ({"stack": 4}, "3 environments and stacks of 3, not 3 and 4"),
    ],
)
def test_state_of_another_shape(shape: dict[str, int], message: str) -> None:
    state = filled()[0].state_dict()
    other = make(**shape)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(state)
    np.testing.assert_equal(other.state_dict(), before)


def test_state_of_other_observations() -> None:
    state = filled()[0].state_dict()
    for shape, dtype in (((3, 4), "uint8"), ((3, 3), "int16")):
        spec = EnvSpec("other", 3, True, shape, dtype, None, 5, stack=3)
        other = FrameReplay(ReplayConfig(60, 2), spec, GAMMA, np.random.default_rng(0))
        with pytest.raises(ValueError, match=r"observations \[3\] uint8, not "):
            other.load_state_dict(state)
        assert len(other) == 0


def test_a_compressed_state_is_no_array_nor_of_other_observations() -> None:
    deflated, arrays = (filled(compression=c)[0].state_dict() for c in ("deflate", "none"))
    with pytest.raises(ValueError, match="compression"):
        make().load_state_dict(deflated)
    with pytest.raises(ValueError, match="compression"):
        make(compression="deflate").load_state_dict(arrays)
    spec = EnvSpec("other", 3, True, (3, 4), "uint8", None, 5, stack=3)
    other = FrameReplay(ReplayConfig(60, 2, compression="deflate"), spec, GAMMA, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"observations \[3\] uint8, not \[4\] uint8"):
        other.load_state_dict(deflated)
    assert len(other) == 0


def test_compression_pays_once_its_dictionary_is_there() -> None:
    rng = np.random.default_rng(0)
    background = rng.integers(0, 256, (84, 84), dtype=np.uint8)  # noise: nothing to gain but from other pictures
    kept = store.DeflatedStore(60, (84, 84), np.uint8)
    pictures = np.repeat(background[None], 60, axis=0)
    pictures[np.arange(60), np.arange(60)] = np.arange(60, dtype=np.uint8)[:, None]
    for i in range(60):
        kept.put(np.array([i]), pictures[i : i + 1])
    np.testing.assert_array_equal(kept.take(np.arange(60)[::-1].reshape(3, 20)), pictures[::-1].reshape(3, 20, 84, 84))
    lengths = kept.copy_out(0, 60)["lengths"]
    assert lengths[:11].min() > 7_000
    assert lengths[11:].max() < 500


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_memory_is_taken_as_it_fills() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    spec = EnvSpec("atari", 8, True, (4, 84, 84), "uint8", None, 18, stack=4)
    before, start = resident(), time.perf_counter()
    replay = FrameReplay(ReplayConfig(1_000_000), spec, GAMMA, np.random.default_rng(0))
    assert time.perf_counter() - start < 0.1
    obs = np.ones((8, 4, 84, 84), np.uint8)
    for _ in range(100):  # 800 observations of 7 kB
        replay.add(Step(obs, np.zeros(8), np.zeros(8), np.ones(8), np.zeros(8, np.bool_), obs))
    replay.sample(32)
    assert resident() - before < 50e6
    assert 7.056e9 < replay.nbytes <= 7.3e9


def test_cut_episodes_end_where_they_were_left() -> None:
    """After a resume the next observation is another episode's: nothing may join the two."""
    spec = EnvSpec("Numbers-v0", 2, True, (1,), "float32", None, 2)
    replay = FrameReplay(ReplayConfig(capacity=40, n_step=2), spec, GAMMA, np.random.default_rng(0))

    def add(*obs: float) -> None:
        here = np.array(obs, np.float32)[:, None]
        replay.add(Step(here, np.zeros(2, np.int64), np.ones(2), np.ones(2), np.zeros(2, np.bool_), here + 1))

    for t in range(3):
        add(t, 100 + t)
    replay.cut(np.array([True, False]))
    for t in range(3):
        add(50 + t, 103 + t)
    batch = everything(replay)
    reached = sorted(zip(batch.obs[:, 0].tolist(), batch.next_obs[:, 0].tolist(), strict=True))
    assert reached == [(0, 2), (1, 2), (50, 52), (100, 102), (101, 103), (102, 104), (103, 105)]
    assert batch.discount[batch.obs[:, 0] == 1] == pytest.approx([GAMMA])


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_cut_episodes_are_truncated_ones_a_step_shorter(data: st.DataObject) -> None:
    """Of an episode that is left, the last observation is what the step before led to; a single step leaves nothing."""
    episode = st.tuples(st.integers(1, 6), st.sampled_from(["terminated", "truncated", "left"]))
    told = data.draw(st.lists(episode, min_size=1, max_size=9), "episodes")
    stack, n = data.draw(st.integers(1, 3), "stack"), data.draw(st.integers(1, 3), "n_step")
    slots = stack + n + data.draw(st.integers(1, 12), "spare slots")
    replay = make(num_envs=1, stack=stack, n=n, slots=slots)
    expected: dict[int, Transition] = {}
    written = 0

    def seen(number: int, t: int) -> Any:
        frames = [[1, number, u] if u >= 0 else [0, 0, 0] for u in range(t - stack + 1, t + 1)]
        return np.array(frames if stack > 1 else frames[0], np.uint8)

    for number, (length, end) in enumerate(told):
        for t in range(length):
            last = t == length - 1 and end != "left"
            fields = (seen(number, t), t % 5, t + 1.0, 0.0 if last and end == "terminated" else 1.0, last)
            replay.add(Step(*(np.array([field]) for field in (*fields, seen(number, t + 1)))))
        if end == "left":
            replay.cut(np.array([True]))
        whole = length - (end == "left")
        for t in range(whole):
            k = min(n, whole - t)
            reward = sum(GAMMA**i * (t + i + 1) for i in range(k))
            discount = 0.0 if t + k == whole and end == "terminated" else GAMMA**k
            expected[written + t] = Transition(seen(number, t), t % 5, reward, discount, seen(number, t + k))
        written += whole + 1
    first = 0 if written <= slots else written - slots + stack - 1
    expected = {slot % slots: told for slot, told in expected.items() if slot >= first}
    assert sorted(reachable(replay).tolist()) == sorted(expected)
    if expected:
        check(everything(replay), expected)


def test_cutting_what_does_not_run_changes_nothing() -> None:
    replay = make()
    for step in tagged_steps(SCRIPT, 9, 3):
        replay.add(step)
    before = copy.deepcopy(replay.state_dict())
    replay.cut(np.zeros(3, np.bool_))
    after = replay.state_dict()
    np.testing.assert_equal(after, before)
