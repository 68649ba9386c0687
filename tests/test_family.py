"""Every part of the deep family against an exact oracle, and parts that exclude each other."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import coins
import corridor
import numpy as np
import pytest
import torch
from learning import trained

from qladder.agents.dqn import DQN
from qladder.agents.objective import Transitions
from qladder.envs.errors import UserError
from qladder.envs.mdp import FiniteMDP, optimal_values
from qladder.replay.types import Step
from qladder.runners.config import resolve
from qladder.runners.diff import diff
from qladder.runners.evaluation import truth
from qladder.runners.loading import make_agent, make_environment
from qladder.runners.shipped import agent_entry, agent_names

INNER = [s for s in range(16) if s not in (5, 7, 11, 12, 15)]  # of FrozenLake: terminal states are never acted in
GAMMA = 0.9
RATE = {"start": 0.02, "end": 0.0, "over": 4000, "clock": "updates"}


def learnt(name: str, env_id: str, steps: int, agent: dict[str, Any], **sections: Any) -> DQN:
    settings = {
        "hidden": [],
        "init": "fan-in",
        "gamma": GAMMA,
        "learning_rate": RATE,
        "target_period": 20,
        "epsilon": 1.0,
    }
    flags = {"agent": {**settings, **agent}, "replay": {"batch_size": 64}, **sections}
    return trained(resolve(name, env_id, flags), steps)


def lake() -> FiniteMDP:
    known = truth(resolve("q-learning", "FrozenLake-v1", {"env": {"kwargs": {"is_slippery": False}}}))
    assert known is not None
    return known.mdp


@pytest.mark.parametrize(
    ("name", "settings", "tolerance"),
    [
        ("double-dqn", {"loss": "mse"}, 1e-3),
        ("dueling-dqn", {"loss": "mse"}, 2e-3),
        ("per-dqn", {"loss": "mse"}, 2e-3),
        ("c51", {"support": [0.0, 1.0]}, 0.02),
        ("qr-dqn", {"atoms": 8}, 0.01),
        ("iqn", {"hidden": [64], "atoms": 8, "act_fractions": 8, "learning_rate": {**RATE, "start": 0.005}}, 0.02),
    ],
)
def test_linear_relatives_find_the_values_of_value_iteration(
    name: str, settings: dict[str, Any], tolerance: float
) -> None:
    env = {"kwargs": {"is_slippery": False}}
    q = learnt(name, "FrozenLake-v1", 8500, settings, env=env).values(np.arange(16)).numpy()
    assert q[INNER] == pytest.approx(optimal_values(lake(), GAMMA)[INNER], abs=tolerance)


def test_munchausen_finds_the_fixed_point_of_its_own_equation() -> None:
    alpha, tau, floor = 0.5, 0.05, -0.2
    settings = {"munchausen_scale": alpha, "munchausen_temperature": tau, "munchausen_floor": floor, "loss": "mse"}
    env = {"kwargs": {"is_slippery": False}}
    q = learnt("munchausen-dqn", "FrozenLake-v1", 8500, settings, env=env).values(np.arange(16)).numpy()
    mdp, exact = lake(), np.zeros((16, 4))
    for _ in range(2000):
        log_pi = exact / tau - np.log(np.exp(exact / tau).sum(1, keepdims=True))
        soft = (np.exp(log_pi) * (exact - tau * log_pi)).sum(1)
        exact = mdp.backup(GAMMA * soft) + alpha * np.clip(tau * log_pi, floor, 0)
    assert abs(exact - optimal_values(mdp, GAMMA))[INNER].max() > 0.05  # another equation than Bellman's
    assert q[INNER] == pytest.approx(exact[INNER], abs=5e-3)


@pytest.mark.parametrize(
    ("settings", "values"),
    [({"distribution": "mean"}, [5.0]), ({"distribution": "quantile", "atoms": 2}, [5.0, 6.0])],
)
@pytest.mark.parametrize("double", [False, True])
def test_the_double_target_takes_the_targets_value_of_the_onlines_choice(
    settings: dict[str, Any], values: list[float], double: bool
) -> None:
    """As van Hasselt et al. (2016) have it: the online network prefers action 0, the target network action 1."""
    agent = learnt("dqn", "corridor:tests/Corridor-v0", 300, {"hidden": [], "double": double, **settings})
    with torch.no_grad():
        for network, biases in ((agent._online, [[8.0] * 2, [1.0] * 2]), (agent._target, [[5.0, 6.0], [10.0, 20.0]])):
            for parameter in network.parameters():
                parameter.zero_()
            network.head.outputs[0].bias.copy_(torch.tensor(biases)[:, : len(values)].flatten())  # type: ignore[operator]
    states, reward, discount = torch.tensor([1, 2]), torch.tensor([1.0, 3.0]), torch.tensor([0.5, 0.0])
    batch = Transitions(states, torch.tensor([0, 0]), reward, discount, states, torch.ones(2))
    found, _ = agent._objective.target(batch)
    chosen = values if double else [10.0, 20.0][: len(values)]
    assert found.tolist() == [[1.0 + 0.5 * value for value in chosen], [3.0] * len(values)]


def test_munchausens_policies_are_both_the_target_networks() -> None:
    settings = {"munchausen_temperature": 0.1, "target_period": 1_000_000, "loss": "mse", "hidden": []}
    agent = learnt("munchausen-dqn", "corridor:tests/Corridor-v0", 700, settings)
    online, q = (n(torch.arange(corridor.LENGTH))[..., 0].detach() for n in (agent._online, agent._target))
    assert (online - q).abs().max() > 0.3
    obs, action, next_obs = torch.tensor([0, 2]), torch.tensor([1, 0]), torch.tensor([1, 1])
    reward, discount = torch.tensor([0.5, 1.0]), torch.tensor([GAMMA, 0.0])
    found, _ = agent._objective.target(Transitions(obs, action, reward, discount, next_obs, torch.ones(2)))
    log_pi = (q / 0.1).log_softmax(1)
    soft = (log_pi.exp() * (q - 0.1 * log_pi)).sum(1)
    expected = reward + 0.9 * (0.1 * log_pi[obs, action]).clamp(-1, 0) + discount * soft[next_obs]
    assert found[:, 0].tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_an_implicit_quantile_update_is_the_naive_double_loop_at_its_own_fractions() -> None:
    agent = learnt("iqn", "corridor:tests/Corridor-v0", 300, {"hidden": [16], "atoms": 5, "act_fractions": 7})
    online, draws = copy.deepcopy(agent._online), torch.Generator()
    obs, action, next_obs = torch.tensor([0, 2]), torch.tensor([1, 0]), torch.tensor([1, 1])
    reward, discount = torch.tensor([0.5, 1.0]), torch.tensor([GAMMA, 0.0])
    states, seven = torch.arange(corridor.LENGTH), (torch.arange(7) + 0.5) / 7
    spread = online(states, seven.expand(corridor.LENGTH, -1)).mean(-1).detach()
    assert torch.allclose(agent.values(states.numpy()), spread, atol=1e-6)

    @torch.no_grad()
    def best(fractions: torch.Tensor) -> list[int]:
        return agent._target(next_obs, fractions.expand(2, -1)).mean(-1).argmax(1).tolist()

    with torch.no_grad():  # all but a tie, so that other fractions may prefer the other action
        q = agent._target(next_obs[:1], seven[None])[0].mean(-1)
        agent._target.head.outputs[0].bias[1] += q[0] - q[1] + 1e-4  # type: ignore[operator]
    for seed in range(1000):  # until another action looks best at the fractions drawn than at those that choose
        agent._draws.manual_seed(seed)
        draws.manual_seed(seed)
        target_at, online_at = (torch.rand(2, 5, generator=draws) for _ in range(2))
        if best(target_at)[0] != best(seven)[0]:
            break
    assert best(target_at)[0] != best(seven)[0]
    learned = agent._improve(Transitions(obs, action, reward, discount, next_obs, torch.ones(2)))
    with torch.no_grad():
        future, out = agent._target(next_obs, target_at), online(obs, online_at)
    total = 0.0
    for b in range(2):
        for tau, z in zip(online_at[b], out[b, action[b]], strict=True):
            for z_next in future[b, best(seven)[b]]:
                u = float(reward[b] + discount[b] * z_next - z)
                total += abs(float(tau) - (u < 0)) * (u * u / 2 if abs(u) <= 1 else abs(u) - 0.5) / 5
    assert float(learned.loss) == pytest.approx(total / 2, rel=1e-4)


def test_three_steps_find_the_value_of_exploring_twice_before_being_greedy() -> None:
    """Uncorrected n-step returns have the behaviour's actions in them, here uniformly random ones."""
    q = learnt("nstep-dqn", "corridor:tests/Corridor-v0", 8500, {"loss": "mse"}, replay={"n_step": 3, "batch_size": 64})
    mdp, exact = corridor.model(), np.zeros((corridor.LENGTH, 2))
    for _ in range(200):
        following = exact.max(1)
        for _ in range(2):
            following = mdp.backup(GAMMA * following).mean(1)
        exact = mdp.backup(GAMMA * following)
    assert abs(exact - optimal_values(mdp, GAMMA)).max() > 0.5  # another equation than Bellman's
    assert q.values(np.arange(corridor.LENGTH)).numpy() == pytest.approx(exact, abs=0.05)


