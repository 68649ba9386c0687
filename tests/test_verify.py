"""A part of a run is done again, and any difference is found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from killing import DEEP, EIGHT, SMALL, go, told

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
    assert told_["compared"]["differing"] == [f"measurement at {record['agent_steps']:,} agent steps: loss/td"]


@pytest.mark.parametrize("changed", ["nothing", "a return", "an evaluation is gone"])
def test_evaluations_that_a_longer_run_moved_are_left_out_and_no_others(changed: str, tmp_path: Path) -> None:
    """They were 30 agent steps apart, and are 60 in the run that it became."""
    settings = merge(SMALL, {"run": {"eval_every": "none"}})
    go(tmp_path, "q-learning", "CliffWalking-v1", merge(settings, {"run": {"steps": 600}}))
    go(tmp_path, "q-learning", "CliffWalking-v1", settings, resume=True)
    file = tmp_path / "run" / "metrics.jsonl"
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for record in records:
        if changed == "a return" and record["agent_steps"] == 120 and "eval/return" in record:
            record["eval/return"] += 1
    if changed == "an evaluation is gone":
        records = [m for m in records if m["agent_steps"] != 900 or "eval/return" not in m]
        manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
        (tmp_path / "run" / "manifest.json").write_text(json.dumps({**manifest, "resumed": []}), encoding="utf-8")
    file.write_text("".join(json.dumps(m) + "\n" for m in records), encoding="utf-8")
    told_ = verify(tmp_path / "run", from_start=True)
    assert told_["identical"] == (changed == "nothing")
    if changed != "an evaluation is gone":  # of a run that was never resumed each evaluation counts
        assert told_["compared"]["evaluations_of_one"] == 10  # 30, 90, ... 570


def test_a_state_that_training_does_not_reach_is_found(tmp_path: Path) -> None:
    go(tmp_path, "q-learning", "CliffWalking-v1", SMALL)
    newest = checkpoint.checkpoints(tmp_path / "run")[0]
    state = checkpoint.load(newest)
    state["agent"]["q"][3, 1] = np.nextafter(state["agent"]["q"][3, 1], 1)
    shutil.rmtree(newest)
    checkpoint.save(tmp_path / "run", 1_200, state)
    told_ = verify(tmp_path / "run")
    assert (told_["identical"], told_["compared"]["differing"]) == (False, ["agent.q"])
