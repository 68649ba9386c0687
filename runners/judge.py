"""Scores of a run under way and at its end, and the time that they take, which is none of the training's."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from qladder.runners.config import Config
from qladder.runners.evaluation import (
    Policy,
    Truth,
    evaluate_policy,
    exact_return,
    exact_values,
    play,
    training_score,
    truth,
)
from qladder.runners.session import Session
from qladder.runners.stop import Stop


class Score(NamedTuple):
    """Of the present weights, by a few episodes or exactly."""

    mean: float
    values: Mapping[str, float]  # what was promised at the start of an episode, and what came


class Judge:
    """Evaluates a run's agent; where training returns are the protocol's score, it takes those."""

    def __init__(self, config: Config, session: Session) -> None:
        self._config, self._session = config, session
        num_actions = session.env.spec.num_actions or 0
        self._policy = Policy(session.agent, num_actions, config.protocol.evaluation.epsilon, config.run.seed)
        self._truth: Truth | None = truth(config)
        self._by_training = config.protocol.score == "training"
        self.seconds = self.cpu_seconds = 0.0
        """Wall-clock, and of all cores, of all evaluations of this process."""

    def on_the_way(self, stop: Stop) -> Score | None:
        """By `run.eval_episodes`; None where training returns are the score and no episode has ended.

        Raises:
            StoppedError: somebody wished a stop, which is looked for between two steps, where the agent is whole.
        """
        config, gamma = self._config, getattr(self._config.agent, "gamma", None)
        if self._by_training:
            returns = self._session.episodes.last_returns()
            return Score(float(np.mean(returns)), {}) if returns else None
        with self._timed():
            if self._truth is not None and not self._policy.recurrent:
                told = {} if gamma is None else exact_values(self._policy, self._truth, gamma)
                return Score(exact_return(self._policy, self._truth), told)
            stream = f"evaluation-at-{self._session.agent_steps}"
            played = play(config, self._policy, config.run.eval_episodes, config.run.seed, stream, gamma, stop)
            return Score(float(np.mean(played.returns)), played.values)

    def final(self) -> dict[str, Any] | None:
        """By the protocol; None as `on_the_way`."""
        steps = self._session.agent_steps
        if self._by_training:
            returns = self._session.episodes.last_returns()
            return training_score(self._config, returns, self._truth, agent_steps=steps) if returns else None
        with self._timed():
            return evaluate_policy(self._config, self._policy, agent_steps=steps)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started, cpu_started = time.monotonic(), time.process_time()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - started
            self.cpu_seconds += time.process_time() - cpu_started
