"""Q-networks as parts chosen by name, initialised from a generator that is handed in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from qladder.agents.agent import EnvSpec
from qladder.agents.architecture import check_network, plan
from qladder.agents.bf16 import LowCopies
from qladder.agents.bodies import LayerNorm, PictureBody, Residual
from qladder.agents.layers import (
    LARGE_PIXELS,
    SMALLEST,
    Centre,
    Convolutions,
    Floats,
    Linear,
    NoisyLinear,
    OneHot,
    Pixels,
    QuantileEmbedding,
    Scale,
    Unshared,
    noise_of,
    resample,
)
from qladder.agents.network_config import WIDEST, NetworkConfig
from qladder.envs.errors import UserError

FAR = -12.0
"""Least log-probability, next to the likeliest, of values under `begin_std`: they can still grow."""


class Head(nn.Module):
    """Features `[B, W]` to `[B, A, K]`: K numbers about the return of each action.

    Dueling (Wang et al. 2016, eq. 9) has two streams, each as wide as the last hidden layer; theirs lie side by side in
    one layer. Implicit quantiles take fractions `[B, K]`, or `[1, K]` for all, and give one number for each.
    """

    def __init__(
        self,
        config: NetworkConfig,
        width: int,
        hidden: int | None,
        num_actions: int,
        atoms: int,
        *,
        residual: bool = False,
    ) -> None:
        """`residual`: a link past the hidden layer, as wide as what goes in."""
        super().__init__()
        self._shape = num_actions, atoms
        self.embedding = QuantileEmbedding(width) if config.distribution == "implicit-quantile" else None
        streams = 2 if config.dueling and hidden is not None else 1
        self.hidden = None if hidden is None else _linear(config, width, streams * hidden)
        self.norm = LayerNorm(streams * hidden, streams) if hidden is not None and config.norm == "layer" else None
        self._relu = nn.ReLU()
        self._residual = residual
        width = width if hidden is None else hidden
        self._streams = [width] * streams
        self.advantage = _linear(config, width, num_actions * atoms)
        self.value = _linear(config, width, atoms) if config.dueling else None

    @property
    def outputs(self) -> tuple[nn.Module, ...]:
        """The last layers."""
        return (self.advantage,) if self.value is None else (self.advantage, self.value)

    def forward(self, features: Tensor, fractions: Tensor | None = None) -> Tensor:
        if self.embedding is None:
            return self._values(features)
        assert fractions is not None
        embedded = self.embedding(features, fractions)
        return self._values(embedded.flatten(0, 1)).view(*embedded.shape[:2], -1).mT

    def _values(self, x: Tensor) -> Tensor:
        if self.hidden is not None:
            h = self.hidden(x)
            h = self._relu(h if self.norm is None else self.norm(h))
            x = h + x.repeat(1, len(self._streams)) if self._residual else h
        first, *rest = torch.split(x, self._streams, 1)
        advantage: Tensor = self.advantage(first).view(-1, *self._shape)
        if self.value is None:
            return advantage
        value: Tensor = self.value(rest[0] if rest else first)
        return value[:, None] + advantage - advantage.mean(1, keepdim=True)


class QNetwork(nn.Module):
    """From observations `[B, ...]` to `[B, A, K]`; K is 1 for a mean, else atoms, quantiles or as many as fractions."""

    def __init__(self, trunk: nn.Sequential, head: Head) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head
        self._low: list[LowCopies] = []
        self._noisy = [m for m in self.modules() if isinstance(m, NoisyLinear)]

    def forward(self, obs: Tensor, fractions: Tensor | None = None) -> Tensor:
        out: Tensor = self.head(self.trunk(obs), fractions)
        return out

    @property
    def costly(self) -> list[Convolutions | Linear]:
        """What is worth computing in bfloat16: large pictures' convolutions and the layer that takes their features."""
        layers = [*self.trunk, self.head.hidden]
        found = [m for m in layers if isinstance(m, Convolutions) and m.large]
        wide = next((m for m in layers if isinstance(m, Linear)), None)
        return [*found, wide] if found and wide is not None else []

    def lower(self) -> None:
        """From here on the costly layers compute in bfloat16."""
        self._low = [layer.lower() for layer in self.costly]

    @contextmanager
    def exact(self) -> Iterator[None]:
        """While entered, all layers compute in float32, without noise."""
        low = [(layer, layer.low) for layer in self.costly]
        try:
            for layer, _ in low:
                layer.low = None
            self.eval()
            yield
        finally:
            self.train()
            for layer, copies in low:
                layer.low = copies

    def refresh(self) -> None:
        """To be called whenever the weights have changed: makes the bfloat16 copies anew, where there are any."""
        for copies in self._low:
            copies.refresh()

    def see(self, pictures: Tensor) -> None:
        """Measures the mean image, where there is one, on uint8 `[B, C, H, W]`."""
        for module in self.modules():
            if isinstance(module, Centre):
                module.see(pictures)

    def resample(self, generator: torch.Generator) -> None:
        """New noise in all noisy layers."""
        if self._noisy:
            resample(self._noisy, generator)

    @contextmanager
    def noise_kept(self) -> Iterator[None]:
        """While entered, `resample` may be called; afterwards the noise is what it was."""
        noise = noise_of(self._noisy)
        kept = [n.clone() for n in noise]
        try:
            yield
        finally:
            for n, was in zip(noise, kept, strict=True):
                n.copy_(was)


