"""Replay for N parallel environments that stores every frame once, uniform or prioritised."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Le

from qladder.envs.errors import UserError
from qladder.envs.spec import EnvSpec
from qladder.replay.priorities import Priorities
from qladder.replay.returns import n_step
from qladder.replay.ring import Index, Ring
from qladder.replay.store import BLOB_OVERHEAD, Store, check_shape, make_store
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


PRIORITY = 32  # bytes at most: a sum tree has two numbers for each slot, and as many slots as a power of 2
EXPECTED_RATIO = 5  # of compression, for counts beforehand: Atari games measured 6 to 45


def bytes_per_slot(spec: EnvSpec, config: ReplayConfig) -> int:
    """Memory of one observation in the replay with all that belongs to it; with compression, what to reckon with."""
    shape, dtype = _frame(spec)
    frame = math.prod(shape) * np.dtype(dtype).itemsize
    rest = sum(np.dtype(dtype).itemsize for dtype in _fields(spec).values())
    rest += PRIORITY if config.prioritized else 0
    return rest + (frame if config.compression == "none" else frame // EXPECTED_RATIO + BLOB_OVERHEAD + 1)


def _frame(spec: EnvSpec) -> tuple[tuple[int, ...], Any]:
    """Shape and dtype of the part of an observation that is new."""
    return spec.obs_shape[1:] if spec.stack > 1 else spec.obs_shape, spec.obs_dtype


def _fields(spec: EnvSpec) -> dict[str, Any]:
    """The dtypes of what a slot holds besides, by name."""
    return {
        "action": np.int64 if (spec.num_actions or 0) > 255 else np.uint8,
        "reward": np.float32,
        "discount": np.uint8,
        "last": np.bool_,
        "boundary": np.bool_,  # holds only what the last step of an episode led to
        "since_reset": np.uint8,  # agent steps since the episode's start, at most stack - 1
    }


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
        self._ring = Ring(spec.num_envs, slots)
        size = slots * spec.num_envs
        self._arrays = {name: np.zeros(size, dtype) for name, dtype in _fields(spec).items()}
        self._action, self._reward, self._discount = (self._arrays[n] for n in ("action", "reward", "discount"))
        self._last, self._boundary, self._since_reset = (self._arrays[n] for n in ("last", "boundary", "since_reset"))
        self._compression = config.compression
        self.store: Store = make_store(config.compression, device, size, *_frame(spec))
        self._priorities = Priorities(size, config.priority_exponent, rng) if config.prioritized else None
        self._episode_step = np.zeros(spec.num_envs, np.int64)
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
        return self.store.nbytes + tree + sum(array.nbytes for array in self._arrays.values())

    def add(self, step: Step) -> None:
        """Takes in one agent step of all environments, fields `[N, ...]`."""
        index = self._put(slice(None), step.obs, boundary=False)
        self._action[index] = step.action
        self._reward[index] = step.reward
        self._discount[index] = step.discount
        self._last[index] = step.last
        self._episode_step += 1
        if step.last.any():
            ended = np.flatnonzero(step.last)
            self._put(ended, step.next_obs[ended], boundary=True)
            self._episode_step[ended] = 0

    def cut(self, envs: Any) -> None:
        """Ends what runs in these environments (a mask `[N]`) as truncated: their next step begins a new episode.

        The newest observation stays as what its predecessor led to; what it would have led to is not known.
        """
        running = np.flatnonzero(envs & (self._episode_step > 0))
        if not len(running):
            return
        newest = self._ring.newest(running)
        self._boundary[newest] = True
        if self._priorities is not None:
            self._priorities.leave(newest)
        longer = self._episode_step[running] > 1
        self._last[self._ring.shift(newest, np.full(len(newest), -1))[longer]] = True
        self._episode_step[running] = 0

    def sample(self, n: int, importance: float = 0.0) -> Batch:
        """`n` transitions, independently, with weights that undo this much of what priorities prefer.

        Raises:
            ValueError: no transition is complete yet.
        """
        return self._batch(self._starts(n), importance)

    def draw(self, n: int) -> Picks:
        """As `sample`, but the observations stay in the `store`."""
        return self._picks(self._starts(n))

    def update(self, index: Any, priority: Any) -> None:
        """Takes the latest errors `[n]`, not negative, of what `sample` gave; a uniform replay has no use for them."""
        if self._priorities is not None:
            self._priorities.update(index, priority)

    def state_dict(self) -> dict[str, Any]:
        """The rings, as far as they are filled, with the sampling generator; the large arrays are views, not copies."""
        slots = self._slots(self._ring.written)
        return {
            "compression": self._compression,
            "stack": self._stack,
            "written": self._ring.written.copy(),
            "episode_step": self._episode_step.copy(),
            "rng": self._rng.bit_generator.state,
            **self._used(self._ring.written),
            **self.store.state_dict(slots),
            **({} if self._priorities is None else self._priorities.state_dict(slots)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`.

        Raises:
            ValueError: the state is of a replay of another shape; nothing was changed.
        """
        compression = state.get("compression", "none")  # there was no other
        if compression != self._compression:
            raise ValueError(f"a replay with compression '{compression}', not '{self._compression}'")
        theirs, ours = (len(state["written"]), state["stack"]), (len(self._ring.written), self._stack)
        if theirs != ours:
            raise ValueError("a replay of {} environments and stacks of {}, not {} and {}".format(*theirs, *ours))
        if ("priority" in state) != (self._priorities is not None):
            raise ValueError("a uniform replay, not a prioritised one, or the other way round")
        arrays = self._used(state["written"])
        for name, array in arrays.items():
            check_shape(name, state[name], array.shape, array.dtype)
        slots = self._slots(state["written"])
        self.store.load_state_dict(slots, state)
        if self._priorities is not None:
            self._priorities.load_state_dict(slots, state)
        for name, array in arrays.items():
            array[:] = state[name]
        self._ring.written[:] = state["written"]
        self._episode_step[:] = state["episode_step"]
        self._rng.bit_generator.state = state["rng"]

    def _put(self, envs: Any, obs: Any, *, boundary: bool) -> Index:
        index = self._ring.advance(envs)
        self.store.put(index, obs[:, -1] if self._stack > 1 else obs)
        self._boundary[index] = boundary
        self._since_reset[index] = np.minimum(self._episode_step[envs], self._stack - 1)
        if self._priorities is not None:
            (self._priorities.leave if boundary else self._priorities.enter)(index)
        return index

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

    def _used(self, written: Any) -> dict[str, Any]:
        """Views `[N, used]` of all but the observations, as far as any environment has `written` them."""
        used = min(int(written.max()), self._ring.slots)
        return {name: array.reshape(len(written), -1)[:, :used] for name, array in self._arrays.items()}

    def _slots(self, written: Any) -> Index:
        """The flat indices `[N, used]` of the same."""
        used = min(int(written.max()), self._ring.slots)
        first: Index = np.arange(len(written))[:, None] * self._ring.slots
        return first + np.arange(used)
