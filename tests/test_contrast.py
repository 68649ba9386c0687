"""Differences, verdicts, Holm's correction and seed plans against hand-worked numbers and published ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qladder.runners.bootstrap import Resampled, resampled
from qladder.runners.contrast import Contrast, chance, contrast, corrected, improvement, seeds_needed, verdict
from qladder.runners.stats import Floats, Student, iqm, iqm_rows, t_quantile

SURE = 1e9  # degrees of freedom with which Student's t is the normal distribution


def mean_rows(x: Floats) -> Floats:
    means: Floats = x.mean(axis=1)
    return means


def test_percentiles_are_where_students_t_has_them() -> None:
    found = Resampled(0.5, np.linspace(0, 1, 100_001), df=9)
    assert found.interval(0.95) == pytest.approx((0.011842, 0.988158), abs=2e-5)  # Phi(-2.262157)
    assert Resampled(0.5, np.linspace(0, 1, 100_001), df=10**9).interval(0.95) == pytest.approx(
        (0.025, 0.975), abs=2e-5
    )
    assert Resampled(0.5, np.ones(9), df=0).interval() == (None, None)


def test_draws_are_all_that_two_values_can_give() -> None:
    found = resampled([np.array([0.0, 1.0])], mean_rows)
    values, counts = np.unique(found.draws, return_counts=True)
    assert values.tolist() == [0, 0.5, 1]
    assert counts / counts.sum() == pytest.approx([0.25, 0.5, 0.25], abs=0.02)
    assert (found.value, found.df) == (0.5, 1)
    assert found.standard_error == pytest.approx(math.sqrt(1 / 4), abs=0.01)  # made up for two seeds


def test_tasks_are_drawn_by_themselves_and_pooled() -> None:
    found = resampled([np.zeros(3), np.ones(5)], mean_rows)
    assert set(found.draws) == {5 / 8}  # a task's share is never another's
    assert found.df == 2 + 4
    assert found.interval() == (5 / 8, 5 / 8)
    assert resampled([np.zeros(3), np.ones(1)], mean_rows).interval() == (None, None)


def test_what_is_drawn_from_one_stream_is_paired() -> None:
    x = np.array([1.0, 5.0, 100.0, -3.0])
    one, other = resampled([x], mean_rows), resampled([x - 2], mean_rows)
    assert (one - other).interval() == pytest.approx((2, 2))


def test_a_difference_of_two_keeps_both_spreads() -> None:
    rng = np.random.default_rng(0)
    one, other = resampled([np.arange(8.0)], mean_rows, rng), resampled([np.arange(8.0)], mean_rows, rng)
    both = one - other
    assert (both.value, both.df) == (0, 14)
    assert both.standard_error == pytest.approx(math.hypot(one.standard_error, other.standard_error), rel=0.05)


def test_few_seeds_are_compared_by_their_means() -> None:
    paired = contrast([4, 6, 8], [1, 2, 3], paired=True)  # differences 3, 4, 5
    assert (paired.statistic, paired.paired, paired.seeds, paired.difference.df) == ("mean", True, 3, 2)
    assert (paired.difference.value, paired.difference.standard_error) == pytest.approx((4, 1 / math.sqrt(3)))
    assert paired.effect == pytest.approx(4 / math.sqrt((4 + 1) / 2))
    apart = contrast([4, 6, 8], [1, 2, 3], paired=False)
    assert apart.difference.standard_error == pytest.approx(math.sqrt(4 / 3 + 1 / 3))
    assert apart.difference.df == pytest.approx(50 / 17)


@pytest.mark.parametrize("paired", [False, True])
def test_more_are_compared_by_their_middle_halves(paired: bool) -> None:
    a, b = [1.0, 2, 3, 4, 5, 6, 7, 99], [0.0, 1, 1, 2, 2, 3, 3, -99]
    found = contrast(a, b, paired=paired)
    assert (found.statistic, found.seeds) == ("IQM", 8)
    assert found.difference.value == pytest.approx(iqm(a) - iqm(b)) == pytest.approx(4.5 - 1.5)
    assert found.difference.df == (7 if paired else 14)
    assert contrast(a, b, paired=paired).difference.interval() == found.difference.interval()


def test_pairing_takes_out_what_the_seeds_share() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 10, size=12)
    a, b = shared + 1 + 0.1 * rng.normal(size=12), shared
    together, apart = (contrast(a, b, paired=paired).difference for paired in (True, False))
    assert verdict(together, 0) == "better"
    assert verdict(apart, 0) == "undecided"
    assert together.standard_error < 0.2
    assert apart.standard_error > 2


def test_improvement_counts_ties_half() -> None:
    assert improvement(np.array([1.0, 2, 2]), np.array([2.0, 0])) == pytest.approx((0 + 1 + 0.5 + 1 + 0.5 + 1) / 6)
    assert improvement(np.array([3.0]), np.array([3.0])) == 0.5


@pytest.mark.parametrize(
    ("value", "delta", "word"),
    [  # the interval is 1.96 to each side
        (2.0, 0.0, "better"),
        (1.9, 0.0, "undecided"),
        (-2.0, 0.0, "worse"),
        (0.0, 1.97, "equivalent"),
        (0.0, 1.95, "undecided"),
        (2.0, 3.97, "equivalent"),
        (2.0, 3.95, "better"),
        (-2.0, 3.95, "worse"),
    ],
)
def test_verdicts(value: float, delta: float, word: str) -> None:
    assert verdict(Student(value, 1.0, SURE), delta) == word


def test_nothing_is_decided_by_one_seed_or_without_a_difference() -> None:
    assert verdict(Student(5.0, 0.0, 0), 9.0) == "undecided"
    assert verdict(Student(0.0, 0.0, 7), 0.0) == "undecided"
    assert verdict(Student(0.0, 0.0, 7), 0.1) == "equivalent"


def test_holm_goes_on_while_differences_are_sure() -> None:
    """Of three, the surest is judged at 5 / 3 %, the next at 5 / 2 %, the last at 5 %."""
    quantile = {0.001: 3.2905, 0.016: 2.4089, 0.018: 2.3656, 0.024: 2.2571, 0.026: 2.2262, 0.04: 2.0537}

    def judged(*chances: float) -> list[str]:
        return list(corrected([Student(quantile[p], 1.0, SURE) for p in chances], 0.0))

    assert judged(0.04, 0.001, 0.024) == ["better"] * 3
    assert judged(0.04, 0.001, 0.026) == ["undecided", "better", "undecided"]
    assert judged(0.018, 0.018, 0.018) == ["undecided"] * 3
    assert judged(0.016, 0.024, 0.04) == ["better"] * 3
    assert corrected([], 0.0) == []


def test_equivalence_is_corrected_for_the_number_of_pairs() -> None:
    near = Student(0.0, 1.0, SURE)
    assert corrected([near], 2.0) == ["equivalent"]
    assert corrected([near, near], 2.2) == ["undecided"] * 2  # 97.5 %: 2.2414
    assert corrected([near, Student(-9.0, 1.0, SURE)], 2.3) == ["equivalent", "worse"]


def test_chance_is_the_p_value() -> None:
    assert chance(Student(2.228139, 1.0, 10)) == pytest.approx(0.05, abs=1e-6)
    assert chance(Student(-2 * 2.228139, 2.0, 10)) == pytest.approx(0.05, abs=1e-6)
    assert [chance(Student(v, 0.0, 3)) for v in (0.0, 1.0)] == [1, pytest.approx(0, abs=1e-12)]
    assert chance(Student(5.0, 0.0, 0)) == 1


def test_holm_goes_by_the_intervals_that_it_judges_by() -> None:
    """Student's t takes the first for the surest, its percentiles for the least sure: the others do not wait for it."""
    rng = np.random.default_rng(0)
    skewed = Resampled(10.0, 10 + rng.exponential(1.0, 10_000) - np.where(rng.random(10_000) < 0.012, 12, 0), 18)
    plain = Resampled(3.5, 3.5 + rng.normal(size=10_000), 18)
    assert skewed.value / skewed.standard_error > plain.value / plain.standard_error
    assert chance(skewed) > chance(plain)
    assert [verdict(skewed, 0.0, 1 - 0.05 / k) for k in (3, 1)] == ["undecided", "better"]
    assert corrected([skewed, plain, plain], 0.0) == ["better"] * 3


