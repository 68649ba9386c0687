"""Finished runs that differ in nothing but the seed, side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qladder.envs.errors import UserError
from qladder.runners.arrays import DAMAGED
from qladder.runners.diff import differing, setting_text
from qladder.runners.likeness import OWN, written
from qladder.runners.protocols import load_protocol, protocol_names
from qladder.runners.runs import RunSummary

LONGEST = 48  # characters of settings in a name


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
        words, rules = _words(by_env[env]), _rule_words(by_env[env])
        for run in by_env[env]:
            by_label.setdefault(_label(run, by_env[env], words, rules), []).append(run)
        for label in sorted(by_label):
            found.append(Group(label, env, _by_seed(label, by_label[label])))
    return found


def mixed_code(group: Group) -> str | None:
    """In words, where its runs were made by different code of the user's own."""
    seeds: dict[str, list[int]] = {}
    for run in group.runs:
        seeds.setdefault(json.dumps(run.manifest.get("own_code") or {}, sort_keys=True), []).append(run.seed)
    if len(seeds) < 2:
        return None
    told = ", of other code ".join(", ".join(map(str, some)) for some in seeds.values())
    return f"{group.label} on {group.env} is of different code of yours (own_code in manifests): seeds {told}"


def scored(run: RunSummary) -> bool:
    """Whether a run is finished and was evaluated."""
    return run.exit_reason == "finished" and run.evaluation is not None


def _refuse_mixed(env: str, runs: Iterable[RunSummary]) -> None:
    one_of_each = {run.protocol.hash: run for run in runs}
    if len(one_of_each) > 1:
        made = sorted(one_of_each.values(), key=lambda run: str(run.protocol))
        names = " and ".join(f"{run.protocol} ({run.protocol.hash})" for run in made)
        raise UserError(
            f"runs of {env} were made under different protocols, {names}, so their scores do not compare"
            f"{_differing([_rules(run) for run in made])}; leave some out, or ask for it with --mix-protocols"
        )


def _rules(run: RunSummary) -> Mapping[str, Any] | None:
    """Of the run's protocol, from its manifest or as they are shipped; None where neither tells."""
    stamp = run.manifest.get("protocol")
    rules = stamp.get("rules") if isinstance(stamp, dict) else None
    if isinstance(rules, dict):
        return rules
    if run.protocol.name not in protocol_names():
        return None
    shipped = load_protocol(run.protocol.name)
    return shipped.rules if shipped.hash == run.protocol.hash else None


def _differing(rules: Sequence[Mapping[str, Any] | None]) -> str:
    """In words, each rule that is not the same in all of them, with what it is in each."""
    known = [each for each in rules if each is not None]
    names = dict.fromkeys(name for each in known for name in each)
    values = {name: [json.dumps(each.get(name), default=str) for each in known] for name in names}
    told = [f"{name} ({', '.join(each)})" for name, each in values.items() if len(set(each)) > 1]
    unknown = " (the rules of one are not known)" if len(known) < len(rules) else ""
    return f": they differ in {', '.join(told)}{unknown}" if told else unknown or " (their names alone differ)"


def _words(runs: Sequence[RunSummary]) -> dict[str, str]:
    """By settings' hash, what tells it from others of its steps and protocol: values, where they are few."""
    kinds: dict[tuple[str, int, str], dict[str, RunSummary]] = {}
    for run in runs:
        kinds.setdefault((run.agent, run.steps, run.protocol.hash), {}).setdefault(run.settings_hash, run)
    found: dict[str, str] = {}
    for by_hash in kinds.values():
        if len(by_hash) == 1:
            continue
        try:
            tables = {digest: written(run.folder) for digest, run in by_hash.items()}
        except (UserError, *DAMAGED):
            continue
        alike = {f"run.{name}" for name in (*OWN, "label")}
        fields = {field: values for field, values in differing(tables).items() if field not in alike}
        told = {
            digest: ", ".join(f"{field.rpartition('.')[2]} {setting_text(v[digest])}" for field, v in fields.items())
            for digest in by_hash
        }
        short = all(len(text) <= LONGEST and text.isprintable() for text in told.values())
        if fields and short and len(set(told.values())) == len(told):
            found |= told
    return found


def _rule_words(runs: Sequence[RunSummary]) -> dict[str, str]:
    """By protocol's hash the rules that tell it from the others, where they are few, else its name and hash."""
    made = {run.protocol.hash: run for run in runs}
    told = {digest: f"{run.protocol} {digest[:6]}" for digest, run in made.items()}
    rules = {digest: known for digest, run in made.items() if (known := _rules(run)) is not None}
    if len(rules) < len(told):
        return told
    names = dict.fromkeys(name for each in rules.values() for name in each)
    differing = [name for name in names if len({str(each.get(name)) for each in rules.values()}) > 1]
    short = {d: ", ".join(f"{name} {setting_text(each.get(name))}" for name in differing) for d, each in rules.items()}
    return short if differing and all(len(text) <= LONGEST for text in short.values()) else told


def _label(run: RunSummary, beside: Sequence[RunSummary], words: Mapping[str, str], rules: Mapping[str, str]) -> str:
    """The agent's name and whatever differs among the runs of that agent (the protocol: of the environment)."""
    namesakes = [other for other in beside if other.agent == run.agent]
    label = run.agent
    if len({other.steps for other in namesakes}) > 1:
        label += f" @{run.steps:,}"
    alike = [o for o in namesakes if (o.steps, o.protocol.hash) == (run.steps, run.protocol.hash)]
    if len({other.settings_hash for other in alike}) > 1:
        told = words.get(run.settings_hash)
        label += f" #{run.settings_hash[:6]}" if told is None else f" ({told})"
    if len(rules) > 1:
        label += f" [{rules[run.protocol.hash]}]"
    return label


def _by_seed(label: str, runs: Iterable[RunSummary]) -> tuple[RunSummary, ...]:
    by_seed: dict[int, RunSummary] = {}
    for run in runs:
        if run.seed in by_seed:
            raise UserError(
                f"two runs of {label} on {run.env} have seed {run.seed}, which would count one result twice: "
                f"{by_seed[run.seed].folder} and {run.folder}; "
                "name the folders to compare, without one of them"
            )
        by_seed[run.seed] = run
    return tuple(by_seed[seed] for seed in sorted(by_seed))
