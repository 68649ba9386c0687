"""Memory counted against real arrays and limits, and what `qladder plan` tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qladder.envs.errors import UserError
from qladder.envs.spec import EnvSpec
from qladder.replay.frames import FrameReplay, ReplayConfig
from qladder.runners.memory import RESERVE, available, check_replay
from qladder.runners.plan import plan

ATARI = EnvSpec("X-v0", 8, True, (4, 84, 84), "uint8", None, 6, stack=4)
VECTOR = EnvSpec("X-v0", 2, True, (3,), "float32", None, 300)


@pytest.mark.parametrize("spec", [ATARI, VECTOR])
def test_a_replay_takes_the_bytes_that_were_counted(spec: EnvSpec) -> None:
    config = ReplayConfig(capacity=4_000)
    replay = FrameReplay(config, spec, 0.99, np.random.default_rng(0))
    assert check_replay(config, spec, limit=10**12) == replay.nbytes


@pytest.mark.parametrize("slots", [4_000, 4_097])
def test_priorities_are_counted_in(slots: int) -> None:
    config = ReplayConfig(capacity=8 * slots, prioritized=True)
    replay = FrameReplay(config, ATARI, 0.99, np.random.default_rng(0))
    plain = check_replay(ReplayConfig(capacity=8 * slots), ATARI, limit=10**12)
    assert plain < replay.nbytes <= check_replay(config, ATARI, limit=10**12)


def test_a_million_atari_transitions_take_less_than_7_3_gigabytes() -> None:
    assert check_replay(ReplayConfig(capacity=1_000_000), ATARI, limit=10**12) <= 7.3e9


def test_what_does_not_fit_is_refused_with_what_does() -> None:
    limit = RESERVE + 100_000 * 7_065
    with pytest.raises(UserError, match=r"--replay\.capacity 100000 fits"):
        check_replay(ReplayConfig(capacity=100_001), ATARI, limit=limit)
    assert check_replay(ReplayConfig(capacity=100_000), ATARI, limit=limit) == 100_000 * 7_065


def test_compression_is_reckoned_with() -> None:
    limit = RESERVE + int(1.5e9)
    assert check_replay(ReplayConfig(capacity=1_000_000, compression="deflate"), ATARI, limit=limit) <= 1.5e9
    with pytest.raises(UserError, match="fits"):
        check_replay(ReplayConfig(capacity=1_000_000), ATARI, limit=limit)


def test_the_control_group_counts(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 5000 kB\n")
    group = tmp_path / "cgroup"
    assert available(tmp_path, group) == 5000 * 1024
    _group(group, {"memory.current": "1000", "memory.max": "max", "memory.stat": "anon 700\ninactive_file 200"})
    assert available(tmp_path, group) == 5000 * 1024
    (group / "memory.max").write_text("4000\n")
    assert available(tmp_path, group) == 3200  # files that nobody has used since they were read give way
    old = {"memory.limit_in_bytes": "1500", "memory.usage_in_bytes": "2000"}
    _group(group / "memory", {**old, "memory.stat": "inactive_file 7\ntotal_inactive_file 300"})
    assert available(tmp_path, group) == 0


@pytest.mark.parametrize("version", [1, 2])
def test_each_of_the_nested_control_groups_counts(version: int, tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemAvailable: 5000 kB\n")
    (tmp_path / "self").mkdir()
    line, below = ("0::/", "") if version == 2 else ("4:memory:/", "memory")
    (tmp_path / "self" / "cgroup").write_text(f"7:pids:/elsewhere\n{line}job_7/task_1\n")
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    limits = {".": 9000, "job_7": 2000, "job_7/task_1": 3000, "job_7/task_2": 10, "elsewhere": 10}
    for path, limit in limits.items():
        _group(tmp_path / below / path, {names[0]: str(limit), names[1]: "100", "memory.stat": ""})
    assert available(tmp_path, tmp_path) == 1900
    (tmp_path / below / "job_7" / "task_1" / names[0]).write_text("1500")
    assert available(tmp_path, tmp_path) == 1400


def _group(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


@pytest.mark.parametrize(("env", "ratio"), [("CartPole-v1", 1), ("qladder/Catch-v0", 5)])
def test_a_plan_counts_and_probes_and_writes_nothing(
    env: str, ratio: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = plan("dqn", env, {"run": {"steps": 3_600, "update_every": 4}}, seconds=1.0)
    assert told["updates_per_second"] == pytest.approx(told["steps_per_second"] / 4, rel=0.1)
    assert told["hours"] == pytest.approx(1 / told["steps_per_second"])
    saved = told["memory_bytes"] // ratio
    weights = told["checkpoint_bytes"] - saved
    assert weights > 0
    assert told["disk_bytes"] == 3 * weights + 2 * saved
    assert told["learner"] == "eager"
    some, more = (plan("random", "qladder/Catch-v0", {"run": {"episodes": n}}, seconds=0.3) for n in (9, 900))
    assert some["hours"] * some["steps_per_second"] * 3600 == pytest.approx(9 * 9, rel=0.1)  # steps each
    assert more["hours"] * more["steps_per_second"] * 3600 == pytest.approx(900 * 9, rel=0.1)
    assert not list(tmp_path.iterdir())
