"""A run's folder: its name, its identity, and the files written at its start and end."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qladder.envs.errors import StorageError, UserError
from qladder.envs.reading import told
from qladder.runners.arrays import DAMAGED
from qladder.runners.config import Config
from qladder.runners.device import gpu_name
from qladder.runners.likeness import settings_hash
from qladder.runners.segments import fsync
from qladder.runners.settings import Table
from qladder.runners.shipped import CONFIGS
from qladder.runners.source import code_digest, own_code, package_versions

TRAINED_IN = "trained_in"
"""In the manifest of a run that took its weights: the run that was trained, from its folder, and what that took."""
VECTORS = ("sse", "ssse", "avx", "fma", "f16c", "amx", "asimd", "sve")
"""How the kernel's names of vector instructions begin; sums are rounded otherwise with others of them."""


def run_name(config: Config) -> str:
    """`<label>__<env>__s<seed>` with everything that a folder's name may not hold replaced."""
    return "__".join(safe_name(part) for part in (config.label, config.env.id, f"s{config.run.seed}"))


def safe_name(text: str) -> str:
    """With everything replaced that the name of a folder may not hold."""
    return re.sub(r"[^\w.-]+|^\.+$", "-", text)


def folder_of(config: Config, out: Path | str, name: str | None) -> Path:
    """Where a run is written; UserError where `name` is more than the name of a folder."""
    if name is not None and (Path(name).name != name or name == ".."):
        raise UserError(f"--name {name}: must be the name of a folder in --out, without a path")
    return Path(out) / (name or run_name(config))


def open_folder(path: Path, *, resume: bool) -> None:
    """Makes the folder of a run; UserError where it holds one already (unless resumed) or cannot be written."""
    check_links(path)
    try:
        path.mkdir(parents=True, exist_ok=resume)
        _write_new(path / ".writing", "")
        (path / ".writing").unlink()
    except FileExistsError as error:
        if resume:
            raise UserError(f"{path} cannot be written: it is no folder") from error
        raise UserError(f"{path} exists already: --resume continues it, --out or --name starts beside it") from error
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


def check_run(path: Path) -> None:
    """UserError where it is no run's folder, naming those that lie in it, or where something in it is a link."""
    if not (path / "config.toml").is_file():
        names = sorted(folder.parent.name for folder in path.glob("*/config.toml"))
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        runs = f"; in it are {', '.join(names[:3])}{more}" if names else ""
        raise UserError(f"{path} is not a run folder: it holds no config.toml{runs}")
    check_links(path)


def check_links(path: Path) -> None:
    """UserError where something in a run's folder is a link, through which others' files would be read or written."""
    for place in (path, path / "checkpoints", path / "checkpoints" / "segments", path / "kept"):
        for entry in sorted(place.iterdir()) if place.is_dir() else ():
            if entry.is_symlink():
                raise UserError(
                    f"{entry} is a link; a run's files lie in its folder (cp -rL makes a copy without links)"
                )


def write_config(path: Path, config: Config) -> None:
    """The resolved settings; `qladder train --config` on this file repeats the run."""
    import tomli_w

    write_text(path / "config.toml", tomli_w.dumps(config.table()))


