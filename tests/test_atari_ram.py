"""Atari's memory as observations: against the bare emulator, starts, lives, caps, settings, and a run end to end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ale_py
import numpy as np
import pytest
from ale_py import roms
from numpy.typing import NDArray

from qladder.envs.atari import AtariEnv, AtariScreen
from qladder.envs.errors import UserError
from qladder.envs.make import make_env
from qladder.envs.protocol import Evaluation, Protocol
from qladder.runners.config import resolve
from qladder.runners.evaluation import play
from qladder.runners.loading import evaluate, load_run
from qladder.runners.runs import read_run
from qladder.runners.training import train
from qladder.runners.watch import watch

PLAIN = Protocol("plain", frame_skip=4, max_pool=True)
LIVES = replace(PLAIN, life_loss="discount-0")
RAM = {"obs_type": "ram"}


def emulator(game: str, protocol: Protocol, seed: int) -> ale_py.ALEInterface:
    """The bare single-game interface of ale-py, reset."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", protocol.sticky)
    ale.setInt("random_seed", seed)
    ale.loadROM(roms.get_rom_path(game) or "")
    ale.reset_game()
    return ale


def games(game: str, protocol: Protocol, seeds: list[int], *, training: bool = True) -> AtariEnv:
    return AtariEnv(f"ALE/{game}-v5", protocol, num_envs=len(seeds), seeds=seeds, training=training, ram=True)


def random_actions(env: AtariEnv, steps: int) -> NDArray[np.int64]:
    assert env.spec.num_actions is not None
    return np.random.default_rng(0).integers(env.spec.num_actions, size=(steps, env.spec.num_envs))


@pytest.mark.parametrize("sticky", [0.0, 0.25])
def test_observations_are_the_bare_emulators_memory(sticky: float) -> None:
    protocol = replace(LIVES, sticky=sticky)
    env = games("Asterix", protocol, [3, 8])
    bare = [emulator("asterix", protocol, seed) for seed in (3, 8)]
    actions = bare[0].getMinimalActionSet()
    first = env.reset()
    assert (first.shape, first.dtype) == ((2, 128), np.uint8)
    np.testing.assert_array_equal(first, [ale.getRAM() for ale in bare])
    ended, lost, rewards = 0, 0, set()
    for action in random_actions(env, 400):
        step = env.step(action)
        for i, ale in enumerate(bare):
            lives, reward = ale.lives(), 0
            for _ in range(4):
                reward += ale.act(actions[action[i]])
                if ale.game_over():
                    break
            over, fell = ale.game_over(), ale.lives() < lives
            np.testing.assert_array_equal(step.next_obs[i], ale.getRAM())  # of a finished game too
            assert (step.reward[i], step.discount[i], step.last[i]) == (reward, 0 if over or fell else 1, over)
            if over:
                ale.reset_game()
            np.testing.assert_array_equal(step.obs[i], ale.getRAM())
            ended, lost, rewards = ended + over, lost + (fell and not over), rewards | {reward}
    assert ended >= 2
    assert lost >= 2
    assert 50 in rewards  # raw


def test_memory_and_frames_tell_of_the_same_game() -> None:
    protocol = replace(LIVES, sticky=0.25, fire_reset=True, episode_cap=600)
    ram = games("Breakout", protocol, [5, 6])
    frames = AtariEnv("ALE/Breakout-v5", protocol, num_envs=2, seeds=[5, 6], training=True)
    ram.reset(), frames.reset()
    cuts = 0
    for action in random_actions(ram, 400):
        a, b = ram.step(action), frames.step(action)
        for ours, theirs in zip(a[1:4], b[1:4], strict=True):
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype
        cuts += int((a.discount == 0).sum())
    assert cuts > 2


def test_seeds_decide_everything() -> None:
    protocol = replace(PLAIN, sticky=0.25, noop_max=30)

    def memories(seeds: list[int]) -> NDArray[np.uint8]:
        env = games("Breakout", protocol, seeds)
        return np.array([env.reset()] + [env.step(np.full(len(seeds), t % 4)).obs for t in range(100)])

    both, swapped = memories([0, 7]), memories([7, 0])
    np.testing.assert_array_equal(both, swapped[:, ::-1])
    assert (both[:, 0] != both[:, 1]).any()


@pytest.mark.parametrize("noop_max", [0, 2])
def test_up_to_so_many_noops(noop_max: int) -> None:
    env = games("Asterix", replace(PLAIN, noop_max=noop_max), list(range(8)))
    seen = {memory.tobytes() for memory in env.reset()}
    ale, expected = emulator("asterix", PLAIN, 0), set()
    for _ in range(noop_max + 1):
        expected.add(ale.getRAM().tobytes())
        ale.act(0)
    assert len(expected) == noop_max + 1
    assert seen == expected


def test_fire_is_the_first_of_the_noops() -> None:
    """As ale-py's native environments do it: FIRE, then one no-op less than was drawn."""
    env = games("Breakout", replace(PLAIN, noop_max=2, fire_reset=True), list(range(8)))
    ale = emulator("breakout", PLAIN, 0)
    ale.act(1)
    expected = {ale.getRAM().tobytes()}
    ale.act(0)
    expected.add(ale.getRAM().tobytes())
    assert {memory.tobytes() for memory in env.reset()} == expected


