"""What a run measures, written twice: metrics.jsonl is the truth, TensorBoard gets the same."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qladder.agents.schedules import Clocks


class Metrics:
    """Appends one record per measurement, with all clocks; only under `time/` what depends on the machine.

    TensorBoard's step is the agent step. If TensorBoard cannot be written, that is said once and training goes on.
    """

    def __init__(self, folder: Path, *, keep_until: int | None = None) -> None:
        path = folder / "metrics.jsonl"
        self._resumed_at = keep_until
        self._there = _cut(path, keep_until) if keep_until is not None and path.exists() else set()
        self._file = path.open("a", encoding="utf-8")
        self._board: Any = None
        try:
            self._board = _event_writer(folder, keep_until)
        except OSError as error:
            self._lost_board(error)

    def write(self, clocks: Clocks, episodes: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """One measurement; values may be 0-d tensors. The record is on its way to the disk when this returns."""
        plain = {tag: float(value) for tag, value in values.items()}
        record = {**clocks._asdict(), "episodes": episodes, **plain}
        if clocks.agent_steps == self._resumed_at and self._there.issuperset(plain):
            return record  # it was measured before the run was resumed
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        if self._board is not None:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import Summary

            points = [Summary.Value(tag=tag, simple_value=value) for tag, value in plain.items()]
            event = Event(wall_time=time.time(), step=clocks.agent_steps, summary=Summary(value=points))
            try:
                self._board.add_event(event)
            except OSError as error:
                self._lost_board(error)
        return record

    def close(self) -> None:
        """Flushes both files."""
        self._file.close()
        if self._board is not None:
            try:
                self._board.close()
            except OSError as error:
                self._lost_board(error)

    def _lost_board(self, error: OSError) -> None:
        self._board = None
        print(f"TensorBoard file: {error}; training goes on, metrics.jsonl has everything", file=sys.stderr)


def _event_writer(folder: Path, resumed_at: int | None) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))
    if resumed_at is not None:
        start = SessionLog(status=SessionLog.START)
        writer.add_event(Event(wall_time=time.time(), step=resumed_at + 1, session_log=start))
    return writer


def _cut(path: Path, agent_steps: int) -> set[str]:
    """Drops records later than `agent_steps`, and a torn last line; the fields that were measured at just that step."""
    kept = []
    there: set[str] = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break
        if record["agent_steps"] <= agent_steps:
            kept.append(line + "\n")
        if record["agent_steps"] == agent_steps:
            there.update(record)
    beside = path.with_suffix(".writing")
    beside.write_text("".join(kept), encoding="utf-8")
    beside.replace(path)
    return there
