"""The command line: `qladder COMMAND`; what is wrong with the input is told in one line."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import tyro

from qladder.envs.errors import (
    DivergedError,
    EnvironmentFaultError,
    FaultyUpdateError,
    LostLockError,
    StorageError,
    UserError,
    first_line,
    nearest,
    out_of_memory,
)
from qladder.runners import command_line
from qladder.runners.commands import COMMANDS

DESCRIPTION = (
    "From a Q-table to Rainbow, one rung at a time: train value-based agents under one runner and compare them so that "
    "the result can be trusted."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Exit status 0; 1 for a failure on the way; 2 for bad input; 130 and 143 when stopped."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _run(argv)
    except UserError as error:
        _fail(str(error), 2)
    except EnvironmentFaultError as error:
        _fail(f"{error}; --resume goes on from the newest checkpoint, if there is one", 1)
    except DivergedError as error:
        _fail(f"{error}; checkpoints made before are good", 1)
    except StorageError as error:
        _fail(f"{error}; what was written before is good: once there is room, --resume goes on from it", 1)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        more = "checkpoints made before are good: --resume goes on from the newest where there is more memory"
        _fail(f"out of memory ({first_line(error)}); {more}; qladder plan tells how much a run takes", 1)
    except (LostLockError, FaultyUpdateError) as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _run(argv: list[str]) -> None:
    from qladder.runners.settings import parse_flags

    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        raise UserError(f"command '{argv[0]}': there is no such command{nearest(argv[0], COMMANDS)} (qladder --help)")
    if argv == ["--version"]:
        print(f"qladder {version('qladder')}")
        return
    if argv and argv[0].startswith("-") and argv[0] not in ("-h", "--help"):
        raise UserError(f"{argv[0]}: options stand after the command: qladder COMMAND ... {argv[0]}")
    flags, rest = parse_flags(argv)
    if flags and argv[0] not in ("train", "plan", "bench", "play", "solve"):
        section, table = next(iter(flags.items()))
        raise UserError(f"--{section}.{next(iter(table))}: qladder {argv[0]} takes no settings")
    if argv[:1] == ["train"] and "--help" in argv and len([a for a in rest[1:] if not a.startswith("-")]) >= 2:
        from qladder.runners.listing import print_settings

        names = [a for a in rest[1:] if not a.startswith("-")]
        print_settings(names[0], names[1], flags)
        return
    if not argv:
        rest = ["--help"]
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            command = _parse(rest)
    except SystemExit as stop:
        if stop.code:
            raise UserError(_one_line(errors.getvalue())) from None
        raise
    command_line.arguments[:] = argv
    command_line.flags.clear()
    command_line.flags.update(flags)
    if "--json" not in rest:
        command()
        return
    command_line.output = sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):
            command()
    finally:
        command_line.output = None


def _parse(rest: list[str]) -> Callable[[], None]:
    """The command with its arguments bound, not yet run."""
    from functools import partial, wraps

    def bound(function: Callable[..., None]) -> Callable[..., Callable[[], None]]:
        @wraps(function)
        def bind(*args: Any, **kwargs: Any) -> Callable[[], None]:
            return partial(function, *args, **kwargs)

        return bind

    return tyro.extras.subcommand_cli_from_dict(
        {name: bound(function) for name, function in COMMANDS.items()},
        prog="qladder",
        description=DESCRIPTION,
        args=rest,
        config=(tyro.conf.FlagCreatePairsOff,),
    )


def _one_line(box: str) -> str:
    """What tyro drew in a box, as one line."""
    text = re.sub(r"[╭╮╰╯│─]+|[+|]?-{3,}[+|]?|(?m:^\||\|$)", " ", box)
    text = text.split("For full helptext")[0].split("Argument helptext")[0]
    lines = [re.sub(r"\s+", " ", line).strip() for line in text.splitlines()]
    title = re.compile(r"[A-Z][a-z ]+ (error|options|choice|arguments?)")
    line = " ".join(line for line in lines if line and not title.fullmatch(line))
    wrong = re.match(r"Error parsing (\S+): no type matching \{None\}\|(\S+) .*? from \['(.*?)'\]", line)
    if wrong:
        kind = {"INT": "a whole number, as 100000", "FLOAT": "a number"}.get(wrong[2], wrong[2])
        return f"{wrong[1]} '{wrong[3]}': must be {kind}"
    unknown = re.match(r"Unrecognized (?:or misplaced )?options: (.*)", line)
    if unknown:
        words, _, meant = unknown[1].partition(" Perhaps you meant: ")
        words = re.sub(r" \(applied to [^)]*\)|,| Arguments are applied.*", "", words)
        close = meant.split()[:1]
        hint = f"; did you mean {close[0]}?" if close and close[0] != words else ""  # else it is another command's
        return f"{words}: no such option here{hint}"
    choice = re.search(r"invalid choice '(.*?)' for argument '(.*?)'.* one of (\(.*\))", line)
    if choice:
        allowed = re.findall("'(.*?)'", choice[3])
        return f"{choice[2]} '{choice[1]}': must be one of {choice[3]}{nearest(choice[1], allowed)}"
    return line


def _fail(message: str, status: int) -> None:
    print(f"qladder: {message}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
