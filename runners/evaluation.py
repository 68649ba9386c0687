"""Scores: separate episodes of fixed weights, or the exact return where the model is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from qladder.agents.agent import Agent
from qladder.envs.errors import UserError
from qladder.envs.make import make_env
from qladder.envs.mdp import FiniteMDP, from_gym, optimal_return, policy_return, policy_value
from qladder.envs.protocol import Protocol
from qladder.envs.seeding import generator
from qladder.envs.spec import EnvSpec, ResumableEnv
from qladder.replay.returns import one_step
from qladder.runners.config import Config
from qladder.runners.loop import clip
from qladder.runners.scales import scale
from qladder.runners.stats import iqm, mean_interval
from qladder.runners.stop import Stop

MOST_ENVS = 20  # played side by side by agents that take arrays; part of what makes an evaluation repeatable


class Policy:
    """A trained agent as evaluation sees it: greedy, but for the protocol's epsilon."""

    def __init__(self, agent: Agent, num_actions: int, epsilon: float, seed: int) -> None:
        self.agent = agent
        self.epsilon = getattr(agent, "evaluation_epsilon", epsilon)
        self.recurrent = getattr(agent, "recurrent", False)
        self.has_values = hasattr(agent, "values")
        self._num_actions = num_actions
        self._rng = generator(seed, "evaluation-epsilon")

    def reseed(self, seed: int, stream: str) -> None:
        """From here on its random actions depend on these alone, not on what it played before."""
        self._rng = generator(seed, f"{stream}-epsilon")

    def value(self, obs: Any) -> Any:
        """What an agent that has values expects of its best action where an episode begins, `[N]` or one."""
        q: Any = self.agent.values(obs)  # type: ignore[attr-defined]
        return np.asarray(q if isinstance(q, list) else q.cpu()).max(-1)

    def act(self, obs: Any, first: Any = False) -> Any:
        """Actions for observations as the agent's environments give them: `[N, ...]`, or one where not batched.

        `first` (`[N]` or one for all) marks episode starts, where an agent with memory forgets what was before.
        """
        if self.epsilon == 0:
            return self.agent.act(obs, first, False)[0]
        if not self.agent.batched:
            if self._rng.random() < self.epsilon:
                return int(self._rng.integers(self._num_actions))
            return self.agent.act(obs, first, False)[0]
        random = self._rng.random(len(obs)) < self.epsilon
        greedy = self.agent.act(obs, first, False)[0]
        return np.where(random, self._rng.integers(self._num_actions, size=len(obs)), greedy)


@dataclass(frozen=True)
class Truth:
    """What dynamic programming knows of an environment."""

    mdp: FiniteMDP
    horizon: int | None  # agent steps
    optimal_return: float  # without a limit
    optimal_return_in_limit: float


def truth(config: Config) -> Truth | None:
    """The exact model of a run's environment; None where it is not known (or the user's wrappers may change it)."""
    if config.env.evaluation_wrappers or config.env.id.startswith("ALE/"):
        return None
    from qladder.envs import own  # noqa: F401  (registers environments)
    from qladder.envs.gym import make_gym

    env = make_gym(config.env.id, config.protocol, training=False, kwargs=config.env.evaluation_kwargs)
    mdp = from_gym(env)
    env.close()
    if mdp is None:
        return None
    unlimited = optimal_return(mdp, None)
    horizon = mdp.max_episode_steps
    return Truth(mdp, horizon, unlimited, unlimited if horizon is None else optimal_return(mdp, horizon))


def exact_return(policy: Policy, known: Truth) -> float:
    """The expected undiscounted return of a policy without memory over discrete states, within the step limit."""
    return policy_return(known.mdp, _probability(policy, known), known.horizon)


def exact_values(policy: Policy, known: Truth, gamma: float) -> dict[str, float]:
    """As `Played.values`, exactly; with gamma below 1 without the step limit."""
    if not policy.has_values:
        return {}
    mdp = known.mdp
    starts = np.flatnonzero(mdp.start)
    obs = mdp.observation[starts]
    value = policy.value(obs) if policy.agent.batched else [policy.value(int(o)) for o in obs]
    predicted = float(mdp.start[starts] @ np.asarray(value, np.float64))
    realised = exact_return(policy, known) if gamma == 1 else policy_value(mdp, _probability(policy, known), gamma)
    return _values(predicted, realised)


def _probability(policy: Policy, known: Truth) -> Any:
    """Of each action given each observation, `[O, A]`."""
    agent, num_observations = policy.agent, known.mdp.num_observations
    if agent.batched:
        states = np.arange(num_observations)
        actions = np.asarray(agent.act(states, np.zeros(len(states), np.bool_), False)[0])
    else:
        actions = np.array([agent.act(state, False, False)[0] for state in range(num_observations)])
    probability = np.full((num_observations, known.mdp.num_actions), policy.epsilon / known.mdp.num_actions)
    probability[np.arange(num_observations), actions] += 1 - policy.epsilon
    return probability


class Played(NamedTuple):
    """What came of episodes that were played for evaluation."""

    returns: list[float]  # undiscounted, from raw rewards
    values: dict[str, float]  # what was promised at the start of an environment's first episode, and what came


def _values(predicted: float, realised: float) -> dict[str, float]:
    return {"health/predicted_return": predicted, "health/realised_return": realised}


