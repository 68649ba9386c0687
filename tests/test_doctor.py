"""`qladder doctor` on what is well and on what is not, and that it changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from killing import SMALL, Killed, go
from processes import qladder

from qladder.envs.errors import UserError
from qladder.runners import checkpoint
from qladder.runners.doctor import doctor


def found(run: Path) -> dict[str, tuple[bool, str]]:
    """What it says of the run itself."""
    told = doctor(run)
    named = {f["what"]: (f["good"], f["says"]) for f in told["findings"]}
    assert told["healthy"] == all(good for good, _ in named.values())
    return named


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Killed at 700 of 1,200 steps, with checkpoints at 450 and 600."""
    with pytest.raises(Killed):
        go(tmp_path, "q-learning", "CliffWalking-v1", SMALL, kill_at=700)
    return tmp_path / "run"


def test_a_run_that_was_killed_is_well_and_nothing_is_changed(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    told = found(run)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert told["settings"] == (True, "q-learning on CliffWalking-v1, seed 0")
    assert told["step-000000000600"] == (True, "good, 600 agent steps")
    assert told["next"] == (True, "--resume goes on from step-000000000600")
    assert told["lock"][1] == "free"
    assert "drift" not in told
    assert told["atari"] == (True, "Pong plays")
    assert all(good for good, _ in told.values())


def test_a_damaged_checkpoint_is_named_and_the_one_before_advised(run: Path) -> None:
    newest = checkpoint.checkpoints(run)[0]
    (newest / "state.json").write_text("{}")
    told = found(run)
    assert told[newest.name][0] is False
    assert "SHA-256 differs" in told[newest.name][1]
    assert told["next"] == (True, "--resume goes on from step-000000000450")
    for path in checkpoint.checkpoints(run):
        (path / "manifest.json").unlink()
    assert found(run)["next"][0] is False


def test_measurements_that_are_torn_or_changed(run: Path) -> None:
    path = run / "metrics.jsonl"
    good = path.read_bytes()
    path.write_bytes(good + b'{"agent_st')
    assert found(run)["measurements"] == (True, f"{len(good.splitlines())}, and a torn last line, which a resume drops")
    path.write_bytes(b"nothing\n" + good)
    assert found(run)["measurements"] == (False, f"metrics.jsonl, line 1 of {len(good.splitlines()) + 1} is no record")


def test_who_is_at_work_what_has_changed_and_what_was_left_over(run: Path) -> None:
    path = run / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["versions"]["numpy"] = "1.0.0"
    path.write_text(json.dumps(manifest))
    (run / "checkpoints" / ".writing-1").mkdir()
    holder = "import sys; from pathlib import Path; from qladder.runners.lock import RunLock\n"
    holder += "with RunLock(Path(sys.argv[1])): print(flush=True), input()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        told = found(run)
        process.kill()
    assert told["lock"][1].startswith(f"process {process.pid} on ")
    assert "versions.numpy was 1.0.0" in told["drift"][1]
    assert told["left over"][1].startswith(".writing-1: ")


def test_no_run_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run folder"):
        doctor(tmp_path)


def test_a_package_that_cannot_be_imported_is_bad(tmp_path: Path) -> None:
    """In a process whose jinja2 is another."""
    (tmp_path / "jinja2").mkdir()
    (tmp_path / "jinja2" / "__init__.py").write_text("raise ImportError('half installed')")
    done = qladder("doctor", "--json", cwd=tmp_path)
    assert done.returncode == 1
    bad: list[Any] = [f for f in json.loads(done.stdout)["findings"] if not f["good"]]
    assert bad == [{"what": "jinja2", "good": False, "says": "ImportError: half installed"}]
    lines = qladder("doctor", cwd=tmp_path).stdout.splitlines()
    assert [line for line in lines if line.startswith("BAD")] == ["BAD  jinja2             ImportError: half installed"]


def test_learning_that_goes_wrong_is_told(run: Path) -> None:
    assert found(run)["health"] == (True, "nothing wrong at the last look")
    path = run / "metrics.jsonl"
    sick = {"agent_steps": 600, "health/gradient_norm": 0.0}
    path.write_text(path.read_text() + json.dumps(sick) + "\n")
    good, says = found(run)["health"]
    assert not good
    assert says.startswith("at 600 agent steps nothing is learnt any more")
    path.write_text(path.read_text() + json.dumps({**sick, "health/dormant": "much"}) + "\n")
    assert not found(run)["health"][0]
