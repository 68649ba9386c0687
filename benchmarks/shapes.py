"""Do arrays have the shapes and kinds that docstrings promise? Contracts on what DQN's family is made of.

python benchmarks/shapes.py

Every agent of the family trains for 400 steps on Catch, with each call of the functions in `CONTRACTS` checked: letters
are sizes that must agree within a call. The exit status is 1, with one line, at the first that does not hold. One arm
of defects.py; not part of a run, since it looks at every call.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

FAMILY = (
    "dqn", "double-dqn", "dueling-dqn", "nstep-dqn", "per-dqn", "noisy-dqn", "c51", "qr-dqn", "iqn", "munchausen-dqn",
    "m-iqn", "rainbow",
)  # fmt: skip
SETTINGS = {"run": {"steps": 400, "learning_starts": 100, "eval_every": 400, "eval_episodes": 2}}
BATCH = ("[B ...]", "[B] int", "[B] float", "[B] float", "[B ...]", "[B] float", "[B] int")
VALUES = {
    "mean": ({"out": "[B A K] float"}, "[B A] float"),
    "target": (
        {"out": "[B A K]", "policy": "[B A] float", "reward": "[B] float", "discount": "[B] float"},
        ("[B K] float", "[] float"),
    ),
    "loss": ({"out": "[B K]", "target": "[B J]", "fractions": "[B K]"}, ("[B] float", "[B] float", "[B] float")),
}
CONTRACTS: dict[str, dict[str, tuple[dict[str, str], Any]]] = {
    # in the order of import, so that who takes a function by its name takes the checked one
    "qladder.agents.td": {
        "greedy": ({"q": "[B A] float"}, "[B A] float"),
        "softmax": ({"q": "[B A] float"}, "[B A] float"),
        "log_policy": ({"q": "[B A] float", "action": "[B] int"}, "[B] float"),
        "entropy": ({"q": "[B A] float"}, "[B] float"),
        "of_action": ({"out": "[B A ...]", "action": "[B] int"}, "[B ...]"),
        "munchausen_reward": (
            {"reward": "[B]", "discount": "[B]", "q": "[B A]", "action": "[B] int", "next_q": "[B A]"}, "[B] float",
        ),
    },
    "qladder.replay.returns": {
        "n_step": (
            {"reward": "[B N] float", "discount": "[B N]", "last": "[B N] bool"},
            ("[B] float", "[B] float", "[B] int"),
        ),
    },
    "qladder.agents.values": {
        **{f"{kind}.{name}": found for kind in ("Mean", "Categorical", "Quantiles") for name, found in VALUES.items()},
        "project": ({"probability": "[B K]", "values": "[B K]", "support": "[K]"}, "[B K]"),
    },
    "qladder.agents.networks": {
        "QNetwork.forward": ({"obs": "[B ...]", "fractions": "[F K] float"}, "[B A K] float"),
    },
    "qladder.agents.objective": {
        "Objective.__call__": (
            {"batch": ("[B ...]", "[B] int", "[B] float", "[B] float", "[B ...]", "[B] float")},
            ("[] float", "[B A] float", "[B] float", "[B K] float", "[B] float", "[B] float", "[] float"),
        ),
        "Objective.q": ({"obs": "[B ...]"}, "[B A] float"),
    },
    "qladder.replay.frames": {
        "FrameReplay.sample": ({}, BATCH),
        "FrameReplay.update": ({"index": "[B] int", "priority": "[B] float"}, None),
        "FrameReplay.add": ({"step": ("[N ...]", "[N] int", "[N] float", "[N] float", "[N] bool", "[N ...]")}, None),
    },
    "qladder.replay.priorities": {
        "SumTree.find": ({"mass": "[B] float"}, "[B] int"),
        "Priorities.weights": ({"index": "[B] int"}, "[B] float"),
    },
    "qladder.agents.dqn": {
        "DQN.act": ({"obs": "[N ...]", "first": "[N] bool"}, ("[N] int",)),
    },
}  # fmt: skip


class ContractError(Exception):
    """A shape or a kind is not what was promised."""


def check(value: Any, promised: Any, sizes: dict[str, Any], where: str) -> None:
    """Binds the letters of `promised` in `sizes`, or finds them bound otherwise; None promises nothing."""
    if promised is None or value is None:
        return
    if isinstance(promised, tuple):
        for place, (part, what) in enumerate(zip(value, promised, strict=False)):
            check(part, what, sizes, f"{where}[{place}]")
        return
    axes, _, kind = promised.partition("]")
    names, shape = axes.strip("[").split(), tuple(getattr(value, "shape", ()))
    if names[-1:] == ["..."]:
        names, rest = names[:-1], shape[len(names) - 1 :]
        if sizes.setdefault("...", rest) != rest:
            raise ContractError(f"{where}: {promised} promised, {shape} found beside {sizes}")
        shape = shape[: len(names)]
    if len(shape) != len(names) or any(sizes.setdefault(n, s) != s for n, s in zip(names, shape, strict=True)):
        raise ContractError(f"{where}: {promised} promised, {shape} found beside {sizes}")
    if kind.strip() and kind.strip() not in str(value.dtype):
        raise ContractError(f"{where}: {promised} promised, {value.dtype} found")


def checked(function: Callable[..., Any], arguments: dict[str, str], result: Any, name: str) -> Callable[..., Any]:
    """`function` with its contract."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        sizes: dict[str, Any] = {}
        given = signature.bind(*args, **kwargs).arguments
        for argument, promised in arguments.items():
            check(given.get(argument), promised, sizes, f"{name}, {argument}")
        found = function(*args, **kwargs)
        check(found, result, sizes, f"{name}, its result")
        return found

    return call


def install() -> None:
    """Puts every contract in the place of its function."""
    for module, contracts in CONTRACTS.items():
        for name, (arguments, result) in contracts.items():
            owner: Any = importlib.import_module(module)
            *holders, last = name.split(".")
            for holder in holders:
                owner = getattr(owner, holder)
            setattr(owner, last, checked(getattr(owner, last), arguments, result, name))


def main() -> None:
    install()
    from qladder.runners.training import train

    for agent in FAMILY:
        with tempfile.TemporaryDirectory(prefix="qladder-shapes-") as out:
            try:
                train(agent, "qladder/Catch-v0", settings=SETTINGS, out=Path(out))
            except ContractError as broken:
                sys.exit(f"{agent}: {broken}")


if __name__ == "__main__":
    main()
