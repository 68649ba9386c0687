"""Weights taken from a run that was trained alike: what comes out is what training anew would have come to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from processes import qladder

from qladder.envs.errors import UserError
from qladder.runners import train
from qladder.runners.claim_file import load_claim
from qladder.runners.claims import _trained, cards, run_claim
from qladder.runners.config import resolve
from qladder.runners.likeness import training_differs, training_hash
from qladder.runners.loading import load, run_config
from qladder.runners.runs import read_run
from qladder.runners.settings import Table, merge
from qladder.runners.taken import own_cost, take, trained_runs

SMALL: Table = {
    "agent": {"hidden": [8]},
    "run": {"steps": 600, "learning_starts": 100, "eval_every": 200, "eval_episodes": 2, "threads": 1},
}
OTHERWISE: Table = {
    "agent": {"stress": "prune-random", "stress_size": 0.5},
    "env": {"eval_kwargs": {"sutton_barto_reward": True}},
    "run": {"label": "without half"},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("trained")
    return Path(train("dqn", "CartPole-v1", settings=SMALL, out=place)["run"])


def copy(trained: Path, to: Path) -> Path:
    return Path(shutil.copytree(trained, to / trained.name))


def changed(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_it_comes_to_what_training_comes_to(trained: Path, tmp_path: Path) -> None:
    anew = train("dqn", "CartPole-v1", settings=merge(SMALL, OTHERWISE), out=tmp_path)
    taken = take(trained, settings=OTHERWISE, out=tmp_path, name="taken")
    assert taken["evaluation"] == anew["evaluation"]
    assert taken["evaluation"] != read_run(trained).evaluation
    one, other = read_run(tmp_path / "taken"), read_run(anew["run"])
    assert one.curve[0].mean == other.curve[-1].mean
    assert [p.agent_steps for p in one.curve] == [600]
    for field in ("agent", "env", "settings_hash", "protocol", "frames", "agent_steps", "updates", "episodes"):
        assert getattr(one, field) == getattr(other, field), field
    assert (tmp_path / "taken" / "config.toml").read_bytes() == (Path(anew["run"]) / "config.toml").read_bytes()
    assert one.seconds == read_run(trained).seconds  # of the training
    assert own_cost(one)["agent_steps"] == own_cost(one)["seconds"] == 0
    assert 0 < own_cost(one)["cpu_seconds"] < own_cost(other)["cpu_seconds"]
    assert own_cost(other)["agent_steps"] == 600
    with pytest.raises(UserError, match=f"took the weights of {trained}, where the checkpoints are"):
        load(one.folder)


def test_one_that_was_killed_is_done_again(trained: Path, tmp_path: Path) -> None:
    take(trained, settings=OTHERWISE, out=tmp_path, name="taken")
    (tmp_path / "taken" / "summary.json").unlink()
    with pytest.raises(UserError, match="exists already"):
        take(trained, settings=OTHERWISE, out=tmp_path, name="taken")
    other = merge(OTHERWISE, {"agent": {"stress_size": 0.25}})
    with pytest.raises(UserError, match=r"agent\.stress_size was 0\.5 and is 0\.25 now"):
        take(trained, settings=other, out=tmp_path, name="taken", resume=True)
    take(trained, settings=OTHERWISE, out=tmp_path, name="taken", resume=True)
    assert len((tmp_path / "taken" / "metrics.jsonl").read_text().splitlines()) == 1
    assert read_run(tmp_path / "taken").exit_reason == "finished"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"agent": {"gamma": 0.5}}, r"trained with other settings: agent\.gamma"),
        ({"run": {"steps": 700, "seed": 1}}, r"other settings: run\.seed, run\.steps"),
        ({"env": {"kwargs": {"sutton_barto_reward": True}}}, r"other settings: env\.kwargs"),
    ],
)
def test_what_is_trained_otherwise_is_refused(trained: Path, tmp_path: Path, settings: Table, said: str) -> None:
    with pytest.raises(UserError, match=said):
        take(trained, settings=settings, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_runs_that_have_nothing_to_give_are_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run folder"):
        take(tmp_path / "none", out=tmp_path)
    take(trained, settings=OTHERWISE, out=tmp_path, name="taken")
    with pytest.raises(UserError, match="took its own weights from another"):
        take(tmp_path / "taken", out=tmp_path, name="again")
    other = copy(trained, tmp_path)
    changed(other / "summary.json", exit_reason="terminated")
    with pytest.raises(UserError, match="has not trained to its end"):
        take(other, out=tmp_path, name="again")
    changed(other / "summary.json", exit_reason="finished", protocol={"name": "classic", "version": 0, "hash": "0"})
    with pytest.raises(UserError, match=r"was made under classic v0 \(0\), another protocol"):
        take(other, out=tmp_path, name="again")
    other = copy(trained, tmp_path / "b")
    for state in other.glob("checkpoints/step-*/state.json"):
        state.write_text("{}")
    with pytest.raises(UserError, match="no good checkpoint of its end"):
        take(other, out=tmp_path, name="again")


def test_weights_of_another_version_are_taken_on_request(trained: Path, tmp_path: Path) -> None:
    other = copy(trained, tmp_path)
    manifest = json.loads((other / "manifest.json").read_text())
    changed(other / "manifest.json", versions={**manifest["versions"], "numpy": "1.0"})
    with pytest.raises(UserError, match=r"versions\.numpy was 1\.0 and is .*--allow-drift"):
        take(other, out=tmp_path, name="taken")
    done = qladder(
        *("train", "--trained-in", str(other), "--out", str(tmp_path), "--name", "taken", "--resume"),
        *("--allow-drift", "--json"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["evaluation"]["returns"] == list(read_run(trained).evaluation.returns)  # type: ignore[union-attr]
    (told,) = json.loads((tmp_path / "taken" / "manifest.json").read_text())["trained_in"]["drift"]
    assert told.startswith("versions.numpy was 1.0")
    assert trained_runs([tmp_path]) == {}
    assert trained_runs([trained.parent, tmp_path / "none"]) == {training_hash(run_config(trained)): trained}


def test_a_run_that_has_begun_to_train_is_left_to_go_on(trained: Path, tmp_path: Path) -> None:
    half = train("dqn", "CartPole-v1", settings=merge(SMALL, OTHERWISE), out=tmp_path, until=300)
    with pytest.raises(UserError, match="holds checkpoints of its own"):
        take(trained, settings=OTHERWISE, out=tmp_path, name=Path(half["run"]).name, resume=True)


def test_a_score_of_the_training_has_no_other_evaluation(tmp_path: Path) -> None:
    settings = merge(SMALL, {"env": {"protocol": "cleanrl"}})
    run = train("dqn", "CartPole-v1", settings=settings, out=tmp_path)
    with pytest.raises(UserError, match="by protocol cleanrl the score is that of the training"):
        take(Path(run["run"]), out=tmp_path, name="taken")


def test_training_knows_nothing_of_labels_and_evaluation() -> None:
    config = resolve("dqn", "CartPole-v1", SMALL)
    assert training_hash(resolve("dqn", "CartPole-v1", merge(SMALL, OTHERWISE, {"run": {"claim": "c"}}))) == (
        training_hash(config)
    )
    for section in ("agent", "replay", "run"):
        for name, value in config.table()[section].items():
            if isinstance(value, int | float) and not isinstance(value, bool) and name != "stress_size":
                another = value + 1 if isinstance(value, int) else value / 2 or 0.5
                other = resolve("dqn", "CartPole-v1", merge(SMALL, {section: {name: another}}))
                free = name in ("hang_after", "health_every", "log_every", "threads")
                assert (training_hash(other) == training_hash(config)) == free, name
                assert training_differs(config, other) == ([] if free else [f"{section}.{name}"])


CLAIM = """
claim = "Half of the weights are enough"
said_by = "the field"
hypothesis = "They are."
held_equal = "All."
not_equal = "The weights."
would_change = "Nothing."
metric = "score"
seeds = 2
settings = { agent = { hidden = [8] }, run = { learning_starts = 100, eval_every = 200, eval_episodes = 2 } }
[[place]]
env = "CartPole-v1"
steps = 600
[[arm]]
name = "whole"
[[arm]]
name = "half"
settings.agent = { stress = "prune-random", stress_size = 0.5 }
[[question]]
name = "enough"
sentence = "Half do as well."
contrast = { half = 1, whole = -1 }
"""


def test_a_claim_trains_each_network_once_and_takes_those_of_others(tmp_path: Path) -> None:
    first, second = (tmp_path / f"{name}.toml" for name in ("first", "second"))
    first.write_text(CLAIM)
    second.write_text(CLAIM.replace("0.5", "0.25"))
    out = tmp_path / "out"
    for file in (first, second):
        assert run_claim(str(file), out=out, jobs=2) == []
    one, two = cards([str(first), str(second)], out)
    costs = [(card.cost["runs"], card.cost["taken"], card.cost["agent_steps"]) for card in (one, two)]
    assert costs == [(4, 2, 1200), (4, 4, 0)]
    assert one.measures["whole"] == two.measures["whole"]
    half = {"agent": {"stress": "prune-random", "stress_size": 0.5}}
    anew = train("dqn", "CartPole-v1", settings=merge(SMALL, half), out=tmp_path)
    (taken,) = (run for run in one.runs if run.agent == "half" and run.seed == 0)
    assert taken.evaluation is not None
    assert taken.evaluation.mean == anew["evaluation"]["mean"]


def test_a_measure_of_whole_curves_takes_nothing(tmp_path: Path) -> None:
    depth = load_claim("depth")
    assert depth.metric == "area"
    assert _trained(depth, tmp_path) is None
    assert _trained(load_claim("shifts"), tmp_path) == {}
