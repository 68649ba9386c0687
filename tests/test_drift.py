"""What has changed since a run was started is named, refused and, where it is allowed, recorded."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from killing import DEEP, SMALL, Killed, go

from qladder.envs.errors import UserError
from qladder.runners import checkpoint
from qladder.runners.run_folder import drift, provenance
from qladder.runners.settings import Table, merge
from qladder.runners.source import code_digest, own_code, package_versions

SHORT: Table = {"run": {"steps": 500, "checkpoint_every": 150, "eval_episodes": 1}}


def cut_off(place: Path, settings: Table, kill_at: int) -> tuple[Path, dict[str, Any]]:
    """The manifest of a run that was killed, where it lies and what it says."""
    with pytest.raises(Killed):
        go(place, "q-learning", "CliffWalking-v1", settings, kill_at=kill_at)
    path = place / "run" / "manifest.json"
    return path, json.loads(path.read_text(encoding="utf-8"))


def test_what_has_changed_since_is_named(tmp_path: Path) -> None:
    path, manifest = cut_off(tmp_path, SHORT, 200)
    manifest |= {"device": "other", "gpu": "other", "learner": "other", "threads": 99, "rom_md5": "other"}
    manifest["machine"] |= {"processor": "other", "instructions": "other"}
    manifest["versions"]["numpy"] = "1.0.0"
    manifest |= {"code": "other", "own_code": {"mine": "other"}}
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(UserError, match="--allow-drift lets it") as refused:
        go(tmp_path, "q-learning", "CliffWalking-v1", SHORT, resume=True)
    names = [
        "device",
        "gpu",
        "learner",
        "threads",
        "rom_md5",
        "machine.processor",
        "machine.instructions",
        "versions.numpy",
        "code",
        "own_code.mine",
    ]
    assert [line.split(" was ")[0] for line in str(refused.value).removeprefix("--resume: ").split("; ")] == names
    assert json.loads(path.read_text(encoding="utf-8")) == manifest
    go(tmp_path, "q-learning", "CliffWalking-v1", SHORT, resume=True, allow_drift=True)
    (resumed,) = json.loads(path.read_text(encoding="utf-8"))["resumed"]
    assert (resumed["agent_steps"], resumed["exact"], len(resumed["drift"])) == (150, False, len(names))


def test_code_counts_and_pages_do_not(tmp_path: Path) -> None:
    """What is not committed yet too: an agent that has just been added, or a changed default."""
    for name in ("agents/mine.py", "configs/mine/agent.toml", "README.md", "agents/notes.md", "tests/test_mine.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    digests = [code_digest.__wrapped__(tmp_path)]
    for name in ("README.md", "agents/notes.md", "tests/test_mine.py"):
        (tmp_path / name).write_text("2")
        assert code_digest.__wrapped__(tmp_path) == digests[0]
    for name in ("agents/mine.py", "configs/mine/agent.toml", "envs/new.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("2")
        digests.append(code_digest.__wrapped__(tmp_path))
    assert len(set(digests)) == 4


def test_code_of_ones_own_that_has_changed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a module and of a package, all of it; nothing is imported to know it."""
    (tmp_path / "lone.py").write_text("raise SystemExit")
    (tmp_path / "together" / "below").mkdir(parents=True)
    (tmp_path / "together" / "__init__.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    table = {
        "agent": {"name": "lone:Agent"},
        "env": {"id": "together:E-v0", "wrappers": ["qladder.envs.flicker:flicker"]},
    }
    before = provenance(table)
    assert set(before["own_code"]) == {"lone", "together"}
    (tmp_path / "together" / "below" / "part.py").write_text("")
    changed = drift(before, provenance(table))
    assert [line.split(" was ")[0] for line in changed] == ["own_code.together"]
    (tmp_path / "lone.py").write_text("raise SystemExit(1)")
    assert len(drift(before, provenance(table))) == 2
    assert own_code({"agent": {"name": "dqn"}, "env": {"id": "gone:E-v0"}}) == {}


def test_packages_that_environments_come_from_count(tmp_path: Path) -> None:
    gymnasium.register("Plugged-v0", entry_point="rich.console:Console")
    here = {"rich": importlib.metadata.version("rich")}
    assert package_versions({"env": {"id": "Plugged-v0"}, "agent": {"name": "dqn"}}) == here
    wrapped = {"env": {"id": "CartPole-v1", "wrappers": ["rich.text:Text"]}, "agent": {"name": "pytest:Agent"}}
    assert package_versions(wrapped) == here | {"pytest": importlib.metadata.version("pytest")}
    for house in ("CartPole-v1", "ALE/Pong-v5", "qladder/Catch-v0", "nothing-v0"):
        assert package_versions({"env": {"id": house}, "agent": {"name": "dqn"}}) == {}
    now = provenance({"env": {"id": "Plugged-v0"}, "agent": {"name": "dqn"}})
    assert drift({**now, "versions": {**now["versions"], "rich": "0.1"}}, now) == [
        f"versions.rich was 0.1 and is {here['rich']} now"
    ]


def test_another_number_of_threads_is_a_change(tmp_path: Path) -> None:
    settings = merge(SMALL, {**DEEP, "run": {**DEEP["run"], "threads": 1}})
    with pytest.raises(Killed):
        go(tmp_path, "dqn", "CartPole-v1", settings, kill_at=800)
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    assert manifest["threads"] == 1
    path.write_text(json.dumps({**manifest, "threads": 7}), encoding="utf-8")
    with pytest.raises(UserError, match="threads was 7 and is 1 now"):
        go(tmp_path, "dqn", "CartPole-v1", settings, resume=True)


def test_code_that_has_changed_is_named_before_what_its_checkpoint_lacks(tmp_path: Path) -> None:
    path, manifest = cut_off(tmp_path, SMALL, 700)
    run = path.parent
    newest = checkpoint.checkpoints(run)[0]
    state = checkpoint.load(newest)
    del state["run"]["begun_at"]
    shutil.rmtree(run / "checkpoints")
    checkpoint.save(run, checkpoint.agent_steps_of(newest), state)
    with pytest.raises(UserError, match=r"is of another run or another version of qladder: 'begun_at'"):
        go(tmp_path, "q-learning", "CliffWalking-v1", SMALL, resume=True)
    path.write_text(json.dumps({**manifest, "code": "earlier"}), encoding="utf-8")
    with pytest.raises(UserError, match="code was earlier"):
        go(tmp_path, "q-learning", "CliffWalking-v1", SMALL, resume=True)


def test_a_run_without_a_checkpoint_begins_afresh_whatever_has_changed(tmp_path: Path) -> None:
    path, manifest = cut_off(tmp_path, SHORT, 100)
    path.write_text(json.dumps({**manifest, "code": "earlier"}), encoding="utf-8")
    assert go(tmp_path, "q-learning", "CliffWalking-v1", SHORT, resume=True)["agent_steps"] == 500
    assert json.loads(path.read_text(encoding="utf-8"))["code"] == manifest["code"]
