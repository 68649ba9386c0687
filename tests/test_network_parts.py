"""Layers and their first weights against their formulas: noise, embedded fractions, bounds."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from qladder.agents.layers import NoisyLinear, QuantileEmbedding, resample
from qladder.agents.network_config import NetworkConfig
from qladder.agents.networks import q_network
from qladder.envs.spec import EnvSpec


def squashed(normal: Tensor) -> Tensor:
    return torch.tensor([math.copysign(math.sqrt(abs(x)), x) for x in normal.tolist()])


def test_noise_is_an_outer_product_in_the_weights_and_one_factor_in_the_biases() -> None:
    """Fortunato et al. 2018, eq. 9-11: mu + sigma * f(eps_out) f(eps_in), and bias mu + sigma * f(eps_out)."""
    layer, x = NoisyLinear(4, 3, 0.5), torch.tensor([[1.0, -2.0, 0.5, 3.0], [0.0, 0.0, 0.0, 0.0]])
    assert torch.equal(layer.weight_std, torch.full((3, 4), 0.25))  # 0.5 / sqrt(4)
    assert torch.equal(layer.bias_std, torch.full((3,), 0.25))
    with torch.no_grad():
        layer.weight_std.uniform_(0.1, 0.4)
        layer.bias_std.uniform_(0.1, 0.4)
    resample([layer], torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    factors = [squashed(torch.randn(size, generator=generator)) for size in (4, 3)]
    assert min(f.min() for f in factors) < 0 < max(f.max() for f in factors)
    expected = torch.empty(2, 3)
    for b in range(2):
        for o in range(3):
            noise = factors[1][o]
            expected[b, o] = layer.bias[o] + layer.bias_std[o] * noise
            for i in range(4):
                expected[b, o] += (layer.weight[o, i] + layer.weight_std[o, i] * noise * factors[0][i]) * x[b, i]
    assert torch.allclose(layer(x), expected, atol=1e-6)
    layer.eval()
    assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


def test_fractions_are_embedded_by_cosines_and_multiplied_in() -> None:
    """Dabney et al. 2018b, eq. 4: features * ReLU(sum_i cos(pi i tau) w_i + b), i from 0."""
    embedding = QuantileEmbedding(2)
    features, fractions = torch.tensor([[2.0, -3.0], [0.5, 1.0]]), torch.tensor([[0.0, 0.3, 1.0], [0.5, 0.9, 0.1]])
    found = embedding(features, fractions)
    assert found.shape == (2, 3, 2)
    for b in range(2):
        for k in range(3):
            cosines = torch.tensor([math.cos(math.pi * i * float(fractions[b, k])) for i in range(64)])
            embedded = torch.relu(embedding.linear.weight @ cosines + embedding.linear.bias)
            assert torch.allclose(found[b, k], features[b] * embedded, atol=1e-5)


def built(init: str) -> list[nn.Linear]:
    spec = EnvSpec("X-v0", 1, True, (100,), "float32", None, 4)
    config = NetworkConfig(hidden=(25,), init=init)  # type: ignore[arg-type]
    network = q_network(config, spec, 4, torch.Generator().manual_seed(0))
    return [layer for layer in network.modules() if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize(("init", "bounds"), [("fan-in", [0.1, 0.2]), ("he", [math.sqrt(6 / 100), math.sqrt(1 / 25)])])
def test_first_weights_are_uniform_within_their_bounds(init: str, bounds: list[float]) -> None:
    layers = built(init)
    assert [tuple(layer.weight.shape) for layer in layers] == [(25, 100), (4, 25)]
    for layer, bound in zip(layers, bounds, strict=True):
        for values in (layer.weight, layer.bias) if init == "fan-in" else (layer.weight,):
            assert values.abs().max() <= bound
        count = layer.weight.numel()
        assert float(layer.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=3 / math.sqrt(count))
        assert abs(layer.weight.mean()) < 4 * bound / math.sqrt(3 * count)
        assert bool(layer.bias.any()) == (init == "fan-in")
