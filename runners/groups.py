"""Finished runs that differ in nothing but the seed, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qladder.envs.errors import UserError
from qladder.runners.runs import RunSummary


@dataclass(frozen=True)
class Group:
    """The runs that differ in nothing but the seed, in the order of their seeds, under one name."""

    label: str  # the agent's name, with what else tells it from another group of this environment
    env: str
    runs: tuple[RunSummary, ...]

    @property
    def scores(self) -> list[float]:
        return [run.evaluation.mean for run in self.runs if run.evaluation is not None]


def groups(runs: Iterable[RunSummary], *, mix_protocols: bool = False) -> list[Group]:
    """The finished runs by environment and agent, both in alphabetical order.

    Runs of one agent with different settings or planned steps are different agents, and are named so; so are runs of
    different protocols where `mix_protocols` lets them in.

    Raises:
        UserError: an environment's runs were made under different protocols and `mix_protocols` is False, or two runs
            differ in nothing, not even the seed.
    """
    by_env: dict[str, list[RunSummary]] = {}
    for run in filter(scored, runs):
        by_env.setdefault(run.env, []).append(run)
    found = []
    for env in sorted(by_env):
        if not mix_protocols:
            _refuse_mixed(env, by_env[env])
        by_label: dict[str, list[RunSummary]] = {}
        for run in by_env[env]:
            by_label.setdefault(_label(run, by_env[env]), []).append(run)
        for label in sorted(by_label):
            found.append(Group(label, env, _by_seed(label, by_label[label])))
    return found


def scored(run: RunSummary) -> bool:
    """Whether a run is finished and was evaluated."""
    return run.exit_reason == "finished" and run.evaluation is not None


def _refuse_mixed(env: str, runs: Iterable[RunSummary]) -> None:
    protocols = {run.protocol.hash: f"{run.protocol} ({run.protocol.hash})" for run in runs}
    if len(protocols) > 1:
        raise UserError(
            f"runs of {env} were made under different protocols, {' and '.join(sorted(protocols.values()))}, "
            "so their scores do not compare; leave some out, or ask for it with --mix-protocols"
        )


def _label(run: RunSummary, beside: Sequence[RunSummary]) -> str:
    """The agent's name and whatever differs among the runs of that agent (the protocol: of the environment)."""
    namesakes = [other for other in beside if other.agent == run.agent]
    label = run.agent
    if len({other.steps for other in namesakes}) > 1:
        label += f" @{run.steps:,}"
    if len({other.settings_hash for other in namesakes if other.steps == run.steps}) > 1:
        label += f" #{run.settings_hash[:6]}"
    if len({other.protocol.hash for other in beside}) > 1:
        label += f" [{run.protocol} {run.protocol.hash[:6]}]"
    return label


def _by_seed(label: str, runs: Iterable[RunSummary]) -> tuple[RunSummary, ...]:
    by_seed: dict[int, RunSummary] = {}
    for run in runs:
        if run.seed in by_seed:
            raise UserError(
                f"two runs of {label} on {run.env} have seed {run.seed}, which would count one result twice: "
                f"{by_seed[run.seed].folder} and {run.folder}; leave one out"
            )
        by_seed[run.seed] = run
    return tuple(by_seed[seed] for seed in sorted(by_seed))
