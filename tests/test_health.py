"""Health: each sign against a hand-worked case, the same after a resume, and told while it happens."""

from __future__ import annotations

import copy
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from killing import same
from learning import trained
from processes import qladder
from test_dqn import linear_config
from test_training import records
from torch import nn

from qladder.agents.agent import Agent
from qladder.agents.descent import update_target
from qladder.agents.dqn import DQN
from qladder.agents.health import dormant, effective_rank, errors, gradient_norm, hidden_layers
from qladder.envs.errors import DivergedError
from qladder.envs.mdp import optimal_values, policy_value
from qladder.runners import train
from qladder.runners.alarms import Alarms
from qladder.runners.config import Config, resolve
from qladder.runners.evaluation import Policy, exact_values, play, truth
from qladder.runners.loading import make_agent, make_environment
from qladder.runners.loop import Ratio, interact
from qladder.runners.shares import PERIOD, Shares


def test_units_that_hardly_give_anything_are_dormant() -> None:
    dense = torch.tensor([[1.0, 0.0, 0.04], [3.0, 0.0, 0.04]])  # means 2, 0, 0.04; 0.025 of their mean is 0.017
    assert dormant([dense]) == pytest.approx(1 / 3)
    maps = torch.zeros(2, 2, 3, 3)
    maps[1, 0, 2, 1] = 1.0  # one pixel of one picture keeps a channel awake
    assert dormant([dense, maps]) == pytest.approx(2 / 5)
    assert dormant([torch.zeros(4, 5)]) == 1.0


@pytest.mark.parametrize(
    ("values", "rank"), [([1.0, 1.0, 1.0], 3), ([99.5, 0.25, 0.25], 1), ([98.0, 1.5, 0.5], 2), ([5.0, 0.0, 0.0], 1)]
)
def test_the_effective_rank_is_how_many_singular_values_make_up_99_percent(values: list[float], rank: int) -> None:
    left, _ = torch.linalg.qr(torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    assert effective_rank(left @ torch.diag(torch.tensor(values, dtype=torch.float64))) == rank


def test_errors_are_told_by_percentiles() -> None:
    told = errors(torch.arange(101.0))
    assert [float(v) for v in told.values()] == pytest.approx([5.0, 50.0, 95.0])


def test_the_gradient_norm_is_that_of_all_parameters() -> None:
    net = nn.Linear(1, 1)
    loss = 3 * net(torch.tensor([[4.0 / 3.0]]))[0, 0]  # the gradient is (4, 3)
    assert float(gradient_norm(loss, net.parameters())) == pytest.approx(5.0)
    assert net.weight.grad is None


def test_hidden_layers_are_seen_where_they_are() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(2))
        net[0].bias.zero_()
    signs = hidden_layers(net, net[2], lambda: net(torch.tensor([[1.0, -1.0], [2.0, -1.0]])))
    assert signs == {"health/dormant": 0.5, "health/rank": 1}
    assert not any([*net[1]._forward_hooks, *net[2]._forward_pre_hooks])


def agent_after(name: str, env: str, steps: int, **agent: Any) -> tuple[Agent, Config]:
    settings = {"agent": agent, "run": {"seed": 3}}
    config = resolve(name, env, settings)
    environment = make_environment(config, name not in ("q-learning", "linear-q"))
    made = make_agent(config, environment.spec, "cpu")
    ratio = Ratio(config.run.learning_starts, config.run.update_every, config.run.updates)
    for moment in interact(environment, made, ratio, False):
        if moment.agent_steps >= steps:
            break
    environment.close()
    return made, config


FAMILY = [
    ("dqn", "CartPole-v1", 1400),
    ("rainbow", "qladder/Catch-v0", 1100),
    ("iqn", "CartPole-v1", 1100),
    ("m-iqn", "qladder/Catch-v0", 1100),
    ("r2d2", "qladder/Catch-v0", 1100),
    ("drqn", "CartPole-v1", 1100),
    ("pqn", "CartPole-v1", 1100),
    ("q-learning", "CliffWalking-v1", 300),
    ("linear-q", "MountainCar-v0", 300),
]


@pytest.mark.parametrize(("name", "env", "steps"), FAMILY)
def test_looking_changes_nothing_and_follows_from_the_state(name: str, env: str, steps: int) -> None:
    agent, config = agent_after(name, env, steps)
    before = copy.deepcopy(agent.state_dict())
    signs = {tag: float(value) for tag, value in agent.health().items()}
    assert signs
    assert all(tag.startswith("health/") and np.isfinite(value) for tag, value in signs.items())
    assert same(before, agent.state_dict())
    environment = make_environment(config, agent.batched)
    other = make_agent(config, environment.spec, "cpu")
    assert other.health() == {}
    other.load_state_dict(before)
    assert {tag: float(value) for tag, value in other.health().items()} == signs
    agent.learn(1) if name != "pqn" else None
    if name == "dqn":
        assert {tag: float(value) for tag, value in agent.health().items()} != signs


