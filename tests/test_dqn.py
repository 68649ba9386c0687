"""DQN against exact oracles: hand-worked losses, value iteration, a frozen target, RMSProp as published."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from learning import trained

from qladder.agents.agent import lacking
from qladder.agents.dqn import DQN
from qladder.agents.dqn_config import DQNConfig
from qladder.agents.exploration import Exploration
from qladder.agents.objective import Learned, Objective, Transitions
from qladder.agents.optimizers import CentredRMSProp, make_optimizer
from qladder.agents.td import greedy, of_action
from qladder.agents.values import Mean, Target, make_values
from qladder.envs.errors import DivergedError, UserError
from qladder.envs.mdp import optimal_values
from qladder.replay.types import Step
from qladder.runners.config import Config, resolve
from qladder.runners.device import set_up_torch, torch_threads
from qladder.runners.evaluation import truth
from qladder.runners.loading import make_agent, make_environment


def linear_config(seed: int = 1, **agent: object) -> Config:
    """A linear net on one-hot states: DQN that must find what value iteration finds."""
    rate = {"start": 0.02, "end": 0.0, "over": 4000, "clock": "updates"}
    settings = {"hidden": [], "gamma": 0.9, "learning_rate": rate, "target_period": 20, "loss": "mse", "epsilon": 1.0}
    kwargs = {"kwargs": {"is_slippery": False}}
    flags = {"env": kwargs, "agent": {**settings, **agent}, "replay": {"batch_size": 64}, "run": {"seed": seed}}
    return resolve("dqn", "FrozenLake-v1", flags)


def test_a_linear_dqn_finds_the_values_of_value_iteration() -> None:
    config = linear_config()
    known = truth(config)
    assert known is not None
    q = trained(config, 8500).values(np.arange(16)).numpy()
    inner = [s for s in range(16) if s not in (5, 7, 11, 12, 15)]  # terminal states are never acted in
    assert q[inner] == pytest.approx(optimal_values(known.mdp, 0.9)[inner], abs=1e-3)


def test_target_is_the_reward_at_termination_and_bootstraps_elsewhere() -> None:
    reward, discount = torch.tensor([1.0, 1.0]), torch.tensor([0.0, 0.99])
    next_q = torch.tensor([[5.0, 7.0], [5.0, 7.0]])
    target, _ = Mean("mse").target(next_q[..., None], greedy(next_q), reward, discount)
    assert target[:, 0].tolist() == pytest.approx([1.0, 7.93])


def test_huber_gradient_is_the_clipped_td_error_over_the_batch() -> None:
    q = torch.tensor([[0.0, 1.0], [2.0, 0.0]], requires_grad=True)
    out = of_action(q[..., None], torch.tensor([1, 0]))
    loss, td, _ = Mean("huber").loss(out, torch.tensor([[4.0], [1.5]]), None)
    loss.mean().backward()
    assert td.tolist() == [3.0, -0.5]
    assert loss.tolist() == [2.5, 0.125]
    assert q.grad is not None
    assert q.grad.tolist() == [[0.0, -0.5], [0.25, 0.0]]


def test_huber_bends_where_it_is_told_to() -> None:
    loss = Mean("huber", 2.0).loss(torch.tensor([[0.0], [0.0]]), torch.tensor([[1.5], [-5.0]]), None).loss
    assert loss.tolist() == [1.125, 8.0]
    config = resolve("dqn", "Acrobot-v1", {"agent": {"huber_delta": 2.0}}).agent
    assert isinstance(config, DQNConfig)
    told = make_values(config, torch.device("cpu")).loss(torch.tensor([[0.0]]), torch.tensor([[-5.0]]), None)
    assert told.loss.tolist() == [8.0]


def test_mse_is_half_the_square() -> None:
    loss = Mean("mse").loss(torch.tensor([[1.0]]), torch.tensor([[4.0]]), None).loss
    assert loss.tolist() == [4.5]


def test_the_target_network_is_frozen_between_copies() -> None:
    agent = trained(linear_config(target_period=1_000_000), 1000)
    fresh = make_agent(linear_config(), make_environment(linear_config(), True).spec, "cpu")
    before = {k: v.clone() for k, v in fresh.state_dict()["target"].items()}
    after = agent.state_dict()
    assert all(torch.equal(before[k], after["target"][k]) for k in before)
    assert any(not torch.equal(before[k], after["online"][k]) for k in before)


def two_steps() -> Transitions:
    """A batch of two transitions of FrozenLake, the second one's bootstrap cut."""
    obs, action, reward = torch.tensor([0, 4]), torch.tensor([2, 1]), torch.tensor([0.5, 1.0])
    return Transitions(obs, action, reward, torch.tensor([0.9, 0.0]), torch.tensor([1, 5]), torch.ones(2))


