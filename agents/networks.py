"""Torsos and heads as parts chosen by name, initialised from a generator that is handed in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qladder.agents.agent import EnvSpec
from qladder.agents.bf16 import LowConvolutions, LowCopies, LowLinear, can_fold, multiplies_low
from qladder.envs.errors import UserError

SMALLEST = 3  # pixels, as the small CNN's kernel
NATURE_PIXELS = 36  # the Nature CNN needs as many in height and width
CONVOLUTIONS = {  # (channels out, kernel, stride)
    "nature-cnn": ((32, 8, 4), (64, 4, 2), (64, 3, 1)),
    "small-cnn": ((16, 3, 1),),
}


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
        return (x.float().flatten(1) - self.shift) * self.factor


class Floats(nn.Module):
    """Numbers of any type `[B, ...]` to floats `[B, K]`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float().reshape(len(x), -1)


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


class Convolutions(nn.Module):
    """uint8 `[B, C, H, W]` to features `[B, K]`: convolutions with ReLU, each (channels out, kernel, stride)."""

    def __init__(self, shape: tuple[int, ...], layers: Sequence[tuple[int, int, int]], pixel_mean: int) -> None:
        super().__init__()
        channels, height, width = shape
        self._mean = pixel_mean
        self.layers: nn.Sequential = nn.Sequential()
        self._format = torch.channels_last if min(height, width) >= NATURE_PIXELS else torch.contiguous_format
        for out, kernel, stride in layers:
            self.layers.append(nn.Conv2d(channels, out, kernel, stride).to(memory_format=self._format))  # type: ignore[call-overload]
            channels, height, width = out, (height - kernel) // stride + 1, (width - kernel) // stride + 1
        self.width = channels * height * width
        self._strides = [stride for _, _, stride in layers]
        self._folds = can_fold(*layers[0][1:])
        self._low: LowCopies | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self._low is not None:
            strides = [0 if self._folds else self._strides[0], *self._strides[1:]]
            return LowConvolutions.apply(x, self._mean, strides, self._low.tensors, *self._params())  # type: ignore[no-untyped-call]
        h = (x.float().contiguous(memory_format=self._format) - self._mean) / 255
        for layer in self.layers:
            h = torch.relu(layer(h))
        return h.flatten(1)

    def lower(self) -> LowCopies:
        """From here on computes in bfloat16, from these copies."""
        rest = 2 * len(self.layers) - 1
        self._low = LowCopies(self._params(), [1 / 255, *[1.0] * rest], [self._folds, *[False] * rest])
        return self._low

    def _params(self) -> list[Tensor]:
        return list(self.layers.parameters())


class Linear(nn.Linear):
    """A fully connected layer that can compute in bfloat16."""

    _low: LowCopies | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self._low is None:
            return super().forward(x)
        low = self._low.tensors[0] if self._low.tensors else self.weight
        return LowLinear.apply(x, low, self.weight, self.bias)  # type: ignore[no-untyped-call]

    def lower(self) -> LowCopies:
        """From here on computes in bfloat16, from these copies where the CPU needs any."""
        params = [] if multiplies_low() else [self.weight]
        self._low = LowCopies(params, [1.0] * len(params), [False] * len(params))
        return self._low


class QNetwork(nn.Sequential):
    """From observations `[B, ...]` to action values `[B, A]`."""

    _low: tuple[LowCopies, ...] = ()

    def lower(self) -> None:
        """From here on the costly layers compute in bfloat16."""
        self._low = tuple(m.lower() for m in self if isinstance(m, Convolutions | Linear))

    def refresh(self) -> None:
        """To be called whenever the weights have changed: makes the bfloat16 copies anew, where there are any."""
        for copies in self._low:
            copies.refresh()


