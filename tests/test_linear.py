"""Linear agents and their features against hand-worked updates, naive bases and lambda returns."""

from __future__ import annotations

import itertools
import math
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qladder.agents.fit import bounds
from qladder.agents.linear_q import LinearQ
from qladder.agents.linear_sarsa import LinearSarsa, LinearSarsaConfig
from qladder.agents.schedules import Schedule, constant
from qladder.envs.errors import UserError
from qladder.envs.fourier import FourierBasis
from qladder.envs.random_cosines import RandomCosines
from qladder.envs.rbf import RadialBasis
from qladder.envs.spec import EnvSpec
from qladder.envs.tiles import TileCoder
from qladder.replay.types import Step
from qladder.runners import checkpoint
from qladder.runners.config import resolve
from qladder.runners.loading import make_agent, make_environment
from qladder.runners.loop import Ratio, interact
from qladder.runners.settings import fields_help

VECTORS = EnvSpec("Vectors-v0", 1, False, (1,), "float32", None, 2, (0.0,), (1.0,))
STATES = EnvSpec("States-v0", 1, False, (), "int64", 3, 2)
LOW, HIGH = (-1.0, 10.0, 0.0), (1.0, 30.0, 2.0)
POINTS = np.random.default_rng(0).uniform((-1.2, 8.0, -0.1), (1.2, 32.0, 2.1), (40, 3))  # some are outside


def linear(cls: Any = LinearQ, seed: int = 0, **settings: Any) -> Any:
    return cls(cls.Config(**settings), VECTORS, seed=seed, device="cpu")


def at(x: float) -> Any:
    return np.array([x], np.float32)


def learn(agent: Any, *step: Any, k: int = 1) -> None:
    agent.observe(Step(*step))
    agent.learn(k)


def test_the_fourier_basis_as_a_plain_loop() -> None:
    basis = FourierBasis(LOW, HIGH, (2, 1, 3))
    frequencies = list(itertools.product(range(3), range(2), range(4)))
    assert basis.num_features == 24
    assert [tuple(c) for c in basis.coefficients.astype(int).tolist()] == frequencies
    for point in POINTS:
        x = [min(max((v - lo) / (hi - lo), 0), 1) for v, lo, hi in zip(point, LOW, HIGH, strict=True)]
        expected = [math.cos(math.pi * sum(c * v for c, v in zip(f, x, strict=True))) for f in frequencies]
        assert basis(point) == pytest.approx(expected)
    assert basis.scale == pytest.approx([1.0] + [1 / math.sqrt(sum(c * c for c in f)) for f in frequencies[1:]])
    assert basis.constant(3.0) @ basis(POINTS[0]) == pytest.approx(3.0)


def test_the_radial_basis_as_a_plain_loop() -> None:
    basis = RadialBasis(LOW, HIGH, (3, 1, 2), 0.7)
    centers = list(itertools.product((-1.0, 0.0, 1.0), (20.0,), (0.0, 2.0)))
    spacing = (1.0, 20.0, 2.0)
    for point in POINTS:
        x = np.clip(point, LOW, HIGH)
        near = [math.exp(-sum(((x - c) / spacing) ** 2) / (2 * 0.7**2)) for c in centers]
        assert basis(point) == pytest.approx([n / sum(near) for n in near])
    assert basis.num_features == 6
    assert basis.constant(3.0) @ basis(POINTS[0]) == pytest.approx(3.0)


def test_random_cosines_as_a_plain_loop_and_what_they_stand_for() -> None:
    basis = RandomCosines(LOW, HIGH, 7, 0.5, 3)
    assert basis.num_features == 8
    for point in POINTS:
        x = [min(max((v - lo) / (hi - lo), 0), 1) for v, lo, hi in zip(point, LOW, HIGH, strict=True)]
        expected = [
            math.sqrt(2) * math.cos(sum(w * v for w, v in zip(direction, x, strict=True)) + shift)
            for direction, shift in zip(basis.directions, basis.shifts, strict=True)
        ]
        assert basis(point) == pytest.approx([1.0, *expected])
    assert basis.constant(3.0) @ basis(POINTS[0]) == pytest.approx(3.0)
    many = RandomCosines((0.0, 0.0), (1.0, 1.0), 50_000, 0.5, 0)
    one, other = np.array([0.2, 0.9]), np.array([0.5, 0.6])
    kernel = math.exp(-sum((one - other) ** 2) / (2 * 0.5**2))
    assert many(one)[1:] @ many(other)[1:] / 50_000 == pytest.approx(kernel, abs=0.02)


