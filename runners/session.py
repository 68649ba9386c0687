"""What a run consists of while it lasts: agent, environments and clocks; how they are saved and continued."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qladder.agents.agent import Metrics
from qladder.agents.schedules import Clocks
from qladder.envs.errors import UserError
from qladder.envs.spec import EnvSpec
from qladder.runners import checkpoint
from qladder.runners.config import Config
from qladder.runners.device import free_for_replay
from qladder.runners.evaluation import check_evaluation
from qladder.runners.loading import agent_class, make_agent, make_environment
from qladder.runners.loop import Begin, Episodes, Moment, Ratio
from qladder.runners.memory import check_replay
from qladder.runners.resume import begin_again, changes, is_exact, newest_state, record
from qladder.runners.segments import Segments


class Session:
    """The agent and its environments, and where they are."""

    def __init__(self, config: Config, device: str) -> None:
        self._config = config
        self.env = make_environment(config, agent_class(config).batched)
        spec = self.env.spec
        check_evaluation(config, spec)
        if config.replay is not None:
            _enough_to_learn(config, spec)
            size, free = getattr(config.agent, "state_size", 0), free_for_replay(config, device)
            check_replay(config.replay, spec, state_size=size, limit=free)
        self.agent = make_agent(config, spec, device)
        self.episodes = Episodes(self.env, config.protocol.evaluation)
        self.agent_steps = self.updates = 0
        self.latest: Metrics | None = None  # of the last update
        self.begin: Begin | None = None  # what the agent sees next; None: new episodes
        self._begun_at = 0  # agent steps at which the environments were made
        self._frames_per_step = spec.frames_per_step

    @property
    def clocks(self) -> Clocks:
        """Where the run is on the three clocks."""
        return Clocks(self.agent_steps * self._frames_per_step, self.agent_steps, self.updates)

    @property
    def done(self) -> bool:
        """Whether the run has all its steps or episodes."""
        run = self._config.run
        return self.agent_steps >= run.steps or (run.episodes is not None and self.episodes.count >= run.episodes)

    def ratio(self) -> Ratio:
        """Of updates to agent steps, from here on."""
        run, steps, updates = self._config.run, self.agent_steps, self.updates
        if steps and self._config.replay is not None and not run.checkpoint_replay:
            start = steps + run.learning_starts  # the replay is empty again and is filled first
            return Ratio(start, run.update_every, run.updates, before=updates, done=updates)
        return Ratio(run.learning_starts, run.update_every, run.updates, done=updates)

    def take(self, moment: Moment) -> None:
        """The clocks of this moment, and what comes next."""
        self.agent_steps, self.updates = moment.agent_steps, moment.updates
        self.begin = Begin(moment.time_step.obs, moment.time_step.last)

    def save(self, folder: Path, segments: Segments, time: Mapping[str, Any]) -> None:
        """Commits a checkpoint with all of it; `time` is what the run keeps beside it."""
        latest = None if self.latest is None else {tag: float(value) for tag, value in self.latest.items()}
        running: dict[str, Any] = {
            "agent": self._state(replay=self._config.run.checkpoint_replay),
            "run": {**self.clocks._asdict(), "latest": latest, "begun_at": self._begun_at},
            "episodes": self.episodes.state_dict(),
            "env": None,
            "time": time,
        }
        if is_exact(self._config) and self.begin is not None:
            running["env"] = {"state": self.env.state_dict(), "first": self.begin.first}
        checkpoint.save(folder, self.agent_steps, running, segments)

    def keep(self, folder: Path) -> None:
        """Commits what acts and learns, without the replay, where it stays."""
        state = {"agent": self._state(replay=False), "run": self.clocks._asdict()}
        checkpoint.keep(folder, self.agent_steps, state)

    def _state(self, *, replay: bool) -> dict[str, Any]:
        state = self.agent.state_dict()
        if not replay:
            state.pop("replay", None)
        return state

    def resume(
        self, folder: Path, segments: Segments, manifest: dict[str, Any], *, allow_drift: bool
    ) -> dict[str, Any] | None:
        """Goes on from the newest good checkpoint: the `time` that was saved; None where there is no checkpoint.

        The `manifest`, which is this process's, is told of the resume.

        Raises:
            UserError: no checkpoint is good or of a run like this one, or the run would go on otherwise.
        """
        config = self._config
        changed = changes(folder, manifest, allow_drift)
        state = newest_state(folder, self.agent, self.episodes, segments, config.run, self.env.spec.num_envs)
        if state is None:
            return None
        run, time = state["run"], state["time"]
        self.agent_steps, self.updates, self.latest = run["agent_steps"], run["updates"], run["latest"]
        if self.done:
            record(folder, manifest, self.agent_steps, changed, exact=True)
            return dict(time)
        self._make_anew(run["begun_at"])
        self.begin = begin_again(self.env, state["env"], changed, allow_drift)
        if self.begin is None:
            self._make_anew(self.agent_steps)
            self.episodes.begin_again()
        record(folder, manifest, self.agent_steps, changed, exact=self.begin is not None)
        return dict(time)

    def close(self) -> None:
        """Ends the environments."""
        self.env.close()

    def _make_anew(self, at: int) -> None:
        """Has the environments that are made at so many agent steps."""
        if at != self._begun_at:
            self.env.close()
            self.env, self._begun_at = make_environment(self._config, self.episodes.batched, agent_steps=at), at


def _enough_to_learn(config: Config, spec: EnvSpec) -> None:
    needed = config.replay.window * spec.num_envs
    if config.run.learning_starts < needed:
        raise UserError(
            f"run.learning_starts = {config.run.learning_starts}: with a replay at least {needed} agent steps "
            f"({spec.num_envs} environments, {config.replay.window} steps each)"
        )
