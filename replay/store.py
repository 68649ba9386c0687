"""Where a replay keeps its observations, slot by slot: in one array, or compressed without loss."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from qladder.replay.ring import Index

LEVEL = 3  # on Atari frames 1 compresses less and no faster, 6 takes twice the time for a tenth
WINDOW = 2**15  # bytes that deflate can refer back to
BLOB_OVERHEAD = 60  # bytes: Python's object, its place in the list, rounding to 16
LEARN_AFTER = 1_000  # frames, of which those of the dictionary are chosen


class Store(Protocol):
    """Observations of one shape and dtype in numbered slots."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory, full where it is taken as it fills."""

    def put(self, index: Index, obs: Any) -> None:
        """Overwrites the slots `[K]` with observations `[K, ...]`."""

    def take(self, index: Any, blank: Any = None, out: Any = None) -> Any:
        """The observations `[*index.shape, ...]` of slots written before, zeros where `blank`, into `out` if given."""

    def state_dict(self) -> dict[str, Any]:
        """What all slots share: shape and dtype of an observation, and what else reading them needs."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse; ValueError, with nothing changed, where the state is of other observations."""

    def copy_out(self, first: int, end: int) -> Mapping[str, Any]:
        """What the slots from `first` up to `end` hold, as arrays: views, or put together when they are looked at."""

    def copy_in(self, first: int, end: int, arrays: Mapping[str, Any]) -> None:
        """The inverse; ValueError where the arrays are not of so many slots."""


class ArrayStore:
    """All slots in one array; memory is taken as it fills."""

    def __init__(self, size: int, shape: tuple[int, ...], dtype: Any) -> None:
        import torch  # whose gathering uses all its threads

        self._array, self._torch = np.zeros((size, *shape), dtype), torch
        self._bytes = torch.from_numpy(_as_bytes(self._array, size))

    @property
    def nbytes(self) -> int:
        return self._array.nbytes

    def put(self, index: Index, obs: Any) -> None:
        self._array[index] = obs

    def take(self, index: Any, blank: Any = None, out: Any = None) -> Any:
        if out is None:
            out = np.empty((*index.shape, *self._array.shape[1:]), self._array.dtype)
        flat = self._torch.from_numpy(index.reshape(-1))
        self._torch.index_select(self._bytes, 0, flat, out=self._torch.from_numpy(_as_bytes(out, index.size)))
        return _blanked(out, blank)

    def state_dict(self) -> dict[str, Any]:
        return _kind(self._array.shape[1:], self._array.dtype)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _check_kind(state, self.state_dict())

    def copy_out(self, first: int, end: int) -> dict[str, Any]:
        return {"frame": self._array[first:end]}

    def copy_in(self, first: int, end: int, arrays: Mapping[str, Any]) -> None:
        frame = arrays["frame"]
        check_shape("frame", frame, self._array[first:end].shape, self._array.dtype)
        self._array[first:end] = frame


class TensorStore:
    """All slots in one tensor on a device; `take` is on the device altogether, so that a CUDA graph can hold it."""

    def __init__(self, size: int, shape: tuple[int, ...], dtype: Any, device: str) -> None:
        import torch

        self._torch, self._device, self._shape = torch, torch.device(device), (size, *shape)
        self._dtype = getattr(torch, np.dtype(dtype).name)

    @property
    def nbytes(self) -> int:
        return math.prod(self._shape) * self._dtype.itemsize

    @functools.cached_property
    def _tensor(self) -> Any:
        """Allocated when the first observation comes: who only plays needs none."""
        return self._torch.zeros(self._shape, dtype=self._dtype, device=self._device)

    def put(self, index: Index, obs: Any) -> None:
        slots, new = (self._torch.from_numpy(np.ascontiguousarray(a)).to(self._device) for a in (index, obs))
        self._tensor.index_copy_(0, slots, new)

    def take(self, index: Any, blank: Any = None, out: Any = None) -> Any:
        index = self._torch.as_tensor(index, device=self._device)
        found = self._tensor.index_select(0, index.flatten()).view(*index.shape, *self._tensor.shape[1:])
        if blank is None:
            return found
        blank = self._torch.as_tensor(blank, device=self._device)
        return found.masked_fill_(blank.view(*blank.shape, *[1] * (found.dim() - blank.dim())), 0)

    def state_dict(self) -> dict[str, Any]:
        return _kind(self._shape[1:], np.dtype(str(self._dtype).removeprefix("torch.")))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _check_kind(state, self.state_dict())

    def copy_out(self, first: int, end: int) -> dict[str, Any]:
        return {"frame": self._tensor[first:end]}

    def copy_in(self, first: int, end: int, arrays: Mapping[str, Any]) -> None:
        frame = self._torch.as_tensor(arrays["frame"])
        check_shape("frame", frame, (end - first, *self._shape[1:]), self._dtype)
        self._tensor[first:end].copy_(frame)


