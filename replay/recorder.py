"""Writes the steps of N environments into rings of slots, every observation once; what replays have in common."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qladder.envs.spec import EnvSpec
from qladder.replay.ring import Index, Ring, chunks
from qladder.replay.store import Store, check_shape, make_store
from qladder.replay.types import Step, Versioned

CHUNK_BYTES = 2**23  # of observations that are saved together, and only if one of them is new


def frame(spec: EnvSpec) -> tuple[tuple[int, ...], Any]:
    """Shape and dtype of the part of an observation that is new."""
    return spec.obs_shape[1:] if spec.stack > 1 else spec.obs_shape, spec.obs_dtype


def fields(spec: EnvSpec) -> dict[str, Any]:
    """The dtypes of what a slot holds besides, by name."""
    return {
        "action": np.int64 if (spec.num_actions or 0) > 255 else np.uint8,
        "reward": np.float32,
        "discount": np.uint8,
        "last": np.bool_,
        "boundary": np.bool_,  # holds only what the last step of an episode led to
        # agent steps since the episode's start, at most stack - 1
        "since_reset": np.uint8 if spec.stack <= 256 else np.uint16,
    }


class Recorder:
    """A ring of `slots` per environment; an episode of T steps takes T + 1 slots, the last with its end alone.

    Of a stack only the newest frame is kept. `arrays` holds what `fields` names, flat over all environments.
    """

    def __init__(self, spec: EnvSpec, slots: int, compression: str, device: str) -> None:
        self._stack, self._compression = spec.stack, compression
        self.ring = Ring(spec.num_envs, slots)
        self.size = slots * spec.num_envs
        shape, dtype = frame(spec)
        self._chunk = max(1, CHUNK_BYTES // (math.prod(shape) * np.dtype(dtype).itemsize))
        self.arrays = {name: np.zeros(self.size, dtype) for name, dtype in fields(spec).items()}
        self.store: Store = make_store(compression, device, self.size, shape, dtype)
        self._episode_step = np.zeros(spec.num_envs, np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of all slots: of an array when full, of compressed observations as they are."""
        return self.store.nbytes + sum(array.nbytes for array in self.arrays.values())

    def add(self, step: Step) -> list[tuple[Index, bool]]:
        """Takes in one agent step of all environments, fields `[N, ...]`.

        Returns:
            The flat indices of slots that were written, in this order, and whether they are ends of episodes.
        """
        index = self._put(slice(None), step.obs, boundary=False)
        for name in ("action", "reward", "discount", "last"):
            self.arrays[name][index] = getattr(step, name)
        self._episode_step += 1
        if not step.last.any():
            return [(index, False)]
        ended = np.flatnonzero(step.last)
        end = self._put(ended, step.next_obs[ended], boundary=True)
        self._episode_step[ended] = 0
        return [(index, False), (end, True)]

    def cut(self, envs: Any) -> Index | None:
        """Ends what runs in these environments (a mask `[N]`) as truncated: their next step begins a new episode.

        The newest observation stays as what its predecessor led to; what it would have led to is not known.

        Returns:
            The slots of those newest observations, None where nothing ran.
        """
        running = np.flatnonzero(envs & (self._episode_step > 0))
        if not len(running):
            return None
        newest = self.ring.newest(running)
        self.arrays["boundary"][newest] = True
        longer = self._episode_step[running] > 1
        self.arrays["last"][self.ring.shift(newest, np.full(len(newest), -1))[longer]] = True
        self._episode_step[running] = 0
        return newest

    def slots(self, written: Any) -> Index:
        """The flat indices `[N, used]` of slots, as far as any environment has `written` them."""
        first: Index = np.arange(len(written))[:, None] * self.ring.slots
        return first + np.arange(min(int(written.max()), self.ring.slots))

    def state_dict(self) -> dict[str, Any]:
        """The rings, as far as they are filled; the large arrays are views, not copies."""
        parts = {
            key: Versioned(version=version, settled=settled, arrays=self.store.copy_out(*place))
            for key, version, settled, place in chunks(self.ring.written, self.ring.slots, self._chunk)
        }
        return {
            "compression": self._compression,
            "stack": self._stack,
            "written": self.ring.written.copy(),
            "episode_step": self._episode_step.copy(),
            **self._used(self.ring.written),
            "store": self.store.state_dict(),
            "chunks": parts,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`.

        Raises:
            ValueError: the state is of rings of another shape; nothing was changed.
        """
        if state["compression"] != self._compression:
            raise ValueError(f"a replay with compression '{state['compression']}', not '{self._compression}'")
        theirs, ours = (len(state["written"]), state["stack"]), (len(self.ring.written), self._stack)
        if theirs != ours:
            raise ValueError("a replay of {} environments and stacks of {}, not {} and {}".format(*theirs, *ours))
        arrays = self._used(state["written"])
        for name, array in arrays.items():
            check_shape(name, state[name], array.shape, array.dtype)
        self.store.load_state_dict(state["store"])
        for name, array in arrays.items():
            array[:] = state[name]
        self.ring.written[:] = state["written"]
        self._episode_step[:] = state["episode_step"]
        for key, _, _, (first, end) in chunks(self.ring.written, self.ring.slots, self._chunk):
            self.store.copy_in(first, end, state["chunks"][key]["arrays"])

    def _put(self, envs: Any, obs: Any, *, boundary: bool) -> Index:
        index = self.ring.advance(envs)
        self.store.put(index, obs[:, -1] if self._stack > 1 else obs)
        self.arrays["boundary"][index] = boundary
        self.arrays["since_reset"][index] = np.minimum(self._episode_step[envs], self._stack - 1)
        return index

    def _used(self, written: Any) -> dict[str, Any]:
        """Views `[N, used]` of all but the observations."""
        used = min(int(written.max()), self.ring.slots)
        return {name: array.reshape(len(written), -1)[:, :used] for name, array in self.arrays.items()}
