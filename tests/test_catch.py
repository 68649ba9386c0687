"""Catch: pictures by hand, values by enumeration, and Gymnasium's own checker."""

from __future__ import annotations

import copy
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

from qladder.envs import catch
from qladder.envs.catch import Catch
from qladder.envs.errors import UserError

LEFT, STAY, RIGHT = 0, 1, 2


def ball_and_paddle(obs: NDArray[np.uint8]) -> tuple[int, int]:
    """Their columns, read from a 10 x 10 picture whose ball is above the bottom row."""
    return int(obs[0, :9].max(axis=0).argmax()), int(obs[0, 9].argmax())


def start(column: int) -> tuple[Catch, NDArray[np.uint8]]:
    """A game whose ball starts in that column."""
    for seed in range(1000):
        env = Catch()
        obs, _ = env.reset(seed=seed)
        if ball_and_paddle(obs)[0] == column:
            return env, obs
    raise AssertionError(f"no ball in column {column}")


def values(env: Catch, obs: NDArray[np.uint8], known: dict[bytes, tuple[float, float]]) -> tuple[float, float]:
    """The exact return of uniformly random and of optimal play, by trying all actions on copies of the game."""
    if obs.tobytes() not in known:
        random, best = [], []
        for action in (LEFT, STAY, RIGHT):
            branch = copy.deepcopy(env)
            next_obs, reward, terminated, truncated, _ = branch.step(action)
            assert not truncated
            after = (0.0, 0.0) if terminated else values(branch, next_obs, known)
            random.append(reward + after[0])
            best.append(reward + after[1])
        known[obs.tobytes()] = (sum(random) / 3, max(best))
    return known[obs.tobytes()]


def test_exact_values() -> None:
    # The ball's column is independent of a random paddle, wherever that ends: it is met with probability 1/10.
    pairs = [values(*start(column), {}) for column in range(10)]
    assert [best for _, best in pairs] == [1.0] * 10
    assert sum(random for random, _ in pairs) / 10 == pytest.approx(0.1 - 0.9)


def test_optimal_play_always_catches() -> None:
    env = Catch()
    for seed in range(100):
        obs, _ = env.reset(seed=seed)
        for step in range(1, 10):
            ball, paddle = ball_and_paddle(obs)
            obs, reward, terminated, truncated, _ = env.step(1 + int(np.sign(ball - paddle)))
            assert (reward, terminated, truncated) == ((1.0, True, False) if step == 9 else (0.0, False, False))


def test_every_column_is_as_likely() -> None:
    env = Catch()
    env.reset(seed=0)
    counts = np.bincount([ball_and_paddle(env.reset()[0])[0] for _ in range(5000)], minlength=10)
    assert counts.shape == (10,)
    assert ((counts - 500) ** 2 / 500).sum() < 27.9  # chi-squared with 9 degrees of freedom, p = 0.001


def test_pictures_by_hand() -> None:
    env, obs = start(3)
    expected = np.zeros((1, 10, 10), np.uint8)
    expected[0, 0, 3] = expected[0, 9, 5] = 255
    assert obs.dtype == np.uint8
    np.testing.assert_array_equal(obs, expected)

    obs = env.step(RIGHT)[0]
    expected[:] = 0
    expected[0, 1, 3] = expected[0, 9, 6] = 255
    np.testing.assert_array_equal(obs, expected)

    for _ in range(8):
        obs, reward, terminated, *_ = env.step(RIGHT)  # stops at the wall
    expected[:] = 0
    expected[0, 9, 3] = expected[0, 9, 9] = 255
    np.testing.assert_array_equal(obs, expected)
    assert (reward, terminated) == (-1.0, True)


def test_left_wall() -> None:
    env, obs = start(0)
    for _ in range(9):
        obs, reward, *_ = env.step(LEFT)
    assert reward == 1.0
    assert np.argwhere(obs).tolist() == [[0, 9, 0]]  # ball and paddle in one cell


def test_large_picture_shows_the_same_grid() -> None:
    small, large = Catch(), Catch(size=84)
    for seed in range(5):
        expected, _ = small.reset(seed=seed)
        obs, _ = large.reset(seed=seed)
        for action in (RIGHT, RIGHT, LEFT, STAY, LEFT, LEFT, LEFT, LEFT, LEFT):
            assert obs.shape == (1, 84, 84)
            np.testing.assert_array_equal(obs[:, 2:82, 2:82], np.kron(expected, np.ones((1, 8, 8), np.uint8)))
            assert obs.sum() == obs[:, 2:82, 2:82].sum()  # nothing in the margin
            expected, obs = small.step(action)[0], large.step(action)[0]


def test_rendering() -> None:
    env = Catch(render_mode="rgb_array")
    obs, _ = env.reset(seed=1)
    picture = env.render()
    assert picture is not None
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, np.kron(obs[0], np.ones((16, 16), np.uint8))[:, :, None].repeat(3, axis=2))
    assert Catch().render() is None


def test_observations_are_not_reused() -> None:
    env = Catch()
    obs, _ = env.reset(seed=0)
    before = obs.copy()
    env.step(RIGHT)
    np.testing.assert_array_equal(obs, before)


def test_same_seed_same_games() -> None:
    def columns(seed: int) -> list[int]:
        env = Catch()
        first = ball_and_paddle(env.reset(seed=seed)[0])[0]
        return [first, *(ball_and_paddle(env.reset()[0])[0] for _ in range(20))]

    assert columns(7) == columns(7)
    assert columns(7) != columns(8)


@pytest.mark.parametrize(("env_id", "size"), [("qladder/Catch-v0", 10), ("qladder/Catch84-v0", 84)])
def test_registered_and_checked(env_id: str, size: int) -> None:
    env = gymnasium.make(env_id, render_mode="rgb_array").unwrapped
    assert env.observation_space == gymnasium.spaces.Box(0, 255, (1, size, size), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)


def test_registering_twice_changes_nothing() -> None:
    spec = gymnasium.spec("qladder/Catch84-v0")
    catch.register()
    assert gymnasium.spec("qladder/Catch84-v0") is spec


def test_too_small_a_picture_is_refused() -> None:
    with pytest.raises(UserError, match="size: 9 is not allowed; must be at least 10 pixels"):
        Catch(size=9)
