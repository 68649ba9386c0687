"""The settings of recurrent Q-learning, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from qladder.agents.learning_config import LearningConfig
from qladder.agents.network_config import Width
from qladder.envs.errors import refuse
from qladder.replay.sequences import SequenceConfig


@dataclass(frozen=True)
class R2D2Config(LearningConfig):
    """Recurrent Q-learning (Hausknecht and Stone 2015; Kapturowski et al. 2019); `hidden` precede the core."""

    replay: ClassVar[type | None] = SequenceConfig

    core: Literal["lstm", "gru"] = "lstm"
    """What remembers: Hochreiter and Schmidhuber (1997), or Cho et al. (2014)."""
    core_size: Width = 128
    core_skip: bool = False
    """A link past the core: action values come of what it gives and of what it saw."""
    head_hidden: Width | None = None
    """Width of a layer between core and action values, of each stream where `dueling`; none: there is no layer."""
    initial_state: Literal["zero", "stored"] = "zero"
    """A replayed sequence starts from zeros, or from the state that there was when it was lived."""
    rescale: bool = False
    """Learn h(value), nearly its square root, instead of the value (Pohlen et al. 2018)."""

    @property
    def state_size(self) -> int:
        """Numbers that a replayed sequence starts from."""
        return 0 if self.initial_state == "zero" else self.core_size * (2 if self.core == "lstm" else 1)


def check_parts(config: R2D2Config) -> None:
    """UserError, naming both, where parts of other agents' networks are asked of a recurrent one."""
    core = f"with agent.core = '{config.core}'"
    refuse(
        [
            (config.mean_image, f"agent.mean_image {core}: recurrent agents take agent.pixel_mean"),
            (config.noisy, f"agent.noisy {core}: recurrent agents explore by agent.epsilon"),
            (
                config.distribution != "mean",
                f"agent.distribution = '{config.distribution}' {core}: recurrent agents learn the mean",
            ),
        ]
    )