def test_an_update_bootstraps_from_the_target_network() -> None:
    agent = trained(linear_config(target_period=1_000_000), 700)
    online, target = (agent.state_dict()[k] for k in ("online", "target"))
    weight, bias = (next(v for k, v in target.items() if k.endswith(end)) for end in ("weight", "bias"))
    best = (weight[:, 1] + bias).max()  # one-hot: a column is a state's values
    own = next(v for k, v in online.items() if k.endswith("weight"))[:, 1].max()
    assert abs(float(best - own)) > 0.05
    expected = [0.5 + 0.9 * float(best), 1.0]
    assert agent._improve(two_steps()).target[:, 0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("norm", [None, 0.01])
def test_gradients_longer_than_the_limit_are_cut_to_it_before_the_step(norm: float | None) -> None:
    limit = "none" if norm is None else norm
    steady = {"optimizer": "rmsprop", "optimizer_eps": 1e6, "learning_rate": 1e3}  # a step is the gradient
    agent = trained(linear_config(max_grad_norm=limit, **steady), 300)
    before = torch.cat([p.detach().flatten() for p in agent._online.parameters()])
    agent._improve(two_steps())
    grads = [p.grad for p in agent._online.parameters() if p.grad is not None]
    length = float(torch.cat([g.flatten() for g in grads]).norm())
    moved = float((torch.cat([p.detach().flatten() for p in agent._online.parameters()]) - before).norm())
    assert length > 0.1 if norm is None else length == pytest.approx(0.01, rel=1e-3)
    assert moved == pytest.approx(length, rel=1e-2)


def test_an_update_is_made_of_its_own_batchs_weighted_mean_alone() -> None:
    """One hand-worked step after another: importance weights once, the mean over the batch, no gradient left over."""
    steady = {"optimizer": "rmsprop", "optimizer_eps": 1e6, "learning_rate": 1e3}
    agent = trained(linear_config(**steady), 300)
    batch = two_steps()._replace(weight=torch.tensor([0.5, 0.25]))
    weight, bias = agent._online.parameters()
    for _ in range(2):
        (q0, q4), target = (weight[:, [0, 4]] + bias[:, None]).T.detach(), agent._improve(batch).target[:, 0]
        expected = torch.zeros(4, 16)
        expected[2, 0] = 0.5 * (q0[2] - target[0]) / 2
        expected[1, 4] = 0.25 * (q4[1] - target[1]) / 2
        assert weight.grad is not None
        assert torch.allclose(weight.grad, expected, atol=1e-6)


def test_polyak_copies_move_the_target_by_tau() -> None:
    agent = trained(linear_config(target_period=10, target_tau=0.25), 519)  # 9 updates
    before = {k: v.clone() for k, v in agent.state_dict()["target"].items()}
    agent.learn(1)
    state = agent.state_dict()
    for name, old in before.items():
        assert torch.allclose(state["target"][name], old + 0.25 * (state["online"][name] - old))


def test_the_target_network_starts_as_a_copy() -> None:
    state = trained(linear_config(), 300).state_dict()  # no update yet
    assert all(torch.equal(value, state["target"][name]) for name, value in state["online"].items())


def test_copies_come_after_every_so_many_updates() -> None:
    agent = trained(linear_config(target_period=4), 503)  # one update

    def equal() -> bool:
        online, target = agent.state_dict()["online"], agent.state_dict()["target"]
        return all(torch.equal(value, target[name]) for name, value in online.items())

    assert agent.clocks.updates == 1
    seen = []
    for _ in range(12):
        seen.append(equal())
        agent.learn(1)
    assert seen == [updates % 4 == 0 for updates in range(1, 13)]


@pytest.mark.parametrize("k", [1, 31, 32, 33, 70])
def test_as_many_updates_are_done_as_were_asked_for(k: int) -> None:
    agent = trained(linear_config(), 300)
    agent.learn(k)
    assert agent.clocks.updates == k


def test_the_learning_rate_follows_its_schedule() -> None:
    falling = {"start": 0.02, "end": 0.0, "over": 20, "clock": "updates"}
    agent = trained(linear_config(learning_rate=falling), 502)  # one update
    for updates in range(1, 20):
        agent.learn(1)
        assert agent._optimizer.param_groups[0]["lr"] == pytest.approx(0.02 * (20 - updates) / 20)


def test_clocks_count_every_environment_and_its_frames() -> None:
    spec = replace(make_environment(linear_config(), True).spec, num_envs=3, frames_per_step=4)
    agent = make_agent(linear_config(), spec, "cpu")
    assert isinstance(agent, DQN)
    zeros = np.zeros(3, np.int64)
    for _ in range(5):
        agent.observe(Step(zeros, zeros, np.zeros(3), np.ones(3), zeros > 0, zeros))
    assert agent.clocks == (60, 15, 0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run(bad: float) -> None:
    agent = trained(linear_config(), 500)
    agent._replay._reward[:] = bad
    with pytest.raises(DivergedError, match=r"the loss is (nan|inf) at update 0; in its batch: reward (nan|inf)"):
        agent.learn(1)


def test_online_and_target_share_no_memory() -> None:
    state = trained(linear_config(), 500).state_dict()
    assert {v.data_ptr() for v in state["online"].values()}.isdisjoint(v.data_ptr() for v in state["target"].values())


@pytest.mark.parametrize("rate", [1.0, torch.tensor(1.0)], ids=["number", "tensor"])
def test_adam_has_the_epsilon_that_was_asked_for(rate: float | torch.Tensor) -> None:
    weight = torch.tensor([1.0], requires_grad=True)
    weight.grad = torch.tensor([0.1])
    optimizer = make_optimizer("adam", [weight], rate, 0.5)
    for steps in (1, 2, 3):  # of one gradient all averages are its own
        optimizer.step()
        assert weight.item() == pytest.approx(1.0 - steps * 0.1 / (0.1 + 0.5))


def test_rmsprop_has_its_epsilon_inside_the_root() -> None:
    weight = torch.tensor([1.0], dtype=torch.float64)
    weight.grad = torch.tensor([0.1], dtype=torch.float64)
    CentredRMSProp([weight], lr=1.0, decay=0.95, eps=0.01).step()
    variance = 0.05 * 0.1**2 - (0.05 * 0.1) ** 2
    assert weight.item() == pytest.approx(1.0 - 0.1 / (variance + 0.01) ** 0.5)


def test_rmsprop_averages_over_its_steps() -> None:
    weight = torch.tensor([1.0], dtype=torch.float64)
    optimizer = CentredRMSProp([weight], lr=1.0, decay=0.95, eps=0.01)
    mean = square = 0.0
    expected = 1.0
    for gradient in (0.1, -0.3, 0.2):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        mean, square = 0.95 * mean + 0.05 * gradient, 0.95 * square + 0.05 * gradient**2
        expected -= gradient / (square - mean**2 + 0.01) ** 0.5
        assert weight.item() == pytest.approx(expected)


def test_rmsprop_bears_a_variance_that_rounding_makes_negative() -> None:
    weight = torch.tensor([1.0])
    optimizer = CentredRMSProp([weight], lr=1e-6, eps=1e-8)
    for _ in range(1000):
        weight.grad = torch.tensor([3.0])
        optimizer.step()
    assert weight.isfinite()


def test_adam_is_torchs_bit_for_bit() -> None:
    ours, theirs = ([torch.nn.Parameter(torch.full(shape, 0.5)) for shape in ((3, 2), (4,))] for _ in range(2))
    optimizer, expected = make_optimizer("adam", ours, 1e-2, 1e-5), torch.optim.Adam(theirs, 1e-2, eps=1e-5, fused=True)
    weights = torch.Generator().manual_seed(0)
    for step in range(5):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=weights)
            other.grad = one.grad.clone()
        for group in (*optimizer.param_groups, *expected.param_groups):
            group["lr"] = 1e-2 / (step + 1)
        optimizer.step()
        expected.step()
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [  # gradients of 0.5 and then of 1, a rate of 0.1, an epsilon of 0.2
        ("sgd", 0.05, 0.1),
        ("momentum", 0.05, 0.1 * (0.9 * 0.5 + 1.0)),
        ("nesterov", 0.1 * (0.5 + 0.9 * 0.5), 0.1 * (1.0 + 0.9 * (0.9 * 0.5 + 1.0))),
        ("adagrad", 0.1 * 0.5 / (0.5 + 0.2), 0.1 * 1.0 / (1.25**0.5 + 0.2)),
        ("adamw", 0.1 * 0.01 * 2.0 + 0.1 * 0.5 / (0.5 + 0.2), None),
    ],
)
def test_steps_of_other_optimizers_by_hand(name: str, first: float, second: float | None) -> None:
    weight = torch.tensor([2.0], requires_grad=True)
    optimizer = make_optimizer(name, [weight], 0.1, 0.2)
    weight.grad = torch.tensor([0.5])
    optimizer.step()
    assert weight.item() == pytest.approx(2.0 - first)
    if second is not None:
        weight.grad = torch.tensor([1.0])
        optimizer.step()
        assert weight.item() == pytest.approx(2.0 - first - second)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adagrad"])
