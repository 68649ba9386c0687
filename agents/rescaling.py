"""Values on a scale that is nearly a square root: what returns of many sizes are learnt on without clipped rewards."""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-3  # keeps the inverse Lipschitz (Kapturowski et al. 2019)


def rescale(x: Tensor) -> Tensor:
    """h(x) = sign(x) (sqrt(|x| + 1) - 1) + eps x, of any shape (Pohlen et al. 2018, proposition A.2)."""
    return x.sign() * ((x.abs() + 1).sqrt() - 1) + EPS * x


def unscale(x: Tensor) -> Tensor:
    """The inverse of `rescale`, in closed form (Pohlen et al. 2018, proposition A.2).

    There it has (root - 1) / (2 eps), which float32 cannot tell; multiplied out by root + 1 it can.
    """
    shifted = x.abs() + 1 + EPS
    root = torch.sqrt(1 + 4 * EPS * shifted)
    return x.sign() * ((2 * shifted / (root + 1)) ** 2 - 1)
