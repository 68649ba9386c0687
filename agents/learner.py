"""How a deep agent's updates are computed: `eager`, or `cpu-bf16` or `cuda-graph` where machine and settings allow."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor

from qladder.agents.dqn_config import DQNConfig
from qladder.agents.networks import QNetwork
from qladder.envs.errors import UserError
from qladder.envs.spec import EnvSpec
from qladder.replay.frames import ReplayConfig

LARGEST_ERROR = 0.2  # rounding to 8 bits and the units that it flips make up to 0.1 on noise; a wrong kernel makes 1


def choose_learner(
    config: DQNConfig, network: QNetwork, spec: EnvSpec, device: torch.device, replay: ReplayConfig
) -> str:
    """The back end by its name; `auto` takes `cpu-bf16` where it can be had and passes its self-test, else `eager`.

    `cuda-graph` has to be asked for until it has run on a GPU.

    Raises:
        UserError: one was asked for that can't be had.
    """
    wanted: str = config.learner
    lacking = {"cuda-graph": _graph_lacks(config, device, replay), "cpu-bf16": _bf16_lacks(network, device)}
    why = lacking.get(wanted)
    if why is not None:
        raise UserError(f"--learner {wanted}: {why}; auto and eager work")
    if wanted == "auto":
        wanted = "cpu-bf16" if lacking["cpu-bf16"] is None else "eager"
    if wanted != "cpu-bf16":
        return wanted
    error = bf16_error(network, spec.obs_shape)
    if not error <= LARGEST_ERROR:  # nor where it is NaN
        warnings.warn(f"cpu-bf16 fails its self-test here (relative error {error:.2g}): using eager", stacklevel=2)
        return "eager"
    return "cpu-bf16"


def _graph_lacks(config: DQNConfig, device: torch.device, replay: ReplayConfig) -> str | None:
    if device.type != "cuda":
        return f"the device is {device.type}"
    if replay.compression != "none":
        return f"a compressed replay (replay.compression = '{replay.compression}') is not on the GPU"
    parts = {
        f"{config.optimizer} (it is for adam)": config.optimizer != "adam",
        "a prioritised replay": replay.prioritized,
        "noisy layers": config.noisy,
        "implicit quantiles": config.distribution == "implicit-quantile",
    }
    found = [part for part, there in parts.items() if there]
    return f"it does not do {found[0]}" if found else None


def _bf16_lacks(network: QNetwork, device: torch.device) -> str | None:
    if device.type != "cpu":
        return f"the device is {device.type}"
    if not network.costly:
        return "it is for the Nature CNN without agent.norm and agent.pool"
    if not torch.cpu._is_avx512_bf16_supported():
        return "this CPU has no bfloat16 instructions (avx512_bf16)"
    return None


def bf16_error(network: QNetwork, obs_shape: tuple[int, ...], batch: int = 32) -> float:
    """Largest relative error over the parameters' gradients, bfloat16 against float32, on random pictures."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (batch, *obs_shape), dtype=torch.uint8, generator=generator)
    plain = copy.deepcopy(network)
    plain.resample(generator)  # without noise there is no gradient for its size
    low = copy.deepcopy(plain)
    low.lower()
    exact, rounded = (_gradients(n, pictures) for n in (plain, low))
    errors = [(e - r).norm() / e.norm() for e, r in zip(exact, rounded, strict=True)]
    return float(torch.stack(errors).max())  # NaN if one is


def _gradients(network: QNetwork, pictures: Tensor) -> list[Tensor]:
    implicit = network.head.embedding is not None
    fractions = [torch.linspace(0.1, 0.9, 3).expand(len(pictures), -1)] if implicit else []
    torch.autograd.backward(network(pictures, *fractions).square().sum())
    return [p.grad for p in network.parameters() if p.grad is not None]
