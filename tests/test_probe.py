"""The dummy batch before training: it passes every agent of the family and sees what is planted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qladder.agents.agent import EnvSpec
from qladder.agents.probe import ROWS, dummy_batch, probe
from qladder.agents.values import Mean, Target
from qladder.envs.errors import FaultyUpdateError
from qladder.runners.config import resolve
from qladder.runners.loading import make_agent, make_environment
from qladder.runners.training import train

FAMILY = (
    "dqn", "double-dqn", "dueling-dqn", "nstep-dqn", "per-dqn", "noisy-dqn", "c51", "qr-dqn", "iqn", "munchausen-dqn",
    "m-iqn", "rainbow",
)  # fmt: skip


def made(agent: str, env: str, settings: dict[str, Any] | None = None) -> Any:
    config = resolve(agent, env, settings or {})
    environment = make_environment(config, batched=True)
    environment.close()
    return make_agent(config, environment.spec, "cpu")


def contents(state: Any) -> Any:
    if isinstance(state, dict):
        return {k: contents(v) for k, v in state.items()}
    return state.tolist() if isinstance(state, Tensor | np.ndarray) else state


ENVS = ("CartPole-v1", "qladder/Catch-v0", "Taxi-v4")
CASES: list[tuple[str, str, dict[str, Any]]] = [*((name, env, {}) for name in FAMILY for env in ENVS)]
CASES += [("dqn", "ALE/Pong-v5", {}), ("rainbow", "ALE/Pong-v5", {}), ("dqn", "CartPole-v1", {"gamma": 0.0})]
CASES += [("c51", "CartPole-v1", {"support": [-1e-3, 1e-3]})]
CASES += [
    *((name, env, {}) for name in ("drqn", "r2d2") for env in (*ENVS, "qladder/CartPoleHidden-v0")),
    ("r2d2", "ALE/Pong-v5", {"core_size": 32}),
    ("r2d2", "CartPole-v1", {"initial_state": "stored", "core": "gru"}),
    ("drqn", "Taxi-v4", {"double": False, "gamma": 0.0}),
]
CASES += [*(("pqn", env, {}) for env in (*ENVS, "ALE/Pong-v5")), ("pqn", "Taxi-v4", {"gamma": 0.0})]
CASES += [("pqn", "CartPole-v1", {"trace_decay": trace_decay}) for trace_decay in (0.0, 1.0)]


@pytest.mark.parametrize(("name", "env", "settings"), CASES)
def test_agents_pass_and_nothing_of_them_changes(name: str, env: str, settings: dict[str, Any]) -> None:
    agent = made(name, env, {"agent": settings} | ({} if name == "pqn" else {"replay": {"capacity": 2_000}}))
    before = contents({k: v for k, v in agent.state_dict().items() if k != "replay"})
    agent.probe()
    assert contents({k: v for k, v in agent.state_dict().items() if k != "replay"}) == before
    network = agent._network if name == "pqn" else agent._online
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("seed", [18, 56, 195])
def test_a_network_that_answers_all_alike_is_no_fault_of_the_update(seed: int) -> None:
    """Behind sixteen narrow plain layers observations of these seeds' networks differ by less than a rounding."""
    settings = {"agent": {"hidden": [16] * 16, "scale_inputs": True}, "run": {"seed": seed}}
    agent = made("dqn", "CartPole-v1", settings)
    obs = torch.rand(100, 4)
    assert agent._online(obs).std(0).max() < 1e-6
    agent.probe()
    made("pqn", "Taxi-v4", {"agent": {"hidden": [64] * 6, "norm": "none", "trace_decay": 0.0}}).probe()
    made("r2d2", "CartPole-v1", {"agent": {"hidden": [4] * 24, "core_size": 4}}).probe()


def detached_target(agent: Any) -> None:
    agent._target = agent._online


def no_mask(agent: Any) -> None:
    right = agent._loss
    agent._loss = lambda batch: right(batch._replace(mask=np.ones_like(batch.mask)))


def no_end(agent: Any) -> None:
    right = agent._loss
    agent._loss = lambda batch: right(batch._replace(discount=np.full_like(batch.discount, 0.9)))