def test_training_leaves_torchs_compiler_alone(optimizer: str, tmp_path: Path) -> None:
    """Its import takes more than a second of every run."""
    settings = {"run": {"steps": 1100}, "agent": {"optimizer": optimizer}}
    script = f"""
        import sys
        from qladder.runners import train
        train("dqn", "FrozenLake-v1", settings={settings}, out="{tmp_path}")
        assert not {{"torch._dynamo", "torch._inductor"}} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


def test_an_episode_that_starts_ends_the_one_in_memory() -> None:
    """As after a resume: the environments start anew while the memory has episodes that still run."""
    config = resolve("dqn", "CartPole-v1", {"replay": {"capacity": 50}})
    env = make_environment(config, batched=True)
    agent = make_agent(config, env.spec, "cpu")
    assert isinstance(agent, DQN)
    obs = env.reset()
    for _ in range(2):
        for t in range(3):
            action, _ = agent.act(obs, np.array([t == 0]), True)
            step = env.step(action)
            agent.observe(Step(obs, action, step.reward, step.discount, step.last, step.next_obs))
            obs = step.obs
    assert not step.last.any()
    env.close()
    starts = set(agent._replay.sample(200).index.tolist())
    assert starts == {0, 1, 3, 4}  # slot 2 leads into the other episode, and what slot 5 led to is not written yet


def test_exploration_is_drawn_per_environment() -> None:
    config = resolve("dqn", "CartPole-v1", {"env": {"num_envs": 8}, "agent": {"epsilon": 0.5}})
    env = make_environment(config, batched=True)
    agent = make_agent(config, env.spec, "cpu")
    obs = env.reset()
    greedy = agent.act(obs, np.ones(8, np.bool_), False)[0]
    differs = [np.mean(agent.act(obs, np.ones(8, np.bool_), True)[0] != greedy) for _ in range(200)]
    assert np.mean(differs) == pytest.approx(0.25, abs=0.04)
    assert np.mean([d in (0.0, 1.0) for d in differs]) < 0.25  # one coin for all would leave nothing between
    env.close()


@pytest.mark.parametrize("clock", ["frames", "agent_steps", "updates"])
def test_exploration_ends_when_its_clock_says(clock: Any) -> None:
    begin = {"frames": 2004, "agent_steps": 501, "updates": 1}[clock]
    epsilon = {"start": 1.0, "end": 0.0, "over": 0, "clock": clock, "begin": begin}
    config = linear_config(epsilon=epsilon)
    spec = replace(make_environment(config, True).spec, frames_per_step=4)
    agent, first = make_agent(config, spec, "cpu"), np.array([False])
    agent.load_state_dict(trained(config, 500).state_dict())
    state = np.array([0])

    def random() -> bool:
        return len({int(agent.act(state, first, True)[0][0]) for _ in range(40)}) > 1

    assert random()
    agent.observe(Step(state, state, np.zeros(1), np.zeros(1), first, state))
    agent.learn(1)
    assert not random()
    assert agent.act(state, first, True)[0] == agent.act(state, first, False)[0]


def test_another_seed_has_other_weights_explores_and_samples_otherwise() -> None:
    seen = []
    for seed in (1, 1, 2):
        agent = make_agent(linear_config(seed), make_environment(linear_config(), True).spec, "cpu")
        assert isinstance(agent, DQN)
        states, no = np.arange(1), np.zeros(1, np.bool_)
        actions = [int(agent.act(states, no, True)[0][0]) for _ in range(30)]
        for _ in range(50):
            agent.observe(Step(states, states, np.zeros(1), np.ones(1), no, states))
        seen.append((actions, agent._replay.sample(20).index.tolist(), agent.values(states).tolist()))
    assert seen[0] == seen[1]
    assert all(one != other for one, other in zip(seen[0], seen[2], strict=True))


def test_long_exploration_repeats_its_action() -> None:
    settings = {"epsilon": 0.02, "explore_power": 1.5}
    config = resolve("dqn", "CartPole-v1", {"env": {"num_envs": 1}, "agent": settings})
    env = make_environment(config, batched=True)
    agent = make_agent(config, env.spec, "cpu")
    obs = env.reset()
    greedy = agent.act(obs, np.ones(1, np.bool_), False)[0][0]
    actions = [agent.act(obs, np.zeros(1, np.bool_), True)[0][0] != greedy for _ in range(4000)]
    changes = np.count_nonzero(np.diff(actions)) / 2
    assert np.sum(actions) / max(changes, 1) > 2  # a lone random action would last one step, hardly ever two
    env.close()


def test_long_exploration_lasts_as_long_as_the_zeta_distribution_says() -> None:
    explore = Exploration(20_000, 3, 2.0, np.random.default_rng(0))
    none = np.zeros(20_000, np.bool_)
    random, action = explore(1.0, none)
    assert random.all()
    zeta = np.pi**2 / 6
    for steps in (1, 2, 3):  # how many last longer than so many
        random, again = explore(0.0, none)
        assert random.mean() == pytest.approx(1 - sum(k**-2 for k in range(1, steps + 1)) / zeta, abs=0.015)
        assert (again == action)[random].all()


def test_long_exploration_ends_with_its_episode_and_is_in_the_state() -> None:
    settings = {"epsilon": 0.0, "explore_power": 1.5}
    config = resolve("dqn", "CartPole-v1", {"agent": settings})
    spec = make_environment(config, batched=True).spec
    agent, other = (make_agent(config, spec, "cpu") for _ in range(2))
    assert isinstance(agent, DQN)
    obs = np.zeros((1, 4), np.float32)
    greedy = agent.act(obs, np.zeros(1, np.bool_), False)[0]
    agent._explore._left, agent._explore._action = np.array([7]), 1 - greedy
    other.load_state_dict(copy.deepcopy(agent.state_dict()))
    for a in (agent, other):
        assert [a.act(obs, np.zeros(1, np.bool_), True)[0][0] != greedy[0] for _ in range(3)] == [True] * 3
        assert a.act(obs, np.ones(1, np.bool_), True)[0] == greedy


def test_the_same_state_goes_on_the_same_way() -> None:
    config = linear_config()
    agent = trained(config, 715)  # in the middle of a target's period
    other = make_agent(config, make_environment(config, True).spec, "cpu")
    other.load_state_dict(copy.deepcopy(agent.state_dict()))
    agent.learn(5)
    other.learn(5)
    one, two = agent.state_dict()["online"], other.state_dict()["online"]
    assert all(torch.equal(one[k], two[k]) for k in one)


class Newest(Objective):
    """Targets by the online network."""

    @torch.no_grad()
    def target(self, batch: Transitions) -> Target:
        q = self.q(self._online, batch.next_obs)
        return self._values.target(q[..., None], greedy(q), batch.reward, batch.discount)

    def loss(self, batch: Transitions, target: torch.Tensor, overflow: torch.Tensor | None) -> Learned:
        learned = super().loss(batch, target, overflow)
        return learned._replace(more={"q/first": learned.q.detach()[:, 0].mean()})


class NewestDQN(DQN):
    objective = Newest

    def explore(self, obs: Any, first: Any) -> Any:
        return np.full(len(obs), 1)


def test_another_objectives_targets_are_those_of_the_latest_weights_and_another_exploration_is_asked() -> None:
    config = resolve("dqn", "CartPole-v1", {"agent": {"hidden": [8], "learning_rate": 0.1}, "run": {"steps": 100}})
    env = make_environment(config, True)
    env.close()
    many, single = (NewestDQN(config.agent, env.spec, seed=0, device="cpu", replay=config.replay) for _ in range(2))
    rng = np.random.default_rng(0)
    for _ in range(200):
        obs, next_obs = rng.normal(size=(2, 1, 4)).astype(np.float32)
        step = Step(obs, rng.integers(2, size=1), np.ones(1), np.ones(1), np.zeros(1, np.bool_), next_obs)
        many.observe(step)
        single.observe(step)
    new = np.zeros((1, 4), np.float32), np.ones(1, np.bool_)
    assert [many.act(*new, True)[0].tolist() for _ in range(20)] == [[1]] * 20
    told = many.learn(4)
    for _ in range(4):
        assert {"loss/td", "q/first"} <= single.learn(1).keys()
    assert told["q/first"] != told["q/mean"]
    for one, other in zip(many._online.parameters(), single._online.parameters(), strict=True):
        assert torch.equal(one, other)


@dataclass(frozen=True)
class Loose:
    """No agent's settings: nothing says what its replay is."""