def test_a_batch_is_looked_at_as_an_update_would_see_it() -> None:
    agent = trained(linear_config(), 1000)
    weight = agent._online.head.advantage.weight
    before = weight.detach().clone()
    signs = agent.health()
    assert float(signs["health/target_drift"]) > 0
    update_target(agent._target, agent._online, 1)
    assert float(agent.health()["health/target_drift"]) == 0
    assert torch.equal(weight, before)
    batch = agent._replay.peek(64)
    assert np.array_equal(batch.index, agent._replay.sample(64).index)
    q = agent._online(torch.as_tensor(batch.obs))[..., 0].detach()
    taken = q[torch.arange(64), torch.as_tensor(batch.action)]
    best = agent._target(torch.as_tensor(batch.next_obs))[..., 0].amax(1)
    td = torch.as_tensor(batch.reward) + torch.as_tensor(batch.discount) * best - taken
    agent._replay._rng.bit_generator.state = trained(linear_config(), 1000)._replay._rng.bit_generator.state
    again = agent.health()
    assert float(again["health/td_error_p50"]) == pytest.approx(float(td.double().quantile(0.5)))
    assert float(again["health/td_error_p95"]) == pytest.approx(float(td.double().quantile(0.95)))
    assert float(again["health/largest_q"]) == pytest.approx(float(q.abs().max()))
    assert float(again["health/replay_age"]) == agent._replay.age(batch.index).mean()


def test_ages_are_counted_in_agent_steps_of_all_environments() -> None:
    agent, _ = agent_after("drqn", "qladder/Catch-v0", 1100)
    newest = agent._replay._ring.written  # type: ignore[attr-defined]
    assert len(newest) == 4
    assert agent._replay.age(np.array([0])) == (newest[0] - 1) * 4  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "env"), [("iqn", "CartPole-v1"), ("r2d2", "qladder/Catch-v0")])
def test_networks_that_are_the_same_do_not_drift_and_the_learnt_steps_are_looked_at(name: str, env: str) -> None:
    agent: Any = agent_after(name, env, 1120)[0]  # between two copies
    assert float(agent.health()["health/target_drift"]) > 0
    update_target(agent._target, agent._online, 1)
    rows: list[int] = []
    hook = agent._online.head.advantage.register_forward_hook(lambda _, inputs, out: rows.append(len(inputs[0])))
    assert float(agent.health()["health/target_drift"]) == pytest.approx(0, abs=1e-6)
    hook.remove()
    if name == "r2d2":
        sequences = 64 // agent._length + 1
        assert agent._burn_in > 0
        assert rows[-1] == (agent._length - agent._burn_in) * sequences


@pytest.mark.parametrize("name", ["dqn", "r2d2", "pqn"])
def test_weights_that_are_no_numbers_end_the_run_by_name(name: str) -> None:
    agent: Any = agent_after(name, "qladder/Catch-v0" if name == "r2d2" else "CartPole-v1", 1400)[0]
    with torch.no_grad():
        next(iter((agent._network if name == "pqn" else agent._online).parameters())).fill_(torch.nan)
    with pytest.raises(DivergedError, match="the loss is nan at update"):
        agent.health()


def test_noise_is_left_as_it_was_and_not_looked_through() -> None:
    agent, _ = agent_after("rainbow", "qladder/Catch-v0", 1100)
    assert isinstance(agent, DQN)
    obs = np.zeros((1, 1, 10, 10), np.uint8)
    noisy, drawn, signs = agent.values(obs, noisy=True), agent._draws.get_state(), agent.health()
    assert torch.equal(agent.values(obs, noisy=True), noisy)
    assert torch.equal(agent._draws.get_state(), drawn)
    agent._online.resample(torch.Generator().manual_seed(1))
    assert not torch.equal(agent.values(obs, noisy=True), noisy)
    assert float(agent.health()["health/gradient_norm"]) == float(signs["health/gradient_norm"])


