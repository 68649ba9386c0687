"""Suites: what is missing is run, what is done is left alone, what fails is told."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import OUTSIDE, qladder, stopped

from qladder.envs.errors import UserError
from qladder.runners import train
from qladder.runners.config import resolve
from qladder.runners.jobs import Job
from qladder.runners.likeness import has_settings
from qladder.runners.run_folder import run_name
from qladder.runners.settings import merge
from qladder.runners.suite import run_suite
from qladder.runners.suite_file import Task, load_suite

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "outside.py").write_text(OUTSIDE)
    return tmp_path


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_suite_does_what_is_missing_and_reports(place: Path) -> None:
    suite = place / "tiny.toml"
    task = '[[task]]\nagent = "{}"\nenv = "{}"\nsteps = 200\nat_least = 0.0\n'
    text = 'summary = "small"\nseeds = 2\n' + task.format("q-learning", "FrozenLake-v1")
    suite.write_text(text + task.format("random", "FrozenLake-v1"))
    first = qladder("suite", "tiny.toml", "--jobs", "2", "--out", "o", "--json", cwd=place)
    assert first.returncode == 0, first.stderr
    told = json.loads(first.stdout)
    assert {(s["agent"], s["seeds"]) for s in told["scores"]} == {("q-learning", 2), ("random", 2)}
    assert [p["passed"] for p in told["passed"]] == [2, 2]
    assert (place / "o" / "report.html").is_file()
    summaries = sorted((place / "o").glob("*/summary.json"))
    before = {p: p.stat().st_mtime_ns for p in summaries}
    summaries[0].unlink()
    good = suite.read_text()
    suite.write_text(good + task.format("dqn", "Pendulum-v1"))
    impossible = qladder("suite", "tiny.toml", "--jobs", "2", "--out", "o", "--json", cwd=place)
    assert (impossible.returncode, impossible.stdout) == (2, "")
    assert "suite task 3, dqn on Pendulum-v1: " in impossible.stderr
    assert "finite" in impossible.stderr
    assert not summaries[0].exists()  # said before anything ran
    bad = 'label = "bad"\nsettings.env.kwargs.bad = "raises"\n'
    suite.write_text(good + task.format("q-learning", "outside:Corridor-v0").replace("0.0", "1.0") + bad)
    second = qladder("suite", "tiny.toml", "--jobs", "2", "--out", "o", "--json", cwd=place)
    assert second.returncode == 1
    told = json.loads(second.stdout)
    assert len(told["failed"]) == 2
    assert all("bad__outside" in f["run"] and "the floor gave way" in f["reason"] for f in told["failed"])
    assert [p["passed"] for p in told["passed"]] == [2, 2, 0]
    assert {p: p.stat().st_mtime_ns for p in summaries[1:]} == {p: t for p, t in before.items() if p != summaries[0]}
    assert summaries[0].is_file()


def test_a_suite_goes_on_from_a_ledger_of_its_runs(place: Path) -> None:
    ledger = [sys.executable, str(ROOT / "benchmarks" / "ledger.py")]
    task = '[[task]]\nagent = "q-learning"\nenv = "FrozenLake-v1"\nsteps = 200\n'
    (place / "tiny.toml").write_text('summary = "small"\nseeds = 2\n' + task)
    run_suite(str(place / "tiny.toml"), seeds=1, out=str(place / "o"))
    subprocess.run([*ledger, "pack", "o", "runs.jsonl"], cwd=place, check=True)
    assert len((place / "runs.jsonl").read_text().splitlines()) == 1
    subprocess.run([*ledger, "unpack", "runs.jsonl", "again"], cwd=place, check=True)
    (run,) = (place / "again").iterdir()
    manifest = json.loads((place / "o" / run.name / "manifest.json").read_text())
    del manifest["command_line"], manifest["settings_from"]
    assert json.loads((run / "manifest.json").read_text()) == manifest
    assert str(place) not in (place / "runs.jsonl").read_text()
    assert (run / "summary.json").read_text() == (place / "o" / run.name / "summary.json").read_text()
    kept = (run / "summary.json").stat().st_mtime_ns
    second = run_suite(str(place / "tiny.toml"), out=str(place / "again"))
    assert [s["seeds"] for s in second.to_json()["scores"]] == [2]
    assert (run / "summary.json").stat().st_mtime_ns == kept


TRIALS = """
summary = "trials"
seeds = 2
first_seed = 10
[[trial]]
label = "near"
settings.agent = { gamma = 0.9 }
[[trial]]
label = "bold"
steps = 70
settings.agent = { gamma = 0.95, epsilon = { end = 0.2 } }
[[task]]
agent = "q-learning"
env = "FrozenLake-v1"
steps = 100
settings = { agent = { step_size = 0.25, epsilon = { end = 0.3 } } }
[[task]]
agent = "sarsa"
label = "on-policy"
env = "FrozenLake-v1"
steps = 100
"""


def test_every_task_gets_the_same_trials_under_its_own_settings(tmp_path: Path) -> None:
    (tmp_path / "trials.toml").write_text(TRIALS)
    suite = load_suite(str(tmp_path / "trials.toml"))
    assert [task.label for task in suite.tasks] == [
        "q-learning near", "q-learning bold", "on-policy near", "on-policy bold",
    ]  # fmt: skip
    configs = [resolve(task.agent, task.env, task.table(10)) for task in suite.tasks]
    assert [(c.agent.gamma, c.agent.epsilon.end) for c in configs[:2]] == [(0.9, 0.3), (0.95, 0.3)]
    assert [c.agent.step_size for c in configs[:2]] == [0.25, 0.25]
    assert (configs[3].label, configs[3].agent_name, configs[3].agent.gamma) == ("on-policy bold", "sarsa", 0.95)
    assert configs[3].agent.epsilon.end == 0.2
    assert [c.run.steps for c in configs] == [100, 70, 100, 70]
    out = tmp_path / "o"
    result = run_suite(str(tmp_path / "trials.toml"), seeds=1, out=str(out))
    assert len(result.to_json()["scores"]) == 4
    assert len(list(out.glob("*__s10/summary.json"))) == 4


@pytest.mark.parametrize(
    ("trial", "said"),
    [
        ("settings.agent.gamma = 0.9", "trial 1.*label"),
        ('label = ""\nsettings.agent.gamma = 0.9', "trial 1.*label"),
        ('label = "near"', "trial 1.*settings"),
        ('label = "near"\nsettings = 0.9', "trial 1.*settings"),
        ('label = "near"\nsettings.agent.gama = 0.9', "did you mean 'gamma'"),
        ('label = "near"\nsettings.run.seed = 9', "trial 'near': run.seed is the suite's own"),
    ],
)
def test_a_trial_of_what_there_is_not_is_refused(trial: str, said: str, tmp_path: Path) -> None:
    task = '[[task]]\nagent = "q-learning"\nenv = "FrozenLake-v1"\nsteps = 9\n'
    (tmp_path / "s.toml").write_text(f'summary = ""\nseeds = 1\n[[trial]]\n{trial}\n{task}')
    with pytest.raises(UserError, match=said):
        run_suite(str(tmp_path / "s.toml"), out=str(tmp_path / "o"))
    assert not list(tmp_path.glob("o/*"))


@pytest.mark.parametrize(
    ("text", "name"), [("trial = 3", "trial"), ("task = 3", "task"), ('[trial]\nlabel = "x"', "trial")]
)
def test_what_is_no_list_of_tables_is_refused(text: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(f'summary = ""\nseeds = 1\n{text}\n')
    with pytest.raises(UserError, match=rf"'{name}': must be tables, each under \[\[{name}\]\]"):
        load_suite(str(tmp_path / "s.toml"))


def test_a_suite_with_an_unknown_key_is_refused(place: Path) -> None:
    (place / "odd.toml").write_text('summary = ""\nseeds = 1\n[[task]]\nagent = "random"\nenv = "Taxi-v4"\nstep = 9\n')
    result = qladder("suite", "odd.toml", cwd=place)
    assert result.returncode == 2
    assert "did you mean 'steps'" in result.stderr


HALF = """
summary = "one run"
seeds = 1
[[task]]
agent = "q-learning"
env = "FrozenLake-v1"
steps = 200
[task.settings.run]
log_every = 50
eval_every = 1000
[task.settings.agent]
gamma = {}
"""


def test_a_run_that_was_cut_off_goes_on_and_one_of_other_settings_is_left_alone(tmp_path: Path) -> None:
    suite, out = tmp_path / "one.toml", tmp_path / "o"
    run_settings = {"steps": 100, "episodes": "none", "log_every": 50, "eval_every": 1000}
    settings = {"agent": {"gamma": 0.9}, "run": run_settings}
    run = Path(train("q-learning", "FrozenLake-v1", settings=settings, out=out)["run"])
    suite.write_text(HALF.format(0.9))
    assert run_suite(str(suite), out=str(out)).failed == []
    assert [r["agent_steps"] for r in records(run) if "train/episode_return" in r or "loss/td" in r] == [
        50,
        100,
        150,
        200,
    ]
    before = (run / "summary.json").read_bytes()
    suite.write_text(HALF.format(0.5))
    result = run_suite(str(suite), out=str(out))
    assert len(result.failed) == 1
    assert "agent.gamma was 0.9 and is 0.5 now" in result.failed[0]["reason"]
    assert (run / "summary.json").read_bytes() == before


def test_a_run_made_longer_but_not_finished_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def job(steps: int) -> Job:
        table = {"agent": "q-learning", "env": "FrozenLake-v1", "steps": steps}
        task = Task(**table)  # type: ignore[arg-type]
        config = resolve("q-learning", "FrozenLake-v1", task.table(0))
        return Job(task, 1, 0, config, tmp_path / run_name(config))

    settings = {"run": {"seed": 0, "threads": 1, "episodes": "none"}}
    train("q-learning", "FrozenLake-v1", settings=merge(settings, {"run": {"steps": 50}}), out=tmp_path)
    assert job(50).done()
    monkeypatch.setattr("qladder.runners.training.interact", lambda *_: iter([]))  # as if killed before its first step
    longer = merge(settings, {"run": {"steps": 5000}})
    with pytest.raises(AssertionError, match="no end of its own"):
        train("q-learning", "FrozenLake-v1", settings=longer, out=tmp_path, resume=True)
    assert not job(5000).done()
    assert not (job(5000).folder / "summary.json").exists()


def test_a_finished_run_of_other_steps_or_protocol_is_not_done(tmp_path: Path) -> None:
    settings = {"run": {"steps": 50, "threads": 1, "episodes": "none"}}
    run = Path(train("q-learning", "FrozenLake-v1", settings=settings, out=tmp_path)["run"])
    task = Task(agent="q-learning", env="FrozenLake-v1", steps=50)
    job = Job(task, 1, 0, resolve("q-learning", "FrozenLake-v1", task.table(0)), run)
    assert job.done()
    kept = json.loads((run / "summary.json").read_text())
    for change in ({"steps": 30}, {"protocol": {**kept["protocol"], "hash": "of another"}}):
        (run / "summary.json").write_text(json.dumps({**kept, **change}))
        assert not job.done()


def test_settings_that_an_older_version_did_not_know_count_as_their_defaults(tmp_path: Path) -> None:
    settings = {"agent": {"gamma": 0.9}, "run": {"steps": 50, "eval_every": 1000, "seed": 3}}
    run = Path(train("q-learning", "FrozenLake-v1", settings=settings, out=tmp_path)["run"])
    file = run / "config.toml"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(line for line in lines if not line.startswith(("eval_episodes", "reach", "wrappers"))))
    assert len(file.read_text().splitlines()) == len(lines) - 3
    for seed, other, same in [(3, {}, True), (4, {}, True), (3, {"gamma": 0.8}, False), (3, {"reach": 7.0}, False)]:
        flags = merge(settings, {"agent": other, "run": {"seed": seed}})
        assert has_settings(run, resolve("q-learning", "FrozenLake-v1", flags)) is same
    assert not has_settings(run, resolve("q-learning", "FrozenLake-v1", merge(settings, {"run": {"eval_episodes": 9}})))


def test_a_suite_of_which_nothing_succeeds_says_so(place: Path) -> None:
    task = 'agent = "random"\nenv = "outside:Corridor-v0"\nsteps = 90\nat_least = 1.0\n'
    task += 'settings.env.kwargs.bad = "raises"\n'
    (place / "bad.toml").write_text(f'summary = ""\nseeds = 1\n[[task]]\n{task}')
    result = qladder("suite", "bad.toml", "--out", "o", "--json", cwd=place)
    told = json.loads(result.stdout)
    assert result.returncode == 1
    assert (told["scores"], told["pairs"], told["report"], len(told["failed"])) == ([], [], None, 1)
    assert told["passed"] == [
        {"agent": "random", "env": "outside:Corridor-v0", "at_least": 1.0, "passed": 0, "seeds": 0, "scores": []}
    ]


def test_damage_in_a_finished_run_stops_no_suite(place: Path) -> None:
    (place / "s.toml").write_text(
        'summary = ""\nseeds = 5\n[[task]]\nagent = "random"\nenv = "FrozenLake-v1"\nsteps = 60\nat_least = 0.0\n'
    )
    assert run_suite(str(place / "s.toml"), out=str(place / "o")).failed == []
    runs = sorted((place / "o").glob("random__*"))
    (runs[0] / "manifest.json").unlink()
    (runs[1] / "manifest.json").write_text('{"command": "x"}')
    (runs[2] / "manifest.json").write_text('{"device": ')
    (runs[3] / "config.toml").write_text("= no TOML")
    result = run_suite(str(place / "s.toml"), out=str(place / "o"))
    assert [row["run"] for row in result.to_json()["failed"]] == [str(runs[3]), str(runs[2])]
    assert "config.toml" in result.failed[0]["reason"]
    assert [score["seeds"] for score in result.to_json()["scores"]] == [3]
    assert json.loads((place / "o" / "results.json").read_text())["passed"][0]["seeds"] == 3


def test_a_run_without_a_score_does_not_pass(place: Path) -> None:
    task = 'agent = "random"\nenv = "MountainCar-v0"\nsteps = 50\nprotocol = "cleanrl"\nat_least = -500.0\n'
    (place / "s.toml").write_text(f'summary = ""\nseeds = 2\n[[task]]\n{task}')
    result = run_suite(str(place / "s.toml"), out=str(place / "o"))
    assert [(row["passed"], row["seeds"], row["scores"]) for row in result.passed] == [(0, 2, [])]
    assert [row["reason"] for row in result.to_json()["failed"]] == ["no evaluation at 50 of 50 agent steps"] * 2


@pytest.mark.parametrize("text", ["settings.run = 3", "settings.env = 3", "settings = 3", "settings.agent = [1]"])
def test_sections_that_are_no_tables_are_refused(text: str, tmp_path: Path) -> None:
    task = '[[task]]\nagent = "random"\nenv = "FrozenLake-v1"\nsteps = 9\n'
    for number, suite in enumerate([f"{task}{text}\n", f'[[trial]]\nlabel = "x"\n{text}\n{task}']):
        (tmp_path / "s.toml").write_text(f'summary = ""\nseeds = 1\n{suite}')
        with pytest.raises(UserError, match=("task 1", "trial 1")[number] + r"\.settings"):
            load_suite(str(tmp_path / "s.toml"))


def test_a_label_may_begin_with_anything(place: Path) -> None:
    task = 'agent = "random"\nenv = "FrozenLake-v1"\nsteps = 50\nlabel = "+noise"\n'
    (place / "s.toml").write_text(f'summary = ""\nseeds = 1\n[[task]]\n{task}')
    result = run_suite(str(place / "s.toml"), out=str(place / "o"))
    assert result.failed == []
    assert [score["agent"] for score in result.to_json()["scores"]] == ["+noise"]


def test_ctrl_c_saves_what_runs_and_begins_nothing_more(place: Path) -> None:
    task = '[[task]]\nagent = "q-learning"\nenv = "{}"\nsteps = 100_000_000\n'
    text = 'summary = ""\nseeds = 1\n' + task.format("FrozenLake-v1") + task.format("Taxi-v4")
    (place / "long.toml").write_text(text)
    run = place / "o" / "q-learning__FrozenLake-v1__s0"
    status, error = stopped(
        signal.SIGINT, "suite", "long.toml", "--jobs", "1", "--out", "o", cwd=place, ready=run / "metrics.jsonl"
    )
    assert status == 130
    assert "saved; the same command goes on" in error
    assert "Traceback" not in error
    assert list((run / "checkpoints").glob("step-*"))
    assert json.loads((run / "manifest.json").read_text())["exit_reason"] == "terminated"
    assert not (place / "o" / "q-learning__Taxi-v4__s0").exists()


def test_two_tasks_of_one_folder_and_a_file_for_a_folder_are_refused(tmp_path: Path) -> None:
    task = '[[task]]\nagent = "random"\nenv = "Taxi-v4"\nsteps = {}\n'
    (tmp_path / "s.toml").write_text('summary = ""\nseeds = 1\n' + task.format(9) + task.format(8))
    with pytest.raises(UserError, match="suite tasks 1 and 2 are both random on Taxi-v4"):
        run_suite(str(tmp_path / "s.toml"), out=str(tmp_path / "o"))
    with pytest.raises(UserError, match="is a file, not a folder"):
        run_suite("toy-text", out=str(tmp_path / "s.toml"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('summary = ""\nseeds = 0\n[[task]]\nagent = "random"\nenv = "Taxi-v4"\n', "seeds = 0: .*greater than 0"),
        ('summary = ""\nseeds = 1\n', "there is no task in it"),
        ('summary = ""\nseeds = 1\nseed = 2\n[[task]]\nagent = "random"\nenv = "Taxi-v4"\n', "did you mean 'seeds'"),
        ('summary = ""\nseeds = 1\n[[task]]\nagent = "random"\n', "env"),
        ("summary = ", "is not TOML"),
    ],
)
def test_suites_that_do_not_fit(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(UserError, match=said):
        load_suite(str(tmp_path / "s.toml"))


def test_runs_of_other_code_of_ones_own_are_not_taken_for_done(place: Path) -> None:
    task = '[[task]]\nagent = "{}"\nenv = "outside:Corridor-v0"\nsteps = 90\n'
    text = 'summary = ""\nseeds = {}\n' + task.format("outside:Right") + task.format("random")
    (place / "s.toml").write_text(text.format(1))
    given = ("suite", "s.toml", "--out", "o", "--json")
    first = qladder(*given, cwd=place)
    assert (first.returncode, json.loads(first.stdout)["cautions"]) == (0, []), first.stderr
    assert qladder(*given, cwd=place).returncode == 0
    (place / "outside.py").write_text(OUTSIDE.replace("return 1, None", "return 0, None"))
    (place / "s.toml").write_text(text.format(2))
    refused = qladder(*given, cwd=place)
    assert refused.returncode == 2
    assert "2 finished runs are of other code of yours (outside) than lies there now, such as o/" in refused.stderr
    mixed = qladder(*given, "--mix-code", cwd=place)
    told = json.loads(mixed.stdout)
    assert mixed.returncode == 0, mixed.stderr
    assert {s["seeds"] for s in told["scores"]} == {2}
    assert [line.split(" is of different code")[0] for line in told["cautions"]] == [
        f"{agent} on outside:Corridor-v0" for agent in ("outside:Right", "random")
    ]
    assert told["cautions"][0].endswith("seeds 0, of other code 1")
    page = (place / "o" / "report.html").read_text()
    assert "Caution: outside:Right on outside:Corridor-v0 is of different code" in page
