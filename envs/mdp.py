"""Finite MDPs whose model is known: exact optimal values, and exact returns of any policy, by dynamic programming."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.envs.toy_text.blackjack import BlackjackEnv

from qladder.envs import blackjack
from qladder.envs.errors import UserError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ROUNDING = 4 * float(np.finfo(np.float64).eps)
PATIENCE = 10_000  # sweeps in which undiscounted value iteration must at least halve its change


@dataclass(frozen=True, eq=False)
class FiniteMDP:
    """A finite MDP as K outcomes, in any order; the same outcome may be listed more than once.

    A state and action without outcomes is worth nothing, like a termination. States that the agent cannot tell apart
    share an observation; those below `num_observations` are observed as their own number.
    """

    num_states: int
    num_actions: int
    num_observations: int
    source: Ints  # [K] state * num_actions + action
    probability: Floats  # [K]
    next_state: Ints  # [K]
    reward: Floats  # [K]
    discount: Floats  # [K] 0 where the outcome terminates the episode, else 1
    start: Floats  # [S] the distribution of the first state
    observation: Ints  # [S]
    max_episode_steps: int | None = None  # agent steps after which an episode is truncated

    @cached_property
    def expected_reward(self) -> Floats:
        """The mean immediate reward of each state and action `[S * A]`."""
        return self._gather(self.source, self.probability * self.reward)

    @cached_property
    def moves(self) -> tuple[Ints, Ints, Floats]:
        """The outcomes after which the episode goes on: source, next state and probability."""
        weight = self.probability * self.discount
        on = weight > 0
        return self.source[on], self.next_state[on], weight[on]

    def backup(self, value: Floats) -> Floats:
        """`[S, A]`: the mean immediate reward plus the mean `value [S]` of the next state, none after a termination."""
        source, next_state, weight = self.moves
        q = self.expected_reward + self._gather(source, weight * value[next_state])
        return q.reshape(self.num_states, self.num_actions)

    def under(self, policy: npt.ArrayLike) -> FiniteMDP:
        """The same MDP left with one action: to follow a policy, `[O]` integer actions or `[O, A]` probabilities."""
        chosen = np.asarray(policy)[self.observation]
        state, action = np.divmod(self.source, self.num_actions)
        weight = self.probability * (chosen[state, action] if chosen.ndim == 2 else chosen[state] == action)
        on = weight > 0
        return replace(
            self,
            num_actions=1,
            source=state[on],
            probability=weight[on],
            next_state=self.next_state[on],
            reward=self.reward[on],
            discount=self.discount[on],
        )

    def _gather(self, source: Ints, weight: Floats) -> Floats:
        size = self.num_states * self.num_actions
        return np.bincount(source, weight, minlength=size).astype(np.float64, copy=False)


def from_outcomes(
    outcomes: Iterable[tuple[int, int, float, int, float, bool]],
    start: npt.ArrayLike,
    num_actions: int,
    observation: npt.ArrayLike | None = None,
    max_episode_steps: int | None = None,
) -> FiniteMDP:
    """The MDP of (state, action, probability, next state, reward, terminated) outcomes.

    `start [S]` is the distribution of the first state, `observation [S]` what the agent sees of each state (None: all).
    """
    first = np.asarray(start, dtype=np.float64)
    seen = np.arange(len(first)) if observation is None else np.asarray(observation, dtype=np.int64)
    state, action, probability, next_state, reward, terminated = (np.array(c) for c in zip(*outcomes, strict=True))
    return FiniteMDP(
        num_states=len(first),
        num_actions=num_actions,
        num_observations=int(seen.max()) + 1,
        source=state.astype(np.int64) * num_actions + action.astype(np.int64),
        probability=probability.astype(np.float64),
        next_state=next_state.astype(np.int64),
        reward=reward.astype(np.float64),
        discount=1.0 - terminated.astype(np.float64),
        start=first,
        observation=seen,
        max_episode_steps=max_episode_steps,
    )


def from_gym(env: gymnasium.Env[Any, Any]) -> FiniteMDP | None:
    """The model of a Gymnasium environment, or None where it is not known.

    Known are Blackjack and whatever publishes Gymnasium's toy-text tables `P` and `initial_state_distrib`. The step
    limit is read; other wrappers are not looked at, so they must leave observations, actions and rewards alone.
    """
    base: Any = env.unwrapped
    limit = env.spec.max_episode_steps if env.spec is not None else None
    if type(base) is BlackjackEnv:
        seen = blackjack.observations()
        start = np.zeros(len(seen))
        for state, probability in blackjack.start().items():
            start[state] = probability
        return from_outcomes(blackjack.outcomes(base.natural, base.sab), start, 2, seen, limit)
    if not _publishes_tables(base):
        return None
    num_states, num_actions = int(base.observation_space.n), int(base.action_space.n)
    outcomes = (
        (state, action, *outcome)
        for state, action in itertools.product(range(num_states), range(num_actions))
        for outcome in base.P[state][action]
    )
    return from_outcomes(outcomes, base.initial_state_distrib, num_actions, max_episode_steps=limit)


def _publishes_tables(base: Any) -> bool:
    """Whether `P` and `initial_state_distrib` are there and tell all; a fickle Taxi passenger is not in them."""
    spaces = (base.observation_space, base.action_space)
    return (
        all(isinstance(space, gymnasium.spaces.Discrete) for space in spaces)
        and hasattr(base, "P")
        and hasattr(base, "initial_state_distrib")
        and not getattr(base, "fickle_passenger", False)
    )


def optimal_values(mdp: FiniteMDP, gamma: float = 1.0, tolerance: float = 1e-12, epsilon: float = 0.0) -> Floats:
    """The optimal action values `[S, A]` by value iteration from zero.

    With `epsilon` they are those of the best policy among all that act uniformly at random with that probability.
    With gamma 1 they are the limit of the optimal returns within ever more steps. Iteration stops when a sweep moves no
    value by more than `tolerance`, or by more than rounding does.

    Raises:
        UserError: the values have no finite limit.
    """
    q = np.zeros((mdp.num_states, mdp.num_actions))
    checked = np.inf
    for sweep in itertools.count(1):
        updated = mdp.backup(gamma * ((1 - epsilon) * q.max(axis=1) + epsilon * q.mean(axis=1)))
        change = float(np.abs(updated - q).max())
        q = updated
        if change <= max(tolerance, ROUNDING * float(np.abs(q).max())):
            break
        if gamma >= 1 and sweep % PATIENCE == 0:
            if change > checked / 2:
                raise UserError(
                    f"gamma: {gamma:g} gives no finite optimal values (sweep {sweep} still moves one by {change:.3g}), "
                    "as some state can earn or must pay for ever; use a gamma below 1 or a step limit"
                )
            checked = change
    return q


def optimal_return(mdp: FiniteMDP, horizon: int | None) -> float:
    """The best expected undiscounted return from the start.

    Within `horizon` agent steps the best policy may watch the clock, so no stationary policy need reach this. None:
    without a step limit. Where states share an observation, the best policy is allowed to tell them apart; in Blackjack
    it gains nothing by that, since it sticks on every 21.

    Raises:
        UserError: there is no step limit, and no finite optimum either.
    """
    if horizon is None:
        return float(mdp.start @ optimal_values(mdp).max(axis=1))
    value = np.zeros(mdp.num_states)
    for _ in range(horizon):
        updated = mdp.backup(value).max(axis=1)
        if np.array_equal(updated, value):
            break
        value = updated
    return float(mdp.start @ value)


def policy_return(mdp: FiniteMDP, policy: npt.ArrayLike, horizon: int | None) -> float:
    """The expected undiscounted return of a stationary policy within `horizon` agent steps, exactly.

    `policy` is `[O]` integer actions or `[O, A]` probabilities, over observations. With horizon None the return is the
    limit for ever more steps, from a dense linear system over the reached states: finite where the policy surely ends
    or comes to states in which nothing is earned any more; -inf (inf) where it may go on for ever, paying (earning).

    Raises:
        UserError: the policy may go on for ever with rewards of both signs, so that no limit is known.
    """
    chain = mdp.under(policy)
    return _return_in_the_limit(chain) if horizon is None else optimal_return(chain, horizon)


def policy_value(mdp: FiniteMDP, policy: npt.ArrayLike, gamma: float) -> float:
    """The expected discounted return of a stationary policy from the start, without a step limit; gamma below 1.

    From a dense linear system; `policy` is as for `policy_return`.
    """
    chain = mdp.under(policy)
    system = np.eye(chain.num_states)
    np.subtract.at(system, chain.moves[:2], gamma * chain.moves[2])
    return float(chain.start @ np.linalg.solve(system, chain.expected_reward))


def epsilon_greedy(q: npt.ArrayLike, epsilon: float) -> Floats:
    """Action probabilities `[S, A]`: uniform with probability epsilon, else the largest of `q`, ties to the lowest."""
    values = np.asarray(q)
    states, actions = values.shape
    policy = np.full((states, actions), epsilon / actions)
    policy[np.arange(states), values.argmax(axis=1)] += 1.0 - epsilon
    return policy


def _return_in_the_limit(chain: FiniteMDP) -> float:
    source, target, weight = chain.moves
    terminating, paying = np.zeros((2, chain.num_states), dtype=np.bool_)
    terminating[chain.source[chain.discount < 1]] = True
    paying[chain.source[chain.reward != 0]] = True
    reached = _closure(chain.start > 0, source, target)
    earning = _closure(paying, target, source)  # elsewhere nothing is to come, as after the end
    endless = reached & ~_closure(terminating | ~earning, target, source)
    if endless.any():
        rewards = chain.reward[endless[chain.source]]
        if rewards.min() < 0 < rewards.max():
            raise UserError("policy: it may go on for ever with rewards of both signs; its return needs a step limit")
        return float(np.inf if rewards.max() > 0 else -np.inf)
    live = np.flatnonzero(reached & earning)
    index = np.full(chain.num_states, -1)
    index[live] = np.arange(len(live))
    inside = (index[source] >= 0) & (index[target] >= 0)
    system = np.eye(len(live))
    np.subtract.at(system, (index[source[inside]], index[target[inside]]), weight[inside])
    return float(chain.start[live] @ np.linalg.solve(system, chain.expected_reward[live]))


def _closure(marked: Bools, source: Ints, target: Ints) -> Bools:
    """The states `[S]` that the marked ones lead to along the edges, and the marked ones."""
    while True:
        grown = marked.copy()
        grown[target[marked[source]]] = True
        if np.array_equal(grown, marked):
            return grown
        marked = grown