def test_how_often_noise_explores_is_the_share_of_states_in_which_it_changes_the_action() -> None:
    agent, _ = agent_after("noisy-dqn", "CartPole-v1", 1100)
    assert isinstance(agent, DQN)
    with torch.no_grad():
        for name, weights in agent._online.named_parameters():
            weights.fill_(100.0 if name == "head.advantage.bias_std" else 0.0)
        agent._online.head.advantage.bias.copy_(torch.tensor([1.0, 0.0]))  # action 0, unless noise is against it
    draws = torch.Generator()
    draws.set_state(agent._draws.get_state())
    against = []
    for _ in range(8):
        agent._online.resample(draws)
        first, second = 100 * agent._online.head.advantage.noise_out + torch.tensor([1.0, 0.0])
        against.append(bool(second > first))
    assert 0 < sum(against) < 8
    assert float(agent.health()["health/swayed_by_noise"]) == sum(against) / 8
    with torch.no_grad():
        agent._online.head.advantage.bias_std.zero_()
    assert float(agent.health()["health/swayed_by_noise"]) == 0
    assert "health/swayed_by_noise" not in agent_after("dqn", "CartPole-v1", 1100)[0].health()


@pytest.mark.parametrize(("gamma", "name"), [(0.9, "q-learning"), (1.0, "q-learning"), (0.9, "dqn")])
def test_what_is_promised_and_what_comes_are_exact_where_the_model_is_known(gamma: float, name: str) -> None:
    config = resolve(name, "FrozenLake-v1", {"agent": {"gamma": gamma}, "run": {"seed": 0}})
    known = truth(config)
    assert known is not None
    environment = make_environment(config, name == "dqn")
    agent = make_agent(config, environment.spec, "cpu")
    told = exact_values(Policy(agent, 4, 0.0, 0), known, gamma)
    first = agent.values(np.array([0]) if name == "dqn" else 0)  # type: ignore[attr-defined]
    assert told["health/predicted_return"] == pytest.approx(float(np.asarray(first).max()))
    always_left = np.zeros(16, np.int64)
    if name == "q-learning":  # a fresh table: all values equal, action 0
        assert policy_value(known.mdp, always_left, 0.9) == pytest.approx(0.0, abs=1e-6)
        assert told["health/realised_return"] == pytest.approx(0.0, abs=1e-6)
    best = optimal_values(known.mdp, 0.9)
    value = policy_value(known.mdp, best.argmax(1)[: known.mdp.num_observations], 0.9)
    assert value == pytest.approx(best[0].max(), abs=1e-5)


class Constant:
    """Values of its own; always to the right."""

    batched = False

    def act(self, obs: Any, first: Any, explore: bool) -> tuple[int, None]:
        return 1, None

    def values(self, obs: Any) -> list[float]:
        return [2.0, 7.0]


def test_the_return_that_comes_is_discounted_and_of_first_episodes() -> None:
    config = resolve("linear-q", "CartPole-v1", {})
    policy = Policy(Constant(), 2, 0.0, 0)  # type: ignore[arg-type]
    played = play(config, policy, 3, 0, "test", 0.5)
    length = played.returns[0]
    assert played.values["health/predicted_return"] == 7.0
    assert played.values["health/realised_return"] == pytest.approx(2 * (1 - 0.5**length))
    assert play(config, policy, 3, 0, "test").values == {}


def test_troubles_are_told_when_they_begin() -> None:
    config = resolve("dqn", "CartPole-v1", {"agent": {"gamma": 0.9}})
    alarms = Alarms(config)

    def heard(step: int, **signs: float) -> list[str]:
        return alarms.hear({"agent_steps": step, **{f"health/{name}": value for name, value in signs.items()}})

    assert heard(1, largest_q=1e6, largest_reward=0.0) == []  # nothing is known of the rewards yet
    assert heard(2, largest_q=20.0, largest_reward=1.0) == []
    assert ["values diverge" in text and "at 3 agent steps" in text for text in heard(3, largest_q=20.1)] == [True]
    assert heard(4, largest_q=30.0) == []
    assert heard(5, largest_q=10.0) == []
    assert alarms.under_way == {}
    assert alarms.ever == {"health/largest_q": True}
    assert heard(6, largest_q=21.0) == list(alarms.under_way.values()) != []
    assert heard(7, dormant=0.75, gradient_norm=1e-9) == []
    assert alarms.ever == {"health/largest_q": True, "health/dormant": False, "health/gradient_norm": False}
    assert len(heard(8, dormant=0.76, gradient_norm=0.0)) == 2
    assert heard(9) == []
    assert Alarms(resolve("q-learning", "FrozenLake-v1", {"agent": {"gamma": 1.0}})).hear(
        {"agent_steps": 1, "health/largest_q": 1e9, "health/largest_reward": 1.0}
    ) == []  # fmt: skip


