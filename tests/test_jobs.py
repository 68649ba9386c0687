"""A suite's runs as processes: shared between suites, gone on with after kills, packed into memory, sharded."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import OUTSIDE, environment, hanging, qladder

from qladder.envs.errors import UserError
from qladder.runners.config import resolve
from qladder.runners.crew import Crew
from qladder.runners.jobs import Shard, jobs_of
from qladder.runners.suite_file import load_suite
from qladder.runners.suite_plan import Asked, ask_plan, plan_suite

TABLES = """
summary = "tables"
seeds = {seeds}
[[task]]
agent = ["q-learning", "sarsa"]
env = ["FrozenLake-v1", "CliffWalking-v1"]
steps = {steps}
"""


LONG = """
summary = "one run"
seeds = 1
[[task]]
agent = "q-learning"
env = "Taxi-v4"
steps = 400_000
settings.run = { checkpoint_every = 20_000 }
"""


def outcome(folder: Path) -> dict[str, Any]:
    """Of every run its measurements and its evaluation, but for the times."""
    found = {}
    for run in sorted(folder.glob("*__s*")):
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        kept = [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]
        found[run.name] = kept, json.loads((run / "summary.json").read_text())["evaluation"]
    return found


def began(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "qladder.runners", "suite", *arguments]
    return subprocess.Popen(
        command, cwd=cwd, env=environment(cwd), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition: Callable[[], bool], within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_suites_in_one_folder_share_the_runs(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(TABLES.format(seeds=3, steps=3000))
    both = [began("s.toml", "--jobs", "1", "--out", "o", cwd=tmp_path) for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    done = [line.split()[3] for text in said for line in text.splitlines() if " done in " in line]
    assert sorted(done) == sorted(set(done))  # none was done twice
    assert len(done) == 12
    assert all(any(" done in " in line for line in text.splitlines()) for text in said)
    qladder("suite", "s.toml", "--jobs", "2", "--out", "alone", cwd=tmp_path)
    assert outcome(tmp_path / "o") == outcome(tmp_path / "alone")


def test_the_run_of_a_suite_that_was_killed_is_waited_for_not_done_twice(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(LONG)
    run = tmp_path / "o" / "q-learning__Taxi-v4__s0"
    first = began("s.toml", "--jobs", "1", "--out", "o", cwd=tmp_path)
    wait_for(lambda: (run / "metrics.jsonl").exists())
    first.kill()
    first.communicate()
    second = qladder("suite", "s.toml", "--jobs", "1", "--out", "o", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert "is being done by another process; it is waited for" in second.stderr
    assert "1 of 1: q-learning__Taxi-v4__s0 done by another" in second.stderr
    assert "resumed" not in json.loads((run / "manifest.json").read_text())


def test_a_run_that_is_killed_is_marked_and_gone_on_with_on_request(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(LONG)
    run = tmp_path / "o" / "q-learning__Taxi-v4__s0"

    def killed(*arguments: str) -> tuple[int, str, str]:
        suite = began("s.toml", "--jobs", "1", "--out", "o", "--json", *arguments, cwd=tmp_path)
        wait_for(lambda: run.exists() and any(run.glob("checkpoints/step-*")))
        os.kill(int((run / ".lock").read_text().split()[1]), signal.SIGKILL)
        return suite.wait(60), *suite.communicate()

    status, told, said = killed()
    assert status == 1
    assert "q-learning__Taxi-v4__s0 failed: killed by SIGKILL" in said
    assert "killed by SIGKILL" in json.loads(told)["failed"][0]["reason"]
    again = qladder("suite", "s.toml", "--jobs", "1", "--out", "o", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads((run / "manifest.json").read_text())["resumed"][0]["exact"]
    run.rename(tmp_path / "once")
    status, _, said = killed("--retries", "1")
    assert status == 0, said
    assert "attempt 2 of 2" in said
    one, other = (outcome_of(folder) for folder in (run, tmp_path / "once"))
    assert one == other


def outcome_of(run: Path) -> Any:
    return json.loads((run / "summary.json").read_text())["evaluation"]


MANY = """
summary = "24 runs"
seeds = 3
[[task]]
agent = ["q-learning", "sarsa", "double-q-learning"]
env = ["Taxi-v4", "CliffWalking-v1"]
steps = 60_000
settings.run = { checkpoint_every = 5_000, log_every = 2_000 }
[[task]]
agent = "dqn"
env = ["CartPole-v1", "Acrobot-v1"]
steps = 1_500
settings.run = { learning_starts = 200, log_every = 100, checkpoint_every = 300 }
settings.replay.capacity = 1_000
"""


@pytest.mark.slow
def test_ten_random_kills_of_jobs_and_of_the_suite_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(MANY)
    assert len(jobs_of(load_suite(str(tmp_path / "s.toml")), tmp_path)) == 24
    whole = qladder("suite", "s.toml", "--jobs", "2", "--out", "whole", cwd=tmp_path, timeout=600)
    assert whole.returncode == 0, whole.stderr
    rng = np.random.default_rng(0)
    out, arguments = tmp_path / "o", ("s.toml", "--jobs", "2", "--out", "o", "--retries", "20")

    def at_work() -> list[int]:
        runs = [run for run in out.glob("*__s*") if (run / ".lock").exists() and not (run / "summary.json").exists()]
        found = [int((run / ".lock").read_text().split()[1]) for run in runs]
        return [pid for pid in found if Path(f"/proc/{pid}").exists()]

    suite = began(*arguments, cwd=tmp_path)
    for kill in range(10):
        wait_for(lambda suite=suite: bool(at_work()) or suite.poll() is not None, within=300)  # type: ignore[misc]
        time.sleep(rng.uniform(0, 1))
        assert suite.poll() is None, "the suite was over before it was killed ten times"
        if kill % 3 == 2:
            suite.kill()
            suite.communicate()
            suite = began(*arguments, cwd=tmp_path)
        elif pids := at_work():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[rng.integers(len(pids))], signal.SIGKILL)
    _, said = suite.communicate(timeout=600)
    assert suite.returncode == 0, said
    assert outcome(out) == outcome(tmp_path / "whole")
    manifests = [json.loads(path.read_text()) for path in out.glob("*__s*/manifest.json")]
    assert any("resumed" in manifest for manifest in manifests)  # others were killed before their first checkpoint


def test_what_fails_every_time_is_tried_as_often_as_was_asked(tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_text(OUTSIDE)
    task = 'agent = "random"\nenv = "outside:Corridor-v0"\nsteps = 90\nsettings.env.kwargs.bad = "raises"\n'
    (tmp_path / "s.toml").write_text(f'summary = ""\nseeds = 1\n[[task]]\n{task}')
    result = qladder("suite", "s.toml", "--out", "o", "--retries", "2", cwd=tmp_path)
    assert result.returncode == 1
    assert [f"attempt {n} of 3" in result.stderr for n in (1, 2, 3, 4)] == [False, True, True, False]
    assert "the floor gave way" in result.stdout
    assert qladder("suite", "s.toml", "--out", "o", "--retries", "-1", cwd=tmp_path).returncode == 2


def test_shards_split_the_runs_evenly_and_report_all_that_are_done(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(TABLES.format(seeds=3, steps=100))
    jobs = jobs_of(load_suite(str(tmp_path / "s.toml")), tmp_path)
    parts = [[job for job in jobs if Shard(part, 5).holds(job)] for part in range(1, 6)]
    assert sorted(job.folder for part in parts for job in part) == sorted(job.folder for job in jobs)
    assert {len(part) for part in parts} <= {2, 3}
    counts = []
    for part in ("1/2", "2/2"):
        told = qladder("suite", "s.toml", "--shard", part, "--out", "o", "--json", cwd=tmp_path)
        assert told.returncode == 0, told.stderr
        counts.append(sum(score["seeds"] for score in json.loads(told.stdout)["scores"]))
    assert counts == [6, 12]


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3", "-1/2", ""])
def test_a_shard_that_is_none_is_refused(shard: str) -> None:
    with pytest.raises(UserError, match=r"--shard.*I/N"):
        Shard.read(shard)


def test_processes_are_packed_into_memory_but_one_always_runs(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(TABLES.format(seeds=1, steps=50))
    jobs = jobs_of(load_suite(str(tmp_path / "s.toml")), tmp_path / "o")
    most = []

    class Counted(Crew):
        def _begin(self, job: Any, claim: int) -> None:
            super()._begin(job, claim)
            most.append([child.job.number for child in self._children])

    assert Counted(4, {1: 60, 2: 30, 3: 60, 4: 200}, 100, progress=False).run(jobs) == {}
    assert all(job.done() for job in jobs)
    need = {1: 60, 2: 30, 3: 60, 4: 200}
    assert all(len(at_once) == 1 or sum(need[n] for n in at_once) <= 100 for at_once in most)
    assert max(map(len, most)) == 2


def test_a_crew_that_is_stopped_or_fails_lets_go_of_its_runs(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(LONG)
    [job] = jobs_of(load_suite(str(tmp_path / "s.toml")), tmp_path / "o")

    class Odd(Crew):
        def _judge(self, child: Any, waiting: Any) -> None:
            raise KeyError("odd")

    with pytest.raises(KeyError):
        Odd(1, {}, None, progress=False).run([job])
    (job.folder / "summary.json").unlink()
    assert Crew(1, {}, None, progress=False).run([job]) == {}  # it would wait for ever for a claim that is kept
    assert job.done()


def test_a_process_that_an_environment_forked_keeps_no_claim(tmp_path: Path) -> None:
    (tmp_path / "forking.py").write_text(FORKING)
    task = 'agent = "random"\nenv = "forking:Forking-v0"\nsteps = 200\n'
    (tmp_path / "s.toml").write_text(f'summary = ""\nseeds = 1\n[[task]]\n{task}')
    first = began("s.toml", "--out", "o", "--json", cwd=tmp_path)
    told, said = first.communicate(timeout=60)
    try:
        assert "killed by SIGKILL" in told, said
        second = qladder("suite", "s.toml", "--out", "o", cwd=tmp_path, timeout=60)
        assert "is being done by another" not in second.stderr
    finally:
        for file in tmp_path.glob("*.pid"):
            os.kill(int(file.read_text()), signal.SIGKILL)


FORKING = """
import os, signal, time
import gymnasium
from gymnasium import spaces

