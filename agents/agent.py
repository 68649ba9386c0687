"""The one protocol of all agents, from a table to a deep network.

Shapes in this package: N environments, B transitions of a batch, A actions, K numbers that tell one action's return
(atoms, quantiles; 1 of plain values; of a layer, its units), T steps of a sequence or rollout, L those of them that are
learnt from; `...` is an observation's own shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, ClassVar, Protocol

from qladder.envs.spec import EnvSpec
from qladder.replay.types import Step

Metrics = Mapping[str, Any]  # tag -> number or 0-d tensor


class Agent(Protocol):
    """Acts and learns.

    An agent class is called as `Class(config, spec, seed=int, device=str)`, plus `replay=config` where its `Config`
    names a `replay` section. It raises `UserError` for an environment that it cannot play. A class attribute
    `evaluation_epsilon` overrides the protocol's; an attribute `learner` names the back end of its updates; `recurrent`
    = True says that its actions depend on more of an episode than the latest observation. Where it has `probe()`, that
    is called once before training and raises `FaultyUpdateError` where an update is none; it changes nothing. `learnt`
    names the parts of its `state_dict` that another agent can begin with: weights, or a table.
    """

    Config: ClassVar[Any]  # frozen dataclass of its settings; its ClassVar `replay` is the replay's settings or None,
    # its ClassVar `uses_torch`, by default whether it has a replay, whether it gets threads and a GPU.
    # Where it has `check_run(run, num_envs)`, that raises `UserError` for a run that its settings do not fit.
    batched: ClassVar[bool]  # whether it takes arrays [N, ...]; False: plain values of one environment

    def act(self, obs: Any, first: Any, explore: bool) -> tuple[Any, Any]:
        """Actions `[N]` for `obs [N, ...]` and extras for memory; `first [N]` marks episode starts.

        With `explore` False the answer is greedy, consumes no random number, and changes nothing that training or
        `state_dict` knows. A recurrent agent then carries a second state from call to call, apart from that of
        training: it starts anew where `first` (`[N]` or one for all), and for another N than in the call before.
        """

    def observe(self, step: Step) -> None:
        """Takes in one agent step of all environments."""

    def learn(self, k: int) -> Metrics:
        """Does `k` updates from the agent's own memory; what it returns stays tensors until it is logged."""

    def health(self) -> Metrics:
        """Signs, tagged `health/`, of whether it learns, goes dead or drifts; nothing that `state_dict` tells changes.

        They follow from that state alone, so that a resumed run shows the same; empty where there is nothing to tell.
        """

    def state_dict(self) -> dict[str, Any]:
        """Tensors, arrays, numbers, strings, lists and dictionaries of them; enough to go on exactly."""

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


METHODS = ("act", "observe", "learn", "health", "state_dict", "load_state_dict")


def lacking(cls: Any) -> list[str]:
    """What a class needs to be an agent and has not, in words."""
    found = [name for name in METHODS if not callable(getattr(cls, name, None))]
    if not isinstance(getattr(cls, "batched", None), bool):
        found.append("batched (True or False)")
    config = getattr(cls, "Config", None)
    if not (isinstance(config, type) and is_dataclass(config)):
        found.append("Config (a frozen dataclass of its settings)")
    elif not hasattr(config, "replay"):
        found.append("Config.replay (a ClassVar: None, or the dataclass of its replay's settings)")
    return found


__all__ = ["Agent", "EnvSpec", "Metrics", "Step", "lacking"]
