"""Evaluation's episodes against a plain loop: which ones count, under which rules."""

from __future__ import annotations

import contextlib
import json
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from numpy.typing import NDArray

from qladder.envs.errors import UserError
from qladder.envs.gym import GymEnv
from qladder.envs.mdp import epsilon_greedy, optimal_values, policy_return
from qladder.envs.protocol import Evaluation
from qladder.envs.seeding import generator, integer
from qladder.envs.spec import ResumableEnv
from qladder.runners import find_runs, read_metrics, train
from qladder.runners.compare import compare
from qladder.runners.config import Config, resolve
from qladder.runners.evaluation import Policy, evaluation_environment, exact_return, play, truth
from qladder.runners.likeness import own_modules
from qladder.runners.loading import load_run, make_agent, make_environment
from qladder.runners.watch import camera_of


class Lengths(gymnasium.Env[Any, Any]):
    """Three points a step; a seed decides on one of two lengths."""

    observation_space, action_space = spaces.Box(0, 1, (1,), np.float32), spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.left = length(seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.left -= 1
        return np.zeros(1, np.float32), 3.0, self.left == 0, False, {}


def length(seed: int | None) -> int:
    return 40 if (seed or 0) % 2 else 3


gymnasium.register("Lengths-v0", entry_point=Lengths)


class Stubborn:
    """Always takes action 0, and notes whether it was asked to explore."""

    def __init__(self, batched: bool) -> None:
        self.batched, self.explored = batched, False

    def act(self, obs: Any, first: Any, explore: bool) -> tuple[Any, Any]:
        self.explored |= explore
        return (np.zeros(len(obs), np.int64) if self.batched else 0), None


def actions_of(policy: Policy, batched: bool, count: int) -> list[int]:
    if batched:
        return policy.act(np.zeros((count, 1)), np.zeros(count, np.bool_)).tolist()
    return [policy.act(np.zeros(1)) for _ in range(count)]


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("epsilon", [0.0, 0.2, 1.0])
def test_a_share_epsilon_of_evaluations_actions_is_uniformly_random(batched: bool, epsilon: float) -> None:
    agent: Any = Stubborn(batched)
    counts = np.bincount(actions_of(Policy(agent, 4, epsilon, 0), batched, 20_000), minlength=4) / 20_000
    assert counts.tolist() == pytest.approx([1 - 0.75 * epsilon, *[epsilon / 4] * 3], abs=0.015)
    assert not agent.explored


@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_the_exact_return_is_that_of_the_policy_with_its_epsilon(epsilon: float) -> None:
    known = truth(resolve("q-learning", "FrozenLake-v1", {}))
    assert known is not None
    config = resolve("q-learning", "FrozenLake-v1", {})
    agent: Any = make_agent(config, make_environment(config, batched=False).spec, "cpu")
    q = optimal_values(known.mdp, 0.99)
    agent._table.q = q.tolist()
    expected = policy_return(known.mdp, epsilon_greedy(q, epsilon), known.horizon)
    assert exact_return(Policy(agent, 4, epsilon, 0), known) == pytest.approx(expected)
    if epsilon:
        assert expected < exact_return(Policy(agent, 4, 0.0, 0), known) - 0.1


def test_no_evaluation_plays_an_episode_of_training_or_of_another_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    reset = GymEnv.reset

    def noting(env: GymEnv) -> Any:
        obs = reset(env)
        seeds.append(env._episode_seed)
        return obs

    monkeypatch.setattr(GymEnv, "reset", noting)
    run = {"steps": 600, "eval_every": 200, "eval_episodes": 3}
    train("q-learning", "CartPole-v1", settings={"run": run}, out=tmp_path)
    assert len(seeds) > 100 + 3 * 3
    assert len(set(seeds)) == len(seeds)


def test_the_score_is_that_of_the_final_weights_not_the_best_so_far(tmp_path: Path) -> None:
    run = {"steps": 1500, "eval_every": 100, "eval_episodes": 3}
    result = train("linear-q", "CartPole-v1", settings={"run": run}, out=tmp_path)
    score, curve = result["evaluation"]["mean"], json.loads((Path(result["run"]) / "summary.json").read_text())["curve"]
    assert score == pytest.approx(np.mean(result["evaluation"]["returns"]))
    assert score < max(point["mean"] for point in curve)


@pytest.fixture
def played() -> tuple[Config, Policy]:
    config = resolve("dqn", "Lengths-v0", {"run": {"learning_starts": 10}})
    env = make_environment(config, batched=True)
    return config, Policy(make_agent(config, env.spec, "cpu"), 2, 0.0, 0)


@pytest.mark.parametrize(("episodes", "num_envs"), [(7, 7), (20, 20), (30, 15), (50, 17)])
def test_each_environment_plays_its_share_however_long_its_episodes(played: Any, episodes: int, num_envs: int) -> None:
    """In two rounds, thirty need no more than 15 environments: none plays on with its share done."""
    expected = []
    for i in range(num_envs):
        share = len(range(i, episodes, num_envs))
        expected += [3.0 * length(integer(5, "some", i, episode)) for episode in range(share)]
    assert len(expected) == episodes
    assert len(set(expected)) == 2
    assert play(*played, episodes, 5, "some").returns == expected


def test_the_evaluations_cap_holds_and_not_that_of_training(played: Any) -> None:
    config, policy = played
    protocol = replace(config.protocol, episode_cap=10, evaluation=Evaluation(episode_cap=20))
    returns = play(replace(config, protocol=protocol), policy, 20, 5, "some").returns
    assert set(returns) == {3.0 * 3, 3.0 * 20}


def test_what_is_evaluated_can_differ_from_what_is_trained(tmp_path: Path) -> None:
    runs = {}
    for name, asked in (("same", {}), ("other", {"is_slippery": False})):
        trained = {"is_slippery": True, "map_name": "4x4"}
        settings = {"env": {"kwargs": trained, "eval_kwargs": asked}, "run": {"steps": 20_000}}
        runs[name] = train("q-learning", "FrozenLake-v1", settings=settings, out=tmp_path, name=name)
    same, other = (json.loads((tmp_path / name / "summary.json").read_text()) for name in runs)
    tables = [load_run(tmp_path / name)[1].agent.state_dict() for name in runs]
    assert str(tables[0]) == str(tables[1])  # training went the same way
    assert same["evaluation"]["optimal_return_in_limit"] < 0.8
    assert other["evaluation"]["optimal_return_in_limit"] == 1.0
    assert set(other["evaluation"]["returns"]) in ({0.0}, {1.0})  # without the ice's luck all are the same
    assert len(set(same["evaluation"]["returns"])) == 2
    assert same["variant"] == "is_slippery=True, map_name=4x4"
    assert other["variant"] == "is_slippery=True, map_name=4x4, evaluated with is_slippery=False"


def test_wrappers_of_evaluations_alone_change_no_training(tmp_path: Path) -> None:
    dark = ["qladder.envs.flicker:flicker"]
    settings = {"run": {"steps": 3_000, "eval_episodes": 1}}
    for name, asked in (("same", {}), ("other", {"eval_wrappers": dark})):
        train("linear-q", "CartPole-v1", settings={**settings, "env": asked}, out=tmp_path, name=name)
    same, other = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("same", "other"))
    tables = [load_run(tmp_path / name)[1].agent.state_dict() for name in ("same", "other")]
    assert str(tables[0]) == str(tables[1])
    assert same["evaluation"]["returns"] != other["evaluation"]["returns"]
    assert (same["variant"], other["variant"]) == ("", f"evaluated with {dark[0]}")
    bare = resolve("q-learning", "FrozenLake-v1", {})
    assert truth(bare) is not None
    assert truth(replace(bare, env=replace(bare.env, eval_wrappers=("some:wrapper",)))) is None
    taken = train(trained_in=tmp_path / "same", settings={"env": {"eval_wrappers": dark}}, out=tmp_path, name="taken")
    assert taken["evaluation"]["returns"] == other["evaluation"]["returns"]


