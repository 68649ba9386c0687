"""What somebody else's environment returns, as plain values that can be learnt from; or why it cannot be."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from qladder.envs.errors import first_line

BROKEN = (Exception, SystemExit, GeneratorExit)  # what somebody else's code may raise; Ctrl-C is the user's


class UnreadableError(Exception):
    """A value that is not what it should be, in words that begin with which value it is."""


def told(error: BaseException) -> str:
    """The type of an error and the first line of what it says, not more than 200 characters."""
    return f"{type(error).__name__}: {first_line(error)[:200]}"


def reader(space: spaces.Space[Any]) -> Callable[[Any], Any]:
    """A function that reads observations of this space, which is a Box, or one that `sizes` knows.

    Of a Box it gives a copy as an array of the space's dtype; of others a number in mixed radix, each digit counted
    from its space's start. The function raises UnreadableError for another shape or dtype, what is not finite or not in
    the space (the bounds of a Box are not looked at: many environments pass theirs).
    """
    digits = sizes(space)
    if digits is None:
        return _array_reader(space.shape or (), np.dtype(space.dtype))
    if isinstance(space, spaces.Discrete):
        first, size = int(space.start), digits[0]
        return lambda obs: _digit(obs, first, size)
    starts = [int(s.start) for s in space] if isinstance(space, spaces.Tuple) else np.ravel(space.start).tolist()  # type: ignore[attr-defined]

    def number(obs: Any) -> int:
        state = 0
        try:
            values = obs if isinstance(space, spaces.Tuple) else np.ravel(obs)
            for value, start, size in zip(values, starts, digits, strict=True):
                state = state * size + _digit(value, start, size)
        except UnreadableError:
            raise
        except BROKEN as error:
            raise UnreadableError(f"the observation is {_short(obs)}, not {len(digits)} whole numbers") from error
        return state

    return number


def sizes(space: spaces.Space[Any]) -> list[int] | None:
    """How many values each of the numbers has that an observation consists of; None where it is none of numbers."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete):
        return [int(n) for n in np.ravel(space.nvec)]
    if isinstance(space, spaces.Tuple) and all(isinstance(s, spaces.Discrete) for s in space):
        return [int(s.n) for s in space]
    return None


def real(reward: Any) -> float:
    """A reward as a finite number; UnreadableError where it is none."""
    number = reward
    if type(reward) is not float:
        try:
            one = reward.item() if isinstance(reward, np.ndarray) and reward.size == 1 else reward
            number = math.nan if isinstance(one, str | bytes) or np.ndim(one) else float(one)
        except BROKEN as error:
            raise UnreadableError(f"the reward is {_short(reward)}, which is no number: {told(error)}") from error
    if not math.isfinite(number):
        raise UnreadableError(f"the reward is {_short(reward)}, not one finite number")
    return float(number)


def flag(name: str, value: Any) -> bool:
    """`terminated` or `truncated` as a bool, also 0 and 1; UnreadableError for anything else."""
    try:
        if np.ndim(value) == 0 and value in (False, True):
            return bool(value)
    except BROKEN as error:
        raise UnreadableError(f"{name} is neither true nor false: {told(error)}") from error
    raise UnreadableError(f"{name} is {_short(value)}, neither true nor false")


def _array_reader(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Callable[[Any], Any]:
    floats = dtype.kind == "f"

    def read(obs: Any) -> NDArray[Any]:
        try:
            given = np.asarray(obs)
        except BROKEN as error:
            raise UnreadableError(f"the observation is none: {told(error)}") from error
        if given.shape != shape:
            raise UnreadableError(f"the observation has shape {given.shape} instead of {shape}")
        array = np.array(given, order="C") if given.dtype == dtype else _converted(given, dtype)
        if floats and not math.isfinite(np.vdot(array, array)) and not np.isfinite(array).all():
            raise UnreadableError("the observation is not finite")
        return array

    return read


def _converted(given: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Numbers of another type: floats may be rounded, whole numbers keep their values."""
    if given.dtype.kind in "biuf":
        with np.errstate(all="ignore"):
            array = given.astype(dtype, order="C")
            if given.dtype.kind == dtype.kind == "f" or np.array_equal(array, given):
                return array
    raise UnreadableError(f"the observation is of {given.dtype} instead of {dtype}")


def _digit(value: Any, first: int, size: int) -> int:
    """Of a whole number from `first` on, of which there are `size`, how far it is from the first."""
    try:
        value = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
        whole = int(value)
        if whole == value and first <= whole < first + size:
            return whole - first
    except BROKEN as error:
        raise UnreadableError(f"the observation has {_short(value)}, which is no number: {told(error)}") from error
    raise UnreadableError(f"the observation has {_short(value)}, not a whole number from {first} to {first + size - 1}")


def _short(value: Any) -> str:
    try:
        return reprlib.repr(value.item() if isinstance(value, np.generic) else value)
    except BROKEN:
        return f"a {type(value).__name__}"
