"""Everything that makes a score comparable, as one named, versioned and hashed value."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

Fraction = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True)
class Evaluation:
    """How a score is taken: separate episodes of the final weights, or the last ones of training."""

    epsilon: Fraction = 0.0
    """Probability of a uniformly random action."""
    episodes: Annotated[int, Gt(0), Le(1_000_000)] = 100
    """How many; where training returns are the score, how many of the last ones."""
    last_steps: Annotated[int, Gt(0)] | None = None
    """Where training returns are the score: all that ended in so many last agent steps, instead of `episodes`."""
    episode_cap: Annotated[int, Gt(0), Lt(2**31)] | None = None
    """Frames after which an evaluation episode is cut; None: as in training."""


@dataclass(frozen=True)
class Protocol:
    """A protocol; the Atari fields mean nothing to other environments."""

    name: str
    version: Annotated[int, Gt(0)] = 1
    summary: str = ""
    source: str = ""
    """Where the rules are published."""
    frame_skip: Annotated[int, Gt(0), Le(1_000)] = 1
    """Emulator frames in one agent step (the action is repeated)."""
    max_pool: bool = False
    """Pixel-wise maximum over the last two frames."""
    screen: Annotated[int, Gt(0), Le(1_024)] = 84
    """Side of the square greyscale picture, in pixels."""
    stack: Annotated[int, Gt(0), Le(64)] = 4
    """Frames in one observation."""
    sticky: Fraction = 0.0
    """Probability that the previous action is executed instead (Machado et al. 2018)."""
    noop_max: Annotated[int, Ge(0), Le(10_000)] = 0
    """Up to this many frames of doing nothing start an episode."""
    fire_reset: bool = False
    """Press FIRE at the start of an episode where the game has that button."""
    full_action_space: bool = False
    """All 18 actions instead of those that the game uses."""
    life_loss: Literal["ignore", "discount-0"] = "ignore"
    """`discount-0`: in training a lost life cuts the bootstrap, and the game goes on."""
    clip_rewards: bool = False
    """Learn from rewards clipped to [-1, 1]; scores are never clipped."""
    episode_cap: Annotated[int, Gt(0), Lt(2**31)] | None = None
    """Frames after which an episode is truncated; elsewhere than on Atari, only where the environment has no limit."""
    score: Literal["evaluation", "training"] = "evaluation"
    """Whether the score is taken from separate evaluation episodes or from training returns."""
    evaluation: Evaluation = field(default_factory=Evaluation)
    """How a score is taken: .epsilon, .episodes, .last_steps, .episode_cap."""

    @property
    def rules(self) -> dict[str, Any]:
        """All fields that move a score, by their names: `frame_skip`, `evaluation.epsilon`, ..."""
        fields = {k: v for k, v in asdict(self).items() if k not in ("name", "version", "summary", "source")}
        within = fields.pop("evaluation")
        return {**fields, **{f"evaluation.{k}": v for k, v in within.items()}}

    @property
    def hash(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of all fields that move a score."""
        fields = {k: v for k, v in asdict(self).items() if k not in ("summary", "source")}
        if self.evaluation.last_steps is None:
            del fields["evaluation"]["last_steps"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]