def bold(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """Half a goal for every step to the right or down."""
    return Shaped(env)


class Shaped(gymnasium.Wrapper[Any, Any, Any, Any]):
    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, float(reward) + 0.5 * (action in (1, 2)), terminated, truncated, info


def test_wrappers_of_training_alone_change_no_score(tmp_path: Path) -> None:
    """And make no other environment, so that an agent with and without them are compared."""
    wrapper = f"{__name__}:bold"
    for name, asked in (("plain", {}), ("shaped", {"train_wrappers": [wrapper]})):
        settings = {"run": {"steps": 3_000, "label": name}, "env": asked}
        train("q-learning", "FrozenLake-v1", settings=settings, out=tmp_path, name=name)
    runs = {run.folder.name: run for run in find_runs([tmp_path]).runs}
    assert runs["plain"].variant == runs["shaped"].variant == ""
    returns = {
        name: [r["train/episode_return"] for r in read_metrics(run.folder) if "train/episode_return" in r]
        for name, run in runs.items()
    }
    assert max(returns["plain"]) <= 1 < min(returns["shaped"])
    assert {value for run in runs.values() if run.evaluation for value in run.evaluation.returns} <= {0.0, 1.0}
    tables = [str(load_run(run.folder)[1].agent.state_dict()) for run in runs.values()]
    assert tables[0] != tables[1]
    told = compare(list(runs.values()))
    assert [(pair.a, pair.b, pair.env) for pair in told.pairs] == [("plain", "shaped", "FrozenLake-v1")]
    table = tomllib.loads((runs["shaped"].folder / "config.toml").read_text())
    assert own_modules(table) == own_modules(table, training=True) == {__name__}
    with pytest.raises(UserError, match=r"env.train_wrappers: by protocol cleanrl the score is that of the training"):
        resolve("dqn", "CartPole-v1", {"env": {"train_wrappers": [wrapper], "protocol": "cleanrl"}})


def test_a_game_is_evaluated_under_a_moved_camera() -> None:
    config = resolve("random", "ALE/Pong-v5", {"env": {"eval_wrappers": ["qladder.envs.shifted:shift_2"]}})
    shifted = evaluation_environment(config, True, 0, "some", 2)
    plain = evaluation_environment(replace(config, env=replace(config.env, eval_wrappers=())), True, 0, "some", 2)
    with contextlib.closing(shifted), contextlib.closing(plain):
        seen = [(plain.reset(), shifted.reset())]
        for action in (0, 2, 3, 0):
            seen.append((plain.step(np.full(2, action)).obs, shifted.step(np.full(2, action)).obs))
        for one, moved in seen:
            np.testing.assert_array_equal(moved[..., 2:, 2:], one[..., :-2, :-2])


@pytest.mark.parametrize("env_id", ["qladder/ShapeCatch-v0", "ALE/Pong-v5"])
def test_all_environments_of_a_run_are_permuted_alike_whatever_their_own_seeds(env_id: str) -> None:
    def first(environment: Callable[[Config], ResumableEnv], wrappers: list[str], run_seed: int) -> NDArray[Any]:
        settings = {"env": {"num_envs": 2, "wrappers": wrappers}, "run": {"seed": run_seed}}
        with contextlib.closing(environment(resolve("dqn", env_id, settings))) as env:
            env.reset()
            seen: NDArray[Any] = env.step(np.zeros(env.spec.num_envs, int)).obs[0, -1]
            return seen.ravel()

    permuted = ["qladder.envs.permuted:permute_pixels"]
    for seed in (5, 6):
        order = generator(seed, "permutation of blocks of 1").permutation(28**2 if "Shape" in env_id else 84**2)
        for environment in (
            lambda config: make_environment(config, batched=True),
            lambda config: evaluation_environment(config, True, 99, "some", 1),
            lambda config: camera_of(config, True, 98, live=False).env,
        ):
            plain = first(environment, [], seed)
            assert not np.array_equal(plain, plain[order])
            np.testing.assert_array_equal(first(environment, permuted, seed), plain[order])


def test_an_evaluation_of_other_observations_is_refused_before_the_run(tmp_path: Path) -> None:
    settings = {"env": {"eval_kwargs": {"k": 6}}}
    with pytest.raises(UserError, match=r"env.eval_kwargs = .'k': 6.: what is trained has obs_shape .4,., what is"):
        train("dqn", "qladder/Sort-v0", settings=settings, out=tmp_path)
    stacked = {"env": {"eval_wrappers": ["qladder.envs.stacked:stack_2"]}}
    with pytest.raises(UserError, match=r"env.eval_wrappers = .'qladder.envs.stacked:stack_2'.: what is trained has"):
        train("dqn", "CartPole-v1", settings=stacked, out=tmp_path)
    trained = {"env": {"train_wrappers": ["qladder.envs.stacked:stack_2"]}}
    with pytest.raises(UserError, match=r"env.train_wrappers = .'qladder.envs.stacked:stack_2'.: what is trained has"):
        train("dqn", "CartPole-v1", settings=trained, out=tmp_path)
