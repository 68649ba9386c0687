"""What is left of trained weights, or made of them, when a share is taken away."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

NEAR = (0.75, 1.5, 3.0, 6.0)  # pixels: the width of the kernel by which weights are predicted
RIDGE = (0.01, 0.1, 1.0, 10.0)


def changed(kind: str, size: float, seed: int, weights: Sequence[Tensor], picture: tuple[int, ...]) -> list[Tensor]:
    """Weights in the order of the layers, changed as `kind` says, `size` the share that is taken away.

    prune-smallest, prune-random: of all layers' weights together, set to 0.
    low-rank: of the singular values of the largest layer, the smallest.
    zero-pixels, predict-pixels: of the pixels of a picture `[C, H, W]`, by lot; their weights in the layer that sees
        them are set to 0, or predicted from the other pixels' weights, unit by unit, by kernel ridge regression on the
        distance of the pixels (Denil et al. 2013, section 3.2). Of `NEAR` and `RIDGE` those are taken that predict best
        each of the weights that are left from the others: weights are rough, and what follows them too closely does
        worse than nothing.
    """
    if kind.startswith("prune"):
        return _pruned(kind, size, seed, weights)
    result = [w.clone() for w in weights]
    if kind == "low-rank":
        largest = max(range(len(weights)), key=lambda i: weights[i].numel())
        result[largest] = _of_low_rank(weights[largest], size)
    elif weights:
        first = next(i for i, w in enumerate(weights) if w.dim() == 2 and w.shape[1] == math.prod(picture))
        result[first] = _without_pixels(weights[first], size, seed, picture, predicted=kind == "predict-pixels")
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
        result[:, gone] = _predicted(weight[:, left].T.double().cpu(), left, gone, picture).T.to(weight)
    return result


def _predicted(known: Tensor, left: Tensor, gone: Tensor, picture: tuple[int, ...]) -> Tensor:
    """Weights of the pixels that are `gone` `[G, U]` from those that are `left` `[L, U]`, in float64."""
    where = torch.cartesian_prod(*(torch.arange(float(n), dtype=torch.float64) for n in picture))
    apart = (where[:, None, 1:] - where[None, :, 1:]).square().sum(2)
    same = where[:, None, 0] == where[None, :, 0]  # within a channel
    best, least = torch.zeros(len(gone), known.shape[1], dtype=torch.float64), math.inf
    for near in NEAR:
        kernel = (-apart / (2 * near**2)).exp() * same
        for ridge in RIDGE:
            inverse = torch.linalg.inv(kernel[left][:, left] + ridge * torch.eye(len(left), dtype=torch.float64))
            fitted = inverse @ known
            missed = float((fitted / inverse.diagonal()[:, None]).square().sum())  # each one, left out in turn
            if missed < least:
                best, least = kernel[gone][:, left] @ fitted, missed
    return best
