"""What a run measures, written twice: metrics.jsonl is the truth, TensorBoard gets the same."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qladder.agents.schedules import Clocks
from qladder.envs.errors import StorageError, UserError
from qladder.runners.progress import say
from qladder.runners.run_folder import write_text

EVENTS = "events.out.tfevents"  # how the names of TensorBoard's files begin


class MetricsLog:
    """Appends one record per measurement, with all clocks; only under `time/` what depends on the machine.

    TensorBoard's step is the agent step. If TensorBoard cannot be written, that is said once and training goes on.

    Args:
        keep_until: agent steps; later measurements of a run that is resumed are dropped.
        mark: what `mark` told when the checkpoint was made.

    Raises:
        UserError: what was written up to the mark is not there any more.
    """

    def __init__(self, folder: Path, *, keep_until: int | None = None, mark: Mapping[str, Any] | None = None) -> None:
        path = folder / "metrics.jsonl"
        if keep_until is not None and path.exists():
            _cut(path, keep_until, mark)
        written = path.read_bytes() if path.exists() else b""
        self._digest, self._bytes = hashlib.sha256(written), len(written)
        self._file = path.open("ab")
        self._board: Any = None
        try:
            self._board = _event_writer(folder, keep_until)
        except OSError as error:
            self._lost_board(error)

    def write(self, clocks: Clocks, episodes: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """One measurement; values may be 0-d tensors. The record is on its way to the disk when this returns.

        Raises:
            StorageError: it cannot be written.
        """
        plain = {tag: float(value) for tag, value in values.items()}
        record = {**clocks._asdict(), "episodes": episodes, **plain}
        line = json.dumps(record).encode() + b"\n"
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise StorageError(f"{self._file.name}: {error.strerror}") from error
        self._digest.update(line)
        self._bytes += len(line)
        if self._board is not None:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import Summary

            points = [Summary.Value(tag=tag, simple_value=value) for tag, value in plain.items()]
            self.describe(Event(wall_time=time.time(), step=clocks.agent_steps, summary=Summary(value=points)))
        return record

    def describe(self, event: Any) -> None:
        """What TensorBoard alone gets, as settings at the start of a run."""
        if self._board is not None:
            try:
                self._board.add_event(event)
            except OSError as error:
                self._lost_board(error)

    def mark(self) -> dict[str, Any]:
        """How much was written so far, all of it on the disk now, and its SHA-256; StorageError where it is not."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise StorageError(f"{self._file.name}: {error.strerror}") from error
        return {"bytes": self._bytes, "sha256": self._digest.hexdigest()}

    def close(self) -> None:
        """Flushes both files."""
        with contextlib.suppress(OSError):  # `write` has told it
            self._file.close()
        if self._board is not None:
            try:
                self._board.close()
            except OSError as error:
                self._lost_board(error)

    def _lost_board(self, error: OSError) -> None:
        self._board = None
        say(f"TensorBoard file: {error}; training goes on, metrics.jsonl has everything")


def _event_writer(folder: Path, resumed_at: int | None) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    _put_in_order(folder, int(time.time()))
    writer = EventFileWriter(str(folder))
    if resumed_at is not None:
        start = SessionLog(status=SessionLog.START)
        writer.add_event(Event(wall_time=time.time(), step=resumed_at + 1, session_log=start))
    return writer


def _put_in_order(folder: Path, now: int) -> None:
    """Earlier files get earlier names: TensorBoard reads them by name, which begins with what the clock said then."""
    files = sorted(path for path in folder.glob(f"{EVENTS}.*") if _seconds_in(path).isdigit())
    if files and int(_seconds_in(files[-1])) >= now:  # it was put back since
        for age, path in enumerate(reversed(files), 1):
            path.rename(path.with_name(path.name.replace(_seconds_in(path), f"{now - age:010}", 1)))


def _seconds_in(path: Path) -> str:
    return path.name.removeprefix(f"{EVENTS}.").partition(".")[0]


def _cut(path: Path, agent_steps: int, mark: Mapping[str, Any] | None) -> None:
    """Drops records later than `agent_steps`, and a torn last line."""
    written = path.read_bytes()
    if mark is not None and hashlib.sha256(written[: mark["bytes"]]).hexdigest() != mark["sha256"]:
        raise UserError(
            f"{path}: its first {mark['bytes']:,} bytes are not those that were there when the checkpoint of "
            f"{agent_steps:,} agent steps was made; put them back, or move the file away to go on without it"
        )
    kept = []
    for line in written.decode(errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break
        if record["agent_steps"] <= agent_steps:
            kept.append(line + "\n")
    write_text(path, "".join(kept))
