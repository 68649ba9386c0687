"""Replay for N parallel environments that stores every frame once, uniform or prioritised."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Le

from qladder.envs.errors import UserError
from qladder.envs.seeding import unmoved
from qladder.envs.spec import EnvSpec
from qladder.replay.priorities import Priorities
from qladder.replay.recorder import Recorder, fields, frame
from qladder.replay.returns import n_step
from qladder.replay.ring import Index
from qladder.replay.store import BLOB_OVERHEAD, Store
from qladder.replay.types import Batch, Picks, Step


@dataclass(frozen=True)
class ReplayConfig:
    """Experience replay (Lin 1992)."""

    capacity: Annotated[int, Gt(0)] = 100_000
    """Observations held, over all environments; memory is taken as it fills."""
    n_step: Annotated[int, Gt(0)] = 1
    """Rewards folded into one transition, in agent steps."""
    batch_size: Annotated[int, Gt(0)] = 32
    compression: Literal["none", "deflate"] = "none"
    """`deflate` compresses observations without loss: Atari in a tenth of the memory, for some milliseconds a batch."""
    prioritized: bool = False
    """Drawn in proportion to the latest errors, not uniformly (Schaul et al. 2016)."""
    priority_exponent: Annotated[float, Ge(0), Le(1)] = 0.5
    """A transition's priority is its error to this power (there alpha); 0 is uniform."""

    @property
    def window(self) -> int:
        """Agent steps of one environment before anything can be drawn."""
        return self.n_step + 1


PRIORITY = 9  # bytes: a float64, and the sums above it
EXPECTED_RATIO = 5  # of compression, for counts beforehand: Atari games measured 6 to 45


