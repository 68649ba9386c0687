"""Atari: every step against the bare emulator, ends of episodes, lives, caps, seeds, options and errors."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import fields, replace
from importlib.resources import files
from typing import Any, NamedTuple

import ale_py
import numpy as np
import pytest
from ale_py import roms
from gymnasium import spaces
from numpy.typing import NDArray

from qladder.envs.atari import AtariEnv, AtariScreen, rom_md5
from qladder.envs.errors import UserError
from qladder.envs.protocol import Evaluation, Protocol
from qladder.envs.spec import TimeStep

PLAIN = Protocol("plain", frame_skip=4, max_pool=True)
LIVES = replace(PLAIN, life_loss="discount-0")
NOOP = 0


class Reference(NamedTuple):
    """What the bare emulator shows after one agent step."""

    picture: NDArray[np.uint8]
    reward: int
    lives: int
    over: bool


class Emulator:
    """The single-game interface of ale-py, played by a protocol as naively as can be."""

    def __init__(self, game: str, protocol: Protocol, seed: int) -> None:
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.ale, self.protocol = ale_py.ALEInterface(), protocol
        self.ale.setFloat("repeat_action_probability", protocol.sticky)
        self.ale.setInt("random_seed", seed)
        self.ale.loadROM(roms.get_rom_path(game) or "")
        self.actions = self.ale.getMinimalActionSet()
        self.ale.reset_game()

    def step(self, action: int) -> Reference:
        pictures, reward = [self.ale.getScreenRGB()], 0
        for _ in range(self.protocol.frame_skip):
            reward += self.ale.act(self.actions[action])
            pictures.append(self.ale.getScreenRGB())
            if self.ale.game_over():
                break
        newest = np.maximum(*pictures[-2:]) if self.protocol.max_pool else pictures[-1]
        return Reference(newest, reward, self.ale.lives(), self.ale.game_over())


def random_actions(env: AtariEnv | AtariScreen, steps: int) -> NDArray[np.int64]:
    assert env.spec.num_actions is not None
    return np.random.default_rng(0).integers(env.spec.num_actions, size=(steps, env.spec.num_envs))


def play(env: AtariEnv, steps: int) -> Iterator[tuple[Any, TimeStep]]:
    """Pairs of what was observed before a random step, and its result."""
    obs = env.reset()
    for action in random_actions(env, steps):
        step = env.step(action)
        yield obs, step
        obs = step.obs
    env.close()


def one(game: str, protocol: Protocol, *, training: bool = True, seed: int = 1) -> AtariEnv:
    return AtariEnv(f"ALE/{game}-v5", protocol, num_envs=1, seeds=[seed], training=training)


@pytest.mark.parametrize(
    ("protocol", "ends"),
    [
        (LIVES, 1),
        (replace(LIVES, sticky=0.25, max_pool=False), 1),
        (replace(LIVES, sticky=0.25, frame_skip=3, episode_cap=200), 6),
        (replace(LIVES, frame_skip=1, max_pool=False), 0),
        (replace(LIVES, life_loss="ignore"), 1),
    ],
    ids=["plain", "sticky-unpooled", "capped", "every-frame", "lives-ignored"],
)
def test_environment_and_screen_play_what_the_bare_emulator_plays(protocol: Protocol, ends: int) -> None:
    cap = None if protocol.episode_cap is None else protocol.episode_cap // protocol.frame_skip
    env = one("Asterix", protocol, seed=3)
    screen = AtariScreen("ALE/Asterix-v5", protocol, 3, training=True)
    emulator = Emulator("asterix", protocol, 3)
    env.reset()
    np.testing.assert_array_equal(screen.reset(), emulator.ale.getScreenRGB())
    lives, steps, ended, rewards = emulator.ale.lives(), 0, 0, set()
    for action in random_actions(env, 400)[:, 0]:
        expected, seen, played = emulator.step(action), screen.step(action), env.step([action])
        steps += 1
        last = expected.over or steps == cap
        lost = protocol.life_loss == "discount-0" and expected.lives < lives
        discount = 0.0 if expected.over or lost else 1.0
        assert (seen.reward, seen.discount, seen.last) == (expected.reward, discount, last)
        assert (played.reward, played.discount, played.last) == (expected.reward, discount, last)
        if not expected.over:  # of a finished game ale-py shows the picture before; nobody bootstraps from it
            np.testing.assert_array_equal(seen.next_obs, expected.picture)
        if last:
            emulator.ale.reset_game()
            steps, ended = 0, ended + 1
        lives = emulator.ale.lives()
        np.testing.assert_array_equal(seen.obs, emulator.ale.getScreenRGB() if last else seen.next_obs)
        rewards.add(expected.reward)
    assert ended == ends
    assert 50 in rewards  # raw


def test_grey_pictures_have_the_luminance_of_the_screen() -> None:
    protocol = replace(PLAIN, max_pool=False, screen=40, stack=3)
    env, screen = one("MsPacman", protocol), AtariScreen("ALE/MsPacman-v5", protocol, 1)
    pairs = [(env.reset()[0, -1], screen.reset())]
    pairs += [(env.step([a]).next_obs[0, -1], screen.step(a).next_obs) for a in random_actions(env, 30)[:, 0]]
    assert env.spec.obs_shape == (3, 40, 40)
    assert screen.spec.obs_shape == (210, 160, 3)
    assert not screen.spec.batched
    for grey, picture in pairs:
        assert grey.shape == (40, 40)
        assert grey.mean() == pytest.approx(picture.mean(axis=(0, 1)) @ [0.2989, 0.587, 0.114], abs=0.6)


def test_stacks_continue_to_the_end_of_an_episode_and_start_empty() -> None:
    env = AtariEnv("ALE/Asterix-v5", LIVES, num_envs=3, seeds=[1, 2, 3], training=True)
    ends, lost = np.zeros(3, int), np.zeros(3, int)
    for before, step in play(env, 335):
        np.testing.assert_array_equal(step.next_obs[:, :-1], before[:, 1:])  # lost lives and ends included
        np.testing.assert_array_equal(step.obs[~step.last], step.next_obs[~step.last])
        assert not step.obs[step.last, :-1].any()
        assert step.obs[step.last, -1].any(axis=(1, 2)).all()
        assert (step.discount[step.last] == 0).all()
        ends += step.last
        lost += (step.discount == 0) & ~step.last & (ends == 0)
        assert step.obs.dtype == step.next_obs.dtype == np.uint8
        assert step.reward.dtype == step.discount.dtype == np.float32
    assert (ends >= 1).all()
    assert lost.tolist() == [2, 2, 2]  # of three lives, the last ends the game


def test_a_last_life_shown_as_0_is_a_life() -> None:
    lost, ended = 0, False
    for _, step in play(one("Frogger", LIVES), 400):
        lost += bool(step.discount[0] == 0 and not step.last[0])
        if step.last[0]:
            ended = True
            break
    assert ended
    assert lost == 4  # Frogger counts 4, 3, 2, 1, 0 and only then is over


class Lives:
    """ale-py's interface to a game of which only the lives are told; over when the script is."""

    single_action_space = spaces.Discrete(2)

    def __init__(self, lives: list[int]) -> None:
        self._script, self._t = lives, 0

    def reset(self, **_: Any) -> Any:
        self._t = 0
        return self._told()

    def step(self, action: Any) -> Any:
        self._t += 1
        obs, info = self._told()
        return obs, np.zeros(1), np.array([self._t == len(self._script) - 1]), np.array([False]), info

    def _told(self) -> Any:
        return np.full((1, 4, 84, 84), self._t, np.uint8), {"lives": np.array(self._script[self._t : self._t + 1])}


