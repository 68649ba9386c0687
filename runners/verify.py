"""Whether a run is what its settings make of it: a part of it is done again and compared, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qladder.envs.errors import UserError
from qladder.runners import checkpoint
from qladder.runners.config import Config
from qladder.runners.device import gpu_name, set_up_torch, torch_threads
from qladder.runners.loading import run_config
from qladder.runners.lock import unused
from qladder.runners.resume import is_exact
from qladder.runners.run_folder import drift, no_checkpoint, provenance, read_manifest
from qladder.runners.runs import read_metrics
from qladder.runners.segments import NAME as SEGMENTS
from qladder.runners.training import train

Result = dict[str, Any]


def verify(run: Path | str, *, from_start: bool = False, allow_drift: bool = False) -> Result:
    """Does the steps up to the newest good checkpoint again; what `qladder verify --json` prints.

    It begins at the oldest checkpoint that is kept, or at the start of the run where there is only one, and compares
    all measurements on the way and the state at the end. Not compared are those of `time/`, the evaluation at the end
    of a finished run, and what stands where the run was once stopped. Of a run that was made longer not compared are
    evaluations before its former end where one of the two has none, since they are further apart then, and the returns
    of training in the next line after that end, which begin there.

    Raises:
        UserError: no run, no checkpoint, a run that a process is at work on or that cannot be repeated from where it
            would begin, or one that was made with other versions or on other hardware, unless `allow_drift`.
    """
    folder = Path(run)
    config = run_config(folder)
    with unused(folder):
        return _verified(folder, config, from_start, allow_drift)


def differences(one: Path, other: Path) -> list[str]:
    """Where the states of two checkpoints differ, in all but time."""
    a, b = (checkpoint.load(path) for path in (one, other))
    return _differences({**a, "time": None}, {**b, "time": None})


def _link(file: Path, beside: Path) -> None:
    try:
        os.link(file, beside)
    except OSError:  # on another file system
        shutil.copy(file, beside)


def _verified(folder: Path, config: Config, from_start: bool, allow_drift: bool) -> Result:
    good = [path for path in checkpoint.checkpoints(folder) if checkpoint.is_good(path)]
    if not good:
        raise no_checkpoint(folder)
    begin = None if from_start or len(good) == 1 else good[-1]
    if begin is not None and not is_exact(config):
        raise UserError(
            f"{folder}: its checkpoints hold no replay (run.checkpoint_replay); --from-start does it all again"
        )
    made = read_manifest(folder)
    device = set_up_torch(config)
    here = {"device": device, "gpu": gpu_name(device), "threads": torch_threads(config), **provenance(config.table())}
    changed = drift(made, {**made, **here})
    if changed and not allow_drift:
        raise UserError(f"{folder}: {'; '.join(changed)} (--allow-drift compares all the same)")
    start, end = 0 if begin is None else checkpoint.agent_steps_of(begin), checkpoint.agent_steps_of(good[0])
    beside = folder.parent if os.access(folder.parent, os.W_OK) else None  # where files can be linked, not copied
    with tempfile.TemporaryDirectory(prefix=".qladder-verify-", dir=beside) as place:
        again = Path(place) / "run"
        if begin is not None:
            again.mkdir()
            for name in ("config.toml", "manifest.json", "metrics.jsonl"):
                if (folder / name).exists():
                    shutil.copy(folder / name, again)
            shutil.copytree(begin, again / "checkpoints" / begin.name)
            (again / "checkpoints" / SEGMENTS).mkdir()
            for segment in checkpoint.segments_of(begin):
                _link(begin.parent / SEGMENTS / segment, again / "checkpoints" / SEGMENTS / segment)
        train(
            config=folder / "config.toml",
            out=place,
            name="run",
            resume=begin is not None,
            allow_drift=allow_drift,
            until=end,
        )
        differing = differences(good[0], checkpoint.checkpoints(again)[0])
        stops = {resumed["agent_steps"] for resumed in made.get("resumed", [])}
        begun = _begun(folder, stops)
        records, done_again = (_between(path, start, end, stops, begun) for path in (folder, again))
        alone = {s for s in _evaluated(records) ^ _evaluated(done_again) if any(s < stop for stop in stops)}
        records, done_again = (_without(some, alone) for some in (records, done_again))
        differing += _measured_otherwise(records, done_again)
        repeated = json.loads((again / "manifest.json").read_text(encoding="utf-8"))
        changed = drift(made, repeated)
        if begin is None and made.get("init_from") != repeated.get("init_from"):
            changed.append(f"{config.run.init_from}, which it began with, is not what it was")
    compared = {"from": start, "to": end, "measurements": len(records), "evaluations_of_one": len(alone)}
    return {"identical": not differing, "compared": {**compared, "differing": differing[:5], "drift": changed}}


def measurements(run: Path) -> list[dict[str, Any]]:
    """All that a run measured but time."""
    return [{k: v for k, v in record.items() if not k.startswith("time/")} for record in read_metrics(run)]


def _between(run: Path, start: int, end: int, stops: set[int], begun: set[int]) -> list[dict[str, Any]]:
    """Measurements after `start` and up to `end` agent steps, but for those at `stops` and evaluations at the end.

    Without the returns of training in those at `begun`.
    """
    within = (m for m in measurements(run) if start < m["agent_steps"] <= end and m["agent_steps"] not in stops)
    found = [m for m in within if m["agent_steps"] < end or "eval/return" not in m]
    return [{k: v for k, v in m.items() if m["agent_steps"] not in begun or not k.startswith("train/")} for m in found]


def _begun(run: Path, stops: set[int]) -> set[int]:
    """Where the next line of training stands after one that was written at an end that is none any more."""
    steps = sorted(m["agent_steps"] for m in measurements(run) if _kind(m) == "training")
    return {next((later for later in steps if later > stop), stop) for stop in stops if stop in steps}


def _evaluated(records: Sequence[Mapping[str, Any]]) -> set[int]:
    """The agent steps of evaluations."""
    return {record["agent_steps"] for record in records if _kind(record) == "evaluation"}


def _without(records: Sequence[dict[str, Any]], evaluations: set[int]) -> list[dict[str, Any]]:
    return [m for m in records if _kind(m) != "evaluation" or m["agent_steps"] not in evaluations]


def _measured_otherwise(records: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> list[str]:
    """In words, the measurements that are not the same to the last digit."""
    one, other = ({(m["agent_steps"], _kind(m)): m for m in some} for some in (records, others))
    told = []
    for steps, kind in sorted(one.keys() | other.keys()):
        a, b = (some.get((steps, kind), {}) for some in (one, other))
        names = sorted(name for name in a.keys() | b.keys() if json.dumps(a.get(name)) != json.dumps(b.get(name)))
        if names:
            told.append(
                f"{kind} at {steps:,} agent steps: {', '.join(names[:5]) if a and b else 'only one of the two has it'}"
            )
    return told


def _kind(record: Mapping[str, Any]) -> str:
    """Of the lines of one moment."""
    if "eval/return" in record:
        return "evaluation"
    return "health" if any(name.startswith("health/") for name in record) else "training"


def _differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Where two states differ."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        names = sorted(a.keys() | b.keys())
        return [p for n in names for p in _differences(a.get(n), b.get(n), f"{where}.{n}" if where else n)]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [p for i, (x, y) in enumerate(zip(a, b, strict=True)) for p in _differences(x, y, f"{where}.{i}")]
    if hasattr(a, "shape") and hasattr(b, "shape"):
        equal = a.dtype == b.dtype and np.array_equal(np.asarray(a), np.asarray(b))
    else:
        equal = type(a) is type(b) and a == b
    return [] if equal else [where]
