"""The exact solver against published figures, naive recursions and simulation."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.toy_text import blackjack as gymnasium_blackjack
from hypothesis import given, settings
from hypothesis import strategies as st

from qladder.envs import mdp
from qladder.envs.errors import UserError
from qladder.envs.mdp import FiniteMDP

cards: Any = gymnasium_blackjack  # untyped
BLACKJACK_RULES = [(False, True), (False, False), (True, False)]  # natural, sab
LEFT = 3  # CliffWalking's

Outcome = tuple[int, int, float, int, float, bool]


def model(id: str, **kwargs: Any) -> FiniteMDP:
    env = gymnasium.make(id, **kwargs)
    found = mdp.from_gym(env)
    env.close()
    assert found is not None
    return found


def greedy(problem: FiniteMDP, gamma: float) -> mdp.Ints:
    return mdp.optimal_values(problem, gamma)[: problem.num_observations].argmax(axis=1)


def uniform(problem: FiniteMDP) -> mdp.Floats:
    return np.full((problem.num_observations, problem.num_actions), 1 / problem.num_actions)


# Reference figures: float64 dynamic programming done apart from this code, gymnasium 1.4.


@pytest.mark.parametrize(
    ("id", "kwargs", "limit", "within", "without"),
    [
        ("FrozenLake-v1", {}, 100, 0.7441902878, 14 / 17),
        ("FrozenLake-v1", {"is_slippery": False}, 100, 1, 1),
        ("FrozenLake8x8-v1", {}, 200, 0.9132201502, 1),
        ("Taxi-v4", {}, 200, 7.93, 7.93),
        ("Taxi-v4", {"is_rainy": True}, 200, 3.9545745165, 3.9545745165),
        ("CliffWalking-v1", {}, None, -13, -13),
        ("CliffWalkingSlippery-v1", {}, None, -64.7091759100, -64.7091759100),
        ("Blackjack-v1", {}, None, -0.0431131054, -0.0431131054),
        ("Blackjack-v1", {"sab": False, "natural": False}, None, -0.0465559771, -0.0465559771),
        ("Blackjack-v1", {"sab": False, "natural": True}, None, -0.0257291828, -0.0257291828),
    ],
)
def test_optimal_returns(id: str, kwargs: dict[str, Any], limit: int | None, within: float, without: float) -> None:
    problem = model(id, **kwargs)
    assert problem.max_episode_steps == limit
    assert mdp.optimal_return(problem, limit) == pytest.approx(within, abs=2e-10)
    assert mdp.optimal_return(problem, None) == pytest.approx(without, abs=2e-10)


@pytest.mark.parametrize(
    ("id", "random", "at_0", "at_1", "at_5", "at_10"),
    [
        ("FrozenLake-v1", 0.0139398, 0.7401649, 0.6944, 0.5424, 0.4055),
        ("FrozenLake8x8-v1", 0.0019014, 0.8629554, 0.8254, 0.6883, 0.5447),
        ("Taxi-v4", -771.0909994, 7.93, 7.4341, 5.3337, 2.4125),
        ("CliffWalking-v1", -65375.13, -13, -16.0667, -28.8111, -45.8033),
    ],
)
def test_returns_of_random_and_epsilon_greedy_policies(
    id: str, random: float, at_0: float, at_1: float, at_5: float, at_10: float
) -> None:
    problem = model(id)
    limit = problem.max_episode_steps
    q = mdp.optimal_values(problem, gamma=0.99)
    assert mdp.policy_return(problem, uniform(problem), limit) == pytest.approx(random, rel=3e-6, abs=6e-8)
    assert mdp.policy_return(problem, q.argmax(axis=1), limit) == pytest.approx(at_0, abs=6e-8)
    for epsilon, expected in ((0.01, at_1), (0.05, at_5), (0.1, at_10)):
        assert mdp.policy_return(problem, mdp.epsilon_greedy(q, epsilon), limit) == pytest.approx(expected, abs=6e-5)


def test_discounted_start_values() -> None:
    for id, gamma, value in (("FrozenLake-v1", 0.99, 0.5420259320), ("CliffWalking-v1", 0.9, -7.458134171671)):
        problem = model(id)
        assert problem.start @ mdp.optimal_values(problem, gamma).max(axis=1) == pytest.approx(value, abs=1e-9)


def test_cliff_walking_by_hand() -> None:
    problem = model("CliffWalking-v1")
    q = mdp.optimal_values(problem)
    assert q[36].tolist() == [-13, -113, -14, -14]  # the start: up, into the cliff, down and left into the wall
    assert q[35, 2] == -1  # down into the goal
    path = np.full(48, 1)
    path[36], path[35] = 0, 2
    assert mdp.policy_return(problem, path, None) == -13
    assert mdp.policy_return(problem, path, 5) == -5


def test_an_observation_policy_reaches_the_optimum_of_blackjack() -> None:
    for natural, sab in BLACKJACK_RULES:
        problem = model("Blackjack-v1", natural=natural, sab=sab)
        best = mdp.optimal_return(problem, None)
        assert mdp.policy_return(problem, greedy(problem, 1.0), None) == pytest.approx(best, abs=1e-12)


def blackjack_return(policy: mdp.Floats, natural: bool, sab: bool) -> float:
    """What an observation policy earns, by playing out every deal with Gymnasium's own hand functions."""
    chance = {card: cards.deck.count(card) / len(cards.deck) for card in set(cards.deck)}

    @cache
    def dealer(hand: tuple[int, ...]) -> dict[tuple[int, bool], float]:
        if cards.sum_hand(list(hand)) >= 17:
            return {(cards.score(list(hand)), cards.is_natural(list(hand))): 1.0}
        final: dict[tuple[int, bool], float] = {}
        for card, p in chance.items():
            for end, q in dealer(tuple(sorted((*hand, card)))).items():
                final[end] = final.get(end, 0.0) + p * q
        return final

    @cache
    def stick(score: int, has_natural: bool, shown: int) -> float:
        total = 0.0
        for hidden, p in chance.items():
            for (points, dealer_natural), q in dealer(tuple(sorted((shown, hidden)))).items():
                reward = cards.cmp(score, points)
                if sab and has_natural and not dealer_natural:
                    reward = 1.0
                elif natural and not sab and has_natural and reward == 1:
                    reward = 1.5
                total += p * q * reward
        return total

    @cache
    def play(hand: tuple[int, ...], shown: int) -> float:
        held = list(hand)
        if cards.is_bust(held):
            return -1.0
        seen = np.ravel_multi_index((cards.sum_hand(held), shown, cards.usable_ace(held)), (32, 11, 2))
        hit = sum(p * play(tuple(sorted((*hand, card))), shown) for card, p in chance.items())
        stuck = stick(cards.score(held), cards.is_natural(held), shown)
        return float(policy[seen, 0] * stuck + policy[seen, 1] * hit)

    return sum(
        p * q * r * play(tuple(sorted((a, b))), shown)
        for a, p in chance.items()
        for b, q in chance.items()
        for shown, r in chance.items()
    )


