"""What environments and wrappers of our own are given, looked at before they are made."""

from __future__ import annotations

from numbers import Integral

import gymnasium

from qladder.envs.errors import UserError


def check_whole(**arguments: int) -> None:
    """UserError unless all are whole numbers: a file of settings may hold others."""
    for name, value in arguments.items():
        if not isinstance(value, Integral):
            raise UserError(f"{name}: {value} is not allowed; must be a whole number")


def picture_shape(space: gymnasium.Space[object], what: str) -> tuple[int, ...]:
    """`[H, W]` or `[C, H, W]` of observations that are pictures; UserError, which begins with `what`, where not."""
    shape = space.shape if isinstance(space, gymnasium.spaces.Box) else ()
    if len(shape) not in (2, 3):
        raise UserError(f"{what}: {space} is no picture of rows and columns")
    if len(shape) == 3 and shape[2] in (1, 3, 4):
        raise UserError(f"{what}: {space} has its channels last; they must be first")
    return shape
