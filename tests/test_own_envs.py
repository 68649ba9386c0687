"""Small environments of our own: pictures and values by hand and by enumeration, and Gymnasium's own checker."""

from __future__ import annotations

import copy
import itertools
import math
import warnings
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from qladder.envs import own  # noqa: F401
from qladder.envs.catch import Catch
from qladder.envs.crossing import LANES, Crossing
from qladder.envs.errors import UserError
from qladder.envs.flicker import Flicker, flicker
from qladder.envs.masked import hide_velocities
from qladder.envs.permuted import Permuted, permute_afresh, permute_blocks, permute_pixels
from qladder.envs.shapes import ShapeCatch
from qladder.envs.shifted import Shifted, shift_1, shift_2, shift_4
from qladder.envs.sorting import Sort
from qladder.envs.stacked import stack_2, stack_4
from qladder.envs.tmaze import EAST, NORTH, SOUTH, WEST, TMaze

LEFT, STAY, RIGHT = 0, 1, 2
PERMUTING = [partial(wrap, run_seed=0) for wrap in (permute_pixels, permute_blocks, permute_afresh)]


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("qladder/ShapeCatch-v0", {}),
        ("qladder/ShapeCatch-v0", {"margin": 1, "down": -1, "right": 1}),
        ("qladder/Crossing-v0", {}),
        ("qladder/Sort-v0", {}),
        ("qladder/Sort-v0", {"k": 6, "low": 50.0, "high": 150.0}),
        ("qladder/Sort-v0", {"view": "order"}),
        ("qladder/TMaze-v0", {}),
        ("qladder/TMaze-v0", {"length": 20}),
    ],
)
def test_gymnasiums_checker_has_nothing_to_say(env_id: str, kwargs: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(env_id, **kwargs).unwrapped, skip_render_check=True)


def test_sorting_is_drawn_as_bars() -> None:
    env = Sort(k=3, render_mode="rgb_array")
    env.reset(seed=3)
    env._numbers = np.array([0.0, 0.5, 0.999], np.float32)
    picture = env.render()
    assert picture is not None
    assert (picture.shape, picture.dtype) == ((24 * 8, 3 * 4 * 8, 3), np.uint8)
    heights = (picture[:, 4 :: 4 * 8, 0] > 0).sum(axis=0) // 8
    assert heights.tolist() == [1, 12, 23]
    assert not picture[:, 3 * 8 : 4 * 8].any()  # between two bars
    assert Sort().render() is None


def test_a_maze_shows_its_cue_at_the_start_alone() -> None:
    env = TMaze(length=4, render_mode="rgb_array")
    for seed in range(4):
        obs, _ = env.reset(seed=seed)
        cells = env.render()[::32, ::32, 0]  # type: ignore[index]
        cue = int(obs[1])  # 0 north, 1 south
        assert cells.shape == (3, 5)
        assert (cells[2 * cue, 0], cells[2 - 2 * cue, 0], cells[1, 0]) == (160, 0, 255)
        assert cells[:, 4].tolist() == [80, 80, 80]
        env.step(WEST)  # into the wall
        assert env.render()[::32, ::32, 0][:, 0].tolist() == [0, 255, 0]  # type: ignore[index]
        env.step(EAST)
        assert env.render()[::32, ::32, 0][1].tolist() == [80, 255, 80, 80, 80]  # type: ignore[index]
    assert TMaze().render() is None


@pytest.mark.parametrize("env_id", ["ShapeCatch", "Crossing", "Sort", "TMaze"])
def test_gymnasiums_checker_draws_them_too(env_id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(f"qladder/{env_id}-v0", render_mode="rgb_array").unwrapped)


def best_return(env: Any, actions: int, moves: int) -> float:
    """By trying all actions on copies."""
    found = []
    for action in range(actions):
        branch = copy.deepcopy(env)
        _, reward, terminated, truncated, _ = branch.step(action)
        over = terminated or truncated or moves == 1
        found.append(float(reward) + (0.0 if over else best_return(branch, actions, moves - 1)))
    return max(found)


