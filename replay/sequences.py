"""Replay of sequences for recurrent agents: overlapping windows of N environments' steps, uniform or prioritised."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Ge, Gt, Le

from qladder.envs.errors import refuse
from qladder.envs.seeding import unmoved
from qladder.envs.spec import EnvSpec
from qladder.replay.frames import PRIORITY, ReplayConfig, bytes_per_slot
from qladder.replay.priorities import Priorities
from qladder.replay.recorder import CHUNK_BYTES, Recorder
from qladder.replay.returns import n_step
from qladder.replay.ring import Index, chunks
from qladder.replay.store import check_shape
from qladder.replay.types import Step, Versioned


@dataclass(frozen=True)
class SequenceConfig(ReplayConfig):
    """Experience replay of sequences (Hausknecht and Stone 2015; Kapturowski et al. 2019)."""

    batch_size: Annotated[int, Gt(0)] = 32
    """Sequences."""
    length: Annotated[int, Gt(0)] = 20
    """Agent steps of a sequence, burn-in included; `n_step` more are read for the targets of the last."""
    burn_in: Annotated[int, Ge(0)] = 0
    """Steps at the start of a sequence that only bring the recurrent state up to date."""
    period: Annotated[int, Gt(0)] = 10
    """Steps from the start of one sequence to the next; shorter than `length`, they overlap."""
    priority_max: Annotated[float, Ge(0), Le(1)] = 0.9
    """A sequence's priority is this share of its largest error and the rest of their mean (there eta)."""

    @property
    def window(self) -> int:
        return self.length + self.n_step


class Sequences(NamedTuple):
    """B windows of T = length + n_step slots, in order of time; L = length - burn_in steps of each are learnt from.

    The target of step k is `reward[k] + discount[k] * value` of the slot `next_slot[k]`.
    """

    obs: Any  # [T, B, ...]
    reset: Any  # [T, B] bool: an episode starts here, so that the recurrent state starts anew
    state: Any  # [B, S] float32, the recurrent state before the first slot
    action: Any  # [L, B] int64
    reward: Any  # [L, B] float32, folded over n steps
    discount: Any  # [L, B] float32, gamma**k times the steps' discounts; 0 where nothing is to be bootstrapped
    next_slot: Any  # [L, B] int64, from 1 to T - 1
    mask: Any  # [L, B] float32, 0 where there is no step: the slot holds only an episode's end
    weight: Any  # [B] float32, importance weights; 1 for uniform replay
    index: Any  # [B] int64, for `update`


def sequence_bytes_per_slot(spec: EnvSpec, config: SequenceConfig, state_size: int) -> int:
    """Memory of one observation in the replay with all that belongs to it, rounded up."""
    start = 4 * state_size + (PRIORITY if config.prioritized else 0)
    plain = bytes_per_slot(spec, config) - (PRIORITY if config.prioritized else 0)
    return plain + math.ceil(start / config.period)


