"""Command lines and settings made at random, most of them nonsense: refused in a line, or taken as they stand.

python benchmarks/fuzz.py [--attempts 100000] [--processes 300] [--seed 0] [--json FILE]

In process an attempt goes as far as a run does before it has a folder: flags read, settings resolved, environment and
agent made, all within a limit of memory and of time. `--processes` attempts more are real ones, which train a little
where they are accepted. What must not happen: anything but a refusal in one line or a success, an attempt that takes
longer than its limit, and a value that is accepted but is not the one that was given.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import tomli_w

from qladder.envs.errors import EnvironmentFaultError, UserError
from qladder.runners.config import resolve
from qladder.runners.loading import agent_class, make_agent, make_environment
from qladder.runners.memory import available, check_replay
from qladder.runners.run_folder import provenance, write_json
from qladder.runners.settings import SECTIONS, parse_flags
from qladder.runners.shipped import agent_names

ENVS = ["FrozenLake-v1", "CliffWalking-v1", "CartPole-v1", "MountainCar-v0", "qladder/Catch-v0", "Blackjack-v1"]
LONG = "a" * 3_000
ODD_ENVS = [
    *("Pendulum-v1", "qladder/CartPoleHidden-v0", "ALE/Pong-v5", "cartpole-v1", "CartPole-v9", "Nothing-v0", ":-v0"),
    *("os:CartPole-v1", "no_such_module:Env-v0", "", " ", "../../etc/passwd", "CartPole", LONG, "é-v0", "-v0"),
]
ODD_AGENTS = [
    *("dqnn", "DQN", "", "random:Random", "os:system", "qladder.agents.dqn:DQM", "no_such:Agent", "../dqn", LONG),
]
NUMBERS = [
    *("0", "1", "2", "3", "-1", "10", "64", "255", "256", "1000", "100000", "1000000000", "2147483648", "0.5", "-0.5"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "1" + "0" * 30, "1" + "0" * 400, "1.0"),
    *("1e-3", "1e-300", "1e-400", "1e308", "1e400", "nan", "inf", "-inf", "+3", "1_000", "0x10", "0b1", "007", "3.0"),
]
WORDS = [
    *(
        "",
        " ",
        "none",
        "None",
        "auto",
        "true",
        "false",
        "True",
        "[]",
        "{}",
        "[1, 2]",
        "[[1]]",
        "{a = 1}",
        "'x'",
        '"adam"',
    ),
    *("adam", "rmsprop", "huber", "mse", "lstm", "tiles", "fourier", "rbf", "categorical", "quantile", "quantil"),
    *("updates", "frames", "1979-05-27", "1979-05-27T07:32:00Z", "\x00", "\n", "é" * 50, "x" * 5000, "--", "-", "="),
    *("$(id)", "a.b", "[" * 500),
]
MEMORY = 8 * 2**30  # bytes of address space of an attempt
SECONDS = 60  # of an attempt: a seeded start of 255 Atari games, which is allowed, takes half of it


class TooLong(BaseException):
    """The attempt's time is over."""


def command_line(rng: Random) -> list[str]:
    """`train AGENT ENV` with some flags, of which most runs have at least one that makes no sense."""
    agent = rng.choice(agent_names()) if rng.random() < 0.93 else rng.choice(ODD_AGENTS)
    env = rng.choice(ENVS) if rng.random() < 0.9 else rng.choice(ODD_ENVS)
    flags = [part for _ in range(rng.choice([0, 1, 1, 1, 2, 2, 3, 5])) for part in flag(rng, agent)]
    return [agent, env, *flags]


def flag(rng: Random, agent: str) -> list[str]:
    section = rng.choice(SECTIONS) if rng.random() < 0.97 else rng.choice(["agnet", "", "run.run", "__class__"])
    name = rng.choice(fields(agent).get(section) or ["x"])
    if rng.random() < 0.05:
        name = rng.choice([name[:-1], name + "s", name.upper(), "__init__", "", "a.b.c.d", name + ".x"])
    if rng.random() < 0.15:
        name += rng.choice([".start", ".end", ".over", ".clock", ".begin"])
    pool = NUMBERS if rng.random() < 0.75 else WORDS
    values = [rng.choice(pool) for _ in range(rng.choice([1, 1, 1, 1, 1, 1, 2, 3]))]
    full = f"--{section}.{name.replace('_', '-') if rng.random() < 0.5 else name}"
    return [f"{full}={values[0]}"] if rng.random() < 0.3 else [full, *values]


_fields: dict[str, dict[str, list[str]]] = {}


def fields(agent: str) -> dict[str, list[str]]:
    """The names of an agent's settings by section."""
    if agent not in _fields:
        known = agent if agent in agent_names() else "dqn"
        table = resolve(known, "CartPole-v1", {}).table()
        _fields[agent] = {section: [n for n in names if n != "name"] for section, names in table.items()}
    return _fields[agent]