def test_a_fall_in_lives_cuts_and_a_gain_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qladder.envs.atari._vector", lambda *_: Lives([3, 3, 2, 3, 2, 2, 1, 0, 0]))
    env = one("Asterix", LIVES)
    env.reset()
    for _ in range(2):  # the second game starts with more lives than the first one ended with
        steps = [env.step([NOOP]) for _ in range(8)]
        assert [step.discount[0] for step in steps] == [1, 0, 1, 0, 1, 0, 0, 0]
        assert [step.last[0] for step in steps] == [False] * 7 + [True]
        assert [step.next_obs[0, -1, 0, 0] for step in steps] == [1, 2, 3, 4, 5, 6, 7, 8]
        assert steps[-1].obs[0, -1, 0, 0] == 0


def test_lives_are_counted_afresh_in_every_episode() -> None:
    """In 200 frames after FIRE an idle player of Breakout loses one life, and the cap ends the game."""
    env = one("Breakout", replace(LIVES, frame_skip=200, fire_reset=True, episode_cap=200))
    env.reset()
    steps = [env.step([NOOP]) for _ in range(3)]
    assert [(step.discount[0], step.last[0]) for step in steps] == [(0, True)] * 3


def test_evaluation_ignores_lost_lives() -> None:
    training = [step for _, step in play(one("Asterix", LIVES), 300)]
    evaluation = [step for _, step in play(one("Asterix", LIVES, training=False), 300)]
    assert [s.reward for s in training] == [s.reward for s in evaluation]
    assert [s.last for s in training] == [s.last for s in evaluation]
    assert sum(s.discount[0] == 0 for s in training) >= 3
    assert [s.discount[0] == 0 for s in evaluation] == [bool(s.last[0]) for s in evaluation]
    assert any(s.last[0] for s in evaluation)


