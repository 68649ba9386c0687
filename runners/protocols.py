"""The protocols that come along, and rules of one's own laid over them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from qladder.envs.errors import UserError, nearest
from qladder.envs.protocol import Evaluation, Protocol
from qladder.runners.settings import ELSEWHERE, Table, build, dump, merge, read_toml
from qladder.runners.shipped import CONFIGS

NO_RULES = ("name", "version", "summary", "source")
SCREENS = ("max_pool", "screen", "stack")
"""Rules of games that are seen, and not read from the console's memory."""
EVERYWHERE = ("clip_rewards", "score", "evaluation")
"""Rules that environments have which are no Atari games."""
EVALUATION = tuple(f.name for f in fields(Evaluation))


def protocol_names() -> list[str]:
    """All protocols that there are."""
    return sorted(p.stem for p in (CONFIGS / "protocols").glob("*.toml"))


def load_protocol(name: str) -> Protocol:
    """A protocol by name; UserError with the nearest where there is none."""
    if name not in protocol_names():
        raise UserError(f"protocol '{name}': there is no such protocol{nearest(name, protocol_names())}")
    return build(Protocol, read_toml(CONFIGS / "protocols" / f"{name}.toml"), f"protocols/{name}")


def rules_of(env: str, kwargs: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields of a protocol that mean something to an environment."""
    rules = tuple(f.name for f in fields(Protocol) if f.name not in NO_RULES)
    if not env.startswith("ALE/"):
        return EVERYWHERE
    return tuple(name for name in rules if not kwargs or name not in SCREENS)


def with_rules(base: Protocol, rules: Mapping[str, Any], env: str, kwargs: Mapping[str, Any]) -> tuple[Protocol, Table]:
    """`base` with `rules` in place of its own, under a name that tells them; and those that differ from its own.

    Where another that comes along has just these rules, it is that one.

    Raises:
        UserError: a rule that there is not, or that `env` made with `kwargs` does not have, or a value that does not
            fit.
    """
    known = rules_of(env, kwargs)
    for name in rules:
        if name not in known:
            raise UserError(f"protocol.{name}: is no rule of {env}{_instead(name, known)}")
    changed: Protocol = build(Protocol, merge(dump(base), rules), "protocol")
    _check_score(changed, rules.get("evaluation", {}))
    differing = {name: value for name, value in changed.rules.items() if value != base.rules[name]}
    if not differing:
        return base, {}
    for name in protocol_names():
        if (shipped := load_protocol(name)).rules == changed.rules:
            return shipped, _nested(differing)
    told = ", ".join(f"{name}={_text(value)}" for name, value in differing.items())
    return replace(changed, name=f"{base.name} ({told})"), _nested(differing)


def _instead(name: str, known: Sequence[str]) -> str:
    """What may have been meant."""
    ours = ELSEWHERE.get(name, "").removeprefix("protocol.")
    if name == "episode_cap" or ours.startswith("env."):
        return ": --env.kwargs.max_episode_steps N limits its episodes"
    if name in EVALUATION:
        return f"; it is --protocol.evaluation.{name}"
    return f"; it is --protocol.{ours}" if ours in known else nearest(name, known) or f"; there are {', '.join(known)}"


def _check_score(protocol: Protocol, asked: Mapping[str, Any]) -> None:
    """UserError where a score is asked for by rules that it does not follow."""
    by_training = protocol.score == "training"
    for name in ("epsilon", "episode_cap") if by_training else ("last_steps",):
        if asked.get(name, "none") != "none":
            said = "is" if by_training else "is not"
            raise UserError(f"protocol.evaluation.{name}: the score {said} that of the training (protocol.score)")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


def _nested(rules: Mapping[str, Any]) -> Table:
    """As TOML has it: `evaluation.epsilon` is `epsilon` in a table, and nothing is "none"."""
    table: Table = {}
    for name, value in rules.items():
        section, dot, field = name.rpartition(".")
        (table.setdefault(section, {}) if dot else table)[field] = "none" if value is None else value
    return table
