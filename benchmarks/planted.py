"""Runs pytest on copies of the tree with a fault in each: `python benchmarks/planted.py < requests > answers`.

A request is a line of JSON, `{"root": FOLDER, "module": NAME, "arguments": [...], "limit": SECONDS}`; so is its answer,
`{"status": S, "output": TEXT}`. S is pytest's exit status, but `UNIMPORTABLE` where the module cannot even be imported,
`ELSEWHERE` where what is imported under its name is not the copy's (then the tests would say nothing about the fault),
and null where the time was up. Every request is answered by a fork of this process, which has the libraries that
qladder is built on, and nothing of qladder: to import them again for each fault takes longer than the tests.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

UNIMPORTABLE, ELSEWHERE, BROKEN = 98, 99, 97
QUICK = 1.5  # seconds up to which tests stay in their order, so that they share fixtures
LIBRARIES = "torch numpy gymnasium ale_py tyro rich tensorboard.compat.proto.event_pb2 hypothesis pytest pytest_timeout"


def serve() -> None:
    """Answers requests until there are no more."""
    for library in LIBRARIES.split():
        importlib.import_module(library)
    gc.freeze()
    for line in sys.stdin:
        status, output = answer(**json.loads(line))
        print(json.dumps({"status": status, "output": output}), flush=True)


def answer(root: str, module: str, arguments: list[str], limit: float) -> tuple[int | None, str]:
    """pytest's status in a process of its own, and all that was written; None where the time was up."""
    with tempfile.TemporaryFile() as written:
        child = os.fork()
        if child == 0:
            become(root, module, arguments, written.fileno())
        with os.fdopen(os.pidfd_open(child)) as ending:
            ended, _, _ = select.select([ending], [], [], limit)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what it left behind, too
        _, status = os.waitpid(child, 0)
        written.seek(0)
        return os.waitstatus_to_exitcode(status) if ended else None, written.read().decode(errors="replace")


def become(root: str, module: str, arguments: list[str], output: int) -> None:
    """Makes this process one that was started in `root` to run pytest there; does not return."""
    status = BROKEN
    try:
        os.setsid()
        for stream in (sys.stdout.fileno(), sys.stderr.fileno()):
            os.dup2(output, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
        os.chdir(root)
        paths = str(Path(root) / ".import")
        os.environ["PYTHONPATH"] = paths
        sys.path[0] = paths  # in place of this folder, whose files have other jobs
        status = tested(root, module, arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def tested(root: str, module: str, arguments: list[str]) -> int:
    try:
        found = importlib.import_module(module).__file__
    except Exception:
        traceback.print_exc()
        return UNIMPORTABLE
    if not Path(found or "").resolve().is_relative_to(Path(root).resolve()):
        print(f"{module} is {found}, not in {root}")
        return ELSEWHERE
    import pytest

    return int(pytest.main(list(arguments), [Quick(Path(root) / "durations")]))


class Quick:
    """Runs slow tests last, as known from the green runs in this copy, and lets Hypothesis try the same examples every
    time, and look for no smaller one once something fails."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._took: dict[str, float] = {}

    def pytest_sessionstart(self) -> None:
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("planted", phases=phases, derandomize=True, database=None)
        settings.load_profile("planted")

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        took: dict[str, float] = {}
        for file in self._folder.glob("*.json"):
            took |= json.loads(file.read_text())
        items.sort(key=lambda item: max(took.get(item.nodeid, 0.0), QUICK))

    def pytest_runtest_logreport(self, report: Any) -> None:
        self._took[report.nodeid] = self._took.get(report.nodeid, 0.0) + report.duration

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if exitstatus == 0:
            self._folder.mkdir(exist_ok=True)
            (self._folder / f"{os.getpid()}.json").write_text(json.dumps(self._took))


if __name__ == "__main__":
    serve()