def test_noise_fades_where_it_is_of_no_use_and_leaves_the_values_of_value_iteration() -> None:
    """From the steps of a random player, so that exploration does not fade with the noise."""
    flags = {"hidden": [], "gamma": GAMMA, "learning_rate": RATE, "target_period": 20, "loss": "mse", "noisy_std": 0.1}
    env_flags = {"kwargs": {"is_slippery": False}}
    config = resolve("noisy-dqn", "FrozenLake-v1", {"agent": flags, "env": env_flags, "replay": {"batch_size": 64}})
    env = make_environment(config, batched=True)
    agent, rng = make_agent(config, env.spec, "cpu"), np.random.default_rng(0)
    assert isinstance(agent, DQN)
    obs = env.reset()
    for _ in range(3000):
        action = rng.integers(4, size=1)
        step = env.step(action)
        agent.observe(Step(obs, action, step.reward, step.discount, step.last, step.next_obs))
        obs = step.obs
    env.close()
    agent.learn(4000)
    quiet = agent.values(np.arange(16)).numpy()
    assert quiet[INNER] == pytest.approx(optimal_values(lake(), GAMMA)[INNER], abs=5e-3)
    agent._online.resample(agent._draws)
    assert abs(agent.values(np.arange(16), noisy=True).numpy() - quiet)[INNER].max() < 0.05


