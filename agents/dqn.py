"""Q-learning with a deep network, replay and a frozen target network."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qladder.agents.agent import EnvSpec, Metrics, Step
from qladder.agents.dqn_config import DQNConfig
from qladder.agents.fit import finite_actions
from qladder.agents.graph import ROWS, GraphedUpdates, GraphOfArray
from qladder.agents.learner import choose_learner
from qladder.agents.networks import QNetwork, q_network
from qladder.agents.optimizers import load_optimizer_state, make_optimizer, optimizer_state
from qladder.agents.schedules import Clocks
from qladder.agents.td import q_target, td_loss
from qladder.envs.errors import DivergedError
from qladder.envs.seeding import generator, integer
from qladder.replay.frames import ReplayConfig, UniformReplay


class Learned(NamedTuple):
    """What an update computed; in a graph, until the next one."""

    loss: Tensor  # mean over the batch
    q: Tensor  # [B, A]
    td: Tensor  # [B]
    target: Tensor  # [B]
    reward: Tensor  # [B]


class DQN:
    """Deep Q-network (Mnih et al. 2015): Watkins' target, a network in the table's place."""

    Config = DQNConfig
    batched: ClassVar[bool] = True

    _graphed: GraphedUpdates | None
    _graphed_best: GraphOfArray

    def __init__(self, config: DQNConfig, spec: EnvSpec, *, seed: int, device: str, replay: ReplayConfig) -> None:
        self._config, self._spec, self._device = config, spec, torch.device(device)
        self._num_actions = finite_actions("dqn", spec)
        self._rng = generator(seed, "explore")
        self._replay = UniformReplay(replay, spec, config.gamma, generator(seed, "replay"), device)
        self._batch_size = replay.batch_size
        weights = torch.Generator().manual_seed(integer(seed, "network"))
        self._online, self._target = (self._network(weights) for _ in range(2))
        self._target.load_state_dict(self._online.state_dict())
        self._target.requires_grad_(False)
        self.learner = choose_learner(config.learner, self._online, spec, self._device, config.optimizer, replay)
        if self.learner == "cpu-bf16":
            self._online.lower()
            self._target.lower()
        rate = config.learning_rate(Clocks(0, 0, 0))
        self._rate: Any = torch.tensor(rate, device=self._device) if self.learner == "cuda-graph" else rate
        parameters = self._online.parameters()
        self._optimizer = make_optimizer(config.optimizer, parameters, self._rate, config.optimizer_eps)
        self._begin_graphs()
        self._explore_left = np.zeros(spec.num_envs, np.int64)  # steps that the random action goes on
        self._explore_action = np.zeros(spec.num_envs, np.int64)
        self._check_every = 1 if self._device.type == "cpu" else 1_000  # on a GPU each look at a number waits for it
        self._agent_steps = 0
        self._updates = 0

    @property
    def clocks(self) -> Clocks:
        """Where this agent is on the three clocks."""
        return Clocks(self._agent_steps * self._spec.frames_per_step, self._agent_steps, self._updates)

    def act(self, obs: Any, first: Any, explore: bool) -> tuple[Any, Any]:
        if not explore:
            return self._greedy(obs), None
        if first.any():  # after a resume environments start anew while the memory has episodes that still run
            self._replay.cut(first)
        random, action = self._explore(first)
        return (action if random.all() else np.where(random, action, self._greedy(obs))), None

    def observe(self, step: Step) -> None:
        self._replay.add(step)
        self._agent_steps += len(step.action)

    def learn(self, k: int) -> Metrics:
        for first in range(0, k, ROWS):
            updates = min(ROWS, k - first)
            if self._graphed is not None:
                self._graphed.upload(self._replay.draw(updates * self._batch_size), updates)
            for _ in range(updates):
                learned = self._update()
        return {
            "loss/td": learned.loss.detach(),
            "q/mean": learned.q.detach().mean(),
            "q/td_error": learned.td.detach().abs().mean(),
        }

    def values(self, obs: Any) -> Tensor:
        """Action values `[N, A]` of observations `[N, ...]`."""
        with torch.inference_mode():
            return self._online(self._tensor(obs))

    def state_dict(self) -> dict[str, Any]:
        return {
            "online": self._online.state_dict(),
            "target": self._target.state_dict(),
            "optimizer": optimizer_state(self._optimizer),
            "replay": self._replay.state_dict(),
            "rng": self._rng.bit_generator.state,
            "explore_left": self._explore_left,
            "explore_action": self._explore_action,
            "agent_steps": self._agent_steps,
            "updates": self._updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._online.load_state_dict(state["online"])
        self._target.load_state_dict(state["target"])
        self._online.refresh()
        self._target.refresh()
        load_optimizer_state(self._optimizer, state["optimizer"])
        if "replay" in state:  # a checkpoint may have left it out
            self._replay.load_state_dict(state["replay"])
        self._rng.bit_generator.state = state["rng"]
        self._explore_left, self._explore_action = state["explore_left"], state["explore_action"]
        self._agent_steps, self._updates = state["agent_steps"], state["updates"]
        self._begin_graphs()

    def _network(self, weights: torch.Generator) -> QNetwork:
        config = self._config
        network = q_network(
            config.network,
            config.hidden,
            self._spec,
            self._num_actions,
            weights,
            scale_inputs=config.scale_inputs,
            pixel_mean=config.pixel_mean,
            init=config.init,
        )
        return network.to(self._device)

    def _explore(self, first: Any) -> tuple[Any, Any]:
        """Which environments act at random `[N]`, and the random actions `[N]`."""
        starts = self._rng.random(len(first)) < self._config.epsilon(self.clocks)
        action = self._rng.integers(self._num_actions, size=len(first))
        if self._config.explore_power is None:
            return starts, action
        going_on = (self._explore_left > 0) & ~first
        starts &= ~going_on
        self._explore_action = np.where(going_on, self._explore_action, action)
        length = self._rng.zipf(self._config.explore_power, size=len(first))
        self._explore_left = np.where(going_on, self._explore_left - 1, np.where(starts, length - 1, 0))
        return starts | going_on, self._explore_action

    def _greedy(self, obs: Any) -> Any:
        if self._graphed is not None and len(obs) == self._spec.num_envs:
            return self._graphed_best(obs).cpu().numpy()
        return self.values(obs).argmax(1).cpu().numpy()

    @torch.no_grad()
    def _best(self, obs: Tensor) -> Tensor:
        return self._online(obs).argmax(1)

    def _update(self) -> Learned:
        self._set_rate(self._config.learning_rate(self.clocks))
        if self._graphed is not None:
            learned: Learned = self._graphed()
        else:
            batch = self._replay.sample(self._batch_size)
            names = ("obs", "next_obs", "action", "reward", "discount", "weight")
            learned = self._improve(**{name: self._tensor(getattr(batch, name)) for name in names})
        if self._updates % self._check_every == 0 and not learned.loss.isfinite():
            ranges = {"reward": learned.reward, "target": learned.target, "Q": learned.q.detach()}
            told = ", ".join(f"{name} {t.min():.4g} to {t.max():.4g}" for name, t in ranges.items())
            raise DivergedError(f"the loss is {learned.loss.item()} at update {self._updates}; in its batch: {told}")
        self._updates += 1
        if self._updates % self._config.target_period == 0:
            self._copy_to_target()
        return learned

    def _improve(
        self, obs: Tensor, next_obs: Tensor, action: Tensor, reward: Tensor, discount: Tensor, weight: Tensor
    ) -> Learned:
        with torch.no_grad():
            target = q_target(reward, discount, self._target(next_obs))
        q = self._online(obs)
        loss, td = td_loss(q, action, target, self._config.loss)
        mean_loss = (weight * loss).mean()
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(mean_loss)
        if self._config.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._online.parameters(), self._config.max_grad_norm, foreach=True)
        self._optimizer.step()
        self._online.refresh()
        return Learned(mean_loss, q, td, target, reward)

    def _set_rate(self, rate: float) -> None:
        if self._graphed is not None:
            self._rate.fill_(rate)
            return
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def _begin_graphs(self) -> None:
        """Anew whenever a state has been loaded: what was captured refers to tensors that are gone."""
        self._graphed = None
        if self.learner == "cuda-graph":
            params = list(self._online.parameters())
            self._graphed = GraphedUpdates(self._improve, self._replay.store, params, self._optimizer, self._device)
        self._graphed_best = GraphOfArray(self._best, self._device)

    @torch.no_grad()
    def _copy_to_target(self) -> None:
        online: list[Tensor] = list(self._online.parameters())
        target: list[Tensor] = list(self._target.parameters())
        if self._config.target_tau == 1:
            torch._foreach_copy_(target, online)
        else:
            torch._foreach_lerp_(target, online, self._config.target_tau)
        self._target.refresh()

    def _tensor(self, array: Any) -> Tensor:
        return torch.as_tensor(array, device=self._device)
