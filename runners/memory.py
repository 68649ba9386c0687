"""What a replay takes and what this machine has, in bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from qladder.envs.errors import UserError
from qladder.envs.spec import EnvSpec
from qladder.replay.frames import ReplayConfig, bytes_per_slot
from qladder.replay.sequences import SequenceConfig, sequence_bytes_per_slot

RESERVE = 2**30  # for Python, torch, the network and the environments


def check_replay(config: ReplayConfig | None, spec: EnvSpec, *, state_size: int = 0, limit: int | None) -> int:
    """The bytes of a full replay, 0 without one; `state_size` numbers are kept with each sequence of recurrent agents.

    Raises:
        UserError: they and a reserve of 1 GiB are more than `limit`, which is what is free; it names what fits.
    """
    if config is None:
        return 0
    if isinstance(config, SequenceConfig):
        slot = sequence_bytes_per_slot(spec, config, state_size)
    else:
        slot = bytes_per_slot(spec, config)
    needed = config.capacity * slot
    if limit is not None and needed + RESERVE > limit:
        fits = max(0, limit - RESERVE) // slot
        digits = 10 ** max(0, len(str(fits)) - 2)
        raise UserError(
            f"replay.capacity = {config.capacity}: {needed / 1e9:.1f} GB when full; {limit / 1e9:.1f} GB are free, "
            f"--replay.capacity {fits // digits * digits} fits"
        )
    return needed


def available(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that this process may still take: the machine's and those of its control groups, which nest and each have
    a limit; None where nothing is told. Files that a group has read and not used since give way and count as free.
    """
    found = [_machine(proc), *(_group(folder, *names) for folder, names in _groups(proc, cgroup))]
    return min((f for f in found if f is not None), default=None)


def resident() -> int:
    """Bytes that this process holds in memory; where the system does not tell, the most that it ever held."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource
        import sys

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _groups(proc: Path, cgroup: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """The folders of this process's control groups, from its own to the root, and the names of their files.

    Inside a container the path that /proc tells can be the host's; then only the root is there.
    """
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        lines = []
    paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    for controllers, root, names in (("", cgroup, V2), ("memory", cgroup / "memory", V1)):
        own = PurePosixPath(paths.get(controllers, "/"))
        for path in (own, *own.parents):
            yield root / path.relative_to("/"), names


def _machine(proc: Path) -> int | None:
    try:
        lines = (proc / "meminfo").read_text().splitlines()
    except OSError:
        names = ("SC_PHYS_PAGES", "SC_PAGE_SIZE")  # not Linux: all there is
        known = all(name in os.sysconf_names for name in names)
        return os.sysconf(names[0]) * os.sysconf(names[1]) if known else None
    table = dict(line.split(":", 1) for line in lines)
    return int(table["MemAvailable"].split()[0]) * 1024


def _group(folder: Path, limit: str, usage: str, idle: str) -> int | None:
    try:
        most, used = (folder / limit).read_text().strip(), int((folder / usage).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except OSError:
        return None
    return None if most == "max" else max(0, int(most) - used + int(stat.get(idle, 0)))
