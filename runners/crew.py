"""A suite's runs as processes of their own, side by side; each is done once, whoever else is at work on it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from qladder.runners.jobs import BAD_INPUT, Job, single_threaded, write_settings
from qladder.runners.lock import CLAIM
from qladder.runners.progress import duration, say
from qladder.runners.run_folder import took_weights
from qladder.runners.stop import Stop, StoppedError

POLL = 0.05  # seconds between two looks at the processes
ELSEWHERE = 1.0  # seconds between two looks at a run that another suite is at work on


class _Child(NamedTuple):
    """A process at work on a run; the claim is held by both of us, so that it outlives whichever is killed."""

    job: Job
    process: subprocess.Popen[bytes]
    claim: int
    memory: int
    source: Path | None  # the run whose weights it takes
    began: float


class Crew:
    """So many processes side by side, as memory allows.

    Each has a session of its own, so that Ctrl-C reaches it through us alone, once.

    Args:
        trained: finished runs by their `training_hash`, to which those that end are added; whoever is trained alike
            takes their weights and is evaluated only. None: each run trains for itself.
    """

    def __init__(
        self,
        side_by_side: int,
        memory: Mapping[int, int],
        limit: int | None,
        *,
        retries: int = 0,
        progress: bool,
        trained: dict[str, Path] | None = None,
    ) -> None:
        self._side_by_side, self._memory, self._limit = side_by_side, memory, limit  # bytes, by the task's number
        self._retries, self._progress, self._trained = retries, progress, trained
        self._children: list[_Child] = []
        self._failed: dict[Path, str] = {}
        self._attempts: dict[Path, int] = {}
        self._looked: dict[Path, float] = {}  # when a run was found in the hands of another suite
        self._elsewhere: dict[Path, str] = {}  # how those are trained, until they are done or done here
        self._ended = self._of = 0

    def run(self, jobs: Sequence[Job]) -> dict[Path, str]:
        """Does all that is not done, and tells why some were not, by folder.

        A run that another suite is at work on is waited for, and done here where that one gives it up.

        Raises:
            StoppedError: Ctrl-C or SIGTERM; what was under way has been saved.
        """
        waiting, self._of = list(jobs), len(jobs)
        with Stop() as stop, self:
            while waiting or self._children:
                if stop.signal is not None:
                    raise StoppedError(stop.reason)
                begun = self._begin_one(waiting)
                ended = [child for child in self._children if child.process.poll() is not None]
                for child in ended:
                    self._take_back(child, waiting)
                if not begun and not ended:
                    time.sleep(POLL)
        return self._failed

    def _begin_one(self, waiting: list[Job]) -> bool:
        """Begins the first that there is room for and that is free, and takes it off; whether there was one."""
        if len(self._children) >= self._side_by_side:
            return False
        now = time.monotonic()
        for job in waiting:
            if now < self._looked.get(job.folder, -ELSEWHERE) + ELSEWHERE or not self._fits(job) or self._awaits(job):
                continue
            try:
                claim = _claim(job.place(".claim"))
                if claim is None:
                    if job.folder not in self._looked and self._progress:
                        say(f"{job.folder.name} is being done by another process; it is waited for")
                    self._looked[job.folder], self._elsewhere[job.folder] = now, job.training
                    continue
                self._begin(job, claim)
            except OSError as error:
                self._fail(job, f"{error.filename or job.folder}: {error.strerror}")
            waiting.remove(job)
            return True
        return False

    def _begin(self, job: Job, claim: int) -> None:
        self._elsewhere.pop(job.folder, None)
        try:
            if not job.done():
                source = self._source(job)
                process = _start(job, claim, source)
                memory = self._memory.get(job.number, 0)
                self._children.append(_Child(job, process, claim, memory, source, time.monotonic()))
                return
        except BaseException:
            os.close(claim)
            raise
        os.close(claim)
        self._offer(job)
        self._tell(job, "done by another")

    def _awaits(self, job: Job) -> bool:
        """Whether one is under way, here or elsewhere, that is trained alike and has weights to give when it ends."""
        if self._trained is None:
            return False
        elsewhere = [training for folder, training in self._elsewhere.items() if folder != job.folder]
        under_way = {*elsewhere, *(child.job.training for child in self._children)}
        return job.training in under_way and job.may_take and self._source(job) is None

    def _source(self, job: Job) -> Path | None:
        """The run whose weights it takes; None where it trains, as one does that has begun to."""
        return self._trained.get(job.training) if self._trained and job.may_take else None

    def _offer(self, job: Job) -> None:
        """What it has trained, to those that are trained alike."""
        if self._trained is not None and job.done() and not took_weights(job.folder):
            self._trained.setdefault(job.training, job.folder)

    def _fits(self, job: Job) -> bool:
        taken = sum(child.memory for child in self._children)
        return not self._children or self._limit is None or taken + self._memory.get(job.number, 0) <= self._limit

    def _take_back(self, child: _Child, waiting: list[Job]) -> None:
        self._children.remove(child)
        try:
            if child.process.returncode == BAD_INPUT and child.source is not None and self._trained is not None:
                if self._trained.get(child.job.training) == child.source:
                    del self._trained[child.job.training]
                waiting.insert(0, child.job)
                if self._progress:
                    say(f"{child.job.folder.name}: {_last_line(child.job)}; it trains for itself")
            else:
                self._judge(child, waiting)
        finally:
            os.close(child.claim)

    def _judge(self, child: _Child, waiting: list[Job]) -> None:
        """By how its process ended."""
        job, status = child.job, child.process.returncode
        log = job.place(".log")
        if status == 0:
            for file in (log, job.place(".toml")):
                file.unlink(missing_ok=True)
            self._offer(job)
            self._tell(job, f"done in {duration(time.monotonic() - child.began)}")
            return
        attempts = self._attempts[job.folder] = self._attempts.get(job.folder, 0) + 1
        ended = f"exit status {status}: {_last_line(job)}"
        reason = f"{ended if status >= 0 else f'killed by {signal.Signals(-status).name}'} (log: {log})"
        if attempts > self._retries:
            self._fail(job, reason)
        else:
            waiting.insert(0, job)
            if self._progress:
                say(f"{job.folder.name}: {reason}; attempt {attempts + 1} of {self._retries + 1}")

    def _fail(self, job: Job, reason: str) -> None:
        self._failed[job.folder] = reason
        self._tell(job, f"failed: {reason}")

    def _tell(self, job: Job, what: str) -> None:
        self._ended += 1
        if self._progress:
            say(f"{self._ended} of {self._of}: {job.folder.name} {what}")

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *exception: object) -> None:
        """Has all that are under way save and end, and waits for it."""
        for child in self._children:
            child.process.terminate()
        while self._children:
            child = self._children.pop()
            child.process.wait()
            os.close(child.claim)


def _last_line(job: Job) -> str:
    """What its process said last."""
    lines = job.place(".log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Whoever else is in here is waited for."""
    while (claim := _claim(path)) is None:
        time.sleep(POLL)
    try:
        yield
    finally:
        os.close(claim)


def _claim(path: Path) -> int | None:
    """A file that is ours alone until it is closed in all processes that hold it; None where it is another's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    except OSError:  # a file system without locks; the run's own generation unmasks a second writer
        pass
    return file


def _start(job: Job, claim: int, trained: Path | None) -> subprocess.Popen[bytes]:
    """Trains in a process of its own, on one core; a half-done run of the same settings goes on.

    Where there is a run that was `trained` alike, it is evaluated only.
    """
    settings = write_settings(job)
    command = [sys.executable, "-m", "qladder.runners", "train", "--config", str(settings), "--json"]
    command += [f"--out={job.folder.parent}", f"--name={job.folder.name}"]
    if job.folder.exists():
        command.append("--resume")
        if trained is None and took_weights(job.folder):  # and was killed; now it trains
            for name in ("summary.json", "manifest.json"):
                (job.folder / name).unlink(missing_ok=True)
    if trained is not None:
        command.append(f"--trained-in={trained}")
    with job.place(".log").open("w", encoding="utf-8") as output:
        return subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **single_threaded(), CLAIM: str(claim)},
            start_new_session=True,
            pass_fds=[claim],
        )
