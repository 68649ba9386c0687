"""The layers that networks are put together from; the costly ones can compute in bfloat16."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qladder.agents.bf16 import LowConvolutions, LowCopies, LowLinear, multiplies_low
from qladder.agents.folding import fold_of
from qladder.agents.network_config import NetworkConfig

SMALLEST = 3  # pixels, as the small CNN's kernel
LARGE_PIXELS = 36  # the Nature CNN needs as many in height and width


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


class Centre(nn.Module):
    """Pictures, uint8 `[B, C, H, W]`, less their mean, to floats: one number, or an image that `see` measures."""

    image: Tensor | None

    def __init__(self, shape: tuple[int, ...], config: NetworkConfig, layout: torch.memory_format) -> None:
        super().__init__()
        self._mean, self.scale, self._layout = config.pixel_mean, config.pixel_scale, layout
        image = torch.full(shape, config.pixel_mean, dtype=torch.uint8) if config.mean_image else None
        self.register_buffer("image", image)

    @property
    def mean(self) -> Tensor | int:
        """The image `[C, H, W]`, uint8, or one number for all pixels."""
        return self._mean if self.image is None else self.image

    def see(self, pictures: Tensor) -> None:
        """Takes the image from these, where there is to be one and none came with the weights.

        It is rounded, so that differences stay whole numbers.
        """
        if self.image is not None and bool((self.image == self._mean).all()):
            self.image.copy_(pictures.float().mean(0).round_())

    def forward(self, pictures: Tensor) -> Tensor:
        h = pictures.contiguous(memory_format=self._layout).float()  # bytes are the quicker to put in order
        return (h if self.image is None and not self._mean else h.sub_(self.mean)).div_(self.scale)


class Convolutions(nn.Module):
    """uint8 `[B, C, H, W]` to features `[B, K]`: convolutions with ReLU, each (channels out, kernel, stride)."""

    def __init__(self, shape: tuple[int, ...], layers: Sequence[tuple[int, int, int]], config: NetworkConfig) -> None:
        super().__init__()
        channels, height, width = shape
        self.layers: nn.Sequential = nn.Sequential()
        self.large = min(height, width) >= LARGE_PIXELS
        layout = torch.channels_last if self.large else torch.contiguous_format
        self.centre = Centre(shape, config, layout)
        for out, kernel, stride in layers:
            self.layers.append(nn.Conv2d(channels, out, kernel, stride).to(memory_format=layout))  # type: ignore[call-overload]
            channels, height, width = out, (height - kernel) // stride + 1, (width - kernel) // stride + 1
        self.width = channels * height * width
        self._strides = [stride for _, _, stride in layers]
        self._folds = [fold_of(i, kernel, stride) for i, (_, kernel, stride) in enumerate(layers)]
        self.low: LowCopies | None = None
        self._relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        if self.low is not None:
            how = self.centre.mean, self.centre.scale, self._strides, self._folds
            return LowConvolutions.apply(x, *how, self.low.tensors, *self._params())  # type: ignore[no-untyped-call]
        h = self.centre(x)
        for layer in self.layers:
            h = self._relu(layer(h))
        return h.flatten(1)

    def lower(self) -> LowCopies:
        """From here on computes in bfloat16, from these copies."""
        rest = 2 * len(self.layers) - 1
        folds = [f for fold in self._folds for f in (fold, None)]  # of weights; biases have none
        self.low = LowCopies(self._params(), [1 / self.centre.scale, *[1.0] * rest], folds)
        return self.low

    def _params(self) -> list[Tensor]:
        return list(self.layers.parameters())


class Unshared(nn.Module):
    """Like a convolution, `[B, C, H, W]` to `[B, O, height, width]`; each place of the map has weights of its own."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, height: int, width: int) -> None:
        super().__init__()
        self._kernel, self._stride, self._map = kernel, stride, (out, height, width)
        self.weight = nn.Parameter(torch.empty(height * width, out, channels * kernel**2))
        self.bias = nn.Parameter(torch.empty(height * width, out, 1))

    def forward(self, x: Tensor) -> Tensor:
        patches = nn.functional.unfold(x, self._kernel, stride=self._stride)  # [B, C * K * K, places]
        return torch.baddbmm(self.bias, self.weight, patches.permute(2, 1, 0)).permute(2, 1, 0).reshape(-1, *self._map)


class Linear(nn.Linear):
    """A fully connected layer that can compute in bfloat16."""

    low: LowCopies | None = None

    def forward(self, x: Tensor) -> Tensor:
        return self._product(x, 0, self.weight, self.bias)

    def lower(self) -> LowCopies:
        """From here on computes in bfloat16, from these copies where the CPU needs any."""
        params = [] if multiplies_low() else self._weights()
        self.low = LowCopies(params, [1.0] * len(params), [None] * len(params))
        return self.low

    def _weights(self) -> list[Tensor]:
        return [self.weight]

    def _product(self, x: Tensor, number: int, weight: Tensor, bias: Tensor) -> Tensor:
        """Of x and the `number`th of the layer's weights."""
        if self.low is None:
            return nn.functional.linear(x, weight, bias)
        low = self.low.tensors[number] if self.low.tensors else weight
        return LowLinear.apply(x, low, weight, bias)  # type: ignore[no-untyped-call]


class NoisyLinear(Linear):
    """A fully connected layer with factorised noise in its weights (Fortunato et al. 2018, eq. 9-11).

    The noise is that of the latest `resample`; in evaluation mode there is none. As it is an outer product, it is put
    on what goes in and what comes out: the noisy weights themselves, far larger than both, need not be made.
    """

    noise_in: Tensor
    noise_out: Tensor

    def __init__(self, width: int, size: int, std: float) -> None:
        super().__init__(width, size)
        start = std / math.sqrt(width)
        self.weight_std = nn.Parameter(torch.full((size, width), start))
        self.bias_std = nn.Parameter(torch.full((size,), start))
        self.register_buffer("noise_in", torch.zeros(width), persistent=False)
        self.register_buffer("noise_out", torch.zeros(size), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        mean = super().forward(x)
        if not self.training:
            return mean
        return mean + self.noise_out * self._product(x * self.noise_in, 1, self.weight_std, self.bias_std)

    def _weights(self) -> list[Tensor]:
        return [self.weight, self.weight_std]


def noise_of(layers: Sequence[NoisyLinear]) -> list[Tensor]:
    """The latest noise of the inputs and outputs of all `layers`, to be written to."""
    return [n for layer in layers for n in (layer.noise_in, layer.noise_out)]


def resample(layers: Sequence[NoisyLinear], generator: torch.Generator) -> None:
    """Draws new noise: `sign(x) sqrt(|x|)` of normal numbers, for the inputs and outputs of all `layers`."""
    noise = noise_of(layers)
    sizes = [n.numel() for n in noise]
    x = torch.randn(sum(sizes), generator=generator)
    torch._foreach_copy_(noise, torch.split((x.sign() * x.abs().sqrt_()).to(noise[0].device), sizes))


class QuantileEmbedding(nn.Module):
    """Features `[B, W]` and fractions `[B, K]` or `[1, K]` to features `[B, K, W]` (Dabney et al. 2018b, eq. 4)."""

    COSINES = 64
    multiples: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(self.COSINES, width)
        self.register_buffer("multiples", math.pi * torch.arange(self.COSINES), persistent=False)

    def forward(self, features: Tensor, fractions: Tensor) -> Tensor:
        cosines = torch.cos(fractions[..., None] * self.multiples)
        return features[:, None] * torch.relu(self.linear(cosines))