@pytest.mark.parametrize(("natural", "sab"), BLACKJACK_RULES)
def test_blackjack_against_every_deal(natural: bool, sab: bool) -> None:
    problem = model("Blackjack-v1", natural=natural, sab=sab)
    policy = np.random.default_rng(1).dirichlet((1, 1), size=704)
    assert problem.num_observations == 704
    exact = mdp.policy_return(problem, policy, None)
    assert exact == pytest.approx(blackjack_return(policy, natural, sab), abs=1e-12)


def simulate(
    env: gymnasium.Env[Any, Any], policy: mdp.Ints, episodes: int, number: Callable[[Any], int]
) -> tuple[float, float]:
    """The mean return of the policy and its standard error."""
    returns = np.zeros(episodes)
    for episode in range(episodes):
        obs, _ = env.reset(seed=7 if episode == 0 else None)
        done = False
        while not done:
            obs, reward, terminated, truncated, _ = env.step(int(policy[number(obs)]))
            returns[episode] += float(reward)
            done = terminated or truncated
    env.close()
    return float(returns.mean()), float(returns.std() / math.sqrt(episodes))


def test_frozen_lake_simulation() -> None:
    problem = model("FrozenLake-v1")
    policy = greedy(problem, 0.99)
    env = gymnasium.make("FrozenLake-v1", disable_env_checker=True)
    mean, error = simulate(env, policy, 2000, int)
    assert abs(mean - mdp.policy_return(problem, policy, 100)) < 4 * error
    assert abs(mean - mdp.policy_return(problem, policy, None)) > 4 * error  # the step limit matters


