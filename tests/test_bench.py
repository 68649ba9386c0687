"""What `qladder bench` counts and tells."""

from __future__ import annotations

import importlib.util

import pytest

from qladder.envs.errors import UserError
from qladder.runners.bench import bench, table
from qladder.runners.config import resolve
from qladder.runners.peers import StableBaselines3


def test_parts_floor_and_rate_belong_together() -> None:
    told = bench("ALE/Pong-v5", {"run": {"threads": 1}, "agent": {"learner": "eager"}}, seconds=0.05, rounds=2)
    parts = told["parts"]
    assert told["gflop_per_update"] == pytest.approx(2.183, abs=5e-4)
    assert told["steps_per_second"] == pytest.approx(4000 / parts["loop"]["ms"])
    arithmetic = 1000 * told["gflop_per_update"] / told["matrix_product_gflops"]
    others = 4 * (parts["environment"]["ms"] + parts["acting"]["ms"])
    assert told["floor_ms_of_4"] == pytest.approx(arithmetic + others)
    assert parts["loop"]["share_of_floor"] == pytest.approx(told["floor_ms_of_4"] / parts["loop"]["ms"])
    assert parts["update"]["share_of_floor"] == pytest.approx(arithmetic / parts["update"]["ms"])
    assert parts["acting"]["share_of_loop"] == pytest.approx(4 * parts["acting"]["ms"] / parts["loop"]["ms"])
    assert 0 < parts["sampling"]["ms"] < parts["update"]["ms"]
    assert (told["learner"], told["num_envs"]) == ("eager", 8)
    assert len(told["steps_per_second_of_rounds"]) == 2
    assert all(len(line) <= 100 for line in table(told))


def test_a_floor_and_shares_count_the_updates_that_were_asked_for() -> None:
    settings = {"run": {"threads": 1, "update_every": 8, "updates": 3}, "agent": {"learner": "eager"}}
    told = bench("ALE/Pong-v5", settings, seconds=0.05, rounds=1)
    parts = told["parts"]
    arithmetic = 1.5 * 1000 * told["gflop_per_update"] / told["matrix_product_gflops"]
    others = 4 * (parts["environment"]["ms"] + parts["acting"]["ms"])
    assert told["floor_ms_of_4"] == pytest.approx(arithmetic + others)
    assert parts["update"]["share_of_loop"] == pytest.approx(1.5 * parts["update"]["ms"] / parts["loop"]["ms"])
    assert "(1.5 updates of 2.183 GFLOP" in table(told)[-1]


def test_peers_are_an_extra_told_in_one_line() -> None:
    if importlib.util.find_spec("stable_baselines3"):
        pytest.skip("the extra peers is installed")
    with pytest.raises(UserError, match=r"make extras EXTRAS=peers`, elsewhere .* 'qladder\[peers\]'"):
        bench("ALE/Pong-v5", {"run": {"threads": 1}}, seconds=0.05, rounds=1, peers=True)


@pytest.mark.skipif(not importlib.util.find_spec("stable_baselines3"), reason="needs the extra peers")
def test_peers_do_the_same_work_in_the_same_rounds() -> None:
    settings = {"run": {"threads": 1}, "replay": {"capacity": 10_000}}
    told = bench("ALE/Pong-v5", settings, seconds=0.05, rounds=2, peers=True)
    assert list(told["peers"]) == ["stable-baselines3, N = 1", "stable-baselines3, N = 8"]
    for peer in told["peers"].values():
        assert len(peer["ratios"]) == 2
        assert min(peer["ratios"]) > 0
    for num_envs in (1, 8):
        peer = StableBaselines3(resolve("dqn", "ALE/Pong-v5", settings), num_envs)
        steps = peer.loop()
        assert peer.updates == steps / 4
        peer.close()
    odd = resolve("dqn", "ALE/Pong-v5", {"run": {"threads": 1, "update_every": 16}})
    with pytest.raises(UserError, match="1 updates per 16 agent steps are no whole number"):
        StableBaselines3(odd, 8)


def test_it_is_for_pictures() -> None:
    with pytest.raises(UserError, match="environments of pictures"):
        bench("CartPole-v1", seconds=0.1, rounds=1)
    with pytest.raises(UserError, match="the floor of implicit quantiles is not reckoned"):
        bench("ALE/Pong-v5", {"agent": {"distribution": "implicit-quantile"}}, seconds=0.1, rounds=1)
