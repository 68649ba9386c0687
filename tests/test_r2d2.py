"""Recurrent Q-learning against value iteration, naive targets, unbroken runs, and what it refuses."""

from __future__ import annotations

import copy
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recall
import torch

from qladder.agents.r2d2 import R2D2
from qladder.envs.errors import DivergedError, UserError
from qladder.envs.mdp import optimal_values
from qladder.envs.spec import EnvSpec
from qladder.replay.sequences import SequenceReplay, Sequences
from qladder.replay.types import Step
from qladder.runners import checkpoint, evaluate, load, train
from qladder.runners.config import Config, resolve
from qladder.runners.diff import diff
from qladder.runners.evaluation import Policy, play, truth
from qladder.runners.loading import make_agent, make_environment
from qladder.runners.loop import Ratio, interact

GAMMA = 0.9
RECALL = "recall:tests/Recall-v0"


def settings(name: str, env_id: str, agent: dict[str, Any] | None = None, **sections: Any) -> Config:
    small = {"hidden": [16], "core_size": 16, "gamma": GAMMA, "epsilon": 1.0, "target_period": 20, "loss": "mse"}
    replay = {"capacity": 4000, "length": 8, "period": 4, "batch_size": 16, **sections.pop("replay", {})}
    if name == "r2d2":
        replay = {"burn_in": 3, "n_step": 2, **replay}
    return resolve(name, env_id, {"agent": {**small, **(agent or {})}, "replay": replay, **sections})


def made(config: Config) -> R2D2:
    env = make_environment(config, batched=True)
    env.close()
    agent = make_agent(config, env.spec, "cpu")
    assert isinstance(agent, R2D2)
    return agent


def trained(config: Config, agent_steps: int, ratio: int = 4) -> R2D2:
    env, agent = make_environment(config, batched=True), made(config)
    steps = agent_steps // config.env.num_envs
    next(islice(interact(env, agent, Ratio(200, ratio, 1), False), steps - 1, None))
    env.close()
    return agent


def watched(agent: R2D2, observations: list[int]) -> Any:
    """Action values `[T, A]` along an episode, as the agent sees them step by step, on its own scale."""
    obs = torch.tensor(observations)[:, None]
    begun = torch.zeros(1, agent._online.core.state_size)
    with torch.no_grad():
        return agent._online(obs, begun, np.zeros((len(obs), 1), np.bool_))[0][:, 0]


@pytest.mark.parametrize("name", ["drqn", "r2d2"])
@pytest.mark.parametrize("core", ["lstm", "gru"])
def test_it_finds_the_values_of_value_iteration_where_they_need_memory(name: str, core: str) -> None:
    from qladder.agents.rescaling import unscale

    rate = {"start": 0.01, "end": 0.0, "over": 900, "clock": "updates"}
    replay = {"n_step": 1}  # of more, random actions would be a part
    config = settings(name, RECALL, {"core": core, "learning_rate": rate}, env={"num_envs": 4}, replay=replay)
    agent = trained(config, 3800)
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
    batch = batch._replace(weight=np.linspace(0.25, 1, 8, dtype=np.float32))
    q, frozen = (naive_values(agent, net, batch) for net in (agent._online, agent._target))
    total, steps = 0.0, 0
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
    learned = agent._improve(batch)
    np.testing.assert_allclose(learned.target, expected, atol=1e-5)
    assert float(learned.loss.detach()) == pytest.approx(total / steps, rel=1e-4)
    assert (learned.td[batch.mask == 0] == 0).all()


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


def walk(agent: R2D2, observations: list[int], first: list[bool], explore: bool = False) -> list[Any]:
    """States before each step."""
    carried = agent._training if explore else agent._greedy
    states = []
    for obs, start in zip(observations, first, strict=True):
        _, extras = agent.act(np.array([obs]), np.array([start]), explore)
        states.append((extras, carried.state.copy()))
    return states