def shape_and_columns(obs: Any) -> tuple[int, int, int]:
    """Whether it is a cross, and the middles of shape and paddle, read from the first picture of a game of margin 0."""
    rows, columns = np.nonzero(obs[0, :3])
    paddle = np.nonzero(obs[0, 18])[0]
    return int(obs[0, rows.min() + 1, columns].sum() == 255), int(columns.mean()), int(paddle.mean())


def test_a_shape_by_hand() -> None:
    env = ShapeCatch(margin=0)
    obs, _ = env.reset(seed=2)
    _, column, paddle = shape_and_columns(obs)
    assert obs.shape == (1, 20, 20)
    assert obs.dtype == np.uint8
    assert np.count_nonzero(obs) == 5 + 5
    obs, *_ = env.step(LEFT)
    assert not obs[0, :2].any()  # it fell two rows
    assert np.nonzero(obs[0, 2:5])[1].mean() == column
    assert np.nonzero(obs[0, 18])[0].mean() == max(paddle - 2, 2)


def test_optimal_play_always_gets_one() -> None:
    """Walking towards a plus, and away from a cross, to the wall that is farther."""
    seen = set()
    for seed in range(200):
        env = ShapeCatch(margin=0)
        obs, _ = env.reset(seed=seed)
        cross, column, paddle = shape_and_columns(obs)
        seen.add((cross, column))
        total, steps, terminated = 0.0, 0, False
        while not terminated:
            goal = (2 if column > 9 else 17) if cross else column
            action = STAY if abs(paddle - goal) <= (0 if cross else 1) else RIGHT if paddle < goal else LEFT
            paddle = min(max(paddle + 2 * (action - 1), 2), 17)
            obs, reward, terminated, truncated, _ = env.step(action)
            total, steps = total + float(reward), steps + 1
            assert not truncated
        assert (total, steps) == (1.0, 8)
    assert len(seen) == 2 * 16  # every column, as plus and as cross


def test_a_moved_camera_shows_the_same_game() -> None:
    still, moved = ShapeCatch(), ShapeCatch(down=-4, right=3)
    for action in (None, LEFT, RIGHT, RIGHT):
        one = still.reset(seed=5)[0] if action is None else still.step(action)[0]
        other = moved.reset(seed=5)[0] if action is None else moved.step(action)[0]
        assert one.shape == (1, 28, 28)
        np.testing.assert_array_equal(np.roll(one, (-4, 3), axis=(1, 2)), other)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="down: 5 is not allowed; must be within the margin of 4"):
        ShapeCatch(down=5)
    with pytest.raises(UserError, match="k: 1 is not allowed"):
        Sort(k=1)
    with pytest.raises(UserError, match="view: 'bits' is not allowed"):
        Sort(view="bits")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="the lower one must be first"):
        Sort(low=1.0, high=1.0)
    with pytest.raises(UserError, match=r"low and high: -inf and 1.0 are not allowed; both finite"):
        Sort(low=-math.inf)
    with pytest.raises(UserError, match="too near to each other for numbers between them to differ"):
        Sort(low=4e6, high=4e6 + 1)
    Sort(low=100.0, high=101.0)
    assert TMaze(length=np.int64(7))._length == 7  # type: ignore[arg-type]
    for make, name in ((TMaze, "length"), (Catch, "size"), (ShapeCatch, "down"), (ShapeCatch, "margin"), (Sort, "k")):
        with pytest.raises(UserError, match=f"{name}: 12.5 is not allowed; must be a whole number"):
            make(**{name: 12.5})


BACK, WAIT, AHEAD = 0, 1, 2


def lane(picture: Any, number: int) -> Any:
    """The rows of a lane, 1 the one next to the lower kerb."""
    top = 28 - 4 * (number + 1)
    return picture[0, top : top + 4] // 255


