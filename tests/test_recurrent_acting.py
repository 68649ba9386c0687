"""Recurrent agents as runs know them: what they carry from step to step, evaluation, going on, and what is refused."""

from __future__ import annotations

import copy
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recurrent import RECALL, made, settings, trained

from qladder.agents.r2d2 import R2D2
from qladder.envs.errors import DivergedError, UserError
from qladder.envs.spec import EnvSpec
from qladder.replay.types import Step
from qladder.runners import checkpoint, evaluate, load, train
from qladder.runners.config import resolve
from qladder.runners.diff import diff
from qladder.runners.evaluation import Policy, play
from qladder.runners.loading import make_environment
from qladder.runners.loop import Ratio, interact


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
    config = settings("r2d2", RECALL, env={"num_envs": 3})
    agent, twin = trained(config, 600), made(config)
    twin.load_state_dict(copy.deepcopy(agent.state_dict()))
    batch = twin._replay.sample(16, 0.6)
    td = twin._improve(batch).td
    agent.learn(1)
    twin._replay.update(batch.index, td.abs().numpy(), batch.mask)
    ours, theirs = (a._replay.state_dict()["priority"] for a in (agent, twin))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert len(set(ours[ours > 0].tolist())) > 5


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
    assert set(diff("drqn", "r2d2", "FrozenLake-v1")["fields"]) == {
        "agent.double",
        "agent.dueling",
        "agent.importance",
        "agent.initial_state",
        "agent.rescale",
        "replay.burn_in",
        "replay.n_step",
        "replay.prioritized",
        "replay.priority_exponent",
    }
