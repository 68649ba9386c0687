"""What is left of trained weights, or made of them, when a share is taken away."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

NEAR = 1.5  # pixels: the width of the kernel by which weights are predicted
RIDGE = 0.01


def changed(kind: str, size: float, seed: int, weights: Sequence[Tensor], picture: tuple[int, ...]) -> list[Tensor]:
    """Weights in the order of the layers, changed as `kind` says, `size` the share that is taken away.

    prune-smallest, prune-random: of all layers' weights together, set to 0.
    low-rank: of the singular values of the largest layer, the smallest.
    zero-pixels, predict-pixels: of the pixels of a picture `[C, H, W]`, by lot; their weights in the first layer are
        set to 0, or predicted from the other pixels' weights, unit by unit, by kernel ridge regression on the distance
        of the pixels (Denil et al. 2013, section 3.2).
    """
    if kind.startswith("prune"):
        return _pruned(kind, size, seed, weights)
    result = [w.clone() for w in weights]
    if kind == "low-rank":
        largest = max(range(len(weights)), key=lambda i: weights[i].numel())
        result[largest] = _of_low_rank(weights[largest], size)
    elif weights:
        result[0] = _without_pixels(weights[0], size, seed, picture, predicted=kind == "predict-pixels")
    return result


def _pruned(kind: str, size: float, seed: int, weights: Sequence[Tensor]) -> list[Tensor]:
    sizes = [w.numel() for w in weights]
    if not sizes:
        return []
    if kind == "prune-smallest":
        rank = torch.cat([w.abs().flatten() for w in weights]).argsort(stable=True)
    else:  # the same ones each time
        rank = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones(sum(sizes), device=weights[0].device)
    mask[rank[: round(size * sum(sizes))].to(mask.device)] = 0
    return [part.view_as(w) * w for part, w in zip(torch.split(mask, sizes), weights, strict=True)]


def _of_low_rank(weight: Tensor, size: float) -> Tensor:
    left, values, right = torch.linalg.svd(weight.flatten(1), full_matrices=False)
    kept = len(values) - round(size * len(values))
    return (left[:, :kept] * values[:kept] @ right[:kept]).view_as(weight)


def _without_pixels(weight: Tensor, size: float, seed: int, picture: tuple[int, ...], *, predicted: bool) -> Tensor:
    count = math.prod(picture)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    gone, left = order[: round(size * count)], order[round(size * count) :]
    result = weight.clone()
    result[:, gone] = 0
    if predicted:
        where = torch.cartesian_prod(*(torch.arange(float(n), dtype=torch.float64) for n in picture))
        apart = (where[:, None, 1:] - where[None, :, 1:]).square().sum(2)
        kernel = (-apart / (2 * NEAR**2)).exp() * (where[:, None, 0] == where[None, :, 0])  # within a channel
        known = weight[:, left].T.double().cpu()
        fitted = torch.linalg.solve(kernel[left][:, left] + RIDGE * torch.eye(len(left), dtype=torch.float64), known)
        result[:, gone] = (kernel[gone][:, left] @ fitted).T.to(weight)
    return result
