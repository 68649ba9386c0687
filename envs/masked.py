"""Environments of which a part is hidden: observations without some of their dimensions, such as velocities."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from qladder.envs.errors import UserError

Env = gymnasium.Env[Any, Any]

VELOCITIES = {  # by Gymnasium's name: the dimensions that are velocities, angular ones too
    "Acrobot": (4, 5),
    "CartPole": (1, 3),
    "LunarLander": (2, 3, 5),
    "MountainCar": (1,),
    "MountainCarContinuous": (1,),
    "Pendulum": (2,),
}


class Without(gymnasium.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """A vector without the dimensions `hidden`; the others keep their order and bounds.

    Raises:
        UserError: observations that are no vector, a dimension that there is not, or none that would be left.
    """

    def __init__(self, env: Env, hidden: tuple[int, ...]) -> None:
        RecordConstructorArgs.__init__(self, hidden=hidden)
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise UserError(f"hidden dimensions {list(hidden)}: {space} is no vector")
        size = space.shape[0]
        if not all(0 <= d < size for d in hidden) or len(set(hidden)) == size:
            raise UserError(f"hidden dimensions {list(hidden)}: some, not all, of 0 to {size - 1} are allowed")
        self._seen = np.setdiff1d(np.arange(size), hidden)
        self.observation_space = gymnasium.spaces.Box(
            space.low[self._seen],
            space.high[self._seen],
            dtype=space.dtype.type,
        )

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        return observation[self._seen]


def hide_velocities(env: Env) -> Env:
    """As a wrapper of any classic control task: `--env.wrappers qladder.envs.masked:hide_velocities`.

    Raises:
        UserError: an environment whose velocities are not known here, or one in a wrapper that changes its vectors.
    """
    name = "" if env.spec is None else env.spec.id.rpartition("-v")[0]
    if name not in VELOCITIES:
        raise UserError(f"hide_velocities: '{name}' is none of {', '.join(VELOCITIES)}")
    given, whole = env.observation_space.shape, env.unwrapped.observation_space.shape
    if given != whole:
        raise UserError(f"hide_velocities: must be the first wrapper; {name} shows {whole}, and it is given {given}")
    return Without(env, VELOCITIES[name])


class HiddenCartPole(CartPoleEnv):
    """Gymnasium's CartPole that shows the cart's position and the pole's angle alone, float32 `[2]`."""

    SEEN = (0, 2)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        whole = self.observation_space
        assert isinstance(whole, gymnasium.spaces.Box)
        self.observation_space = gymnasium.spaces.Box(whole.low[list(self.SEEN)], whole.high[list(self.SEEN)])

    def reset(self, **kwargs: Any) -> Any:
        obs, info = super().reset(**kwargs)
        return obs[list(self.SEEN)], info

    def step(self, action: Any) -> Any:
        obs, *rest = super().step(action)  # type: ignore[no-untyped-call]
        return obs[list(self.SEEN)], *rest


def register() -> None:
    """Makes it known to `gymnasium.make`, with CartPole-v1's step limit; importing this module has done so already."""
    if "qladder/CartPoleHidden-v0" not in gymnasium.registry:
        gymnasium.register(
            "qladder/CartPoleHidden-v0",
            entry_point="qladder.envs.masked:HiddenCartPole",
            max_episode_steps=500,
            reward_threshold=475.0,
        )


register()
