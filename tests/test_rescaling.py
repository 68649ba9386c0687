"""The rescaled values: h and its inverse by hand and for any number."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qladder.agents.rescaling import rescale, unscale


def test_by_hand() -> None:
    x = torch.tensor([0.0, 3.0, -8.0, 99.0], dtype=torch.float64)
    expected = [0.0, 1.003, -2.008, 9.099]  # sqrt(|x| + 1) - 1 + 0.001 |x|
    assert rescale(x).tolist() == pytest.approx(expected)
    assert unscale(torch.tensor(expected, dtype=torch.float64)).tolist() == pytest.approx([0.0, 3.0, -8.0, 99.0])


@given(st.floats(-1e6, 1e6))
def test_the_inverse_undoes_it(value: float) -> None:
    x = torch.tensor(value, dtype=torch.float64)
    assert float(unscale(rescale(x))) == pytest.approx(value, rel=1e-6, abs=1e-9)
    assert float(rescale(unscale(x / 1e3))) == pytest.approx(value / 1e3, rel=1e-6, abs=1e-9)


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_it_keeps_the_order_and_the_sign(a: float, b: float) -> None:
    h = rescale(torch.tensor([a, b], dtype=torch.float64)).tolist()
    assert (h[0] < h[1]) == (a < b) or abs(a - b) < 1e-9
    assert h[0] * a >= 0


def test_float32_is_enough() -> None:
    x = torch.tensor([0.0, 0.01, 1.0, 100.0, 1e4])
    assert unscale(rescale(x)).tolist() == pytest.approx(x.tolist(), rel=1e-5, abs=1e-6)