def test_blackjack_simulation() -> None:
    problem = model("Blackjack-v1")
    policy = np.zeros(704, dtype=np.int64)
    policy[: 17 * 22] = 1  # hits below 17
    env = gymnasium.make("Blackjack-v1", disable_env_checker=True)
    mean, error = simulate(env, policy, 4000, lambda obs: (obs[0] * 11 + obs[1]) * 2 + obs[2])
    exact = mdp.policy_return(problem, policy, None)
    assert abs(mean - exact) < 4 * error
    assert abs(mean - mdp.policy_return(problem, uniform(problem), None)) > 4 * error


# Small MDPs against recursions that share nothing with the code.


@st.composite
def problems(draw: st.DrawFn, max_states: int = 4, max_weight: int = 4) -> tuple[list[Outcome], int, int, list[int]]:
    """Outcomes with duplicates, states without outcomes and shared observations; states, actions, observations."""
    states, actions = draw(st.integers(1, max_states)), draw(st.integers(1, 3))
    outcomes: list[Outcome] = []
    for state in range(states):
        if draw(st.booleans()) and state > 0:
            continue
        for action in range(actions):
            weights = draw(st.lists(st.integers(1, max_weight), min_size=1, max_size=3))
            for weight in weights:
                target, reward = draw(st.integers(0, states - 1)), draw(st.integers(-2, 2))
                outcomes.append((state, action, weight / sum(weights), target, reward, draw(st.booleans())))
    seen = list(range(states))
    if states > 1 and draw(st.booleans()):
        seen[-1] = 0
    return outcomes, states, actions, seen