def play(
    config: Config,
    policy: Policy,
    episodes: int,
    seed: int,
    stream: str,
    gamma: float | None = None,
    stop: Stop | None = None,
) -> Played:
    """Plays `episodes` episodes in environments of their own.

    Environment i plays a fixed share of them, so that short episodes are not favoured. With `gamma`, and an agent that
    has values, the return that the agent predicts is compared with the one that it gets: discounted and, as in
    training, of clipped rewards where the protocol clips. A wish to `stop` is looked for before each step.

    Raises:
        StoppedError: there was one.
    """
    agent = policy.agent
    policy.reseed(seed, stream)
    num_envs = side_by_side(episodes) if agent.batched else 1
    env = evaluation_environment(config, agent.batched, seed, stream, num_envs)
    try:
        obs = env.reset()
        predicted = policy.value(obs) if gamma is not None and policy.has_values else None
        realised, factor = np.zeros(num_envs), np.ones(num_envs)
        first: Any = np.ones(num_envs, np.bool_) if agent.batched else True
        running = np.zeros(num_envs)
        returns: list[list[float]] = [[] for _ in range(num_envs)]
        share = [episodes // num_envs + (i < episodes % num_envs) for i in range(num_envs)]
        left = episodes
        while left:
            if stop is not None:
                stop.check()
            obs, reward, discount, last, _ = env.step(policy.act(obs, first))
            first = last
            running += reward
            if predicted is not None:
                realised += factor * (clip(reward) if config.protocol.clip_rewards else reward)
                factor *= np.where(last, 0.0, one_step(discount, gamma or 0.0))
            if not (last.any() if agent.batched else last):
                continue
            for i in np.flatnonzero(last):
                if len(returns[i]) < share[i]:
                    returns[i].append(float(running[i]))
                    left -= 1
                running[i] = 0.0
    finally:
        env.close()
    values = {} if predicted is None else _values(float(np.mean(predicted)), float(realised.mean()))
    return Played([r for row in returns for r in row], values)


def side_by_side(episodes: int) -> int:
    """In how many environments so many episodes are played: no more than end them in as few rounds."""
    rounds = math.ceil(episodes / MOST_ENVS)
    return math.ceil(episodes / rounds)


def evaluation_environment(config: Config, batched: bool, seed: int, stream: str, num_envs: int) -> ResumableEnv:
    """As the run's evaluations play it: without lost lives, with the evaluation's cap and arguments."""
    return make_env(
        config.env.id,
        config.protocol,
        seed=seed,
        stream=stream,
        training=False,
        batched=batched,
        num_envs=num_envs,
        kwargs=config.env.evaluation_kwargs,
        wrappers=config.env.evaluation_wrappers,
        run_seed=config.run.seed,
    )


def check_evaluation(config: Config, spec: EnvSpec) -> None:
    """UserError where what evaluations alone or training alone have makes another environment than that of `spec`."""
    asked_for = {name: getattr(config.env, name) for name in ("train_wrappers", "eval_kwargs", "eval_wrappers")}
    if not any(asked_for.values()):
        return
    env = evaluation_environment(config, spec.batched, config.run.seed, "evaluation", 1)
    env.close()
    for name in ("obs_shape", "obs_dtype", "num_states", "num_actions"):
        trained, asked = getattr(spec, name), getattr(env.spec, name)
        if trained != asked:
            given = {name: list(v) if isinstance(v, tuple) else v for name, v in asked_for.items() if v}
            told = ", ".join(f"env.{name} = {value}" for name, value in given.items())
            raise UserError(f"{told}: what is trained has {name} {trained}, what is evaluated {asked}")


def evaluate_policy(
    config: Config, policy: Policy, *, agent_steps: int, episodes: int | None = None, seed: int | None = None
) -> dict[str, Any]:
    """A run's evaluation, as `summary.json` and `qladder evaluate --json` give it.

    `mean` is the exact return, and its 95 % `interval` has no width, where the model is known, the agent has no memory
    and `episodes` is None; else both are of the played episodes, as `iqm` and `returns` always are.
    """
    known = truth(config)
    count = config.protocol.evaluation.episodes if episodes is None else episodes
    seed = config.run.seed if seed is None else seed
    returns = play(config, policy, count, seed, "evaluation").returns
    exact = None if known is None or policy.recurrent else exact_return(policy, known)
    told = {**_told(config, returns, known, agent_steps), "kind": "evaluation", "exact": exact}
    if exact is not None and episodes is None:
        told |= {"mean": exact, "interval": [exact, exact]}
    return told


def training_score(config: Config, returns: list[float], known: Truth | None, *, agent_steps: int) -> dict[str, Any]:
    """As `evaluate_policy`, of the last returns of training, where the protocol takes them for the score."""
    return {**_told(config, returns, known, agent_steps), "kind": "training", "exact": None}


def _told(config: Config, returns: list[float], known: Truth | None, agent_steps: int) -> dict[str, Any]:
    mean = float(np.mean(returns))
    return {
        "mean": mean,
        "iqm": iqm(returns),
        "interval": list(mean_interval(returns)),
        "returns": returns,
        "episodes": len(returns),
        "human_normalized": None if _cut_short(config.protocol) else human_normalized(config.env.id, mean),
        "protocol": config.protocol.name,
        "checkpoint_agent_steps": agent_steps,
        "optimal_return": None if known is None else known.optimal_return,
        "optimal_return_in_limit": None if known is None else known.optimal_return_in_limit,
    }


def _cut_short(protocol: Protocol) -> bool:
    """Whether episodes end before the shortest that are published beside people's, Nature's five minutes."""
    caps = (protocol.evaluation.episode_cap, protocol.episode_cap)
    return any(cap is not None and cap < 18_000 for cap in caps)


def human_normalized(env_id: str, score: float) -> float | None:
    """0 for the random player of the 57-game table, 1 for its human (30-minute cap); None for other environments."""
    known = scale(env_id) if env_id.startswith("ALE/") else None
    return None if known is None else float(known.normalised(score))
