"""Deeper bodies than plain convolutions: layer norm, pooling, residual links, and the IMPALA-ResNet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from qladder.agents.architecture import BLOCKS, SECTIONS, Layer, convolutions, features, plan
from qladder.agents.layers import Centre, Unshared
from qladder.agents.network_config import NetworkConfig


class LayerNorm(nn.GroupNorm):
    """Each sample's features `[B, C, ...]` to mean 0 and variance 1 over the whole layer (Ba et al. 2016).

    Scale and shift are learnt for each channel. Of several `streams`, which lie side by side in the channels, each is
    normalised by itself. (The released code of Gallici et al. 2024 takes mean and variance over the channels of each
    position of a map apart, which costs a CPU twice the time.)
    """

    def __init__(self, channels: int, streams: int = 1) -> None:
        super().__init__(streams, channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.num_groups > 1 or x.dim() > 2:
            return super().forward(x)
        return functional.layer_norm(x, x.shape[1:], self.weight, self.bias, self.eps)  # the same in half the time


class Residual(nn.Module):
    """A block of layers, and a link past them: `x + block(x)`."""

    def __init__(self, *block: nn.Module) -> None:
        super().__init__()
        self.block = nn.Sequential(*block)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


class PictureBody(nn.Module):
    """uint8 `[B, C, H, W]` to features `[B, K]`: convolutions as configured, then, where asked for, pooling.

    Pooling takes the maxima of `pool` x `pool` parts of the last map (Clark et al. 2024). All in float32.
    """

    def __init__(self, name: str, shape: tuple[int, ...], config: NetworkConfig) -> None:
        super().__init__()
        self._pool = config.pool
        self.centre = Centre(shape, config, torch.channels_last)
        norm = config.norm == "layer"
        if name == "impala":
            layers = _impala(shape[0], config.width, norm)
        else:
            strides = [stride for _, _, stride in plan(name, config)]
            layers = _plain(convolutions(name, config, shape), strides)
        self.layers: nn.Sequential = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.width = features(name, config, shape)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.layers(self.centre(x))
        return (h if self._pool is None else nn.functional.adaptive_max_pool2d(h, self._pool)).flatten(1)


def _plain(layers: Sequence[Layer], strides: Sequence[int]) -> Iterator[nn.Module]:
    """Each convolution with a norm, where there is one, before its ReLU."""
    for layer, stride in zip(layers, strides, strict=True):
        size = layer.inputs, layer.outputs, layer.kernel, stride
        yield nn.Conv2d(*size) if layer.shared else Unshared(*size, layer.height, layer.width)
        yield from (*_norm(layer.outputs, layer.normed), nn.ReLU())


def _impala(channels: int, width: int, norm: bool) -> Iterator[nn.Module]:
    """The ResNet of IMPALA (Espeholt et al. 2018, fig. 3), with `width` times its channels.

    Three sections, each a convolution, the maximum over 3x3 cells around every second one, and two residual blocks. A
    norm, where there is one, comes right after each convolution.
    """
    for section in SECTIONS:
        out = section * width
        yield from (*_convolution(channels, out, norm), nn.MaxPool2d(3, 2, padding=1))
        for _ in range(BLOCKS):
            yield Residual(nn.ReLU(), *_convolution(out, out, norm), nn.ReLU(), *_convolution(out, out, norm))
        channels = out
    yield nn.ReLU()


def _convolution(channels: int, out: int, norm: bool) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, 3, padding=1), *_norm(out, norm)]


def _norm(channels: int, norm: bool) -> list[nn.Module]:
    return [LayerNorm(channels)] if norm else []
