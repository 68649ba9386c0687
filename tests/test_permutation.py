"""The permutation test behind verdicts, against naive loops over all ways to deal."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from qladder.runners.contrast import Guarded, contrast, verdict
from qladder.runners.permutation import permutation_test
from qladder.runners.stats import Floats


def naive_ranks(x: Floats) -> list[float]:
    return [sum(other < one for other in x) + (sum(other == one for other in x) + 1) / 2 for one in x]


def naive_dealt(a: Floats, b: Floats) -> float:
    """Over all ways to choose whose scores the first agent's are."""
    found = np.array(naive_ranks(np.concatenate([a, b])))
    middle = found.mean() * len(a)
    apart = [abs(sum(found[list(chosen)]) - middle) for chosen in combinations(range(len(found)), len(a))]
    return float(np.mean(np.array(apart) >= apart[0]))


def naive_swapped(a: Floats, b: Floats) -> float:
    """Over all ways but to swap none or all, as these two are what was found."""
    size = naive_ranks(abs(a - b))
    signs = np.sign(a - b)
    apart = [abs(sum(w * s * r for w, s, r in zip(way, signs, size, strict=True))) for way in ways(len(a))]
    return float(np.mean(np.array(apart[1:-1]) >= apart[0]))


def ways(n: int) -> list[tuple[int, ...]]:
    return list(product((1, -1), repeat=n))


@pytest.mark.parametrize("seed", range(4))
def test_dealing_anew_is_what_a_loop_over_all_ways_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(seed / 2, 1, 6).round(), rng.normal(0, 1, 5).round()
    assert permutation_test(a, b, paired=False) == pytest.approx(naive_dealt(a, b), abs=0.012)


@pytest.mark.parametrize("seed", range(4))
def test_pairs_are_swapped_in_all_ways_and_the_surer_test_counts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, 5, 8)
    a, b = shared + rng.normal(0.4, 0.5, 8), shared + rng.normal(0, 0.5, 8)
    assert naive_swapped(a, b) < naive_dealt(a, b)
    assert permutation_test(a, b, paired=True) == pytest.approx(naive_swapped(a, b), abs=1e-12)


def test_many_pairs_are_swapped_at_random() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 50, 30)
    a, b = shared + rng.normal(0.3, 1, 30), shared + rng.normal(0, 1, 30)
    assert 0.001 < permutation_test(a, b, paired=True) < 0.5 < permutation_test(a, b, paired=False)


def test_seeds_that_could_not_be_further_apart_are_as_sure_as_so_few_can_be() -> None:
    a, b = np.arange(6.0), np.arange(6.0) + 100
    assert permutation_test(a, b, paired=True) == 0
    assert permutation_test(a, b, paired=False) == pytest.approx(naive_dealt(a, b), abs=0.002)
    assert permutation_test(a, a, paired=True) == 1


def test_a_coin_is_not_taken_for_an_agent() -> None:
    """Nine seeds of ten against one, among 45 pairs: percentiles are surer than all ways to deal the scores allow."""
    a = np.array([495, 494, 487, 492, 492, 483, 505, 498, 70, 505.0])
    b = np.array([74, 162, 87, 130, 112, 101, 508, 103, 137, 75.0])
    found = contrast([*a], [*b], paired=False).difference
    assert isinstance(found, Guarded)
    assert found.by_chance == pytest.approx(0.0174, abs=0.003)  # of all 184,756 ways
    level = 1 - 0.05 / 45
    assert 1 - level < found.by_chance < 0.05
    assert verdict(found.estimate, 0.0, level) == "better"
    assert verdict(found, 0.0, level) == "undecided"
    assert found.interval(level)[0] == 0
    assert verdict(found, 0.0) == "better"
    assert found.interval() == found.estimate.interval()
