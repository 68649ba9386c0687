"""Q-learning with a deep network and nothing else: no replay, no target network, many environments, layer norm."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qladder.agents.agent import EnvSpec, Metrics, Step
from qladder.agents.descent import check_finite, gradient_step, set_rate
from qladder.agents.exploration import Exploration
from qladder.agents.fit import finite_actions
from qladder.agents.health import BATCH, errors, gradient_norm, hidden_layers
from qladder.agents.networks import q_network
from qladder.agents.optimizers import load_optimizer_state, make_optimizer, optimizer_state
from qladder.agents.pqn_config import PQNConfig, check_parts
from qladder.agents.probe import dummy_steps, probe_rollout
from qladder.agents.schedules import Clocks
from qladder.agents.td import of_action
from qladder.agents.values import Mean
from qladder.envs.seeding import generator, integer
from qladder.replay.rollout import Rollout


class Fitted(NamedTuple):
    """What an update computes of a rollout, `B` steps."""

    target: Tensor  # [B]
    td: Tensor  # [B]
    loss: Tensor  # []


class PQN:
    """Parallelised Q-network (Gallici et al. 2024, alg. 1).

    Lambda returns of a rollout, computed once with the network that acted, are fitted in some epochs of minibatches.
    """

    Config = PQNConfig
    batched: ClassVar[bool] = True
    learnt: ClassVar[tuple[str, ...]] = ("network",)

    def __init__(self, config: PQNConfig, spec: EnvSpec, *, seed: int, device: str) -> None:
        check_parts(config)
        self._config, self._spec, self._device = config, spec, torch.device(device)
        self._num_actions = finite_actions("pqn", spec)
        self._rollout = Rollout(config.gamma, config.trace_decay)
        self._explore = Exploration(spec.num_envs, self._num_actions, config.explore_power, generator(seed, "explore"))
        weights = torch.Generator().manual_seed(integer(seed, "network"))
        self._network = q_network(config, spec, self._num_actions, weights).to(self._device)
        self._order = generator(seed, "minibatches")
        self._agent_steps = self._updates = 0
        self._shown: list[Tensor] = []  # of what was learnt from last
        self._loss = Mean(config.loss)
        rate = config.learning_rate(Clocks(0, 0, 0))
        self._optimizer = make_optimizer(config.optimizer, self._network.parameters(), rate, config.optimizer_eps)
        self._check_every = 1 if self._device.type == "cpu" else 1_000  # on a GPU each look at a number waits for it
        self.learner = "eager"

    @property
    def clocks(self) -> Clocks:
        """Where this agent is on the three clocks."""
        return Clocks(self._agent_steps * self._spec.frames_per_step, self._agent_steps, self._updates)

    def act(self, obs: Any, first: Any, explore: bool) -> tuple[Any, Any]:
        """The extras are the value of the best action `[N]`, from which the returns will be computed."""
        q = self.values(obs)
        if not explore:
            return q.argmax(1).cpu().numpy(), None
        self._rollout.stop(first)
        value, action = (t.cpu().numpy() for t in q.max(1))
        random, other = self._explore(self._config.epsilon(self.clocks), first)
        return np.where(random, other, action), value

    def observe(self, step: Step) -> None:
        self._rollout.add(step)
        self._agent_steps += len(step.action)

    def learn(self, k: int) -> Metrics:
        obs, action, target = self._targets(self._rollout)
        for _ in range(self._config.epochs):
            for batch in np.array_split(self._order.permutation(len(target)), k // self._config.epochs):
                index = self._tensor(batch)
                metrics = self._update(obs[index], action[index], target[index])
        self._shown = [part[index[:BATCH]] for part in (obs, action, target)]
        self._rollout.clear()
        return metrics

    def probe(self) -> None:
        """Whether its update is one, on a dummy rollout; changes nothing. FaultyUpdateError where it is none."""
        rng = generator(0, "probe")
        steps, others = (dummy_steps(self._spec, self._num_actions, rng) for _ in range(2))
        probe_rollout(self._seen, self._network, steps, others, self._config.gamma)

    def health(self) -> Metrics:
        if not self._shown:
            return {}
        obs, action, target = self._shown
        out, loss, td = self._predict(obs, action, target)
        check_finite(loss, self._updates, {"target": target, "Q": out.detach()})
        return {
            **errors(td.detach()),
            "health/largest_q": out.detach().abs().max(),
            **hidden_layers(self._network, self._network.head.advantage, lambda: self._network(obs)),
            "health/gradient_norm": gradient_norm(loss, self._network.parameters()),
        }

    def values(self, obs: Any) -> Tensor:
        """Action values `[N, A]` of observations `[N, ...]`."""
        with torch.inference_mode():
            out: Tensor = self._network(self._tensor(obs))[..., 0]
        return out

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self._network.state_dict(),
            "optimizer": optimizer_state(self._optimizer),
            "rollout": self._rollout.state_dict(),
            "explore": self._explore.state_dict(),
            "order": self._order.bit_generator.state,
            "shown": self._shown,
            "agent_steps": self._agent_steps,
            "updates": self._updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._network.load_state_dict(state["network"])
        load_optimizer_state(self._optimizer, state["optimizer"])
        self._rollout.load_state_dict(state["rollout"])
        self._explore.load_state_dict(state["explore"])
        self._order.bit_generator.state = state["order"]
        self._shown = [self._tensor(part) for part in state["shown"]]
        self._agent_steps, self._updates = state["agent_steps"], state["updates"]

    def _targets(self, rollout: Rollout) -> tuple[Tensor, Tensor, Tensor]:
        """Observations `[B, ...]`, actions `[B]` and lambda returns `[B]` of all steps."""
        end_values = self.values(rollout.ends()).amax(1).cpu().numpy()
        obs, action, target = map(self._tensor, rollout.targets(end_values))
        return obs, action, target

    def _seen(self, steps: list[Step]) -> Fitted:
        """What an update of these steps alone computes."""
        rollout = Rollout(self._config.gamma, self._config.trace_decay)
        for step in steps:
            rollout.add(step._replace(extras=self.values(step.obs).amax(1).cpu().numpy()))
        obs, action, target = self._targets(rollout)
        _, loss, td = self._predict(obs, action, target)
        return Fitted(target, td, loss)

    def _update(self, obs: Tensor, action: Tensor, target: Tensor) -> Metrics:
        set_rate(self._optimizer, self._config.learning_rate(self.clocks))
        out, loss, td = self._predict(obs, action, target)
        if self._updates % self._check_every == 0:
            check_finite(loss, self._updates, {"target": target, "Q": out.detach()})
        gradient_step(loss, self._network.parameters(), self._optimizer, self._config.max_grad_norm)
        self._updates += 1
        return {"loss/td": loss.detach(), "q/mean": out.detach().mean(), "q/td_error": td.detach().abs().mean()}

    def _predict(self, obs: Tensor, action: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The output `[B, A, 1]`, the mean loss and the TD errors `[B]`."""
        out = self._network(obs)
        losses, td, _ = self._loss.loss(of_action(out, action), target[:, None], None)
        return out, losses.mean(), td

    def _tensor(self, array: Any) -> Tensor:
        return torch.as_tensor(array, device=self._device)