def identity(config: Config, device: str, threads: int, learner: str | None) -> dict[str, Any]:
    """Everything that may explain a difference between two runs.

    Args:
        threads: of torch, as they are; 1 where it is not used.
        learner: back end of a deep agent's updates.
    """
    atari = config.env.id.startswith("ALE/")
    rom: dict[str, str] = {}
    if atari:
        from qladder.envs.atari import rom_md5

        rom = {"rom_md5": rom_md5(config.env.id)}
    return {
        "agent": config.agent_name,
        "env": config.env.id,
        "seed": config.run.seed,
        "protocol": {**protocol_stamp(config), "rules": config.protocol.rules},
        "settings_from": list(config.sources),
        "settings_hash": settings_hash(config),
        **rom,
        **provenance(config.table()),
        "device": device,
        "gpu": gpu_name(device),
        "learner": learner,
        "threads": threads,
        "command_line": " ".join(["qladder", *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "ended": None,
        "exit_reason": None,
    }


def drift(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What may make a run go on otherwise than it would have, by two of its manifests."""
    names = [
        "device",
        *(["gpu"] if "gpu" in before else []),
        "learner",
        "threads",
        "rom_md5",
        *(f"machine.{n}" for n in ("processor", "instructions") if n in before["machine"]),
        *(f"versions.{n}" for n in now["versions"] if n in before["versions"]),
    ]
    names += ["code", *(f"own_code.{n}" for n in sorted({*(before.get("own_code") or {}), *now["own_code"]}))]
    pairs = {name: (_at(before, name), _at(now, name)) for name in names}
    return [f"{name} was {old} and is {new} now" for name, (old, new) in pairs.items() if old != new]


def _at(table: Any, name: str) -> Any:
    for key in name.split("."):
        table = None if table is None else table.get(key)
    return table


def provenance(table: Table | None = None) -> dict[str, Any]:
    """The versions, the code and the machine behind a measurement; with a run's settings, the code that they name."""
    names = ("qladder", "numpy", "gymnasium", "torch", "ale-py")
    versions = {"python": platform.python_version(), **{n: importlib.metadata.version(n) for n in names}}
    return {
        "versions": versions | ({} if table is None else package_versions(table)),
        "code": code_digest(),
        "own_code": {} if table is None else own_code(table),
        "git": _git(),
        "machine": {"system": platform.system(), "cores": os.cpu_count(), **_processor()},
    }


def protocol_stamp(config: Config) -> dict[str, Any]:
    """Name, version and hash of the run's protocol."""
    protocol = config.protocol
    return {"name": protocol.name, "version": protocol.version, "hash": protocol.hash}


def write_summary(
    path: Path,
    config: Config,
    ended: Mapping[str, Any],
    evaluation: Mapping[str, Any] | None,
    curve: Sequence[Mapping[str, Any]],
) -> None:
    """What a finished run came to: where and how it `ended`, its score (None: it has none) and its curve."""
    what = {
        "agent": config.label,
        "env": config.env.id,
        "variant": config.env.variant,
        "family": config.family,
        "seed": config.run.seed,
        "protocol": protocol_stamp(config),
        "steps": config.run.steps,
    }
    came_to = {**ended, "settings_hash": settings_hash(config), "evaluation": evaluation, "curve": curve}
    write_json(path / "summary.json", {**what, **came_to})


def curve_point(line: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation of metrics.jsonl as `summary.json` tells it."""
    clocks = {name: line[name] for name in ("frames", "agent_steps", "updates", "episodes")}
    cpu = line.get("time/training_cpu_seconds")  # of a person's, or taken, there is none
    return {**clocks, "seconds": line["time/seconds"], "cpu_seconds": cpu, "mean": line["eval/return"]}


def write_json(path: Path, value: Any) -> None:
    """A JSON file that is there whole or not at all; StorageError where it cannot be written."""
    write_text(path, json.dumps(value, indent=1))


def write_text(path: Path, text: str) -> None:
    """A file that is there whole or not at all; StorageError where it cannot be written."""
    beside = path.with_name(f".{path.name}.writing")
    try:
        _write_new(beside, text)
        os.replace(beside, path)
        fsync(path.parent)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise StorageError(f"{path}: {error.strerror}") from error


def _write_new(path: Path, text: str) -> None:
    """A file of this process's own, whatever stood there."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read_manifest(folder: Path) -> dict[str, Any]:
    """A run's manifest; UserError where it cannot be read as one."""
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        parts = manifest["protocol"]["hash"], manifest["versions"], manifest.get("resumed", [])
        if [type(part) for part in parts] != [str, dict, list]:
            raise ValueError("it is none of a run")
    except (OSError, *DAMAGED) as error:
        raise UserError(f"{path} cannot be read: {told(error)}; --out or --name starts beside it") from error
    return manifest


def took_weights(folder: Path) -> bool:
    """Whether the run in it trained nothing."""
    with contextlib.suppress(UserError):
        return TRAINED_IN in read_manifest(folder)
    return False


def no_checkpoint(folder: Path) -> UserError:
    """Nothing to load, and where there is something."""
    with contextlib.suppress(UserError):
        if isinstance(taken := read_manifest(folder).get(TRAINED_IN), dict):
            place = os.path.normpath(folder / str(taken.get("run")))
            return UserError(f"{folder} took the weights of {place}, where the checkpoints are")
    return UserError(f"{folder} holds no good checkpoint")


def same_run(path: Path, config: Config, *, asked: bool = True) -> None:
    """UserError, naming what differs, unless `config` is that of the run in `path` (steps aside).

    `asked`: whether the run is to be resumed; else it is in the way of another one.
    """
    from qladder.runners.config import resolve

    old = resolve(None, None, {}, path / "config.toml")
    if (path / "manifest.json").exists():
        was, now = read_manifest(path)["protocol"], config.protocol
        if was["hash"] != now.hash:
            renamed = was["name"] != now.name
            told = f"{was['name']} and is {now.name}" if renamed else f"{was['hash']} and is {now.hash}"
            raise _another(f"protocol {'' if renamed else now.name + ' '}was {told} now", path, asked, "rules")
    may_change = {"steps", "episodes", "eval_every", "device", "hang_after"}
    may_change |= {"checkpoint_every", "checkpoint_minutes", "keep_every"}
    old_table, table = old.table(), config.table()
    for section in {**old_table, **table}:
        of_old, of_new = old_table.get(section, {}), table.get(section, {})
        for name in {**of_new, **of_old}:
            before, value = of_old.get(name), of_new.get(name)
            if before != value and not (section == "run" and name in may_change):
                raise _another(f"{section}.{name} was {before!r} and is {value!r} now", path, asked, "settings")


def _another(differs: str, path: Path, asked: bool, what: str) -> UserError:
    if asked:
        return UserError(f"--resume: {differs}; a run keeps its {what}")
    return UserError(f"{path} exists already, and is another run: {differs}; --out or --name starts beside it")


def _git() -> dict[str, Any] | None:
    def ask(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=CONFIGS, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        changes = ask("diff", "HEAD")
        return {
            "commit": ask("rev-parse", "HEAD"),
            "dirty": bool(ask("status", "--porcelain")),
            "changes": hashlib.sha256(changes.encode()).hexdigest()[:12] if changes else None,  # of tracked files
        }
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> dict[str, str]:
    """Its name, which clouds cut short, and where the kernel tells them the instructions that libraries choose by."""
    try:
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    except OSError:
        return {"processor": platform.processor()}
    first = {name.strip(): value.strip() for name, _, value in reversed(lines)}
    flags = first.get("flags", first.get("Features", "")).split()
    vectors = [flag for flag in flags if flag.startswith(VECTORS)]
    return {"processor": first.get("model name", platform.machine()), "instructions": " ".join(sorted(vectors))}
