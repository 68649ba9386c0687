"""What is learnt of a return: projections and losses against hand-worked arrays and naive loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qladder.agents.td import entropy, greedy, log_policy, munchausen_reward, of_action, softmax
from qladder.agents.values import Categorical, Mean, Quantiles, midpoints, project

CPU = torch.device("cpu")
C51 = Categorical((-1.0, 1.0), 5, CPU)  # at -1, -0.5, 0, 0.5, 1


def one_hot(*actions: int, count: int = 2) -> torch.Tensor:
    return torch.eye(count)[list(actions)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.25, [0, 0, 0.5, 0.5, 0]),  # half-way
        (0.4, [0, 0, 0.2, 0.8, 0]),
        (0.5, [0, 0, 0, 1, 0]),  # on an atom
        (-1.0, [1, 0, 0, 0, 0]),  # on the edges
        (1.0, [0, 0, 0, 0, 1]),
        (7.0, [0, 0, 0, 0, 1]),  # beyond
        (-7.0, [1, 0, 0, 0, 0]),
    ],
)
def test_a_sure_return_is_shared_by_its_neighbours(value: float, expected: list[float]) -> None:
    found = project(torch.tensor([[1.0]]), torch.tensor([[value]]), C51.values)
    assert found[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_a_categorical_target_by_hand() -> None:
    probability = torch.tensor([[[0.2] * 5, [0.0, 0.0, 0.5, 0.5, 0.0]]]).repeat(2, 1, 1)
    out = probability.clamp_min(1e-30).log()
    reward, discount = torch.tensor([0.5, -0.25]), torch.tensor([0.5, 0.0])
    target, _ = C51.target(out, one_hot(1, 0), reward, discount)
    # 0.5 + 0.5 * (0 or 0.5) = 0.5 or 0.75, half each; where the episode ended, the reward alone
    assert target[0].tolist() == pytest.approx([0, 0, 0, 0.75, 0.25], abs=1e-6)
    assert target[1].tolist() == pytest.approx([0, 0.5, 0.5, 0, 0], abs=1e-6)
    assert C51.mean(out)[0].tolist() == pytest.approx([0.0, 0.25], abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.floats(-3, 3), st.floats(0, 1))
@example(0, 3.0, 0.06932761727585902)  # comes to 1 and a rounding
def test_projection_conserves_mass_and_within_the_support_the_mean(seed: int, reward: float, discount: float) -> None:
    out = torch.randn(4, 2, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    exact = Categorical((-1.0, 1.0), 5, CPU)
    exact.values = exact.values.double()
    rewards = torch.full((4,), reward * (1 - discount) / 3, dtype=torch.float64)  # so that it stays within
    discounts = torch.full((4,), discount, dtype=torch.float64)
    for rs, inside in ((rewards, True), (torch.full_like(rewards, reward), False)):
        target, overflow = exact.target(out, one_hot(0, 1, 0, 1).double(), rs, discounts)
        assert target.sum(1).tolist() == pytest.approx([1] * 4)
        assert (target >= 0).all()
        if inside:
            mean = rs + discounts * (one_hot(0, 1, 0, 1) * exact.mean(out)).sum(1)
            assert (target @ exact.values).tolist() == pytest.approx(mean.tolist(), abs=1e-9)
            assert overflow == 0


def test_overflow_is_the_probability_that_the_support_cannot_tell() -> None:
    out = torch.tensor([[[0.1, 0.2, 0.3, 0.2, 0.2], [1.0, 1, 1, 1, 1]]]).log()
    _, told = C51.target(out, one_hot(0), torch.tensor([0.5]), torch.tensor([1.0]))
    assert told is not None
    assert float(told) == pytest.approx(0.2)  # 0.5 + 1


def test_cross_entropy_by_hand() -> None:
    p = torch.tensor([[0.1, 0.2, 0.4, 0.2, 0.1]])
    target = torch.tensor([[0.0, 0.0, 0.5, 0.5, 0.0]])
    loss, td, priority = C51.loss(p.log().requires_grad_(), target, None)
    expected = -0.5 * math.log(0.4) - 0.5 * math.log(0.2)
    assert float(loss.detach()) == pytest.approx(expected)
    assert float(td) == pytest.approx(0.25)
    assert float(priority) == pytest.approx(expected - math.log(2))  # less the target's own entropy
    assert not priority.requires_grad
    assert not td.requires_grad


def test_cross_entropy_bears_what_is_all_but_impossible() -> None:
    out = torch.tensor([[200.0, 0.0, -200.0, 0.0, 0.0]], requires_grad=True)
    loss, td, priority = C51.loss(out, torch.tensor([[0.5, 0.0, 0.5, 0.0, 0.0]]), None)
    loss.sum().backward()
    assert float(loss.detach()) == pytest.approx(200)
    assert float(td) == pytest.approx(0.5)
    assert float(priority) == pytest.approx(200 - math.log(2))
    assert out.grad is not None
    assert out.grad[0].tolist() == pytest.approx([0.5, 0, -0.5, 0, 0])


@pytest.mark.parametrize("kappa", [1.0, 2.5])
@pytest.mark.parametrize("random_fractions", [False, True])
def test_quantile_regression_is_the_naive_double_loop(random_fractions: bool, kappa: float) -> None:
    generator = torch.Generator().manual_seed(3)
    out, target = torch.randn(6, 4, generator=generator) * 2, torch.randn(6, 3, generator=generator) * 2
    fractions = torch.rand(6, 4, generator=generator) if random_fractions else None
    found = Quantiles(kappa).loss(out, target, fractions)
    for b in range(6):
        total = 0.0
        for i in range(4):
            tau = float(fractions[b, i]) if fractions is not None else (i + 0.5) / 4
            for j in range(3):
                u = float(target[b, j] - out[b, i])
                huber = u * u / 2 if abs(u) <= kappa else kappa * (abs(u) - kappa / 2)
                total += abs(tau - (u < 0)) * huber / kappa / 3
        assert float(found.loss[b]) == pytest.approx(total, rel=1e-5)
        assert float(found.td[b]) == pytest.approx(float(target[b].mean() - out[b].mean()), abs=1e-6)
    assert torch.equal(found.priority, found.td.abs())


def test_quantile_regression_finds_the_quantiles() -> None:
    samples = torch.linspace(0, 100, 1001)[None]  # uniform, and far wider than Huber's bend
    out = torch.full((1, 5), 50.0, requires_grad=True)
    optimizer = torch.optim.SGD([out], 20.0)
    for _ in range(400):
        optimizer.zero_grad()
        Quantiles().loss(out, samples, None).loss.sum().backward()
        optimizer.step()
    assert out[0].tolist() == pytest.approx([10, 30, 50, 70, 90], abs=0.5)


def test_quantiles_move_with_reward_and_discount() -> None:
    out = torch.tensor([[[1.0, 6.0], [3.0, 5.0]]]).repeat(2, 1, 1)  # neither action has the best of both quantiles
    target, _ = Quantiles().target(out, one_hot(1, 0), torch.tensor([1.0, -1.0]), torch.tensor([0.5, 0.0]))
    assert target.tolist() == [[2.5, 3.5], [-1.0, -1.0]]
    assert Quantiles().mean(out)[0].tolist() == [3.5, 4.0]


def test_midpoints() -> None:
    assert midpoints(4, CPU).tolist() == [0.125, 0.375, 0.625, 0.875]


def test_the_greedy_policy_takes_the_first_of_equals() -> None:
    assert greedy(torch.tensor([[1.0, 3.0, 3.0], [2.0, 1.0, 0.0]])).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_the_double_target_is_the_targets_value_of_the_onlines_choice() -> None:
    online, target = torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, 5.0]])
    found, _ = Mean("mse").target(target[..., None], greedy(online), torch.tensor([1.0]), torch.tensor([0.9]))
    assert found.tolist() == [[5.5]]


def test_of_action_takes_each_samples_own() -> None:
    out = torch.arange(12).view(2, 3, 2)
    assert of_action(out, torch.tensor([2, 0])).tolist() == [[4, 5], [6, 7]]


@pytest.mark.parametrize("action", [0, 1, 2])
def test_munchausens_target_is_its_formula(action: int) -> None:
    q, next_q = np.array([0.3, 0.32, -2.0]), np.array([0.1, 0.15, 0.12])
    tau, alpha, floor, reward, discount = 0.03, 0.9, -1.0, 0.7, 0.8

    def log_pi(q: np.ndarray) -> np.ndarray:
        return q / tau - math.log(sum(math.exp(x / tau) for x in q))

    pi = np.exp(log_pi(next_q))
    expected = reward + alpha * max(tau * log_pi(q)[action], floor)
    expected += discount * (pi * (next_q - tau * log_pi(next_q))).sum()
    if action == 2:
        assert tau * log_pi(q)[action] < floor  # it is clipped
    q_, next_q_ = torch.tensor(q)[None], torch.tensor(next_q)[None]
    r, d = torch.tensor([reward], dtype=torch.float64), torch.tensor([discount], dtype=torch.float64)
    shaped = munchausen_reward(r, d, q_, torch.tensor([action]), next_q_, scale=alpha, temperature=tau, floor=floor)
    found, _ = Mean("mse").target(next_q_[..., None], softmax(next_q_, tau), shaped, d)
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_a_cold_softmax_is_greedy_and_costs_nothing() -> None:
    q = torch.tensor([[1.0, 2.0, 0.0]], dtype=torch.float64)
    assert torch.allclose(softmax(q, 1e-3), greedy(q))
    assert float(entropy(q, 1e-3)) == pytest.approx(0)
    assert float(log_policy(q, torch.tensor([0]), 1e-3)) == pytest.approx(-1.0)  # the gap
    assert float(entropy(torch.zeros(1, 4), 0.5)) == pytest.approx(0.5 * math.log(4))