def test_acting_follows_the_noise_that_it_draws() -> None:
    agent = learnt("noisy-dqn", "FrozenLake-v1", 300, {"epsilon": 0.0, "hidden": [], "noisy_std": 20.0})
    states, first, seen = np.arange(16), np.zeros(16, np.bool_), set()
    for _ in range(10):
        action, _ = agent.act(states, first, True)
        assert action.tolist() == agent.values(states, noisy=True).argmax(1).tolist()
        seen.add(tuple(action.tolist()))
    assert len(seen) == 10
    assert agent.act(states, first, False)[0].tolist() == agent.values(states).argmax(1).tolist()


def test_every_update_draws_the_noise_of_either_network_and_acting_that_of_one() -> None:
    agent = learnt("noisy-dqn", "FrozenLake-v1", 502, {"epsilon": 0.0, "hidden": [32]})

    def noise() -> list[torch.Tensor]:
        return [n.head.advantage.noise_in.clone() for n in (agent._online, agent._target)]  # type: ignore[operator]

    before = noise()
    agent.act(np.array([0]), np.array([False]), True)
    acted = noise()
    agent.learn(1)
    learned = noise()
    assert not torch.equal(before[0], acted[0])
    assert torch.equal(before[1], acted[1])
    assert all(not torch.equal(a, b) for a, b in zip(acted, learned, strict=True))
    assert not torch.equal(*learned)