@pytest.mark.parametrize("explore", [False, True])
def test_acting_carries_its_state_and_forgets_at_the_start_of_an_episode(explore: bool) -> None:
    agent = made(settings("drqn", RECALL))
    states = walk(agent, [0, 2, 3, 0, 2], [True, False, False, True, False], explore)
    after = [state for _, state in states]
    np.testing.assert_array_equal(after[3], after[0])
    np.testing.assert_array_equal(after[4], after[1])
    assert not np.array_equal(after[1], after[2])
    if explore:  # what memory gets is the state before the step
        np.testing.assert_array_equal(states[1][0], after[0])
        assert not states[3][0].any()


def test_evaluation_in_the_middle_leaves_training_as_it_would_have_been() -> None:
    config = settings("r2d2", RECALL, {"epsilon": 0.3}, env={"num_envs": 3})
    results = []
    for evaluating in (False, True):
        env, agent = make_environment(config, batched=True), made(config)
        policy = Policy(agent, 2, 0.0, 0)
        for moment in islice(interact(env, agent, Ratio(150, 4, 1), False), 150):
            if evaluating and moment.agent_steps % 30 == 0:
                play(config, policy, 7, 1, "some")
                policy.act(np.array([1, 0, 2]))  # as many as there are in training
        env.close()
        results.append(agent.state_dict())
    np.testing.assert_equal(plain(results[1]), plain(results[0]))


def plain(tree: Any) -> Any:
    """The same tree with arrays for tensors."""
    if isinstance(tree, dict):
        return {k: plain(v) for k, v in tree.items()}
    return tree.numpy() if isinstance(tree, torch.Tensor) else tree


def test_an_evaluation_does_not_depend_on_the_one_before() -> None:
    config = settings("drqn", RECALL)
    policy = Policy(trained(config, 400), 2, 0.0, 0)
    one = play(config, policy, 30, 1, "some")
    play(config, policy, 3, 2, "other")
    assert play(config, policy, 30, 1, "some") == one


@pytest.mark.parametrize("name", ["drqn", "r2d2"])
def test_the_same_state_goes_on_the_same_way(name: str, tmp_path: Path) -> None:
    """Also in the middle of episodes and sequences, and by way of a checkpoint."""
    config = settings(name, RECALL, {"epsilon": 0.5}, env={"num_envs": 3})
    one, other = trained(config, 600), made(config)
    saved = checkpoint.save(tmp_path, 1, {"agent": one.state_dict()})
    other.load_state_dict(checkpoint.load(saved)["agent"])
    rng = np.random.default_rng(0)
    for _ in range(30):
        obs, first = rng.integers(4, size=3), np.zeros(3, np.bool_)
        (a, extras), (b, again) = (agent.act(obs, first, True) for agent in (one, other))
        assert a.tolist() == b.tolist()
        np.testing.assert_array_equal(extras, again)
        last = rng.random(3) < 0.2
        step = Step(obs, a, rng.random(3), 1.0 - last, last, obs, extras)
        for agent in (one, other):
            agent.observe(step)
            agent.learn(1)
    np.testing.assert_equal(plain(other.state_dict()), plain(one.state_dict()))


def test_an_episode_that_starts_ends_the_one_in_memory() -> None:
    agent = made(settings("drqn", RECALL, replay={"length": 3, "period": 1}))
    for _ in range(2):
        for t in range(3):
            obs = np.array([2])
            action, extras = agent.act(obs, np.array([t == 0]), True)
            agent.observe(Step(obs, action, np.ones(1), np.ones(1), np.zeros(1, np.bool_), obs, extras))
    batch = agent._replay._sequences(np.array([1]), np.ones(1, np.float32))
    assert batch.reset[:, 0].tolist() == [False, False, True, False]
    assert batch.mask[:, 0].tolist() == [1, 0, 1]


def test_priorities_are_the_latest_errors() -> None:
    agent = trained(settings("r2d2", RECALL, env={"num_envs": 3}), 600)
    before = copy.deepcopy(agent._replay.state_dict()["rng"])
    agent.learn(1)
    twin = np.random.default_rng()
    twin.bit_generator.state = before
    update = SequenceReplay.update
    seen: dict[str, Any] = {}

    def note(replay: SequenceReplay, index: Any, error: Any, mask: Any) -> None:
        seen.update(index=index, error=error, mask=mask)
        update(replay, index, error, mask)

    agent._replay.update = note.__get__(agent._replay)  # type: ignore[method-assign]
    frozen = copy.deepcopy(agent)
    batch = frozen._replay.sample(frozen._batch_size, frozen._config.importance(frozen.clocks))
    td = frozen._improve(batch).td
    agent.learn(1)
    assert seen["index"].tolist() == batch.index.tolist()
    np.testing.assert_allclose(seen["error"], td.abs(), atol=1e-6)
    np.testing.assert_array_equal(seen["mask"], batch.mask)