class SequenceReplay:
    """Sequences start at every `period`-th slot of each environment's ring, and go on over the ends of episodes.

    A sequence is complete once all its slots are written, and gone once its first one is overwritten. The recurrent
    state `[N, state_size]` in which each starts comes in as a step's `extras`; with `state_size` 0 there is none. `obs`
    of a CUDA `device` are tensors.

    Raises:
        UserError: burn-in that leaves nothing, or a capacity too small for one sequence in each environment.
    """

    def __init__(
        self,
        config: SequenceConfig,
        spec: EnvSpec,
        gamma: float,
        rng: np.random.Generator,
        state_size: int,
        device: str = "cpu",
    ) -> None:
        least = (config.window + 2 * (config.period - 1)) * spec.num_envs
        refuse(
            [
                (
                    config.burn_in >= config.length,
                    f"replay.burn_in = {config.burn_in} with replay.length = {config.length}: no step is left to learn",
                ),
                (
                    config.capacity < least,
                    f"replay.capacity = {config.capacity} with replay.length = {config.length}: at least {least} for "
                    f"{spec.num_envs} environments, n_step {config.n_step} and period {config.period}",
                ),
            ]
        )
        self._config, self._gamma, self._rng = config, gamma, rng
        self._per_env = config.capacity // spec.num_envs // config.period  # sequences
        self._recorder = Recorder(spec, self._per_env * config.period, config.compression, device)
        self._ring, self._arrays = self._recorder.ring, self._recorder.arrays
        count = self._per_env * spec.num_envs
        self._state = np.zeros((count, state_size), np.float32)
        self._priorities = Priorities(count, config.priority_exponent, rng) if config.prioritized else None
        self._window = np.arange(config.window)
        self._learnt = np.arange(config.burn_in, config.length)

    def __len__(self) -> int:
        """How many sequences can be sampled."""
        return int(self._span()[1].sum())

    @property
    def nbytes(self) -> int:
        """Bytes of all slots: of an array when full, of compressed observations as they are."""
        tree = 0 if self._priorities is None else self._priorities.nbytes
        return self._recorder.nbytes + self._state.nbytes + tree

    def add(self, step: Step) -> None:
        """Takes in one agent step of all environments, fields `[N, ...]`; `extras` is the state before it."""
        for slots, boundary in self._recorder.add(step):
            env = slots // self._ring.slots
            starting = slots % self._config.period == 0
            first = slots[starting] // self._config.period
            if len(first):
                self._state[first] = 0 if boundary or not self._state.shape[1] else step.extras[env[starting]]
                if self._priorities is not None:
                    self._priorities.leave(first)
            if self._priorities is not None:
                start = self._ring.written[env] - self._ring.age(slots) - self._config.window
                complete = (start >= 0) & (start % self._config.period == 0)
                if complete.any():
                    index = env * self._per_env + start // self._config.period % self._per_env
                    self._priorities.enter(index[complete])

    def cut(self, envs: Any) -> None:
        """Ends what runs in these environments (a mask `[N]`) as truncated: their next step begins a new episode."""
        self._recorder.cut(envs)

    def sample(self, n: int, importance: float = 0.0) -> Sequences:
        """`n` sequences, independently, with weights that undo this much of what priorities prefer.

        Raises:
            ValueError: no sequence is complete yet.
        """
        if self._priorities is not None:
            index = self._priorities.draw(n)
            return self._sequences(index, self._priorities.weights(index, importance))
        first, count = self._span()
        ends = count.cumsum()
        if ends[-1] == 0:
            raise ValueError("the replay holds no complete sequence yet")
        flat = self._rng.integers(ends[-1], size=n)
        env = ends.searchsorted(flat, side="right")
        index = env * self._per_env + (flat + (first - ends + count)[env]) % self._per_env
        return self._sequences(index, np.ones(n, np.float32))

    def peek(self, n: int) -> Sequences:
        """As `sample`, without weights; the generator is left as it was."""
        with unmoved(self._rng):
            return self.sample(n)

    def age(self, index: Any) -> Any:
        """How many agent steps ago, in all environments, sequences began; an episode's end counts as a step more."""
        return self._ring.age(index * self._config.period) * len(self._ring.written)

    def update(self, index: Any, error: Any, mask: Any) -> None:
        """Takes the latest errors `[L, B]`, not negative, of what `sample` gave; a uniform replay needs none."""
        if self._priorities is not None:
            self._priorities.update(index, mixed(error, mask, self._config.priority_max))

    def state_dict(self) -> dict[str, Any]:
        """The rings, as far as they are filled, with the sampling generator; the large arrays are views, not copies."""
        starts = self._starts(self._ring.written)
        return {
            **self._recorder.state_dict(),
            "period": self._config.period,
            "window": self._config.window,
            "rng": self._rng.bit_generator.state,
            "states": {
                key: Versioned(version=version, settled=settled, arrays={"state": self._state[first:end]})
                for key, version, settled, (first, end) in self._chunks(self._ring.written)
            },
            **({} if self._priorities is None else self._priorities.state_dict(starts)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`.

        Raises:
            ValueError: the state is of a replay of another shape; nothing was changed.
        """
        for name, ours in (("period", self._config.period), ("window", self._config.window)):
            if state[name] != ours:
                raise ValueError(f"sequences of {name} {state[name]}, not {ours}")
        if ("priority" in state) != (self._priorities is not None):
            raise ValueError("sequences that are drawn uniformly, not by priority, or the other way round")
        saved = {}
        for key, _, _, (first, end) in self._chunks(state["written"]):
            saved[first, end] = state["states"][key]["arrays"]["state"]
            check_shape("state", saved[first, end], self._state[first:end].shape, self._state.dtype)
        self._recorder.load_state_dict(state)
        for (first, end), rows in saved.items():
            self._state[first:end] = rows
        starts = self._starts(state["written"])
        if self._priorities is not None:
            self._priorities.load_state_dict(starts, state)
        self._rng.bit_generator.state = state["rng"]

    def _sequences(self, index: Index, weight: Any) -> Sequences:
        config, arrays = self._config, self._arrays
        slots = self._ring.shift(index * config.period, self._window[:, None])  # [T, B]
        steps = self._learnt[:, None] + np.arange(config.n_step)  # [K, n], places in the window
        folds = slots[steps].swapaxes(1, 2).reshape(-1, config.n_step)
        reward, discount, last = (arrays[name][folds] for name in ("reward", "discount", "last"))
        reward, discount, length = n_step(reward, discount, last, self._gamma)
        boundary = arrays["boundary"][slots]
        shape = (len(steps), len(index))
        return Sequences(
            obs=self._recorder.store.take(slots),
            reset=np.concatenate([np.zeros((1, len(index)), np.bool_), boundary[:-1]]),
            state=self._state[index],
            action=arrays["action"][slots[self._learnt]].astype(np.int64),
            reward=reward.reshape(shape),
            discount=discount.reshape(shape),
            next_slot=self._learnt[:, None] + length.reshape(shape),
            mask=(~boundary[self._learnt]).astype(np.float32),
            weight=weight,
            index=index,
        )

    def _span(self) -> tuple[Index, Index]:
        """Per environment the number, as ever counted, of the oldest complete sequence, and how many there are."""
        written, period = self._ring.written, self._config.period
        first = -(-np.maximum(written - self._ring.slots, 0) // period)
        beyond = (written - self._config.window) // period + 1
        return first, np.maximum(beyond - first, 0)

    def _starts(self, written: Any) -> Index:
        """The indices `[N, used]` of sequences that begin in slots written so far."""
        used = min(int(self._begun(written).max()), self._per_env)
        first: Index = np.arange(len(written))[:, None] * self._per_env
        return first + np.arange(used)

    def _chunks(self, written: Any) -> Iterator[tuple[str, int, bool, tuple[int, int]]]:
        """Parts of the states, as `chunks` tells them."""
        size = max(1, CHUNK_BYTES // max(1, self._state[:1].nbytes))
        return chunks(self._begun(written), self._per_env, size)

    def _begun(self, written: Any) -> Index:
        """Per environment, how many sequences have begun so far, ever."""
        begun: Index = -(-written // self._config.period)
        return begun


def mixed(error: Any, mask: Any, share: float) -> Any:
    """Priorities `[B]` of sequences from the errors `[L, B]` of their steps, those alone whose `mask` is 1.

    `share * max + (1 - share) * mean` (Kapturowski et al. 2019, section 2.3); 0 where there is no step.
    """
    error = error * mask
    return share * error.max(0) + (1 - share) * error.sum(0) / np.maximum(mask.sum(0), 1)
