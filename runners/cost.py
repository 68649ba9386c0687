"""What a run costs its machine: CPU seconds, and joules where the kernel tells them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")  # Linux's; on many machines root alone may read it


class Packages:
    """The processors' energy counters (RAPL, AMD's too), each of which begins again at its range."""

    def __init__(self, root: Path) -> None:
        self._zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if zone.name.count(":") == 1]
        self._last = self._read()
        self._joules = 0.0

    def joules(self) -> float | None:
        """Since this was made, of everything that ran on them; None where they can't be read.

        To be asked more often than a counter takes to begin again: an hour at 70 watts.
        """
        now = self._read()
        if now is None or self._last is None:
            self._last = None
            return None
        for (last, _), (counted, size) in zip(self._last, now, strict=True):
            self._joules += (counted - last if counted >= last else counted - last + size) / 1e6
        self._last = now
        return self._joules

    def _read(self) -> list[tuple[int, int]] | None:
        """Microjoules, and at how many a counter begins again."""
        try:
            return [
                (int((zone / "energy_uj").read_text()), int((zone / "max_energy_range_uj").read_text()))
                for zone in self._zones
            ] or None
        except (OSError, ValueError):
            return None


class Cost:
    """Of a run so far, with what the processes before this one took; evaluations counted."""

    def __init__(self, saved: Mapping[str, Any] | None) -> None:
        """`saved`: what `kept` told when the checkpoint was made, None at the start."""
        self._cpu_before: float = 0.0 if saved is None else saved["cpu_seconds"]
        self._cpu_started = time.process_time()
        self._joules_before: float | None = 0.0 if saved is None else saved.get("joules")
        self._packages = Packages(POWERCAP)

    def kept(self) -> dict[str, Any]:
        """`cpu_seconds` of all cores; `joules` of the whole machine's processors, None where they are not known."""
        joules = self._packages.joules()
        known = None if joules is None or self._joules_before is None else self._joules_before + joules
        return {"cpu_seconds": self._cpu_before + time.process_time() - self._cpu_started, "joules": known}

    def told(self) -> dict[str, float]:
        """As a measurement."""
        return {f"time/{name}": value for name, value in self.kept().items() if value is not None}