def planned(effect: float, *, paired: bool) -> int | None:
    """For a difference of `effect` standard deviations, from two seeds."""
    spread = 1.0 if paired else math.sqrt(2)
    estimate = Student(0.0, spread / math.sqrt(2), 1)
    return seeds_needed(Contrast(estimate, "mean", paired, 0.5, 0.0, None, 2, spread), effect)


@pytest.mark.parametrize(("effect", "seeds"), [(0.5, 64), (0.8, 26), (1.2, 12), (2.0, 6)])
def test_a_plan_asks_for_as_many_seeds_as_textbooks(effect: float, seeds: int) -> None:
    """Two-sided 5 %, 80 % power, two independent samples (Cohen 1988, table 2.4.1)."""
    assert planned(effect, paired=False) == seeds


@pytest.mark.parametrize("paired", [True, False])
def test_a_plan_looks_ahead_of_the_luck_of_few_seeds(paired: bool) -> None:
    """Ten seeds of which half succeed: with many, an interquartile mean spreads by 2 sqrt(p (1 - p)) times the gap."""
    coins = [0.0, 400.0] * 5
    found = contrast(coins, [100.0] * 10, paired=paired)
    assert found.spread == pytest.approx(400 * math.sqrt(10 / 9), rel=0.06)
    mixed = contrast(coins, [x + 7 for x in reversed(coins)], paired=paired)  # the same coins the other way around
    assert mixed.spread == pytest.approx(found.spread * (2 if paired else math.sqrt(2)), rel=0.06)
    assert contrast(coins, [x + 7 for x in coins], paired=True).spread == pytest.approx(0, abs=1e-9)