def test_cars_by_hand() -> None:
    """Each lane has two cars, which move by one pixel or, those of three rows, by three, towards their nose."""
    env = Crossing()
    seen = set()
    for seed in range(5):
        before, _ = env.reset(seed=seed)
        assert before.sum() == 255 * sum(lane(before, n).sum() for n in range(1, LANES + 1)) + 255 * 4  # and the walker
        np.testing.assert_array_equal(np.argwhere(before[0, 24:]), [[1, 13], [1, 14], [2, 13], [2, 14]])
        after, reward, terminated, *_ = env.step(WAIT)
        assert (reward, terminated) == (0.0, False)
        for number in range(1, LANES + 1):
            upper, middle, lower, gap = lane(before, number)
            fast = bool(lower.any())
            assert not gap.any()
            assert (upper.sum(), middle.sum(), lower.sum()) == (6, 8, 6 * fast)
            nose = middle - upper  # the two pixels that only the middle row has
            right = bool((upper[(np.flatnonzero(nose) - 1) % 28] == 1).all())
            moved = (3 if fast else 1) * (1 if right else -1)
            np.testing.assert_array_equal(np.roll(lane(before, number), moved, axis=1), lane(after, number))
            seen.add((fast, right))
    assert len(seen) == 4


def test_a_walk_by_hand() -> None:
    """A sixth for each band; the walker is hit where a car is, wherever the cars have moved to; the other kerb ends."""
    outcomes = set()
    for seed in range(60):
        env = Crossing()
        obs, _ = env.reset(seed=seed)
        cars = {band: int(lane(obs, band).sum()) + 4 for band in range(1, LANES + 1)}
        assert env.step(BACK)[1:3] == (0.0, False)  # there is nothing behind the kerb
        for band in range(1, LANES + 2):
            obs, reward, terminated, truncated, _ = env.step(AHEAD)
            assert reward == pytest.approx(1 / 6)
            assert not truncated
            hit = band <= LANES and lane(obs, band).sum() < cars[band]  # of a car under the walker less is seen
            assert terminated == (hit or band == LANES + 1)
            outcomes.add((hit, terminated))
            if terminated:
                break
            if band == 1 and seed % 2:
                _, reward, *_ = env.step(BACK)
                assert reward == pytest.approx(-1 / 6)
                break
    assert outcomes == {(False, False), (True, True), (False, True)}


def test_how_well_crossing_can_be_played() -> None:
    """Searched: all but a few layouts have a way across in time. What random play gets is the claims' zero."""
    ways = []
    for seed in range(400):
        env = Crossing()
        env.reset(seed=seed)
        ways.append(steps_across(env))
    assert sum(way is None for way in ways) <= 2
    assert 10 < np.mean([way for way in ways if way]) < 13  # straight ahead it would be 6
    env, rng, returns = gymnasium.make("qladder/Crossing-v0"), np.random.default_rng(0), []
    for seed in range(2_000):
        env.reset(seed=seed)
        returns.append(0.0)
        over = False
        while not over:
            _, reward, terminated, truncated, _ = env.step(rng.integers(3))
            returns[-1] += float(reward)
            over = terminated or truncated
    assert np.mean(returns) == pytest.approx(0.237, abs=0.015)  # three standard errors


def steps_across(env: Crossing) -> int | None:
    """The fewest, by trying all actions on copies from every band that can be reached."""
    reached = {0: env}
    for step in range(1, 41):
        now: dict[int, Crossing] = {}
        for band, there in reached.items():
            for action in (BACK, WAIT, AHEAD):
                branch = copy.copy(there)
                branch._cars = there._cars.copy()
                _, _, terminated, *_ = branch.step(action)
                if terminated and band == LANES and action == AHEAD:
                    return step
                if not terminated:
                    now[max(band + action - 1, 0)] = branch
        reached = now
    return None


def test_flicker_shows_nothing_or_everything() -> None:
    env = Flicker(gymnasium.make("CartPole-v1"), dark=0.5)
    bare = gymnasium.make("CartPole-v1")
    dark = []
    for seed in range(40):
        for one, other in ((env.reset(seed=seed)[0], bare.reset(seed=seed)[0]), (env.step(0)[0], bare.step(0)[0])):
            dark.append(not one.any())
            np.testing.assert_array_equal(one, 0 * other if dark[-1] else other)
    assert 20 < sum(dark) < 60
    assert any(dark[::2])  # the first observation too
    with pytest.raises(UserError, match="flicker: Discrete"):
        Flicker(gymnasium.make("FrozenLake-v1"))


