"""Recurrent Q-learning against value iteration, and its targets and losses against plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import recall
import torch
from recurrent import GAMMA, RECALL, made, settings, trained

from qladder.agents.r2d2 import R2D2
from qladder.agents.rescaling import unscale
from qladder.envs.mdp import optimal_values
from qladder.replay.sequences import Sequences
from qladder.runners.config import resolve
from qladder.runners.evaluation import truth


def watched(agent: R2D2, observations: list[int]) -> Any:
    """Action values `[T, A]` along an episode, as the agent sees them step by step, on its own scale."""
    obs = torch.tensor(observations)[:, None]
    begun = torch.zeros(1, agent._online.core.state_size)
    with torch.no_grad():
        return agent._online(obs, begun, np.zeros((len(obs), 1), np.bool_))[0][:, 0]


@pytest.mark.parametrize(("name", "core"), [("drqn", "lstm"), ("r2d2", "gru")])
def test_it_finds_the_values_of_value_iteration_where_they_need_memory(name: str, core: str) -> None:
    rate = {"start": 0.01, "end": 0.0, "over": 600, "clock": "updates"}
    replay = {"n_step": 1}  # of more, random actions would be a part
    config = settings(name, RECALL, {"core": core, "learning_rate": rate}, env={"num_envs": 4}, replay=replay)
    agent = trained(config, 2600)
    for cue in (0, 1):
        q = watched(agent, [cue, *[2] * (recall.LENGTH - 1), 3])
        q = unscale(q) if name == "r2d2" else q
        np.testing.assert_allclose(q, recall.optimal_values(cue, GAMMA), atol=0.05)


def test_on_a_lake_whose_states_are_seen_it_finds_the_values_of_value_iteration() -> None:
    rate = {"start": 0.01, "end": 0.0, "over": 1400, "clock": "updates"}
    env = {"num_envs": 4, "kwargs": {"is_slippery": False}}
    agent = trained(settings("drqn", "FrozenLake-v1", {"learning_rate": rate}, env=env), 5800)
    known = truth(resolve("q-learning", "FrozenLake-v1", {"env": {"kwargs": {"is_slippery": False}}}))
    assert known is not None
    exact = optimal_values(known.mdp, GAMMA)
    path = [0, 4, 8, 9, 13, 14]  # the goal follows
    np.testing.assert_allclose(watched(agent, path), exact[path], atol=0.06)


PARTS = [
    ("drqn", {}, {}),
    ("drqn", {"double": True}, {"n_step": 3}),
    ("drqn", {"rescale": True}, {"burn_in": 2}),
    ("r2d2", {}, {}),
    ("r2d2", {}, {"burn_in": 1}),  # short enough for what is stored to reach the steps that are learnt from
]


@pytest.mark.parametrize(("name", "agent_", "replay"), PARTS)
def test_targets_and_loss_are_those_of_plain_loops(name: str, agent_: dict[str, Any], replay: dict[str, Any]) -> None:
    config = settings(name, RECALL, {**agent_, "target_period": 10**6}, env={"num_envs": 3}, replay=replay)
    agent = trained(config, 600)
    assert any(
        not torch.equal(a, b) for a, b in zip(agent._online.parameters(), agent._target.parameters(), strict=True)
    )
    batch = agent._replay.sample(8)
    assert (batch.mask == 0).any()
    assert batch.reset.any()
    assert agent._config.initial_state == "zero" or batch.state.any()
    batch = batch._replace(weight=np.linspace(0.25, 1, 8, dtype=np.float32))
    q, frozen = (naive_values(agent, net, batch) for net in (agent._online, agent._target))
    total, steps, errors, values = 0.0, 0, 0.0, 0.0
    expected = np.zeros(batch.mask.shape)
    for k, b in np.ndindex(*batch.mask.shape):
        slot = batch.next_slot[k, b]
        best = (q if agent._config.double else frozen)[slot, b].argmax()
        value = frozen[slot, b, best]
        if agent._config.rescale:
            value = h_inverse(value)
        expected[k, b] = batch.reward[k, b] + batch.discount[k, b] * value
        if agent._config.rescale:
            expected[k, b] = h(expected[k, b])
        td = expected[k, b] - q[agent._burn_in + k, b, batch.action[k, b]]
        total += float(batch.weight[b] * batch.mask[k, b]) * td**2 / 2
        steps += int(batch.mask[k, b])
        if batch.mask[k, b]:
            errors += abs(td)
            values += np.mean([h_inverse(x) if agent._config.rescale else x for x in q[agent._burn_in + k, b]])
    learned = agent._improve(batch)
    np.testing.assert_allclose(learned.target, expected, atol=1e-5)
    assert float(learned.loss.detach()) == pytest.approx(total / steps, rel=1e-4)
    assert (learned.td[batch.mask == 0] == 0).all()
    told = agent._metrics(learned)
    assert float(told["q/td_error"]) == pytest.approx(errors / steps, rel=1e-4)
    assert float(told["q/mean"]) == pytest.approx(values / steps, rel=1e-3)


def naive_values(agent: R2D2, network: Any, batch: Sequences) -> Any:
    """Action values `[T, B, A]`, step by step."""
    values = []
    for b in range(batch.obs.shape[1]):
        state = torch.as_tensor(batch.state[b : b + 1])
        if agent._config.initial_state == "zero":
            state = torch.zeros(1, network.core.state_size)
        row = []
        for t in range(batch.obs.shape[0]):
            state = torch.zeros_like(state) if batch.reset[t, b] else state
            obs = torch.as_tensor(batch.obs[t : t + 1, b : b + 1])
            with torch.no_grad():
                q, state = network(obs, state, np.zeros((1, 1), np.bool_))
            row.append(q[0, 0].numpy())
        values.append(row)
    return np.array(values).swapaxes(0, 1)


def h(x: float) -> float:
    return float(np.sign(x) * (np.sqrt(abs(x) + 1) - 1) + 1e-3 * x)


def h_inverse(y: float) -> float:
    """By bisection."""
    low, high = -1e3, 1e3
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if h(middle) < y else (low, middle)
    return low


def test_no_gradient_flows_through_the_burn_in() -> None:
    agent = made(settings("r2d2", "CartPole-v1"))
    obs = torch.randn(10, 2, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    reset = np.zeros((10, 2), np.bool_)
    q, after = agent._unroll(obs, torch.zeros(2, 32), reset)
    assert q.shape == (5, 2, 2)
    torch.autograd.backward(q.sum() + after.sum())
    assert obs.grad is not None
    assert (obs.grad[:3] == 0).all()
    assert (obs.grad[3:8] != 0).any(2).all()
    with torch.no_grad():
        whole, _ = agent._online(obs, torch.zeros(2, 32), reset)
    assert torch.allclose(q, whole[3:8], atol=1e-6)


def test_stored_states_are_those_that_acting_had() -> None:
    agent = trained(settings("r2d2", RECALL, replay={"period": 1}, env={"num_envs": 2}), 180)  # not learning yet
    batch = agent._replay.sample(64)
    begun = torch.zeros(64, 32)
    first = np.isin(batch.obs[0], (0, 1))
    assert first.any()
    assert (batch.state[first] == 0).all()
    with torch.no_grad():
        seen = agent._online(torch.as_tensor(batch.obs[:1]), begun, np.zeros((1, 64), np.bool_))[1].numpy()
    cues = {int(batch.obs[0, b]): seen[b] for b in np.flatnonzero(first)}
    second = (batch.obs[0] == 2) & (batch.obs[1] == 2)  # one step after the cue
    assert second.any()
    for b in np.flatnonzero(second):
        assert min(np.abs(batch.state[b] - state).max() for state in cues.values()) < 1e-6
