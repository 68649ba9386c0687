"""Stress in evaluation against hand-worked gradients, counts, and the unstressed agent."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from qladder.agents.dqn import DQN
from qladder.agents.stress import Stress
from qladder.agents.surgery import changed
from qladder.envs.errors import UserError
from qladder.envs.seeding import generator
from qladder.runners.config import resolve
from qladder.runners.loading import make_agent, make_environment


def made(env: str = "qladder/Catch-v0", **agent: Any) -> DQN:
    config = resolve("dqn", env, {"agent": agent, "run": {"seed": 3}})
    environment = make_environment(config, batched=True)
    environment.close()
    found = make_agent(config, environment.spec, "cpu")
    assert isinstance(found, DQN)
    return found


def pictures(count: int) -> np.ndarray[Any, Any]:
    return generator(0, "pictures").integers(0, 256, (count, 1, 10, 10)).astype(np.uint8)


def seen_by(stress: Stress, agent: DQN, obs: Tensor) -> Tensor:
    """What the values are asked of, at last."""
    asked: list[Tensor] = []

    def q(x: Tensor) -> Tensor:
        asked.append(x.detach().clone())
        return agent._objective.q(agent._online, x)

    stress.greedy(agent._online, q, obs)
    return asked[-1]


def test_directed_noise_is_the_sign_of_the_cross_entropys_gradient() -> None:
    agent = made(network="mlp", hidden=[])
    obs = torch.from_numpy(pictures(5))
    weight = agent._online.head.advantage.weight  # type: ignore[union-attr]
    q = agent.values(obs)
    share = torch.softmax(q, 1) - torch.nn.functional.one_hot(q.argmax(1), 3)
    signs = (share @ weight.detach()).sign().view_as(obs)  # of a linear network, by hand
    expected = (obs.float() + 0.1 * 255 * signs).clamp(0, 255)
    assert torch.allclose(seen_by(Stress("directed-noise", 0.1, 0), agent, obs), expected)


def test_stepped_noise_goes_on_from_where_it_led_until_the_choice_turns() -> None:
    agent = made(network="mlp", hidden=[])
    obs = torch.from_numpy(pictures(200))
    layer = agent._online.head.advantage  # type: ignore[union-attr]
    weight = 2 * torch.randn(
        layer.weight.shape, generator=torch.Generator().manual_seed(0)
    )  # choices change on the way
    with torch.no_grad():
        layer.weight.copy_(weight)
    greedy = agent.values(obs).argmax(1)
    clean, turned_after = obs.float(), []
    seen = clean
    for _ in range(5):
        q = agent.values(seen)
        turned = q.argmax(1) != greedy
        turned_after.append(int(turned.sum()))
        away = (torch.softmax(q, 1) - torch.nn.functional.one_hot(greedy, 3)) @ weight  # of a linear network, by hand
        further = (seen + 0.05 * 255 * away.sign().view_as(obs)).clamp(clean - 25.5, clean + 25.5).clamp(0, 255)
        seen = torch.where(turned[:, None, None, None], seen, further)
    assert turned_after[1] > 0  # some at once
    assert turned_after[2] > turned_after[1]  # others later
    assert turned_after[-1] < 200
    found = seen_by(Stress("stepped-noise", 0.1, 0), agent, obs)
    assert torch.allclose(found, seen)
    assert not torch.allclose(found, seen_by(Stress("directed-noise", 0.1, 0), agent, obs))


def test_random_noise_is_as_large_and_the_same_again() -> None:
    agent = made()
    obs = torch.full((4, 1, 10, 10), 100, dtype=torch.uint8)
    one, again, other = (seen_by(Stress("random-noise", 0.2, seed), agent, obs) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert set(one.unique().tolist()) == {49.0, 151.0}
    assert 140 < int((one == 151.0).sum()) < 260


@pytest.mark.parametrize("kind", ["prune-smallest", "prune-random"])
def test_a_share_of_the_weights_is_gone_while_it_is_asked_and_back_afterwards(kind: str) -> None:
    agent = made(hidden=[32])
    before = [p.detach().clone() for p in agent._online.parameters()]
    inside: list[Tensor] = []

    def q(x: Tensor) -> Tensor:
        inside.extend(p.detach().clone() for p in agent._online.parameters())
        return agent._objective.q(agent._online, x)

    Stress(kind, 0.3, 0).greedy(agent._online, q, torch.from_numpy(pictures(2)))
    weights = [(old.flatten(), new.flatten()) for old, new in zip(before, inside, strict=True) if old.dim() > 1]
    biases = [(old, new) for old, new in zip(before, inside, strict=True) if old.dim() == 1]
    old, new = (torch.cat(part) for part in zip(*weights, strict=True))
    gone = new == 0
    assert int(gone.sum()) == round(0.3 * len(old))
    assert torch.equal(new[~gone], old[~gone])
    assert all(torch.equal(a, b) for a, b in biases)
    assert (float(old[gone].abs().max()) <= float(old[~gone].abs().min())) == (kind == "prune-smallest")
    assert all(torch.equal(a, b) for a, b in zip(before, agent._online.parameters(), strict=True))


def test_scales_of_noise_are_no_weights() -> None:
    """They do nothing in an evaluation: a share of those that act is gone."""
    agent = made(hidden=[32], noisy=True, epsilon=0.0)
    act = [p for name, p in agent._online.named_parameters() if p.dim() > 1 and "std" not in name]
    scales = [p for name, p in agent._online.named_parameters() if p.dim() > 1 and "std" in name]
    assert scales
    gone: list[tuple[int, int]] = []

    def q(x: Tensor) -> Tensor:
        gone.extend((int((p == 0).sum()), p.numel()) for p in act)
        assert all((p != 0).all() for p in scales)
        return agent._objective.q(agent._online, x)

    Stress("prune-smallest", 0.75, 0).greedy(agent._online, q, torch.from_numpy(pictures(2)))
    zero, all_of_them = map(sum, zip(*gone, strict=True))
    assert zero == round(0.75 * all_of_them)


def test_pixels_weights_are_those_of_the_layer_that_sees_them() -> None:
    """Of implicit quantiles' networks the first is that of the fractions."""
    quantiles = {"distribution": "implicit-quantile", "loss": "huber"}
    agent = made(network="mlp", hidden=[16], stress="zero-pixels", stress_size=1.0, **quantiles)
    (seeing,) = (p for p in agent._online.parameters() if p.dim() == 2 and p.shape[1] == 100)
    others = [p for p in agent._online.parameters() if p is not seeing]
    seen: list[bool] = []

    def q(x: Tensor) -> Tensor:
        seen.append(bool((seeing == 0).all()))
        seen.extend(bool((p != 0).any()) or p.dim() == 1 for p in others)
        return agent._objective.q(agent._online, x)

    Stress("zero-pixels", 1.0, 0, (1, 10, 10)).greedy(agent._online, q, torch.from_numpy(pictures(2)))
    assert all(seen)


