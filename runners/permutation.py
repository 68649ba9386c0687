"""Whether two agents' seeds could as well have changed places: tests that know nothing of distributions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from qladder.envs.seeding import generator
from qladder.runners.stats import Floats

PERMUTATIONS = 20_000
ENUMERATED = 14
"""Up to this many pairs all signs of their differences are tried: `2 ** 14` of them."""


def permutation_test(a: Floats, b: Floats, *, paired: bool) -> float:
    """How often ranks would be as far apart if it were chance whose score is whose: the p value.

    All scores are dealt anew to both agents (the rank sum test, Wilcoxon 1945; Mann and Whitney 1947); of paired ones
    also those of each pair (the signed rank test), and the surer of both counts. Zero where no other way of dealing is
    as extreme: so few seeds cannot say more.
    """
    found = _dealt(a, b)
    return min(found, _swapped(a - b)) if paired else found


def ranks(x: Floats) -> Floats:
    """From 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found: Floats = (last - (counts - 1) / 2)[place]
    return found


def _dealt(a: Floats, b: Floats) -> float:
    centred = ranks(np.concatenate([a, b])) - (len(a) + len(b) + 1) / 2
    rng = generator(0, "permutations")

    def deal(times: int) -> Floats:
        sums: Floats = rng.permuted(np.tile(centred, (times, 1)), axis=1)[:, : len(a)].sum(axis=1)
        return sums

    return _share(_often(deal, len(centred)), centred[: len(a)].sum())


def _swapped(differences: Floats) -> float:
    signed = ranks(np.abs(differences)) * np.sign(differences)
    n, rng = len(signed), generator(0, "swaps")
    if n <= ENUMERATED:
        signs = np.array([*product((1.0, -1.0), repeat=n)][1:-1])  # all but the one that was found, and its opposite
        return _share(signs @ signed, signed.sum())
    return _share(_often(lambda times: rng.choice([1.0, -1.0], (times, n)) @ signed, n), signed.sum())


def _often(deal: Callable[[int], Floats], width: int) -> Floats:
    """So many dealings, about a million scores at a time."""
    rows = max(1, 1_000_000 // width)
    return np.concatenate([deal(min(rows, PERMUTATIONS - start)) for start in range(0, PERMUTATIONS, rows)])


def _share(apart: Floats, here: float) -> float:
    """Ranks are whole or half numbers: no rounding is in the way."""
    return float((np.abs(apart) >= abs(here)).mean())
