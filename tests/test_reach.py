"""When a return is first reached: by hand, with seeds that never get there, and its interval in simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from run_folders import write_run

from qladder.runners.groups import groups
from qladder.runners.reach import median, median_interval, reached
from qladder.runners.runs import find_runs


def test_by_hand(tmp_path: Path) -> None:
    def curve(*means: float) -> list[dict[str, float]]:
        clocks = ("agent_steps", "frames", "updates", "seconds", "episodes")
        return [dict.fromkeys(clocks, 100 * i) | {"seconds": i / 10, "mean": mean} for i, mean in enumerate(means, 1)]

    for seed, means in enumerate([(1, 5, 2), (5, 1, 1), (0, 0, 4.9), (1, 2, 5)]):
        write_run(tmp_path, "a", "X", seed, means[-1], curve=curve(*means))
    write_run(tmp_path, "b", "X", 0, 1, curve=curve(1))
    write_run(tmp_path, "c", "X", 0, 1, curve=[])
    write_run(tmp_path, "a", "Y", 0, 1)
    a, b = reached(groups(find_runs([tmp_path]).runs), {"X": 5.0})
    assert (a.agent, a.seeds, a.reached) == ("a", 4, 3)
    assert a.median == {"agent_steps": 200, "frames": 200, "updates": 200, "seconds": 0.2}
    assert a.interval["frames"] == (None, None)  # four seeds are too few for one
    assert (b.seeds, b.reached, b.median["frames"]) == (1, 0, None)


def test_medians_with_seeds_that_never_get_there() -> None:
    assert median([3.0, 4.0], 3) == 4
    assert median([3.0], 3) is None
    assert median([3.0, 4.0], 4) == 4
    assert median([], 1) is None
    assert median_interval([1, 2, 3, 4, 5, 6], 6) == (1, 6)  # 2 / 64 outside
    assert median_interval([1, 2, 3, 4, 5], 5) == (None, None)
    ten = list(range(1, 11))
    assert median_interval(ten, 10) == (2, 9)  # 22 / 1024 outside
    assert median_interval(ten[:8], 10) == (2, None)
    assert median_interval([], 10) == (None, None)
    assert median_interval(ten, 10, level=0.999) == (None, None)


@pytest.mark.parametrize("seeds", [6, 10, 25])
def test_the_interval_holds_the_median_as_often_as_it_says(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    held = 0
    for times in np.sort(rng.exponential(size=(4000, seeds))):
        seen = times[times < 2.0].tolist()  # the others were cut off
        low, high = median_interval(seen, seeds)
        held += (low is not None and low <= np.log(2)) and (high is None or high >= np.log(2))
    assert 0.94 < held / 4000 < 0.995
