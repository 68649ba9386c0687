"""A rollout's targets against a plain reference that is told every true successor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tagged import Episode, tagged_steps

from qladder.replay.returns import lambda_returns
from qladder.replay.rollout import Rollout
from qladder.replay.types import Step
from qladder.runners import checkpoint

SCRIPT = [
    [Episode(3, True, frozenset()), Episode(2, False, frozenset())],
    [Episode(5, False, frozenset({1})), Episode(1, False, frozenset())],  # a life lost, then truncated at every length
    [Episode(40, True, frozenset({4, 6}))],
    [Episode(4, True, frozenset({3}))],
]
GAMMA, DECAY = 0.9, 0.65


def value(obs: Any) -> Any:
    """Another one for every observation of the script: environment, episode and step."""
    return obs.astype(np.float32) @ np.array([100.0, 10.0, 1.0], np.float32)


def steps(count: int, start: int = 0) -> list[Step]:
    told = list(tagged_steps(SCRIPT, start + count, 1))[start:]
    return [step._replace(extras=value(step.obs)) for step in told]


def filled(given: list[Step]) -> Rollout:
    rollout = Rollout(GAMMA, DECAY)
    for step in given:
        rollout.add(step)
    return rollout


def reference(given: list[Step]) -> Any:
    names = ("reward", "discount", "last")
    columns = [np.stack([getattr(step, name) for step in given]) for name in names]
    next_value = np.stack([value(step.next_obs) for step in given])
    return lambda_returns(*columns, next_value, gamma=GAMMA, trace_decay=DECAY)


@pytest.mark.parametrize("start", range(4))
@pytest.mark.parametrize("count", range(1, 12))
def test_targets_are_those_of_the_true_successors(start: int, count: int) -> None:
    given = steps(count, start)
    rollout = filled(given)
    ends = rollout.ends()
    truncated = sum(int((step.last & (step.discount > 0)).sum()) for step in given[:-1])
    assert len(ends) == truncated + len(SCRIPT)  # no more forward passes than that
    told = rollout.targets(value(ends))
    assert np.allclose(told.target, reference(given).ravel(), atol=1e-3)
    assert told.obs.tolist() == np.concatenate([step.obs for step in given]).tolist()
    assert told.action.tolist() == np.concatenate([step.action for step in given]).tolist()
    assert len(rollout) == len(told.target) == count * len(SCRIPT)


def test_arrays_that_are_written_again_were_copied() -> None:
    given = steps(6)
    expected = filled(given).targets(value(filled(given).ends()))
    rollout, reused = Rollout(GAMMA, DECAY), Step(*(np.copy(field) for field in given[0]))
    for step in given:
        for buffer, field in zip(reused, step, strict=True):
            buffer[...] = field
        rollout.add(reused)
    for buffer in reused:
        buffer[...] = 0
    for one, other in zip(rollout.targets(value(rollout.ends())), expected, strict=True):
        assert np.array_equal(one, other)


def test_it_starts_anew_after_it_was_learnt_from() -> None:
    given = steps(10)
    rollout = filled(given[:5])
    rollout.clear()
    assert len(rollout) == 0
    for step in given[5:]:
        rollout.add(step)
    assert np.allclose(rollout.targets(value(rollout.ends())).target, reference(given[5:]).ravel(), atol=1e-3)


def test_episodes_that_start_anew_truncate_those_under_way() -> None:
    """As after a resume: the environments begin other episodes."""
    before, after = steps(5), steps(4, start=20)
    rollout = filled(before)
    under_way = ~before[-1].last
    rollout.stop(np.ones(4, np.bool_))
    for step in after:
        rollout.stop(np.zeros(4, np.bool_))
        rollout.add(step)
    assert under_way.any()
    cut = before[-1]._replace(last=np.ones(4, np.bool_))
    expected = np.concatenate([reference([*before[:-1], cut]), reference(after)]).ravel()
    assert np.allclose(rollout.targets(value(rollout.ends())).target, expected, atol=1e-3)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_checkpoint_goes_on_the_same_way(count: int, tmp_path: Path) -> None:
    given = steps(10)
    one, other = filled(given[:count]), Rollout(GAMMA, DECAY)
    other.load_state_dict(checkpoint.load(checkpoint.save(tmp_path, 1, one.state_dict())))
    assert len(other) == len(one)
    for step in given[count:]:
        for rollout in (one, other):
            rollout.stop(np.zeros(4, np.bool_))
            rollout.add(step)
    for a, b in zip(one.targets(value(one.ends())), other.targets(value(other.ends())), strict=True):
        assert np.array_equal(a, b)
        assert a.dtype == b.dtype
