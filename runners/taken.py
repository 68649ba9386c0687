"""A run that trains nothing: it evaluates, in its own way, the final weights of one that was trained alike."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qladder.envs.errors import EnvironmentFaultError, HangError, UserError
from qladder.runners import checkpoint
from qladder.runners.config import Config, resolve
from qladder.runners.cost import Cost
from qladder.runners.judge import Judge
from qladder.runners.likeness import training_differs, training_hash
from qladder.runners.loading import flushed_denormals, restore, run_config, set_up_torch, torch_threads
from qladder.runners.lock import RunLock
from qladder.runners.metrics import Metrics
from qladder.runners.progress import say
from qladder.runners.run_folder import (
    TRAINED_IN,
    curve_point,
    drift,
    identity,
    open_folder,
    protocol_stamp,
    provenance,
    read_manifest,
    same_run,
    write_config,
    write_json,
    write_summary,
)
from qladder.runners.runs import RunSummary, find_runs, read_run
from qladder.runners.session import Session
from qladder.runners.stop import Stop, StoppedError
from qladder.runners.training import Result, folder_of
from qladder.runners.watchdog import Watchdog


def take(
    trained: Path,
    agent: str | None = None,
    env: str | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    config: Path | None = None,
    out: Path | str = "runs",
    name: str | None = None,
    resume: bool = False,
    allow_drift: bool = False,
) -> Result:
    """As `training.train`, which comes to the same score: evaluates the final weights of the finished run `trained`.

    That has the settings which are not given, and may differ in what evaluations alone have (`agent.stress`,
    `env.eval_kwargs`) and in its label. The curve has one point, the final one; checkpoints stay where they are.

    Raises:
        UserError: a run that is not finished, was trained otherwise or, unless `allow_drift`, with other versions or
            on other hardware, or whose score is that of its training; a folder that exists already.
        EnvironmentFaultError: the environment failed.
    """
    theirs = run_config(trained)
    own = (agent, env, config) != (None, None, None)
    resolved = resolve(agent, env, settings or {}, config if own else trained / "config.toml")
    folder = folder_of(resolved, out, name)
    run = _checked(trained, theirs, resolved)
    if resume and (folder / "config.toml").exists():
        same_run(folder, resolved)
    device = set_up_torch(resolved)
    open_folder(folder, resume=resume)
    if checkpoint.checkpoints(folder):
        raise UserError(f"--trained-in: {folder} holds checkpoints of its own; --resume without it goes on with them")
    session = Session(resolved, device)
    session.agent_steps, session.updates = run.agent_steps, run.updates
    found = restore(trained, session.agent, replay=False)
    if found is None or found[1]["run"]["agent_steps"] != run.agent_steps:
        raise UserError(f"--trained-in: {trained} holds no good checkpoint of its end")
    manifest = identity(resolved, device, torch_threads(resolved), getattr(session.agent, "learner", None))
    changed = drift(run.manifest, manifest)
    if changed and not allow_drift:
        told = f"--trained-in: {trained}: {'; '.join(changed)}"
        raise UserError(f"{told}: this run would be trained otherwise (--allow-drift takes its weights all the same)")
    took = {"seconds": run.seconds, "cpu_seconds": run.cpu_seconds or 0.0}
    manifest[TRAINED_IN] = {"run": os.path.relpath(trained, folder), **took, "drift": changed}

    def end_with(reason: str) -> None:
        manifest.update(ended=time.strftime("%Y-%m-%dT%H:%M:%S%z"), exit_reason=reason)
        write_json(folder / "manifest.json", manifest)

    reason, final = "failed", None
    try:
        with RunLock(folder), Watchdog(resolved.run.hang_after, end_with):
            write_config(folder, resolved)
            end_with(reason)
            try:
                with Stop() as stop, flushed_denormals(resolved):
                    stop.at_once()
                    final = _evaluated(folder, resolved, session, run)
                reason = "finished"
            except StoppedError as stopped:
                reason = str(stopped)
            except BaseException as error:
                reason = f"failed: {type(error).__name__}: {error}"
                raise
            finally:
                session.env.close()
                end_with(reason)
    except HangError as error:
        raise EnvironmentFaultError(str(error)) from error
    return {
        "run": str(folder),
        **session.clocks._asdict(),
        "episodes": run.episodes,
        "seconds": run.seconds,
        "exit_reason": reason,
        "seed": run.seed,
        "evaluation": final,
    }


def own_cost(run: RunSummary) -> dict[str, float]:
    """Of a run, without what it took from another: agent steps, and seconds by the wall clock and of the CPU."""
    took = run.manifest.get(TRAINED_IN)
    took = took if isinstance(took, dict) else {}
    return {
        "agent_steps": 0 if took else run.agent_steps,
        "seconds": run.seconds - took.get("seconds", 0.0),
        "cpu_seconds": (run.cpu_seconds or 0.0) - took.get("cpu_seconds", 0.0),
    }


def trained_runs(places: Iterable[Path]) -> dict[str, Path]:
    """Finished runs below these folders whose weights can be taken here and now, by their `training_hash`."""
    found: dict[str, Path] = {}
    now = provenance()
    for place in places:
        for run in find_runs([place]).runs if place.is_dir() and any(place.glob("*/summary.json")) else ():
            complete = run.exit_reason == "finished" and TRAINED_IN not in run.manifest and "versions" in run.manifest
            if complete and checkpoint.checkpoints(run.folder) and not drift(run.manifest, {**run.manifest, **now}):
                with contextlib.suppress(UserError):  # damaged: none to take from
                    found.setdefault(training_hash(run_config(run.folder)), run.folder)
    return found


def _checked(trained: Path, theirs: Config, config: Config) -> RunSummary:
    run = read_run(trained)
    read_manifest(trained)  # a good one, or told
    if run.exit_reason != "finished" or TRAINED_IN in run.manifest:
        why = "took its own weights from another" if TRAINED_IN in run.manifest else "has not trained to its end"
        raise UserError(f"--trained-in: {trained} {why}")
    if differing := training_differs(theirs, config):
        raise UserError(f"--trained-in: {trained} is trained with other settings: {', '.join(differing)}")
    if run.protocol.hash != protocol_stamp(config)["hash"]:
        raise UserError(
            f"--trained-in: {trained} was made under {run.protocol} ({run.protocol.hash}), another protocol"
        )
    if config.protocol.score == "training":
        raise UserError(f"--trained-in: by protocol {config.protocol.name} the score is that of the training")
    return run


def _evaluated(folder: Path, config: Config, session: Session, run: RunSummary) -> Any:
    say(f"taking the final weights of {run.folder}")
    cost = Cost(None)
    final = Judge(config, session).final()
    assert final is not None  # only a training's score can be none
    (folder / "metrics.jsonl").unlink(missing_ok=True)  # of a process that was killed here
    metrics = Metrics(folder)
    values = {"eval/return": final["mean"], "time/seconds": run.seconds}
    point = curve_point(metrics.write(session.clocks, run.episodes, values))
    metrics.close()
    kept = cost.kept()
    kept["cpu_seconds"] += run.cpu_seconds or 0.0
    ended = {"episodes": run.episodes, "seconds": run.seconds, **kept, "exit_reason": "finished"}
    write_summary(folder, config, {**session.clocks._asdict(), **ended}, final, [point])
    return final
