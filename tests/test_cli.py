"""The command line in processes of its own: bad input, exit status, signals, JSON."""

from __future__ import annotations

import importlib.metadata
import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from processes import OUTSIDE, environment, hanging, qladder, stopped

from qladder.runners.verify import measurements


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "outside.py").write_text(OUTSIDE)
    (tmp_path / "half.toml").write_text("[agent\n")
    (tmp_path / "wrong.toml").write_text("[agent]\ngama = 1\n")
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "empty").mkdir()
    return tmp_path


TRAIN = ("train", "q-learning", "FrozenLake-v1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("trian",), ["trian", "did you mean 'train'"]),
        (("train",), ["AGENT and ENV"]),
        (("train", "dqm", "CartPole-v1"), ["dqm", "did you mean 'dqn'"]),
        (("train", "dqn", "CartPol-v1"), ["CartPol-v1", "doesn't exist; did you mean 'CartPole-v1'?"]),
        ((*TRAIN, "--protocol", "toytext"), ["toytext", "did you mean 'toy-text'"]),
        ((*TRAIN, "--stepps", "3"), ["--stepps 3: no such option here; did you mean --steps?"]),
        ((*TRAIN, "more"), ["more: no such option here"]),
        ((*TRAIN, "--env.protocol", ""), ["protocol ''"]),
        (("train", "r2d2", "CartPole-v1", "--run.threads", "100000"), ["run.threads = 100000", "1024"]),
        (("train", "dqn", "CartPole-v1", "--agent.hidden", str(2**63 - 1)), ["agent.hidden", "1000000"]),
        (("train", "linear-q", "MountainCar-v0", "--agent.tiles", "100000"), ["51,200,000 entries"]),
        (("doctor", "--jobs", "3"), ["--jobs 3: no such option here"]),
        ((*TRAIN, "--steps", "many"), ["--steps 'many': must be a whole number"]),
        ((*TRAIN, "--steps", "-5"), ["run.steps", "-5", "greater than 0"]),
        ((*TRAIN, "--seed", "-1"), ["run.seed", "-1"]),
        ((*TRAIN, "--agent.step-sise", "1"), ["step_sise", "did you mean 'step_size'"]),
        ((*TRAIN, "--agnet.gamma", "1"), ["agnet", "did you mean 'agent'"]),
        ((*TRAIN, "--agent.gamma", "2"), ["agent.gamma", "2", "less than or equal to 1"]),
        ((*TRAIN, "--config", "half.toml"), ["half.toml", "not TOML"]),
        ((*TRAIN, "--config", "wrong.toml"), ["gama", "did you mean 'gamma'"]),
        ((*TRAIN, "--config", "missing.toml"), ["missing.toml", "no such file, nor preset"]),
        ((*TRAIN, "--config", "pomg"), ["pomg", "did you mean 'pong'"]),
        ((*TRAIN, "--out", "file"), ["file", "cannot be written"]),
        ((*TRAIN, "--out", ".", "--name", "empty"), ["empty", "exists already", "--resume"]),
        ((*TRAIN, "--env.kwargs.slippy", "true"), ["slippy"]),
        (("train", "dqn", "CartPole-v1", "--device", "cuda"), ["cuda"]),
        (("train", "dqn", "CartPole-v1", "--replay.capacity", "1"), ["replay.capacity"]),
        (("train", "dqn", "CartPole-v1", "--replay.capacity", "99999999999999"), ["GB when full"]),
        (("train", "dqn", "CartPole-v1", "--run.learning_starts", "0"), ["run.learning_starts"]),
        (("train", "dqn", "Pendulum-v1"), ["dqn cannot play Pendulum-v1", "finite"]),
        (("train", "q-learning", "ALE/Pong-v5"), ["q-learning cannot play", "dqn can"]),
        (("train", "outside:Nobody", "CartPole-v1"), ["outside:Nobody"]),
        (("claims", "run", "sorting", "--retries", "-1"), ["--retries -1: must be at least 0"]),
        (("train", "dqn", "no_such_package:X-v0"), ["no_such_package"]),
        (("evaluate", "empty"), ["empty", "not a run folder"]),
        (("compare", "empty"), ["empty"]),
        (("compare",), ["missing", "compare RUN RUN"]),
        (("report",), ["missing", "report DIR"]),
        ((*TRAIN, "--env.id", "Taxi-v4"), ["--env.id", "ENV"]),
        ((*TRAIN, "--name", "a/b"), ["--name a/b", "name of a folder"]),
        ((*TRAIN, "--agent.nosuch", "1"), ["agent.nosuch", "there are gamma, step_size"]),
        ((*TRAIN, "--config", "empty"), ["empty", "Is a directory"]),
        (("suite", "quikstart"), ["quikstart", "did you mean 'quickstart'"]),
        (("list", "agnts"), ["agnts", "did you mean 'agents'"]),
        (("solve", "CartPole-v1"), ["CartPole-v1", "not known"]),
        (("train", "dqn", "ALE/Pong-v5", "--replay.capacity", "10000000000"), ["GB when full", "--replay.capacity"]),
        (("plan", "dqn", "ALE/Pong-v5", "--replay.capacity", "10000000000"), ["GB when full", "--replay.capacity"]),
        (("plan", "dqn", "CartPole-v1", "--seconds", "-1"), ["--seconds -1", "at least 0"]),
        (("plan", "dqn"), ["plan dqn", "environment is missing"]),
        (("plan", "quickstat"), ["'quickstat'", "did you mean 'quickstart'"]),
        (("plan", "quickstart", "--agent.gamma", "0.9"), ["a suite's settings are in its file"]),
        (("plan", "quickstart", "--steps", "9"), ["--steps", "a suite's settings are in its file"]),
        (("plan", "dqn", "CartPole-v1", "--shard", "1/2"), ["--shard", "goes with a suite"]),
        (("suite", "quickstart", "--shard", "3/2"), ["--shard 3/2", "I/N"]),
        (("train", "dqn", "CartPole-v1", "--learner", "cpu-bf16"), ["cpu-bf16", "Nature CNN"]),
        (("train", "q-learning", "Taxi-v4", "--learner", "eager"), ["learner"]),
        (("compare", "empty", "--agent.x", "1"), ["takes no settings"]),
    ],
)
def test_bad_input_is_one_line_and_status_2(place: Path, arguments: tuple[str, ...], said: list[str]) -> None:
    before = sorted(p.name for p in place.iterdir())
    result = qladder(*arguments, cwd=place)
    lines = [line for line in result.stderr.splitlines() if "did not" not in line]
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert lines[-1].startswith("qladder: ")
    assert len(lines) == 1
    for words in said:
        assert words in lines[0]
    assert sorted(p.name for p in place.iterdir() if p.name != "__pycache__") == before


