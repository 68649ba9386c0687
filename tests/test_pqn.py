"""PQN against exact oracles, its rollouts against the runner's ratio, and what does not go together."""

from __future__ import annotations

import copy
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qladder.agents.pqn import PQN
from qladder.envs.errors import DivergedError, UserError
from qladder.envs.mdp import FiniteMDP, optimal_values
from qladder.replay.types import Step
from qladder.runners import checkpoint, train
from qladder.runners.config import Config, resolve
from qladder.runners.device import set_up_torch
from qladder.runners.evaluation import truth
from qladder.runners.loading import make_agent, make_environment
from qladder.runners.loop import Ratio, interact

LAKE = ["SFF", "FHF", "FFG"]
INNER = [0, 1, 2, 3, 5, 6, 7]  # terminal states are never acted in
GAMMA = 0.9
LINEAR = {"hidden": [], "norm": "none", "gamma": GAMMA, "epsilon": 1.0, "optimizer": "adam"}


def lake_config(slippery: bool = False, run: dict[str, Any] | None = None, **agent: Any) -> Config:
    """FrozenLake on a small map with rollouts of 32 steps in 8 environments, and a linear net on one-hot states."""
    env = {"num_envs": 8, "kwargs": {"is_slippery": slippery, "desc": LAKE}}
    flags = {"env": env, "agent": {**LINEAR, **agent}, "run": {"update_every": 256, "updates": 8, "seed": 1}}
    return resolve("pqn", "FrozenLake-v1", {**flags, "run": {**flags["run"], **(run or {})}})


def fresh(config: Config) -> PQN:
    env = make_environment(config, batched=True)
    env.close()
    agent = make_agent(config, env.spec, "cpu")
    assert isinstance(agent, PQN)
    return agent


