"""Runs from end to end through the Python interface: repeatable, resumable, read back by TensorBoard's own reader."""

from __future__ import annotations

import json
import re
import shutil
import time
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from killing import same
from processes import qladder

from qladder.envs.errors import UserError
from qladder.envs.gym import GymEnv
from qladder.runners import checkpoint as checkpoints
from qladder.runners import evaluate, load, train
from qladder.runners.compare import compare
from qladder.runners.config import resolve
from qladder.runners.device import flushed_denormals
from qladder.runners.evaluation import human_normalized
from qladder.runners.loading import make_agent, make_environment, restore
from qladder.runners.loop import Ratio, interact
from qladder.runners.runs import find_runs
from qladder.runners.solve import solve
from qladder.runners.stop import StoppedError

SMALL = {"steps": 900, "log_every": 150, "eval_every": 300, "eval_episodes": 2, "checkpoint_every": 300}


def records(run: str | Path, *, without_time: bool = True) -> list[dict[str, Any]]:
    lines = (Path(run) / "metrics.jsonl").read_text().splitlines()
    parsed = [json.loads(line) for line in lines]
    return [{k: v for k, v in r.items() if not (without_time and k.startswith("time/"))} for r in parsed]


def small(agent: str, out: Path, env: str = "CartPole-v1", **settings: Any) -> dict[str, Any]:
    run = {**SMALL, **settings.pop("run", {})}
    if agent == "dqn":
        run = {"learning_starts": 100, **run}
    return train(agent, env, settings={**settings, "run": run}, out=out)


def small_again(agent: str, out: Path) -> dict[str, Any]:
    return train(agent, "CartPole-v1", settings={"run": SMALL}, out=out, resume=True)


@pytest.mark.parametrize("agent", ["q-learning", "linear-q", "dqn"])
def test_a_seed_repeats_a_run_and_another_does_not(agent: str, tmp_path: Path) -> None:
    one, two = (small(agent, tmp_path / name) for name in ("a", "b"))
    other = small(agent, tmp_path / "c", run={"seed": 1})
    assert records(one["run"]) == records(two["run"])
    assert one["evaluation"] == two["evaluation"]
    assert records(one["run"]) != records(other["run"])


def test_a_runs_own_config_repeats_it(tmp_path: Path) -> None:
    one = small("q-learning", tmp_path / "a", run={"seed": 5})
    two = train(config=Path(one["run"]) / "config.toml", out=tmp_path / "b")
    assert records(one["run"]) == records(two["run"])


def test_evaluation_leaves_training_alone(tmp_path: Path) -> None:
    def trained(every: int) -> list[Any]:
        result = small("dqn", tmp_path / str(every), run={"eval_every": every})
        return [r for r in records(result["run"]) if "eval/return" not in r]

    assert trained(200) == trained(700)


