"""What a run costs: energy counters as Linux shows them, which begin again, and what is not known."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qladder.envs.gym import GymEnv
from qladder.runners import cost
from qladder.runners.cost import Cost, Packages
from qladder.runners.report import write_report
from qladder.runners.runs import find_runs
from qladder.runners.training import train

RANGE = 1_000_000  # microjoules


def counters(root: Path, *packages: int) -> None:
    """Two levels of them: those within a package are part of it."""
    for i, value in enumerate(packages):
        for name, counted in ((f"intel-rapl:{i}", value), (f"intel-rapl:{i}:0", value // 2)):
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / "energy_uj").write_text(f"{counted}\n")
            (root / name / "max_energy_range_uj").write_text(f"{RANGE}\n")


def test_packages_add_up_and_counters_begin_again(tmp_path: Path) -> None:
    counters(tmp_path, 100_000, 900_000)
    packages = Packages(tmp_path)
    counters(tmp_path, 300_000, 950_000)
    assert packages.joules() == pytest.approx(0.25)
    counters(tmp_path, 400_000, 150_000)  # the second has begun again
    assert packages.joules() == pytest.approx(0.25 + 0.1 + 0.2)
    assert packages.joules() == pytest.approx(0.55)


def test_what_cannot_be_read_is_not_known(tmp_path: Path) -> None:
    assert Packages(tmp_path).joules() is None
    assert Packages(tmp_path / "none").joules() is None
    counters(tmp_path, 1)
    packages = Packages(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert packages.joules() is None
    counters(tmp_path, 5)
    assert packages.joules() is None  # something is missing from it for good


def test_a_resumed_run_goes_on_counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counters(tmp_path, 0)
    monkeypatch.setattr(cost, "POWERCAP", tmp_path)
    now = [10.0]
    monkeypatch.setattr(cost, "time", SimpleNamespace(process_time=lambda: now[0]))
    first = Cost(None)
    now[0] = 12.0
    counters(tmp_path, 500_000)
    assert first.kept() == {"cpu_seconds": 2.0, "joules": 0.5}
    assert first.told() == {"time/cpu_seconds": 2.0, "time/joules": 0.5}
    second = Cost(first.kept())
    now[0] = 13.0
    counters(tmp_path, 600_000)
    assert second.kept() == {"cpu_seconds": 3.0, "joules": pytest.approx(0.6)}
    old = Cost({"cpu_seconds": 1.0})  # of a checkpoint that does not know
    assert (old.kept()["joules"], old.told()) == (None, {"time/cpu_seconds": 1.0})


def test_the_report_tells_the_energy_where_it_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rapl, used, step = tmp_path / "rapl", [0], GymEnv.step

    def burning(self: GymEnv, action: Any) -> Any:
        used[0] += 100
        counters(rapl, used[0])
        return step(self, action)

    counters(rapl, 0)
    run = {"steps": 500, "eval_every": 400, "eval_episodes": 1}
    train("random", "CartPole-v1", settings={"run": run}, out=tmp_path / "runs", name="unknown")
    assert json.loads((tmp_path / "runs" / "unknown" / "summary.json").read_text())["joules"] is None
    assert ">energy<" not in write_report(find_runs([tmp_path / "runs"]).runs, tmp_path).read_text()
    monkeypatch.setattr(cost, "POWERCAP", rapl)
    monkeypatch.setattr(GymEnv, "step", burning)
    train("q-learning", "CartPole-v1", settings={"run": run}, out=tmp_path / "runs", name="known")
    joules = json.loads((tmp_path / "runs" / "known" / "summary.json").read_text())["joules"]
    assert joules == pytest.approx(used[0] / 1e6)
    assert joules > 500 * 1e-4
    page = write_report(find_runs([tmp_path / "runs"]).runs, tmp_path).read_text()
    assert ">energy<" in page
    assert f"{joules / 1000:.1f} kJ" in page
