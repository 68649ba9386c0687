"""Q-learning with a recurrent network and replay of sequences: DRQN, and with all its settings R2D2."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qladder.agents.agent import EnvSpec, Metrics, Step
from qladder.agents.cores import Carried, recurrent_network, single_frames
from qladder.agents.descent import check_finite, gradient_step, set_rate, update_target
from qladder.agents.exploration import Exploration
from qladder.agents.fit import finite_actions
from qladder.agents.health import BATCH, errors, gradient_norm, hidden_layers, largest
from qladder.agents.optimizers import load_optimizer_state, make_optimizer, optimizer_state
from qladder.agents.probe import dummy_sequences, probe_sequences
from qladder.agents.r2d2_config import R2D2Config, check_parts
from qladder.agents.rescaling import rescale, unscale
from qladder.agents.schedules import Clocks
from qladder.agents.td import greedy, of_action
from qladder.agents.values import Mean
from qladder.envs.seeding import generator, integer
from qladder.replay.sequences import SequenceConfig, SequenceReplay, Sequences


class Learned(NamedTuple):
    """What an update computed of the steps that it learnt from."""

    loss: Tensor  # [] mean over all steps of the batch, weighted
    q: Tensor  # [L, B, A], of rescaled returns where `rescale` is set, as td and target are
    td: Tensor  # [L, B], 0 where there is no step
    target: Tensor  # [L, B]
    steps: Tensor  # bool [L, B], where there is one

    @property
    def ranges(self) -> dict[str, Tensor]:
        """What to tell where the loss is not finite."""
        return {"target": self.target, "Q": self.q}


class R2D2:
    """Recurrent replay (Kapturowski et al. 2019), from deep recurrent Q-networks (Hausknecht and Stone 2015) up.

    What an episode showed so far is in the network's recurrent state, so of a stack of frames it sees the newest alone.
    """

    Config = R2D2Config
    batched: ClassVar[bool] = True
    learnt: ClassVar[tuple[str, ...]] = ("online", "target")
    recurrent: ClassVar[bool] = True

    def __init__(self, config: R2D2Config, spec: EnvSpec, *, seed: int, device: str, replay: SequenceConfig) -> None:
        check_parts(config)
        self._config, self._device = config, torch.device(device)
        self._frames_per_step, self._stacked = spec.frames_per_step, spec.stack > 1
        self._spec = spec = single_frames(spec)
        self._num_actions = num_actions = finite_actions("a recurrent agent", spec)
        self._replay_config = replay
        self._burn_in, self._length, self._batch_size = replay.burn_in, replay.length, replay.batch_size
        self._prioritized = replay.prioritized
        self._replay = SequenceReplay(replay, spec, config.gamma, generator(seed, "replay"), config.state_size, device)
        self._explore = Exploration(spec.num_envs, num_actions, config.explore_power, generator(seed, "explore"))
        weights = torch.Generator().manual_seed(integer(seed, "network"))
        self._online, self._target = (
            recurrent_network(config, spec, num_actions, weights).to(self._device) for _ in range(2)
        )
        self._target.load_state_dict(self._online.state_dict())
        self._target.requires_grad_(False)
        self._values = Mean(config.loss)
        rate = config.learning_rate(Clocks(0, 0, 0))
        self._optimizer = make_optimizer(config.optimizer, self._online.parameters(), rate, config.optimizer_eps)
        self._training, self._greedy = (Carried(self._online.core.state_size) for _ in range(2))
        self._check_every = 1 if self._device.type == "cpu" else 1_000  # on a GPU each look at a number waits for it
        self._agent_steps = 0
        self._updates = 0

    @property
    def clocks(self) -> Clocks:
        """Where this agent is on the three clocks."""
        return Clocks(self._agent_steps * self._frames_per_step, self._agent_steps, self._updates)

    def act(self, obs: Any, first: Any, explore: bool) -> tuple[Any, Any]:
        if not explore:
            return self._look(obs, self._greedy, first)[0].argmax(1), None
        if first.any():  # after a resume environments start anew while the memory has episodes that still run
            self._replay.cut(first)
        q, before = self._look(obs, self._training, first)
        random, action = self._explore(self._config.epsilon(self.clocks), first)
        return np.where(random, action, q.argmax(1)), before

    def observe(self, step: Step) -> None:
        self._replay.add(step._replace(obs=self._newest(step.obs), next_obs=self._newest(step.next_obs)))
        self._agent_steps += len(step.action)

    def learn(self, k: int) -> Metrics:
        for _ in range(k):
            learned = self._update()
        return self._metrics(learned)

    def probe(self) -> None:
        """Whether its update is one, on dummy sequences; changes nothing. FaultyUpdateError where it is none."""
        rng, state_size = generator(0, "probe"), self._online.core.state_size
        of = self._spec, self._num_actions, self._config.gamma, self._replay_config, state_size
        batch, others = (dummy_sequences(*of, rng) for _ in range(2))
        probe_sequences(self._loss, self._online, self._target, batch, others)

    def health(self) -> Metrics:
        if not self._updates or not len(self._replay):  # a resume may begin without it
            return {}
        batch = self._replay.peek(BATCH // self._length + 1)
        if not (batch.mask > 0).any():
            return {}
        learned = self._loss(batch)
        steps = learned.steps
        check_finite(learned.loss, self._updates, learned.ranges)
        obs, learnt = self._tensor(batch.obs), slice(self._burn_in, self._length)
        with torch.no_grad():
            drift = learned.q - self._target(obs, self._begin(batch), batch.reset)[0][learnt]
        seen = obs[learnt], self._warm(obs, self._begin(batch), batch.reset), batch.reset[learnt]
        return {
            **errors(learned.td[steps]),
            **largest(self._unscaled(learned.q[steps]), self._tensor(batch.reward)[steps]),
            **hidden_layers(self._online, self._online.head.advantage, lambda: self._online(*seen)),
            "health/gradient_norm": gradient_norm(learned.loss, self._online.parameters()),
            "health/target_drift": drift[steps].abs().mean(),
            "health/replay_age": self._replay.age(batch.index).mean(),
        }

    def values(self, obs: Any) -> Tensor:
        """Action values `[N, A]` of observations `[N, ...]` that begin episodes."""
        return self._unscaled(self._tensor(self._look(obs, Carried(self._online.core.state_size), True)[0]))

    def state_dict(self) -> dict[str, Any]:
        return {
            "online": self._online.state_dict(),
            "target": self._target.state_dict(),
            "optimizer": optimizer_state(self._optimizer),
            "carried": self._training.state,
            "explore": self._explore.state_dict(),
            "replay": self._replay.state_dict(),
            "agent_steps": self._agent_steps,
            "updates": self._updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._online.load_state_dict(state["online"])
        self._target.load_state_dict(state["target"])
        load_optimizer_state(self._optimizer, state["optimizer"])
        if "replay" in state:  # a checkpoint may have left it out
            self._replay.load_state_dict(state["replay"])
        self._explore.load_state_dict(state["explore"])
        self._training.state = state["carried"]
        self._agent_steps, self._updates = state["agent_steps"], state["updates"]

    def _look(self, obs: Any, carried: Carried, first: Any) -> tuple[Any, Any]:
        """Action values `[N, A]` as seen now, and the state `[N, S]` before; the state after is carried on."""
        before = carried.before(len(obs), first)
        with torch.inference_mode():
            q, after = self._online(
                self._tensor(self._newest(obs))[None], self._tensor(before), np.zeros((1, len(obs)), np.bool_)
            )
        carried.state = after.cpu().numpy()
        return q[0].cpu().numpy(), before

    def _metrics(self, learned: Learned) -> Metrics:
        """Over the steps that there are; errors on the scale that is learnt, values on that of returns."""
        return {
            "loss/td": learned.loss.detach(),
            "q/mean": _mean(self._unscaled(learned.q[learned.steps])),
            "q/td_error": _mean(learned.td[learned.steps].abs()),
        }

    def _update(self) -> Learned:
        set_rate(self._optimizer, self._config.learning_rate(self.clocks))
        batch = self._replay.sample(self._batch_size, self._config.importance(self.clocks))
        learned = self._improve(batch)
        if self._updates % self._check_every == 0:
            check_finite(learned.loss, self._updates, learned.ranges)
        if self._prioritized:
            self._replay.update(batch.index, learned.td.abs().cpu().numpy(), batch.mask)
        self._updates += 1
        if self._updates % self._config.target_period == 0:
            update_target(self._target, self._online, self._config.target_tau)
        return learned

    def _improve(self, batch: Sequences) -> Learned:
        learned = self._loss(batch)
        gradient_step(learned.loss, self._online.parameters(), self._optimizer, self._config.max_grad_norm)
        return learned

    def _loss(self, batch: Sequences) -> Learned:
        obs, action, mask, weight = map(self._tensor, (batch.obs, batch.action, batch.mask, batch.weight))
        state = self._begin(batch)
        q, after = self._unroll(obs, state, batch.reset)
        with torch.no_grad():
            target = self._bootstrap(batch, obs, state, q.detach(), after.detach())
        loss, td, _ = self._values.loss(of_action(q.flatten(0, 1)[..., None], action.flatten()), target, None)
        loss, td = loss.view_as(mask), td.detach().view_as(mask) * mask
        steps = mask.sum().clamp_min(1)
        mean_loss = (weight * mask * loss).sum() / steps
        return Learned(mean_loss, q.detach(), td, target.view_as(mask), mask > 0)

    def _unroll(self, obs: Tensor, state: Tensor, reset: Any) -> tuple[Tensor, Tensor]:
        """The online network's values `[L, B, A]` of the steps that are learnt from, and the state after them."""
        learnt = slice(self._burn_in, self._length)
        return self._online(obs[learnt], self._warm(obs, state, reset), reset[learnt])

    @torch.no_grad()
    def _warm(self, obs: Tensor, state: Tensor, reset: Any) -> Tensor:
        """The state `[B, S]` after burn-in, which only brings it up to date: no gradient flows into it."""
        first = self._burn_in
        return self._online(obs[:first], state, reset[:first])[1] if first else state

    def _bootstrap(self, batch: Sequences, obs: Tensor, state: Tensor, q: Tensor, after: Tensor) -> Tensor:
        """The targets `[L * B, 1]`; `q [L, B, A]` are the online network's values, `after` its state after them."""
        config = self._config
        reward, discount, next_slot = map(self._tensor, (batch.reward, batch.discount, batch.next_slot))
        columns = torch.arange(next_slot.shape[1], device=self._device)
        next_q = self._target(obs, state, batch.reset)[0][next_slot, columns].flatten(0, 1)
        chosen_by = next_q
        if config.double:
            tail = self._online(obs[self._length :], after, batch.reset[self._length :])[0]
            chosen_by = torch.cat([q, tail])[next_slot - self._burn_in, columns].flatten(0, 1)
        out = self._unscaled(next_q)[..., None]
        target, _ = self._values.target(out, greedy(chosen_by), reward.flatten(), discount.flatten())
        return rescale(target) if config.rescale else target

    def _unscaled(self, q: Tensor) -> Tensor:
        return unscale(q) if self._config.rescale else q

    def _begin(self, batch: Sequences) -> Tensor:
        """The states `[B, S]` that sequences start from."""
        if self._config.initial_state == "stored":
            return self._tensor(batch.state)
        return torch.zeros(len(batch.index), self._online.core.state_size, device=self._device)

    def _newest(self, obs: Any) -> Any:
        """Of stacks `[N, S, H, W]` the newest frames `[N, 1, H, W]`."""
        return obs[:, -1:] if self._stacked else obs

    def _tensor(self, array: Any) -> Tensor:
        return torch.as_tensor(array, device=self._device)


def _mean(some: Tensor) -> Tensor:
    """The mean `[]`; 0 of nothing, as in a batch that holds only ends of episodes."""
    return some.sum() / max(some.numel(), 1)
