"""Stress in evaluation against hand-worked gradients, counts, and the unstressed agent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from qladder.agents.dqn import DQN
from qladder.agents.stress import Stress
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
        return agent._q(agent._online, x)

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
        return agent._q(agent._online, x)

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