@pytest.mark.parametrize(
    ("training", "evaluation_cap", "steps"), [(True, 20, 10), (False, 20, 5), (False, None, 10), (False, 64, 16)]
)
def test_caps_truncate(training: bool, evaluation_cap: int | None, steps: int) -> None:
    protocol = replace(PLAIN, episode_cap=40, noop_max=5, evaluation=Evaluation(episode_cap=evaluation_cap))
    env = AtariEnv("ALE/Pong-v5", protocol, num_envs=2, seeds=[0, 1], training=training)
    assert env.spec.max_episode_steps == steps
    for t, (before, step) in enumerate(play(env, 35), start=1):
        assert step.last.tolist() == [t % steps == 0] * 2  # no-ops do not count
        assert (step.discount == 1).all()
        np.testing.assert_array_equal(step.next_obs[:, :-1], before[:, 1:])
        assert step.obs[:, :-1].any() == (not step.last[0])


def test_each_environment_has_an_episode_length_of_its_own() -> None:
    """Klax is over at different times in different environments; the cap counts from each one's own start."""
    protocol = replace(PLAIN, sticky=0.25, episode_cap=4 * 120)
    env = AtariEnv("ALE/Klax-v5", protocol, num_envs=3, seeds=[1, 2, 3], training=True)
    length, lengths = np.zeros(3, int), set()
    for _, step in play(env, 250):
        length += 1
        assert (step.last == ((step.discount == 0) | (length == 120))).all()
        lengths |= set(length[step.last].tolist())
        length[step.last] = 0
    assert max(lengths) == 120
    assert len(lengths) > 1


def test_game_over_wins_where_the_cap_falls_on_it() -> None:
    over = next(t for t, (_, step) in enumerate(play(one("Klax", PLAIN), 200), start=1) if step.last[0])
    for cap, discount in ((over, 0), (over - 1, 1)):
        *before, (_, last) = play(one("Klax", replace(PLAIN, episode_cap=4 * cap)), cap)
        assert not any(step.last[0] for _, step in before)
        assert last.last[0]
        assert last.discount[0] == discount


def test_seeds_decide_everything() -> None:
    protocol = replace(PLAIN, sticky=0.25, noop_max=30)

    def games(seeds: list[int], num_threads: int) -> NDArray[np.uint8]:
        env = AtariEnv(
            "ALE/Breakout-v5", protocol, num_envs=len(seeds), seeds=seeds, training=True, num_threads=num_threads
        )
        obs = [env.reset()] + [env.step(np.full(len(seeds), t % 4)).obs for t in range(150)]
        return np.stack(obs, axis=1)[:, :, -1]

    one_thread, two_threads = games([7, 7, 8], 1), games([7, 7, 8], 2)
    np.testing.assert_array_equal(one_thread, two_threads)
    np.testing.assert_array_equal(one_thread[0], one_thread[1])
    assert (one_thread[0] != one_thread[2]).any()
    np.testing.assert_array_equal(games([8], 1)[0], one_thread[2])  # the position among the others does not count


def test_sticky_actions_change_the_game() -> None:
    plain, sticky = ([s.next_obs for _, s in play(one("Breakout", replace(PLAIN, sticky=p)), 40)] for p in (0, 0.25))
    assert any((a != b).any() for a, b in zip(plain, sticky, strict=True))


