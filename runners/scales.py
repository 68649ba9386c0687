"""From returns to scores that compare over tasks: 0 is random play, 1 the mark of each task."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from qladder.runners.config import CONFIGS
from qladder.runners.settings import read_toml


class Scale(NamedTuple):
    """Two returns on one environment, and what the upper one is."""

    random: float
    mark: float
    kind: str

    def normalised(self, score: Any) -> Any:
        """A number or an array of them."""
        return (score - self.random) / (self.mark - self.random)


def scale(env: str) -> Scale | None:
    """Of an environment by its id; None where no scale is known. Atari's is human play of the 57-game table."""
    if env.startswith("ALE/") and " " not in env:  # a variant is another environment
        row = _table("atari-human").get(env.removeprefix("ALE/").partition("-")[0])
        return None if row is None else Scale(row[0], row[1], "human")
    row = _table("small-problems").get(env)
    return None if row is None else Scale(row[0], row[1], "solved")


@lru_cache
def _table(name: str) -> dict[str, list[float]]:
    return read_toml(CONFIGS / "references" / f"{name}.toml")["scores"]
