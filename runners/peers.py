"""The same work done by Stable-Baselines3's DQN, for `qladder bench --peers`; it comes with the extra `peers`."""

from __future__ import annotations

import warnings
from typing import Any

import ale_py
import gymnasium

from qladder.envs.errors import UserError
from qladder.runners.config import Config
from qladder.runners.extras import install

WARM_UP = 1_000  # agent steps before its first update


class StableBaselines3:
    """A run under way: the zoo's Atari settings, but for what `config` says of batch, ratio, memory and random actions.

    Its own preprocessing, CNN, Huber loss, Adam, float32. With one environment it updates after every
    `update_every` agent steps; with N of them, N / `update_every` times after each vector step, which is the same work.

    Raises:
        UserError: the extra is not installed, or the environment is none of ALE's, or a rule is the user's own.
    """

    def __init__(self, config: Config, num_envs: int) -> None:
        try:
            from stable_baselines3 import DQN
            from stable_baselines3.common.env_util import make_atari_env
            from stable_baselines3.common.vec_env import VecFrameStack
        except ImportError as error:
            raise UserError(f"--peers needs the extra `peers` ({error}): {install('peers')}") from error
        if not config.env.id.startswith("ALE/"):
            raise UserError(f"--peers compares Atari games; {config.env.id} is none")
        if odd := sorted(config.own_rules.keys() - {"sticky", "evaluation"}):
            raise UserError(f"--peers: protocol.{odd[0]} is not told to Stable-Baselines3, which has the zoo's own")
        gymnasium.register_envs(ale_py)
        run, agent = config.run, config.agent
        together = num_envs > 1
        if together and num_envs * run.updates % run.update_every:
            raise UserError(
                f"--peers: {run.updates} updates per {run.update_every} agent steps are no whole number after each "
                f"step of {num_envs} environments, which is how Stable-Baselines3 counts"
            )
        env = make_atari_env(
            config.env.id,
            n_envs=num_envs,
            seed=run.seed,
            env_kwargs={
                "frameskip": 1,
                "repeat_action_probability": config.protocol.sticky,
                "full_action_space": False,
            },
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its memory, two stacks a step, would not fit if it were filled
            self._model: Any = DQN(
                "CnnPolicy",
                VecFrameStack(env, config.protocol.stack),
                learning_rate=agent.learning_rate.start,
                buffer_size=config.replay.capacity,
                learning_starts=WARM_UP,
                batch_size=config.replay.batch_size,
                gamma=agent.gamma,
                train_freq=1 if together else run.update_every,
                gradient_steps=num_envs * run.updates // run.update_every if together else run.updates,
                target_update_interval=agent.target_period * run.update_every,
                exploration_initial_eps=agent.epsilon.end,
                exploration_final_eps=agent.epsilon.end,
                device="cpu",
                seed=run.seed,
            )
        self._chunk = max(run.update_every, num_envs)
        self._steps = 0
        self.updates = 0  # in the last loop
        self._go(WARM_UP + 10 * self._chunk)

    def loop(self) -> int:
        """Ten times the least number of agent steps that hold whole updates; how many they were."""
        before = int(self._model._n_updates)
        self._go(10 * self._chunk)
        self.updates = int(self._model._n_updates) - before
        return 10 * self._chunk

    def close(self) -> None:
        """Ends its environments."""
        self._model.get_env().close()

    def _go(self, steps: int) -> None:
        self._model.learn(steps, log_interval=None, reset_num_timesteps=self._steps == 0)
        self._steps += steps
