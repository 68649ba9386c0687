"""What is told of agents over several environments, against hand-worked numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import write_run, write_seeds

from qladder.runners.compare import compare
from qladder.runners.runs import find_runs
from qladder.runners.scales import Scale
from qladder.runners.together import MARKS, POINTS, Overall

SCALES = {"X": Scale(0.0, 10.0, "solved"), "Y": Scale(100.0, 200.0, "solved")}


def curve(*points: tuple[int, float]) -> list[dict[str, Any]]:
    clocks = ("agent_steps", "frames", "updates", "seconds", "episodes")
    return [{**dict.fromkeys(clocks, x), "mean": y} for x, y in points]


def told(tmp_path: Path) -> dict[str, Overall]:
    return {row.agent: row for row in compare(*find_runs([tmp_path]), scales=SCALES).overall}


def test_curves_by_hand(tmp_path: Path) -> None:
    """On X all were evaluated from 100 to 200 steps, on Y from 100 to 1000: from a half of the way to its end."""
    write_run(tmp_path, "a", "X", 0, 6, curve=curve((0, 9), (100, 2), (200, 6), (300, 99)))
    write_run(tmp_path, "b", "X", 0, 6, curve=curve((100, 0), (200, 10)))
    write_run(tmp_path, "a", "Y", 0, 180, curve=curve((100, 100), (500, 160), (1000, 180)))
    write_run(tmp_path, "b", "Y", 0, 180, curve=curve((100, 100), (1000, 190), (2000, 500)))
    found = told(tmp_path)
    a, b = found["a"].curve, found["b"].curve
    assert a is not None
    assert b is not None
    assert a.share == b.share == pytest.approx(np.linspace(0.5, 1, POINTS))
    at = [0, POINTS // 2, POINTS - 1]
    # X at 100, 150 and 200 steps, Y at 500, 750 and 1000
    assert [a.iqm[i] for i in at] == pytest.approx([(0.2 + 0.6) / 2, (0.4 + 0.7) / 2, (0.6 + 0.8) / 2])
    assert [b.iqm[i] for i in at] == pytest.approx([(0 + 0.4) / 2, (0.5 + 0.65) / 2, (1 + 0.9) / 2])
    assert a.interval == [(None, None)] * POINTS  # one seed


def test_curves_are_of_the_middle_half_of_all_seeds(tmp_path: Path) -> None:
    """Eight values at each point, of which the two highest and the two lowest do not count."""
    for agent, up in (("a", 0.0), ("b", 1.0)):
        for env, low, scale in (("X", 0.0, 10.0), ("Y", 100.0, 100.0)):
            for seed, level in enumerate((0.0, 0.3, 0.4, 0.9)):
                score = low + scale * (level + up)
                write_run(tmp_path, agent, env, seed, score, curve=curve((0, low), (1000, score)))
    for agent, up in (("a", 0.0), ("b", 1.0)):
        row = told(tmp_path)[agent]
        assert row.curve is not None
        assert row.curve.share[0] == 0
        assert row.curve.iqm[-1] == pytest.approx(row.iqm) == pytest.approx(0.35 + up)
        assert row.curve.iqm[POINTS // 2] == pytest.approx(row.iqm / 2)
        assert row.curve.interval[0] == (0, 0)
        low, high = row.curve.interval[-1]
        assert low is not None
        assert high is not None
        assert up - 0.2 < low < up + 0.3 < up + 0.4 < high < up + 1.1


@pytest.mark.parametrize("bare", [[], curve((1000, 5))])
def test_one_without_evaluations_on_the_way_has_no_curve(tmp_path: Path, bare: list[dict[str, Any]]) -> None:
    for agent, on_x in (("a", curve((0, 0), (1000, 5))), ("b", bare)):
        write_seeds(tmp_path, agent, "X", [5, 6], curve=on_x)
        write_seeds(tmp_path, agent, "Y", [150, 160], curve=bare if agent == "b" else curve((0, 100), (1000, 150)))
    found = compare(*find_runs([tmp_path]), scales=SCALES)
    assert {row.agent: row.curve is None for row in found.overall} == {"a": False, "b": True}
    assert all(row.profile[0] == 1 for row in found.overall)
    assert found.cautions == ["without evaluations on the way, and so without a curve over environments: b"]


@pytest.mark.parametrize(
    ("on_x", "said"),
    [([], []), (None, ["without evaluations on the way, and so without a curve over environments: a, b"])],
)
def test_where_nobody_was_evaluated_on_the_way_nothing_is_said(tmp_path: Path, on_x: Any, said: list[str]) -> None:
    """But where they were on one environment, and were not on another."""
    for agent in ("a", "b"):
        write_seeds(tmp_path, agent, "X", [5, 6], **({} if on_x is None else {"curve": on_x}))
        write_seeds(tmp_path, agent, "Y", [150, 160], curve=[])
    found = compare(*find_runs([tmp_path]), scales=SCALES)
    assert ([row.curve for row in found.overall], found.cautions) == ([None, None], said)


def test_what_cuts_curves_is_told(tmp_path: Path) -> None:
    """One that ends sooner cuts all others; where it ends before they begin there is no curve."""
    for agent in ("a", "b"):
        write_seeds(tmp_path, agent, "X", [5, 6])
    write_seeds(tmp_path, "a", "Y", [150, 160], curve=curve((500, 100), (1000, 150)))
    write_seeds(tmp_path / "late", "b", "Y", [150, 160], curve=curve((100, 100), (800, 150)))
    found = compare(*find_runs([tmp_path]), scales=SCALES)
    assert all(row.curve is not None for row in found.overall)
    assert found.cautions == [
        "curves over environments end where the shortest run does: on Y after 800 agent steps (b)"
    ]
    write_seeds(tmp_path / "early", "c", "X", [5, 6])
    write_seeds(tmp_path / "early", "c", "Y", [150, 160], curve=curve((10, 100), (400, 150)))
    found = compare(*find_runs([tmp_path]), scales=SCALES)
    assert [row.curve for row in found.overall] == [None] * 3
    assert [line.partition(": ")[0] for line in found.cautions] == ["no curves over environments"]
    assert "was first evaluated when" in found.cautions[0]


def test_the_end_of_a_curve_is_the_tables_figure(tmp_path: Path) -> None:
    """With few seeds too, where intervals lean on few draws."""
    for agent, up in (("a", 0.0), ("b", 1.0)):
        write_seeds(tmp_path, agent, "X", [up + x for x in (4, 5, 7)])
        write_seeds(tmp_path, agent, "Y", [130 + x for x in (0, 10, 40)])
    for row in told(tmp_path).values():
        assert row.curve is not None
        assert row.curve.iqm[-1] == pytest.approx(row.iqm)
        assert row.curve.interval[-1] == pytest.approx(row.iqm_interval)


def test_bands_of_profiles(tmp_path: Path) -> None:
    """Of a's ten seeds on each environment seven score 1 and three 0; b has one seed; c all, d two of three."""
    for env, low, scale in (("X", 0.0, 10.0), ("Y", 100.0, 100.0)):
        write_seeds(tmp_path, "a", env, [low + scale * x for x in [0] * 3 + [1] * 7])
        write_seeds(tmp_path, "b", env, [low])
        write_seeds(tmp_path, "c", env, [low + scale] * 10)
        write_seeds(tmp_path, "d", env, [low, low + scale, low + scale])
    found = told(tmp_path)
    half = int(np.searchsorted(MARKS, 0.5))
    assert found["a"].profile[half] == pytest.approx(0.7)
    low, high = found["a"].profile_intervals[half]
    assert low is not None
    assert high is not None
    # twenty seeds, drawn within two environments: 0.7 +- 2.1 x sqrt(0.7 x 0.3 / 18)
    assert (low, high) == pytest.approx((0.473, 0.927), abs=0.04)
    assert found["b"].profile_intervals == [(None, None)] * len(MARKS)
    assert found["c"].profile_intervals[half] == (1, 1)
    ends = [end for agent in ("a", "c", "d") for interval in found[agent].profile_intervals for end in interval]
    assert all(end is not None and 0 <= end <= 1 for end in ends)