def always_an_end(agent: Any) -> None:
    right = agent._loss
    agent._loss = lambda batch: right(batch._replace(discount=np.zeros_like(batch.discount)))


def rows_that_mix(agent: Any) -> None:
    right = agent._loss
    agent._loss = lambda batch: right(batch._replace(obs=np.roll(batch.obs, 1, axis=1)))


def not_finite(agent: Any) -> None:
    right = agent._loss
    agent._loss = lambda batch: right(batch._replace(reward=batch.reward * np.inf))


SEQUENCE_FAULTS = [
    (detached_target, "the targets carry a gradient"),
    (no_mask, "the loss depends on steps that there are not"),
    (no_end, "the targets of terminal transitions depend on what follows"),
    (always_an_end, "no target depends on what follows"),
    (rows_that_mix, "the TD error of a sequence depends on others"),
    (not_finite, "an update of ordinary numbers is not finite"),
]


@pytest.mark.parametrize(("fault", "said"), SEQUENCE_FAULTS)
def test_what_is_no_update_of_sequences_is_named(fault: Callable[[Any], None], said: str) -> None:
    agent = made("drqn", "CartPole-v1")
    fault(agent)
    with pytest.raises(FaultyUpdateError, match=said):
        agent.probe()


def lambda_faults(agent: Any, targets: Callable[[Any, Any], Any]) -> None:
    """Targets of steps whose discounts and values are as this says, of a rollout."""
    right = agent._targets

    def wrong(rollout: Any) -> Any:
        return targets(right, rollout)

    agent._targets = wrong


def ends_ignored(right: Any, rollout: Any) -> Any:
    for discount in rollout._steps["discount"]:
        discount[:] = 1
    for last in rollout._steps["last"]:
        last[:] = False
    return right(rollout)


def nothing_follows(right: Any, rollout: Any) -> Any:
    for discount in rollout._steps["discount"]:
        discount[:] = 0
    return right(rollout)


def environments_swapped(right: Any, rollout: Any) -> Any:
    obs, action, target = right(rollout)
    return obs.roll(1, 0), action, target


def a_column_of_targets(right: Any, rollout: Any) -> Any:
    obs, action, target = right(rollout)
    return obs, action, target[:, None]


def endless_rewards(right: Any, rollout: Any) -> Any:
    obs, action, target = right(rollout)
    return obs, action, target * torch.inf


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (ends_ignored, "the targets of steps that end an episode depend on what follows"),
        (nothing_follows, "no target depends on what follows"),
        (environments_swapped, "the TD error of an environment depends on the others"),
        (a_column_of_targets, r"targets are \(24, 1\)"),
        (endless_rewards, "an update of ordinary numbers is not finite"),
    ],
)
def test_what_is_no_update_of_a_rollout_is_named(fault: Callable[[Any, Any], Any], said: str) -> None:
    agent = made("pqn", "CartPole-v1")
    lambda_faults(agent, fault)
    with pytest.raises(FaultyUpdateError, match=said):
        agent.probe()


def test_weights_of_a_rollouts_network_that_nothing_reaches_are_named() -> None:
    agent = made("pqn", "CartPole-v1")
    agent._network.idle = nn.Linear(2, 2)
    with pytest.raises(FaultyUpdateError, match=r"no gradient reaches idle\.weight, idle\.bias"):
        agent.probe()


