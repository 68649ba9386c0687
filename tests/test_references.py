"""Published figures: our tables, files of the shapes that others publish, and how they are labelled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from run_folders import write_seeds
from test_report import Page
from torch.utils.tensorboard import SummaryWriter

from qladder.envs.errors import UserError
from qladder.runners.protocols import protocol_names
from qladder.runners.references import Reference, find_references, reference_names
from qladder.runners.report import write_report
from qladder.runners.runs import find_runs
from qladder.runners.scales import scale

BREAKOUT, PONG = "ALE/Breakout-v5", "ALE/Pong-v5"


def one(asked: str, *envs: str) -> Reference:
    [found] = find_references([asked], envs)
    return found


@pytest.mark.parametrize("name", reference_names())
def test_every_table_is_whole(name: str) -> None:
    envs = {PONG, BREAKOUT, "CartPole-v1", "FrozenLake-v1"}
    found = find_references([name], sorted(envs))
    assert found
    for reference in found:
        assert reference.env in envs
        assert len(reference.mean) == len(reference.frames)
        assert np.isfinite(reference.mean).all()
        assert reference.source
        assert reference.protocol
        assert reference.kind in ("training", "evaluation")
        assert reference.spread is None or reference.spread_over in ("seeds", "episodes")


def test_one_game_one_name_many_numbers() -> None:
    """DQN on Breakout, as it stands in the pages of seven projects, each with what it means."""
    rows = {
        "nature:dqn": (401.2, 200e6, "evaluation", "nature-2015"),
        "pfrl:dqn": (352.5, 200e6, "evaluation", None),
        "cleanrl:dqn": (366.9, 40e6, "training", "cleanrl"),
        "sb3-zoo:dqn": (358.3, 40e6, "evaluation", "sb3-zoo"),
        "tianshou:dqn": (316, 40e6, "evaluation", None),
        "dopamine:dqn-rmsprop": (96.2, 199e6, "training", "dopamine"),
        "dopamine:dqn-adam": (186.1, 199e6, "training", "dopamine"),
        "dopamine:dqn": (199.4, 200e6, "training", "dopamine"),
    }
    for asked, (score, frames, kind, protocol) in rows.items():
        found = one(asked, BREAKOUT)
        assert found.mean[-1] == pytest.approx(score, rel=1e-3)
        assert found.frames[-1] == frames
        assert found.kind == kind
        assert (found.protocol == protocol) is (protocol in protocol_names())
    low, high = 78, 111  # five runs of Dopamine's, of which ours is the mean
    legacy = one("dopamine:dqn-rmsprop", BREAKOUT)
    assert legacy.spread is not None
    assert low < legacy.mean[-1] - legacy.spread < legacy.mean[-1] + legacy.spread < high


def test_the_ends_of_a_scale_are_references_too() -> None:
    known = scale(PONG)
    assert known is not None
    found = find_references(["atari-human"], [PONG])
    assert {reference.name: reference.mean.tolist() for reference in found} == {
        "atari-human:random": [known.random], "atari-human:human": [known.mark],
    }  # fmt: skip
    assert one("small-problems:solved", "CartPole-v1").mean.tolist() == [500.0]


def test_dopamines_json(tmp_path: Path) -> None:
    rows = [
        {"Agent": agent, "Game": "Pong", "Iteration": i, "Value": value}
        for agent, i, value in [("DQN", 1, 3), ("DQN", 0, 1.0), ("DQN", 0, "2.0"), ("DQN", 1, 7), ("C51", 0, -5)]
    ]
    (tmp_path / "Pong.json").write_text(json.dumps(rows))
    dqn, c51 = find_references([str(tmp_path / "Pong.json")], [PONG, BREAKOUT])
    assert (dqn.name, dqn.env, dqn.protocol, dqn.kind, dqn.seeds) == ("Pong.json:DQN", PONG, "dopamine", "training", 2)
    assert dqn.frames.tolist() == [1e6, 2e6]
    assert dqn.mean.tolist() == [1.5, 5.0]
    assert dqn.spread == pytest.approx(8**0.5)
    assert (c51.mean.tolist(), c51.seeds, c51.spread) == ([-5.0], 1, None)


def test_dqn_zoos_csv(tmp_path: Path) -> None:
    text = "iteration,frame,eval_episode_return\n0,0,-20.5\n1,1000000,-19.5\n2,2000000,nan\n"
    (tmp_path / "pong.csv").write_text(text)
    found = one(str(tmp_path / "pong.csv"), PONG)
    assert (found.protocol, found.kind) == ("dqn-zoo", "evaluation")
    assert found.frames.tolist() == [0, 1e6]
    assert found.mean.tolist() == [-20.5, -19.5]
    with pytest.raises(UserError, match="does not tell its environment; --reference ENV="):
        find_references([str(tmp_path / "pong.csv")], [PONG, BREAKOUT])
    assert one(f"{BREAKOUT}={tmp_path / 'pong.csv'}", PONG, BREAKOUT).env == BREAKOUT
    odd = tmp_path / "lr=0.1"
    odd.mkdir()
    (odd / "pong.csv").write_text(text)
    assert one(str(odd / "pong.csv"), PONG).env == PONG
    assert find_references([str(odd / "pong.csv")], []) == []
    named = "environment_name,frame,eval_episode_return\nspace_invaders,10,1\nspace_invaders,10,3\n"
    (tmp_path / "all.csv").write_text(named)
    assert one(str(tmp_path / "all.csv"), PONG, "ALE/SpaceInvaders-v5").mean.tolist() == [2.0]
    (tmp_path / "all.csv").write_text(named + "pong,10,1\n")
    with pytest.raises(UserError, match="it tells of several environments"):
        find_references([f"{PONG}={tmp_path / 'all.csv'}"], [PONG])


def test_a_monitor_csv(tmp_path: Path) -> None:
    episodes = "".join(f"{i},{10},{i}.5\n" for i in range(150))
    head = '#{"t_start": 1.5, "env_id": "PongNoFrameskip-v4"}\nr,l,t\n'
    (tmp_path / "0.monitor.csv").write_text(head + episodes)
    found = one(str(tmp_path / "0.monitor.csv"), PONG, BREAKOUT)
    assert (found.env, found.kind, found.which) == (PONG, "training", "mean of 100 episodes")
    assert found.frames[[0, -1]].tolist() == [1000, 1500]  # frames: it stands below the wrapper that repeats actions
    assert found.mean[[0, -1]].tolist() == pytest.approx([49.5, 99.5])
    (tmp_path / "1.monitor.csv").write_text('#{"t_start": 1, "env_id": "CartPole-v1"}\nr,l,t\n20,20,1\n40,40,2\n')
    found = one(str(tmp_path / "1.monitor.csv"), "CartPole-v1")
    assert (found.mean.tolist(), found.frames.tolist()) == ([30.0], [60.0])
    (tmp_path / "2.monitor.csv").write_text('#{"t_start": 1, "env_id": "ALE/Pong-v5"}\nr,l,t\n20,20,1\n40,40,2\n')
    assert one(str(tmp_path / "2.monitor.csv"), PONG).frames.tolist() == [240.0]  # which repeats actions itself


def test_an_event_file(tmp_path: Path) -> None:
    writer = SummaryWriter(str(tmp_path))
    for step in (100, 200):
        writer.add_scalar("charts/episodic_return", step / 10, step)
        writer.add_scalar("losses/td_loss", 1, step)
    writer.close()
    [file] = tmp_path.iterdir()
    found = one(str(file), PONG)
    assert (found.kind, found.which) == ("training", "charts/episodic_return")
    assert (found.mean.tolist(), found.frames.tolist()) == ([10.0, 20.0], [400.0, 800.0])
    assert one(f"CartPole-v1={file}", "CartPole-v1").frames.tolist() == [100.0, 200.0]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("dopamin", "no such table; did you mean 'dopamine'"),
        ("dopamine:dq", "dopamine has no 'dq'; did you mean 'dqn'"),
        ("nature:dqn:x", "nature has no 'dqn:x'"),
        ("nowhere.json", "no such file"),
        ("CartPole-v1=nowhere.csv", "no such file"),
        ("cut.json", "cannot be read as published curves: JSONDecodeError"),
        ("list.json", "cannot be read as published curves"),
        ("empty.csv", "holds no curve"),
        ("other.csv", "cannot be read as published curves: KeyError: 'frame'"),
        ("torn.csv", "cannot be read as published curves"),
        ("events.out.tfevents.1", "cannot be read as published curves"),
        ("deep.json", "cannot be read as published curves"),
        ("papers", "nothing of CartPole-v1; it is of ALE/"),
    ],
)
def test_what_is_no_reference_is_named(asked: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "cut.json": '[{"Agent": "DQ',
        "list.json": "[[1, 2]]",
        "empty.csv": "frame,eval_episode_return\n",
        "other.csv": "a,b\n1,2\n",
        "torn.csv": '#{"env_id": "CartPole-v1"}\nr,l,t\n1,\n',
        "events.out.tfevents.1": "no events",
        "deep.json": "[" * 100_000,
    }.items():
        Path(name).write_text(text)
    with pytest.raises(UserError, match=says) as error:
        find_references([asked], ["CartPole-v1"])
    assert "\n" not in str(error.value)


def test_references_are_drawn_labelled_and_their_protocols_told(tmp_path: Path) -> None:
    named = {"name": "cleanrl", "version": 1, "hash": "c" * 12}
    write_seeds(tmp_path, "dqn", BREAKOUT, [300, 310, 320], protocol=named)
    runs = find_runs([tmp_path]).runs
    asked = ["cleanrl:dqn", "nature:dqn", "dopamine:dqn"]
    page = Page(write_report(runs, tmp_path / "out", references=asked).read_text("utf-8"))
    assert {"cleanrl:dqn 366.9", "nature:dqn* 401.2", "dopamine:dqn* 199.4"} <= set(page.svg_words)
    rows = {row[0]: row for row in page.rows if row and row[0].partition("*")[0] in asked}
    assert rows["cleanrl:dqn"][1:7] == [
        "366.9",
        "39.89 over seeds",
        "training, last 100 episodes",
        "40,000,000",
        "3",
        "cleanrl",
    ]
    assert rows["nature:dqn*"][6] == "nature-2015 another"
    assert 'id="show-3"' in (tmp_path / "out" / "report.html").read_text("utf-8")  # they can be hidden too