def test_weights_of_random_features_come_with_these() -> None:
    settings = {"features": "random", "count": 5, "epsilon": constant(0.0)}
    agent, other = linear(seed=0, **settings), linear(seed=1, **settings)
    for x in (0.1, 0.4, 0.8):
        learn(agent, at(x), 0, 1.0, 0.0, True, at(x))
    assert other.values(at(0.3)) != agent.values(at(0.3))
    other.load_state_dict(agent.state_dict())
    assert other.values(at(0.3)) == agent.values(at(0.3))
    with pytest.raises(ValueError, match=r"instead of numbers"):
        linear(**{**settings, "count": 6}).load_state_dict(agent.state_dict())


def test_the_narrowest_gaussians_are_the_nearest_center() -> None:
    assert RadialBasis((0.0,), (1.0,), 3, 1e-4)(np.array([0.7])).tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("basis", "arguments", "said"),
    [
        (FourierBasis, ((0.0,), (1.0,), 0), "order: 0 is not allowed"),
        (FourierBasis, ((0.0,) * 2, (1.0,) * 2, (3, 3, 3)), "order: 3 numbers"),
        (FourierBasis, ((0.0,) * 4, (1.0,) * 4, 20), r"order: \[20, 20, 20, 20\] makes 1\.94e\+05 features"),
        (FourierBasis, ((0.0,), (0.0,), 3), "dimension 0"),
        (RadialBasis, ((0.0,), (1.0,), 0), "centers: 0 is not allowed"),
        (RadialBasis, ((0.0,) * 4, (1.0,) * 4, 20), r"centers: \[20, 20, 20, 20\] make 1\.6e\+05 features"),
        (RadialBasis, ((0.0,), (1.0,), 3, 0.0), r"width: 0\.0 is not allowed"),
        (RadialBasis, ((0.0,), (math.inf,), 3), "dimension 0"),
    ],
)
def test_features_that_cannot_be_are_named(basis: Any, arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        basis(*arguments)


@pytest.mark.parametrize("cls", [LinearQ, LinearSarsa])
def test_an_update_worked_by_hand(cls: Any) -> None:
    agent = linear(cls, gamma=0.5, step_size=constant(0.5), initial_value=2.0, epsilon=constant(0.0), tilings=2)
    here, there = at(0.1), at(0.9)
    assert agent.values(here) == pytest.approx([2.0, 2.0])
    agent.act(here, True, True)
    learn(agent, here, 1, 3.0, 1.0, False, there)  # 2 + .5 (3 + .5 * 2 - 2)
    assert agent.values(here) == pytest.approx([2.0, 3.0])
    assert agent.values(there) == pytest.approx([2.0, 2.0])
    agent.act(here, True, True)
    learn(agent, here, 1, 5.0, 0.0, True, there)  # terminated: 3 + .5 (5 - 3)
    assert agent.values(here) == pytest.approx([2.0, 4.0])
    agent.act(here, True, True)
    learn(agent, here, 1, 5.0, 1.0, True, there)  # truncated: 4 + .5 (5 + .5 * 2 - 4)
    assert agent.values(here) == pytest.approx([2.0, 5.0])


def test_a_fourier_update_worked_by_hand() -> None:
    # At x = 1/3: 1, cos(pi/3) = .5, cos(2 pi/3) = -.5; step sizes in proportion 1 : 1 : 1/2, so that the value changes
    # by half of the error of 11: it is 1 + .25 + .125 for a change of (1, .5, -.25) in the weights.
    agent = linear(features="fourier", order=(2,), step_size=constant(0.5))
    learn(agent, np.array([1 / 3]), 0, 11.0, 0.0, True, at(0.0))
    assert agent.values(np.array([1 / 3])) == pytest.approx([5.5, 0.0])
    assert agent.state_dict()["weights"] == pytest.approx(np.array([[4.0, 2.0, -1.0], [0.0, 0.0, 0.0]]))


def test_linear_sarsa_learns_from_the_action_that_it_then_takes() -> None:
    taken = set()
    for seed in range(8):
        agent = linear(LinearSarsa, seed, gamma=0.5, step_size=constant(1.0), epsilon=constant(1.0), trace_decay=0.0)
        learn(agent, at(0.9), 1, 6.0, 0.0, True, at(0.1))
        agent.act(at(0.1), True, True)
        learn(agent, at(0.1), 0, 1.0, 1.0, False, at(0.9))
        assert agent.act(at(0.9), False, False)[0] == 1
        action = agent.act(at(0.9), False, True)[0]
        assert agent.values(at(0.1)) == pytest.approx([1.0 if action == 0 else 4.0, 0.0])  # 1 + .5 * (0 or 6)
        taken.add(action)
    assert taken == {0, 1}


@pytest.mark.parametrize(("traces", "expected"), [("accumulating", 1.25), ("replacing", 1.0)])
def test_another_visit_adds_to_a_trace_or_replaces_it(traces: str, expected: float) -> None:
    settings: dict[str, Any] = {"gamma": 0.5, "trace_decay": 0.5, "step_size": constant(0.5), "traces": traces}
    agent = linear(LinearSarsa, epsilon=constant(0.0), tilings=4, **settings)
    for reward in (0.0, 2.0):  # the second visit's error of 2 finds traces of 1.25 or 1 on all four tiles
        learn(agent, at(0.1), 0, reward, 1.0, False, at(0.9))
    assert agent.values(at(0.1)) == pytest.approx([expected, 0.0])


@pytest.mark.parametrize(("discount", "last"), [(1.0, True), (1.0, False), (0.0, False)])
@pytest.mark.parametrize("features", ["tiles", "rbf"])
def test_no_trace_reaches_over_an_end(features: str, discount: float, last: bool) -> None:
    """A truncation, a run resumed in another episode, and a life lost within one."""
    settings: dict[str, Any] = {"features": features, "centers": (2,), "width": 0.01, "traces": "accumulating"}
    agent = linear(LinearSarsa, gamma=1.0, step_size=constant(0.5), epsilon=constant(0.0), trace_decay=1.0, **settings)
    agent.act(at(0.1), True, True)
    learn(agent, at(0.1), 0, 0.0, discount, last, at(0.1))
    agent.act(at(0.9), discount == 1.0, True)
    learn(agent, at(0.9), 0, 2.0, 0.0, True, at(0.1))
    assert agent.values(at(0.1)) == pytest.approx([0.0, 0.0])
    assert agent.values(at(0.9)) == pytest.approx([1.0, 0.0])


def directions(agent: str, x: Any) -> tuple[Any, Any]:
    """Features of a point, and the change of weights that raises its value by 1."""
    if agent == "tiles":
        features = np.zeros(72)
        features[TileCoder((0.0,), (1.0,), 8, 8)(x)] = 1.0
        return features, features / 8
    bases: dict[str, Any] = {
        "fourier": FourierBasis((0.0,), (1.0,), 3),
        "rbf": RadialBasis((0.0,), (1.0,), 5, 0.5),
        "random": RandomCosines((0.0,), (1.0,), 500, 0.25, 0),
    }
    basis = bases[agent]
    features = basis(x)
    return features, basis.scale * features / sum(basis.scale * features**2)


@pytest.mark.parametrize("features", ["tiles", "fourier", "rbf", "random"])
@pytest.mark.parametrize("terminated", [True, False])
def test_sarsa_lambda_adds_up_to_lambda_returns(features: str, terminated: bool) -> None:
    rng = np.random.default_rng(0)
    size, gamma, decay, steps = 1e-6, 0.9, 0.8, 30
    settings: dict[str, Any] = {"gamma": gamma, "trace_decay": decay, "step_size": constant(size), "features": features}
    chosen = {"traces": "accumulating", "trace_min": 0.0, "tilings": 8, "epsilon": constant(0.5)}
    agent = linear(LinearSarsa, **settings, **chosen)
    state = agent.state_dict()
    before = rng.normal(size=state["weights"].shape)
    agent.load_state_dict({**state, "weights": before.copy()})
    obs, rewards = [at(x) for x in rng.random(steps + 1)], rng.normal(size=steps)
    actions = []
    for t in range(steps):
        actions.append(agent.act(obs[t], t == 0, True)[0])
        end = t == steps - 1
        learn(agent, obs[t], actions[t], float(rewards[t]), float(not (end and terminated)), end, obs[t + 1])
    actions.append(agent.state_dict()["next_action"])  # of a truncation's bootstrap; None where it terminated
    assert (actions[-1] is None) == terminated
    value = [0.0 if a is None else before[a] @ directions(features, x)[0] for a, x in zip(actions, obs, strict=True)]
    expected, lambda_return = np.zeros_like(before), value[-1]
    for t in reversed(range(steps)):
        lambda_return = rewards[t] + gamma * ((1 - decay) * value[t + 1] + decay * lambda_return)
        expected[actions[t]] += (lambda_return - value[t]) * directions(features, obs[t])[1]
    assert (agent.state_dict()["weights"] - before) / size == pytest.approx(expected, abs=1e-3)


RUNGS = [
    ("linear-q", {}),
    ("linear-q", {"features": "fourier"}),
    ("linear-q", {"features": "rbf"}),
    ("linear-q", {"features": "random"}),
    ("linear-q", {"table_size": 300}),
    ("linear-sarsa", {}),
    ("linear-sarsa", {"features": "fourier", "traces": "accumulating"}),
    ("linear-sarsa", {"features": "rbf", "traces": "accumulating"}),
]


@pytest.mark.parametrize(("name", "settings"), RUNGS)
def test_a_saved_agent_goes_on_the_same_way_in_the_middle_of_an_episode(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    config = resolve(name, "CartPole-v1", {"agent": {**settings, "epsilon": 0.3}})
    env = make_environment(config, batched=False)
    agent, other = (make_agent(config, env.spec, "cpu") for _ in range(2))
    moment = next(islice(interact(env, agent, Ratio(0, 1, 2), False), 503, None))
    assert not moment.time_step.last
    before = agent.state_dict()
    agent.act(np.full(4, 0.05, np.float32), True, False)  # an evaluation in between changes nothing
    np.testing.assert_equal(agent.state_dict(), before)
    other.load_state_dict(checkpoint.load(checkpoint.save(tmp_path, 503, before)))
    rng = np.random.default_rng(0)
    obs = moment.time_step.obs
    for t in range(60):
        action = agent.act(obs, False, True)[0]
        assert other.act(obs, False, True)[0] == action
        next_obs = rng.normal(0, 0.1, 4).astype(np.float32)
        for one in (agent, other):
            learn(one, obs, action, t % 5 - 2.0, float(t % 13 > 0), False, next_obs, k=2)
        obs = next_obs
    np.testing.assert_equal(other.state_dict(), agent.state_dict())


@pytest.mark.parametrize("clock", ["agent_steps", "updates"])
@pytest.mark.parametrize("cls", [LinearQ, LinearSarsa])
def test_the_step_size_follows_its_schedule(cls: Any, clock: Any) -> None:
    agent = linear(cls, step_size=Schedule(0.8, 0.0, 8, clock))
    value = 0.0
    for step in range(3):
        learn(agent, at(0.3), 0, 1.0, 0.0, True, at(0.4), k=2)
        for update in range(2):
            ticks = step + 1 if clock == "agent_steps" else 2 * step + update
            value += 0.8 * (1 - ticks / 8) * (1.0 - value)
        assert agent.values(at(0.3)) == pytest.approx([value, 0.0])
        agent.act(at(0.3), True, True)


@pytest.mark.parametrize("cls", [LinearQ, LinearSarsa])
def test_greedy_play_where_it_never_was_numbers_no_tiles(cls: Any) -> None:
    agent = linear(cls, tilings=4, table_size=30)  # fewer than the 36 there are, so they are numbered as they are met
    learn(agent, at(0.1), 0, 1.0, 1.0, False, at(0.2))
    before = agent.state_dict()
    assert 0 < len(before["tiles"]["keys"]) < 12
    for x in (0.5, 0.7, 0.9):
        assert agent.act(at(x), True, False)[0] == 0
        assert agent.values(at(x)) == [0.0, 0.0]
    np.testing.assert_equal(agent.state_dict(), before)
    agent.act(at(0.9), True, True)
    assert len(agent.state_dict()["tiles"]["keys"]) > len(before["tiles"]["keys"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"features": "wavelets"}, r"agent\.features = 'wavelets'.*'tiles', 'fourier', 'rbf' or 'random'"),
        ({"order": 0}, r"agent\.order.* = 0"),
        ({"width": 0}, r"agent\.width = 0"),
        ({"tiles": -1}, r"agent\.tiles.* = -1"),
        ({"step_size": -1.0}, r"agent\.step_size.* = -1"),
        ({"trace_decay": 1.5}, r"agent\.trace_decay = 1\.5"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        resolve("linear-sarsa", "CartPole-v1", {"agent": settings})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"features": "fourier", "traces": "replacing"}, r"agent\.traces = 'replacing'.*accumulating works"),
        ({"features": "fourier", "order": (3, 3)}, r"agent\.order: 2 numbers \[3, 3\] for 1 dimensions"),
        ({"features": "rbf", "centers": (200_000,)}, r"agent\.centers: \[200000\] make 2e\+05 features"),
        ({"features": "random", "count": 100_000}, r"agent\.count: 100000 is not allowed"),
        ({"low": (2.0,)}, r"agent\.low, high: \[2\.0, 1\.0\] in dimension 0"),
    ],
)
def test_features_that_do_not_fit_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        linear(LinearSarsa, **settings)


