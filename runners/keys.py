"""Which keys a person plays with: what is held together is an action."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Literal

from qladder.envs.protocol import Protocol

Idle = int | Literal["wait", "last"]
IDLE: Mapping[str, Idle] = {  # of those that do not wait for a key
    "CartPole": "last",
    "MountainCar": 1,
    "Acrobot": 1,
    "LunarLander": 0,
    "Catch": 1,
    "Catch84": 1,
    "ShapeCatch": 1,
    "Crossing": 1,
}
KEYS: Mapping[str, Mapping[str, int]] = {  # by the environment's id without its version
    "CartPole": {"left": 0, "right": 1},
    "MountainCar": {"left": 0, "right": 2},
    "Acrobot": {"left": 0, "right": 2},
    "LunarLander": {"left": 1, "up": 2, "right": 3},
    "Catch": {"left": 0, "right": 2},
    "Catch84": {"left": 0, "right": 2},
    "ShapeCatch": {"left": 0, "right": 2},
    "Crossing": {"down": 0, "up": 2},
    "TMaze": {"up": 0, "down": 1, "right": 2, "left": 3},
    "FrozenLake": {"left": 0, "down": 1, "right": 2, "up": 3},
    "FrozenLake8x8": {"left": 0, "down": 1, "right": 2, "up": 3},
    "CliffWalking": {"up": 0, "right": 1, "down": 2, "left": 3},
    "CliffWalkingSlippery": {"up": 0, "right": 1, "down": 2, "left": 3},
    "Taxi": {"down": 0, "up": 1, "right": 2, "left": 3, "p": 4, "d": 5},
    "Blackjack": {"s": 0, "h": 1},
}
PARTS = {"UP": "up", "DOWN": "down", "LEFT": "left", "RIGHT": "right", "FIRE": "space"}  # of an Atari action's name


@dataclass(frozen=True)
class Keys:
    """Actions by the keys that are held for them, and what happens while none is.

    `idle`: an action; `wait`: the game stands still until a key is pressed; `last`: the action before goes on.
    """

    held: Mapping[Set[str], int]
    idle: Idle

    def action(self, held: Set[str]) -> int | None:
        """Of the most keys of those held that make one; None where none do."""
        fitting = [keys for keys in self.held if keys <= held]
        return self.held[max(fitting, key=len)] if fitting else None

    @property
    def told(self) -> str:
        """For people."""
        alone = [" + ".join(sorted(keys)) for keys in self.held if len(keys) == 1]
        return f"keys: {', '.join(alone)}" + (", together too" if len(alone) < len(self.held) else "")


def keys_of(env_id: str, num_actions: int, protocol: Protocol) -> Keys:
    """Arrows and the space bar where they mean something, else the digits from 0."""
    if env_id.startswith("ALE/"):
        from qladder.envs.atari import action_names

        names = [_parts(name) for name in action_names(env_id, protocol)]
        return Keys({keys: action for action, keys in enumerate(names) if keys}, names.index(frozenset()))
    name = env_id.rpartition("-v")[0].removeprefix("qladder/").replace("CartPoleHidden", "CartPole")
    keys = KEYS.get(name) or {str(action): action for action in range(min(num_actions, 10))}
    return Keys({frozenset({key}): action for key, action in keys.items()}, IDLE.get(name, "wait"))


def _parts(name: str) -> frozenset[str]:
    """Of an Atari action: UPRIGHTFIRE is three keys, NOOP none."""
    return frozenset(key for part, key in PARTS.items() if part in name)
