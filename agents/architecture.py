"""What the networks' bodies are made of, and what they cost: arithmetic alone, readable without torch."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

from qladder.agents.network_config import NetworkConfig
from qladder.envs.errors import refuse

NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # (channels out, kernel, stride), without padding
SECTIONS = (16, 32, 32)  # channels of IMPALA's sections (Espeholt et al. 2018, fig. 3), times the width
BLOCKS = 2  # residual blocks in a section, of two convolutions each


class Layer(NamedTuple):
    """A layer with weights: a convolution, or a fully connected one, whose kernel and map are of size 1."""

    inputs: int  # channels
    outputs: int
    kernel: int = 1
    height: int = 1  # of the map that it makes
    width: int = 1
    normed: bool = False  # with a layer norm's scale and shift for each output
    shared: bool = True  # the same weights in all places of the map

    @property
    def parameters(self) -> int:
        """Weights, biases, and those of its norm."""
        places = 1 if self.shared else self.height * self.width
        return self.outputs * (places * (self.inputs * self.kernel**2 + 1) + 2 * self.normed)

    @property
    def multiply_adds(self) -> int:
        """Multiplications in one forward pass of one sample, the norm's not counted."""
        return self.outputs * self.inputs * self.kernel**2 * self.height * self.width


def layers(name: str, config: NetworkConfig, obs_shape: tuple[int, ...], num_actions: int) -> list[Layer]:
    """The layers of the network `name` (not `auto`) that gives one mean for each action; no dueling, no noise."""
    found = [] if name == "mlp" else convolutions(name, config, obs_shape)
    width = math.prod(obs_shape) if name == "mlp" else features(name, config, obs_shape)
    for size in config.hidden:
        found.append(Layer(width, size, normed=config.norm == "layer"))
        width = size
    return [*found, Layer(width, num_actions)]


def convolutions(name: str, config: NetworkConfig, obs_shape: tuple[int, ...]) -> list[Layer]:
    """The convolutions of a network for pictures, first to last."""
    normed, found = config.norm == "layer", []
    channels, height, width = obs_shape
    if name == "impala":
        for section in SECTIONS:
            out = section * config.width
            found.append(Layer(channels, out, 3, height, width, normed))
            height, width = ((side - 1) // 2 + 1 for side in (height, width))  # the maximum at every second cell
            found += [Layer(out, out, 3, height, width, normed)] * (2 * BLOCKS)
            channels = out
        return found
    for out, kernel, stride in plan(name, config):
        height, width = ((side - kernel) // stride + 1 for side in (height, width))
        found.append(Layer(channels, out, kernel, height, width, normed, name != "local"))
        channels = out
    return found


def plan(name: str, config: NetworkConfig) -> tuple[tuple[int, int, int], ...]:
    """Of a network other than `impala` and `mlp`: each convolution's channels out, kernel and stride."""
    if name == "nature-cnn":
        return NATURE
    return tuple((out, 3, 1 if layer == 0 else 2) for layer, out in enumerate(config.channels))


def features(name: str, config: NetworkConfig, obs_shape: tuple[int, ...]) -> int:
    """How many numbers the convolutions, and the pooling where there is any, make of a picture."""
    last = convolutions(name, config, obs_shape)[-1]
    return last.outputs * (last.height * last.width if config.pool is None else config.pool**2)


def check_network(name: str, config: NetworkConfig, obs_shape: tuple[int, ...]) -> None:
    """UserError, naming both, where two settings of the network `name` (not `auto`) do not go together."""
    hidden, pool, wrong = list(config.hidden), config.pool, []
    channels, has_channels = list(config.channels), name in ("small-cnn", "local")
    if has_channels and min(min(c.height, c.width) for c in convolutions(name, config, obs_shape)) < 1:
        told = f"agent.channels = {channels} with pictures of {obs_shape[1]} x {obs_shape[2]}"
        refuse([(True, f"{told}: too many layers, nothing is left of them")])
    wrong.append(
        (
            tuple(channels) != NetworkConfig.channels and not has_channels,
            f"agent.channels = {channels} with agent.network = '{name}': only small-cnn and local have them",
        )
    )
    if name == "mlp":
        wrong += [
            (pool is not None, f"agent.pool = {pool} with agent.network = 'mlp': it has no pictures to pool"),
            (config.mean_image, "agent.mean_image with agent.network = 'mlp': it has no pictures"),
            (
                config.pixel_scale != NetworkConfig.pixel_scale,
                f"agent.pixel_scale = {config.pixel_scale:g} with agent.network = 'mlp': it divides pixels by 255",
            ),
            (
                config.norm == "layer" and not hidden,
                "agent.norm = 'layer' with agent.network = 'mlp' and agent.hidden = []: no layer to normalise",
            ),
        ]
    elif pool is not None:
        last = convolutions(name, config, obs_shape)[-1]
        too_many = pool > min(last.height, last.width)
        told = f"agent.pool = {pool} with agent.network = '{name}'"
        wrong.append((too_many, f"{told}: its last map has only {last.height} x {last.width} cells"))
    wrong += [
        (
            config.begin_std is not None and config.distribution != "categorical",
            f"agent.begin_std with agent.distribution = '{config.distribution}': it is for categorical ones",
        ),
        (
            config.width > 1 and name != "impala",
            f"agent.width = {config.width} with agent.network = '{name}': only impala has widths",
        ),
        (
            config.residual and not any(a == b for a, b in itertools.pairwise(hidden)),
            f"agent.residual with agent.hidden = {hidden}: it needs two layers of one width, one after the other",
        ),
    ]
    refuse(wrong)