def bytes_per_slot(spec: EnvSpec, config: ReplayConfig) -> int:
    """Memory of one observation in the replay with all that belongs to it; with compression, what to reckon with."""
    shape, dtype = frame(spec)
    picture = math.prod(shape) * np.dtype(dtype).itemsize
    rest = sum(np.dtype(dtype).itemsize for dtype in fields(spec).values())
    rest += PRIORITY if config.prioritized else 0
    return rest + (picture if config.compression == "none" else picture // EXPECTED_RATIO + BLOB_OVERHEAD + 1)


class FrameReplay:
    """A ring per environment of single frames; stacks, n-step returns and successors are put together when sampled.

    Frames before the start of an episode are zeros. A `Batch` of stacks lies in buffers that the next call overwrites.
    On a CUDA `device` the observations live there, unless compressed, and those of a `Batch` are tensors; all else is
    reckoned on the CPU.

    Raises:
        UserError: a capacity too small for one window in each environment.
    """

    def __init__(
        self, config: ReplayConfig, spec: EnvSpec, gamma: float, rng: np.random.Generator, device: str = "cpu"
    ) -> None:
        slots = config.capacity // spec.num_envs
        if slots < spec.stack + config.n_step + 1:
            raise UserError(
                f"replay.capacity = {config.capacity}: at least {(spec.stack + config.n_step + 1) * spec.num_envs} for "
                f"{spec.num_envs} environments, stacks of {spec.stack} and n_step {config.n_step}"
            )
        self._n_step, self._stack, self._gamma, self._rng = config.n_step, spec.stack, gamma, rng
        self._recorder = Recorder(spec, slots, config.compression, device)
        self._ring, arrays = self._recorder.ring, self._recorder.arrays
        self._action, self._reward, self._discount = (arrays[n] for n in ("action", "reward", "discount"))
        self._last, self._boundary, self._since_reset = (arrays[n] for n in ("last", "boundary", "since_reset"))
        size = self._recorder.size
        self._priorities = Priorities(size, config.priority_exponent, rng) if config.prioritized else None
        self._back = np.arange(1 - spec.stack, 1)
        self._forward = np.arange(config.n_step)
        self._buffer: Any = None

    def __len__(self) -> int:
        """How many slots are in reach of `sample`; a few of them end episodes or wait for their window."""
        return int(self._ring.span(self._stack - 1)[1].sum())

    @property
    def prioritized(self) -> bool:
        """Whether `update` matters."""
        return self._priorities is not None

    @property
    def nbytes(self) -> int:
        """Bytes of all slots: of an array when full, of compressed observations as they are."""
        tree = 0 if self._priorities is None else self._priorities.nbytes
        return self._recorder.nbytes + tree

    @property
    def store(self) -> Store:
        """Where the observations are."""
        return self._recorder.store

    def add(self, step: Step) -> None:
        """Takes in one agent step of all environments, fields `[N, ...]`."""
        for index, boundary in self._recorder.add(step):
            if self._priorities is not None:
                (self._priorities.leave if boundary else self._priorities.enter)(index)

    def cut(self, envs: Any) -> None:
        """Ends what runs in these environments (a mask `[N]`) as truncated: their next step begins a new episode.

        The newest observation stays as what its predecessor led to; what it would have led to is not known.
        """
        newest = self._recorder.cut(envs)
        if newest is not None and self._priorities is not None:
            self._priorities.leave(newest)

    def sample(self, n: int, importance: float = 0.0) -> Batch:
        """`n` transitions, independently, with weights that undo this much of what priorities prefer.

        Raises:
            ValueError: no transition is complete yet.
        """
        return self._batch(self._starts(n), importance)

    def peek(self, n: int) -> Batch:
        """As `sample`, without weights; the generator is left as it was."""
        with unmoved(self._rng):
            return self.sample(n)

    def age(self, index: Any) -> Any:
        """How many agent steps ago, in all environments, this was taken in; an episode's end counts as a step more."""
        return self._ring.age(index) * len(self._ring.written)

    def draw(self, n: int) -> Picks:
        """As `sample`, but the observations stay in the `store`."""
        return self._picks(self._starts(n))

    def update(self, index: Any, priority: Any) -> None:
        """Takes the latest errors `[n]`, not negative, of what `sample` gave; a uniform replay has no use for them."""
        if self._priorities is not None:
            self._priorities.update(index, priority)

    def state_dict(self) -> dict[str, Any]:
        """The rings, as far as they are filled, with the sampling generator; the large arrays are views, not copies."""
        slots = self._recorder.slots(self._ring.written)
        return {
            **self._recorder.state_dict(),
            "rng": self._rng.bit_generator.state,
            **({} if self._priorities is None else self._priorities.state_dict(slots)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`.

        Raises:
            ValueError: the state is of a replay of another shape; nothing was changed.
        """
        if ("priority" in state) != (self._priorities is not None):
            raise ValueError("a uniform replay, not a prioritised one, or the other way round")
        self._recorder.load_state_dict(state)
        if self._priorities is not None:
            self._priorities.load_state_dict(self._recorder.slots(state["written"]), state)
        self._rng.bit_generator.state = state["rng"]

    def _starts(self, n: int) -> Index:
        """`n` slots that start a complete transition, by drawing again what does not."""
        draws, missing = 0, n
        kept: list[Index] = []
        while missing:
            index = self._draw(missing)
            good = index[self._complete(index)]
            kept.append(good)
            missing -= len(good)
            draws += 1
            if draws == 1000 and missing == n:
                raise ValueError("the replay holds no complete transition yet")
        return kept[0] if draws == 1 else np.concatenate(kept)

    def _draw(self, n: int) -> Index:
        """At most `n` slots whose stacks are whole."""
        if self._priorities is None:
            return self._ring.draw(n, self._stack - 1, self._rng)
        index = self._priorities.draw(n)
        return index[self._ring.reachable(index, self._stack - 1)]

    def _complete(self, index: Index) -> Any:
        complete = ~self._boundary[index]
        after = self._ring.age(index)
        if after.min(initial=self._n_step) < self._n_step:
            window = self._ring.shift(index[:, None], self._forward)
            ends = self._last[window] & (self._forward < after[:, None])
            complete &= (after >= self._n_step) | ends.any(1)
        return complete

    def _batch(self, index: Index, importance: float = 0.0) -> Batch:
        picks = self._picks(index, importance)
        if picks.blank is None:
            obs = self.store.take(picks.slots)
        elif self._buffer is None or self._buffer.shape[: picks.slots.ndim] != picks.slots.shape:
            self._buffer = obs = self.store.take(picks.slots, picks.blank)
        else:
            obs = self.store.take(picks.slots, picks.blank, self._buffer)
        return Batch(obs[0], picks.action, picks.reward, picks.discount, obs[1], picks.weight, picks.index)

    def _picks(self, index: Index, importance: float = 0.0) -> Picks:
        window = self._ring.shift(index[:, None], self._forward)
        reward, discount, length = n_step(self._reward[window], self._discount[window], self._last[window], self._gamma)
        slots, blank = np.stack([index, self._ring.shift(index, length)]), None
        if self._stack > 1:
            blank = -self._back > self._since_reset[slots][..., None]
            slots = self._ring.shift(slots[..., None], self._back)
        if self._priorities is None:
            weight = np.ones(len(index), np.float32)
        else:
            weight = self._priorities.weights(index, importance)
        return Picks(slots, blank, self._action[index].astype(np.int64), reward, discount, weight, index)
