"""The runs of a suite: what each is, where it lies, and whether it is done."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from qladder.envs.errors import UserError
from qladder.envs.protocol import Protocol
from qladder.runners.config import Config, resolve
from qladder.runners.likeness import finished, own_modules, training_hash
from qladder.runners.run_folder import read_manifest, run_name
from qladder.runners.runs import env_name
from qladder.runners.source import own_code
from qladder.runners.suite_file import Suite, Task

BAD_INPUT = 2  # exit status
PLACE = ".jobs"
"""The folder beside the runs where their claims, settings and logs lie."""


@dataclass(frozen=True)
class Job:
    """One run of a suite."""

    task: Task
    number: int  # of the task, from 1
    seed: int
    config: Config
    folder: Path

    @cached_property
    def training(self) -> str:
        """What it shares with runs that are trained alike."""
        return training_hash(self.config)

    @property
    def may_take(self) -> bool:
        """Whether it may do with another's weights: it has none of its own, and its score is not that of training.

        Code of the user's own may have changed since those were trained.
        """
        return self._scored_alike and not any(self.folder.glob("*/step-*"))

    @cached_property
    def _scored_alike(self) -> bool:
        return self.config.protocol.score != "training" and not own_modules(self.config.table(), training=True)

    def done(self) -> bool:
        """Whether its folder holds the finished run of just these settings."""
        return finished(self.folder, self.config) is not None

    def of_other_code(self) -> bool:
        """Whether it is done, by other code of the user's own than lies there now."""
        now = own_code(self.config.table())
        if not now or not self.done():
            return False
        try:
            return bool(read_manifest(self.folder).get("own_code") != now)
        except UserError:  # damaged, which the comparison tells
            return False

    def place(self, suffix: str) -> Path:
        """A file of ours about it, beside the runs."""
        return self.folder.parent / PLACE / f"{self.folder.name}{suffix}"


@dataclass(frozen=True)
class Shard:
    """The part of a suite that one of several machines does; parts are counted from 1."""

    part: int
    parts: int

    @classmethod
    def read(cls, text: str) -> Shard:
        """Of `2/5`; UserError where it is something else."""
        part, slash, parts = text.partition("/")
        if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
            raise UserError(f"--shard {text}: must be I/N with I from 1 to N, e.g. 2/5")
        return cls(int(part), int(parts))

    def holds(self, job: Job) -> bool:
        """Every shard has about as many runs of each task and of each seed."""
        return (job.number + job.seed) % self.parts == self.part - 1


def jobs_of(suite: Suite, folder: Path, seeds: int | None = None) -> list[Job]:
    """All runs, the first seed of every task first, so that there is something to look at early.

    Raises:
        UserError: settings that do not fit, two tasks whose runs would share a folder, or different protocols on one
            environment in a suite that does not ask for it.
    """
    found: list[Job] = []
    taken: dict[Path, int] = {}
    by_env: dict[str, Protocol] = {}
    for seed in range(suite.first_seed, suite.first_seed + (seeds or suite.seeds)):
        for number, task in enumerate(suite.tasks, start=1):
            config = resolve(task.agent, task.env, task.table(seed))
            job = Job(task, number, seed, config, folder / run_name(config))
            if taken.setdefault(job.folder, number) != number:
                raise UserError(
                    f"suite tasks {taken[job.folder]} and {number} are both {task.agent} on {task.env}, whose runs "
                    "would share a folder: give one of them a label"
                )
            env = env_name(config.env.id, config.env.variant)
            usual = by_env.setdefault(env, config.protocol)
            if usual.hash != config.protocol.hash and not suite.mix_protocols:
                raise UserError(
                    f"suite task {number}: {env} follows protocol {config.protocol.name} here and {usual.name} before, "
                    "so that their scores do not compare: mix_protocols = true compares them all the same"
                )
            found.append(job)
    return found


def write_settings(job: Job) -> Path:
    """The file from which the run's process takes its settings."""
    import tomli_w

    settings = job.place(".toml")
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(tomli_w.dumps(job.config.table()), encoding="utf-8")
    return settings


def single_threaded() -> dict[str, str]:
    """The environment variables that keep a process to one core."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
