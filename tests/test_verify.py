"""A part of a run is done again, and any difference is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killing import DEEP, EIGHT, SMALL, go, told

from qladder.envs.errors import UserError
from qladder.runners import checkpoint
from qladder.runners.settings import merge
from qladder.runners.verify import verify


@pytest.mark.parametrize("from_start", [False, True])
def test_a_run_is_done_again_and_compared(from_start: bool, tmp_path: Path) -> None:
    settings = merge(SMALL, {**DEEP, **EIGHT})
    go(tmp_path, "dqn", "CartPole-v1", settings)
    run = tmp_path / "run"
    told_ = verify(run, from_start=from_start)
    assert told_["identical"]
    start, end = (0 if from_start else 1_056), 1_200
    compared = told_["compared"]
    assert (compared["from"], compared["to"], compared["differing"], compared["drift"]) == (start, end, [], [])
    assert compared["measurements"] == sum(start < m["agent_steps"] <= end for m in told(run)) - 1
    metrics = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    record = json.loads(metrics[-3])
    assert record["agent_steps"] > 1_056
    record["loss/td"] *= 1 + 1e-12
    (run / "metrics.jsonl").write_text("\n".join([*metrics[:-3], json.dumps(record), *metrics[-2:]]) + "\n")
    told_ = verify(run, from_start=from_start)
    assert not told_["identical"]
    assert told_["compared"]["differing"] == [f"training at {record['agent_steps']:,} agent steps: loss/td"]


@pytest.mark.parametrize("changed", [False, True])
def test_evaluations_that_a_longer_run_moved_are_left_out_and_no_others(changed: bool, tmp_path: Path) -> None:
    """They were 30 agent steps apart, and are 60 in the run that it became."""
    settings = merge(SMALL, {"run": {"eval_every": "none"}})
    go(tmp_path, "q-learning", "CliffWalking-v1", merge(settings, {"run": {"steps": 600}}))
    go(tmp_path, "q-learning", "CliffWalking-v1", settings, resume=True)
    rewrite(tmp_path / "run", lambda m: {**m, "eval/return": m["eval/return"] + changed} if at(m, 120) else m)
    told_ = verify(tmp_path / "run", from_start=True)
    assert told_["identical"] != changed
    assert told_["compared"]["evaluations_of_one"] == 10  # 30, 90, ... 570


@pytest.mark.parametrize("longer", [False, True])
def test_an_evaluation_that_is_gone_is_missed(longer: bool, tmp_path: Path) -> None:
    settings = merge(SMALL, {"run": {"eval_every": "none"}})
    if longer:
        go(tmp_path, "q-learning", "CliffWalking-v1", merge(settings, {"run": {"steps": 600}}))
    go(tmp_path, "q-learning", "CliffWalking-v1", settings, resume=longer)
    rewrite(tmp_path / "run", lambda m: None if at(m, 900) else m)
    told_ = verify(tmp_path / "run", from_start=True)
    assert not told_["identical"]
    assert told_["compared"]["differing"] == ["evaluation at 900 agent steps: only one of the two has it"]


def at(record: dict[str, Any], agent_steps: int) -> bool:
    return record["agent_steps"] == agent_steps and "eval/return" in record


def rewrite(run: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    file = run / "metrics.jsonl"
    records = map(change, map(json.loads, file.read_text(encoding="utf-8").splitlines()))
    file.write_text("".join(json.dumps(m) + "\n" for m in records if m is not None), encoding="utf-8")


def test_a_state_that_training_does_not_reach_is_found(tmp_path: Path) -> None:
    go(tmp_path, "q-learning", "CliffWalking-v1", SMALL)
    newest = checkpoint.checkpoints(tmp_path / "run")[0]
    state = checkpoint.load(newest)
    state["agent"]["q"][3, 1] = np.nextafter(state["agent"]["q"][3, 1], 1)
    shutil.rmtree(newest)
    checkpoint.save(tmp_path / "run", 1_200, state)
    told_ = verify(tmp_path / "run")
    assert (told_["identical"], told_["compared"]["differing"]) == (False, ["agent.q"])


def test_a_run_of_another_number_of_threads_is_told_before_it_is_done_again(tmp_path: Path) -> None:
    go(tmp_path, "dqn", "CartPole-v1", merge(SMALL, DEEP))
    path = tmp_path / "run" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "threads": 99}), encoding="utf-8")
    with pytest.raises(UserError, match=r"threads was 99 and is \d+ now \(--allow-drift compares all the same\)"):
        verify(tmp_path / "run", from_start=True)
    assert verify(tmp_path / "run", allow_drift=True)["identical"]