@pytest.mark.parametrize(("bad", "words"), [("raises", "the floor gave way"), ("gives-nan", "reward is nan")])
def test_an_environment_that_fails_is_named_and_the_checkpoint_stays(place: Path, bad: str, words: str) -> None:
    flags = ("--env.kwargs.bad", bad, "--run.checkpoint-every", "10", "--steps", "100", "--run.eval-every", "1000")
    result = qladder("train", "q-learning", "outside:Corridor-v0", *flags, "--name", "r", cwd=place)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert words in last
    assert "step 40" in last
    assert "run seed 0" in last
    assert "Traceback" not in result.stderr
    from qladder.runners import checkpoint

    newest = checkpoint.checkpoints(place / "runs" / "r")[0]
    assert newest.name == "step-000000000030"
    checkpoint.load(newest)


def test_what_an_environment_prints_does_not_spoil_the_json(place: Path) -> None:
    play = ("train", "random", f"{hanging(place)}:Hanging-v0", "--env.kwargs.way", "prints", "--steps", "60")
    done = qladder(*play, "--json", cwd=place)
    assert json.loads(done.stdout)["agent_steps"] == 60
    assert "the game has begun" in done.stderr
    (place / "hung").unlink()
    assert "the game has begun" in qladder(*play, "--name", "plain", cwd=place).stdout


def test_a_signal_in_a_step_of_the_last_evaluation_is_no_fault_of_the_environment(place: Path) -> None:
    play = ("train", "random", f"{hanging(place)}:Hanging-v0", "--env.kwargs.way", "stops", "--steps", "20")
    done = qladder(*play, "--name", "r", cwd=place)
    assert done.returncode == 143, done.stderr
    assert json.loads((place / "runs" / "r" / "manifest.json").read_text())["exit_reason"] == "terminated"
    assert qladder(*play, "--name", "r", "--resume", cwd=place).returncode == 0