class Plain:
    """Q-learning in a few lines, each of which a test below breaks."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.online, self.target = nn.Linear(3, 2), nn.Linear(3, 2)
        for net in (self.online, self.target):
            for p in net.parameters():
                nn.init.normal_(p, generator=generator)
        self.target.requires_grad_(False)

    def following(self, next_obs: Tensor, discount: Tensor) -> Tensor:
        return discount * self.target(next_obs).max(1).values

    def targets(self, reward: Tensor, following: Tensor) -> Tensor:
        return reward + following

    def taken(self, q: Tensor, action: Tensor) -> Tensor:
        return q.gather(1, action[:, None])[:, 0]

    def reduce(self, td: Tensor) -> Tensor:
        return td.square().mean()

    def see(self, batch: Any) -> Any:
        obs, action, reward, discount, next_obs = map(torch.from_numpy, batch[:5])
        target = self.targets(reward, self.following(next_obs, discount))
        td = target - self.taken(self.online(obs), action)
        return Seen(target[:, None], td, self.reduce(td))


class Seen:
    def __init__(self, target: Tensor, td: Tensor, loss: Tensor) -> None:
        self.target, self.td, self.loss = target, td, loss


SPEC = EnvSpec("three numbers", 1, True, (3,), "float32", None, 2)


def look_at(agent: Plain) -> None:
    rng = np.random.default_rng(0)
    batch, others = (dummy_batch(SPEC, 2, 0.9, rng) for _ in range(2))
    probe(agent.see, agent.online, agent.target, batch, others)


def test_plain_q_learning_passes() -> None:
    look_at(Plain())


FAULTS: dict[str, tuple[str, Callable[[Plain], Any], str]] = {
    "terminals not masked": (
        "following",
        lambda agent: lambda next_obs, _: 0.9 * agent.target(next_obs).max(1).values,
        "terminal transitions depend on what follows",
    ),
    "masked the other way": (
        "following",
        lambda agent: lambda next_obs, discount: (0.9 - discount) * agent.target(next_obs).max(1).values,
        "terminal transitions depend on what follows",
    ),
    "never bootstrapped": ("following", lambda _: lambda _, discount: 0 * discount, "no target depends"),
    "the online network in the target, not detached": (
        "following",
        lambda agent: lambda next_obs, discount: discount * agent.online(next_obs).max(1).values,
        "the targets carry a gradient",
    ),
    "(B,) less (B, 1)": (
        "taken",
        lambda _: lambda q, action: q.gather(1, action[:, None]),
        rf"TD errors \({ROWS}, {ROWS}\)",
    ),
    "a batch's mean taken off": ("targets", lambda _: lambda r, v: r - r.mean() + v, "depends on others"),
    "not reduced": ("reduce", lambda _: Tensor.square, r"the loss \(8,\)"),
    "detached": ("reduce", lambda _: lambda td: td.detach().square().mean(), "the loss has no gradient"),
    "no weight in it": ("reduce", lambda _: lambda td: 0 * td.mean(), "the gradient is zero"),
    "the root of nothing": ("reduce", lambda _: lambda td: (0 * td).sqrt().mean(), "a gradient of .* not finite"),
    "a logarithm": ("targets", lambda _: lambda r, v: (r + v).log(), "ordinary numbers is not finite"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_no_update_is_named(name: str) -> None:
    part, fault, said = FAULTS[name]
    agent = Plain()
    setattr(agent, part, fault(agent))
    with pytest.raises(FaultyUpdateError, match=said):
        look_at(agent)


def test_parameters_that_nothing_reaches_and_targets_that_learn_are_named() -> None:
    agent = Plain()
    agent.online.idle = nn.Linear(2, 2)
    with pytest.raises(FaultyUpdateError, match=r"no gradient reaches idle\.weight, idle\.bias"):
        look_at(agent)
    agent = Plain()
    agent.target.requires_grad_(True)
    with pytest.raises(FaultyUpdateError, match="carry a gradient"):
        look_at(agent)


def test_a_run_whose_update_is_none_ends_before_its_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unmasked(_: Mean, out: Tensor, policy: Tensor, reward: Tensor, __: Tensor) -> Target:
        return Target((reward + 0.99 * (policy * out[..., 0]).sum(1))[:, None], None)

    monkeypatch.setattr(Mean, "target", unmasked)
    with pytest.raises(FaultyUpdateError, match="terminal transitions depend on what follows"):
        train("dqn", "CartPole-v1", settings={"run": {"steps": 100}}, out=tmp_path)
    (run,) = tmp_path.iterdir()
    assert json.loads((run / "manifest.json").read_text())["exit_reason"].startswith("failed: FaultyUpdateError")
    assert (run / "metrics.jsonl").read_text() == ""
