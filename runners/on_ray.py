"""A suite's runs on a Ray cluster: each is one task on one core of whichever node, in a folder that all nodes share.

The task does what a local suite does with one run: claims it, trains in a process of its own, goes on from the last
checkpoint. A node or worker that is lost is Ray's to notice; its run is begun again elsewhere, and goes on likewise.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from qladder.envs.errors import UserError
from qladder.runners.crew import Crew
from qladder.runners.extras import install
from qladder.runners.jobs import Job
from qladder.runners.progress import say
from qladder.runners.stop import Stop, StoppedError

NEEDED = (2, 54)
LOST = 3
"""How often a run is begun again whose worker or node was lost."""


class RayCrew:
    """The cluster at the environment's RAY_ADDRESS, else one of its own on loopback with a token of its own."""

    def __init__(self, memory: Mapping[int, int], *, retries: int = 0, progress: bool) -> None:
        self._memory, self._retries, self._progress = memory, retries, progress
        _import_ray()

    def run(self, jobs: Sequence[Job]) -> dict[Path, str]:
        """As `Crew.run`."""
        ray = _import_ray()
        _connect(ray)
        try:
            with Stop() as stop:
                return self._wait(ray, jobs, stop)
        finally:
            ray.shutdown()

    def _wait(self, ray: Any, jobs: Sequence[Job], stop: Stop) -> dict[Path, str]:
        failed: dict[Path, str] = {}
        begun = {self._begin(ray, job): job for job in jobs}
        open_, ended = list(begun), 0
        while open_:
            if stop.signal is not None:
                for ref in open_:
                    ray.cancel(ref)  # an interrupt in its worker, which has the run saved
                ray.wait(open_, num_returns=len(open_), timeout=30)
                raise StoppedError(stop.reason)
            done, open_ = ray.wait(open_, timeout=0.5)
            for ref in done:
                job = begun[ref]
                reason = _outcome(ray, ref)
                if reason is not None:
                    failed[job.folder] = reason
                ended += 1
                if self._progress:
                    say(
                        f"{ended} of {len(jobs)}: {job.folder.name} {'done' if reason is None else f'failed: {reason}'}"
                    )
        return failed

    def _begin(self, ray: Any, job: Job) -> Any:
        task = ray.remote(work).options(
            num_cpus=1, memory=self._memory.get(job.number, 0), max_retries=LOST, name=job.folder.name
        )
        return task.remote(replace(job, folder=job.folder.resolve()), self._retries)


def work(job: Job, retries: int) -> str | None:
    """One run, in a Ray worker: why it failed, or None."""
    try:
        failed = Crew(1, {}, None, retries=retries, progress=False).run([job])
    except StoppedError as stopped:
        return str(stopped)
    return failed.get(job.folder)


def _outcome(ray: Any, ref: Any) -> str | None:
    try:
        reason = ray.get(ref)
    except ray.exceptions.RayError as error:
        return f"on the cluster: {(str(error).strip().splitlines() or ['no word'])[-1]}"
    return None if reason is None else str(reason)


def _connect(ray: Any) -> None:
    address = os.environ.get("RAY_ADDRESS", "local")
    try:
        ray.init(address=address, dashboard_host="127.0.0.1", log_to_driver=False, logging_level="warning")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"--executor ray: {str(error).strip().splitlines()[0]}") from error


def _import_ray() -> Any:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # all of it is read where Ray is imported
    if "RAY_ADDRESS" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on Linux too: nothing but loopback
    try:
        import ray
    except ImportError:
        raise UserError(f"--executor ray: it needs the extra `ray`: {install('ray')}") from None
    if tuple(int(part) for part in ray.__version__.split(".")[:2]) < NEEDED:
        raise UserError(f"--executor ray: Ray {ray.__version__} is too old, 2.54 is needed")
    return ray