def test_a_signal_in_an_evaluation_on_the_way_ends_it_and_resume_has_it_anew(place: Path) -> None:
    play = ("train", "dqn", f"{hanging(place)}:Hanging-v0", "--env.kwargs.way", "stops", "--steps", "60")
    often = ("--run.eval-every", "20", "--run.eval-episodes", "100", "--run.learning-starts", "10")
    done = qladder(*play, *often, "--name", "r", cwd=place)
    assert done.returncode == 143, done.stderr
    run = place / "runs" / "r"
    assert [m["agent_steps"] for m in measurements(run) if "eval/return" in m] == []
    assert "at 20 agent steps, saved" in done.stderr
    assert qladder(*play, *often, "--name", "r", "--resume", cwd=place).returncode == 0
    assert qladder(*play, *often, "--name", "unbroken", cwd=place).returncode == 0
    assert [m["agent_steps"] for m in measurements(run) if "eval/return" in m] == [20, 40, 60]
    assert measurements(run) == measurements(place / "runs" / "unbroken")


def test_a_second_signal_ends_at_once(place: Path) -> None:
    """Though the first one waits for an environment that does not come back."""
    play = ("train", "random", f"{hanging(place)}:Hanging-v0", "--env.kwargs.way", "sleeps", "--run.log-every", "10")
    for number, status in ((signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)):
        name = f"r{number}"
        ended, _ = stopped(number, *play, "--name", name, cwd=place, ready=place / "hung", times=2)
        assert ended == status
        (place / "hung").unlink()


def test_a_diverging_run_stops_with_its_batch_and_leaves_good_checkpoints(place: Path) -> None:
    rate = ("--agent.learning_rate", "1e30", "--agent.loss", "mse")
    run = ("--run.checkpoint-every", "500", "--run.learning-starts", "600", "--name", "r")
    result = qladder("train", "dqn", "CartPole-v1", "--steps", "2000", *rate, *run, cwd=place)
    assert result.returncode == 1, result.stderr
    last = result.stderr.splitlines()[-1]
    assert "the loss is" in last
    assert "target" in last
    assert "Traceback" not in result.stderr
    from qladder.runners import checkpoint

    newest = checkpoint.checkpoints(place / "runs" / "r")[0]
    assert newest.name == "step-000000000500"
    assert "DivergedError" in json.loads((place / "runs" / "r" / "manifest.json").read_text())["exit_reason"]