def attempt(words: Sequence[str]) -> str:
    """What `train` with these words comes to before it has a folder: refused, accepted, or what must not be."""
    try:
        flags, rest = parse_flags(words)
        if len(rest) != 2 or any(word.startswith("-") for word in rest):
            return "refused"  # not that many names, which the command line itself refuses
        config = resolve(*rest, flags)
        if wrong := altered(config.table(), flags):
            return f"altered: {wrong}"
        written = tomllib.loads(tomli_w.dumps(config.table()))
        del written["agent"]["name"], written["env"]["id"]
        if resolve(*rest, written).table() != config.table():
            return "altered: what is written down is not what was read"
        env = make_environment(config, agent_class(config).batched)
        env.close()
        if config.replay is not None:
            size = getattr(config.agent, "state_size", 0)
            check_replay(config.replay, env.spec, state_size=size, limit=available())
        make_agent(config, env.spec, "cpu")
    except (UserError, EnvironmentFaultError) as error:
        return "refused" if str(error).strip() and len(str(error).splitlines()) == 1 else f"no line: {error!r}"
    except TooLong:
        return "too long"
    except Exception as error:
        return f"raised: {type(error).__name__}: {error}"[:300]
    return "accepted"


def altered(table: dict[str, Any], flags: dict[str, Any]) -> str:
    """Where what came of the flags is not what they say."""
    for section, given in flags.items():
        for name, value in given.items():
            found = table[section].get(name, "nothing at all")
            if not same(found, value):
                return f"{section}.{name} = {value!r} became {found!r}"
    return ""


def same(found: Any, given: Any) -> bool:
    """Whether a resolved value is the given one; a number stands for a constant schedule and for a list of one."""
    if isinstance(given, dict) and isinstance(found, dict):
        return all(same(found.get(k), v) for k, v in given.items())
    if isinstance(found, dict) and not isinstance(given, dict):
        return same(found.get("start"), given) and same(found.get("end"), given)
    if isinstance(found, list):
        given = given if isinstance(given, list) else [given]
        return len(found) == len(given) and all(map(same, found, given))
    if isinstance(found, bool) or isinstance(given, bool):
        return found is given
    if isinstance(found, float):
        return isinstance(given, int | float) and math.isfinite(found) and found == float(given)
    if isinstance(found, int) and isinstance(given, float):
        return found == given  # 1e5
    return type(found) is type(given) and found == given


def held() -> int:
    """Bytes of address space that this process has already, of tests before this one: much, once torch has run."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def in_process(attempts: int, seed: int) -> dict[str, list[list[str]]]:
    """The command lines of so many attempts by what they came to; the same for every seed."""
    rng, found = Random(seed), collections.defaultdict(list)
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, _too_long)
    resource.setrlimit(resource.RLIMIT_AS, (held() + MEMORY, before[1]))
    try:
        for _ in range(attempts):
            words = command_line(rng)
            signal.alarm(SECONDS)
            came_to = attempt(words)
            signal.alarm(0)
            found[came_to].append(words)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)
    return found


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TooLong


def as_processes(attempts: int, seed: int) -> dict[str, list[list[str]]]:
    """Likewise with real processes, which train for fifty steps where they are accepted."""
    rng, found = Random(seed + 1), collections.defaultdict(list)
    short = ["--run.steps", "50", "--run.eval-episodes", "1", "--run.eval-every", "1000"]
    with tempfile.TemporaryDirectory(prefix="qladder-fuzz-") as folder:
        for number in range(attempts):
            words = ["train", *command_line(rng)]
            if rng.random() < 0.1:
                words[0] = rng.choice(
                    ["trian", "evaluate", "verify", "solve", "list", "diff", "doctor", "compare", "report"]
                )
            words = [w for w in words if "\x00" not in w]  # no process can be given such a one
            limited = words + (short if words[0] == "train" else [])
            command = [
                sys.executable,
                "-m",
                "qladder.runners",
                *limited,
                *(["--name", str(number)] if words[0] == "train" else []),
            ]
            found[_ended(command, folder)].append(words)
    return found


def _ended(command: list[str], folder: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=2 * SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "too long"
    if "Traceback" in done.stderr or done.returncode not in (0, 1, 2):
        return f"raised: status {done.returncode}: {done.stderr[-300:]}"
    if done.returncode == 0:
        return "accepted"
    told = [line for line in done.stderr.splitlines() if line.startswith("qladder: ")]
    return "refused" if len(told) == 1 else f"no line: status {done.returncode}: {done.stderr[-300:]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--attempts", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the report")
    asked = parser.parse_args()
    began = time.monotonic()
    found = {
        "in_process": in_process(asked.attempts, asked.seed),
        "processes": as_processes(asked.processes, asked.seed),
    }
    bad = {
        f"{how}: {came_to}": {"times": len(words), "some": [" ".join(some)[:500] for some in words[:10]]}
        for how, outcomes in found.items()
        for came_to, words in outcomes.items()
        if came_to not in ("accepted", "refused")
    }
    options = f"--attempts {asked.attempts} --processes {asked.processes} --seed {asked.seed}"
    told = {
        "command": f"python benchmarks/fuzz.py {options}",
        **provenance(),
        "seconds": round(time.monotonic() - began),
        "counts": {how: {k: len(v) for k, v in outcomes.items()} for how, outcomes in found.items()},
        "bad": bad,
    }
    print(json.dumps({"counts": told["counts"], "bad": told["bad"], "seconds": told["seconds"]}, indent=1))
    if asked.json is not None:
        write_json(asked.json, told)
    return int(bool(told["bad"]))


if __name__ == "__main__":
    sys.exit(main())
