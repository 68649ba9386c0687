"""Recordings: their pictures, their speed, the returns beside them, and what is refused."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from PIL import Image

from qladder.envs.atari import AtariScreen
from qladder.envs.catch import Catch
from qladder.envs.errors import UserError
from qladder.envs.seeding import generator, integer
from qladder.runners import checkpoint
from qladder.runners import watch as module
from qladder.runners.config import resolve
from qladder.runners.evaluation import play
from qladder.runners.loading import load_run, make_agent, make_environment
from qladder.runners.run_folder import write_config
from qladder.runners.training import train
from qladder.runners.watch import watch

SETTINGS = {"run": {"steps": 300, "seed": 3}}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A short run of an agent with plain values."""
    return train("q-learning", "FrozenLake-v1", settings=SETTINGS, out=tmp_path_factory.mktemp("lake"))["run"]


@pytest.fixture(scope="module")
def catch(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A short run of an agent with arrays, and random when it is evaluated."""
    return train("random", "qladder/Catch-v0", settings=SETTINGS, out=tmp_path_factory.mktemp("catch"))["run"]


def read(path: Path) -> tuple[list[np.ndarray[Any, Any]], list[int]]:
    """The pictures of a GIF and how many milliseconds each lasts."""
    pictures, milliseconds = [], []
    with Image.open(path) as image:
        assert image.info["loop"] == 0  # for ever
        for i in range(image.n_frames):
            image.seek(i)
            milliseconds.append(image.info["duration"])
            pictures.append(np.array(image.convert("RGB")))
    return pictures, milliseconds


def spots(picture: np.ndarray[Any, Any]) -> set[tuple[int, int]]:
    """Row and column of the white cells of Catch."""
    return {(int(row), int(column)) for row, column in np.argwhere(picture[8::16, 8::16, 0] > 127)}


def test_catch_shows_every_step_from_the_start_to_the_catch(catch: str, tmp_path: Path) -> None:
    record = tmp_path / "catch.gif"
    result = watch(catch, record=record, episodes=3, seed=5)
    pictures, milliseconds = read(record)

    assert (result["run"], result["record"], result["frames"]) == (catch, str(record), 30)
    assert [p.shape for p in pictures] == [(160, 160, 3)] * 30
    assert milliseconds == [100] * 30  # Catch says 10 a second
    for episode, score in enumerate(result["returns"]):
        shown = [spots(p) for p in pictures[10 * episode : 10 * episode + 10]]
        first = Catch()
        first.reset(seed=integer(5, "watch", 0, episode))
        assert shown[0] == {(0, first._column), (9, 5)}
        balls = [{cell for cell in cells if cell[0] == row} for row, cells in enumerate(shown[:9])]
        assert balls == [{(row, first._column)} for row in range(9)]
        assert (len(shown[9]) == 1) == (score == 1.0)  # caught: ball and paddle are one cell
    assert sorted(p.name for p in tmp_path.iterdir()) == ["catch.gif"]


def test_the_same_seed_gives_the_same_recording_and_another_does_not(catch: str, tmp_path: Path) -> None:
    for name, seed in (("a.gif", 0), ("b.gif", 0), ("c.gif", 1)):
        watch(catch, record=tmp_path / name, seed=seed)
    a, b, c = ((tmp_path / name).read_bytes() for name in ("a.gif", "b.gif", "c.gif"))
    assert a == b != c


def test_frozen_lake_plays_what_evaluation_plays(lake: str, tmp_path: Path) -> None:
    record = tmp_path / "lake.gif"
    result = watch(lake, record=record, episodes=4, seed=2)
    pictures, milliseconds = read(record)

    config, policy, _ = load_run(lake)
    assert result["returns"] == play(config, policy, 4, 2, "watch").returns
    env = gymnasium.make("FrozenLake-v1", max_episode_steps=100)
    steps = 0
    for episode in range(4):
        state, over = env.reset(seed=integer(2, "watch", 0, episode))[0], False
        while not over:
            state, _, terminated, truncated, _ = env.step(policy.act(state))
            over = terminated or truncated
            steps += 1
    assert result["frames"] == steps + 4
    assert sum(milliseconds) == 250 * (steps + 4)  # 4 a second; a picture that stays lasts longer
    assert all((a != b).any() for a, b in pairwise(pictures))


def test_large_pictures_are_halved_and_run_at_the_environments_speed(tmp_path: Path) -> None:
    run = untrained("random", "CartPole-v1", tmp_path / "run")
    result = watch(run, record=tmp_path / "pole.GIF")
    pictures, milliseconds = read(tmp_path / "pole.GIF")
    assert {p.shape for p in pictures} == {(200, 300, 3)}
    assert result["returns"] == [result["frames"] - 1]  # one point a step
    assert sum(milliseconds) == 20 * result["frames"]
    assert len(pictures) > 5


def test_atari_in_full_colour_and_real_time(tmp_path: Path) -> None:
    run = untrained("random", "ALE/Pong-v5", tmp_path / "run")
    result = watch(run, record=tmp_path / "pong.gif", seed=1)
    pictures, milliseconds = read(tmp_path / "pong.gif")

    config, policy, _ = load_run(run)
    assert result["returns"] == play(config, policy, 1, 1, "watch").returns
    assert sum(milliseconds) == round(100 * result["frames"] / 15) * 10  # 60 frames a second, 4 a step
    screen = AtariScreen("ALE/Pong-v5", config.protocol, integer(1, "watch", 0))
    shown, rng = [screen.reset()], generator(1, "watch-epsilon")
    last, total = False, 0.0
    while not last:  # the random agent's draws, as evaluation makes them
        rng.random(1)
        _, reward, _, last, picture = screen.step(int(rng.integers(6, size=1)[0]))
        shown.append(picture)
        total += reward
    screen.close()
    assert ([total], len(shown)) == (result["returns"], result["frames"])
    kept = [a for a, b in zip(shown, [None, *shown], strict=False) if b is None or (a != b).any()]
    np.testing.assert_array_equal(pictures, kept)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio leaves pipes open
def test_mp4(catch: str, tmp_path: Path) -> None:
    imageio = pytest.importorskip("imageio.v2")
    pytest.importorskip("imageio_ffmpeg")
    result = watch(catch, record=tmp_path / "catch.mp4", episodes=2)
    with imageio.get_reader(tmp_path / "catch.mp4") as reader:
        pictures, about = [picture for picture in reader], reader.get_meta_data()  # noqa: C416  # its length is infinite
    assert (len(pictures), about["fps"], about["size"]) == (result["frames"], 10, (160, 160))
    assert spots(pictures[0]) != spots(pictures[5])
    assert [p.name for p in tmp_path.iterdir()] == ["catch.mp4"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("film.avi", r"--record .*film.avi: must end in .gif or .mp4"),
        ("film", r"must end in .gif or .mp4"),
        ("nowhere/film.gif", r"there is no folder .*nowhere"),
        ("folder.gif", r"is a folder"),
        ("f" * 250 + ".gif", r"cannot be written \(File name too long\)"),
    ],
)
def test_recordings_that_cannot_be_written(catch: str, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.gif").mkdir()
    with pytest.raises(UserError, match=message):
        watch(catch, record=tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.gif"]


def test_a_failure_keeps_the_recording_that_was_there(
    catch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "film.gif"
    record.write_bytes(b"before")
    with pytest.raises(UserError, match="not a run folder"):
        watch(tmp_path, record=record)

    render = Catch.render

    def broken(self: Catch) -> Any:
        if self._row == 5:
            raise KeyboardInterrupt
        return render(self)

    monkeypatch.setattr(Catch, "render", broken)
    with pytest.raises(KeyboardInterrupt):
        watch(catch, record=record)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("film.gif", b"before")]


def test_missing_packages_name_their_extra(
    catch: str, lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio", None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(UserError, match=r"make extras EXTRAS=video.*record a \.gif"):
        watch(catch, record=tmp_path / "film.mp4")
    with pytest.raises(UserError, match=r"FrozenLake-v1' needs pygame to draw: in qladder's folder `make extras"):
        watch(lake, record=tmp_path / "film.gif")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a display needs no variable")
def test_without_a_display(catch: str, lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(UserError, match=r"no display.*--record FILE.gif"):
        watch(catch)
    monkeypatch.setenv("DISPLAY", ":77")  # nobody there
    monkeypatch.setenv("MPLBACKEND", "agg")
    with pytest.raises(UserError, match=r"can open no window here.*--record FILE.gif"):
        watch(catch)
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")
    with pytest.raises(UserError, match=r"FrozenLake-v1' cannot draw: .*--record FILE.gif"):
        watch(lake)


def test_a_window_of_the_environments_own(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame")
    monkeypatch.setenv("DISPLAY", ":77")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setitem(gymnasium.envs.toy_text.frozen_lake.FrozenLakeEnv.metadata, "render_fps", 1000)
    config, policy, _ = load_run(lake)
    assert watch(lake, seed=2)["returns"] == play(config, policy, 1, 2, "watch").returns


def test_impossible_numbers(catch: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--episodes 0"):
        watch(catch, record=tmp_path / "film.gif", episodes=0)
    with pytest.raises(UserError, match="--seed -1"):
        watch(catch, record=tmp_path / "film.gif", seed=-1)


def test_a_gif_is_timed_in_hundredths_of_a_second_without_drift(tmp_path: Path) -> None:
    film = [np.full((4, 6, 3), 20 * i, np.uint8) for i in range(7)]
    module._write_gif(tmp_path / "film.gif", film, 15.0)
    assert read(tmp_path / "film.gif")[1] == [70, 60, 70, 70, 60, 70, 70]


def untrained(agent: str, env: str, folder: Path) -> Path:
    """A run folder of an agent that has not learnt; an Atari run's own evaluation would take minutes."""
    config = resolve(agent, env, {"run": {"steps": 100, "seed": 4}})
    folder.mkdir()
    write_config(folder, config)
    made = make_environment(config, batched=True)
    made.close()
    state = make_agent(config, made.spec, "cpu").state_dict()
    checkpoint.save(folder, 0, {"agent": state, "run": {"agent_steps": 0}})
    return folder
