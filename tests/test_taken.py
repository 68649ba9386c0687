"""Weights taken from a run that was trained alike: what comes out is what training anew would have come to."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from processes import qladder

from qladder.agents.dqn_config import DQNConfig
from qladder.envs.errors import UserError
from qladder.runners import train
from qladder.runners.claim_file import load_claim
from qladder.runners.claims import _trained, cards, run_claim
from qladder.runners.config import resolve
from qladder.runners.crew import Crew
from qladder.runners.curves import CLOCKS, aggregate
from qladder.runners.doctor import doctor
from qladder.runners.groups import groups
from qladder.runners.jobs import Job, jobs_of, write_settings
from qladder.runners.likeness import _training, own_modules, training_differs, training_hash
from qladder.runners.loading import load, run_config
from qladder.runners.reach import reached
from qladder.runners.runs import read_run
from qladder.runners.settings import Table, merge
from qladder.runners.suite_file import load_suite
from qladder.runners.taken import own_cost, trained_runs
from qladder.runners.verify import verify

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


def damage_checkpoints(run: Path) -> None:
    for state in run.glob("checkpoints/step-*/state.json"):
        state.write_text("{}")


@pytest.mark.parametrize(
    ("agent", "env", "settings", "otherwise"),
    [
        ("dqn", "CartPole-v1", SMALL, OTHERWISE),
        ("noisy-dqn", "CartPole-v1", SMALL, OTHERWISE),
        ("drqn", "CartPole-v1", SMALL, {"env": OTHERWISE["env"], "run": OTHERWISE["run"]}),
        (
            *("q-learning", "FrozenLake-v1", {"run": {"steps": 2_000}}),
            {"env": {"eval_kwargs": {"is_slippery": False}}, "run": {"label": "dry", "eval_every": 300}},
        ),
    ],
)
def test_it_comes_to_what_training_comes_to(
    agent: str, env: str, settings: Table, otherwise: Table, tmp_path: Path
) -> None:
    source = Path(train(agent, env, settings=settings, out=tmp_path)["run"])
    anew = train(agent, env, settings=merge(settings, otherwise), out=tmp_path, name="anew")
    taken = train(trained_in=source, settings=otherwise, out=tmp_path)
    assert taken["evaluation"] == anew["evaluation"]
    assert taken["evaluation"]["mean"] != json.loads((source / "summary.json").read_text())["evaluation"]["mean"]
    one, other = read_run(taken["run"]), read_run(anew["run"])
    assert one.taken
    assert not other.taken
    assert one.curve[0].mean == other.curve[-1].mean
    assert [point.agent_steps for point in one.curve] == [other.agent_steps]
    for field in ("agent", "env", "settings_hash", "protocol", "frames", "agent_steps", "updates", "episodes"):
        assert getattr(one, field) == getattr(other, field), field
    assert (one.folder / "config.toml").read_bytes() == (other.folder / "config.toml").read_bytes()


def test_what_it_costs_is_the_evaluation(trained: Path, tmp_path: Path) -> None:
    taken, source = read_run(train(trained_in=trained, settings=OTHERWISE, out=tmp_path)["run"]), read_run(trained)
    assert taken.seconds == source.seconds  # of the training
    assert own_cost(taken)["agent_steps"] == own_cost(taken)["seconds"] == 0
    assert 0 < own_cost(taken)["cpu_seconds"] < own_cost(source)["cpu_seconds"]
    assert own_cost(source) == {
        "agent_steps": 600,
        "seconds": source.seconds,
        "cpu_seconds": source.cpu_seconds,
    }


def test_its_folder_says_where_the_weights_are(trained: Path, tmp_path: Path) -> None:
    taken = Path(train(trained_in=trained, settings=OTHERWISE, out=tmp_path)["run"])
    said = f"took the weights of {trained}, where the checkpoints are"
    with pytest.raises(UserError, match=said):
        load(taken)
    with pytest.raises(UserError, match=said):
        verify(taken)
    assert said in json.dumps(doctor(taken))
    with pytest.raises(UserError, match="took its weights from another run; --trained-in does that again"):
        train(config=taken / "config.toml", out=tmp_path, resume=True)
    assert read_run(taken).exit_reason == "finished"
    with pytest.raises(UserError, match="took its own weights from another"):
        train(trained_in=taken, out=tmp_path, name="again")


def test_a_wrapper_of_ones_own_around_evaluations_is_no_other_training(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_dusk.py").write_text(
        "from qladder.envs.flicker import Flicker\ndef dusk(env): return Flicker(env, 0.9)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    other = {"env": {"eval_wrappers": ["my_dusk:dusk"]}, "run": {"label": "dusk"}}
    taken = train(trained_in=trained, settings=other, out=tmp_path)
    assert taken["evaluation"]["returns"] != read_run(trained).evaluation.returns  # type: ignore[union-attr]
    manifest = json.loads((Path(taken["run"]) / "manifest.json").read_text())
    assert (list(manifest["own_code"]), manifest["trained_in"]["drift"]) == (["my_dusk"], [])
    assert read_run(taken["run"]).alarms == read_run(trained).alarms != {}
    with pytest.raises(UserError, match="until, with trained_in"):
        train(trained_in=trained, settings=other, out=tmp_path, until=3)


def test_rules_of_the_score_are_no_other_training(trained: Path, tmp_path: Path) -> None:
    other = {"protocol": {"evaluation": {"episodes": 7, "epsilon": 0.5}}, "run": {"label": "half"}}
    taken = read_run(train(trained_in=trained, settings=other, out=tmp_path)["run"])
    assert taken.taken
    assert taken.evaluation is not None
    assert (taken.evaluation.episodes, taken.protocol.name) == (
        7,
        "classic (evaluation.epsilon=0.5, evaluation.episodes=7)",
    )
    assert training_hash(resolve("dqn", "CartPole-v1", merge(SMALL, other))) == training_hash(run_config(trained))


def test_one_that_was_killed_is_done_again(trained: Path, tmp_path: Path) -> None:
    train(trained_in=trained, settings=OTHERWISE, out=tmp_path, name="taken")
    (tmp_path / "taken" / "summary.json").unlink()
    with pytest.raises(UserError, match="exists already"):
        train(trained_in=trained, settings=OTHERWISE, out=tmp_path, name="taken")
    other = merge(OTHERWISE, {"agent": {"stress_size": 0.25}})
    with pytest.raises(UserError, match=r"agent\.stress_size was 0\.5 and is 0\.25 now"):
        train(trained_in=trained, settings=other, out=tmp_path, name="taken", resume=True)
    train(trained_in=trained, settings=OTHERWISE, out=tmp_path, name="taken", resume=True)
    assert len((tmp_path / "taken" / "metrics.jsonl").read_text().splitlines()) == 1
    assert read_run(tmp_path / "taken").exit_reason == "finished"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"agent": {"gamma": 0.5}}, r"trained with other settings: agent\.gamma"),
        ({"run": {"steps": 700, "seed": 1}}, r"other settings: run\.seed, run\.steps"),
        ({"env": {"kwargs": {"sutton_barto_reward": True}}}, r"other settings: env\.kwargs"),
        ({"protocol": {"clip_rewards": True}}, r"other settings: protocol\.clip_rewards"),
        ({"agent": {"stress": "prune-random"}}, r"is called dqn too: --name or --run\.label"),
    ],
)
def test_what_is_trained_otherwise_or_called_alike_is_refused(
    trained: Path, tmp_path: Path, settings: Table, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        train(trained_in=trained, settings=settings, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_runs_that_have_nothing_to_give_are_refused_and_leave_nothing(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run folder"):
        train(trained_in=tmp_path / "none", out=tmp_path, name="again")
    other = copy(trained, tmp_path)
    changed(other / "summary.json", exit_reason="terminated")
    with pytest.raises(UserError, match="has not trained to its end"):
        train(trained_in=other, out=tmp_path, name="again")
    changed(other / "summary.json", exit_reason="finished", protocol={"name": "classic", "version": 0, "hash": "0"})
    with pytest.raises(UserError, match=r"was made under classic v0 \(0\), which has other rules now"):
        train(trained_in=other, out=tmp_path, name="again")
    other = copy(trained, tmp_path / "b")
    damage_checkpoints(other)
    with pytest.raises(UserError, match="no good checkpoint of its end"):
        train(trained_in=other, out=tmp_path, name="again")
    assert not (tmp_path / "again").exists()


def test_weights_of_another_version_are_taken_on_request(trained: Path, tmp_path: Path) -> None:
    other = copy(trained, tmp_path)
    manifest = json.loads((other / "manifest.json").read_text())
    changed(other / "manifest.json", versions={**manifest["versions"], "numpy": "1.0"})
    with pytest.raises(UserError, match=r"versions\.numpy was 1\.0 and is .*--allow-drift"):
        train(trained_in=other, out=tmp_path, name="taken")
    command = (
        "train",
        "--trained-in",
        str(other),
        "--out",
        str(tmp_path),
        "--name",
        "taken",
        "--allow-drift",
        "--json",
    )
    done = qladder(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    evaluation = read_run(trained).evaluation
    assert evaluation is not None
    assert json.loads(done.stdout)["evaluation"]["returns"] == list(evaluation.returns)
    (told,) = json.loads((tmp_path / "taken" / "manifest.json").read_text())["trained_in"]["drift"]
    assert told.startswith("versions.numpy was 1.0")
    assert trained_runs([tmp_path]) == {}
    twice = qladder(*command, "--until-done", cwd=tmp_path)
    assert (twice.returncode, twice.stdout) == (2, "")
    assert "--until-done with --trained-in" in twice.stderr


def test_of_a_resume_that_was_not_exact_and_of_code_of_ones_own_nothing_is_sure(trained: Path, tmp_path: Path) -> None:
    lost = merge(SMALL, {"run": {"checkpoint_replay": False, "learning_starts": 50}})
    half = train("dqn", "CartPole-v1", settings=lost, out=tmp_path, until=300)
    train("dqn", "CartPole-v1", settings=lost, out=tmp_path, resume=True)
    with pytest.raises(UserError, match="it was once resumed otherwise than it would have gone on"):
        train(trained_in=Path(half["run"]), out=tmp_path, name="taken")
    assert trained_runs([tmp_path]) == {}
    other = copy(trained, tmp_path / "b")
    config = (other / "config.toml").read_text()
    (other / "config.toml").write_text(config.replace("\nwrappers = []", '\nwrappers = ["no_such_module:Mine"]'))
    assert trained_runs([tmp_path / "b"]) == {}
    (other / "config.toml").write_text(config.replace('name = "dqn"', "name = 3"))
    assert trained_runs([tmp_path / "b"]) == {}
    (other / "config.toml").write_text(config)
    assert trained_runs([tmp_path / "b", tmp_path / "none"]) == {training_hash(run_config(trained)): other}
    wrapped = resolve("dqn", "CartPole-v1", merge(SMALL, {"env": {"wrappers": ["mine:wrapper"]}}))
    assert own_modules(wrapped.table())
    ours = resolve("dqn", "CartPole-v1", merge(SMALL, {"env": {"wrappers": ["qladder.envs.stacked:stack_2"]}}))
    assert not own_modules(ours.table())
    assert own_modules({**ours.table(), "agent": {"name": "mine:Agent"}})
    assert own_modules({**ours.table(), "env": {"id": "mine:Corridor-v0"}})


def test_a_run_that_has_begun_to_train_is_left_to_go_on(trained: Path, tmp_path: Path) -> None:
    half = train("dqn", "CartPole-v1", settings=merge(SMALL, OTHERWISE), out=tmp_path, until=300)
    with pytest.raises(UserError, match="holds weights of its own"):
        train(trained_in=trained, settings=OTHERWISE, out=tmp_path, name=Path(half["run"]).name, resume=True)


def test_a_score_of_the_training_has_no_other_evaluation(tmp_path: Path) -> None:
    settings = merge(SMALL, {"env": {"protocol": "cleanrl"}})
    run = train("dqn", "CartPole-v1", settings=settings, out=tmp_path)
    with pytest.raises(UserError, match="by protocol cleanrl the score is that of the training"):
        train(trained_in=Path(run["run"]), out=tmp_path, name="taken")


def test_training_knows_nothing_of_names_and_evaluation_and_of_all_else() -> None:
    config = resolve("dqn", "CartPole-v1", SMALL)
    evaluated = merge(OTHERWISE, {"run": {"claim": "c", "eval_every": 7, "eval_episodes": 3}})
    assert training_hash(resolve("dqn", "CartPole-v1", merge(SMALL, evaluated))) == training_hash(config)
    assert training_differs(config, resolve("dqn", "CartPole-v1", merge(SMALL, {"replay": {"n_step": 3}}))) == [
        "replay.n_step"
    ]
    table, free = config.table(), []
    for section, fields in table.items():
        for name in fields:
            other = {**table, section: {**fields, name: "another"}}
            free += [f"{section}.{name}"] if _training(other, DQNConfig) == _training(table, DQNConfig) else []
    assert sorted(free) == [
        *(
            "agent.stress",
            "agent.stress_size",
            "env.eval_kwargs",
            "env.eval_wrappers",
            "run.checkpoint_every",
            "run.checkpoint_minutes",
        ),
        *("run.checkpoint_replay", "run.claim", "run.device", "run.eval_episodes", "run.eval_every", "run.hang_after"),
        *("run.health_every", "run.keep_every", "run.label", "run.log_every", "run.threads"),
    ]


def test_curves_and_times_are_of_runs_that_were_evaluated_on_the_way(trained: Path, tmp_path: Path) -> None:
    source = read_run(trained)
    taken = read_run(train(trained_in=trained, out=tmp_path, name="taken")["run"])
    assert aggregate([source, taken], CLOCKS[0]).x.tolist() == [200, 400, 600]
    assert aggregate([taken], CLOCKS[0]).x.tolist() == [600]
    (group,) = groups([source])
    assert len(reached([group], {"CartPole-v1": 0.0})) == 1
    (group,) = groups([taken])
    assert reached([group], {"CartPole-v1": 0.0}) == []


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
    assert run_claim(str(first), out=out, jobs=2) == []
    (bad,) = out.glob("first-*/runs/whole__CartPole-v1__s1")
    damage_checkpoints(bad)  # what can't be taken is trained
    assert run_claim(str(second), out=out, jobs=2) == []
    one, two = cards([str(first), str(second)], out)
    costs = [(card.cost["runs"], card.cost["taken"], card.cost["agent_steps"]) for card in (one, two)]
    assert costs == [(4, 2, 1200), (4, 3, 600)]
    assert one.measures["whole"] == two.measures["whole"]
    half = {"agent": {"stress": "prune-random", "stress_size": 0.5}}
    anew = train("dqn", "CartPole-v1", settings=merge(SMALL, half), out=tmp_path)
    (taken,) = (run for run in one.found.runs if run.agent == "half" and run.seed == 0)
    assert taken.evaluation is not None
    assert taken.evaluation.mean == anew["evaluation"]["mean"]


def jobs_alike(place: Path, settings: str = "", names: Sequence[str] = ("one", "other")) -> list[Job]:
    task = '[[task]]\nagent = "q-learning"\nenv = "FrozenLake-v1"\nsteps = 300\nlabel = "{}"\n' + settings
    (place / "alike.toml").write_text('summary = "alike"\nseeds = 1\n' + "".join(map(task.format, names)))
    return jobs_of(load_suite(str(place / "alike.toml")), place / "o")


def test_what_another_process_has_trained_meanwhile_is_taken(tmp_path: Path) -> None:
    one, other = jobs_alike(tmp_path)
    train(config=write_settings(one), out=one.folder.parent, name=one.folder.name)
    crew = Crew(2, {}, None, progress=False, trained={})
    assert crew.run([one, other]) == {}
    assert [read_run(job.folder).taken for job in (one, other)] == [False, True]


def test_what_another_process_has_under_way_is_waited_for(tmp_path: Path) -> None:
    one, other = jobs_alike(tmp_path)
    place = one.place(".claim")
    place.parent.mkdir(parents=True)
    with place.open("w") as claimed:
        fcntl.flock(claimed, fcntl.LOCK_EX)
        crew = Crew(2, {}, None, progress=False, trained={})
        waiting = [one, other]
        assert not crew._begin_one(waiting)
        assert waiting == [one, other]  # the other would have the weights for nothing
    crew._looked.clear()
    assert crew.run(waiting) == {}
    assert [read_run(job.folder).taken for job in (one, other)] == [False, True]


def test_one_that_was_killed_while_it_took_trains_where_nothing_is_to_be_taken(tmp_path: Path) -> None:
    one, other = jobs_alike(tmp_path)
    train(config=write_settings(one), out=one.folder.parent, name=one.folder.name)
    train(trained_in=one.folder, config=write_settings(other), out=other.folder.parent, name=other.folder.name)
    (other.folder / "summary.json").unlink()
    damage_checkpoints(one.folder)
    crew = Crew(2, {}, None, progress=False, trained={one.training: one.folder})
    assert crew.run([other]) == {}
    assert not read_run(other.folder).taken
    assert [point.agent_steps for point in read_run(other.folder).curve][-1] == 300


def test_one_that_took_trains_where_it_is_to_be_longer(tmp_path: Path) -> None:
    one, other = jobs_alike(tmp_path)
    assert Crew(2, {}, None, progress=False, trained={}).run([one, other]) == {}
    assert read_run(other.folder).taken
    longer = replace(other.config, run=replace(other.config.run, steps=400))
    assert Crew(2, {}, None, progress=False, trained={}).run([replace(other, config=longer)]) == {}
    assert (read_run(other.folder).taken, read_run(other.folder).agent_steps) == (False, 400)


def test_those_that_were_refused_the_same_weights_train(tmp_path: Path) -> None:
    """Both at once: when the second comes back, the first has crossed the source out."""
    one, *others = jobs_alike(tmp_path, names=("one", "two", "three"))
    train(config=write_settings(one), out=one.folder.parent, name=one.folder.name)
    damage_checkpoints(one.folder)
    crew = Crew(2, {}, None, progress=False, trained={one.training: one.folder})
    assert crew.run(others) == {}
    assert all(any(job.folder.glob("checkpoints/step-*")) or read_run(job.folder).taken for job in others)
    assert not all(read_run(job.folder).taken for job in others)


def test_scores_of_the_training_are_trained_for(tmp_path: Path) -> None:
    jobs = jobs_alike(tmp_path, 'protocol = "cleanrl"\n')
    assert Crew(2, {}, None, progress=False, trained={}).run(jobs) == {}
    assert [read_run(job.folder).taken for job in jobs] == [False, False]


def test_a_measure_of_whole_curves_takes_nothing(tmp_path: Path) -> None:
    depth = load_claim("depth")
    assert depth.metric == "area"
    assert _trained(depth, tmp_path) is None
    assert _trained(load_claim("shifts"), tmp_path) == {}
