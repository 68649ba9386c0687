"""A DQN or a relative of it, trained as a run would."""

from __future__ import annotations

from itertools import islice

from qladder.agents.dqn import DQN
from qladder.runners.config import Config
from qladder.runners.loading import make_agent, make_environment
from qladder.runners.loop import Ratio, interact


def trained(config: Config, agent_steps: int) -> DQN:
    """After so many steps, with an update for every second one after the first 500."""
    env = make_environment(config, batched=True)
    agent = make_agent(config, env.spec, "cpu")
    assert isinstance(agent, DQN)
    next(islice(interact(env, agent, Ratio(500, 2, 1), False), agent_steps - 1, None))
    env.close()
    return agent
