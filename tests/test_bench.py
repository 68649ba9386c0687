"""What `qladder bench` counts and tells."""

from __future__ import annotations

import pytest

from qladder.envs.errors import UserError
from qladder.runners.bench import bench, table


def test_parts_floor_and_rate_belong_together() -> None:
    told = bench("ALE/Pong-v5", {"run": {"threads": 1}, "agent": {"learner": "eager"}}, seconds=0.05, rounds=2)
    assert told["gflop_per_update"] == pytest.approx(2.183, abs=5e-4)
    assert told["agent_steps_per_second"] == pytest.approx(4000 / told["ms"]["loop_of_4"])
    arithmetic = 1000 * told["gflop_per_update"] / told["matrix_product_gflops"]
    others = 4 * (told["ms"]["environment"] + told["ms"]["acting"])
    assert told["floor_ms_of_4"] == pytest.approx(arithmetic + others)
    assert told["share_of_floor"] == pytest.approx(told["floor_ms_of_4"] / told["ms"]["loop_of_4"])
    assert 0 < told["ms"]["sampling"] < told["ms"]["update"]
    assert (told["learner"], told["num_envs"]) == ("eager", 8)
    assert len(told["agent_steps_per_second_of_rounds"]) == 2
    assert all(len(line) <= 100 for line in table(told))


def test_it_is_for_pictures() -> None:
    with pytest.raises(UserError, match="environments of pictures"):
        bench("CartPole-v1", seconds=0.1, rounds=1)