@pytest.mark.parametrize("cls", [LinearQ, LinearSarsa])
def test_what_is_no_vector_is_refused(cls: Any) -> None:
    pictures = EnvSpec("Pictures-v0", 1, False, (4, 84, 84), "uint8", None, 2)
    for spec, said in ((pictures, "dqn can"), (STATES, "q-learning can")):
        with pytest.raises(UserError, match=f"{cls.name} cannot play.*{said}"):
            cls(cls.Config(), spec, seed=0, device="cpu")


def test_help_knows_the_fields_of_all_that_share_them() -> None:
    told = {name: meaning for name, _, meaning in fields_help(LinearSarsaConfig, {})}
    assert told["gamma"] == "Discount of one agent step."
    assert told["trace_decay"].startswith("Lambda")
    assert [name for name, meaning in told.items() if not meaning] == ["high"]


def vector_spec(low: tuple[float, ...], high: tuple[float, ...]) -> EnvSpec:
    return EnvSpec("Vector-v0", 1, False, (len(low),), "float32", None, 2, low, high)


def test_bounds_are_those_given_those_of_the_environment_or_within_reach() -> None:
    spec = vector_spec((-2.0, 0.0, -3e38, -math.inf), (1.0, math.inf, 3e38, 7.0))
    assert bounds(spec, None, None, 4.0) == ([-2.0, 0.0, -4.0, -1.0], [1.0, 8.0, 4.0, 7.0])
    assert bounds(spec, (-9.0,) * 4, None, 4.0) == ((-9.0,) * 4, [1.0, 8.0, 4.0, 7.0])
    with pytest.raises(UserError, match=r"agent\.high has 3 values; Vector-v0 observes 4"):
        bounds(spec, None, (1.0,) * 3, 4.0)
