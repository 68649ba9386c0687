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
    assert not verify(run, from_start=from_start)["identical"]


def test_a_state_that_training_does_not_reach_is_found(tmp_path: Path) -> None:
    go(tmp_path, "q-learning", "CliffWalking-v1", SMALL)
    newest = checkpoint.checkpoints(tmp_path / "run")[0]
    state = checkpoint.load(newest)
    state["agent"]["q"][3, 1] = np.nextafter(state["agent"]["q"][3, 1], 1)
    shutil.rmtree(newest)
    checkpoint.save(tmp_path / "run", 1_200, state)
    told_ = verify(tmp_path / "run")
    assert (told_["identical"], told_["compared"]["differing"]) == (False, ["agent.q"])