def test_what_chooses_what_values_and_what_is_fitted_have_noise_of_their_own() -> None:
    agent = learnt("noisy-dqn", "FrozenLake-v1", 502, {"epsilon": 0.0, "hidden": [32], "double": True})
    used: list[torch.Tensor] = []
    for network in (agent._online, agent._target):
        layer = network.head.advantage
        layer.register_forward_pre_hook(lambda layer, _: used.append(layer.noise_in.clone()))
    agent.learn(1)
    assert len(used) == 3
    assert all(not torch.equal(one, other) for one, other in itertools.combinations(used, 2))


@pytest.mark.parametrize("name", ["c51", "qr-dqn", "iqn"])
def test_distributions_are_those_of_the_coins(name: str) -> None:
    settings: dict[str, Any] = {"gamma": coins.SECOND_GAMMA, "hidden": [64] if name == "iqn" else []}
    settings["learning_rate"] = {"start": 0.1 if name != "iqn" else 0.01, "end": 0.0, "over": 2200, "clock": "updates"}
    if name == "c51":
        settings |= {"support": [0.0, 60.0], "atoms": 7}
    elif name == "qr-dqn":
        settings |= {"atoms": 4}
    agent = learnt(name, "coins:tests/Coins-v0", 5000, settings)
    state = torch.tensor([0])
    mean = sum(value * odds for value, odds in coins.VALUES.items())
    assert agent.values(np.array([0]))[0].tolist() == pytest.approx([mean, 2.0], abs=1.5)
    with torch.no_grad():
        if name == "c51":
            odds = agent._online(state)[0, 0].softmax(0)
            expected = [coins.VALUES.get(v, 0.0) for v in np.linspace(0, 60, 7)]
            assert odds.tolist() == pytest.approx(expected, abs=0.04)
        elif name == "qr-dqn":
            found = agent._online(state)[0, 0].sort().values
            assert found.tolist() == pytest.approx([coins.quantile(f) for f in (0.125, 0.375, 0.625, 0.875)], abs=2.5)
        else:
            fractions = torch.tensor([[0.125, 0.375, 0.625, 0.875]])
            found = agent._online(state, fractions)[0, 0]
            assert found.tolist() == pytest.approx([coins.quantile(float(f)) for f in fractions[0]], abs=4)


def test_noise_acts_and_learns_but_is_silent_in_evaluation() -> None:
    env = {"kwargs": {"is_slippery": False}}
    settings = {"epsilon": 0.0, "hidden": [32]}
    agent = learnt("noisy-dqn", "FrozenLake-v1", 1500, settings, env=env)
    states, first = np.arange(16), np.zeros(16, np.bool_)
    quiet = agent.values(states)
    agent._online.resample(agent._draws)
    assert torch.equal(agent.values(states), quiet)
    loud = [agent.values(states, noisy=True)]
    assert torch.equal(agent.values(states, noisy=True), loud[0])  # until it is drawn anew
    agent._online.resample(agent._draws)
    assert not torch.allclose(agent.values(states, noisy=True), loud[0])
    before = agent._draws.get_state()
    agent.act(states, first, False)
    assert torch.equal(agent._draws.get_state(), before)
    agent.act(states, first, True)
    assert not torch.equal(agent._draws.get_state(), before)
    start = 0.5 / 32**0.5
    std = agent._online.head.advantage.weight_std
    assert isinstance(std, torch.Tensor)
    assert (std - start).abs().max() > 1e-3  # it is learnt
    assert not torch.equal(agent._online.head.advantage.noise_in, agent._target.head.advantage.noise_in)


