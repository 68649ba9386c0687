"""The costly layers of a picture network in bfloat16, forward and backward written out; the weights stay float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

LOW = torch.bfloat16


class LowCopies:
    """bfloat16 copies of float32 parameters, each times a scale; `folded[i]`: in the form that `fold` wants weights."""

    def __init__(self, params: Sequence[Tensor], scales: Sequence[float], folded: Sequence[bool]) -> None:
        self._sources = [_blocks(p) if f else p for p, f in zip(params, folded, strict=True)]
        self._scales = scales
        self._copies = [_empty_like(s) for s in self._sources]
        self.tensors = [c.flatten(3).permute(0, 3, 1, 2) if f else c for c, f in zip(self._copies, folded, strict=True)]
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Copies the parameters' present values; they do not notice by themselves that an optimizer has moved them."""
        for low, source, scale in zip(self._copies, self._sources, self._scales, strict=True):
            low.copy_(source if scale == 1 else source * scale)


def _empty_like(source: Tensor) -> Tensor:
    layout = torch.channels_last if source.dim() == 4 else torch.contiguous_format
    return torch.empty(source.shape, dtype=LOW, memory_format=layout)


FOLD = 4  # pixels a side; four bytes make one 32-bit word, so that folding moves words


def can_fold(kernel: int, stride: int) -> bool:
    """Whether a convolution of pictures is one of stride 1 on folded pictures."""
    return stride == FOLD and kernel % FOLD == 0


def fold(pictures: Tensor, mean: int) -> Tensor:
    """uint8 `[B, C, H, W]` to bfloat16 `[B, C * 16, H / 4, W / 4]`, channels last: 4x4 pixels become channels.

    Few channels and a large stride are what convolutions are slowest at; the numbers are the same. Rows and columns
    that fill no block are left out, as the convolution leaves them out.
    """
    batch, channels, height, width = pictures.shape
    rows, columns = height // FOLD, width // FOLD
    whole = pictures[:, :, : rows * FOLD, : columns * FOLD].contiguous()
    words = whole.view(torch.int32).view(batch, channels, rows, FOLD, columns)
    blocks = words.permute(0, 2, 4, 1, 3).contiguous()
    return _centred(blocks.view(torch.uint8).view(batch, rows, columns, -1), mean).permute(0, 3, 1, 2)


def _centred(pixels: Tensor, mean: int) -> Tensor:
    """uint8 to bfloat16, less `mean`: whole numbers of up to 256 either side of 0 are exact in bfloat16."""
    low = pixels.to(LOW)
    return low.sub_(mean) if mean else low


def _blocks(weight: Tensor) -> Tensor:
    """A view `[O, K / 4, K / 4, C, 4, 4]` of weights `[O, C, K, K]`, axes in the order of `fold`'s memory."""
    out, channels, kernel, _ = weight.shape
    blocks = weight.view(out, channels, kernel // FOLD, FOLD, kernel // FOLD, FOLD)
    return blocks.permute(0, 2, 4, 1, 3, 5)


def _unfold(grad: Tensor, channels: int) -> Tensor:
    """Gradient `[O, C * 16, K / 4, K / 4]` of folded weights as one of weights `[O, C, K, K]`."""
    out, _, rows, columns = grad.shape
    blocks = grad.permute(0, 2, 3, 1).reshape(out, rows, columns, channels, FOLD, FOLD).permute(0, 3, 1, 4, 2, 5)
    return blocks.flatten(4, 5).flatten(2, 3)


class LowConvolutions(torch.autograd.Function):
    """Convolutions with ReLU on pictures, uint8 `[B, C, H, W]` to float32 `[B, K]`; no gradient for the pictures.

    Pixels, less their `mean`, are exact in bfloat16, so the division by 255 is in the copy of the first weights,
    `low[0]`; a first stride of 0 says that they are folded.
    """

    @staticmethod
    def forward(
        ctx: Any, pictures: Tensor, mean: int, strides: list[int], low: list[Tensor], *params: Tensor
    ) -> Tensor:
        if strides[0] == 0:
            h = fold(pictures, mean)
        else:
            h = _centred(pictures.contiguous(memory_format=torch.channels_last), mean)
        activations = [h]
        for i, stride in enumerate(strides):
            h = _convolution_relu(h, low[2 * i], low[2 * i + 1], [stride or 1] * 2)
            activations.append(h)
        ctx.save_for_backward(*activations, *low[::2])
        ctx.strides, ctx.channels = strides, pictures.shape[1]
        return h.flatten(1).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        strides, saved = ctx.strides, ctx.saved_tensors
        activations, weights = saved[: len(strides) + 1], saved[len(strides) + 1 :]
        grad = grads[0].view(activations[-1].shape).to(LOW).contiguous(memory_format=torch.channels_last)
        found: list[Tensor] = []
        for i in reversed(range(len(strides))):
            grad = torch.ops.aten.threshold_backward(grad, activations[i + 1], 0)
            stride = [strides[i] or 1] * 2
            args = ([len(weights[i])], stride, [0, 0], [1, 1], False, [0, 0], 1, [i > 0, True, True])
            grad, weight, bias = torch.ops.aten.convolution_backward(grad, activations[i], weights[i], *args)
            found = [weight.float(), bias.float(), *found]
        found[0] = (found[0] if strides[0] else _unfold(found[0], ctx.channels)) / 255
        return None, None, None, None, *found


def _convolution_relu(h: Tensor, weight: Tensor, bias: Tensor, stride: list[int]) -> Tensor:
    """In one pass, by what torch's own compiler calls for it."""
    out: Tensor = torch.ops.mkldnn._convolution_pointwise(h, weight, bias, [0, 0], stride, [1, 1], 1, "relu", [], "")
    return out


class LowLinear(torch.autograd.Function):
    """A fully connected layer, float32 `[B, I]` to float32 `[B, O]`; `low`: the weight itself or its copy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x = x.to(low.dtype)
        ctx.save_for_backward(x, low)
        return _low_product(x, low.t()) + bias

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, low = ctx.saved_tensors
        grad = grads[0].to(low.dtype)
        return _low_product(grad, low), None, _low_product(grad.t(), x), grads[0].sum(0)


def multiplies_low() -> bool:
    """Whether float32 matrices are multiplied in bfloat16 without a copy: by AMX; other CPUs would use float32."""
    return torch.cpu._is_amx_tile_supported()


def _low_product(left: Tensor, right: Tensor) -> Tensor:
    """The product of two matrices of one type, in bfloat16 where the CPU can; float32 comes back."""
    if right.dtype == LOW:
        return (left @ right).float()
    matmul: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        return left @ right
    finally:
        matmul.fp32_precision = before
