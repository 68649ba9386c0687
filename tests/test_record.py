"""How a run's folder tells that a process began, and how it ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qladder.envs.errors import EnvironmentFaultError, HangError, UserError
from qladder.runners.config import resolve
from qladder.runners.lock import RunLock
from qladder.runners.record import Record, at_work
from qladder.runners.stop import StoppedError

CONFIG = resolve("q-learning", "FrozenLake-v1", {})


def ended(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text())["exit_reason"]


def begun(folder: Path, lock: RunLock, *, done: bool = False) -> Record:
    record = Record(folder, {"exit_reason": None})
    record.begin(CONFIG, lock, done=done)
    return record


def test_what_ends_within_is_written_down(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        with begun(tmp_path, lock) as record:
            assert ended(tmp_path) is None
            record.reason = "finished"
        assert ended(tmp_path) == "finished"
        with begun(tmp_path, lock) as record:
            raise StoppedError("interrupted")
        assert (record.reason, ended(tmp_path)) == ("interrupted", "interrupted")
        with pytest.raises(ZeroDivisionError), begun(tmp_path, lock):
            _ = 1 / 0
        assert ended(tmp_path) == "failed: ZeroDivisionError: division by zero"
        with begun(tmp_path, lock):
            pass
        assert ended(tmp_path) == "failed"  # nobody said otherwise
    assert (tmp_path / "config.toml").exists()


@pytest.mark.parametrize("done", [True, False])
def test_the_result_of_a_shorter_run_is_none_of_this_ones(done: bool, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("{}")
    with RunLock(tmp_path) as lock:
        begun(tmp_path, lock, done=done)
    assert (tmp_path / "summary.json").exists() == done


def test_a_run_that_has_not_begun_leaves_what_stands_there(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"exit_reason": "finished"}')
    record = Record(tmp_path, {"exit_reason": None})
    with pytest.raises(UserError), at_work(record, tmp_path, 1.0), record:
        raise UserError("settings that do not fit")
    assert ended(tmp_path) == "finished"


def test_an_end_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunLock(tmp_path) as lock:
        record = begun(tmp_path, lock)
        (tmp_path / "manifest.json").unlink()
        (tmp_path / "manifest.json").mkdir()
        with pytest.raises(ZeroDivisionError), record:
            _ = 1 / 0
    assert "the manifest does not tell how the run ended: failed: ZeroDivisionError" in capsys.readouterr().err


def test_a_hang_is_a_fault_of_the_environment_and_the_lock_is_free_again(tmp_path: Path) -> None:
    record = Record(tmp_path, {"exit_reason": None})

    def hang() -> None:
        with at_work(record, tmp_path, 1.0) as lock:
            record.begin(CONFIG, lock)
            with record:
                raise HangError("no answer")

    with pytest.raises(EnvironmentFaultError, match="no answer"):
        hang()
    assert ended(tmp_path) == "failed: HangError: no answer"
    with RunLock(tmp_path):
        pass
