"""Every random stream of a run, descended from its one seed by named keys."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


def generator(seed: int, stream: str, *key: int) -> np.random.Generator:
    """The generator of one named stream, e.g. `generator(seed, "explore")`.

    Distinct seeds, names and keys share no stream.
    """
    return np.random.Generator(np.random.PCG64(_sequence(seed, stream, key)))


def integer(seed: int, stream: str, *key: int) -> int:
    """A seed below 2**31 for somebody else's generator, e.g. `integer(seed, "env", env, episode)`."""
    return int(_sequence(seed, stream, key).generate_state(1)[0]) >> 1


@contextmanager
def unmoved(rng: np.random.Generator) -> Iterator[None]:
    """What is drawn within will be drawn again afterwards."""
    before = rng.bit_generator.state
    try:
        yield
    finally:
        rng.bit_generator.state = before


def _sequence(seed: int, stream: str, key: tuple[int, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(zlib.crc32(stream.encode()), *key))
