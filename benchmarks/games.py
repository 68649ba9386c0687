"""Every Atari game, resumed in the middle of episodes: python benchmarks/games.py [GAME ...] [--json FILE].

One process plays a game at random in two environments, saves their state three times, each time in the middle of an
episode in both, and plays on. Another process, which never saw the game, loads each state and plays the same actions
from there: every observation, reward, discount and end of an episode must be the same. Once with sticky actions
(`machado-2018`) and once without (`nature-full-games`). The exit status is 1 where one was not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import ale_py
import gymnasium
import numpy as np

from qladder.envs.journal import fingerprint
from qladder.envs.make import make_env
from qladder.runners import checkpoint
from qladder.runners.config import resolve
from qladder.runners.run_folder import provenance, write_json

PROTOCOLS = {"nature-full-games": False, "machado-2018": True}  # with sticky actions
POINTS = 3  # where each game is saved
BETWEEN = 150  # agent steps, at least
INSIDE = 20  # agent steps of an episode before it is saved
ON = 100  # agent steps that are compared
LIMIT = 30_000  # agent steps, after which a game counts as one whose episodes are too short


def make(game: str, protocol: str) -> Any:
    rules = resolve("random", game, {"env": {"protocol": protocol}}).protocol
    return make_env(game, rules, seed=1, batched=True, num_envs=2)


def going_on(env: Any, point: int) -> list[str]:
    """What the environments show when they play on: a digest for each of so many steps."""
    rng = np.random.default_rng(point)
    steps = (env.step(rng.integers(env.spec.num_actions, size=2)) for _ in range(ON))
    return [fingerprint(*step) for step in steps]


def play(game: str, protocol: str, folder: Path) -> list[dict[str, Any]]:
    """Saves a game's states in `folder`; where each lies, and what comes after."""
    env, rng = make(game, protocol), np.random.default_rng(0)
    env.reset()
    told: list[dict[str, Any]] = []
    since, inside = 0, np.zeros(2, np.int64)
    for step in range(LIMIT):
        if since >= BETWEEN and inside.min() >= INSIDE:
            saved = checkpoint.save(folder / str(len(told)), step, {"env": env.state_dict()})
            told.append({"saved": saved, "into": "{}+{}".format(*inside), "after": going_on(env, len(told))})
            since, inside = 0, np.zeros(2, np.int64)  # how far its episodes are now is not known
        if len(told) == POINTS:
            break
        last = env.step(rng.integers(env.spec.num_actions, size=2)).last
        since, inside = since + 1, np.where(last, 0, inside + 1)
    env.close()
    return told


def resumes(game: str, protocol: str, told: list[dict[str, Any]]) -> list[bool]:
    """Whether each saved state goes on as it did."""
    found = []
    for point, place in enumerate(told):
        env = make(game, protocol)
        env.resume(checkpoint.load(place["saved"])["env"])
        found.append(going_on(env, point) == place["after"])
        env.close()
    return found


def rows(games: list[str]) -> Iterator[dict[str, Any]]:
    """One for each game and protocol, as they are done."""
    spawn = multiprocessing.get_context("spawn")
    jobs = [(game, protocol) for game in games for protocol in PROTOCOLS]
    with (
        ProcessPoolExecutor(1, spawn) as players,
        ProcessPoolExecutor(1, spawn) as others,
        tempfile.TemporaryDirectory(prefix="qladder-games-") as place,
    ):
        played = [players.submit(play, *job, Path(place) / str(number)) for number, job in enumerate(jobs)]
        for (game, protocol), future in zip(jobs, played, strict=True):
            told = future.result()
            found = others.submit(resumes, game, protocol, told).result()
            into = ", ".join(place["into"] for place in told)
            yield {"game": game, "sticky": PROTOCOLS[protocol], "into": into, "points": len(told), "exact": sum(found)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("games", nargs="*", metavar="GAME", help="as ALE/Pong-v5; by default all that ale-py has")
    parser.add_argument("--json", type=Path, help="file for the report")
    args = parser.parse_args()
    gymnasium.register_envs(ale_py)
    games = args.games or sorted(name for name in gymnasium.registry if name.startswith("ALE/"))
    began, told = time.monotonic(), []
    for row in rows(games):
        told.append(row)
        print(f"{row['exact']} of {POINTS}: {row}", file=sys.stderr, flush=True)
    exact = sum(row["exact"] == POINTS for row in told)
    totals = {"games": len(games), "cases": len(told), "exact": exact, "points": POINTS, "compared_steps": ON}
    command = " ".join(["python benchmarks/games.py", *sys.argv[1:]])
    report = {"command": command, **totals, "seconds": time.monotonic() - began, "rows": told, **provenance()}
    if args.json is not None:
        write_json(args.json, report)
    print(json.dumps(totals))
    return int(exact < len(told))


if __name__ == "__main__":
    sys.exit(main())
