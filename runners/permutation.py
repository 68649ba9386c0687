"""Whether two agents' seeds could as well have changed places: an exact test that knows nothing of distributions."""

from __future__ import annotations

from itertools import product

import numpy as np

from qladder.envs.seeding import generator
from qladder.runners.stats import Floats, iqm_rows

PERMUTATIONS = 20_000
ENUMERATED = 14
"""Up to this many pairs all ways to swap them are tried, `2 ** 13` for 14 as a way and its opposite say the same."""
ROUNDING = 1e-9  # of the largest score: what differs by less is equal


def permutation_test(a: Floats, b: Floats, *, paired: bool) -> float:
    """How often the interquartile means would be as far apart if it were chance whose score is whose: the p value.

    Scores are dealt anew to both agents (Fisher 1935; Pitman 1937); those of paired ones also within pairs only, where
    the surer of both tests counts. Zero where no other way of dealing gives as much: so few seeds cannot say more.
    """
    found = _dealt(a, b)
    return min(found, _swapped(a, b)) if paired else found


def _dealt(a: Floats, b: Floats) -> float:
    pooled = np.tile(np.concatenate([a, b]), (PERMUTATIONS, 1))
    dealt = generator(0, "permutations").permuted(pooled, axis=1)
    return _share(np.abs(iqm_rows(dealt[:, : len(a)]) - iqm_rows(dealt[:, len(a) :])), a, b)


def _swapped(a: Floats, b: Floats) -> float:
    n = len(a)
    if n <= ENUMERATED:
        swaps = np.array([(False, *rest) for rest in product((False, True), repeat=n - 1)][1:])
    else:
        swaps = generator(0, "swaps").random((PERMUTATIONS, n)) < 0.5
    return _share(np.abs(iqm_rows(np.where(swaps, b, a)) - iqm_rows(np.where(swaps, a, b))), a, b)


def _share(apart: Floats, a: Floats, b: Floats) -> float:
    here = abs(float(iqm_rows(a[None])[0] - iqm_rows(b[None])[0]))
    tolerance = ROUNDING * float(np.abs(np.concatenate([a, b])).max())
    return float((apart >= here - tolerance).mean())