def test_sorting_by_hand() -> None:
    env = Sort(k=3)
    numbers, _ = env.reset(seed=1)
    after, reward, *_ = env.step(1)
    np.testing.assert_array_equal(after, numbers[[0, 2, 1]])
    assert reward == -0.05
    _, reward, terminated, truncated, _ = env.step(2)
    assert (reward, terminated, truncated) == (1.0 if list(after) == sorted(after) else -1.0, True, False)
    env.reset(seed=1)
    ends = [env.step(0)[2:4] for _ in range(9)]
    assert ends == [(False, False)] * 8 + [(False, True)]


def test_what_is_in_order_is_told_in_bits() -> None:
    numbers, order = Sort(), Sort(view="order")
    for seed in range(30):
        seen, _ = numbers.reset(seed=seed)
        told, _ = order.reset(seed=seed)
        for action in (0, 2, 1):
            assert told == sum(2**i for i in range(3) if seen[i] <= seen[i + 1])
            seen, told = numbers.step(action)[0], order.step(action)[0]


def test_the_best_that_sorting_gives() -> None:
    """0.85: of 24 orders the mean number of inversions, each of which takes an exchange, is 3."""
    found = []
    for order in itertools.permutations(range(4)):
        env = Sort()
        env.reset(seed=0)
        env._numbers = np.array(order, np.float32)
        inversions = sum(a > b for a, b in itertools.combinations(order, 2))
        found.append(1 - 0.05 * inversions)
        if inversions <= 3:
            assert best_return(env, 4, 4) == pytest.approx(found[-1])
    assert np.mean(found) == pytest.approx(0.85)


registered = partial(gymnasium.make, "qladder/ShapeCatch-v0")  # which the checker makes again from what it says


