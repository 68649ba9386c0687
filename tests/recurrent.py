"""Small recurrent agents, and one of them trained as a run would."""

from __future__ import annotations

from itertools import islice
from typing import Any

from qladder.agents.r2d2 import R2D2
from qladder.runners.config import Config, resolve
from qladder.runners.loading import make_agent, make_environment
from qladder.runners.loop import Ratio, interact

GAMMA = 0.9
RECALL = "recall:tests/Recall-v0"


def settings(name: str, env_id: str, agent: dict[str, Any] | None = None, **sections: Any) -> Config:
    small = {"hidden": [16], "core_size": 16, "gamma": GAMMA, "epsilon": 1.0, "target_period": 20, "loss": "mse"}
    replay = {"capacity": 4000, "length": 8, "period": 4, "batch_size": 16, **sections.pop("replay", {})}
    if name == "r2d2":
        replay = {"burn_in": 3, "n_step": 2, **replay}
    return resolve(name, env_id, {"agent": {**small, **(agent or {})}, "replay": replay, **sections})


def made(config: Config) -> R2D2:
    env = make_environment(config, batched=True)
    env.close()
    agent = make_agent(config, env.spec, "cpu")
    assert isinstance(agent, R2D2)
    return agent


def trained(config: Config, agent_steps: int, ratio: int = 4) -> R2D2:
    env, agent = make_environment(config, batched=True), made(config)
    steps = agent_steps // config.env.num_envs
    next(islice(interact(env, agent, Ratio(200, ratio, 1), False), steps - 1, None))
    env.close()
    return agent
