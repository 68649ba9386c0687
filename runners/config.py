"""From an agent's and an environment's name to the complete settings of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval, Le

from qladder.envs.errors import UserError
from qladder.envs.protocol import Protocol
from qladder.runners.protocols import load_protocol, with_rules
from qladder.runners.settings import Table, build, dump, merge, read_toml, sections
from qladder.runners.shipped import (
    agent_entry,
    agent_names,
    families,
    family_of,
    settings_class_of,
    settings_file,
    shipped,
)

Seed = Annotated[int, Interval(ge=0, lt=2**63)]


@dataclass(frozen=True)
class EnvConfig:
    """Which environment, and how many of it."""

    id: str
    protocol: str = ""
    """Name of the protocol; by default the one of the environment's family. --protocol.RULE changes a rule of it."""
    num_envs: Annotated[int, Gt(0), Le(4096)] = 1
    """Environments that are stepped together."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment itself, e.g. --env.kwargs.is_slippery false."""
    eval_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments that only evaluations get: a score for what was not trained, e.g. --env.eval_kwargs.right 2."""
    wrappers: tuple[str, ...] = ()
    """Your own wrappers, each module:function, innermost first."""
    train_wrappers: tuple[str, ...] = ()
    """Wrappers that only training gets, around the others: what is learnt from may be other than what is scored."""
    eval_wrappers: tuple[str, ...] = ()
    """Wrappers that only evaluations get, around the others."""

    @property
    def variant(self) -> str:
        """What makes it another environment than its id says, for people; empty where nothing does."""
        given, asked = (
            [f"{name}={value}" for name, value in sorted(some.items())] for some in (self.kwargs, self.eval_kwargs)
        )
        asked += self.eval_wrappers
        return ", ".join([*given, *self.wrappers, *(["evaluated with " + " ".join(asked)] if asked else [])])

    @property
    def training_wrappers(self) -> tuple[str, ...]:
        """The wrappers of training's environments."""
        return (*self.wrappers, *self.train_wrappers)

    @property
    def evaluation_kwargs(self) -> dict[str, Any]:
        """The arguments of evaluations' environments."""
        return {**self.kwargs, **self.eval_kwargs}

    @property
    def evaluation_wrappers(self) -> tuple[str, ...]:
        """The wrappers of evaluations' environments."""
        return (*self.wrappers, *self.eval_wrappers)


@dataclass(frozen=True)
class RunConfig:
    """How long a run is, how often it learns, and what it writes down.

    Counted in agent steps, of which one decision in N environments makes N.
    """

    steps: Annotated[int, Gt(0)] = 50_000
    """Agent steps in all; schedules keep their own lengths."""
    episodes: Annotated[int, Gt(0)] | None = None
    """Stop earlier, after this many episodes."""
    label: str = ""
    """What comparisons call this agent; by default its name."""
    claim: str = ""
    """The claim, and the stamp of its file, that this is a run of (`qladder claims`)."""
    init_from: str = ""
    """A run's folder, with whose weights or table this one begins; `{seed}` in it stands for this run's seed."""
    seed: Seed = 0
    learning_starts: Annotated[int, Ge(0)] = 0
    """Agent steps before the first update."""
    update_every: Annotated[int, Gt(0)] = 1
    """Agent steps between two times of learning."""
    updates: Annotated[int, Gt(0)] = 1
    """Updates each time."""
    log_every: Annotated[int, Gt(0)] = 1_000
    """Agent steps between lines on training."""
    health_every: Annotated[int, Ge(0)] = 5_000
    """Agent steps between two looks at the agent's health; 0: none."""
    eval_every: Annotated[int, Gt(0)] | None = None
    """Agent steps between evaluations; none: a twentieth of the run."""
    eval_episodes: Annotated[int, Gt(0)] = 5
    """Episodes of an evaluation on the way; the final one follows the protocol."""
    checkpoint_every: Annotated[int, Gt(0)] | None = None
    """Agent steps between checkpoints; none: a quarter of the run."""
    checkpoint_minutes: Annotated[float, Ge(0), Le(1e6)] = 20.0
    """Wall-clock minutes after which there is another one all the same, when next anything is due; 0: never."""
    keep_every: Annotated[int, Gt(0)] | None = None
    """Agent steps between weights that stay, beside the newest two checkpoints; none: no others stay."""
    checkpoint_replay: bool = True
    """Whether checkpoints hold the replay too; without it a resumed run fills a new one first."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is one (its path was never run on a GPU so far)."""
    threads: Annotated[int, Ge(0), Le(1_024)] = 1
    """CPU threads of torch; 0: one per core."""
    hang_after: Annotated[float, Ge(0), Le(1e6)] = 300.0
    """Seconds after which an environment that does not come back from a step ends the run; 0: never."""