class Forking(gymnasium.Env):
    observation_space, action_space = spaces.Discrete(2), spaces.Discrete(2)
    steps = 0
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}
    def step(self, action):
        Forking.steps += 1
        if Forking.steps == 100 and os.path.isdir("o/random__forking-Forking-v0__s0"):
            child = os.fork()
            if child == 0:
                for file in (0, 1, 2):
                    os.close(file)
                time.sleep(600)
                os._exit(0)
            with open(f"{child}.pid", "w") as file:
                file.write(str(child))
            os.kill(os.getpid(), signal.SIGKILL)
        return 0, 0.0, True, False, {}

gymnasium.register("Forking-v0", entry_point=Forking, max_episode_steps=10)
"""


def test_a_damaged_summary_is_a_run_to_do_and_comes_out_the_same(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(TABLES.format(seeds=1, steps=100))
    assert qladder("suite", "s.toml", "--out", "o", cwd=tmp_path).returncode == 0
    before = outcome(tmp_path / "o")
    for number, text in enumerate(["", "{", '{"steps": 100}']):
        (sorted((tmp_path / "o").glob("*__s0"))[number] / "summary.json").write_text(text)
    again = qladder("suite", "s.toml", "--out", "o", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert outcome(tmp_path / "o") == before


def test_a_plan_tells_what_is_missing_and_what_it_takes(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(
        TABLES.format(seeds=2, steps=2000)
        + '[[task]]\nagent = "dqn"\nenv = "CartPole-v1"\nsteps = 3_000\nsettings.replay.capacity = 2_000\n'
    )
    asked = Asked(str(file), jobs=2, out=str(tmp_path / "o"))
    told = plan_suite(asked, 0.1)
    assert (told["runs"], told["missing"], told["side_by_side"]) == (10, 10, 2)
    assert [(task["agent"], task["runs"]) for task in told["tasks"]] == [
        ("q-learning", 2), ("q-learning", 2), ("sarsa", 2), ("sarsa", 2), ("dqn", 2),
    ]  # fmt: skip
    hours = [task["hours"] for task in told["tasks"]]
    assert told["hours"] == pytest.approx(max(sum(hours), *hours))  # two of each, two side by side
    assert told["memory_bytes"] == 2 * told["tasks"][-1]["memory_bytes"]
    assert not (tmp_path / "o").exists()
    jobs = asked.all_jobs()
    Crew(2, {}, None, progress=False).run([job for job in jobs if job.task.agent == "sarsa" and job.seed == 0])
    told = plan_suite(asked, 0.0)
    known = {task["task"]: task["hours"] for task in told["tasks"]}
    assert told["missing"] == 8
    assert [number for number, hours in known.items() if hours is not None] == [3, 4]  # as long as the others took
    assert told["hours"] is None


def test_steps_are_all_of_them_whatever_the_shipped_settings_say_of_episodes(tmp_path: Path) -> None:
    task = '[[task]]\nagent = "q-learning"\nenv = "Taxi-v4"\n'
    assert resolve("q-learning", "Taxi-v4", {}).run.episodes == 5_000
    for said, episodes, steps in [
        ("steps = 900", None, 900), ("episodes = 7", 7, 1_000_000_000), ("steps = 900\nepisodes = 7", 7, 900),
        ("steps = 900\nsettings.run.episodes = 8", 8, 900),
    ]:  # fmt: skip
        (tmp_path / "s.toml").write_text(f'summary = ""\nseeds = 1\n{task}{said}\n')
        [job] = jobs_of(load_suite(str(tmp_path / "s.toml")), tmp_path)
        assert (job.config.run.episodes, job.config.run.steps) == (episodes, steps)


def test_an_environment_that_hangs_stops_no_plan_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hanging(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr("qladder.runners.suite_plan.PATIENCE", 3.0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text(
        'summary = ""\nseeds = 1\n[[task]]\nagent = "random"\nenv = "hanging:Hanging-v0"\nsteps = 90\n'
        'settings.env.kwargs.way = "sleeps"\n'
    )
    assert ask_plan(Asked("s.toml"), 0.5) is None
    assert "no plan of s.toml: it took more than" in capsys.readouterr().err


def test_a_list_of_agents_and_environments_is_each_on_each(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(TABLES.format(seeds=1, steps=9))
    assert [(task.agent, task.env, task.steps) for task in load_suite(str(file)).tasks] == [
        ("q-learning", "FrozenLake-v1", 9), ("q-learning", "CliffWalking-v1", 9),
        ("sarsa", "FrozenLake-v1", 9), ("sarsa", "CliffWalking-v1", 9),
    ]  # fmt: skip
    for said, task in {
        r"task 1.agent = \[\]": 'agent = []\nenv = "Taxi-v4"',
        r"task 1.env = 3": 'agent = "sarsa"\nenv = ["Taxi-v4", 3]',
        "2 agents cannot share a name": 'agent = ["sarsa", "random"]\nenv = "Taxi-v4"\nlabel = "x"',
        "tasks 1 and 2 are both sarsa on Taxi-v4": 'agent = ["sarsa", "sarsa"]\nenv = "Taxi-v4"\nsteps = 9',
        "delta": 'agent = "sarsa"\nenv = "Taxi-v4"\n[x]\ndelta = 3',
    }.items():
        file.write_text(f'summary = ""\nseeds = 1\n[[task]]\n{task}\n')
        with pytest.raises(UserError, match=said):
            jobs_of(load_suite(str(file)), tmp_path)