def test_a_plan_of_interquartile_means_by_hand() -> None:
    """(t of 95 % and of 80 %, at 18 degrees of freedom) times the spread over the effect, squared."""
    found = Contrast(Student(0.0, 1.0, 18), "IQM", False, 0.5, 0.0, None, 10, 2.0)
    assert seeds_needed(found, 1.0) == math.ceil(((2.10092 + 0.86205) * 2) ** 2)


def test_a_plan_knows_its_limits() -> None:
    assert planned(0.001, paired=True) is None
    assert planned(0.0, paired=True) is None
    paired, apart = planned(0.5, paired=True), planned(0.5, paired=False)
    assert paired is not None
    assert apart is not None
    assert paired < apart
    assert seeds_needed(Contrast(Student(1.0, 0.0, 0), "mean", True, 0.5, 0.0, None, 1, 0.0), 1.0) is None


def test_a_plan_asks_for_both_agents_spread() -> None:
    few, many = np.arange(6.0), np.tile(np.arange(6.0), 20)
    alike, unlike = contrast(few, few + 1, paired=False), contrast(few, many + 1, paired=False)
    assert unlike.spread == pytest.approx(alike.spread, rel=0.1)
    assert contrast(few[:3], few[:3], paired=False).spread == pytest.approx(math.sqrt(1 + 1))
    assert contrast(few[:3], 2 * few[:3], paired=True).spread == pytest.approx(1)


