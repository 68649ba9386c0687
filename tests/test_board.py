"""TensorBoard's own reader on what it gets beside scalars."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import write_seeds
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from qladder.runners import train
from qladder.runners.board import write_seeds as write_board
from qladder.runners.groups import groups
from qladder.runners.run_folder import safe_name
from qladder.runners.runs import find_runs


def read(folder: Path) -> Any:
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    return reader


def test_a_runs_settings_are_columns_to_filter_by(tmp_path: Path) -> None:
    settings = {"agent": {"double": True, "hidden": [8, 4]}, "run": {"steps": 60, "seed": 3, "label": "twice"}}
    run = Path(train("dqn", "CartPole-v1", settings=settings, out=tmp_path, until=40)["run"])
    train("dqn", "CartPole-v1", settings=settings, out=tmp_path, resume=True)
    told = read(run).PluginTagToContent("hparams")
    [content] = told.values()
    start = HParamsPluginData.FromString(content).session_start_info
    assert re.fullmatch("twice on CartPole-v1 #[0-9a-f]{6}", start.group_name)
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
    assert values["agent.double"] is True
    assert (values["run.seed"], values["run.steps"], values["agent.gamma"]) == (3, 60, 0.99)
    assert (values["agent.hidden"], values["env.id"], values["label"]) == ("8 4", "CartPole-v1", "twice")
    assert values["agent.epsilon.end"] == pytest.approx(0.02)


def test_all_seeds_of_an_agent_are_one_run_with_a_band(tmp_path: Path) -> None:
    write_seeds(tmp_path, "a/b", "X-v0", [0, 10, 20, 90])
    write_seeds(tmp_path, "..", "X-v0", [7])
    write_seeds(tmp_path, "a b", "Y" * 300, [7])
    write_seeds(tmp_path, "a-b", "Y" * 300, [7])
    grouped = groups(find_runs([tmp_path]).runs)
    for _ in range(2):  # the second time in place of the first
        write_board(grouped, tmp_path)
    place = tmp_path / "all-seeds" / "X-v0"
    assert sorted(path.name for path in place.iterdir()) == ["-", "a-b"]
    assert sorted(path.name for path in (place.parent / ("Y" * 100)).iterdir()) == ["a-b", "a-b-"]
    assert [path.name for path in (place / "-").iterdir()] == ["iqm"]  # one seed has no band
    points = {name: read(place / "a-b" / name).Scalars("all seeds/X-v0") for name in ("iqm", "low", "high")}
    assert [event.step for event in points["iqm"]] == [0, 500, 1000]
    assert [event.value for event in points["iqm"]] == pytest.approx([0, 7.5, 15])  # of the middle two
    low, high = points["low"][-1].value, points["high"][-1].value
    assert 0 <= low < 15 < high <= 90
    rng = np.random.default_rng(1)
    drawn = np.sort(rng.choice([0, 10, 20, 90], size=(20_000, 4)), axis=1)[:, 1:3].mean(axis=1)
    assert [low, high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=5)


@pytest.mark.parametrize(
    ("text", "name"), [("a b", "a-b"), ("..", "-"), (".", "-"), ("../x", "..-x"), ("v1.5", "v1.5")]
)
def test_names_of_folders_are_safe(text: str, name: str) -> None:
    assert safe_name(text) == name
