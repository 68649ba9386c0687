"""Checkpoints: what comes back, and what is refused."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from qladder.envs.errors import DivergedError, StorageError
from qladder.replay.types import Versioned
from qladder.runners import checkpoint
from qladder.runners.checkpoint import BadCheckpointError
from qladder.runners.segments import Segments

STATE = {
    "weights": {"0.bias": torch.tensor([1.5, -2.0]), "half": torch.tensor([[1]], dtype=torch.uint8)},
    "rng": np.random.default_rng(3).bit_generator.state,
    "table": np.arange(6).reshape(2, 3),
    "steps": np.int64(7),
    "list": [1, 2.5, None, "x", True],
}


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 7, STATE)
    state = checkpoint.load(path)
    assert torch.equal(state["weights"]["0.bias"], STATE["weights"]["0.bias"])  # type: ignore[index, call-overload]
    assert state["weights"]["half"].dtype == torch.uint8
    assert np.array_equal(state["table"], np.arange(6).reshape(2, 3))
    assert (state["steps"], state["list"]) == (7, [1, 2.5, None, "x", True])
    rng = np.random.default_rng()
    rng.bit_generator.state = state["rng"]
    assert rng.random() == np.random.default_rng(3).random()


def test_the_newest_two_are_kept_newest_first(tmp_path: Path) -> None:
    for steps in (5, 100, 20):
        checkpoint.save(tmp_path, steps, STATE)
    assert [p.name for p in checkpoint.checkpoints(tmp_path)] == ["step-000000000100", "step-000000000020"]


def test_a_save_that_was_killed_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / ".writing-99").mkdir(parents=True)
    assert checkpoint.checkpoints(tmp_path) == []
    checkpoint.save(tmp_path, 5, STATE)
    assert len(checkpoint.checkpoints(tmp_path)) == 1


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_not_written(tmp_path: Path, number: float) -> None:
    good = checkpoint.save(tmp_path, 5, STATE)
    with pytest.raises(DivergedError, match=r"state\.online\.weight \[2\]"):
        checkpoint.save(tmp_path, 7, {"online": {"weight": torch.tensor([0.5, number])}})
    assert checkpoint.checkpoints(tmp_path) == [good]
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == [good.name]


@pytest.mark.parametrize("name", ["arrays.npz", "state.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, damage: str) -> None:
    path = checkpoint.save(tmp_path, 7, STATE)
    data = bytearray((path / name).read_bytes())
    if damage == "gone":
        (path / name).unlink()
    else:
        data[len(data) // 2] ^= 4
        (path / name).write_bytes(data if damage == "flip" else data[:-5])
    with pytest.raises(BadCheckpointError, match=str(path)):
        checkpoint.load(path)


def test_a_manifest_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 7, STATE)
    (path / "manifest.json").write_text('{"agent_steps": 7')
    with pytest.raises(BadCheckpointError):
        checkpoint.load(path)


def test_objects_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not object"):
        checkpoint.save(tmp_path, 7, {"thing": object()})
    assert checkpoint.checkpoints(tmp_path) == []


def test_every_flipped_bit_of_a_manifest_is_found(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 7, STATE)
    good = (path / "manifest.json").read_bytes()
    for i in range(len(good)):
        for bit in (0, 3, 5):
            (path / "manifest.json").write_bytes(good[:i] + bytes([good[i] ^ 1 << bit]) + good[i + 1 :])
            with pytest.raises(BadCheckpointError):
                checkpoint.load(path)
    (path / "manifest.json").write_bytes(good)
    assert checkpoint.load(path)["steps"] == 7


def test_checkpoints_of_a_time_that_did_not_count_are_dropped(tmp_path: Path) -> None:
    for steps in (5, 9):
        checkpoint.save(tmp_path, steps, STATE)
    checkpoint.drop_after(tmp_path, 5)
    assert [p.name for p in checkpoint.checkpoints(tmp_path)] == ["step-000000000005"]


def test_nested_numbers_of_any_size_come_back(tmp_path: Path) -> None:
    state = {"big": 2**127 + 1, "deep": [{"a": [-1.5e-300, {"b": np.float32(0.1)}]}], "empty": {}, "flag": np.True_}
    loaded = checkpoint.load(checkpoint.save(tmp_path, 0, state))
    assert loaded == {
        "big": 2**127 + 1,
        "deep": [{"a": [-1.5e-300, {"b": float(np.float32(0.1))}]}],
        "empty": {},
        "flag": True,
    }


def test_nothing_is_pickled_and_nothing_pickled_is_read(tmp_path: Path) -> None:
    import hashlib
    import json

    with pytest.raises(ValueError, match="allow_pickle"):
        checkpoint.save(tmp_path, 1, {"thing": np.array([object()])})
    path = checkpoint.save(tmp_path, 7, STATE)
    np.savez(path / "arrays.npz", a0=np.array([object()]), a1=np.zeros(1), a2=np.zeros(1))
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["sha256"]["arrays.npz"] = hashlib.sha256((path / "arrays.npz").read_bytes()).hexdigest()
    (path / "manifest.json").write_text(checkpoint.seal(manifest["sha256"], manifest["segments"]))
    with pytest.raises(BadCheckpointError, match="holds object, not plain numbers"):
        checkpoint.load(path)


def test_what_cannot_be_read_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint.save(tmp_path, 7, STATE)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "sha256", unreadable)
        with pytest.raises(StorageError, match="cannot be read: Too many open files"):
            checkpoint.load(path)
    assert checkpoint.load(path)["steps"] == 7


def test_a_manifest_that_cannot_be_read_just_now_costs_no_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    segments = Segments(tmp_path / "checkpoints")
    for version in (1, 2):
        part = Versioned(version=version, settled=True, arrays={"a": np.arange(version)})
        checkpoint.save(tmp_path, version, {"part": part}, segments)
    files = sorted((tmp_path / "checkpoints" / "segments").iterdir())
    assert len(files) == 2
    older = checkpoint.checkpoints(tmp_path)[1]
    (older / "manifest.json").rename(tmp_path / "manifest.json")
    monkeypatch.chdir(older)  # the address of a socket must be short
    with socket.socket(socket.AF_UNIX) as file:  # which cannot be opened
        file.bind("manifest.json")
    checkpoint.spool(tmp_path, {}, segments)
    assert "manifest.json: No such device or address; what is old there stays" in capsys.readouterr().err
    assert sorted((tmp_path / "checkpoints" / "segments").iterdir()) == files
    (tmp_path / "manifest.json").replace(older / "manifest.json")
    assert checkpoint.load(older)["part"]["version"] == 1


def unreadable(path: Path) -> str:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))


def test_an_old_one_that_cannot_be_removed_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for steps in (1, 2):
        checkpoint.save(tmp_path, steps, STATE)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", in_use)
        checkpoint.save(tmp_path, 3, STATE)
    assert "step-000000000001: Device or resource busy; what is old there stays for now" in capsys.readouterr().err
    assert len(checkpoint.checkpoints(tmp_path)) == 3
    checkpoint.save(tmp_path, 4, STATE)
    assert [int(p.name[5:]) for p in checkpoint.checkpoints(tmp_path)] == [4, 3]


def in_use(path: Path) -> None:
    (path / "state.json").unlink()
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))


@pytest.mark.parametrize("manifest", ["null", "[]", '{"sha256": []}', '{"sha256": {}, "segments": {}}', "{}"])
def test_a_manifest_that_vouches_for_nothing_is_refused(manifest: str, tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 7, STATE)
    (path / "manifest.json").write_text(manifest)
    with pytest.raises(BadCheckpointError):
        checkpoint.load(path)
