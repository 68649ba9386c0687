"""Hidden dimensions: against the whole environment, Gymnasium's own checker, and what is refused."""

from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from qladder.envs import masked
from qladder.envs.errors import UserError
from qladder.envs.make import make_env
from qladder.envs.masked import VELOCITIES, Without, hide_velocities
from qladder.envs.stacked import stack_4
from qladder.runners.config import resolve
from qladder.runners.protocols import load_protocol
from qladder.runners.shipped import family_of


def test_hidden_cart_pole_is_cart_pole_without_its_velocities() -> None:
    whole, hidden = gymnasium.make("CartPole-v1"), gymnasium.make("qladder/CartPoleHidden-v0")
    (obs, _), (seen, _) = whole.reset(seed=3), hidden.reset(seed=3)
    terminated = False
    while not terminated:
        assert seen.tolist() == [obs[0], obs[2]]
        (obs, *told), (seen, *rest) = whole.step(1), hidden.step(1)
        assert told == rest
        terminated = bool(told[1])
    assert hidden.spec is not None
    assert hidden.spec.max_episode_steps == 500
    low, high = (getattr(hidden.observation_space, side) for side in ("low", "high"))
    assert whole.observation_space.low[[0, 2]].tolist() == low.tolist()  # type: ignore[attr-defined]
    assert whole.observation_space.high[[0, 2]].tolist() == high.tolist()  # type: ignore[attr-defined]


def test_registered_and_checked() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make("qladder/CartPoleHidden-v0").unwrapped, skip_render_check=True)
    spec = gymnasium.spec("qladder/CartPoleHidden-v0")
    masked.register()
    assert gymnasium.spec("qladder/CartPoleHidden-v0") is spec


def test_the_family_and_the_protocol_are_cart_poles() -> None:
    assert family_of("qladder/CartPoleHidden-v0") == "classic"
    hidden, whole = (resolve("dqn", name, {}) for name in ("qladder/CartPoleHidden-v0", "CartPole-v1"))
    assert (hidden.protocol, hidden.agent, hidden.replay) == (whole.protocol, whole.agent, whole.replay)


@pytest.mark.parametrize("name", ["CartPole-v1", "MountainCar-v0", "Acrobot-v1", "Pendulum-v1"])
def test_what_is_left_is_as_it_was(name: str) -> None:
    env = gymnasium.make(name)
    hidden = VELOCITIES[name.partition("-")[0]]
    obs, _ = env.reset(seed=0)
    wrapped = hide_velocities(gymnasium.make(name))
    seen, _ = wrapped.reset(seed=0)
    assert seen.tolist() == np.delete(obs, hidden).tolist()
    assert wrapped.observation_space.contains(seen)


def test_as_a_wrapper_on_the_command_line() -> None:
    wrappers = ["qladder.envs.masked:hide_velocities"]
    env = make_env("MountainCar-v0", load_protocol("classic"), seed=0, wrappers=wrappers, batched=True, num_envs=2)
    assert env.spec.obs_shape == (1,)
    assert env.reset().shape == (2, 1)
    env.close()
    with pytest.raises(UserError, match="hide_velocities: 'qladder/Catch' is none of Acrobot, CartPole"):
        make_env("qladder/Catch-v0", load_protocol("classic"), seed=0, wrappers=wrappers)


def test_velocities_are_hidden_before_vectors_are_stacked() -> None:
    """In a stack they would be those of its oldest vector alone."""
    assert stack_4(hide_velocities(gymnasium.make("CartPole-v1"))).observation_space.shape == (8,)
    with pytest.raises(UserError, match=r"must be the first wrapper; CartPole shows \(4,\), and it is given \(16,\)"):
        hide_velocities(stack_4(gymnasium.make("CartPole-v1")))


@pytest.mark.parametrize("hidden", [(4,), (-1,), (0, 1, 2, 3)])
def test_dimensions_that_cannot_be_hidden(hidden: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="some, not all, of 0 to 3 are allowed"):
        Without(gymnasium.make("CartPole-v1"), hidden)


def test_only_vectors_have_dimensions_to_hide() -> None:
    with pytest.raises(UserError, match="is no vector"):
        Without(gymnasium.make("FrozenLake-v1"), (0,))
