"""Trains one agent on one environment and leaves a run folder behind."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np

from qladder.envs.errors import UserError
from qladder.runners import checkpoint
from qladder.runners.alarms import Alarms
from qladder.runners.begun_with import begin_with
from qladder.runners.board import settings_event
from qladder.runners.config import Config, resolve
from qladder.runners.cost import Cost
from qladder.runners.device import flushed_denormals, set_up_torch, torch_threads
from qladder.runners.due import Due
from qladder.runners.judge import Judge
from qladder.runners.likeness import finished
from qladder.runners.lock import RunLock
from qladder.runners.loop import interact
from qladder.runners.memory import resident
from qladder.runners.metrics import MetricsLog
from qladder.runners.progress import Progress, say
from qladder.runners.record import Record, at_work
from qladder.runners.run_folder import (
    check_run,
    curve_point,
    folder_of,
    identity,
    open_folder,
    same_run,
    took_weights,
    write_summary,
)
from qladder.runners.runs import read_metrics
from qladder.runners.segments import Segments
from qladder.runners.session import Session
from qladder.runners.shares import Shares
from qladder.runners.stop import Stop, StoppedError
from qladder.runners.taken import take

Result = dict[str, Any]

SPOOL_EVERY = 25_000  # agent steps; in them little more than a second's work comes together


def train(
    agent: str | None = None,
    env: str | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    config: Path | str | None = None,
    out: Path | str = "runs",
    name: str | None = None,
    resume: bool = False,
    allow_drift: bool = False,
    trained_in: Path | str | None = None,
    until: int | None = None,
    progress: bool = False,
) -> Result:
    """Trains, evaluates the final weights by the protocol, and returns what `qladder train --json` prints.

    Args:
        settings: fields by section over the shipped ones, e.g. `{"run": {"steps": 5000, "seed": 1}}`.
        config: a TOML file between the shipped settings and `settings`, such as a run's config.toml.
        out: folder in which the run's folder is made.
        name: name of the run's folder; by default agent, environment and seed.
        resume: go on from the newest good checkpoint of that folder, bit for bit as if the run had never stopped, where
            that holds everything; of a finished run return what it came to.
        allow_drift: resume also with other versions, threads or hardware, or where environments went elsewhere when
            their actions were taken again; both are recorded in the manifest.
        trained_in: train nothing, evaluate the final weights of this run in another way; `taken.take` tells the rest.
        until: stop at this many agent steps, saved but not evaluated.
        progress: show progress on standard error.

    Raises:
        UserError: settings that do not fit, a folder that exists already, or another process at work in it.
        EnvironmentFaultError: the environment failed; checkpoints made so far are good.
        DivergedError: a loss or a weight is not finite any more; so are they.
        FaultyUpdateError: the agent's update is none, as a dummy batch shows before training.
    """
    file = None if config is None else Path(config)
    if trained_in is not None:
        if until is not None:
            raise UserError("until, with trained_in: what trains nothing goes nowhere")
        source = Path(trained_in)
        check_run(source)
        asked = resolve(agent, env, settings or {}, file or source / "config.toml")
        return take(source, asked, out, name, resume=resume, allow_drift=allow_drift)
    resolved = resolve(agent, env, settings or {}, file)
    folder = folder_of(resolved, out, name)
    if (folder / "config.toml").exists():
        same_run(folder, resolved, asked=resume)
        if resume and took_weights(folder):
            raise UserError(f"--resume: {folder} took its weights from another run; --trained-in does that again")
        if resume and (ended := finished(folder, resolved)) is not None and checkpoint.newest_is_good(folder):
            say(f"{folder} is finished already")
            return _result(folder, resolved, ended, ended["evaluation"])
    run = _Run(resolved, folder, resume=resume, progress=progress)
    with at_work(run.record, folder, resolved.run.hang_after) as lock:
        run.begin(lock, resume=resume, allow_drift=allow_drift)
        return run.go(until)


def _result(folder: Path, config: Config, ended: Mapping[str, Any], evaluation: Result | None) -> Result:
    names = ("agent_steps", "frames", "updates", "episodes", "seconds", "exit_reason")
    told = {name: ended[name] for name in names}
    return {"run": str(folder), **told, "seed": config.run.seed, "evaluation": evaluation}


class _Run:
    """One training run from its folder to its summary: `begin`, then `go`."""

    _lock: RunLock
    _metrics: MetricsLog

    def __init__(self, config: Config, folder: Path, *, resume: bool, progress: bool) -> None:
        self._config, self._folder = config, folder
        device = set_up_torch(config)
        self._session = session = Session(config, device)
        begun = None if checkpoint.checkpoints(folder) else begin_with(config, session.agent)
        open_folder(folder, resume=resume)
        self._segments = Segments(folder / "checkpoints")
        self._judge = Judge(config, session)
        manifest = identity(config, device, torch_threads(config), getattr(session.agent, "learner", None))
        self.record = Record(folder, manifest | ({} if begun is None else {"init_from": begun}))
        self._progress = Progress(config, enabled=progress)
        self._shares, self._alarms, self._stop = Shares(), Alarms(config), Stop()

    def begin(self, lock: RunLock, *, resume: bool, allow_drift: bool) -> None:
        """At the start, or where the run was."""
        self._lock, session, saved = lock, self._session, None
        if resume:
            saved = session.resume(self._folder, self._segments, self.record.manifest, allow_drift=allow_drift)
        self._seconds_before: float = 0.0 if saved is None else saved["seconds"]
        self._cpu_before: float = 0.0 if saved is None else saved["training_cpu_seconds"]
        mark = None if saved is None else saved["metrics"]
        self._metrics = MetricsLog(self._folder, keep_until=session.agent_steps if resume else None, mark=mark)
        if saved is None:
            self._metrics.describe(settings_event(self._config))
        checkpoint.drop_after(self._folder, session.agent_steps)
        self._curve = []
        self._cost = Cost(saved)
        for line in read_metrics(self._folder):
            self._alarms.hear(line)  # they were told when they began
            if "eval/return" in line:
                self._curve.append(curve_point(line))
        self._started = self._logged_at = self._saved_at = time.monotonic()
        self._cpu_started = time.process_time()
        self._logged_steps = session.agent_steps

    def go(self, until: int | None) -> Result:
        """To the end, or to `until` agent steps; what `train` returns."""
        session, record, final = self._session, self.record, None
        record.begin(self._config, self._lock, done=session.done)
        with record, closing(session), closing(self._metrics), closing(self._progress):
            self._progress.start(session.agent_steps, self._folder, session.env.spec.frames_per_step)
            with self._stop as stop, flushed_denormals(self._config), self._shares:
                if not session.agent_steps and hasattr(session.agent, "probe"):
                    session.agent.probe()
                trained = self._train(until)
                self._save()
                if trained == "finished":
                    with stop.at_once():  # the weights are safe: a stop ends the evaluation, --resume does it anew
                        final = self._finish(trained)
            record.reason = trained
        clocks, episodes = session.clocks._asdict(), session.episodes.count
        ended = {**clocks, "episodes": episodes, "seconds": self._seconds, "exit_reason": record.reason}
        return _result(self._folder, self._config, ended, final)

    def _train(self, until: int | None) -> str:
        """To the end, to `until` or to a stop; says which."""
        run, session, stop = self._config.run, self._session, self._stop
        if session.done:
            return "finished"
        ratio = session.ratio()
        eval_every = run.eval_every or max(run.steps // 20, 1)
        every = {
            self._log: run.log_every,
            **({self._health: run.health_every} if run.health_every else {}),
            self._evaluate: eval_every,
            **({self._keep: run.keep_every} if run.keep_every else {}),  # a resume does not do it anew once it is saved
            self._save: run.checkpoint_every or max(run.steps // 4, 1),
        }
        if self._config.replay is not None and run.checkpoint_replay:
            every[self._spool] = SPOOL_EVERY
        due = Due(every, session.agent_steps)
        end = run.steps if until is None else min(until, run.steps)
        if session.agent_steps >= end:
            return "stopped"
        pause = min(due.next, end)
        episodes, limit = session.episodes, run.episodes
        if self._was_due(eval_every):
            self._evaluate()  # a stop had ended it
            if stop.signal is not None:
                return stop.reason
        clip = self._config.protocol.clip_rewards
        moments = interact(session.env, session.agent, ratio, clip, session.agent_steps, session.begin)
        for moment in moments:
            episodes.add(moment.time_step)
            if moment.metrics is not None:
                session.latest = moment.metrics
            over = limit is not None and episodes.count >= limit
            if moment.agent_steps >= pause or over or stop.signal is not None:
                session.take(moment)
                if over or moment.agent_steps >= run.steps:
                    self._log()
                    if run.health_every:
                        self._health()
                    if run.keep_every:
                        self._keep()
                    return "finished" if until is None else "stopped"  # whoever called saves and evaluates
                due.do(moment.agent_steps)
                if run.checkpoint_minutes and time.monotonic() - self._saved_at > 60 * run.checkpoint_minutes:
                    self._save()
                pause = min(due.next, end)
                if stop.signal is not None:
                    return stop.reason
                if moment.agent_steps >= end:
                    return "stopped"
        raise AssertionError("the loop has no end of its own")

    def _was_due(self, every: int) -> bool:
        """Whether an evaluation was due just where the run is, and there is none."""
        now = self._session.agent_steps
        scored = self._curve[-1]["agent_steps"] if self._curve else 0
        return scored < now and now // every > (now - self._session.env.spec.num_envs) // every

    @property
    def _seconds(self) -> float:
        """Wall-clock seconds of training, evaluations not counted."""
        return self._seconds_before + time.monotonic() - self._started - self._judge.seconds

    @property
    def _cpu_seconds(self) -> float:
        """CPU seconds of training, of all cores, evaluations not counted."""
        return self._cpu_before + time.process_time() - self._cpu_started - self._judge.cpu_seconds

    def _log(self) -> None:
        session, now = self._session, time.monotonic()
        rate = (session.agent_steps - self._logged_steps) / max(now - self._logged_at, 1e-9)
        values: dict[str, Any] = dict(session.latest or {})
        if session.episodes.finished:
            returns, lengths = zip(*session.episodes.finished, strict=True)
            values |= {"train/episode_return": np.mean(returns), "train/episode_length": np.mean(lengths)}
        values |= {"time/seconds": self._seconds, "time/steps_per_second": rate, "time/memory_gb": resident() / 1e9}
        values |= {**self._cost.told(), **self._shares.take()}
        self._write(values)
        session.episodes.finished.clear()
        self._logged_at, self._logged_steps = now, session.agent_steps
        self._progress.update(session.agent_steps, values)

    def _health(self) -> None:
        signs = self._session.agent.health()
        if signs:
            self._tell(self._write({**signs, "time/seconds": self._seconds}))

    def _tell(self, record: Result) -> None:
        for trouble in self._alarms.hear(record):
            say(f"{self._folder}: {trouble}")

    def _write(self, values: Result) -> Result:
        self._lock.check()
        return self._metrics.write(self._session.clocks, self._session.episodes.count, values)

    def _evaluate(self) -> None:
        before, score = self._judge.seconds, None
        with suppress(StoppedError):  # --resume does it anew
            score = self._judge.on_the_way(self._stop)
        self._logged_at += self._judge.seconds - before
        if score is not None:
            self._add_to_curve(*score)

    def _add_to_curve(self, mean: float, told: Mapping[str, float]) -> None:
        if not self._curve or self._curve[-1]["agent_steps"] < self._session.agent_steps:  # else it was there already
            took = {"time/seconds": self._seconds, "time/training_cpu_seconds": self._cpu_seconds}
            record = self._write({"eval/return": mean, **told, **took})
            self._curve.append(curve_point(record))
        self._progress.evaluated(mean)

    def _finish(self, reason: str) -> Result | None:
        if self._config.protocol.score == "evaluation":
            episodes = self._config.protocol.evaluation.episodes
            self._progress.note(f"evaluating the final weights: {episodes} episodes")
        final = self._judge.final()
        if final is not None:
            self._add_to_curve(final["mean"], {})
        ended = {
            "episodes": self._session.episodes.count,
            "seconds": self._seconds,
            **self._cost.kept(),
            "exit_reason": reason,
            "alarms": self._alarms.ever,
        }
        self._lock.check()
        self._metrics.mark()  # the score is on the disk before the run counts as finished
        write_summary(self._folder, self._config, {**self._session.clocks._asdict(), **ended}, final, self._curve)
        return final

    def _spool(self) -> None:
        """What a checkpoint will hold and has settled already is written in good time."""
        self._lock.check()
        checkpoint.spool(self._folder, {"agent": self._session.agent.state_dict()}, self._segments)

    def _keep(self) -> None:
        self._lock.check()
        self._session.keep(self._folder)

    def _save(self) -> None:
        self._lock.check()
        took = {"seconds": self._seconds, "training_cpu_seconds": self._cpu_seconds}
        kept = {**took, **self._cost.kept(), "metrics": self._metrics.mark()}
        self._session.save(self._folder, self._segments, kept)
        self._saved_at = time.monotonic()
