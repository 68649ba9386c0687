"""What measurements say about a run that diverges or goes dead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qladder.runners.config import Config

MOST_DORMANT = 0.75  # of the hidden units; half of them are silent in many a network that learns well
TIMES_POSSIBLE = 2.0  # a value may be so many times what any policy can earn


class Alarms:
    """Hears a run's records in order; tells each trouble when it begins, and again only once it was over between.

    Values diverge that are more than twice `largest reward / (1 - gamma ** n)`, the most that can ever be earned with
    rewards that are folded over n steps (van Hasselt et al. 2018 call it soft divergence); gamma 1 has no such bound.
    """

    def __init__(self, config: Config) -> None:
        gamma = getattr(config.agent, "gamma", 1.0)
        self._factor = 1 - gamma ** (1 if config.replay is None else config.replay.n_step)
        self._bonus = 0.0  # what an agent adds to every reward, either sign, without discount
        if gamma < 1 and getattr(config.agent, "munchausen", False):
            self._bonus = config.agent.munchausen_scale * abs(config.agent.munchausen_floor) / (1 - gamma)
        self._largest_reward = self._factor / (1 - gamma) if config.protocol.clip_rewards and gamma < 1 else 0.0
        self.under_way: dict[str, str] = {}  # what was told of a measurement that still tells a trouble
        self.ever: dict[str, bool] = {}  # of each measurement that could tell one, whether it did

    def hear(self, record: Mapping[str, Any]) -> list[str]:
        """What is to be told of a record, which may hold any measurements."""
        told = []
        for tag, text in self._look(record):
            self.ever[tag] = self.ever.get(tag, False) or text is not None
            if text is None:
                self.under_way.pop(tag, None)
            elif tag not in self.under_way:
                self.under_way[tag] = f"at {record['agent_steps']:,} agent steps {text} ({tag} {record[tag]:.3g})"
                told.append(self.under_way[tag])
        return told

    def _look(self, record: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
        """Each measurement that can tell a trouble, with the trouble."""
        self._largest_reward = max(self._largest_reward, record.get("health/largest_reward", 0.0))
        if (largest := record.get("health/largest_q")) is not None and self._factor and self._largest_reward:
            bound = self._largest_reward / self._factor + self._bonus
            diverges = f"values diverge: no policy can earn more than {bound:.3g}"
            yield "health/largest_q", diverges if largest > TIMES_POSSIBLE * bound else None
        if (dormant := record.get("health/dormant")) is not None:
            dead = "the network goes dead: most of its hidden units give next to nothing"
            yield "health/dormant", dead if dormant > MOST_DORMANT else None
        if (norm := record.get("health/gradient_norm")) is not None:
            yield "health/gradient_norm", "nothing is learnt any more: there is no gradient" if norm == 0 else None
