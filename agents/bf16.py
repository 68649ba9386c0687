"""The costly layers of a picture network in bfloat16, forward and backward written out; the weights stay float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qladder.agents.folding import Fold, fold_map, fold_pictures, unfold_map

LOW = torch.bfloat16


class LowCopies:
    """bfloat16 copies of float32 parameters, each times a scale; `folds`: weights of convolutions of folded maps."""

    def __init__(self, params: Sequence[Tensor], scales: Sequence[float], folds: Sequence[Fold | None]) -> None:
        self._sources = [fold.blocks(p) if fold else p for p, fold in zip(params, folds, strict=True)]
        self._scales = scales
        self._copies = [_empty_like(s) for s in self._sources]
        self.tensors = [
            c.flatten(3).permute(0, 3, 1, 2) if fold else c for c, fold in zip(self._copies, folds, strict=True)
        ]
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Copies the parameters' present values; they do not notice by themselves that an optimizer has moved them."""
        for low, source, scale in zip(self._copies, self._sources, self._scales, strict=True):
            low.copy_(source if scale == 1 else source * scale)


def _empty_like(source: Tensor) -> Tensor:
    layout = torch.channels_last if source.dim() == 4 else torch.contiguous_format
    return torch.empty(source.shape, dtype=LOW, memory_format=layout)


class LowConvolutions(torch.autograd.Function):
    """Convolutions with ReLU on pictures, uint8 `[B, C, H, W]` to float32 `[B, K]`; no gradient for the pictures.

    Pixels, less their `mean` (a number, or uint8 `[C, H, W]`), are exact in bfloat16, so the division by `scale` is in
    the copy of the first weights, `low[0]`; a layer with a fold takes its map folded.
    """

    @staticmethod
    def forward(
        ctx: Any,
        pictures: Tensor,
        mean: Tensor | int,
        scale: float,
        strides: list[int],
        folds: list[Fold | None],
        low: list[Tensor],
        *params: Tensor,
    ) -> Tensor:
        h = _centred(pictures, mean, folds[0] is not None)
        taken, made = [], []
        for i, (stride, fold) in enumerate(zip(strides, folds, strict=True)):
            h = fold_map(h, fold.side) if fold and i else h
            taken.append(h)
            h = _convolution_relu(h, low[2 * i], low[2 * i + 1], [1 if fold else stride] * 2)
            made.append(h)
        ctx.save_for_backward(*taken, *made, *low[::2])
        ctx.scale, ctx.strides, ctx.folds, ctx.params = scale, strides, folds, params
        return h.flatten(1).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        layers = len(ctx.strides)
        taken, made, weights = (ctx.saved_tensors[i * layers : (i + 1) * layers] for i in range(3))
        grad = grads[0].view(made[-1].shape).to(LOW).contiguous(memory_format=torch.channels_last)
        found: list[Tensor] = []
        for i in reversed(range(layers)):
            fold = ctx.folds[i]
            grad = torch.ops.aten.threshold_backward(grad, made[i], 0)
            stride = [1 if fold else ctx.strides[i]] * 2
            args = ([len(weights[i])], stride, [0, 0], [1, 1], False, [0, 0], 1, [i > 0, True, True])
            grad, weight, bias = torch.ops.aten.convolution_backward(grad, taken[i], weights[i], *args)
            if fold:
                weight = fold.whole(weight, ctx.params[2 * i].shape[1])
                grad = unfold_map(grad, fold.side, *made[i - 1].shape[2:]) if i else grad
            found = [weight.float(), bias.float(), *found]
        found[0] = found[0] / ctx.scale
        return None, None, None, None, None, None, *found


def _centred(pictures: Tensor, mean: Tensor | int, folded: bool) -> Tensor:
    """uint8 to bfloat16, less `mean`: whole numbers of up to 256 either side of 0 are exact in bfloat16."""
    low = _laid_out(pictures, folded).to(LOW)
    if isinstance(mean, Tensor):
        return low.sub_(_laid_out(mean[None], folded))
    return low.sub_(mean) if mean else low


def _laid_out(pictures: Tensor, folded: bool) -> Tensor:
    return fold_pictures(pictures) if folded else pictures.contiguous(memory_format=torch.channels_last)


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
