"""The costly layers of a picture network in bfloat16, forward and backward written out; the weights stay float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

LOW = torch.bfloat16


class LowCopies:
    """bfloat16 copies of float32 parameters, each times a scale."""

    def __init__(self, params: Sequence[Tensor], scales: Sequence[float]) -> None:
        self._params, self._scales = params, scales
        self.tensors = [
            torch.empty_like(p, dtype=LOW, memory_format=torch.channels_last if p.dim() == 4 else torch.preserve_format)
            for p in params
        ]
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Copies the parameters' present values; they do not notice by themselves that an optimizer has moved them."""
        for low, param, scale in zip(self.tensors, self._params, self._scales, strict=True):
            low.copy_(param if scale == 1 else param * scale)


class LowConvolutions(torch.autograd.Function):
    """Convolutions with ReLU on pictures, uint8 `[B, C, H, W]` to float32 `[B, K]`; no gradient for the pictures.

    Pixels of 0 to 255 are exact in bfloat16, so the division by 255 is in the copy of the first weights, `low[0]`.
    """

    @staticmethod
    def forward(ctx: Any, pictures: Tensor, strides: list[int], low: list[Tensor], *params: Tensor) -> Tensor:
        h = pictures.to(LOW).contiguous(memory_format=torch.channels_last)
        activations = [h]
        for i, stride in enumerate(strides):
            h = torch.conv2d(h, low[2 * i], low[2 * i + 1], stride).relu_()
            activations.append(h)
        ctx.save_for_backward(*activations, *low[::2])
        ctx.strides = strides
        return h.float().flatten(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        strides, saved = ctx.strides, ctx.saved_tensors
        activations, weights = saved[: len(strides) + 1], saved[len(strides) + 1 :]
        grad = grads[0].view(activations[-1].shape).to(LOW).contiguous(memory_format=torch.channels_last)
        found: list[Tensor] = []
        for i in reversed(range(len(strides))):
            grad = torch.ops.aten.threshold_backward(grad, activations[i + 1], 0)
            args = ([len(weights[i])], [strides[i]] * 2, [0, 0], [1, 1], False, [0, 0], 1, [i > 0, True, True])
            grad, weight, bias = torch.ops.aten.convolution_backward(grad, activations[i], weights[i], *args)
            found = [weight.float() if i > 0 else weight.float() / 255, bias.float(), *found]
        return None, None, None, *found


class LowLinear(torch.autograd.Function):
    """A fully connected layer, float32 `[B, I]` to float32 `[B, O]`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x = x.to(LOW)
        ctx.save_for_backward(x, low)
        return (x @ low.t()).float() + bias

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, low = ctx.saved_tensors
        grad = grads[0].to(LOW)
        return (grad @ low).float(), None, (grad.t() @ x).float(), grads[0].sum(0)
