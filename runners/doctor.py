"""Whether an installation can do its work, and what state a run folder is in."""

from __future__ import annotations

import fcntl
import importlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from qladder.envs.errors import StorageError, UserError
from qladder.envs.reading import told
from qladder.runners import checkpoint
from qladder.runners.alarms import Alarms
from qladder.runners.arrays import DAMAGED
from qladder.runners.config import Config
from qladder.runners.lock import unused
from qladder.runners.run_folder import drift, no_checkpoint, provenance, read_manifest, took_weights
from qladder.runners.runs import read_metrics

IMPORTS = {"ale-py": "ale_py", "tomli-w": "tomli_w", "pillow": "PIL", "annotated-types": "annotated_types"}


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    good: bool
    says: str


def doctor(run: Path | None = None) -> dict[str, Any]:
    """Looks at the installation, and at a run folder where one is given; what `qladder doctor --json` prints.

    Nothing is changed: of the run all files are read, the environment and the agent are not made.

    Raises:
        UserError: that is no run folder.
    """
    findings = [*_installation(), *([] if run is None else _run(run))]
    return {"healthy": all(f.good for f in findings), "findings": [f._asdict() for f in findings]}


def _installation() -> Iterator[Finding]:
    yield Finding("python", True, f"{platform.python_version()}, {platform.platform()}")
    names = [re.split(r"[^\w.-]", line)[0] for line in importlib.metadata.requires("qladder") or [] if ";" not in line]
    for name in names:
        yield _tried(name, partial(_package, name))
    yield _tried("arithmetic", _arithmetic)
    yield _tried("atari", _atari)
    yield _tried("tensorboard files", _tensorboard)
    yield _tried("memory", _memory)
    yield _tried("disk", _disk)


def _tried(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, look())
    except (Exception, SystemExit) as error:
        return Finding(what, False, told(error))


def _package(name: str) -> str:
    importlib.import_module(IMPORTS.get(name, name))
    return importlib.metadata.version(name)


def _arithmetic() -> str:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.arange(6.0, device=device).view(2, 3).requires_grad_()
    torch.autograd.backward((x @ x.T).sum())
    if x.grad is None or x.grad.tolist() != [[6.0, 10.0, 14.0]] * 2:
        raise ArithmeticError(f"a gradient that should be [6, 10, 14] is {x.grad}")
    low = "with" if torch.cpu._is_avx512_bf16_supported() else "without"
    where = torch.cuda.get_device_name() if device == "cuda" else f"{os.cpu_count()} cores, {low} bfloat16 instructions"
    return f"right, on {where}"


def _atari() -> str:
    from qladder.envs.make import make_env
    from qladder.runners.protocols import load_protocol

    env = make_env("ALE/Pong-v5", load_protocol("machado-2018"), seed=0, batched=True)
    env.reset()
    env.step([0])
    env.close()
    return "Pong plays"


def _tensorboard() -> str:
    from qladder.agents.schedules import Clocks
    from qladder.runners.metrics import MetricsLog

    with tempfile.TemporaryDirectory(prefix="qladder-doctor-") as folder:
        metrics = MetricsLog(Path(folder))
        metrics.write(Clocks(4, 1, 0), 0, {"eval/return": 1.0})
        metrics.close()
        if not list(Path(folder).glob("events.out.tfevents.*")):
            raise OSError("no file was written")
    return "written"


def _memory() -> str:
    from qladder.envs.spec import EnvSpec
    from qladder.runners.config import resolve
    from qladder.runners.memory import available, check_replay

    free = available()
    spec = EnvSpec("ALE/Pong-v5", 1, True, (4, 84, 84), "uint8", None, 6, stack=4)
    try:
        check_replay(resolve("dqn", "ALE/Pong-v5", {}).replay, spec, limit=free)
        fits = "dqn's replay of an Atari game fits"
    except UserError as error:
        fits = f"dqn on Atari: {error}"
    return f"{'unknown' if free is None else f'{free / 1e9:.1f} GB'} free; {fits}"


