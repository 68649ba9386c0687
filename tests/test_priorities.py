"""The sum tree against a plain array, and proportional prioritisation as published."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tagged import Episode, tagged_spec, tagged_steps

from qladder.envs.errors import DivergedError
from qladder.replay.frames import FrameReplay, ReplayConfig
from qladder.replay.priorities import Priorities, SumTree


def chi_squared(drawn: np.ndarray, probability: np.ndarray) -> float:
    """The statistic over its mean, in standard deviations: about normal, and beyond 5 hardly ever."""
    count = np.bincount(drawn, minlength=len(probability))
    there = probability > 0
    assert not count[~there].any()
    expected = probability[there] * len(drawn)
    freedom = there.sum() - 1
    return float((((count[there] - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_the_sum_tree_is_an_array(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 40) | st.integers(60, 70) | st.integers(4_000, 4_200))
    tree, plain = SumTree(size), np.zeros(size)
    for _ in range(data.draw(st.integers(1, 10))):
        index = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=8)))
        value = np.array(
            data.draw(st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=len(index), max_size=len(index)))
        )
        tree.set(index, value)
        for i, v in zip(index, value, strict=True):
            plain[i] = v
        assert tree.values.tolist() == plain.tolist()
        assert tree.total == pytest.approx(plain.sum(), rel=1e-12)
        if plain.sum() > 0:
            mass = np.array([0.0, 0.25, 0.5, 0.999999]) * tree.total
            found = tree.find(mass)
            assert (plain[found] > 0).all()
            ends = plain.cumsum()
            before = ends - plain
            slack = 1e-9 * tree.total
            assert ((before[found] <= mass + slack) & (mass < ends[found] + slack)).all()
    again = SumTree(size)
    again.values[:] = plain
    again.rebuild()
    assert again.total == tree.total


@pytest.mark.parametrize("size", [3, 5, 6, 7, 9, 11, 13, 63, 64, 65, 200, 4095, 4097, 5000])
def test_rounding_leads_to_nothing_that_has_no_priority(size: int) -> None:
    """Sums round otherwise than running sums, so that the largest mass may be left over at the end of a row."""
    tree = SumTree(size)
    for value in (0.1, 0.3, 0.7, 1.1):
        tree.set(np.arange(size), value)
        mass = tree.total
        for _ in range(8):
            mass = np.nextafter(mass, 0)
            assert tree.find(np.array([mass]))[0] < size


def test_rounding_leads_to_no_first_one_that_is_worth_nothing() -> None:
    """A mass on the border of two rows may be less than nothing in the second one, by rounding."""
    tree, rng = SumTree(4096), np.random.default_rng(0)
    values = rng.random(4096)
    values[::64] = 0.0  # the first of every row
    tree.set(np.arange(4096), values)
    borders = tree._levels[-1][0].cumsum()[:-1]
    assert (values[tree.find(borders)] > 0).all()


def test_what_was_predicted_exactly_may_still_be_drawn() -> None:
    priorities = Priorities(2, 0.5, np.random.default_rng(0))
    priorities.update(np.arange(2), np.zeros(2))
    assert set(priorities.draw(50).tolist()) == {0, 1}
    priorities.update(np.array([1]), np.array([1.0]))
    assert abs(chi_squared(priorities.draw(50_000), np.array([1e-3, 1.0]) / 1.001)) < 5


def test_what_is_drawn_is_in_proportion() -> None:
    priorities = Priorities(6, 0.5, np.random.default_rng(0))
    priorities.enter(np.arange(6))
    priorities.update(np.array([0, 1, 2, 3]), np.array([4.0, 1.0, 0.25, 0.01]) - 1e-6)
    priorities.leave(np.array([5]))
    expected = np.array([2.0, 1.0, 0.5, 0.1, 1.0, 0.0])  # the fifth is new: as the largest when it came
    assert abs(chi_squared(priorities.draw(50_000), expected / expected.sum())) < 5
    priorities.enter(np.array([5]))
    expected[5] = 2.0  # the largest so far
    assert abs(chi_squared(priorities.draw(50_000), expected / expected.sum())) < 5


def test_what_is_new_has_the_largest_priority_there_ever_was() -> None:
    priorities = Priorities(3, 0.5, np.random.default_rng(0))
    priorities.update(np.array([0]), np.array([9.0]))
    priorities.update(np.array([0, 1]), np.array([1.0, 4.0]))
    priorities.enter(np.array([2]))
    assert abs(chi_squared(priorities.draw(50_000), np.array([1.0, 2.0, 3.0]) / 6)) < 5


def test_importance_weights_by_hand() -> None:
    priorities = Priorities(4, 1.0, np.random.default_rng(0))
    priorities.update(np.arange(4), np.array([1.0, 2.0, 4.0, 8.0]) - 1e-6)
    assert priorities.weights(np.array([1, 3, 2]), 1.0).tolist() == pytest.approx([1.0, 0.25, 0.5])
    assert priorities.weights(np.array([1, 3, 2]), 0.5).tolist() == pytest.approx([1.0, 0.5, 0.5**0.5])
    assert priorities.weights(np.array([0, 3]), 0.0).tolist() == [1.0, 1.0]


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="empty"):
        Priorities(4, 0.5, np.random.default_rng(0)).draw(1)


@pytest.mark.parametrize("error", [np.nan, np.inf])
def test_errors_that_are_not_finite_are_told_by_name(error: float) -> None:
    priorities = Priorities(4, 0.5, np.random.default_rng(0))
    priorities.enter(np.arange(4))
    with pytest.raises(DivergedError, match=f"a priority of the replay is {error}"):
        priorities.update(np.array([1, 2]), np.array([1.0, error]))
    priorities.update(np.array([1]), np.array([3.0]))
    assert priorities.draw(4).shape == (4,)


def filled(prioritized: bool = True, steps: int = 60, slots: int = 20) -> FrameReplay:
    config = ReplayConfig(slots * 2, n_step=2, prioritized=prioritized, priority_exponent=1.0)
    replay = FrameReplay(config, tagged_spec(2, 3), 0.9, np.random.default_rng(1))
    episodes = [[Episode(7, True, frozenset()), Episode(5, False, frozenset())] for _ in range(2)]
    for step in tagged_steps(episodes, steps, 3):
        replay.add(step)
    return replay


def test_a_prioritised_replay_draws_what_a_uniform_one_could_in_proportion() -> None:
    uniform, prioritised = filled(False), filled()
    can = np.unique(uniform.sample(5000).index)
    errors = np.linspace(0.5, 3, len(can))
    prioritised.update(can, errors)
    drawn = prioritised.sample(40_000).index
    expected = np.zeros(40)
    expected[can] = errors + 1e-6
    assert abs(chi_squared(drawn, expected / expected.sum())) < 5


def test_its_weights_undo_the_preference() -> None:
    replay = filled()
    replay.update(np.unique(replay.sample(500).index), 3.0)
    first = replay.sample(1).index
    replay.update(first, np.array([12.0]))
    batch = replay.sample(300, 1.0)
    often = batch.index == first[0]
    assert 0 < often.sum() < 300
    assert batch.weight[often] == pytest.approx(0.25, rel=1e-5)
    assert batch.weight[~often] == pytest.approx(1.0)
    assert replay.sample(300).weight.tolist() == [1.0] * 300


def test_its_state_goes_on_the_same_way() -> None:
    one = filled(steps=17)
    one.update(one.sample(8).index, np.arange(8.0))
    other = filled(steps=30)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for _ in range(5):
        a, b = one.sample(16, 0.7), other.sample(16, 0.7)
        assert a.index.tolist() == b.index.tolist()
        assert a.weight.tolist() == b.weight.tolist()
        one.update(a.index, a.reward**2)
        other.update(b.index, b.reward**2)


def test_its_state_knows_the_largest_priority_there_ever_was() -> None:
    one, other = (Priorities(3, 1.0, np.random.default_rng(seed)) for seed in (0, 1))
    one.update(np.array([0]), np.array([9.0]))
    one.update(np.array([0, 1]), np.array([1.0, 2.0]))
    other.load_state_dict(np.arange(3), one.state_dict(np.arange(3)))
    other.enter(np.array([2]))
    assert abs(chi_squared(other.draw(50_000), np.array([1.0, 2.0, 9.0]) / 12)) < 5


@pytest.mark.parametrize("prioritised", [False, True])
def test_a_state_of_the_other_kind_is_refused(prioritised: bool) -> None:
    with pytest.raises(ValueError, match="prioritised"):
        filled(prioritised).load_state_dict(filled(not prioritised).state_dict())