def q_network(config: NetworkConfig, spec: EnvSpec, num_actions: int, generator: torch.Generator) -> QNetwork:
    """A network as configured.

    `auto` takes the Nature CNN (Mnih et al. 2015) for pictures of 36 pixels and more, a small one (one 3x3 convolution
    of 16 channels, as in MinAtar) for smaller pictures, else an MLP.

    Raises:
        UserError: the named network does not fit the observations, or two settings of it not each other.
    """
    layers, width = trunk(config, spec, config.hidden[:-1])
    last = config.hidden[-1] if config.hidden else None
    atoms = config.atoms if config.distribution in ("categorical", "quantile") else 1
    linked = config.residual and config.hidden[-2:-1] == config.hidden[-1:]
    network = QNetwork(nn.Sequential(*layers), Head(config, width, last, num_actions, atoms, residual=linked))
    INITIALISERS[config.init](network, generator)
    if config.begin_std is not None and config.support is not None:
        _narrow(network.head, config.support, atoms, config.begin_std)
    return network


def trunk(config: NetworkConfig, spec: EnvSpec, hidden: Sequence[int]) -> tuple[list[nn.Module], int]:
    """The layers from observations to features, fully connected ones of these widths last; and how many features."""
    name = _resolve(config.network, spec)
    check_network(name, config, spec.obs_shape)
    layers: list[nn.Module]
    body: Convolutions | PictureBody
    if name == "mlp":
        layers, width = _vector_torso(spec, config.scale_inputs)
    else:
        if name in ("impala", "local") or config.norm == "layer" or config.pool is not None:
            body = PictureBody(name, spec.obs_shape, config)
        else:
            body = Convolutions(spec.obs_shape, plan(name, config), config)
        layers, width = [body], body.width
    before = None
    for size in hidden:
        norm = [LayerNorm(size)] if config.norm == "layer" else []
        block = [_linear(config, width, size), *norm, nn.ReLU()]
        layers += [Residual(*block)] if config.residual and size == before else block
        width = before = size
    return layers, width


def _linear(config: NetworkConfig, width: int, size: int) -> Linear:
    return NoisyLinear(width, size, config.noisy_std) if config.noisy else Linear(width, size)


def multiply_adds(network: nn.Module, obs: Tensor) -> list[int]:
    """Multiplications of one forward pass of one sample, layer by layer; `network` in float32, `obs [1, ...]`."""
    counts: list[int] = []

    def count(layer: Any, _: Any, out: Tensor) -> None:
        counts.append(layer.weight.numel() * (1 if isinstance(layer, Unshared) else math.prod(out.shape[2:])))

    hooks = [layer.register_forward_hook(count) for layer in _weighted(network)]
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
    large = picture and min(spec.obs_shape[1:]) >= LARGE_PIXELS
    if name == "auto":
        return "nature-cnn" if large else "small-cnn" if picture else "mlp"
    if name != "mlp" and not picture:
        raise UserError(
            f"agent.network = '{name}' needs pictures; {spec.id} observes {spec.obs_shape} {spec.obs_dtype}"
        )
    if name == "nature-cnn" and not large:
        raise UserError(
            f"agent.network = 'nature-cnn' needs pictures of {LARGE_PIXELS} pixels; {spec.id} has {spec.obs_shape}"
        )
    return name


def _vector_torso(spec: EnvSpec, scale_inputs: bool) -> tuple[list[nn.Module], int]:
    if spec.num_states is not None:
        if spec.num_states > WIDEST:
            raise UserError(
                f"{spec.id} has {spec.num_states:.3g} states, each an input of its own; a network takes at most "
                f"{WIDEST:,}; a wrapper that shows its numbers as a vector (--env.wrappers module:function) can help"
            )
        return [OneHot(spec.num_states)], spec.num_states
    width = math.prod(spec.obs_shape)
    if scale_inputs and spec.low is not None and spec.high is not None:
        return [Scale(spec.low, spec.high)], width
    return ([Pixels(), nn.Flatten()] if spec.obs_dtype == "uint8" and spec.obs_shape else [Floats()]), width


Weighted = nn.Linear | nn.Conv2d | Unshared


def _weighted(network: nn.Module) -> list[Weighted]:
    return [layer for layer in network.modules() if isinstance(layer, Weighted)]


def _inputs(layer: Weighted) -> int:
    """Of one unit."""
    return layer.weight.shape[2] if isinstance(layer, Unshared) else layer.weight[0].numel()


def _fan_in(network: nn.Module, generator: torch.Generator) -> None:
    """Weights and biases uniform within 1 / sqrt(fan in), torch's own default."""
    for layer in _weighted(network):
        bound = 1 / math.sqrt(_inputs(layer))
        for parameter in (layer.weight, layer.bias):
            if parameter is not None:
                nn.init.uniform_(parameter, -bound, bound, generator=generator)


def _he(network: nn.Module, generator: torch.Generator) -> None:
    """Uniform weights of variance 2 / fan in before a ReLU (He et al. 2015), 1 / (3 fan in) in the end; biases 0."""
    head = getattr(network, "head", None)
    last = list(head.outputs) if isinstance(head, Head) else []
    for layer in _weighted(network):
        bound = math.sqrt((1 if any(layer is out for out in last) else 6) / _inputs(layer))
        nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _narrow(head: Head, support: tuple[float, float], atoms: int, std: float) -> None:
    """Biases of a normal distribution around a return of 0, or what is nearest to it in the support."""
    values = torch.linspace(*support, atoms)
    nearest = min(max(0.0, support[0]), support[1])
    logits = (-((values - nearest) / std).square() / 2).clamp_min(FAR)
    last = head.advantage if head.value is None else head.value
    with torch.no_grad():
        last.bias.add_(logits.repeat(len(last.bias) // atoms))


INITIALISERS = {"fan-in": _fan_in, "he": _he}
