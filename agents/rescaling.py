"""Values on a scale that is nearly a square root: what returns of many sizes are learnt on without clipped rewards."""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-3  # keeps the inverse Lipschitz (Kapturowski et al. 2019)


def rescale(x: Tensor) -> Tensor:
    """h(x) = sign(x) (sqrt(|x| + 1) - 1) + eps x, of any shape (Pohlen et al. 2018, proposition A.2)."""
    return x.sign() * ((x.abs() + 1).sqrt() - 1) + EPS * x


def unscale(x: Tensor) -> Tensor:
    """The inverse of `rescale`, in closed form (Pohlen et al. 2018, proposition A.2)."""
    root = torch.sqrt(1 + 4 * EPS * (x.abs() + 1 + EPS))
    return x.sign() * (((root - 1) / (2 * EPS)) ** 2 - 1)
