"""Q-learning with a deep network, replay and a frozen target network; from DQN to Rainbow by its settings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from qladder.agents.agent import EnvSpec, Metrics, Step
from qladder.agents.descent import check_finite, gradient_step, set_rate, update_target
from qladder.agents.dqn_config import DQNConfig, check_parts
from qladder.agents.exploration import Exploration
from qladder.agents.fit import finite_actions
from qladder.agents.graph import ROWS, GraphedUpdates, GraphOfArray
from qladder.agents.health import BATCH, errors, gradient_norm, hidden_layers, largest
from qladder.agents.learner import choose_learner
from qladder.agents.networks import q_network
from qladder.agents.objective import Learned, Objective, Transitions
from qladder.agents.optimizers import load_optimizer_state, make_optimizer, optimizer_state
from qladder.agents.probe import dummy_batch, probe
from qladder.agents.schedules import Clocks
from qladder.agents.stress import make_stress
from qladder.agents.values import midpoints
from qladder.envs.seeding import generator, integer
from qladder.replay.frames import FrameReplay, ReplayConfig
from qladder.replay.types import Batch

SEEN = 1_000  # observations whose mean is the mean image
NOISES = 8  # draws, to see how often noise explores
TOGETHER = 4  # updates whose targets are computed at once; more would not fit into a CPU's caches


class DQN:
    """Deep Q-network (Mnih et al. 2015): Watkins' target, a network in the table's place; all else is settings."""

    Config = DQNConfig
    batched: ClassVar[bool] = True
    learnt: ClassVar[tuple[str, ...]] = ("online", "target")
    objective: ClassVar[type[Objective]] = Objective  # a subclass may have another

    _graphed: GraphedUpdates | None
    _graphed_best: GraphOfArray

    def __init__(self, config: DQNConfig, spec: EnvSpec, *, seed: int, device: str, replay: ReplayConfig) -> None:
        check_parts(config, replay)
        self._config, self._spec, self._device = config, spec, torch.device(device)
        self._num_actions = finite_actions("dqn", spec)
        self._replay = FrameReplay(replay, spec, config.gamma, generator(seed, "replay"), device)
        self._batch_size = replay.batch_size
        self._enough = replay.window * spec.num_envs  # in the replay, for a transition to be complete
        self._explore = Exploration(spec.num_envs, self._num_actions, config.explore_power, generator(seed, "explore"))
        weights = torch.Generator().manual_seed(integer(seed, "network"))
        self._online, self._target = (
            q_network(config, spec, self._num_actions, weights).to(self._device) for _ in range(2)
        )
        self._target.load_state_dict(self._online.state_dict())
        self._target.requires_grad_(False)
        self._median = midpoints(1, self._device)[None] if config.distribution == "implicit-quantile" else None
        self._draws = torch.Generator().manual_seed(integer(seed, "draws"))  # noise and fractions
        self._objective = self.objective(config, self._online, self._target, self._draws, self._device)
        self._stress = make_stress(config, spec, integer(seed, "stress"))
        self.learner = choose_learner(config, self._online, spec, self._device, replay)
        if self.learner == "cpu-bf16":
            self._online.lower()
            self._target.lower()
        rate = config.learning_rate(Clocks(0, 0, 0))
        self._rate: Any = torch.tensor(rate, device=self._device) if self.learner == "cuda-graph" else rate
        parameters = self._online.parameters()
        self._optimizer = make_optimizer(config.optimizer, parameters, self._rate, config.optimizer_eps)
        self._begin_graphs()
        self._check_every = 1 if self._device.type == "cpu" else 1_000  # on a GPU each look at a number waits for it
        self._agent_steps = 0
        self._updates = 0

    @property
    def clocks(self) -> Clocks:
        """Where this agent is on the three clocks."""
        return Clocks(self._agent_steps * self._spec.frames_per_step, self._agent_steps, self._updates)

    def act(self, obs: Any, first: Any, explore: bool) -> tuple[Any, Any]:
        if not explore:
            return self._judged(obs), None
        if first.any():  # after a resume environments start anew while the memory has episodes that still run
            self._replay.cut(first)
        return self.explore(obs, first), None

    def explore(self, obs: Any, first: Any) -> Any:
        """Actions `[N]` of training for `obs [N, ...]`; `first [N]` marks episode starts.

        Epsilon-greedy, or greedy under noise; what a subclass draws instead must be in its `state_dict`.
        """
        if self._config.noisy:
            self._online.resample(self._draws)
            return self.values(obs, noisy=True).argmax(1).cpu().numpy()
        random, action = self._explore(self._config.epsilon(self.clocks), first)
        if not random.all():
            action = np.where(random, action, self._greedy(obs))
        return action

    def observe(self, step: Step) -> None:
        self._replay.add(step)
        self._agent_steps += len(step.action)

    def learn(self, k: int) -> Metrics:
        end = self._updates + k
        while self._updates < end:
            learned = self._learn(self._together(end - self._updates))
        metrics = {
            "loss/td": learned.loss,
            "q/mean": learned.q.mean(),
            "q/td_error": learned.td.abs().mean(),
        }
        if learned.overflow is not None:
            metrics["q/support_overflow"] = learned.overflow
        return {**metrics, **learned.more}

    def probe(self) -> None:
        """Whether its update is one, on a dummy batch; changes nothing. FaultyUpdateError where it is none."""
        rng, draws = generator(0, "probe"), self._draws.get_state()
        batch, others = (dummy_batch(self._spec, self._num_actions, self._config.gamma, rng) for _ in range(2))

        def see(some: Batch) -> Learned:
            self._draws.set_state(draws)
            return self._objective(self._tensors(some))

        probe(see, self._online, self._target, batch, others)
        self._draws.set_state(draws)

    def health(self) -> Metrics:
        if not self._updates or len(self._replay) < self._enough:
            return {}
        batch, draws = self._replay.peek(BATCH), self._draws.get_state()
        transitions = self._tensors(batch)
        obs = transitions.obs
        with self._online.exact(), self._target.exact():
            learned = self._objective(transitions)
            check_finite(learned.loss, self._updates, learned.ranges)
            with torch.no_grad():
                q, target_q = self._objective.q(self._online, obs), self._objective.q(self._target, obs)
            signs = {
                **errors(learned.td.detach()),
                **largest(q, transitions.reward),
                **hidden_layers(self._online, self._online.head.advantage, partial(self._online, obs, self._median)),
                "health/gradient_norm": gradient_norm(learned.loss, self._online.parameters()),
                "health/target_drift": (q - target_q).abs().mean(),
                "health/replay_age": self._replay.age(batch.index).mean(),
            }
        if self._config.noisy:
            signs["health/swayed_by_noise"] = self._swayed(obs)
        self._draws.set_state(draws)
        return signs

    def values(self, obs: Any, noisy: bool = False) -> Tensor:
        """Action values `[N, A]` of observations `[N, ...]`; `noisy` with the latest noise, where there is any."""
        quiet = self._config.noisy and not noisy
        with torch.inference_mode():
            if quiet:
                self._online.eval()
            q = self._objective.q(self._online, self._tensor(obs))
            if quiet:
                self._online.train()
        return q

    def state_dict(self) -> dict[str, Any]:
        return {
            "online": self._online.state_dict(),
            "target": self._target.state_dict(),
            "optimizer": optimizer_state(self._optimizer),
            "replay": self._replay.state_dict(),
            "explore": self._explore.state_dict(),
            "draws": self._draws.get_state(),
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
        self._explore.load_state_dict(state["explore"])
        self._draws.set_state(state["draws"])
        self._agent_steps, self._updates = state["agent_steps"], state["updates"]
        self._begin_graphs()

    def _greedy(self, obs: Any) -> Any:
        if self._graphed is not None and len(obs) == self._spec.num_envs:
            return self._graphed_best(obs).cpu().numpy()
        return self.values(obs).argmax(1).cpu().numpy()

    def _swayed(self, obs: Tensor) -> Tensor:
        """In which share of the states `[B]` noise changes the action, over a few draws of it."""
        quiet = self.values(obs).argmax(1)
        changed = []
        with self._online.noise_kept():
            for _ in range(NOISES):
                self._online.resample(self._draws)
                changed.append(self.values(obs, noisy=True).argmax(1) != quiet)
        return torch.stack(changed).double().mean()

    def _judged(self, obs: Any) -> Any:
        """Greedy, under the stress of an evaluation where there is any."""
        if self._stress is None:
            return self._greedy(obs)
        q = partial(self._objective.q, self._online)
        return self._stress.greedy(self._online, q, self._tensor(obs)).cpu().numpy()

    @torch.no_grad()
    def _best(self, obs: Tensor) -> Tensor:
        return self._objective.q(self._online, obs).argmax(1)

    def _together(self, left: int) -> int:
        """How many of the updates that are `left` can be drawn at once, with their targets: none changes another's."""
        config = self._config
        if self._graphed is not None:
            return min(left, ROWS)
        foreign = type(self._objective) is not Objective  # whose target may follow the online network
        if config.double or config.noisy or self._replay.prioritized or foreign:
            return 1
        return min(left, TOGETHER, config.target_period - self._updates % config.target_period)

    def _learn(self, updates: int) -> Learned:
        """So many updates, on transitions that are drawn at once."""
        if self._config.mean_image and not self._updates:
            self._see()
        if self._graphed is not None:
            self._graphed.upload(self._replay.draw(updates * self._batch_size), updates)
            for _ in range(updates):
                learned = self._update(self._graphed)
            return learned
        if self._config.noisy:
            self._online.resample(self._draws)
            self._target.resample(self._draws)
        batch = self._replay.sample(updates * self._batch_size, self._config.importance(self.clocks))
        transitions = self._tensors(batch)
        target, overflow = self._objective.target(transitions)
        if self._config.noisy and self._config.double:  # apart from that of the choice (Fortunato et al. 2018)
            self._online.resample(self._draws)
        for start in range(0, len(target), self._batch_size):
            rows = slice(start, start + self._batch_size)
            some = Transitions(*(tensor[rows] for tensor in transitions))
            learned = self._update(partial(self._fit, some, target[rows], overflow))
        if self._replay.prioritized:
            self._replay.update(batch.index, learned.priority.detach().cpu().numpy())
        return learned

    def _see(self) -> None:
        """What pictures are usually like: most of what they show never changes."""
        seen = self._tensor(self._replay.peek(SEEN).obs)
        self._online.see(seen)
        self._target.see(seen)

    def _update(self, improve: Callable[[], Learned]) -> Learned:
        """One update by `improve`, with what belongs to every one."""
        self._set_rate(self._config.learning_rate(self.clocks))
        learned = improve()
        if self._updates % self._check_every == 0:
            check_finite(learned.loss, self._updates, learned.ranges)
        self._updates += 1
        if self._updates % self._config.target_period == 0:
            update_target(self._target, self._online, self._config.target_tau)
            self._target.refresh()
        return learned

    def _improve(self, batch: Transitions) -> Learned:
        """An update, targets and all."""
        return self._fit(batch, *self._objective.target(batch))

    def _fit(self, batch: Transitions, target: Tensor, overflow: Tensor | None) -> Learned:
        """An update towards these targets."""
        learned = self._objective.loss(batch, target, overflow)
        gradient_step(learned.loss, self._online.parameters(), self._optimizer, self._config.max_grad_norm)
        self._online.refresh()
        return learned.detached()

    def _set_rate(self, rate: float) -> None:
        if self._graphed is not None:
            self._rate.fill_(rate)
        else:
            set_rate(self._optimizer, rate)

    def _begin_graphs(self) -> None:
        """Anew whenever a state has been loaded: what was captured refers to tensors that are gone."""
        self._graphed = None
        if self.learner == "cuda-graph":
            params = list(self._online.parameters())
            self._graphed = GraphedUpdates(self._improve, self._replay.store, params, self._optimizer, self._device)
        self._graphed_best = GraphOfArray(self._best, self._device)

    def _tensors(self, batch: Batch) -> Transitions:
        return Transitions(*(self._tensor(getattr(batch, name)) for name in Transitions._fields))

    def _tensor(self, array: Any) -> Tensor:
        return torch.as_tensor(array, device=self._device)