def test_pairs_that_differ_by_the_same_are_so_many_values_alike_and_not_twice_as_many() -> None:
    """Three pairs have a chance of 2 ** -2 to agree; that their scores are not all one says nothing of that."""
    found = contrast([-13, -13, -15], [-17, -17, -19], paired=True).difference
    assert chance(found) == pytest.approx(0.25, rel=1e-6)
    assert verdict(found, 0.0) == "undecided"


@pytest.mark.parametrize(("seeds", "word"), [(2, "undecided"), (10, "undecided"), (11, "equivalent")])
def test_seeds_without_any_difference_are_no_proof_that_there_is_none(seeds: int, word: str) -> None:
    """An agent that fails in just over a quarter of seeds, of which its IQM begins to tell, shows none by (3/4)^n."""
    for paired in (False, True):
        found = contrast([500.0] * seeds, [500.0] * seeds, paired=paired).difference
        assert verdict(found, 10.0) == word
        assert verdict(found, 0.0) == "undecided"
        assert seeds_needed(contrast([500.0] * seeds, [500.0] * seeds, paired=paired), 10.0) == 11
    assert verdict(contrast([1.0, 2.0], [1.0, 2.0], paired=True).difference, 10.0) == "undecided"
    assert corrected([found] * 10, 10.0) == ["undecided"] * 10
    many = contrast([500.0] * 19, [500.0] * 19, paired=True).difference  # 0.75 ** 19 is less than a tenth of 5 %
    assert corrected([many] * 10, 10.0) == ["equivalent"] * 10


@pytest.mark.parametrize(("seeds", "word"), [(2, "undecided"), (3, "better"), (8, "better")])
def test_seeds_that_are_all_alike_are_not_beyond_doubt(seeds: int, word: str) -> None:
    """Two that could each give 0 or 1 come out apart with a chance of 2 ** (1 - 2 n)."""
    for paired in (False, True):
        found = contrast([1.0] * seeds, [0.0] * seeds, paired=paired).difference
        assert verdict(found, 0.0) == word
        assert chance(found) == pytest.approx(2.0 ** (1 - 2 * seeds), rel=1e-6)


def test_rounding_is_no_difference() -> None:
    found = contrast([7.916666666666667] * 11, [7.916666666666666] * 11, paired=True).difference
    assert (found.value, found.interval()) == (0, (0, 0))


def test_far_percentiles_are_not_taken_from_a_few_draws() -> None:
    """Of ten thousand draws none lies beyond the millionth; Student's interval goes on widening."""
    found = resampled([np.arange(10.0)], mean_rows)
    (low, high), (lower, higher) = found.interval(1 - 1e-4), found.interval(1 - 1e-6)
    assert None not in (low, high, lower, higher)
    t = t_quantile(1 - 1e-6, 9)
    assert (lower, higher) == pytest.approx((4.5 - t * found.standard_error, 4.5 + t * found.standard_error))
    assert lower < low  # type: ignore[operator]
    assert found.standard_error == pytest.approx(np.arange(10).std(ddof=1) / math.sqrt(10), rel=0.02)


def test_iqm_of_rows_is_that_of_each() -> None:
    x = np.random.default_rng(0).normal(size=(20, 7))
    assert iqm_rows(x) == pytest.approx([iqm(row) for row in x])


def test_bootstrap_of_iqms_covers_normal_ones() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for x in rng.normal(3, 2, size=(600, 10)):
        low, high = resampled([x], iqm_rows, rng, resamples=1_000).interval()
        assert low is not None
        assert high is not None
        covered += low <= 3 <= high
    assert 0.92 <= covered / 600 <= 0.98


def test_verdicts_of_equal_agents_are_seldom_wrong() -> None:
    rng = np.random.default_rng(2)
    wrong = sum(
        verdict(contrast(a, b, paired=False).difference, 0.0) != "undecided" for a, b in rng.normal(size=(150, 2, 8))
    )
    assert wrong <= 0.05 * 150 + 3 * math.sqrt(0.05 * 0.95 * 150)
