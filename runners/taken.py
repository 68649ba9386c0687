"""A run that trains nothing: it evaluates, in its own way, the final weights of one that was trained alike."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from qladder.envs.errors import UserError
from qladder.runners import checkpoint
from qladder.runners.arrays import DAMAGED
from qladder.runners.begun_with import stamp
from qladder.runners.config import Config
from qladder.runners.cost import Cost
from qladder.runners.device import flushed_denormals, set_up_torch, torch_threads
from qladder.runners.judge import Judge
from qladder.runners.likeness import own_modules, training_differs, training_hash, written
from qladder.runners.loading import restore, run_config
from qladder.runners.lock import RunLock
from qladder.runners.metrics import MetricsLog
from qladder.runners.progress import say
from qladder.runners.record import Record, at_work
from qladder.runners.run_folder import (
    TRAINED_IN,
    curve_point,
    drift,
    folder_of,
    identity,
    open_folder,
    protocol_stamp,
    provenance,
    read_manifest,
    same_run,
    write_summary,
)
from qladder.runners.runs import RunSummary, find_runs, read_run
from qladder.runners.session import Session
from qladder.runners.stop import Stop

Result = dict[str, Any]


def take(
    trained: Path, config: Config, out: Path | str, name: str | None, *, resume: bool, allow_drift: bool
) -> Result:
    """Evaluates the final weights of the finished run `trained` by `config`, which would train to the same weights.

    What evaluations alone have (`agent.stress`, `env.eval_kwargs`, `env.eval_wrappers`) may be other. The curve has one
    point, the final one; checkpoints stay where they are. With `resume` what a killed process left in the folder is
    done again.

    Raises:
        UserError: a run that is not finished, was trained with other settings, or whose score is that of its training;
            unless `allow_drift`, one that might be trained otherwise here and now; a folder that exists already, or
            holds weights of its own.
        EnvironmentFaultError: the environment failed.
    """
    theirs = run_config(trained)
    run = _checked(trained, theirs, config)
    if name is None and config.label == theirs.label:
        raise UserError(f"--trained-in: {trained} is called {theirs.label} too: --name or --run.label tells them apart")
    folder = folder_of(config, out, name)
    if resume and (folder / "config.toml").exists():
        same_run(folder, config)
    device = set_up_torch(config)
    with closing(Session(config, device)) as session:
        manifest = identity(config, device, torch_threads(config), getattr(session.agent, "learner", None))
        ours = own_modules(config.table(), training=True)  # what evaluates may be other code
        same = {
            name: digest for name, digest in manifest["own_code"].items() if name in {m.partition(".")[0] for m in ours}
        }
        changed = [*drift(run.manifest, {**manifest, "own_code": same}), *_unknown(run, config)]
        if changed and not allow_drift:
            told = f"--trained-in: {trained}: {'; '.join(changed)}"
            raise UserError(f"{told}: trained here and now it might be another (--allow-drift takes it all the same)")
        found = restore(trained, session.agent, replay=False)
        if found is None or found[1]["run"]["agent_steps"] != run.agent_steps:
            raise UserError(f"--trained-in: {trained} holds no good checkpoint of its end")
        session.agent_steps, session.updates = run.agent_steps, run.updates
        took = {"seconds": run.seconds, "cpu_seconds": run.cpu_seconds or 0.0, "joules": run.joules}
        manifest[TRAINED_IN] = {"run": os.path.relpath(trained, folder), **took, "drift": changed}
        if "init_from" in run.manifest:
            manifest["init_from"] = run.manifest["init_from"]
        open_folder(folder, resume=resume)
        record = Record(folder, manifest)
        with at_work(record, folder, config.run.hang_after) as lock:
            if checkpoint.with_kept(folder):
                told = "holds weights of its own: --resume without --trained-in goes on with them"
                raise UserError(f"--trained-in: {folder} {told}")
            record.begin(config, lock)
            final = _evaluate(folder, config, session, run, record, lock)
    return {
        "run": str(folder),
        **session.clocks._asdict(),
        "episodes": run.episodes,
        "seconds": run.seconds,
        "exit_reason": record.reason,
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
    """Finished runs below these folders whose weights can be taken here and now, by their `training_hash`.

    Those that are damaged, or name code of their own, are left aside; nothing is imported that they name.
    """
    found: dict[str, Path] = {}
    now = provenance()
    for place in places:
        for run in find_runs([place]).runs if place.is_dir() and any(place.glob("*/summary.json")) else ():
            with suppress(UserError, *DAMAGED, AttributeError):
                if own_modules(written(run.folder), training=True) or run.taken or run.exit_reason != "finished":
                    continue
                same = not drift(read_manifest(run.folder), {**run.manifest, **now})
                config = run_config(run.folder)
                if same and not _unknown(run, config) and checkpoint.with_kept(run.folder):
                    found.setdefault(training_hash(config), run.folder)
    return found


def _checked(trained: Path, theirs: Config, config: Config) -> RunSummary:
    run = read_run(trained)
    read_manifest(trained)  # a good one, or told
    if run.exit_reason != "finished" or run.taken:
        why = "took its own weights from another" if run.taken else "has not trained to its end"
        raise UserError(f"--trained-in: {trained} {why}")
    if differing := training_differs(theirs, config):
        raise UserError(f"--trained-in: {trained} is trained with other settings: {', '.join(differing)}")
    if run.protocol.hash != protocol_stamp(theirs)["hash"]:
        raise UserError(
            f"--trained-in: {trained} was made under {run.protocol} ({run.protocol.hash}), which has other rules now"
        )
    if config.protocol.score == "training":
        raise UserError(f"--trained-in: by protocol {config.protocol.name} the score is that of the training")
    return run


def _unknown(run: RunSummary, config: Config) -> list[str]:
    """Why training anew might come to something else, beyond what a manifest tells."""
    found = []
    if not all(resumed.get("exact") for resumed in run.manifest.get("resumed", [])):
        found.append("it was once resumed otherwise than it would have gone on")
    if own_modules(config.table(), training=True):
        found.append("it runs code of yours, which may have changed")
    if config.run.init_from:
        try:
            same = stamp(config) == run.manifest.get("init_from")
        except UserError:
            same = False
        found += [] if same else [f"{config.run.init_from}, which it began with, is not what it was"]
    return found


def _evaluate(
    folder: Path, config: Config, session: Session, run: RunSummary, record: Record, lock: RunLock
) -> dict[str, Any] | None:
    """The evaluation; None where it was stopped."""
    with record, Stop() as stop, flushed_denormals(config), stop.at_once():
        say(f"taking the final weights of {run.folder}")
        cost = Cost(None)
        final = Judge(config, session).final()
        lock.check()
        _write(folder, config, session, run, final, cost.kept())
        record.reason = "finished"
        return final
    return None


def _write(
    folder: Path, config: Config, session: Session, run: RunSummary, final: Any, cost: Mapping[str, float | None]
) -> None:
    """One measurement, and the summary, with what the training took."""
    (folder / "metrics.jsonl").unlink(missing_ok=True)  # of a process that was killed here
    metrics = MetricsLog(folder)
    values = {"eval/return": final["mean"], "time/seconds": run.seconds}
    point = curve_point(metrics.write(session.clocks, run.episodes, values))
    metrics.mark()
    metrics.close()
    own, joules = cost["cpu_seconds"] or 0.0, cost["joules"]
    every = {
        "seconds": run.seconds,
        "cpu_seconds": own + (run.cpu_seconds or 0.0),
        "joules": None if joules is None or run.joules is None else joules + run.joules,
    }
    ended = {"episodes": run.episodes, **every, "exit_reason": "finished", "alarms": run.alarms}
    write_summary(folder, config, {**session.clocks._asdict(), **ended}, final, [point])
