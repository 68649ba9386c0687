"""The commands by name, each a thin face over one function; tyro reads their signatures and docstrings."""

from __future__ import annotations

from collections.abc import Callable

from qladder.runners import claim_commands
from qladder.runners import machine_commands as machine
from qladder.runners import result_commands as results
from qladder.runners import run_commands as runs

COMMANDS: dict[str, Callable[..., None]] = {
    "train": runs.train,
    "plan": machine.plan,
    "bench": machine.bench,
    "evaluate": runs.evaluate,
    "verify": runs.verify,
    "doctor": machine.doctor,
    "prune": runs.prune,
    "watch": runs.watch,
    "play": runs.play,
    "suite": results.suite,
    "compare": results.compare,
    "report": results.report,
    "claims": claim_commands.claims,
    "list": results.list_,
    "diff": results.diff,
    "solve": results.solve,
}