def test_whoever_reads_the_progress_may_leave(place: Path) -> None:
    command = [sys.executable, "-m", "qladder.runners", "train", "dqn", "CartPole-v1", "--steps", "300", "--name", "r"]
    process = subprocess.Popen(
        command, cwd=place, env=environment(place), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    process.stderr.close()  # as where `tee` has died: the lines of the beginning and of the evaluation go nowhere
    assert process.wait(60) == 0
    assert json.loads((place / "runs" / "r" / "summary.json").read_text())["exit_reason"] == "finished"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_a_signal_saves_and_resume_goes_on(place: Path, number: int, status: int) -> None:
    flags = ["--name", "r", "--run.episodes", "none", "--run.log-every", "100"]
    metrics = place / "runs" / "r" / "metrics.jsonl"
    ended, error = stopped(number, *TRAIN, "--steps", "100000000", *flags, cwd=place, ready=metrics)
    assert ended == status
    assert "--resume" in error
    assert "Traceback" not in error
    reached = int(error.split(" agent steps, saved")[0].split()[-1].replace(",", ""))
    result = qladder(*TRAIN, "--steps", str(reached + 500), *flags, "--resume", "--json", cwd=place)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["agent_steps"] == reached + 500
    steps = [json.loads(line)["agent_steps"] for line in metrics.read_text().splitlines()]
    assert steps == sorted(steps)


@pytest.mark.parametrize(
    ("number", "reason", "status"), [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)]
)
def test_a_signal_ends_the_final_evaluation_and_the_weights_stay(
    place: Path, number: int, reason: str, status: int
) -> None:
    flags = ["random", "ALE/Pong-v5", "--steps", "64", "--name", "r", "--run.eval-every", "1000"]
    command = [sys.executable, "-m", "qladder.runners", "train", *flags]
    with subprocess.Popen(command, cwd=place, env=environment(place), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("evaluating the final weights" in line for line in process.stderr)
        process.send_signal(number)
        error = process.stderr.read()
    assert process.returncode == status
    assert "--resume" in error
    assert "Traceback" not in error
    run = place / "runs" / "r"
    assert json.loads((run / "manifest.json").read_text())["exit_reason"] == reason
    assert not (run / "summary.json").exists()
    from qladder.runners import checkpoint

    assert checkpoint.checkpoints(run)[0].name == "step-000000000064"


def test_json_is_one_object_and_nothing_else(place: Path) -> None:
    run = qladder(*TRAIN, "--steps", "300", "--json", cwd=place)
    trained = json.loads(run.stdout)
    keys = {"run", "agent_steps", "frames", "updates", "seconds", "exit_reason", "evaluation"}
    assert keys <= set(trained)
    evaluated = json.loads(qladder("evaluate", trained["run"], "--json", cwd=place).stdout)
    assert evaluated == trained["evaluation"]
    keys = {"mean", "iqm", "interval", "returns", "episodes", "human_normalized", "protocol", "checkpoint_agent_steps"}
    assert keys <= set(evaluated)
    solved = json.loads(qladder("solve", "FrozenLake-v1", "--json", cwd=place).stdout)
    assert (solved["states"], solved["actions"]) == (16, 4)
    assert solved["optimal_return_in_limit"] == pytest.approx(0.7441902878)
    assert {"agents", "networks", "envs", "protocols", "suites", "presets", "references"} == set(
        json.loads(qladder("list", "--json", cwd=place).stdout)
    )
    report = json.loads(qladder("report", "runs", "--json", cwd=place).stdout)
    assert Path(place / report["report"]).is_file()


def test_list_shows_what_is_in_brackets(place: Path) -> None:
    shown = qladder("list", "protocols", cwd=place).stdout
    told = json.loads(qladder("list", "protocols", "--json", cwd=place).stdout)
    assert all(f"[{row['hash']}]" in shown for row in told["protocols"].values())


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["train", "--help"]])
def test_help_and_list_import_neither_torch_nor_gymnasium(place: Path, arguments: list[str]) -> None:
    code = f"""
        import sys
        from qladder.runners.cli import main
        try:
            main({arguments!r})
        except SystemExit as stop:
            assert not stop.code
        assert not {{"torch", "gymnasium", "numpy", "matplotlib"}} & set(sys.modules)
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_without_line_drawing_characters_a_message_is_as_plain(place: Path) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "qladder.runners", *TRAIN, "--steps", "many"]
    env = {**environment(place), **plain}
    result = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, check=False)
    assert result.stderr == "qladder: --steps 'many': must be a whole number, as 100000\n"


def test_help_of_an_agent_names_every_setting(place: Path) -> None:
    result = qladder("train", "dqn", "CartPole-v1", "--help", cwd=place)
    assert result.returncode == 0
    for name in (
        "--agent.target_period",
        "--agent.epsilon",
        "--replay.capacity",
        "--run.update_every",
        "--env.wrappers",
    ):
        assert name in result.stdout


def test_an_agent_from_outside_takes_the_settings_of_its_base(place: Path) -> None:
    mine = "from qladder.agents.dqn import DQN\nclass Mine(DQN):\n    base = 'dqn'\nclass Bare(DQN):\n    pass\n"
    (place / "mine.py").write_text(mine)
    told = qladder("diff", "dqn", "mine:Mine", "CartPole-v1", "--json", cwd=place)
    assert json.loads(told.stdout)["fields"] == {}, told.stderr
    assert "agent.target_period" in qladder("diff", "dqn", "mine:Bare", "CartPole-v1", cwd=place).stdout
    run = qladder("train", "mine:Mine", "CartPole-v1", "--steps", "1100", "--run.eval-every", "1100", cwd=place)
    assert 'configs/dqn/classic.toml < [env."CartPole-v1"]' in run.stderr


def test_an_option_of_another_command_is_not_told_as_its_own_correction(place: Path) -> None:
    assert qladder("suite", "classic", "--resume", cwd=place).stderr == "qladder: --resume: no such option here\n"


def test_the_version_is_told(place: Path) -> None:
    told = qladder("--version", cwd=place)
    assert (told.returncode, told.stdout) == (0, f"qladder {importlib.metadata.version('qladder')}\n")


def test_a_package_from_outside_is_trained_and_compared(place: Path) -> None:
    for agent in ("outside:Right", "q-learning"):
        for seed in ("0", "1"):
            flags = ("--env.wrappers", "outside:doubled", "--steps", "400", "--seed", seed, "--run.episodes", "none")
            result = qladder("train", agent, "outside:Corridor-v0", *flags, "--json", cwd=place)
            assert result.returncode == 0, result.stderr
            mean: Any = json.loads(result.stdout)["evaluation"]["mean"]
            assert mean == 2.0 or agent == "q-learning"
    compared = json.loads(qladder("compare", "runs", "--json", cwd=place).stdout)
    assert {(s["agent"], s["seeds"]) for s in compared["scores"]} == {("outside:Right", 2), ("q-learning", 2)}
    assert len(compared["pairs"]) == 1
    assert qladder("evaluate", "runs/outside-Right__outside-Corridor-v0__s0", cwd=place).returncode == 0