def test_dueling_is_the_value_and_the_advantages_less_their_mean() -> None:
    agent = learnt("dueling-dqn", "FrozenLake-v1", 600, {"hidden": [8]})
    head, states = agent._online.head, torch.arange(16)
    h = torch.relu(head.hidden(agent._online.trunk(states)))
    advantage = h[:, :8] @ head.advantage.weight.T + head.advantage.bias
    value = h[:, 8:] @ head.value.weight.T + head.value.bias
    expected = value + advantage - advantage.mean(1, keepdim=True)
    assert torch.allclose(agent._online(states)[..., 0], expected, atol=1e-6)


@pytest.mark.parametrize("name", ["per-dqn", "noisy-dqn", "iqn", "rainbow"])
def test_the_same_state_goes_on_the_same_way(name: str) -> None:
    extra: dict[str, Any] = {"epsilon": 0.0} if name in ("noisy-dqn", "rainbow") else {}
    if name == "rainbow":
        extra["support"] = [0.0, 1.0]
    one, other = (learnt(name, "FrozenLake-v1", steps, {"hidden": [16], **extra}) for steps in (715, 510))
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    first = np.zeros(1, np.bool_)
    for agent in (one, other):
        agent.learn(5)
    assert one.act(np.array([3]), first, True)[0] == other.act(np.array([3]), first, True)[0]
    for a, b in zip(one._online.state_dict().values(), other._online.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_priorities_are_the_latest_errors() -> None:
    agent = learnt("per-dqn", "FrozenLake-v1", 600, {"importance": {"start": 0.4, "end": 1.0, "over": 1000}})
    seen: dict[str, Any] = {}
    update, sample = agent._replay.update, agent._replay.sample

    def note(index: Any, error: Any) -> None:
        seen.update(index=index, error=error)
        update(index, error)

    def noted(n: int, importance: float = 0.0) -> Any:
        seen.update(batch=sample(n, importance), importance=importance)
        return seen["batch"]

    agent._replay.update, agent._replay.sample = note, noted  # type: ignore[method-assign]
    q = agent._online(torch.arange(16))[..., 0].detach()
    next_q = agent._target(torch.arange(16))[..., 0]
    agent.learn(1)
    batch = seen["batch"]
    target = torch.as_tensor(batch.reward) + torch.as_tensor(batch.discount) * next_q[batch.next_obs].amax(1)
    expected = (target - q[batch.obs, batch.action]).abs()
    assert seen["index"].tolist() == batch.index.tolist()
    assert seen["error"].tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert seen["importance"] == pytest.approx(0.4 + 0.6 * 600 / 1000)


@pytest.mark.parametrize(
    ("name", "flags", "said"),
    [
        ("munchausen-dqn", {"agent": {"double": True}}, r"agent\.munchausen with agent\.double"),
        ("munchausen-dqn", {"replay": {"n_step": 3}}, r"agent\.munchausen with replay\.n_step = 3"),
        ("noisy-dqn", {"agent": {"epsilon": 0.1}}, r"agent\.noisy with agent\.epsilon above 0"),
        ("noisy-dqn", {"agent": {"explore_power": 2.0}}, r"agent\.noisy with agent\.explore_power"),
        ("dqn", {"agent": {"distribution": "categorical", "loss": "huber"}}, "categorical' without agent.support"),
        ("c51", {"agent": {"support": [1.0, -1.0]}}, r"agent\.support = \(1\.0, -1\.0\): the lowest return first"),
        ("dqn", {"agent": {"huber_delta": 2.0}}, r"agent\.huber_delta = 2 with agent\.loss = 'mse'"),
        ("c51", {"agent": {"huber_delta": 2.0}}, r"agent\.huber_delta = 2 with agent\.distribution = 'categorical'"),
        ("qr-dqn", {"agent": {"begin_std": 1.0}}, r"agent\.begin_std with agent\.distribution = 'quantile'"),
        ("dqn", {"agent": {"mean_image": True}}, r"agent\.mean_image with agent\.network = 'mlp'"),
        ("dqn", {"agent": {"pixel_scale": 30}}, r"agent\.pixel_scale = 30 with agent\.network = 'mlp'"),
        ("drqn", {"agent": {"mean_image": True}}, r"agent\.mean_image with agent\.core = 'lstm'"),
        ("pqn", {"agent": {"mean_image": True}}, r"agent\.mean_image with pqn"),
        ("qr-dqn", {"agent": {"loss": "mse"}}, r"agent\.loss = 'mse' with agent\.distribution = 'quantile'"),
    ],
)
def test_parts_that_exclude_each_other_are_named(name: str, flags: dict[str, Any], said: str) -> None:
    config = resolve(name, "CartPole-v1", flags)
    spec = make_environment(config, batched=True).spec
    with pytest.raises(UserError, match=said):
        make_agent(config, spec, "cpu")


@pytest.mark.parametrize("parts", [{}, {"dueling": True}, {"noisy": True, "epsilon": 0.0, "dueling": True}])
@pytest.mark.parametrize("support", [(-4.0, 4.0), (0.0, 10.0), (5.0, 25.0)])
def test_distributions_begin_as_narrow_as_asked(parts: dict[str, Any], support: tuple[float, float]) -> None:
    """Around 0, or the end of the support that is nearest to it; else over all of it."""
    for std in (0.5, None):
        flags = {"support": support, "atoms": 201, "begin_std": "none" if std is None else std, **parts}
        config = resolve("c51", "CartPole-v1", {"agent": flags})
        agent = make_agent(config, make_environment(config, batched=True).spec, "cpu")
        obs = torch.rand(9, 4, generator=torch.Generator().manual_seed(0))
        probability = agent._online(obs).softmax(-1)
        values = torch.linspace(*support, 201)
        mean = probability @ values
        found = (probability @ values.square() - mean.square()).sqrt()
        if std is None:
            assert found.min() > 0.25 * (support[1] - support[0])
            continue
        halved = support[0] >= 0  # of a normal distribution cut in two: its mean is 0.8 away, its deviation 0.6
        assert mean.flatten().tolist() == pytest.approx([support[0] + 0.4 if halved else 0.0] * 18, abs=0.1)
        assert found.flatten().tolist() == pytest.approx([0.3 if halved else 0.5] * 18, rel=0.25)


def test_neighbours_differ_in_one_part() -> None:
    parts = {
        "double-dqn": {"agent.double"},
        "dueling-dqn": {"agent.dueling"},
        "nstep-dqn": {"replay.n_step"},
        "per-dqn": {"replay.prioritized", "agent.importance"},
        "noisy-dqn": {"agent.noisy", "agent.epsilon"},
        "c51": {"agent.distribution", "agent.support"},
        "qr-dqn": {"agent.distribution", "agent.atoms"},
        "iqn": {"agent.distribution", "agent.atoms"},
        "munchausen-dqn": {"agent.munchausen"},
    }
    for name, fields in parts.items():
        assert set(diff("dqn", name, "ALE/Pong-v5")["fields"]) == fields
    assert set(diff("iqn", "m-iqn", "ALE/Pong-v5")["fields"]) == {"agent.munchausen"}
    assert set(diff("c51", "rainbow", "ALE/Pong-v5")["fields"]) == {
        "agent.double",
        "agent.dueling",
        *parts["nstep-dqn"],
        *parts["per-dqn"],
        *parts["noisy-dqn"],
    }


def test_what_lists_as_graphable_is() -> None:
    from qladder.agents.learner import _graph_lacks

    for name in agent_names():
        entry = agent_entry(name)
        if entry.cls == agent_entry("dqn").cls:
            config = resolve(name, "ALE/Pong-v5", {})
            lacks = _graph_lacks(config.agent, torch.device("cuda"), config.replay)
            assert (lacks is None) == ("cuda-graph" in entry.learners), name