@pytest.mark.parametrize("noop_max", [0, 2])
def test_up_to_so_many_noops(noop_max: int) -> None:
    emulator = Emulator("asterix", replace(PLAIN, frame_skip=1, max_pool=False), 0)
    starts = [emulator.ale.getScreenRGB()] + [emulator.step(NOOP).picture for _ in range(4)]
    protocol = replace(PLAIN, noop_max=noop_max)
    env = AtariEnv("ALE/Asterix-v5", protocol, num_envs=8, seeds=range(8), training=True, rgb=True)
    seen = [[k for k, start in enumerate(starts) if (obs[0] == start).all()] for obs in env.reset()]
    assert all(len(k) == 1 for k in seen)  # the starts can be told apart
    assert {k[0] for k in seen} == set(range(noop_max + 1))


def test_fire_serves_the_ball() -> None:
    def lives_lost(protocol: Protocol) -> int:
        env = one("Breakout", protocol)
        env.reset()
        return sum(env.step([NOOP]).discount[0] == 0 for _ in range(60))

    assert lives_lost(LIVES) == 0
    assert lives_lost(replace(LIVES, fire_reset=True)) == 1


def test_action_sets() -> None:
    assert one("Pong", PLAIN).spec.num_actions == 6
    assert one("Pong", replace(PLAIN, full_action_space=True)).spec.num_actions == 18


def test_spec() -> None:
    env = AtariEnv("ALE/Pong-v5", replace(PLAIN, episode_cap=108_000), num_envs=2, seeds=[0, 1], training=True)
    assert (env.spec.id, env.spec.num_envs, env.spec.batched) == ("ALE/Pong-v5", 2, True)
    assert (env.spec.obs_shape, env.spec.obs_dtype, env.spec.num_states) == ((4, 84, 84), "uint8", None)
    assert (env.spec.stack, env.spec.frames_per_step, env.spec.max_episode_steps) == (4, 4, 27_000)
    assert env.reset().shape == (2, 4, 84, 84)


@pytest.mark.parametrize("action", [[0, 6], [-1, 0]])
def test_an_action_that_there_is_not_is_refused_at_once(action: list[int]) -> None:
    env = AtariEnv("ALE/Pong-v5", PLAIN, num_envs=2, seeds=[0, 1], training=True)
    env.reset()
    with pytest.raises(ValueError, match="allowed are 0 to 5"):
        env.step(np.array(action))
    env.step(np.array([0, 5]))


def test_an_unknown_game_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'ALE/Breakuot-v5': no such Atari game; did you mean 'ALE/Breakout-v5'\?"):
        one("Breakuot", PLAIN)


def test_pooling_needs_two_frames() -> None:
    with pytest.raises(UserError, match="protocol 'plain': max_pool"):
        one("Pong", replace(PLAIN, frame_skip=1))


def test_missing_roms(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"^environment 'ALE/Pong-v5': .*pong\.bin"):
        one("Pong", PLAIN)
    with pytest.raises(UserError, match=r"^environment 'ALE/Pong-v5': .*pong\.bin"):
        rom_md5("ALE/Pong-v5")
    assert capsys.readouterr().out == ""  # for --json


def test_rom_md5() -> None:
    assert rom_md5("ALE/Pong-v5") == "60e0ea3cbe0913d39803477945e9e5ec"


def load(name: str) -> tuple[dict[str, Any], Protocol]:
    data = tomllib.loads((files("qladder.configs") / "protocols" / f"{name}.toml").read_text())
    return data, Protocol(**{**data, "evaluation": Evaluation(**data["evaluation"])})


def test_protocol_files_leave_nothing_to_defaults() -> None:
    for name in ("nature-2015", "machado-2018"):
        data, protocol = load(name)
        assert protocol.name == name
        assert set(data) == {f.name for f in fields(Protocol)}
        assert (protocol.frame_skip, protocol.max_pool, protocol.screen, protocol.stack) == (4, True, 84, 4)
        assert (protocol.clip_rewards, protocol.episode_cap, protocol.full_action_space) == (True, 108_000, False)


def test_protocols_differ_where_the_papers_do() -> None:
    nature, machado = load("nature-2015")[1], load("machado-2018")[1]
    assert (nature.sticky, nature.noop_max, nature.life_loss) == (0.0, 30, "discount-0")
    assert nature.evaluation == Evaluation(epsilon=0.05, episodes=30, episode_cap=5 * 60 * 60)  # five minutes
    assert (machado.sticky, machado.noop_max, machado.life_loss) == (0.25, 0, "ignore")
    assert machado.evaluation == Evaluation(epsilon=0.01, episodes=100, episode_cap=None)