def trained(config: Config, agent_steps: int) -> PQN:
    env = make_environment(config, batched=True)
    agent = make_agent(config, env.spec, "cpu")
    assert isinstance(agent, PQN)
    ratio = Ratio(0, config.run.update_every, config.run.updates)
    next(islice(interact(env, agent, ratio, False), agent_steps // env.spec.num_envs - 1, None))
    env.close()
    return agent


def lake(config: Config) -> FiniteMDP:
    known = truth(config)
    assert known is not None
    return known.mdp


def rate(start: float, over: int) -> dict[str, Any]:
    return {"start": start, "end": 0.0, "over": over, "clock": "updates"}


def test_a_linear_pqn_finds_the_values_of_value_iteration() -> None:
    """With lambda = 0, which alone is exact while it explores: a lambda return follows the actions that were taken."""
    config = lake_config(trace_decay=0.0, learning_rate=rate(0.02, 1200))
    q = trained(config, 38_400).values(np.arange(9)).numpy()
    assert q[INNER] == pytest.approx(optimal_values(lake(config), GAMMA)[INNER], abs=2e-3)


def test_with_lambda_it_finds_the_fixed_point_of_its_own_equation() -> None:
    """`Q = r + gamma P ((1 - lambda) max Q + lambda mean Q)` while all actions are random.

    Rollouts' ends, where the maximum alone counts, are 1 step in 64.
    """
    decay, run = 0.5, {"update_every": 512, "updates": 16}
    config = lake_config(run=run, trace_decay=decay, learning_rate=rate(0.005, 1600))
    q = trained(config, 51_200).values(np.arange(9)).numpy()
    mdp, exact = lake(config), np.zeros((9, 4))
    for _ in range(500):
        exact = mdp.backup(GAMMA * ((1 - decay) * exact.max(1) + decay * exact.mean(1)))
    assert abs(exact - optimal_values(mdp, GAMMA))[INNER].max() > 0.2  # another equation than Bellman's
    assert q[INNER] == pytest.approx(exact[INNER], abs=0.04)


def test_a_whole_update_by_hand() -> None:
    """Two environments, two steps, one minibatch of all four: plain gradient descent's direction, from one rollout."""
    config = lake_config(run={"update_every": 16, "updates": 1}, trace_decay=0.5, epochs=1, max_grad_norm="none")
    agent = fresh(config)
    obs = [np.arange(8), np.arange(1, 9)]
    reward = [np.linspace(0, 1, 8), np.linspace(1, -1, 8)]
    discount, last = np.ones(8), np.zeros(8, np.bool_)
    discount[0], last[:2] = 0.0, True  # the first terminates, the second is truncated
    true_next, final = np.array([8, 6, 3, 4, 5, 6, 7, 8]), np.arange(8)[::-1].copy()
    q = agent.values(np.arange(9)).numpy().astype(np.float64)
    actions = []
    for t in range(2):
        action, extras = agent.act(obs[t], np.ones(8, np.bool_) if t == 0 else last, True)
        actions.append(action)
        ends = (discount, last, true_next) if t == 0 else (np.ones(8), np.zeros(8, np.bool_), final)
        agent.observe(Step(obs[t], action, reward[t], *ends, extras))
    after = reward[1] + GAMMA * q[final].max(1)
    first = reward[0] + GAMMA * (q[obs[1]].max(1) + after) / 2
    first[:2] = reward[0][0], reward[0][1] + GAMMA * q[6].max()
    gradient = np.zeros((9, 4))
    loss = 0.0
    for states, action, target in zip(obs, actions, (first, after), strict=True):
        for s, a, g in zip(states, action, target, strict=True):
            gradient[s, a] += (q[s, a] - g) / 16
            loss += (q[s, a] - g) ** 2 / 32
    metrics = agent.learn(1)
    weight = agent._network.head.advantage.weight
    assert weight.grad is not None
    assert weight.grad.T.numpy() == pytest.approx(gradient, abs=1e-6)
    assert float(metrics["loss/td"]) == pytest.approx(loss, abs=1e-6)


def test_each_epoch_takes_every_step_once_in_another_order() -> None:
    config = lake_config(epochs=3, run={"updates": 12})
    agent = trained(config, 248)
    seen: list[Any] = []
    update = agent._update
    agent._update = lambda obs, action, target: (seen.append(target), update(obs, action, target))[1]  # type: ignore[method-assign]
    env = make_environment(config, batched=True)
    next(interact(env, agent, Ratio(0, 8, 12), False))
    env.close()
    assert [len(batch) for batch in seen] == [64] * 12
    epochs = [torch.cat(seen[i : i + 4]) for i in (0, 4, 8)]
    assert not torch.equal(epochs[0], epochs[1])
    for epoch in epochs[1:]:
        assert torch.equal(epoch.sort().values, epochs[0].sort().values)  # computed once, before the first


def test_acting_tells_the_values_so_that_learning_needs_one_more_pass() -> None:
    agent = trained(lake_config(), 248)
    passes: list[int] = []
    agent._network.register_forward_hook(lambda *_: passes.append(1))
    env = make_environment(lake_config(), batched=True)
    moment = next(interact(env, agent, Ratio(0, 8, 8), False))
    env.close()
    assert (moment.updates, len(passes)) == (8, 1 + 1 + 8)  # to act, at the ends, and for the updates


def test_clocks_and_the_exact_ratio() -> None:
    agent = trained(lake_config(), 256 * 3 + 40)
    assert agent.clocks == (808, 808, 24)
    assert len(agent._rollout) == 40


def test_greedy_actions_draw_nothing_and_change_nothing() -> None:
    agent = trained(lake_config(epsilon=0.5), 300)
    before = copy.deepcopy(agent.state_dict())
    action, extras = agent.act(np.arange(9), np.ones(9, np.bool_), False)
    assert extras is None
    assert action.tolist() == agent.values(np.arange(9)).argmax(1).tolist()
    agent.act(np.arange(8), np.ones(8, np.bool_), False)  # as many as train
    after = agent.state_dict()
    assert before["explore"]["rng"] == after["explore"]["rng"]
    assert np.array_equal(before["rollout"]["last"], after["rollout"]["last"])


@pytest.mark.parametrize("optimizer", ["radam", "adam"])
@pytest.mark.parametrize("agent_steps", [256, 400])
def test_a_checkpoint_in_the_middle_of_a_rollout_goes_on_bit_for_bit(
    agent_steps: int, optimizer: str, tmp_path: Path
) -> None:
    config = lake_config(True, hidden=[16, 16], norm="layer", residual=True, optimizer=optimizer, epsilon=0.5)
    one, other = trained(config, agent_steps), fresh(config)
    other.load_state_dict(checkpoint.load(checkpoint.save(tmp_path, 1, one.state_dict())))
    rng, first = np.random.default_rng(0), np.zeros(8, np.bool_)
    for _ in range(80):
        obs, next_obs, last = rng.integers(9, size=8), rng.integers(9, size=8), rng.random(8) < 0.2
        actions = [agent.act(obs, first, True) for agent in (one, other)]
        assert np.array_equal(actions[0][0], actions[1][0])
        for agent, (action, extras) in zip((one, other), actions, strict=True):
            agent.observe(Step(obs, action, action * 0.5, 1.0 - last, last, next_obs, extras))
        first = last
    for agent in (one, other):
        agent.learn(4)
    assert one.clocks == other.clocks
    for a, b in zip(one._network.state_dict().values(), other._network.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert np.array_equal(one._order.permutation(9), other._order.permutation(9))


def test_gradients_longer_than_the_limit_are_cut_to_it() -> None:
    agent = trained(lake_config(max_grad_norm=1e-3), 256)
    grads = [p.grad.flatten() for p in agent._network.parameters() if p.grad is not None]
    assert float(torch.cat(grads).norm()) == pytest.approx(1e-3, rel=1e-3)


def test_the_learning_rate_follows_its_clock() -> None:
    agent = trained(lake_config(learning_rate=rate(0.1, 16)), 256)
    assert agent._optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * (1 - 7 / 16))


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    with pytest.raises(DivergedError, match=r"the loss is .* in its batch: target"):
        trained(lake_config(learning_rate=1e30), 2000)


@pytest.mark.parametrize(
    ("env", "flags", "said"),
    [
        ("CartPole-v1", {"run": {"learning_starts": 9}}, "run.learning_starts = 9 with pqn"),
        (
            "CartPole-v1",
            {"run": {"update_every": 100}, "env": {"num_envs": 8}},
            "update_every = 100 with env.num_envs",
        ),
        ("CartPole-v1", {"agent": {"epochs": 3}, "run": {"updates": 8}}, "run.updates = 8 with agent.epochs = 3"),
        ("CartPole-v1", {"run": {"update_every": 8, "updates": 64}}, "run.updates = 64 with run.update_every = 8"),
        ("CartPole-v1", {"agent": {"noisy": True}}, "agent.noisy with pqn"),
        ("CartPole-v1", {"agent": {"distribution": "quantile"}}, "agent.distribution = 'quantile' with pqn"),
        ("Pendulum-v1", {}, "pqn cannot play Pendulum-v1"),
    ],
)
def test_what_does_not_go_together_is_named(env: str, flags: dict[str, Any], said: str) -> None:
    config = resolve("pqn", env, flags)
    environment = make_environment(config, batched=True)
    environment.close()
    with pytest.raises(UserError, match=said):
        make_agent(config, environment.spec, "cpu")


def test_a_replay_is_refused_and_torch_gets_its_threads() -> None:
    with pytest.raises(UserError, match=r"replay\.capacity: pqn has no replay"):
        resolve("pqn", "CartPole-v1", {"replay": {"capacity": 10}})
    before = torch.get_num_threads()
    config = resolve("pqn", "CartPole-v1", {"run": {"threads": before + 1, "device": "cpu"}})
    try:
        assert set_up_torch(config) == "cpu"
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_it_resumes_where_it_was(tmp_path: Path) -> None:
    run: dict[str, Any] = {"eval_episodes": 2, "checkpoint_every": 200, "eval_every": 1000}
    settings = {"env": {"num_envs": 4}, "run": {**run, "update_every": 128, "updates": 4}}
    first = train("pqn", "CartPole-v1", settings={**settings, "run": {**settings["run"], "steps": 600}}, out=tmp_path)
    again = {**settings, "run": {**settings["run"], "steps": 900}}
    second = train("pqn", "CartPole-v1", settings=again, out=tmp_path, resume=True)
    assert (first["updates"], second["updates"]) == (16, 28)  # after 4 and 7 rollouts of 128


def test_it_learns_cartpole(tmp_path: Path) -> None:
    """Random actions come to 20; seeds 11 to 14 came to 400, 194, 89 and 500 in these 15,000 steps."""
    run = {"steps": 15_000, "eval_every": 15_000, "seed": 11}
    settings = {"agent": {"learning_rate": rate(1e-3, 1_856), "epsilon": {"end": 0.02, "over": 5_000}}, "run": run}
    assert train("pqn", "CartPole-v1", settings=settings, out=tmp_path)["evaluation"]["mean"] > 60
