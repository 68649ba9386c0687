"""The CUDA-graph learner against the eager one, update by update: on a GPU where there is one, else without capture."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from qladder.agents import dqn as module
from qladder.agents.dqn import DQN
from qladder.agents.graph import ROWS, Feed
from qladder.envs.errors import UserError
from qladder.envs.spec import EnvSpec
from qladder.replay.store import ArrayStore, TensorStore
from qladder.replay.types import Picks, Step
from qladder.runners.config import resolve

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device: the capture is not tested")
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]
N = 4


def pictures(size: int) -> EnvSpec:
    return EnvSpec("Pictures-v0", N, True, (4, size, size), "uint8", None, 3, stack=4)


def agent(learner: str, device: str, monkeypatch: pytest.MonkeyPatch, size: int = 36, **settings: Any) -> DQN:
    """A DQN whose learner is this one, whatever the device."""
    monkeypatch.setattr(module, "choose_learner", lambda *_: learner)
    rate = {"start": 1e-3, "end": 1e-4, "over": 20, "clock": "updates"}
    flags = {"agent": {"hidden": [32], "target_period": 5, "learning_rate": rate, **settings}}
    config = resolve("dqn", "ALE/Pong-v5", {**flags, "replay": {"capacity": 400, "batch_size": 8}})
    made = DQN(config.agent, pictures(size), seed=1, device=device, replay=config.replay)
    if device == "cpu" and learner == "cuda-graph":
        empty = made._replay.store
        assert isinstance(empty, ArrayStore)
        made._replay._recorder.store = TensorStore(400, (size, size), "uint8", "cpu")
        made._begin_graphs()
    return made


def live(agent: DQN, steps: int, ends: bool = False, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    size = agent._spec.obs_shape[-1]
    obs = np.zeros((N, 4, size, size), np.uint8)
    for t in range(steps):
        new = rng.integers(0, 256, (N, 1, size, size), dtype=np.uint8)
        following = np.concatenate([obs[:, 1:], new], 1)
        last = np.full(N, ends and t % 7 == 6)
        reward = rng.normal(size=N)
        agent.observe(Step(obs, rng.integers(3, size=N), reward, 1.0 - last, last, following))
        obs = np.where(last[:, None, None, None], np.concatenate([0 * obs[:, 1:], new], 1), following)


def weights(agent: DQN) -> list[torch.Tensor]:
    return [p.detach().cpu() for net in (agent._online, agent._target) for p in net.parameters()]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("settings", [{}, {"max_grad_norm": 0.1, "loss": "mse", "target_tau": 0.5, "target_period": 1}])
def test_a_graphed_update_is_an_eager_one(
    device: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    eager, graphed = (agent(name, device, monkeypatch, **settings) for name in ("eager", "cuda-graph"))
    for a in (eager, graphed):
        live(a, 30, ends=True)
    for _ in range(12):
        told, expected = graphed.learn(1), eager.learn(1)
        for one, other in zip(weights(graphed), weights(eager), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)  # a step is 1e-3 to 1e-4
        for tag, value in expected.items():
            torch.testing.assert_close(told[tag], value, rtol=1e-3, atol=1e-5)
    assert graphed.clocks == eager.clocks
    assert not torch.equal(weights(eager)[0], weights(agent("eager", device, monkeypatch, **settings))[0])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("learner", ["cuda-graph", "eager"])
@pytest.mark.parametrize("settings", [{}, {"munchausen": True}, {"distribution": "quantile", "atoms": 5}])
def test_many_updates_drawn_at_once_are_as_many_single_ones(
    device: str, learner: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    many, single = (agent(learner, device, monkeypatch, **settings) for _ in range(2))
    for a in (many, single):
        live(a, 30)  # no episode ends, so that every draw is kept and both draw the same
    many.learn(ROWS + 9)
    for _ in range(ROWS + 9):
        single.learn(1)
    exact = learner == "cuda-graph"  # eager computes the targets of several updates in one pass
    for one, other in zip(weights(many), weights(single), strict=True):
        torch.testing.assert_close(one, other, rtol=0 if exact else 1e-3, atol=0 if exact else 1e-5)
    assert many.clocks.updates == ROWS + 9


@pytest.mark.parametrize("device", DEVICES)
def test_acting_follows_the_weights(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graphed = agent("cuda-graph", device, monkeypatch, epsilon=0.0)
    live(graphed, 30)
    rng, first = np.random.default_rng(5), np.zeros(N, np.bool_)
    for _ in range(4):
        obs = rng.integers(0, 256, (N, 4, 36, 36), dtype=np.uint8)
        assert graphed.act(obs, first, True)[0].tolist() == graphed.values(obs).argmax(1).tolist()
        assert len(graphed.act(obs[:2], first[:2], False)[0]) == 2  # an evaluation of another size
        graphed.learn(3)


@pytest.mark.parametrize("device", DEVICES)
def test_a_state_goes_on_the_same_way(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (agent("cuda-graph", device, monkeypatch) for _ in range(2))
    live(one, 30)
    live(other, 12, seed=3)
    one.learn(6)
    other.learn(2)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    one.learn(5)
    other.learn(5)
    for a, b in zip(weights(one), weights(other), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0 if device == "cpu" else 1e-6)


def test_a_feed_gives_each_batch_once_and_in_order() -> None:
    store = TensorStore(50, (2,), "float32", "cpu")
    store.put(np.arange(50), np.arange(100, dtype=np.float32).reshape(50, 2))
    slots = np.stack([np.arange(6), np.arange(6) + 10])
    action, reward = np.arange(6), np.arange(6, dtype=np.float32)
    feed = Feed(store, torch.device("cpu"))
    for _ in range(2):
        feed.upload(Picks(slots, None, action, reward, reward, reward, action), 3)
        for i in range(3):
            batch = feed.take()
            assert batch.action.tolist() == [2 * i, 2 * i + 1]
            assert batch.obs[:, 0].tolist() == [4 * i, 4 * i + 2]
            assert batch.next_obs[:, 0].tolist() == [4 * i + 20, 4 * i + 22]


def test_without_a_gpu_it_is_refused() -> None:
    config = resolve("dqn", "ALE/Pong-v5", {"agent": {"learner": "cuda-graph"}, "replay": {"capacity": 400}})
    with pytest.raises(UserError, match="--learner cuda-graph: the device is cpu; auto and eager work"):
        DQN(config.agent, pictures(36), seed=1, device="cpu", replay=config.replay)