@settings(deadline=None, max_examples=60)
@given(problems(), st.integers(0, 4), st.integers(0, 2**31))
def test_finite_horizon_against_recursion(
    problem: tuple[list[Outcome], int, int, list[int]], horizon: int, seed: int
) -> None:
    outcomes, states, actions, seen = problem
    generator = np.random.default_rng(seed)
    start = generator.dirichlet(np.ones(states))
    stochastic = generator.dirichlet(np.ones(actions), size=max(seen) + 1)
    fixed = generator.integers(actions, size=max(seen) + 1)
    built = mdp.from_outcomes(outcomes, start, actions, seen)

    def action_value(state: int, action: int, left: int, value: Callable[[int, int], float]) -> float:
        return sum(
            p * (r + (0.0 if end else value(target, left - 1)))
            for s, a, p, target, r, end in outcomes
            if (s, a) == (state, action)
        )

    def best(state: int, left: int) -> float:
        return max(action_value(state, a, left, best) for a in range(actions)) if left else 0.0

    def mixed(state: int, left: int) -> float:
        shares = stochastic[seen[state]]
        return sum(shares[a] * action_value(state, a, left, mixed) for a in range(actions)) if left else 0.0

    def followed(state: int, left: int) -> float:
        return action_value(state, fixed[seen[state]], left, followed) if left else 0.0

    def from_start(value: Callable[[int, int], float]) -> float:
        return sum(start[state] * value(state, horizon) for state in range(states))

    assert mdp.optimal_return(built, horizon) == pytest.approx(from_start(best), abs=1e-12)
    assert mdp.policy_return(built, stochastic, horizon) == pytest.approx(from_start(mixed), abs=1e-12)
    assert mdp.policy_return(built, fixed, horizon) == pytest.approx(from_start(followed), abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(problems(max_states=3, max_weight=2), st.integers(0, 2**31))
def test_the_limit_is_what_long_horizons_approach(
    problem: tuple[list[Outcome], int, int, list[int]], seed: int
) -> None:
    outcomes, states, actions, seen = problem
    generator = np.random.default_rng(seed)
    built = mdp.from_outcomes(outcomes, np.eye(states)[0], actions, seen)
    policy = generator.integers(actions, size=max(seen) + 1)
    short, long = (mdp.policy_return(built, policy, horizon) for horizon in (10_000, 20_000))
    try:
        limit = mdp.policy_return(built, policy, None)
    except UserError:
        return
    if math.isfinite(limit):
        assert limit == pytest.approx(long, abs=1e-9)
    else:
        assert (long - short) * limit == math.inf


def loop(*rewards: float) -> FiniteMDP:
    """A ring of states, with one action, that never ends."""
    states = len(rewards)
    ring = [(s, 0, 1.0, (s + 1) % states, r, False) for s, r in enumerate(rewards)]
    return mdp.from_outcomes(ring, np.eye(states)[0], 1)


def test_policies_that_never_end() -> None:
    cliff, lake = model("CliffWalking-v1"), model("FrozenLake-v1", is_slippery=False)
    assert mdp.policy_return(cliff, np.full(48, LEFT), None) == -math.inf
    assert mdp.policy_return(cliff, np.full(48, LEFT), 250) == -250
    assert mdp.policy_return(lake, np.zeros(16, dtype=int), None) == 0
    assert mdp.policy_return(loop(0, 1), [0, 0], None) == math.inf
    assert mdp.policy_return(loop(-1, 0), [0, 0], None) == -math.inf
    impossible_ending = mdp.from_outcomes([(0, 0, 0.0, 0, 1.0, True), (0, 0, 1.0, 0, -1.0, False)], [1.0], 1)
    assert mdp.policy_return(impossible_ending, [0], None) == -math.inf
    with pytest.raises(UserError, match=r"^policy: .* both signs"):
        mdp.policy_return(loop(1, -1), [0, 0], None)


def test_rewards_on_the_way_into_an_idle_loop_count() -> None:
    outcomes = [(0, 0, 0.5, 0, 3.0, False), (0, 0, 0.5, 1, -1.0, False), (1, 0, 1.0, 1, 0.0, False)]
    problem = mdp.from_outcomes(outcomes, [1.0, 0.0], 1)
    assert mdp.policy_return(problem, [0, 0], None) == pytest.approx(2.0)  # one visit more than once: 2 x (3 - 1) / 2


def test_an_endless_loop_that_is_not_reached_does_not_matter() -> None:
    outcomes = [(0, 0, 1.0, 0, 5.0, True), (1, 0, 1.0, 1, -1.0, False)]
    assert mdp.policy_return(mdp.from_outcomes(outcomes, [1.0, 0.0], 1), [0, 0], None) == 5


@pytest.mark.parametrize("rewards", [(1.0,), (-1.0,), (0.0, 2.0), (1.0, -1.0)])
def test_values_without_a_finite_limit_are_refused(rewards: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="gamma: 1 gives no finite optimal values"):
        mdp.optimal_return(loop(*rewards), None)
    assert np.isfinite(mdp.optimal_values(loop(*rewards), gamma=0.9)).all()
    assert mdp.optimal_return(loop(*rewards), 3) == sum((rewards * 3)[:3])


def test_ties_go_to_the_lowest_action() -> None:
    policy = mdp.epsilon_greedy([[1.0, 2.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0]], 0.2)
    assert policy == pytest.approx(np.array([[0.05, 0.85, 0.05, 0.05], [0.85, 0.05, 0.05, 0.05]]))


@pytest.mark.parametrize("id", ["FrozenLake-v1", "Taxi-v4", "CliffWalkingSlippery-v1", "Blackjack-v1"])
def test_models_are_distributions(id: str) -> None:
    problem = model(id)
    mass = np.bincount(problem.source, problem.probability)
    assert mass[mass > 0] == pytest.approx(1.0)
    assert problem.start.sum() == pytest.approx(1.0)


def test_unknown_models() -> None:
    for id, kwargs in (("CartPole-v1", {}), ("Taxi-v4", {"fickle_passenger": True})):
        env = gymnasium.make(id, **kwargs)
        assert mdp.from_gym(env) is None
        env.close()


def test_the_step_limit_is_the_environments_own() -> None:
    assert model("CliffWalking-v1", max_episode_steps=77).max_episode_steps == 77
