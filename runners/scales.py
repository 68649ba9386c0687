"""From returns to scores that compare over tasks: 0 is random play, 1 the mark of each task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from qladder.envs.errors import UserError
from qladder.runners.settings import read_toml
from qladder.runners.shipped import CONFIGS


class Scale(NamedTuple):
    """Two returns on one environment, and what the upper one is."""

    random: float
    mark: float
    kind: str

    def normalised(self, score: Any) -> Any:
        """A number or an array of them."""
        return (score - self.random) / (self.mark - self.random)


Scales = Mapping[str, Scale]
"""By environment, named as in a report."""


def own_scales(table: Mapping[str, Any], where: str) -> dict[str, Scale]:
    """Of a table that has two returns, of random play and of a solved task, for each environment.

    Raises:
        UserError: it has something else.
    """
    for env, ends in table.items():
        numbers = isinstance(ends, list | tuple) and all(
            type(end) in (int, float) and math.isfinite(end) for end in ends
        )
        if not (numbers and len(ends) == 2 and ends[0] < ends[1]):
            raise UserError(f"{where} '{env}' = {ends}: must be [random play's return, a solved task's]")
    return {env: Scale(float(low), float(high), "solved") for env, (low, high) in table.items()}


def read_scales(file: Path) -> dict[str, Scale]:
    """Of a TOML file's table `[scales]`; UserError where there is none."""
    table = read_toml(file)
    if table.keys() != {"scales"} or not isinstance(table["scales"], Mapping):
        raise UserError(f"{file}: must have a table [scales], and nothing else")
    return own_scales(table["scales"], f"{file} scales")


def scale(env: str, own: Scales | None = None) -> Scale | None:
    """Of an environment; None where no scale is known, neither in `own` nor here, where Atari's is human play of the
    57-game table.
    """
    if own is not None and env in own:
        return own[env]
    if env.startswith("ALE/") and " " not in env:  # a variant is another environment
        row = _table("atari-human").get(env.removeprefix("ALE/").partition("-")[0])
        return None if row is None else Scale(row[0], row[1], "human")
    row = _table("small-problems").get(env)
    return None if row is None else Scale(row[0], row[1], "solved")


@lru_cache
def _table(name: str) -> dict[str, list[float]]:
    return read_toml(CONFIGS / "references" / f"{name}.toml")["scores"]