@dataclass(frozen=True)
class Config:
    """The resolved settings of a run."""

    agent_name: str
    family: str
    env: EnvConfig
    agent: Any  # the agent's own dataclass
    replay: Any  # the replay's dataclass, or None where the agent has none
    run: RunConfig
    protocol: Protocol
    own_rules: Table  # in which it differs from the protocol that `env` names
    sources: tuple[str, ...]  # where the settings came from, lowest first

    @property
    def label(self) -> str:
        """What comparisons call this agent."""
        return self.run.label or self.agent_name

    def table(self) -> Table:
        """Everything as a TOML table that `resolve` reads back."""
        replay = {} if self.replay is None else {"replay": dump(self.replay)}
        return {
            "env": dump(self.env),
            "agent": {"name": self.agent_name, **dump(self.agent)},
            **replay,
            "run": dump(self.run),
            **({"protocol": self.own_rules} if self.own_rules else {}),
        }


def resolve(agent: str | None, env: str | None, flags: Mapping[str, Any], file: Path | None = None) -> Config:
    """The settings of a run: class defaults < agent < family < environment < `file` < `flags`.

    `file` may be the bare name of one of `configs/presets`. A run's own says all that its version knew: what it does
    not say is as the class has it, whatever has come to stand between since.

    Raises:
        UserError: an unknown agent, protocol, rule or field, or a value that does not fit.
    """
    file = None if file is None else settings_file(file)
    own = {} if file is None else sections({k: v for k, v in read_toml(file).items() if k != "summary"}, str(file))
    agent = agent or own.get("agent", {}).get("name")
    env = env or own.get("env", {}).get("id")
    if agent is None or env is None:
        raise UserError("train needs AGENT and ENV, e.g. qladder train q-learning FrozenLake-v1")
    flags = sections(flags, "flags")
    try:
        entry = agent_entry(agent)
    except UserError:
        if env in agent_names():
            raise UserError(f"'{agent}' is no agent: AGENT stands before ENV, as in {env} {agent}") from None
        raise
    family = family_of(env, merge(own, flags).get("env", {}).get("kwargs"))
    layers, sources = ([], []) if _of_run(file) else shipped(entry, family, env)
    if file is not None:
        sources.append(str(file))
    for section, field_name in (("agent", "name"), ("env", "id")):
        if field_name in flags.get(section, {}):
            raise UserError(f"--{section}.{field_name}: {section.upper()} stands without a flag: train AGENT ENV")
    if flags:
        sources.append("flags")
    table = merge(*layers, own, flags)
    agent_table = {k: v for k, v in table.get("agent", {}).items() if k != "name"}
    env_table = {**table.get("env", {}), "id": env}
    if "protocol" not in env_table:
        env_table["protocol"] = families().get(family, {"protocol": "classic"})["protocol"]
    settings_class = settings_class_of(entry)
    agent_config = build(settings_class, agent_table, "agent")
    replay_class = settings_class.replay
    if replay_class is None and table.get("replay"):
        raise UserError(f"replay.{next(iter(table['replay']))}: {agent} has no replay")
    env_config = build(EnvConfig, env_table, "env")
    protocol, own_rules = with_rules(
        load_protocol(env_config.protocol), table.get("protocol", {}), env, env_config.kwargs
    )
    if env_config.train_wrappers and protocol.score == "training":
        raise UserError(f"env.train_wrappers: by protocol {protocol.name} the score is that of the training")
    return Config(
        agent_name=agent,
        family=family,
        env=env_config,
        agent=agent_config,
        replay=None if replay_class is None else build(replay_class, table.get("replay", {}), "replay"),
        run=build(RunConfig, table.get("run", {}), "run"),
        protocol=protocol,
        own_rules=own_rules,
        sources=tuple(sources),
    )


def _of_run(file: Path | None) -> bool:
    """Whether these are the settings that a run has written down."""
    return file is not None and file.name == "config.toml" and (file.parent / "manifest.json").exists()
