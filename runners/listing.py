"""What there is, from TOML files and signatures alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qladder.agents.architecture import layers
from qladder.agents.network_config import NetworkConfig
from qladder.runners.protocols import load_protocol, protocol_names
from qladder.runners.settings import read_toml
from qladder.runners.shipped import CONFIGS, agent_entry, agent_names, families

ATARI, ALL_ACTIONS = (4, 84, 84), 18
NETWORKS: dict[str, tuple[str, NetworkConfig, tuple[int, ...], int]] = {  # with the input that each is usual for
    "mlp": ("fully connected layers, for vectors (here CartPole's)", NetworkConfig("mlp", (128, 128)), (4,), 2),
    "small-cnn": (
        "a 3x3 convolution, for small pictures (Catch); more of them: --agent.channels 16 16",
        NetworkConfig("small-cnn", (128,)),
        (1, 10, 10),
        3,
    ),
    "local": (
        "the same with weights of each place's own, for comparison (--agent.channels 16)",
        NetworkConfig("local", (128,)),
        (1, 10, 10),
        3,
    ),
    "nature-cnn": (
        "three convolutions (Mnih et al. 2015)",
        NetworkConfig("nature-cnn", (512,)),
        ATARI,
        ALL_ACTIONS,
    ),
    **{
        f"impala x{width}": (
            f"IMPALA's ResNet (Espeholt et al. 2018): --agent.network impala --agent.width {width}",
            NetworkConfig("impala", (256,), width=width),
            ATARI,
            ALL_ACTIONS,
        )
        for width in (1, 2, 4)
    },
}


def listing(what: str) -> dict[str, Any]:
    """Everything that has a name (agents, protocols, ...), or one kind of it: what `qladder list --json` prints."""
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "agents": _agents,
        "networks": _networks,
        "envs": families,
        "protocols": _protocols,
        "suites": lambda: _summaries("suites"),
        "presets": lambda: _summaries("presets"),
        "references": lambda: _summaries("references"),
    }
    return {name: part() for name, part in parts.items() if what in ("all", name)}


def print_listing(what: str) -> None:
    """The same as tables on standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(markup=False)
    for name, rows in listing(what).items():
        table = Table("name", "what", title=name, title_justify="left", box=None, header_style="bold", expand=False)
        for key, row in rows.items():
            text = row["summary"]
            if name == "envs":
                ids = (
                    row["ids"]
                    if len(row["ids"]) < 10 or what == "envs"
                    else [*row["ids"][:3], f"… ({len(row['ids'])})"]
                )
                text += f" (protocol {row['protocol']}): " + ", ".join(ids)
            elif name == "agents":
                text += f"; plays {row['plays']}"
                if row["learners"]:
                    text += "; fast paths: " + (", ".join(n for n in row["learners"] if n != "eager") or "none")
            elif name == "networks":
                inputs = " x ".join(map(str, row["obs_shape"]))
                text += f"; {inputs} numbers, hidden {row['hidden']}, {row['num_actions']} actions: "
                text += f"{row['parameters']:,} parameters, {row['flops'] / 1e6:,.2f} MFLOP for one forward pass"
            elif name == "protocols":
                text += f" [{row['hash']}]"
            table.add_row(key, Text(text))
        console.print(table)
        if name == "networks":
            console.print("with --agent.norm layer, --agent.residual true, --agent.pool 6 and --agent.dueling true")
        console.print()


def print_settings(agent: str, env: str, flags: Mapping[str, Any]) -> None:
    """Every setting of an agent on an environment, with its value and meaning."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from qladder.envs.protocol import Protocol
    from qladder.runners.config import EnvConfig, RunConfig, resolve
    from qladder.runners.protocols import rules_of
    from qladder.runners.settings import dump, fields_help
    from qladder.runners.shipped import settings_class_of

    config = resolve(agent, env, flags)
    console = Console(markup=False)
    console.print(f"qladder train {agent} {env}: settings from {' < '.join(('class defaults', *config.sources))}\n")
    settings_class = settings_class_of(agent_entry(agent))
    classes = {
        **{"env": EnvConfig, "agent": settings_class, "replay": settings_class.replay, "run": RunConfig},
        "protocol": Protocol,
    }
    rules = rules_of(env, config.env.kwargs)
    for section, values in {**config.table(), "protocol": dump(config.protocol)}.items():
        table = Table(title=section, title_justify="left", box=None, show_header=False)
        for name, value, meaning in fields_help(classes[section], {k: v for k, v in values.items() if k != "name"}):
            if name != "id" and (section != "protocol" or name in rules):
                table.add_row(*map(Text, (f"--{section}.{name}", value.replace("null", "none"), meaning)))
        console.print(table)
        console.print()


def _agents() -> dict[str, Any]:
    rows = {}
    for name in agent_names():
        entry = agent_entry(name)
        rows[name] = {
            "rung": entry.rung,
            "summary": entry.summary,
            "plays": entry.plays,
            "learners": list(entry.learners),
        }
    return rows


def _networks() -> dict[str, Any]:
    """A multiplication and an addition are two operations; those of biases, ReLUs and norms are not counted."""
    rows = {}
    for name, (summary, config, obs_shape, num_actions) in NETWORKS.items():
        found = layers(config.network, config, obs_shape, num_actions)
        rows[name] = {
            "summary": summary,
            "obs_shape": list(obs_shape),
            "hidden": list(config.hidden),
            "num_actions": num_actions,
            "parameters": sum(layer.parameters for layer in found),
            "flops": 2 * sum(layer.multiply_adds for layer in found),
        }
    return rows


def _protocols() -> dict[str, Any]:
    loaded = [load_protocol(name) for name in protocol_names()]
    return {p.name: {"version": p.version, "hash": p.hash, "summary": p.summary, "source": p.source} for p in loaded}


def _summaries(folder: str) -> dict[str, Any]:
    paths = sorted((CONFIGS / folder).glob("*.toml"))
    return {path.stem: {"summary": read_toml(path).get("summary", "")} for path in paths}