def test_of_stacks_it_sees_and_keeps_the_newest_frame() -> None:
    spec = EnvSpec("stacks", 2, True, (4, 10, 10), "uint8", None, 3, stack=4, frames_per_step=4)
    config = settings("drqn", "qladder/Catch-v0", replay={"length": 2, "period": 1})
    agent = R2D2(config.agent, spec, seed=0, device="cpu", replay=config.replay)
    obs = np.random.default_rng(0).integers(0, 256, (2, 4, 10, 10), dtype=np.uint8)
    older = obs.copy()
    older[:, :3] = 0
    first, none = np.ones(2, np.bool_), np.zeros(2, np.bool_)
    agent.act(obs, first, False)
    seen = agent._greedy.state
    agent.act(older, first, False)
    np.testing.assert_array_equal(agent._greedy.state, seen)
    for _ in range(4):
        action, extras = agent.act(obs, none, True)
        agent.observe(Step(obs, action, np.ones(2), np.ones(2), none, obs, extras))
    batch = agent._replay.sample(4)
    assert batch.obs.shape == (3, 4, 1, 10, 10)
    assert all((batch.obs[0, b, 0] == obs[:, 3]).all((1, 2)).any() for b in range(4))
    assert agent.clocks.frames == 32
    agent.learn(1)


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    agent = trained(settings("drqn", RECALL), 210)
    agent._replay._arrays["reward"][:] = np.inf
    with pytest.raises(DivergedError, match=r"the loss is (inf|nan) at update \d+; in its batch: target inf"):
        agent.learn(1)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"agent": {"noisy": True}}, r"agent\.noisy with agent\.core = 'lstm'"),
        (
            {"agent": {"distribution": "quantile", "core": "gru"}},
            r"agent\.distribution = 'quantile' with agent\.core = 'gru'",
        ),
        ({"replay": {"burn_in": 10, "length": 10}}, r"replay\.burn_in = 10 with replay\.length = 10"),
        ({"replay": {"capacity": 20}}, r"replay\.capacity = 20 with replay\.length"),
    ],
)
def test_what_does_not_go_together_is_named(flags: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        made(resolve("drqn", "CartPole-v1", flags))


def test_too_early_a_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run\.learning_starts = 10: .* at least \d+ agent steps \(\d environments"):
        train("drqn", "CartPole-v1", settings={"run": {"learning_starts": 10}}, out=tmp_path)


def test_a_run_on_a_known_model_is_played_not_solved(tmp_path: Path) -> None:
    """Dynamic programming knows the value of a policy of states, not of one with a memory."""
    run = {"steps": 600, "learning_starts": 200, "eval_every": 300, "eval_episodes": 2}
    config = settings("drqn", "FrozenLake-v1", run=run)
    sections = {k: v for k, v in config.table().items() if k != "env"}
    del sections["agent"]["name"]
    result = train("drqn", "FrozenLake-v1", settings=sections, out=tmp_path)
    assert result["evaluation"]["exact"] is None
    assert result["evaluation"]["mean"] == np.mean(result["evaluation"]["returns"])
    assert result["evaluation"]["optimal_return"] is not None
    again = evaluate(result["run"])
    assert again["returns"] == result["evaluation"]["returns"]
    policy = load(result["run"])
    assert policy.act(np.array([0, 3]), True).shape == (2,)


def test_the_rungs_differ_in_what_is_named() -> None:
    assert set(diff("drqn", "r2d2", "ALE/Pong-v5")["fields"]) == {
        "agent.initial_state",
        "agent.double",
        "agent.dueling",
        "agent.rescale",
        "replay.burn_in",
        "replay.n_step",
        "replay.prioritized",
        "replay.priority_exponent",
    }