class DeflatedStore:
    """Every slot deflated on its own, with four early observations as a dictionary: pictures of a game repeat.

    A slot takes what its content needs; noise takes a little more than in an array.
    """

    def __init__(self, size: int, shape: tuple[int, ...], dtype: Any) -> None:
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._bytes = int(np.prod(shape, dtype=np.int64)) * self._dtype.itemsize
        self._blobs: list[bytes] = [b""] * size
        self._plain = np.ones(size, np.bool_)  # compressed without the dictionary
        self._seen = 0
        self._set_dictionary(b"")

    @property
    def nbytes(self) -> int:
        return self._plain.nbytes + sum(len(blob) + BLOB_OVERHEAD for blob in self._blobs if blob)

    def put(self, index: Index, obs: Any) -> None:
        for slot, one in zip(index.tolist(), np.ascontiguousarray(obs, self._dtype), strict=True):
            data = one.tobytes()
            self._learn(data)
            deflate = self._deflate.copy()
            self._blobs[slot] = deflate.compress(data) + deflate.flush()
            self._plain[slot] = not self._dictionary

    def take(self, index: Any, blank: Any = None, out: Any = None) -> Any:
        slots, where = np.unique(index, return_inverse=True)
        distinct = np.empty((len(slots), self._bytes), np.uint8)
        for row, slot in zip(distinct, slots.tolist(), strict=True):
            row[:] = np.frombuffer(self._read(slot), np.uint8)
        frames = distinct.view(self._dtype).reshape(len(slots), *self._shape)
        return _blanked(np.take(frames, where.reshape(index.shape), axis=0, out=out, mode="clip"), blank)

    def state_dict(self) -> dict[str, Any]:
        return {
            **_kind(self._shape, self._dtype),
            "dictionary": np.frombuffer(self._dictionary, np.uint8),
            "candidates": np.frombuffer(self._candidates, np.uint8),
            "seen": self._seen,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _check_kind(state, self.state_dict())
        self._set_dictionary(state["dictionary"].tobytes())
        self._candidates, self._seen = state["candidates"].tobytes(), state["seen"]

    def copy_out(self, first: int, end: int) -> Mapping[str, Any]:
        return _Joined(self._blobs, self._plain, first, end)

    def copy_in(self, first: int, end: int, arrays: Mapping[str, Any]) -> None:
        data, lengths = arrays["deflated"].tobytes(), arrays["lengths"]
        check_shape("lengths", lengths, (end - first,), np.dtype(np.int64))
        if lengths.sum() != len(data):
            raise ValueError(f"replay: {len(data)} bytes of observations that take {lengths.sum()}")
        ends = np.cumsum(lengths)
        for slot, stop, length in zip(range(first, end), ends.tolist(), lengths.tolist(), strict=True):
            self._blobs[slot] = data[stop - length : stop]
        self._plain[first:end] = arrays["plain"]

    def _learn(self, data: bytes) -> None:
        """Keeps a few of the first observations, far apart, as the dictionary of all that follow."""
        if self._seen >= LEARN_AFTER or self._bytes > WINDOW:
            return
        number = min(4, WINDOW // self._bytes)
        if self._seen % (LEARN_AFTER // number) == LEARN_AFTER // number - 1:
            self._candidates += data
        self._seen += 1
        if self._seen == LEARN_AFTER:
            self._set_dictionary(self._candidates)

    def _set_dictionary(self, dictionary: bytes) -> None:
        self._dictionary, self._candidates = dictionary, b""
        self._deflate = zlib.compressobj(LEVEL, wbits=-15, zdict=dictionary)
        self._inflate = {True: zlib.decompressobj(-15), False: zlib.decompressobj(-15, zdict=dictionary)}

    def _read(self, slot: int) -> bytes:
        blob = self._blobs[slot]
        return self._inflate[bool(self._plain[slot])].copy().decompress(blob) if blob else bytes(self._bytes)


class _Joined(Mapping[str, Any]):
    """The blobs of some slots as arrays, put together only when one is asked for: those of all slots are gigabytes."""

    def __init__(self, blobs: list[bytes], plain: Any, first: int, end: int) -> None:
        self._blobs, self._plain, self._slots = blobs, plain, slice(first, end)

    def __getitem__(self, key: str) -> Any:
        blobs = self._blobs[self._slots]
        if key == "deflated":
            return np.frombuffer(b"".join(blobs), np.uint8)
        return {"lengths": np.array([len(blob) for blob in blobs], np.int64), "plain": self._plain[self._slots]}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(("deflated", "lengths", "plain"))

    def __len__(self) -> int:
        return 3


def make_store(compression: str, device: str, size: int, shape: tuple[int, ...], dtype: Any) -> Store:
    """On the device; compressed observations are always the CPU's, which inflates them."""
    if compression != "none":
        return DeflatedStore(size, shape, dtype)
    return ArrayStore(size, shape, dtype) if device == "cpu" else TensorStore(size, shape, dtype, device)


def _as_bytes(array: Any, rows: int) -> Any:
    """A view `[rows, bytes]` of a contiguous array."""
    return array.reshape(rows, -1).view(np.uint8)


def _blanked(obs: Any, blank: Any) -> Any:
    if blank is not None:
        obs[blank] = 0
    return obs


def _kind(shape: tuple[int, ...], dtype: Any) -> dict[str, Any]:
    return {"shape": list(shape), "dtype": str(dtype)}


def _check_kind(state: dict[str, Any], own: dict[str, Any]) -> None:
    theirs, ours = ((s["shape"], s["dtype"]) for s in (state, own))
    if theirs != ours:
        raise ValueError("replay: observations {} {}, not {} {}".format(*theirs, *ours))


def check_shape(name: str, saved: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """ValueError where a saved array is of another shape or dtype."""
    if (saved.shape, saved.dtype) != (shape, dtype):
        raise ValueError(f"replay '{name}': {saved.shape} {saved.dtype}, not {shape} {dtype}")
