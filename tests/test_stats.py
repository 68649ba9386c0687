"""Interquartile means, intervals and differences against hand-worked numbers and a coverage simulation."""

from __future__ import annotations

import numpy as np
import pytest

from qladder.runners.stats import iqm, mean_interval, student_mean, t_probability, t_quantile, welch


def test_iqm_of_a_multiple_of_four_is_the_mean_of_the_middle_half() -> None:
    assert iqm([100, 1, 2, 3, 4, 5, 6, -100]) == pytest.approx((2 + 3 + 4 + 5) / 4)


def test_iqm_counts_values_at_the_cut_with_the_fraction_inside() -> None:
    # n = 3: the cut lies at 0.75, so the weights are 0.25, 1, 0.25 of 1.5
    assert iqm([0, 30, 6]) == pytest.approx((0.25 * 0 + 6 + 0.25 * 30) / 1.5)
    # n = 5: the cut lies at 1.25, so the second and fourth values count three quarters of 2.5
    assert iqm([1, 2, 3, 10, 99]) == pytest.approx((0.75 * 2 + 3 + 0.75 * 10) / 2.5)
    assert iqm([7]) == 7
    assert iqm([1, 3]) == 2


def test_iqm_of_a_middle_half_that_is_one_value_is_that_value() -> None:
    for low in (0.1, 17.3, 144.768):
        assert iqm([low, 3 * low, *[500.0] * 8]) == 500.0


def test_iqm_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        iqm([])


@pytest.mark.parametrize(
    ("df", "level", "t"),
    [
        # NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2, critical values of Student's t
        (1, 0.95, 12.706),
        (2, 0.95, 4.303),
        (4, 0.95, 2.776),
        (4, 0.99, 4.604),
        (10, 0.90, 1.812),
        (100, 0.95, 1.984),
        (1e6, 0.95, 1.960),
    ],
)
def test_t_quantiles(df: float, level: float, t: float) -> None:
    assert t_quantile(level, df) == pytest.approx(t, abs=5.1e-4)


def test_t_probability_undoes_the_quantile() -> None:
    for level, df in ((0.5, 1), (0.95, 4), (0.9999, 18)):
        assert t_probability(t_quantile(level, df), df) == pytest.approx(level, abs=1e-9)


def test_mean_with_its_standard_error() -> None:
    found = student_mean([1, 2, 3, 4, 5])
    assert (found.value, found.standard_error, found.df) == pytest.approx((3, 0.5**0.5, 4))


def test_t_quantile_in_closed_form() -> None:
    assert t_quantile(0.95, 2) == pytest.approx(0.95 * np.sqrt(2 / (1 - 0.95**2)), abs=1e-9)


def test_small_samples_take_the_t_interval() -> None:
    # mean 3, variance 2.5, standard error sqrt(0.5), t(4) = 2.776445
    low, high = mean_interval([1, 2, 3, 4, 5])
    assert (low, high) == pytest.approx((3 - 2.776445 * 0.5**0.5, 3 + 2.776445 * 0.5**0.5), abs=1e-5)


def test_one_value_has_no_interval() -> None:
    assert mean_interval([3.0]) == (None, None)
    assert (welch([3.0], [1.0, 2.0]).value, welch([3.0], [1.0, 2.0]).interval()) == (1.5, (None, None))
    assert (welch([1.0, 2.0], [3.0]).value, welch([1.0, 2.0], [3.0]).interval()) == (-1.5, (None, None))


def test_large_samples_take_the_bootstrap() -> None:
    x = np.random.default_rng(3).normal(10, 2, size=100)
    low, high = mean_interval(x)
    assert low is not None
    assert high is not None
    normal = 1.96 * x.std() / 10  # what the percentile bootstrap tends to, with the spread of the sample itself
    assert low == pytest.approx(x.mean() - normal, abs=0.03)
    assert high == pytest.approx(x.mean() + normal, abs=0.03)
    assert mean_interval(x) == (low, high)
    assert mean_interval(x, rng=np.random.default_rng(1)) != (low, high)


def test_bootstrap_in_pieces_draws_every_resample() -> None:
    x = np.repeat([0.0, 1.0], 600)  # 1200 values: more than one piece of a million
    assert mean_interval(x) == pytest.approx((0.5 - 1.96 * 0.5 / 1200**0.5, 0.5 + 1.96 * 0.5 / 1200**0.5), abs=2e-3)


def test_difference_is_welchs_for_small_samples() -> None:
    # means 2 and 6; variances over n: 1/3 and 4/3; df = (5/3)**2 / ((1/9)/2 + (16/9)/2) = 50/17
    found = welch([1, 2, 3], [4, 6, 8])
    margin = t_quantile(0.95, 50 / 17) * (5 / 3) ** 0.5
    assert found.value == -4
    assert found.interval() == pytest.approx((-4 - margin, -4 + margin))
    assert margin == pytest.approx(4.156, abs=2e-3)  # t(50/17) = 3.219, between t(2) = 4.303 and t(3) = 3.182


def test_equal_values_differ_by_exactly_nothing() -> None:
    assert welch([0.7] * 3, [0.7] * 5).interval() == (0, 0)
    assert welch([0.1] * 6, [0.1] * 11).interval() == (0, 0)
    assert mean_interval([0.1] * 3) == (0.1, 0.1)
    assert [iqm([0.1] * n) for n in (3, 7, 10)] == [0.1] * 3


def test_t_interval_covers_the_mean_of_normal_samples() -> None:
    samples = np.random.default_rng(5).normal(2, 7, size=(4000, 5))
    ends = np.array([mean_interval(x) for x in samples], dtype=float)
    covered = np.mean((ends[:, 0] <= 2) & (ends[:, 1] >= 2))
    assert covered == pytest.approx(0.95, abs=0.0104)  # three standard errors


def test_welch_interval_covers_the_difference_of_unequal_spreads() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.normal(1, 1, size=(1500, 4)), rng.normal(0, 3, size=(1500, 5))
    ends = np.array([welch(x, y).interval() for x, y in zip(a, b, strict=True)], dtype=float)
    covered = np.mean((ends[:, 0] <= 1) & (ends[:, 1] >= 1))
    assert covered == pytest.approx(0.95, abs=0.02)
