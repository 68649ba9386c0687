"""One way to an environment of any kind, from its id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qladder.envs.errors import UserError, nearest
from qladder.envs.protocol import Protocol
from qladder.envs.seeding import integer
from qladder.envs.spec import ResumableEnv


def make_env(
    id: str,
    protocol: Protocol,
    *,
    seed: int,
    stream: str = "env",
    training: bool = True,
    batched: bool = False,
    num_envs: int = 1,
    kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[str] = (),
    run_seed: int = 0,
) -> ResumableEnv:
    """N environments whose randomness descends from `(seed, stream)`.

    `batched` False gives one environment with plain values; Atari is always batched. `training` False applies the
    protocol's evaluation cap and ignores lost lives. `run_seed` goes to wrappers that ask for it (see `wrapped`).

    Raises:
        UserError: an id, an argument or a wrapper that there is not.
    """
    if id.startswith("ALE/"):
        _check_atari(id, kwargs or {})
        from qladder.envs.atari import AtariEnv

        seeds = [integer(seed, stream, i) for i in range(num_envs)]
        return AtariEnv(
            id,
            protocol,
            num_envs=num_envs,
            seeds=seeds,
            training=training,
            ram=bool(kwargs),
            wrappers=wrappers,
            run_seed=run_seed,
        )
    from qladder.envs import own  # noqa: F401  (registers environments)
    from qladder.envs.gym import BatchEnv, GymEnv, make_gym

    if not batched and num_envs != 1:
        raise UserError(f"env.num_envs = {num_envs}: this agent plays one environment at a time")
    bare = [
        make_gym(id, protocol, training=training, kwargs=kwargs, wrappers=wrappers, run_seed=run_seed)
        for _ in range(num_envs)
    ]
    envs = [GymEnv(env, id, seed, stream, i) for i, env in enumerate(bare)]
    return BatchEnv(envs) if batched else envs[0]


def _check_atari(id: str, kwargs: Mapping[str, Any]) -> None:
    about = f"environment '{id}': Atari games are set by their protocol; they take"
    for name, value in kwargs.items():
        if (name, value) != ("obs_type", "ram"):
            close = nearest(str(value), ["ram"]) if name == "obs_type" else nearest(name, ["obs_type"])
            ours = "--protocol.RULE VALUE changes a rule"
            raise UserError(f"{about} no kwargs but obs_type = 'ram', not {name} = {value!r}{close} ({ours})")