def _disk() -> str:
    free = shutil.disk_usage(".").free
    with tempfile.TemporaryFile(dir=".") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return f"{free / 1e9:.1f} GB free here; files can be written and locked"


def _run(folder: Path) -> Iterator[Finding]:
    from qladder.runners.loading import run_config

    config = run_config(folder)
    yield Finding("settings", True, f"{config.agent_name} on {config.env.id}, seed {config.run.seed}")
    yield (lock := _lock(folder))
    try:
        manifest = read_manifest(folder)
        yield Finding("manifest", True, f"the latest process ended: {manifest.get('exit_reason') or 'it did not say'}")
        if drifted := drift(manifest, {**manifest, **provenance(config.table())}):
            yield Finding("drift", True, f"a resume needs --allow-drift: {'; '.join(drifted)}")
    except (UserError, *DAMAGED) as error:
        yield Finding("manifest", False, told(error))
    good = [_checkpoint(path) for path in checkpoint.checkpoints(folder)]
    for path in checkpoint.kept(folder):
        yield _checkpoint(path)._replace(what=f"kept/{path.name}")
    yield from good
    yield (measured := _measurements(folder))
    if measured.good:
        yield from _health(folder, config)
    left = sorted(p.name for p in [*folder.glob(".*writing*"), *folder.glob("*/**/.writing*"), *folder.glob(".pruned")])
    if left:
        whose = (
            "it is being written" if " at work " in lock.says else "of a process that was killed; the next removes it"
        )
        yield Finding("left over", True, f"{', '.join(left)}: {whose}")
    newest = next((f.what for f in good if f.good), None)
    finished = (folder / "summary.json").is_file()
    if newest is not None:
        yield Finding("next", True, "finished; more --steps go on" if finished else f"--resume goes on from {newest}")
    elif good:
        yield Finding("next", False, "no checkpoint is good: start anew beside it, with --name or --out")
    elif checkpoint.kept(folder) and finished:
        yield Finding("next", True, "finished and pruned: its weights are in kept/, --init-from begins with them")
    elif took_weights(folder):
        yield Finding("next", True, str(no_checkpoint(folder)))
    else:
        yield Finding("next", True, "no checkpoint yet: --resume starts afresh")


def _lock(folder: Path) -> Finding:
    try:
        with unused(folder) as says:
            return Finding("lock", True, says)
    except UserError as error:
        return Finding("lock", True, str(error).removeprefix(f"{folder}: "))


def _checkpoint(path: Path) -> Finding:
    try:
        state = checkpoint.load(path)
        return Finding(path.name, True, f"good, {state['run']['agent_steps']:,} agent steps")
    except (checkpoint.BadCheckpointError, StorageError) as error:
        return Finding(path.name, False, str(error).removeprefix(f"{path}: ")[:200])
    except DAMAGED as error:
        return Finding(path.name, False, f"of another version of qladder: {told(error)}")


def _health(folder: Path, config: Config) -> Iterator[Finding]:
    """What its measurements say of its learning, if they were taken."""
    alarms, looked = Alarms(config), False
    try:
        for record in read_metrics(folder):
            alarms.hear(record)
            looked |= any(tag.startswith("health/") for tag in record)
    except (UserError, *DAMAGED) as error:
        yield Finding("health", False, told(error))
        return
    if looked:
        troubles = "; ".join(alarms.under_way.values())
        yield Finding("health", not troubles, troubles or "nothing wrong at the last look")


def _measurements(folder: Path) -> Finding:
    path = folder / "metrics.jsonl"
    if not path.exists():
        return Finding("measurements", True, "none yet")
    lines = path.read_bytes().splitlines()
    bad = []
    for number, line in enumerate(lines, start=1):
        try:
            json.loads(line)["agent_steps"]
        except (ValueError, LookupError, TypeError):
            bad.append(number)
    if bad == [len(lines)]:
        return Finding("measurements", True, f"{len(lines) - 1:,}, and a torn last line, which a resume drops")
    if bad:
        return Finding("measurements", False, f"{path.name}, line {bad[0]} of {len(lines):,} is no record")
    return Finding("measurements", True, f"{len(lines):,}")
