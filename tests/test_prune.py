"""What finished runs hold but their weights goes, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from killing import DEEP, SMALL, Killed, go, same
from processes import qladder

from qladder.envs.errors import UserError
from qladder.runners import checkpoint, evaluate, load, train
from qladder.runners.doctor import doctor
from qladder.runners.jobs import Job
from qladder.runners.likeness import finished
from qladder.runners.loading import run_config
from qladder.runners.lock import RunLock
from qladder.runners.prune import prune
from qladder.runners.settings import merge
from qladder.runners.suite_file import Task
from qladder.runners.taken import trained_runs

SETTINGS = merge(SMALL, DEEP)


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(go(tmp_path, "dqn", "CartPole-v1", SETTINGS)["run"])


def test_a_pruned_run_is_what_it_was_but_for_its_replay(run: Path, tmp_path: Path) -> None:
    score, weights = evaluate(run), load(run).agent.state_dict()["online"]
    others = {path: text for path, text in snapshot(run).items() if "checkpoints" not in path.parts}
    size = sum(len(text) for path, text in snapshot(run).items() if "checkpoints" in path.parts)
    assert prune([tmp_path], dry_run=True) == {"runs": [{"run": str(run), "bytes": size}], "bytes": size, "left": []}
    assert prune([tmp_path])["bytes"] == size
    assert not (run / "checkpoints").exists()
    kept = {path: text for path, text in snapshot(run).items() if "kept" in path.parts}
    assert snapshot(run) == others | kept
    assert sum(map(len, kept.values())) < size / 4
    assert evaluate(run) == score
    assert same(load(run, at=1_200).agent.state_dict()["online"], weights)
    assert finished(run, run_config(run)) is not None
    assert prune([tmp_path]) == {"runs": [], "bytes": 0, "left": []}
    assert doctor(run)["findings"][-1]["says"].startswith("finished and pruned")
    again = go(tmp_path, "dqn", "CartPole-v1", SETTINGS, resume=True)
    assert again["evaluation"] == score
    before = snapshot(run)
    with pytest.raises(UserError, match=r"its checkpoints were removed.* --init-from"):
        go(tmp_path, "dqn", "CartPole-v1", merge(SETTINGS, {"run": {"steps": 1_300}}), resume=True)
    assert snapshot(run) == before
    assert train(trained_in=run, out=tmp_path, name="taken")["evaluation"] == score
    other = Path(shutil.copytree(run, tmp_path / "other"))
    with pytest.raises(UserError, match="other holds weights of its own"):
        train(trained_in=run, out=tmp_path, name="other", resume=True)
    assert (other / "metrics.jsonl").read_bytes() == before[run / "metrics.jsonl"]
    assert not Job(Task("dqn", "CartPole-v1"), 1, 0, run_config(run), other).may_take
    begins = merge(SETTINGS, {"run": {"init_from": str(run), "steps": 310}})
    train("dqn", "CartPole-v1", settings=begins, out=tmp_path, name="begun")


@pytest.mark.parametrize("went", ["half of the newest", "all but the segments"])
def test_a_prune_that_was_killed_is_gone_on_with(
    went: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(place: Path) -> None:
        newest, older = sorted(place.glob("step-*"), reverse=True)
        (newest / "state.json").unlink()
        if went == "all but the segments":
            remove(newest)
            remove(older)
        raise KeyboardInterrupt

    score, remove = evaluate(run), shutil.rmtree
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            prune([tmp_path])
    assert evaluate(run) == score
    assert prune([tmp_path])["runs"][0]["run"] == str(run)
    assert evaluate(run) == score
    assert sorted(path.name for path in run.iterdir() if path.is_dir()) == ["kept"]


def test_weights_of_pruned_runs_are_offered_to_suites(run: Path, tmp_path: Path) -> None:
    before = trained_runs([tmp_path])
    prune([tmp_path])
    assert before == trained_runs([tmp_path]) != {}


def test_runs_that_are_not_finished_or_not_whole_are_left(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        go(tmp_path / "killed", "dqn", "CartPole-v1", SETTINGS, kill_at=700)
    run = Path(go(tmp_path, "dqn", "CartPole-v1", SETTINGS)["run"])
    for name in ("damaged", "early", "linked"):
        shutil.copytree(run, tmp_path / name)
    (checkpoint.checkpoints(tmp_path / "damaged")[0] / "state.json").write_text("{}")
    shutil.rmtree(checkpoint.checkpoints(tmp_path / "early")[0])
    (tmp_path / "linked" / "kept").symlink_to(tmp_path / "early")
    shutil.copytree(run, tmp_path / "no-lock")
    (tmp_path / "no-lock" / ".lock").unlink()
    (tmp_path / "no-lock" / ".lock").mkdir()
    before = snapshot(tmp_path)
    with RunLock(run):
        told = prune([tmp_path])
    assert snapshot(tmp_path) == before
    reasons = {Path(left["run"]).relative_to(tmp_path): left["reason"] for left in told["left"]}
    for folder, reason in (
        ("killed/run", "unfinished"),
        ("run", "is at work on this run"),
        ("damaged", "step-000000001200"),
        ("early", "holds no checkpoint of its end"),
        ("linked", "is a link"),
        ("no-lock", "Is a directory"),
    ):
        assert reason in reasons.pop(Path(folder))
    assert (reasons, told["runs"]) == ({}, [])


def test_the_command_says_what_became_free(run: Path, tmp_path: Path) -> None:
    done = qladder("prune", "run", "--dry-run", cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1].split(" MB ")[1]) == (0, "would be removed")
    assert (run / "checkpoints").exists()
    assert "MB  run\n" in qladder("prune", "run", cwd=tmp_path).stdout
    assert not (run / "checkpoints").exists()
    assert qladder("prune", "nowhere", cwd=tmp_path).stderr == "qladder: nowhere: no such folder\n"
