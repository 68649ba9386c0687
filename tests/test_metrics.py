"""Metrics: every record once, however often a run is resumed, and TensorBoard's own reader sees the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from qladder.agents.schedules import Clocks
from qladder.runners.metrics import MetricsLog


@pytest.fixture(autouse=True)
def _numbered_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard takes the files of one second in the order of their numbers as words: the tenth before the ninth."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


def write(folder: Path, *records: tuple[int, dict[str, Any]], keep_until: int | None = None) -> None:
    metrics = MetricsLog(folder, keep_until=keep_until)
    for step, values in records:
        metrics.write(Clocks(4 * step, step, step // 2), 7, values)
    metrics.close()


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def agree(folder: Path) -> None:
    """Tags, steps and values of both files are the same, up to float32."""
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    expected: dict[str, list[tuple[int, Any]]] = {}
    for record in lines(folder):
        for tag in record.keys() - {"frames", "agent_steps", "updates", "episodes"}:
            expected.setdefault(tag, []).append((record["agent_steps"], np.float32(record[tag])))
    assert expected == {
        tag: [(e.step, np.float32(e.value)) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]
    }


def test_a_record_holds_all_clocks_and_plain_numbers(tmp_path: Path) -> None:
    write(tmp_path, (10, {"loss/td": torch.tensor(0.5), "q/mean": np.float32(2), "time/seconds": 1}))
    assert lines(tmp_path) == [
        {"frames": 40, "agent_steps": 10, "updates": 5, "episodes": 7, "loss/td": 0.5, "q/mean": 2, "time/seconds": 1}
    ]
    agree(tmp_path)


def test_a_record_is_there_before_the_file_is_closed(tmp_path: Path) -> None:
    metrics = MetricsLog(tmp_path)
    metrics.write(Clocks(1, 1, 1), 0, {"a": 1})
    assert len(lines(tmp_path)) == 1
    metrics.close()


@pytest.mark.parametrize("torn", ["", '{"agent_steps": 2', '{"agent_steps": 20, "a": 3}\n{"ag'])
def test_what_came_after_the_checkpoint_is_measured_again(torn: str, tmp_path: Path) -> None:
    write(tmp_path, (10, {"a": 1.5}), (10, {"eval/return": 3, "time/seconds": 1}), (20, {"a": 2}), (30, {"a": 3}))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(torn)
    write(tmp_path, (20, {"a": 5}), (30, {"a": 6}), keep_until=10)
    assert [(r["agent_steps"], r.get("a")) for r in lines(tmp_path)] == [(10, 1.5), (10, None), (20, 5), (30, 6)]
    agree(tmp_path)


def test_a_run_that_starts_afresh_has_no_past(tmp_path: Path) -> None:
    write(tmp_path, (10, {"a": 1}), (20, {"a": 2}))
    write(tmp_path, (10, {"a": 3}), keep_until=0)
    assert [(r["agent_steps"], r["a"]) for r in lines(tmp_path)] == [(10, 3)]
    agree(tmp_path)