class NoAgent:
    Config = Loose
    batched = 1

    def act(self, obs: Any, first: Any, explore: bool) -> Any: ...


def test_what_a_class_lacks_to_be_an_agent_is_named() -> None:
    assert lacking(DQN) == []
    missing = ["observe", "learn", "health", "state_dict", "load_state_dict", "batched (True or False)"]
    with pytest.raises(UserError, match=rf"{__name__}:NoAgent': it lacks {re.escape(', '.join(missing))}, Config.repl"):
        resolve(f"{__name__}:NoAgent", "CartPole-v1", {})
    with pytest.raises(UserError, match=r"Config .a frozen dataclass"):
        resolve("rich.console:Console", "CartPole-v1", {})


@dataclass(frozen=True)
class TorchConfig:
    replay: ClassVar[None] = None
    uses_torch: ClassVar[bool] = True


class OnTorch(NoAgent):
    Config = TorchConfig
    batched = True

    def observe(self, step: Any) -> None: ...
    def learn(self, k: int) -> Any: ...
    def health(self) -> Any: ...
    def state_dict(self) -> Any: ...
    def load_state_dict(self, state: Any) -> None: ...


def test_an_agent_that_computes_with_torch_gets_threads() -> None:
    before = torch.get_num_threads()
    try:
        config = resolve(f"{__name__}:OnTorch", "CartPole-v1", {"run": {"threads": 3}})
        assert (set_up_torch(config), torch_threads(config)) == ("cpu", 3)
        assert torch_threads(resolve("q-learning", "CartPole-v1", {"run": {"threads": 3}})) == 1
    finally:
        torch.set_num_threads(before)