def test_weights_that_were_trained_on_are_changed_anew() -> None:
    agent, obs = made(hidden=[32]), torch.from_numpy(pictures(2))
    stress, seen = Stress("prune-smallest", 0.5, 0), []

    def q(x: Tensor) -> Tensor:
        seen.append([p.detach().clone() for p in agent._online.parameters()])
        return agent._objective.q(agent._online, x)

    for factor in (1.0, 1.0, 2.0):
        with torch.no_grad():
            for p in agent._online.parameters():
                p.mul_(factor)
        stress.greedy(agent._online, q, obs)
    for first, same, doubled in zip(*seen, strict=True):
        assert torch.equal(first, same)
        assert torch.equal(2 * first, doubled)


def test_the_smallest_singular_values_go_from_the_largest_layer() -> None:
    small, large = torch.eye(2), torch.tensor([[0.0, 3.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -2.0, 0.0]])
    kept, cut = changed("low-rank", 1 / 3, 0, [small, large], ())
    assert torch.equal(kept, small)
    expected = torch.tensor([[0.0, 3.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, -2.0, 0.0]])
    assert torch.allclose(cut, expected, atol=1e-6)
    filters = torch.randn(8, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    (cut,) = changed("low-rank", 0.75, 0, [filters], ())
    assert cut.shape == filters.shape
    assert torch.linalg.matrix_rank(cut.flatten(1)) == 2


def naive_prediction(
    weight: Tensor, left: list[int], gone: list[int], picture: tuple[int, int, int], width: float, ridge: float
) -> Tensor:
    """Entry by entry `[U, G]`, in float64, by the normal equations of kernel ridge regression."""
    places = list(itertools.product(*map(range, picture)))

    def near(i: int, j: int) -> float:
        (c, y, x), (d, v, u) = places[i], places[j]
        return math.exp(-((y - v) ** 2 + (x - u) ** 2) / (2 * width**2)) if c == d else 0.0

    gram = torch.tensor([[near(i, j) + ridge * (i == j) for j in left] for i in left], dtype=torch.float64)
    alphas = torch.linalg.inv(gram) @ weight[:, left].double().T
    across = torch.tensor([[near(i, j) for j in left] for i in gone], dtype=torch.float64)
    return (across @ alphas).T


def naive_choice(weight: Tensor, left: list[int], picture: tuple[int, int, int]) -> tuple[float, float]:
    """The width and ridge that predict best each weight that is left from the others, one after the other left out."""

    def missed(width: float, ridge: float) -> float:
        total = 0.0
        for out in left:
            others = [i for i in left if i != out]
            guess = naive_prediction(weight, others, [out], picture, width, ridge)
            total += float((guess - weight[:, [out]].double()).square().sum())
        return total

    return min(itertools.product((0.75, 1.5, 3.0, 6.0), (0.01, 0.1, 1.0, 10.0)), key=lambda pair: missed(*pair))


@pytest.mark.parametrize("picture", [(1, 4, 5), (2, 3, 4)])
def test_pixels_weights_are_predicted_from_their_neighbours(picture: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    weight, above = torch.randn(3, math.prod(picture), generator=generator), torch.randn(2, 3, generator=generator)
    zeroed, untouched = changed("zero-pixels", 0.25, 7, [weight, above], picture)
    predicted, _ = changed("predict-pixels", 0.25, 7, [weight, above], picture)
    gone = [i for i in range(weight.shape[1]) if not zeroed[:, i].any()]
    assert len(gone) == round(0.25 * math.prod(picture))
    left = [i for i in range(weight.shape[1]) if i not in gone]
    assert torch.equal(zeroed[:, left], weight[:, left])
    assert torch.equal(untouched, above)
    assert torch.equal(predicted[:, left], weight[:, left])
    found = naive_prediction(weight, left, gone, picture, *naive_choice(weight, left, picture))
    assert torch.allclose(predicted[:, gone].double(), found, atol=1e-5)


def test_smooth_weights_are_predicted_well() -> None:
    y, x = torch.meshgrid(torch.arange(10.0), torch.arange(10.0), indexing="ij")
    weight = torch.sin(y / 3 + x / 4).flatten()[None]
    zeroed, predicted = (changed(kind, 0.5, 0, [weight], (1, 10, 10))[0] for kind in ("zero-pixels", "predict-pixels"))
    assert (predicted - weight).square().mean() < 0.02 * (zeroed - weight).square().mean()


def test_of_rough_weights_little_is_predicted_and_no_harm_is_done() -> None:
    weight = torch.randn(20, 100, generator=torch.Generator().manual_seed(0))
    zeroed, predicted = (changed(kind, 0.5, 0, [weight], (1, 10, 10))[0] for kind in ("zero-pixels", "predict-pixels"))
    assert (predicted - weight).square().mean() < 1.02 * (zeroed - weight).square().mean()


def test_pixels_are_an_mlps() -> None:
    with pytest.raises(
        UserError, match=r"'zero-pixels': .* with network small-cnn; it is for an mlp that sees pictures"
    ):
        made(network="small-cnn", stress="zero-pixels", stress_size=0.5)
    with pytest.raises(UserError, match="'predict-pixels': CartPole-v1 observes"):
        made("CartPole-v1", network="mlp", stress="predict-pixels", stress_size=0.5)
    with pytest.raises(UserError, match="has 28,224 pixels; it takes memory for the distance of every two"):
        made("ALE/Pong-v5", network="mlp", stress="predict-pixels", stress_size=0.5)
    agent = made(network="mlp", stress="predict-pixels", stress_size=0.5)
    assert agent.act(pictures(3), np.zeros(3, np.bool_), False)[0].shape == (3,)


def test_only_evaluations_are_under_stress() -> None:
    plain, stressed = made(epsilon=0.0), made(epsilon=0.0, stress="prune-smallest", stress_size=1.0)
    obs, first = pictures(20), np.zeros(20, np.bool_)
    biased = stressed._online.head.advantage.bias.argmax().item()  # type: ignore[union-attr]  # all that is left
    assert set(stressed.act(obs, first, False)[0].tolist()) == {biased}
    assert plain.act(obs, first, True)[0].tolist() == stressed.act(obs, first, True)[0].tolist()
    assert len(set(plain.act(obs, first, False)[0].tolist())) > 1


def test_a_network_that_computes_in_bfloat16_bears_noise_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    agent = made("qladder/Catch84-v0", stress="directed-noise", stress_size=0.05)
    assert agent.learner == "cpu-bf16"
    obs = generator(1, "pictures").integers(0, 256, (3, *agent._spec.obs_shape)).astype(np.uint8)
    assert agent.act(obs, np.zeros(3, np.bool_), False)[0].shape == (3,)
    assert agent._online.trunk[0].low is not None  # type: ignore[union-attr]


@pytest.mark.parametrize("half", [{"stress": "prune-random"}, {"stress_size": 0.1}])
def test_a_stress_has_a_size_and_a_size_a_stress(half: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="both or neither"):
        made(**half)


def test_noise_is_for_pixels() -> None:
    with pytest.raises(UserError, match="'random-noise': CartPole-v1 observes float32; noise is"):
        made("CartPole-v1", stress="random-noise", stress_size=0.1)
    made("CartPole-v1", stress="prune-random", stress_size=0.1)