@pytest.mark.parametrize(
    ("make", "wrapper"),
    [
        *((ShapeCatch, wrap) for wrap in (*PERMUTING, flicker, shift_1)),
        *((Crossing, wrap) for wrap in (*PERMUTING, flicker, shift_4)),
        *((Sort, wrap) for wrap in (flicker, stack_2, stack_4)),
        *((registered, wrap) for wrap in (*PERMUTING, flicker, shift_1)),
        (partial(gymnasium.make, "CartPole-v1"), hide_velocities),
    ],
)
def test_gymnasiums_checker_has_nothing_to_say_of_wrappers(make: Any, wrapper: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version")
        check_env(wrapper(make()), skip_render_check=True)


@pytest.mark.parametrize(("wrapper", "pixels"), [(shift_1, 1), (shift_2, 2), (shift_4, 4)])
def test_a_moved_camera_sees_what_a_moved_field_shows(wrapper: Any, pixels: int) -> None:
    moved, expected = wrapper(ShapeCatch()), ShapeCatch(down=pixels, right=pixels)
    for seed in range(5):
        np.testing.assert_array_equal(moved.reset(seed=seed)[0], expected.reset(seed=seed)[0])
        for action in (0, 2, 1):
            np.testing.assert_array_equal(moved.step(action)[0], expected.step(action)[0])
    with pytest.raises(UserError, match=r"shifted: .* is no picture"):
        wrapper(gymnasium.make("CartPole-v1"))


def test_what_comes_into_sight_repeats_the_edge() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    colours = ShapeCatch()
    colours.observation_space = gymnasium.spaces.Box(0, 255, (96, 96, 3), np.uint8)
    with pytest.raises(UserError, match=r"shifted: .* has its channels last"):
        Shifted(colours, 2)
    with pytest.raises(UserError, match=r"permuted pixels: .* has its channels last"):
        permute_pixels(colours, 0)
    with pytest.raises(UserError, match="has no more than 28 rows or columns"):
        Shifted(ShapeCatch(), 28)
    assert Shifted(ShapeCatch(), 1).observation(picture).tolist() == [[[0, 0, 1, 2], [0, 0, 1, 2], [4, 4, 5, 6]]]


def test_permuted_pixels_are_all_there() -> None:
    plain, mixed, blocks = ShapeCatch(), permute_pixels(ShapeCatch(), 3), permute_blocks(ShapeCatch(), 3)
    again, another = permute_pixels(ShapeCatch(), 3), permute_pixels(ShapeCatch(), 4)
    moved = set()
    for seed in range(20):
        one, other, block = (env.reset(seed=seed)[0] for env in (plain, mixed, blocks))
        assert other.shape == one.shape
        assert np.count_nonzero(other) == np.count_nonzero(block) == np.count_nonzero(one)
        np.testing.assert_array_equal(other, again.reset(seed=seed)[0])  # the same in every environment of a run
        assert not np.array_equal(other, another.reset(seed=seed)[0])  # another run's is another
        assert not np.array_equal(other, one)
        tiles = {picture.tobytes() for picture in one.reshape(7, 4, 7, 4).swapaxes(1, 2).reshape(49, 4, 4)}
        assert {picture.tobytes() for picture in block.reshape(7, 4, 7, 4).swapaxes(1, 2).reshape(49, 4, 4)} == tiles
        moved.add(other.tobytes())
    assert len(moved) > 10


def test_a_fresh_permutation_lasts_an_episode() -> None:
    plain, afresh = ShapeCatch(), permute_afresh(ShapeCatch(), 0)
    orders = set()
    for seed in range(5):
        first, later = [], []
        for env, seen in ((plain, first), (afresh, later)):
            seen += [env.reset(seed=seed)[0], *(env.step(STAY)[0] for _ in range(3))]
        order = afresh._order  # type: ignore[attr-defined]
        for one, other in zip(first, later, strict=True):
            assert np.array_equal(other.ravel(), one.ravel()[order])
        orders.add(order.tobytes())
    assert len(orders) == 5


def test_a_maze_by_hand() -> None:
    env = TMaze(3)
    cues = set()
    for seed in range(8):
        obs, _ = env.reset(seed=seed)
        cue = int(obs.argmax())
        assert obs.tolist() == np.eye(4)[cue].tolist()
        cues.add(cue)
        walked = [env.step(action) for action in (WEST, NORTH, EAST, SOUTH, EAST, WEST, EAST, EAST, EAST)]
        assert [int(seen.argmax()) for seen, *_ in walked] == [2, 2, 2, 2, 2, 2, 2, 3, 3]
        assert [reward for _, reward, *_ in walked] == [-0.1, -0.1, 0, -0.1, 0, 0, 0, 0, -0.1]
        assert not any(terminated or truncated for *_, terminated, truncated, _ in walked)
        _, reward, terminated, truncated, _ = env.step(NORTH if seed % 2 else SOUTH)
        assert terminated
        assert not truncated
        assert reward == (1 if cue == (0 if seed % 2 else 1) else -1)
    assert cues == {0, 1}


def test_a_maze_ends_where_nobody_gets_out() -> None:
    env = TMaze(2)
    env.reset(seed=0)
    ends = [env.step(WEST)[2:4] for _ in range(28)]
    assert ends == [(False, False)] * 27 + [(False, True)]
    with pytest.raises(UserError, match="length: 0 is not allowed"):
        TMaze(0)


def test_stacks_of_vectors_have_the_oldest_first() -> None:
    plain, stack = TMaze(3), stack_2(TMaze(3))
    (first, _), (seen, _) = plain.reset(seed=1), stack.reset(seed=1)
    assert seen.tolist() == [*first, *first]
    second, *_ = plain.step(EAST)
    assert stack.step(EAST)[0].tolist() == [*first, *second]
    third, *_ = plain.step(WEST)
    assert stack.step(WEST)[0].tolist() == [*second, *third]
    assert stack.observation_space.shape == (8,)
    with pytest.raises(UserError, match=r"stacked vectors: .* is no vector"):
        stack_4(ShapeCatch())


def test_permutations_need_pictures_of_whole_blocks() -> None:
    with pytest.raises(UserError, match="is no picture"):
        permute_pixels(gymnasium.make("CartPole-v1"), 0)
    with pytest.raises(UserError, match="22 x 22 pixels are no whole number of 4 x 4"):
        Permuted(ShapeCatch(margin=1), 0, block=4)
