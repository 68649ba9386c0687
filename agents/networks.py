"""Torsos and heads as parts chosen by name, initialised from a generator that is handed in."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from qladder.agents.agent import EnvSpec
from qladder.envs.errors import UserError


class Scale(nn.Module):
    """Bounded dimensions to [-1, 1]; unbounded ones as they are."""

    shift: Tensor
    factor: Tensor

    def __init__(self, low: tuple[float, ...], high: tuple[float, ...]) -> None:
        super().__init__()
        lo, hi = torch.tensor(low), torch.tensor(high)
        bounded = (lo > -1e3) & (hi < 1e3) & (hi > lo)
        self.register_buffer("shift", torch.where(bounded, (lo + hi) / 2, 0.0), persistent=False)
        self.register_buffer("factor", torch.where(bounded, 2 / (hi - lo), 1.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.shift) * self.factor


class OneHot(nn.Module):
    """State numbers `[B]` to unit vectors `[B, S]`."""

    def __init__(self, num_states: int) -> None:
        super().__init__()
        self.num_states = num_states

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(x, self.num_states).float()


class Pixels(nn.Module):
    """uint8 `[B, C, H, W]` to floats in [0, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float() / 255


def q_network(
    name: str,
    hidden: tuple[int, ...],
    spec: EnvSpec,
    num_actions: int,
    generator: torch.Generator,
    *,
    scale_inputs: bool = False,
) -> nn.Module:
    """A network from observations `[B, ...]` to action values `[B, A]`.

    `auto` takes the Nature CNN (Mnih et al. 2015) for pictures of 36 pixels and more, a small one (one 3x3 convolution
    of 16 channels, as in MinAtar) for smaller pictures, else an MLP; `hidden` are the fully connected widths.

    Raises:
        UserError: the named network does not fit the observations.
    """
    picture = len(spec.obs_shape) == 3 and spec.obs_dtype == "uint8"
    if name == "auto":
        name = "mlp" if not picture else "nature-cnn" if min(spec.obs_shape[1:]) >= 36 else "small-cnn"
    if name != "mlp" and not picture:
        raise UserError(
            f"agent.network = '{name}' needs pictures; {spec.id} observes {spec.obs_shape} {spec.obs_dtype}"
        )
    torso: list[nn.Module]
    if name == "mlp":
        torso, width = _vector_torso(spec, scale_inputs)
    elif name == "nature-cnn":
        if min(spec.obs_shape[1:]) < 36:
            raise UserError(f"agent.network = 'nature-cnn' needs pictures of 36 pixels; {spec.id} has {spec.obs_shape}")
        torso, width = _convolutions(spec, [(32, 8, 4), (64, 4, 2), (64, 3, 1)])
    else:
        torso, width = _convolutions(spec, [(16, 3, 1)])
    layers = [*torso]
    for size in hidden:
        layers += [nn.Linear(width, size), nn.ReLU()]
        width = size
    network = nn.Sequential(*layers, nn.Linear(width, num_actions))
    _initialise(network, generator)
    return network


def _vector_torso(spec: EnvSpec, scale_inputs: bool) -> tuple[list[nn.Module], int]:
    if spec.num_states is not None:
        return [OneHot(spec.num_states)], spec.num_states
    width = math.prod(spec.obs_shape)
    if scale_inputs and spec.low is not None and spec.high is not None:
        return [Scale(spec.low, spec.high)], width
    return ([Pixels(), nn.Flatten()] if spec.obs_dtype == "uint8" else [nn.Flatten()]), width


def _convolutions(spec: EnvSpec, layers: list[tuple[int, int, int]]) -> tuple[list[nn.Module], int]:
    channels, height, width = spec.obs_shape
    modules: list[nn.Module] = [Pixels()]
    for out, kernel, stride in layers:
        modules += [nn.Conv2d(channels, out, kernel, stride), nn.ReLU()]
        channels, height, width = out, (height - kernel) // stride + 1, (width - kernel) // stride + 1
    return [*modules, nn.Flatten()], channels * height * width


def _initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Weights and biases uniform within 1 / sqrt(fan in), torch's own default, from our generator."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bound = 1 / math.sqrt(layer.weight[0].numel())
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