def q_network(
    name: str,
    hidden: tuple[int, ...],
    spec: EnvSpec,
    num_actions: int,
    generator: torch.Generator,
    *,
    scale_inputs: bool = False,
    pixel_mean: int = 0,
    init: str = "fan-in",
) -> QNetwork:
    """A network by name.

    `auto` takes the Nature CNN (Mnih et al. 2015) for pictures of 36 pixels and more, a small one (one 3x3 convolution
    of 16 channels, as in MinAtar) for smaller pictures, else an MLP; `hidden` are the fully connected widths.
    `pixel_mean` is taken off every pixel that convolutions see; `init` is a key of `INITIALISERS`.

    Raises:
        UserError: the named network does not fit the observations.
    """
    name = _resolve(name, spec)
    torso: list[nn.Module]
    if name == "mlp":
        torso, width = _vector_torso(spec, scale_inputs)
    else:
        convolutions = Convolutions(spec.obs_shape, CONVOLUTIONS[name], pixel_mean)
        torso, width = [convolutions], convolutions.width
    layers = [*torso]
    for i, size in enumerate(hidden):
        costly = i == 0 and name == "nature-cnn"
        layers += [Linear(width, size) if costly else nn.Linear(width, size), nn.ReLU()]
        width = size
    network = QNetwork(*layers, nn.Linear(width, num_actions))
    INITIALISERS[init](network, generator)
    return network


def multiply_adds(network: nn.Module, obs: Tensor) -> list[int]:
    """Multiplications of one forward pass of one sample, layer by layer; `network` in float32, `obs [1, ...]`."""
    counts: list[int] = []

    def count(layer: Any, _: Any, out: Tensor) -> None:
        counts.append(layer.weight.numel() * math.prod(out.shape[2:]))

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        network(obs)
    for hook in hooks:
        hook.remove()
    return counts


def _resolve(name: str, spec: EnvSpec) -> str:
    picture = len(spec.obs_shape) == 3 and spec.obs_dtype == "uint8" and min(spec.obs_shape[1:]) >= SMALLEST
    if name != "mlp" and len(spec.obs_shape) == 3 and spec.obs_shape[2] <= 4 < min(spec.obs_shape[:2]):
        raise UserError(
            f"dqn takes pictures as (channels, height, width); {spec.id} observes {spec.obs_shape}: a wrapper that "
            "transposes them can help (--env.wrappers module:function), or --agent.network mlp"
        )
    large = picture and min(spec.obs_shape[1:]) >= NATURE_PIXELS
    if name == "auto":
        return "nature-cnn" if large else "small-cnn" if picture else "mlp"
    if name != "mlp" and not picture:
        raise UserError(
            f"agent.network = '{name}' needs pictures; {spec.id} observes {spec.obs_shape} {spec.obs_dtype}"
        )
    if name == "nature-cnn" and not large:
        raise UserError(
            f"agent.network = 'nature-cnn' needs pictures of {NATURE_PIXELS} pixels; {spec.id} has {spec.obs_shape}"
        )
    return name


def _vector_torso(spec: EnvSpec, scale_inputs: bool) -> tuple[list[nn.Module], int]:
    if spec.num_states is not None:
        return [OneHot(spec.num_states)], spec.num_states
    width = math.prod(spec.obs_shape)
    if scale_inputs and spec.low is not None and spec.high is not None:
        return [Scale(spec.low, spec.high)], width
    return ([Pixels(), nn.Flatten()] if spec.obs_dtype == "uint8" and spec.obs_shape else [Floats()]), width


def _weighted(network: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]


def _fan_in(network: nn.Module, generator: torch.Generator) -> None:
    """Weights and biases uniform within 1 / sqrt(fan in), torch's own default."""
    for layer in _weighted(network):
        bound = 1 / math.sqrt(layer.weight[0].numel())
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)


def _he(network: nn.Module, generator: torch.Generator) -> None:
    """Uniform weights of variance 2 / fan in before a ReLU (He et al. 2015), 1 / (3 fan in) in the end; biases 0."""
    layers = _weighted(network)
    for layer in layers:
        bound = math.sqrt((6 if layer is not layers[-1] else 1) / layer.weight[0].numel())
        nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


INITIALISERS = {"fan-in": _fan_in, "he": _he}