def test_tensorboard_reads_what_metrics_jsonl_says(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = small("dqn", tmp_path)["run"]
    reader = EventAccumulator(str(run), size_guidance={"scalars": 0})
    reader.Reload()
    expected: dict[str, list[tuple[int, float]]] = {}
    for record in records(run, without_time=False):
        clocks = ("frames", "agent_steps", "updates", "episodes")
        for tag, value in record.items():
            if tag not in clocks:
                expected.setdefault(tag, []).append((record["agent_steps"], np.float32(value)))
    read = {tag: [(e.step, np.float32(e.value)) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}
    assert read == expected
    assert {
        "train/episode_return",
        "eval/return",
        "loss/td",
        "q/mean",
        "time/steps_per_second",
        "time/memory_gb",
    } <= set(read)


def test_the_run_folder_holds_what_it_should(tmp_path: Path) -> None:
    result = small("linear-q", tmp_path)
    folder = Path(result["run"])
    assert folder.name == "linear-q__CartPole-v1__s0"
    summary, manifest = (json.loads((folder / f"{n}.json").read_text()) for n in ("summary", "manifest"))
    assert summary["evaluation"] == result["evaluation"]
    assert (summary["agent_steps"], summary["frames"], summary["updates"]) == (900, 900, 900)
    assert [p["agent_steps"] for p in summary["curve"]] == [300, 600, 900]
    assert summary["curve"][-1]["mean"] == result["evaluation"]["mean"] == np.mean(result["evaluation"]["returns"])
    assert manifest["exit_reason"] == "finished"
    rules = manifest["protocol"].pop("rules")
    assert manifest["protocol"] == summary["protocol"]
    assert (rules["frame_skip"], rules["evaluation.episodes"]) == (1, 100)
    assert not list(folder.rglob("*.pkl"))


def test_one_episode_has_no_interval_and_a_seed_is_not_negative(tmp_path: Path) -> None:
    run = Path(small("q-learning", tmp_path)["run"])
    done = qladder("evaluate", str(run), "--episodes", "1", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"return \S+, IQM \S+, 1 episodes\n", done.stdout)
    with pytest.raises(UserError, match="--seed -1: must be at least 0"):
        evaluate(run, seed=-1)
    with pytest.raises(UserError, match=r"--name \.\.: must be the name of a folder"):
        train("q-learning", "CartPole-v1", out=tmp_path, name="..")


def test_weights_are_loaded_as_they_were_evaluated(tmp_path: Path) -> None:
    result = small("dqn", tmp_path, run={"steps": 300})  # it does not balance yet
    again = evaluate(result["run"])
    assert again == result["evaluation"]
    assert evaluate(result["run"], seed=9)["returns"] != again["returns"]
    policy = load(result["run"])
    assert policy.act(np.zeros((3, 4), np.float32)).shape == (3,)


@pytest.mark.parametrize("agent", ["q-learning", "dqn"])
def test_a_resumed_run_goes_on_and_repeats_no_record(agent: str, tmp_path: Path) -> None:
    first = small(agent, tmp_path)
    run = Path(first["run"])
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"agent_steps": 901, "torn')
    resumed = {**SMALL, "steps": 1800} | ({"learning_starts": 100} if agent == "dqn" else {})
    result = train(agent, "CartPole-v1", settings={"run": resumed}, out=tmp_path, resume=True)
    assert result["agent_steps"] == 1800
    assert result["updates"] == first["updates"] * 2 + (100 if agent == "dqn" else 0)
    logged = [r["agent_steps"] for r in records(run) if "loss/td" in r]
    assert logged == list(range(150, 1801, 150))
    evaluated = [r["agent_steps"] for r in records(run) if "eval/return" in r]
    assert evaluated == list(range(300, 1801, 300))


def test_a_run_is_resumed_with_its_own_settings_only(tmp_path: Path) -> None:
    small("q-learning", tmp_path)
    with pytest.raises(UserError, match=r"agent\.gamma was 0\.99 and is 0\.5 now"):
        train("q-learning", "CartPole-v1", settings={"agent": {"gamma": 0.5}, "run": SMALL}, out=tmp_path, resume=True)
    other: dict[str, Any] = {"env": {"protocol": "toy-text"}, "run": SMALL}
    with pytest.raises(UserError, match="protocol was classic and is toy-text now"):
        train("q-learning", "CartPole-v1", settings=other, out=tmp_path, resume=True)


def test_a_run_is_resumed_under_its_own_rules_and_not_for_fewer_steps_than_it_made(tmp_path: Path) -> None:
    run = Path(small("q-learning", tmp_path)["run"])
    before = records(run)
    with pytest.raises(UserError, match="is at 900 agent steps already, past --steps 500"):
        train("q-learning", "CartPole-v1", settings={"run": {**SMALL, "steps": 500}}, out=tmp_path, resume=True)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["protocol"]["hash"] = "of older rules"
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="protocol classic was of older rules"):
        small_again("q-learning", tmp_path)
    assert records(run) == before


def test_the_curve_ends_with_the_score_and_the_last_episodes_are_logged(tmp_path: Path) -> None:
    run = {"steps": 1000, "log_every": 300, "eval_every": 250, "eval_episodes": 2}
    result = train("linear-q", "CartPole-v1", settings={"run": run}, out=tmp_path)
    told, curve = records(result["run"]), json.loads((Path(result["run"]) / "summary.json").read_text())["curve"]
    logged = [r for r in told if "loss/td" in r]
    scores = [(r["agent_steps"], r["eval/return"]) for r in told if "eval/return" in r]
    assert [r["agent_steps"] for r in logged] == [300, 600, 900, 1000]
    assert [steps for steps, _ in scores] == [250, 500, 750, 1000]
    assert scores == [(p["agent_steps"], p["mean"]) for p in curve]
    assert scores[-1][1] == result["evaluation"]["mean"]
    assert logged[-1]["episodes"] == result["episodes"]


def test_seconds_and_rates_are_of_training_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that moves one second with each agent step of training and a hundred with each of an evaluation."""
    now = [0.0]
    step = GymEnv.step

    def ticking(env: GymEnv, action: Any) -> Any:
        now[0] += 1 if env._stream.startswith("env") else 100
        return step(env, action)

    monkeypatch.setattr(GymEnv, "step", ticking)
    clock = SimpleNamespace(monotonic=lambda: now[0], process_time=lambda: 3 * now[0], strftime=time.strftime)
    for module in ("training", "judge", "cost"):
        monkeypatch.setattr(f"qladder.runners.{module}.time", clock)
    run = {"steps": 400, "log_every": 100, "eval_every": 150, "eval_episodes": 1}
    for steps in (400, 1000):  # made longer: the seconds go on
        result = train(
            "q-learning", "CartPole-v1", settings={"run": {**run, "steps": steps}}, out=tmp_path, resume=True
        )
        assert result["seconds"] == steps
    told = records(result["run"], without_time=False)
    assert [r["time/seconds"] for r in told] == [r["agent_steps"] for r in told]
    rates = [r["time/steps_per_second"] for r in told if "loss/td" in r]
    assert rates == [1.0] * 10
    cpu = [r["time/cpu_seconds"] for r in told if "time/cpu_seconds" in r]
    assert cpu[0] == 3 * 100
    assert cpu[1] > 3 * (200 + 100)  # evaluations are counted
    assert cpu == sorted(cpu)
    evaluated = [r for r in told if "eval/return" in r]
    assert [r["time/training_cpu_seconds"] for r in evaluated] == [3 * r["agent_steps"] for r in evaluated]
    summary = json.loads((Path(result["run"]) / "summary.json").read_text())
    assert summary["cpu_seconds"] > cpu[-1]
    assert [point["cpu_seconds"] for point in summary["curve"]] == [3 * r["agent_steps"] for r in evaluated]


def test_a_bad_checkpoint_falls_back_to_the_one_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(small("q-learning", tmp_path)["run"])
    newest, before = checkpoints.checkpoints(run)
    (newest / "arrays.npz").write_bytes(b"nothing")
    assert evaluate(run, episodes=1)["checkpoint_agent_steps"] == 600
    assert "trying the one before" in capsys.readouterr().err
    (before / "arrays.npz").write_bytes(b"nothing")
    with pytest.raises(UserError, match="no good checkpoint"):
        evaluate(run, episodes=1)


def test_a_run_whose_newest_checkpoint_is_damaged_ends_with_its_final_weights(tmp_path: Path) -> None:
    first = small("q-learning", tmp_path)
    run = Path(first["run"])
    newest, before = checkpoints.checkpoints(run)
    (newest / "state.json").write_bytes(b"nothing")
    expected = records(run)
    resumed = small_again("q-learning", tmp_path)
    assert evaluate(run) == resumed["evaluation"]
    assert resumed["evaluation"]["checkpoint_agent_steps"] == 900
    assert [p.name for p in checkpoints.checkpoints(run)] == [newest.name, before.name]
    assert [r["agent_steps"] for r in records(run)] == [r["agent_steps"] for r in expected]


@pytest.mark.parametrize("missing", ["online", "q/weights of another network"])
def test_a_checkpoint_of_another_agent_is_told_in_a_line(missing: str, tmp_path: Path) -> None:
    run = Path(small("dqn", tmp_path)["run"])
    newest = checkpoints.checkpoints(run)[0]
    state = checkpoints.load(newest)
    if missing == "online":
        del state["agent"]["online"]
    else:
        state["agent"]["online"] = {"0.weight": state["agent"]["online"].popitem()[1]}
    shutil.rmtree(newest)
    checkpoints.save(run, state["run"]["agent_steps"], state)
    with pytest.raises(UserError, match=r"step-000000000900 is of other settings or another version of qladder: \w"):
        evaluate(run, episodes=1)


def test_a_run_without_any_checkpoint_starts_afresh_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(small("q-learning", tmp_path)["run"])
    expected = records(run)
    for path in checkpoints.checkpoints(run):
        path.rename(path.with_name(f".writing-{path.name}"))  # as a process that was killed leaves it
    small_again("q-learning", tmp_path)
    assert "is finished already" in capsys.readouterr().err
    (run / "summary.json").unlink()
    small_again("q-learning", tmp_path)
    assert records(run) == expected
    assert "starting afresh" in capsys.readouterr().err


def test_a_run_of_which_all_checkpoints_are_damaged_is_left_alone(tmp_path: Path) -> None:
    run = Path(small("q-learning", tmp_path)["run"])
    for path in checkpoints.checkpoints(run):
        (path / "state.json").write_bytes(b"nothing")
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != ".lock"}
    with pytest.raises(UserError, match="none of its checkpoints is good"):
        small_again("q-learning", tmp_path)
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != ".lock"} == before


def test_evaluating_a_run_again_adds_nothing(tmp_path: Path) -> None:
    settings = {"run": {**SMALL, "episodes": 9}}  # it ends between two evaluations
    first = train("q-learning", "CartPole-v1", settings=settings, out=tmp_path)
    before = records(first["run"], without_time=False)
    Path(first["run"], "summary.json").unlink()
    again = train("q-learning", "CartPole-v1", settings=settings, out=tmp_path, resume=True)
    assert first["agent_steps"] % 300
    assert before == records(first["run"], without_time=False)
    assert (first["evaluation"], first["updates"]) == (again["evaluation"], again["updates"])


def test_random_actions_of_an_evaluation_depend_on_its_seed_alone(tmp_path: Path) -> None:
    one, two = (small("random", tmp_path / str(every), run={"eval_every": every}) for every in (300, 800))
    assert one["evaluation"] == two["evaluation"] == evaluate(one["run"])
    assert evaluate(one["run"], seed=1)["returns"] != one["evaluation"]["returns"]


def test_a_restored_dqn_goes_on_bit_for_bit(tmp_path: Path) -> None:
    settings = {"run": {**SMALL, "learning_starts": 100}, "replay": {"capacity": 300}, "agent": {"hidden": [16]}}
    config = resolve("dqn", "CartPole-v1", settings)
    env = make_environment(config, batched=True)
    trained, other = (make_agent(config, env.spec, "cpu") for _ in range(2))
    for _ in islice(interact(env, trained, Ratio(100, 1, 1), clip_rewards=False), 500):
        pass
    checkpoints.save(tmp_path, 500, {"agent": trained.state_dict(), "run": {"agent_steps": 500}})
    assert not same(other.state_dict(), trained.state_dict())
    restored = restore(tmp_path, other)
    assert restored is not None
    assert same(other.state_dict(), trained.state_dict())
    obs = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    assert np.array_equal(other.act(obs, None, False)[0], trained.act(obs, None, False)[0])
    assert same(other.learn(5), trained.learn(5))
    assert same(other.state_dict(), trained.state_dict())


def test_a_run_without_its_replay_plays_other_episodes_than_at_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    reset = GymEnv.reset

    def noting(env: GymEnv) -> Any:
        obs = reset(env)
        if env._stream.startswith("env"):
            seeds.append(env._episode_seed)
        return obs

    monkeypatch.setattr(GymEnv, "reset", noting)
    for steps in (300, 600, 900):
        run = {"steps": steps, "learning_starts": 100, "checkpoint_replay": False, "eval_episodes": 1}
        train("dqn", "Blackjack-v1", settings={"run": run, "agent": {"hidden": [8]}}, out=tmp_path, resume=True)
    assert len(seeds) > 300
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("agent", ["q-learning", "dqn"])
def test_a_resumed_run_owes_no_update_twice(agent: str, tmp_path: Path) -> None:
    for steps in (400, 700):
        run = {**SMALL, "steps": steps, "learning_starts": 100, "update_every": 3, "updates": 2}
        result = train(agent, "CartPole-v1", settings={"run": run}, out=tmp_path, resume=True)
        done = load(result["run"]).agent.state_dict()["updates"]  # by the agent's own count
        assert done == result["updates"] == (steps - 100) // 3 * 2


def test_a_replay_that_was_not_saved_is_filled_first(tmp_path: Path) -> None:
    def go(steps: int, resume: bool) -> dict[str, Any]:
        run = {**SMALL, "steps": steps, "learning_starts": 200, "update_every": 1, "checkpoint_replay": False}
        return train("dqn", "Acrobot-v1", settings={"run": run}, out=tmp_path, resume=resume)

    assert go(600, False)["updates"] == 400
    assert go(1000, True)["updates"] == 600


def test_a_table_on_the_frozen_lake_meets_the_truth(tmp_path: Path) -> None:
    result = train("q-learning", "FrozenLake-v1", out=tmp_path)
    exact, best = result["evaluation"]["mean"], solve("FrozenLake-v1")
    assert 0.735 <= exact <= best["optimal_return_in_limit"] + 1e-9
    assert result["evaluation"]["exact"] == exact
    assert result["evaluation"]["interval"] == [exact, exact]
    assert best["optimal_return"] == pytest.approx(14 / 17)
    played = evaluate(result["run"], episodes=2000)
    assert played["mean"] == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 2000) ** 0.5)
    assert played["interval"][0] < played["mean"] < played["interval"][1]
    assert len(played["returns"]) == played["episodes"] == 2000


def test_random_play_is_evaluated_as_random(tmp_path: Path) -> None:
    result = train("random", "FrozenLake-v1", settings={"run": {"steps": 50}}, out=tmp_path)
    assert result["evaluation"]["mean"] == pytest.approx(0.013939795959171436)


@pytest.mark.parametrize("env", ["FrozenLake-v1", "qladder/Catch-v0", "CartPole-v1"])
def test_dqn_plays_states_vectors_and_pictures(env: str, tmp_path: Path) -> None:
    run = {**SMALL, "steps": 300, "learning_starts": 100, "update_every": 4, "updates": 2}
    result = train("dqn", env, settings={"run": run, "env": {"num_envs": 4}}, out=tmp_path)
    assert (result["agent_steps"], result["updates"]) == (300, 100)


def test_an_agent_step_of_atari_is_four_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise StoppedError("interrupted")  # as by Ctrl-C in the final evaluation

    monkeypatch.setattr("qladder.runners.judge.evaluate_policy", stopped)
    settings = {"run": {"steps": 16, "eval_every": 100}, "env": {"num_envs": 2}}
    result = train("random", "ALE/Pong-v5", settings=settings, out=tmp_path)
    assert (result["agent_steps"], result["frames"], result["exit_reason"]) == (16, 64, "interrupted")
    assert [(r["agent_steps"], r["frames"]) for r in records(result["run"])] == [(16, 64)]


def test_human_normalised_scores() -> None:
    assert human_normalized("ALE/Pong-v5", 14.6) == pytest.approx(1.0)
    assert human_normalized("ALE/Pong-v5", -20.7) == pytest.approx(0.0)
    assert human_normalized("CartPole-v1", 500) is None
    assert human_normalized("ALE/Casino-v5", 5) is None


@pytest.mark.slow
def test_dqn_learns_catch(tmp_path: Path) -> None:
    assert train("dqn", "qladder/Catch-v0", out=tmp_path)["evaluation"]["mean"] >= 0.95


def test_tiny_numbers_are_zero_for_networks_while_they_train_and_not_after() -> None:
    import torch

    tiny = torch.full((64,), 1e-40)
    for agent, flushes in (("dqn", True), ("pqn", True), ("q-learning", False)):
        with flushed_denormals(resolve(agent, "CartPole-v1", {})):
            assert bool((tiny * 1).any()) != flushes
        assert (tiny * 1).all()


def test_training_returns_are_the_score_where_the_protocol_says_so(tmp_path: Path) -> None:
    settings = {
        "env": {"protocol": "cleanrl"},
        "run": {"steps": 12_000, "log_every": 1, "eval_every": 5_000, "checkpoint_every": 2_000},
    }
    result = train("q-learning", "FrozenLake-v1", settings=settings, out=tmp_path, name="whole")
    records = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    ended = [(r["agent_steps"], r["train/episode_return"]) for r in records if "train/episode_return" in r]
    assert len(ended) > 200
    score = result["evaluation"]
    assert (score["kind"], score["episodes"], score["exact"]) == ("training", 100, None)
    assert score["returns"] == [value for _, value in ended[-100:]]
    assert score["mean"] == pytest.approx(np.mean(score["returns"]))
    curve = json.loads((tmp_path / "whole" / "summary.json").read_text())["curve"]
    assert [point["agent_steps"] for point in curve] == [5_000, 10_000, 12_000]
    assert curve[1]["mean"] == pytest.approx(np.mean([value for at, value in ended if at <= 10_000][-100:]))
    train("q-learning", "FrozenLake-v1", settings=settings, out=tmp_path, name="two", until=8_900)
    resumed = train("q-learning", "FrozenLake-v1", settings=settings, out=tmp_path, name="two", resume=True)
    assert resumed["evaluation"] == score


def test_an_inexact_resume_keeps_the_returns_that_are_the_score(tmp_path: Path) -> None:
    run = {"steps": 900, "learning_starts": 100, "checkpoint_replay": False}
    settings = {"env": {"protocol": "cleanrl"}, "run": run, "replay": {"capacity": 500}}
    train("dqn", "CartPole-v1", settings=settings, out=tmp_path, until=890)
    resumed = train("dqn", "CartPole-v1", settings=settings, out=tmp_path, resume=True)
    assert resumed["evaluation"]["episodes"] == resumed["episodes"] > 10


def test_a_run_in_which_no_episode_ends_has_no_training_score(tmp_path: Path) -> None:
    settings = {"env": {"protocol": "cleanrl"}, "run": {"steps": 50}}
    result = train("random", "MountainCar-v0", settings=settings, out=tmp_path)
    assert result["evaluation"] is None
    found = find_runs([tmp_path])
    assert compare(*found).failed[0].reason == "no evaluation at 50 of 50 agent steps"
