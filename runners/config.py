"""From an agent's and an environment's name to the complete settings of a run."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval, Le

from qladder.envs.errors import UserError, nearest
from qladder.envs.protocol import Protocol
from qladder.runners.settings import Table, build, dump, merge, read_toml

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
SECTIONS = ("env", "agent", "replay", "run")
Seed = Annotated[int, Interval(ge=0, lt=2**63)]


@dataclass(frozen=True)
class EnvConfig:
    """Which environment, and how many of it."""

    id: str
    protocol: str = ""
    """Name of the protocol; by default the one of the environment's family."""
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
class AgentEntry:
    """What `configs/<name>/agent.toml` says of an agent."""

    name: str
    cls: str  # module:Class
    config: str  # module:Class of its settings, importable without torch
    summary: str
    plays: str
    rung: int
    base: str | None
    learners: tuple[str, ...]  # ways of computing its updates; none for what has only one


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
        }


def agent_names() -> list[str]:
    """All agents of the house, lowest rung first."""
    return sorted((p.parent.name for p in CONFIGS.glob("*/agent.toml")), key=lambda n: (agent_entry(n).rung, n))


def agent_entry(name: str) -> AgentEntry:
    """An agent by its name, or by `module:Class` from anywhere; UserError with the nearest name where there is none."""
    if ":" in name:
        return AgentEntry(name, name, "", "", "", 0, None, ())
    path = CONFIGS / name / "agent.toml"
    if not re.fullmatch(r"[\w-]{1,99}", name) or not path.is_file():
        names = sorted(p.parent.name for p in CONFIGS.glob("*/agent.toml"))
        raise UserError(f"agent '{name}': there is no such agent{nearest(name, names)} (qladder list agents)")
    about = read_toml(path)["about"]
    base = about.get("base")
    below = agent_entry(base) if base else None
    return AgentEntry(
        name,
        about.get("class") or (below.cls if below else ""),
        about.get("config") or (below.config if below else ""),
        about["summary"],
        about.get("plays") or (below.plays if below else ""),
        about["rung"],
        base,
        tuple(about.get("learners") or (below.learners if below else ())),
    )


@cache
def families() -> dict[str, Table]:
    """Environment families by name, not to be changed: `match`, `protocol`, `ids`, `summary`.

    One with `kwargs` takes the environments that are made with these; its settings come on top of those of its `base`.
    """
    return read_toml(CONFIGS / "envs.toml")


def family_of(env_id: str, kwargs: Any = None) -> str:
    """The first family of an environment's id and arguments (not checked yet); "other" where none matches."""
    given = kwargs if isinstance(kwargs, Mapping) else {}
    for name, entry in families().items():
        fits = entry.get("kwargs", {}).items() <= given.items()
        if fits and any(fnmatch.fnmatchcase(env_id, pattern) for pattern in entry["match"]):
            return name
    return "other"


def protocol_names() -> list[str]:
    """All protocols that there are."""
    return sorted(p.stem for p in (CONFIGS / "protocols").glob("*.toml"))


def load_protocol(name: str) -> Protocol:
    """A protocol by name; UserError with the nearest where there is none."""
    if name not in protocol_names():
        raise UserError(f"protocol '{name}': there is no such protocol{nearest(name, protocol_names())}")
    return build(Protocol, read_toml(CONFIGS / "protocols" / f"{name}.toml"), f"protocols/{name}")


def resolve(agent: str | None, env: str | None, flags: Mapping[str, Any], file: Path | None = None) -> Config:
    """The settings of a run: class defaults < agent < family < environment < `file` < `flags`.

    `file` may be the bare name of one of `configs/presets`. A run's own says all that its version knew: what it does
    not say is as the class has it, whatever has come to stand between since.

    Raises:
        UserError: an unknown agent, protocol or field, or a value that does not fit.
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
    layers, sources = ([], []) if _of_run(file) else _shipped(entry, family, env)
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
    protocol = load_protocol(env_config.protocol)
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
        sources=tuple(sources),
    )


def settings_file(file: Path) -> Path:
    """A file of settings by its path, or a shipped one by its name; UserError with the nearest where there is none."""
    names = sorted(p.stem for p in (CONFIGS / "presets").glob("*.toml"))
    if str(file) in names and not file.is_file():
        return CONFIGS / "presets" / f"{file}.toml"
    if not file.exists():
        raise UserError(f"--config {file}: there is no such file, nor preset{nearest(str(file), names)}")
    return file


def sections(table: Mapping[str, Any], where: str) -> Table:
    """The sections of settings, each a table; UserError for what is none of them."""
    for name, value in table.items():
        if name not in SECTIONS:
            hint = nearest(name, SECTIONS) or "; there are " + ", ".join(SECTIONS)
            raise UserError(f"{where}: there is no section '{name}'{hint}")
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: '{name}' is a section, not a value")
    return dict(table)


def _of_run(file: Path | None) -> bool:
    """Whether these are the settings that a run has written down."""
    return file is not None and file.name == "config.toml" and (file.parent / "manifest.json").exists()


def settings_class_of(entry: AgentEntry) -> Any:
    """The dataclass of an agent's settings, without importing the agent where its entry says where to find it.

    Raises:
        UserError: a class from elsewhere that cannot be imported, or is no agent.
    """
    from qladder.envs.gym import load_attribute

    if entry.config:
        return load_attribute(entry.config, "settings")
    cls = load_attribute(entry.cls, "agent")
    from qladder.agents.agent import lacking

    if not entry.cls.startswith("qladder.") and (missing := lacking(cls)):
        raise UserError(f"agent '{entry.cls}': it lacks {', '.join(missing)} (docs/adding-an-agent.md)")
    return cls.Config


def _base(entry: AgentEntry) -> str | None:
    """The agent whose settings it starts from; one from outside may name it as its class's `base`."""
    from qladder.envs.gym import load_attribute

    return entry.base if ":" not in entry.name else getattr(load_attribute(entry.cls, "agent"), "base", None)


def _shipped(entry: AgentEntry, family: str, env: str) -> tuple[list[Table], list[str]]:
    """The layers that come with qladder, those of the base agents below, and where each came from."""
    layers: list[Table] = []
    sources: list[str] = []
    if base := _base(entry):
        layers, sources = _shipped(agent_entry(base), family, env)
    if ":" in entry.name:
        return layers, sources
    below = families().get(family, {}).get("base")
    for stem in ("agent", *([below] if below else []), family):
        path = CONFIGS / entry.name / f"{stem}.toml"
        if not path.is_file():
            continue
        table = read_toml(path)
        table.pop("about", None)
        named = {k: v for k, v in table.get("env", {}).items() if re.search(r"-v\d+$", k)}
        general = {**table, "env": {k: v for k, v in table.get("env", {}).items() if k not in named}}
        layers.append(sections(general, str(path)))
        sources.append(f"configs/{entry.name}/{stem}.toml")
        if env in named:
            layers.append(sections(named[env], f'{path} [env."{env}"]'))
            sources.append(f'[env."{env}"]')
    return layers, sources
