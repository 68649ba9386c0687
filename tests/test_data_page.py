"""What docs/data.md says of keys, columns and calls, held against runs."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from killing import DEEP, SMALL, go

from qladder.envs.errors import UserError
from qladder.runners import environment, find_runs, load, read_metrics, train
from qladder.runners.report import write_report
from qladder.runners.settings import merge

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "data.md").read_text()


def test_the_page_names_every_key(tmp_path: Path) -> None:
    told = set(re.findall(r"`((?:[a-z]+/)?[a-z_0-9]+)`", PAGE))
    health = {"run": {"health_every": 250}}
    go(tmp_path / "table", "q-learning", "CliffWalking-v1", merge(SMALL, health))
    settings = merge(merge(SMALL, DEEP), merge(health, {"agent": {"support": [0.0, 100.0]}}))
    go(tmp_path / "deep", "rainbow", "CartPole-v1", settings)
    keys = {key for run in ("table", "deep") for line in read_metrics(tmp_path / run / "run") for key in line}
    assert {"loss/td", "eval/return", "health/rank", "time/seconds", "updates"} <= keys
    assert {key for key in keys if not key.startswith("time/share_")} <= told
    assert {key for key in told if "/" in key and key.startswith(("loss", "q", "eval", "health"))} <= keys


def test_the_page_names_the_files_and_the_settings_are_columns(tmp_path: Path) -> None:
    for seed in (0, 1):
        settings = {"run": {"steps": 300, "seed": seed}, "agent": {"step_size": 0.25}}
        train("q-learning", "FrozenLake-v1", settings=settings, out=str(tmp_path), name=f"r{seed}")
    runs, left_out = find_runs([tmp_path])
    write_report(runs, tmp_path, left_out=left_out)
    files = {path.name for path in (tmp_path / "report-data").glob("*.csv")}
    assert files == set(re.findall(r"`(\w+\.csv)`", PAGE))
    rows = list(csv.DictReader((tmp_path / "report-data" / "settings.csv").read_text().splitlines()))
    assert [(row["folder"], row["run.seed"], row["agent.step_size"]) for row in rows] == [
        (str(tmp_path / "r0"), "0", "0.25"),
        (str(tmp_path / "r1"), "1", "0.25"),
    ]
    assert rows[0]["env.wrappers"] == "[]"


def test_the_page_plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (snippet,) = (s for s in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "environment(" in s)
    names: dict[str, object] = {}
    exec(snippet, names)
    names["env"].close()  # type: ignore[attr-defined]
    assert names["obs"].shape == (4, 4)  # type: ignore[attr-defined]


def test_paths_may_be_text_and_an_environment_is_one_for_a_table(tmp_path: Path) -> None:
    run = train("q-learning", "FrozenLake-v1", settings={"run": {"steps": 300}}, out=str(tmp_path))["run"]
    again = train(config=f"{run}/config.toml", out=str(tmp_path / "again"))
    assert again["evaluation"] == train(trained_in=run, out=str(tmp_path), name="taken")["evaluation"]
    env = environment(run, seed=3)
    step = env.step(load(run).act(env.reset()))
    assert (step.obs in range(16), step.reward) == (True, 0.0)
    with pytest.raises(UserError, match="num_envs = 2: must be 1 for q-learning"):
        environment(run, num_envs=2)