@pytest.mark.parametrize(("training", "discount"), [(True, 0.0), (False, 1.0)])
def test_a_lost_life_cuts_the_bootstrap_in_training_only(training: bool, discount: float) -> None:
    env = games("Breakout", replace(LIVES, fire_reset=True), [0], training=training)
    env.reset()
    steps = [env.step([0]) for _ in range(60)]  # the ball is served once, and missed
    assert not any(step.last[0] for step in steps)
    assert min(step.discount[0] for step in steps) == discount
    assert sum(step.discount[0] == 0 for step in steps) == (1 if training else 0)


@pytest.mark.parametrize(("training", "evaluation_cap", "steps"), [(True, 20, 10), (False, 20, 5), (False, None, 10)])
def test_caps_truncate(training: bool, evaluation_cap: int | None, steps: int) -> None:
    protocol = replace(PLAIN, episode_cap=40, evaluation=Evaluation(episode_cap=evaluation_cap))
    env, ale = games("Pong", protocol, [0], training=training), emulator("pong", PLAIN, 0)
    start = env.reset()
    for t in range(2 * steps):
        step = env.step([0])
        for _ in range(4):
            ale.act(0)
        np.testing.assert_array_equal(step.next_obs[0], ale.getRAM())
        assert (step.discount[0], step.last[0]) == (1, t % steps == steps - 1)
        if step.last[0]:
            np.testing.assert_array_equal(step.obs, start)
            ale.reset_game()


def test_spec_and_actions() -> None:
    spec = games("Pong", replace(PLAIN, episode_cap=108_000), [0, 1]).spec
    assert (spec.obs_shape, spec.obs_dtype, spec.stack) == ((128,), "uint8", 1)
    assert (spec.frames_per_step, spec.max_episode_steps, spec.num_actions) == (4, 27_000, 6)
    env = games("Pong", replace(PLAIN, full_action_space=True), [0])
    assert env.spec.num_actions == 18
    env.reset()
    with pytest.raises(ValueError, match="allowed are 0 to 17"):
        env.step([18])


def test_screens_show_the_game_whose_memory_is_observed() -> None:
    protocol = replace(PLAIN, sticky=0.25, noop_max=30)
    screen, bare = AtariScreen("ALE/Pong-v5", protocol, 4, ram=True), AtariScreen("ALE/Pong-v5", PLAIN, 4)
    assert screen.reset().shape == bare.reset().shape == screen.spec.obs_shape
    env = games("Pong", protocol, [4], training=False)
    env.reset()
    for action in random_actions(env, 300)[:, 0]:
        assert screen.step(action).reward == env.step([action]).reward[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kwargs": {"obs_type": "rma"}}, r"obs_type = 'rma'; did you mean 'ram'\?"),
        ({"kwargs": {"obstype": "ram"}}, r"not obstype = 'ram'; did you mean 'obs_type'\?"),
        ({"kwargs": {**RAM, "mode": 1}}, r"no kwargs but obs_type = 'ram', not mode = 1 \(--protocol\.RULE"),
    ],
)
def test_other_arguments_are_refused(options: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make_env("ALE/Pong-v5", PLAIN, seed=0, batched=True, **options)


def test_an_unknown_game_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'ALE/Pong-v5'"):
        make_env("ALE/Pnog-v5", PLAIN, seed=0, batched=True, kwargs=RAM)


def test_settings_are_those_for_frames_but_for_the_layers() -> None:
    ram, frames = (resolve("dqn", "ALE/Pong-v5", {"env": {"kwargs": kwargs}}) for kwargs in (RAM, {}))
    assert (ram.family, ram.agent.network, frames.family, frames.agent.network) == (
        "atari-ram", "mlp", "atari", "nature-cnn",
    )  # fmt: skip
    assert ram.protocol == frames.protocol
    assert replace(ram.agent, network="nature-cnn", hidden=(512,)) == frames.agent
    assert (ram.replay, ram.run) == (frames.replay, frames.run)
    assert resolve("c51", "ALE/Pong-v5", {"env": {"kwargs": RAM}}).agent.support == (-10.0, 10.0)


def test_a_run_from_training_to_a_recording(tmp_path: Path) -> None:
    settings = {
        "protocol": {"evaluation": {"episodes": 3, "episode_cap": 400}},
        "env": {"kwargs": RAM, "num_envs": 2},
        "replay": {"capacity": 1_000, "batch_size": 8},
        "run": {"steps": 300, "learning_starts": 100, "eval_every": 150, "eval_episodes": 1, "threads": 1},
    }
    result = train("dqn", "ALE/Pong-v5", settings=settings, out=tmp_path)
    assert (result["agent_steps"], result["frames"], result["updates"]) == (300, 1_200, 50)
    scored = result["evaluation"]
    assert (scored["episodes"], len(scored["returns"])) == (3, 3)
    assert scored["human_normalized"] is None  # of 400 frames a person's score says nothing
    assert evaluate(result["run"])["returns"] == scored["returns"]
    run = read_run(result["run"])
    assert (run.env, run.family) == ("ALE/Pong-v5 (obs_type=ram)", "atari-ram")

    film = watch(result["run"], record=tmp_path / "pong.gif")
    assert film["frames"] == 101  # the episode's start and 100 agent steps
    config, policy, _ = load_run(result["run"])
    assert film["returns"] == play(config, policy, 1, 0, "watch").returns