@pytest.mark.parametrize(
    ("agent", "settings", "most"),
    [
        ("nstep-dqn", {"agent": {"gamma": 0.5}, "replay": {"n_step": 2}}, 2 * 1 / 0.75),  # 1 is folded of 2 / 3 each
        ("munchausen-dqn", {"agent": {"gamma": 0.5, "munchausen_scale": 0.9}}, 2 * (2 + 1.8)),
    ],
)
def test_what_can_be_earned_counts_folded_rewards_and_bonuses(
    agent: str, settings: dict[str, Any], most: float
) -> None:
    alarms = Alarms(resolve(agent, "CartPole-v1", settings))
    told = {"agent_steps": 1, "health/largest_reward": 1.0}
    assert alarms.hear({**told, "health/largest_q": most - 0.01}) == []
    assert len(alarms.hear({**told, "health/largest_q": most + 0.01})) == 1


def test_a_run_tells_its_health_and_a_resume_tells_the_same(tmp_path: Path) -> None:
    settings = {"run": {"steps": 2400, "health_every": 400, "eval_every": 800, "checkpoint_every": 800}}
    whole = train("dqn", "CartPole-v1", settings=settings, out=tmp_path / "whole")["run"]
    parts = tmp_path / "parts"
    train("dqn", "CartPole-v1", settings=settings, out=parts, until=1000)
    resumed = train("dqn", "CartPole-v1", settings=settings, out=parts, resume=True)["run"]
    signs = [r for r in records(whole) if "health/dormant" in r]
    assert [r["agent_steps"] for r in signs] == [1200, 1600, 2000, 2400]  # after the first update, and at the end
    assert [r for r in records(resumed) if "health/dormant" in r] == signs
    evaluations = [r for r in records(whole) if "eval/return" in r]
    assert len(evaluations) == 3  # the last one is of the final weights, by the protocol
    assert all(r["health/realised_return"] > 1 and "health/predicted_return" in r for r in evaluations[:2])
    last = [r for r in records(whole, without_time=False) if "time/share_learning" in r][-1]
    assert sum(v for tag, v in last.items() if tag.startswith("time/share_")) == pytest.approx(1.0)


@pytest.mark.parametrize(("name", "n_step"), [("dqn", 1), ("dqn", 7), ("per-dqn", 3), ("drqn", 3)])
def test_a_resume_without_its_replay_looks_again_when_there_is_something_to_see(
    tmp_path: Path, name: str, n_step: int
) -> None:
    run = {"steps": 800, "health_every": 4, "checkpoint_every": 400, "checkpoint_replay": False}
    settings = {"run": {**run, "learning_starts": 200, "update_every": 8}, "replay": {"n_step": n_step}}
    train(name, "CartPole-v1", settings=settings, out=tmp_path, until=400)
    resumed = train(name, "CartPole-v1", settings=settings, out=tmp_path, resume=True)["run"]
    looks = [r["agent_steps"] for r in records(resumed) if "health/dormant" in r]
    assert looks[0] in range(200, 213)
    assert set(range(600, 801, 4)) <= set(looks)
    assert min(steps for steps in looks if steps > 400) > 400 + n_step


def test_health_can_be_switched_off(tmp_path: Path) -> None:
    settings = {"run": {"steps": 300, "health_every": 0}}
    run = train("q-learning", "CliffWalking-v1", settings=settings, out=tmp_path)["run"]
    assert not any("health/td_error_p50" in r for r in records(run))


def test_a_run_that_diverges_says_so_on_standard_error(tmp_path: Path) -> None:
    wild = ["--agent.gamma", "0.9", "--agent.learning-rate", "10", "--run.steps", "1500", "--run.health-every", "100"]
    done = qladder("train", "dqn", "CartPole-v1", *wild, "--out", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.count("values diverge") == 1
    again = qladder("train", "dqn", "CartPole-v1", *wild, "--run.steps", "2000", "--out", str(tmp_path), "--resume",
                    cwd=tmp_path)  # fmt: skip
    assert again.returncode == 0
    assert "values diverge" not in again.stderr  # it was told before
    (summary,) = tmp_path.glob("*/summary.json")
    assert json.loads(summary.read_text())["alarms"]["health/largest_q"]


def busy_learning(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))


def test_shares_are_of_what_the_thread_that_entered_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qladder.runners.shares.ROOT", str(Path(busy_learning.__code__.co_filename).parent.parent))
    monkeypatch.setattr("qladder.runners.shares.PARTS", {("tests", "busy_learning"): "learning"})
    before = threading.active_count()
    with Shares() as shares:
        busy_learning(20 * PERIOD)
        told = shares.take()
    assert told.get("time/share_learning", 0) > 0.5
    assert sum(told.values()) == pytest.approx(1.0)
    assert threading.active_count() == before
