"""Command lines at random, as `benchmarks/fuzz.py` makes them: refused in a line or taken as they stand."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

from fuzz import attempt, command_line, in_process

ATTEMPTS = 2_000


def test_nothing_raises_hangs_or_is_taken_for_something_else() -> None:
    found = in_process(ATTEMPTS, seed=7)
    bad = {came_to: words[0] for came_to, words in found.items() if came_to not in ("refused", "accepted")}
    assert bad == {}
    assert sum(map(len, found.values())) == ATTEMPTS
    assert len(found["accepted"]) > ATTEMPTS / 20
    assert len(found["refused"]) > ATTEMPTS / 2


def test_what_is_plain_is_accepted_and_what_is_not_refused() -> None:
    assert attempt(["dqn", "CartPole-v1", "--agent.hidden", "64", "64", "--agent.epsilon.end=0.05"]) == "accepted"
    assert attempt(["dqn", "CartPole-v1", "--agent.hidden", "-64"]) == "refused"
    assert attempt(["dqn", "CartPole-v1", "--agent.epsilon", "nan"]) == "refused"
    assert attempt(["dqn", "CartPole-v1", "--env.wrappers", "a\nb"]) == "refused"  # in one line
    assert attempt(["dqn", "CartPole-v1", "--env.protocol", "false"]) == "refused"


def test_a_seed_makes_the_same_command_lines() -> None:
    one, other, third = ([command_line(rng) for _ in range(50)] for rng in (Random(1), Random(1), Random(2)))
    assert one == other != third
