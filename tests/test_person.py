"""A person at the keyboard: which keys are which actions, and that what is played is a run like any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qladder.envs.catch import Catch
from qladder.envs.errors import UserError
from qladder.envs.seeding import integer
from qladder.envs.tmaze import EAST, NORTH
from qladder.runners.compare import compare
from qladder.runners.keys import keys_of
from qladder.runners.person import play_by_hand
from qladder.runners.protocols import load_protocol
from qladder.runners.runs import find_runs
from qladder.runners.training import train

pygame = pytest.importorskip("pygame")
FAST = 10_000.0  # steps a second


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """SDL without a screen, whose queue takes events as from a keyboard."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame.display.init()
    yield pygame.event
    pygame.display.quit()


def down(key: int) -> Any:
    return pygame.event.Event(pygame.KEYDOWN, key=key)


def test_held_keys_are_actions() -> None:
    nature = load_protocol("nature-2015")
    pong = keys_of("ALE/Pong-v5", 18, replace(nature, full_action_space=True))
    assert (pong.idle, len(pong.held), pong.action({"up", "left", "space"})) == (0, 17, 15)
    small = keys_of("ALE/Pong-v5", 6, nature)  # NOOP FIRE RIGHT LEFT RIGHTFIRE LEFTFIRE
    held = [{"space"}, {"right"}, {"left"}, {"right", "space"}, {"left", "space"}, {"left", "q"}]
    assert [small.action(keys) for keys in held] == [1, 2, 3, 4, 5, 3]
    assert small.action({"up"}) is None
    pole = keys_of("CartPole-v1", 2, load_protocol("classic"))
    assert (pole.idle, pole.action({"right"})) == ("last", 1)
    assert keys_of("qladder/CartPoleHidden-v0", 2, load_protocol("classic")) == pole
    lake = keys_of("FrozenLake-v1", 4, load_protocol("toy-text"))
    assert [lake.action({key}) for key in ("left", "down", "right", "up")] == [0, 1, 2, 3]
    assert lake.idle == "wait"
    crossing = keys_of("qladder/Crossing-v0", 3, load_protocol("classic"))
    assert [crossing.action({key}) for key in ("down", "up", "left")] == [0, 2, None]
    assert crossing.idle == 1
    maze = keys_of("qladder/TMaze-v0", 4, load_protocol("classic"))
    assert (maze.action({"up"}), maze.action({"right"}), maze.idle) == (NORTH, EAST, "wait")
    other = keys_of("Mine-v0", 3, load_protocol("classic"))
    assert (other.action({"2"}), other.action({"3"}), other.idle) == (2, None, "wait")


def walked_left(episode: int, steps: int = 9) -> float:
    """The return of an episode of Catch with the left key held for so many steps."""
    env = Catch()
    env.reset(seed=integer(3, "watch", 0, episode))
    return sum(float(env.step(0 if step < steps else 1)[1]) for step in range(9))


def test_what_is_played_is_a_run_beside_the_others(keyboard: Any, tmp_path: Path) -> None:
    keyboard.post(down(pygame.K_LEFT))
    settings = {"run": {"episodes": 12, "seed": 3}}
    told = play_by_hand("qladder/Catch-v0", settings=settings, who="Ada", rate=FAST, out=tmp_path)
    expected = [walked_left(episode) for episode in range(12)]
    assert told["returns"] == expected
    assert len(set(expected)) == 2
    assert told["agent_steps"] == 12 * 9
    assert told["evaluation"]["mean"] == pytest.approx(sum(expected) / 12)
    records = [json.loads(line) for line in (Path(told["run"]) / "metrics.jsonl").read_text().splitlines()]
    assert [(r["agent_steps"], r["eval/return"], r["episodes"]) for r in records] == [
        (9 * (i + 1), value, i + 1) for i, value in enumerate(expected)
    ]
    train("random", "qladder/Catch-v0", settings={"run": {"steps": 108, "seed": 3}}, out=tmp_path)
    found = find_runs([tmp_path])
    assert (sorted(run.agent for run in found.runs), found.left_out) == (["Ada", "random"], [])
    compare(found.runs)  # under one protocol


def test_a_key_let_go_is_held_no_more_and_a_short_press_counts(keyboard: Any, tmp_path: Path) -> None:
    keyboard.post(down(pygame.K_RIGHT))
    keyboard.post(pygame.event.Event(pygame.KEYUP, key=pygame.K_RIGHT))
    told = play_by_hand("CartPole-v1", settings={"run": {"episodes": 1}}, rate=FAST, out=tmp_path)
    right = told["agent_steps"]
    assert right < 12  # CartPole has no resting: the last action goes on
    assert told["returns"] == [right]
    pygame.display.init()
    for key in (down(pygame.K_LEFT), pygame.event.Event(pygame.KEYUP, key=pygame.K_LEFT)):
        keyboard.post(key)
    told = play_by_hand("qladder/Catch-v0", settings={"run": {"episodes": 12, "seed": 3}}, rate=FAST, out=tmp_path)
    touched = [walked_left(0, 1), *(walked_left(episode, 0) for episode in range(1, 12))]
    assert told["returns"] == touched != [walked_left(episode) for episode in range(12)]
    pygame.display.init()
    keyboard.post(down(pygame.K_ESCAPE))
    told = play_by_hand("CartPole-v1", rate=FAST, out=tmp_path, name="escaped")
    assert (told["agent_steps"], told["evaluation"]) == (0, None)
    assert json.loads((tmp_path / "escaped" / "summary.json").read_text())["exit_reason"] == "finished"


def test_a_game_of_turns_waits_for_keys(keyboard: Any, tmp_path: Path) -> None:
    pygame.time.set_timer(down(pygame.K_x), 1)  # a key that means nothing
    pygame.time.set_timer(down(pygame.K_RIGHT), 2)
    settings = {"env": {"kwargs": {"is_slippery": False}}, "run": {"episodes": 2}}
    told = play_by_hand("FrozenLake-v1", settings=settings, out=tmp_path)
    pygame.time.set_timer(down(pygame.K_RIGHT), 0)
    assert (told["agent_steps"], told["returns"]) == (200, [0.0, 0.0])  # along the upper edge, to the step limit


def test_atari_is_played_by_its_protocol(keyboard: Any, tmp_path: Path) -> None:
    settings = {"env": {"protocol": "atari-100k"}, "run": {"seed": 3}}
    told = play_by_hand("ALE/Pong-v5", settings=settings, minutes=0.05, rate=FAST, out=tmp_path)
    assert told["agent_steps"] > 10
    assert told["frames"] == 4 * told["agent_steps"]
    assert json.loads((Path(told["run"]) / "summary.json").read_text())["protocol"]["name"] == "atari-100k"


def test_what_cannot_be_played_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--minutes 0: must be above 0"):
        play_by_hand("CartPole-v1", minutes=0, out=tmp_path)
    with pytest.raises(UserError, match="--rate -1: must be above 0"):
        play_by_hand("CartPole-v1", rate=-1, out=tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with pytest.raises(UserError, match="'corridor:tests/Corridor-v0' draws no pictures"):
        play_by_hand("corridor:tests/Corridor-v0", out=tmp_path)
    with pytest.raises(UserError, match="a person is no agent that can be trained"):
        train("qladder.runners.person:Person", "CartPole-v1", out=tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "none-such")
    with pytest.raises(UserError, match="no window can be opened: none-such not available"):
        play_by_hand("CartPole-v1", out=tmp_path)
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(UserError, match="there is no display"):
        play_by_hand("CartPole-v1", out=tmp_path)
    assert list(tmp_path.iterdir()) == []
