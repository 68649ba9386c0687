"""Convolutions of a stride as ones of stride 1: blocks of cells become channels. The numbers are the same.

Few channels and a large stride are what convolutions are slowest at.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

PIXELS = 4  # a side of a block of pictures: four bytes make one 32-bit word, so that folding moves words


class Fold(NamedTuple):
    """Blocks of `side` x `side` cells, made channels.

    `axes`: those of weights `[O, C, K / side, side, K / side, side]` in the order of a folded map's memory.
    """

    side: int
    axes: tuple[int, int, int, int, int, int]

    def blocks(self, weight: Tensor) -> Tensor:
        """A view of weights `[O, C, K, K]` with `axes`; the last three are a folded map's channels."""
        out, channels, kernel, _ = weight.shape
        blocks = weight.view(out, channels, kernel // self.side, self.side, kernel // self.side, self.side)
        return blocks.permute(self.axes)

    def whole(self, weight: Tensor, channels: int) -> Tensor:
        """Weights `[O, C, K, K]` of folded ones `[O, C * side * side, K / side, K / side]`."""
        sizes = {1: channels, 3: self.side, 5: self.side}
        blocks = torch.unflatten(weight.permute(0, 2, 3, 1), 3, [sizes[axis] for axis in self.axes[3:]])
        return blocks.permute([self.axes.index(axis) for axis in range(6)]).flatten(4, 5).flatten(2, 3)


def fold_of(layer: int, kernel: int, stride: int) -> Fold | None:
    """How what goes into a network's convolution number `layer` is folded; None where it is left as it is."""
    if stride == 1 or kernel % stride:
        return None
    if layer:
        return Fold(stride, (0, 2, 4, 3, 5, 1))
    return Fold(PIXELS, (0, 2, 4, 1, 3, 5)) if stride == PIXELS else None


def fold_pictures(pictures: Tensor) -> Tensor:
    """uint8 `[B, C, H, W]` to uint8 `[B, C * 16, H / 4, W / 4]`, channels last.

    Rows and columns that fill no block are left out, as the convolution leaves them out.
    """
    batch, channels, height, width = pictures.shape
    rows, columns = height // PIXELS, width // PIXELS
    whole = pictures[:, :, : rows * PIXELS, : columns * PIXELS].contiguous()
    words = whole.view(torch.int32).view(batch, channels, rows, PIXELS, columns)
    blocks = words.permute(0, 2, 4, 1, 3).contiguous()
    return blocks.view(torch.uint8).view(batch, rows, columns, -1).permute(0, 3, 1, 2)


def fold_map(cells: Tensor, side: int) -> Tensor:
    """A map `[B, C, H, W]`, channels last, to `[B, side * side * C, H / side, W / side]`, likewise."""
    rows, columns = cells.shape[2] // side, cells.shape[3] // side
    whole = cells.permute(0, 2, 3, 1)[:, : rows * side, : columns * side]
    blocks = torch.unflatten(torch.unflatten(whole, 2, (columns, side)), 1, (rows, side)).permute(0, 1, 3, 2, 4, 5)
    return blocks.flatten(3).permute(0, 3, 1, 2)


def unfold_map(folded: Tensor, side: int, height: int, width: int) -> Tensor:
    """The inverse of `fold_map`, with 0 in cells that it left out: gradients of a map of this size."""
    blocks = torch.unflatten(folded.permute(0, 2, 3, 1), 3, (side, side, -1)).permute(0, 1, 3, 2, 4, 5)
    cells = blocks.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
    left_out = width - cells.shape[3], height - cells.shape[2]
    return functional.pad(cells, (0, left_out[0], 0, left_out[1])) if any(left_out) else cells
