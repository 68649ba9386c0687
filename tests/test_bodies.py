"""Bodies of networks against plain references, their counts against the networks themselves, and what does not go."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from qladder.agents.architecture import layers
from qladder.agents.dqn_config import DQNConfig
from qladder.agents.layers import Unshared
from qladder.agents.learner import choose_learner
from qladder.agents.network_config import NetworkConfig
from qladder.agents.networks import QNetwork, multiply_adds, q_network
from qladder.envs.errors import UserError
from qladder.envs.spec import EnvSpec
from qladder.replay.frames import ReplayConfig
from qladder.runners.config import resolve
from qladder.runners.listing import NETWORKS, listing
from qladder.runners.loading import make_agent, make_environment


def spec(shape: tuple[int, ...], dtype: str = "uint8", num_actions: int = 6) -> EnvSpec:
    return EnvSpec("X-v0", 8, True, shape, dtype, None, num_actions)


def build(name: str, shape: tuple[int, ...], **settings: Any) -> QNetwork:
    config = NetworkConfig(network=name, **settings)  # type: ignore[arg-type]
    of = spec(shape, "uint8" if len(shape) == 3 else "float32")
    network = q_network(config, of, 6, torch.Generator().manual_seed(0))
    with torch.no_grad():  # norms that do something
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return network


def pictures(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


class Weights:
    """A network's parameters in the order in which they are used, in float64."""

    def __init__(self, network: QNetwork) -> None:
        self._rest = [p.detach().double().contiguous() for p in network.parameters()]

    def take(self) -> tuple[Tensor, Tensor]:
        return self._rest.pop(0), self._rest.pop(0)

    def convolve(self, x: Tensor, norm: bool, stride: int = 1, padding: int = 0) -> Tensor:
        weight, bias = self.take()
        return self.normed(F.conv2d(x, weight, bias, stride, padding), norm)

    def connect(self, x: Tensor, norm: bool = False) -> Tensor:
        weight, bias = self.take()
        return self.normed(x @ weight.T + bias, norm)

    def normed(self, x: Tensor, norm: bool) -> Tensor:
        if not norm:
            return x
        scale, shift = (p.view(-1, *[1] * (x.dim() - 2)) for p in self.take())
        axes = list(range(1, x.dim()))
        centred = x - x.mean(axes, keepdim=True)
        return centred / (centred.square().mean(axes, keepdim=True) + 1e-5).sqrt() * scale + shift

    def done(self) -> bool:
        return not self._rest


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize(("width", "shape", "pool"), [(1, (4, 84, 84), None), (2, (3, 20, 31), 2)])
def test_impala_is_the_network_of_the_paper(width: int, shape: tuple[int, ...], pool: int | None, norm: str) -> None:
    network = build("impala", shape, hidden=(32,), width=width, norm=norm, pool=pool)
    seen, on = pictures(3, *shape), norm == "layer"
    weights = Weights(network)
    h = seen.double() / 255
    for _ in range(3):
        h = F.max_pool2d(F.pad(weights.convolve(h, on, padding=1), [1] * 4, value=-1e9), 3, 2)
        for _ in range(2):
            inside = weights.convolve(F.relu(h), on, padding=1)
            h = h + weights.convolve(F.relu(inside), on, padding=1)
    assert h.shape[1] == 32 * width
    h = F.relu(h)
    h = h.flatten(1) if pool is None else F.adaptive_max_pool2d(h, pool).flatten(1)
    expected = weights.connect(F.relu(weights.connect(h, on)))
    assert weights.done()
    assert torch.allclose(network(seen)[..., 0].double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("pool", [None, 3])
def test_the_nature_cnn_with_norm_and_pooling(norm: str, pool: int | None) -> None:
    settings = {"mean_image": True, "pixel_scale": 40.0} if pool else {"pixel_mean": 50}
    network = build("nature-cnn", (4, 84, 84), hidden=(32,), norm=norm, pool=pool, **settings)
    seen, on = pictures(3, 4, 84, 84), norm == "layer"
    network.see(seen)
    weights = Weights(network)
    h = (seen.double() - seen.double().mean(0).round()) / 40 if pool else (seen.double() - 50) / 255
    for stride in (4, 2, 1):
        h = F.relu(weights.convolve(h, on, stride))
    h = h.flatten(1) if pool is None else F.adaptive_max_pool2d(h, pool).flatten(1)
    expected = weights.connect(F.relu(weights.connect(h, on)))
    assert weights.done()
    assert torch.allclose(network(seen)[..., 0].double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_links_pass_by_layers_that_are_as_wide_as_the_one_before(norm: str) -> None:
    network = build("mlp", (16,), hidden=(16, 16, 8, 8), norm=norm, residual=True)
    seen, on = torch.randn(5, 16, generator=torch.Generator().manual_seed(3)), norm == "layer"
    weights = Weights(network)
    h = F.relu(weights.connect(seen.double(), on))  # the observations are no layer: no link past the first
    h = h + F.relu(weights.connect(h, on))
    h = F.relu(weights.connect(h, on))
    h = h + F.relu(weights.connect(h, on))
    expected = weights.connect(h)
    assert weights.done()
    assert torch.allclose(network(seen)[..., 0].double(), expected, atol=1e-5)


def test_the_two_streams_of_a_dueling_head_are_normalised_apart_and_both_linked() -> None:
    network = build("mlp", (16,), hidden=(8, 8), norm="layer", residual=True, dueling=True)
    head, features = network.head, torch.rand(5, 8, generator=torch.Generator().manual_seed(4))
    hidden = head.hidden(features)  # type: ignore[misc]
    scale, shift = head.norm.weight, head.norm.bias  # type: ignore[union-attr]
    streams = [
        features + F.relu(F.layer_norm(hidden[:, part], (8,), scale[part], shift[part]))
        for part in (slice(0, 8), slice(8, 16))
    ]
    advantage, value = head.advantage(streams[0]), head.value(streams[1])  # type: ignore[misc]
    expected = value + advantage - advantage.mean(1, keepdim=True)
    assert torch.allclose(head(features)[..., 0], expected, atol=1e-6)


def test_pooling_takes_the_maxima_of_the_last_map() -> None:
    whole, one = (build("nature-cnn", (4, 84, 84), hidden=(8,), pool=pool).trunk[0] for pool in (7, 1))
    seen = pictures(2, 4, 84, 84)
    assert torch.equal(one(seen), whole(seen).view(2, 64, 49).amax(2))
    assert torch.equal(whole(seen), build("nature-cnn", (4, 84, 84), hidden=(8,)).trunk[0](seen))


def test_places_with_weights_of_their_own_are_a_convolution_where_they_are_all_the_same() -> None:
    local = build("local", (2, 9, 12), hidden=(8,), channels=(3, 5)).trunk[0]
    shared = build("small-cnn", (2, 9, 12), hidden=(8,), channels=(3, 5), norm="layer").trunk[0]  # on this path too
    convolutions = [m for m in shared.layers if isinstance(m, torch.nn.Conv2d)]  # type: ignore[union-attr]
    places = [m for m in local.layers if isinstance(m, Unshared)]  # type: ignore[union-attr]
    x = torch.rand(4, 2, 9, 12, generator=torch.Generator().manual_seed(1))
    for convolution, unshared in zip(convolutions, places, strict=True):
        whole = convolution(x)
        assert not torch.equal(unshared.weight[0], unshared.weight[1])  # each was drawn by itself
        with torch.no_grad():
            unshared.weight.copy_(convolution.weight.flatten(1).expand_as(unshared.weight))
            unshared.bias.copy_(convolution.bias[:, None].expand_as(unshared.bias))
            assert torch.allclose(unshared(x), whole, atol=1e-6)
            unshared.weight[5] *= 2  # of one place alone
            unshared.bias[7] += 1
            changed = (unshared(x) - whole).abs().amax((0, 1)) > 1e-4
        assert changed.flatten().nonzero().tolist() == [[5], [7]]
        x = torch.relu(whole)


def test_places_start_within_the_bound_of_their_inputs() -> None:
    config = NetworkConfig("local", (8,), channels=(9,))
    network = q_network(config, spec((2, 9, 12)), 6, torch.Generator().manual_seed(0))
    weight = next(m.weight for m in network.modules() if isinstance(m, Unshared))
    assert 0.9 / 18**0.5 < float(weight.detach().abs().max()) <= 1 / 18**0.5


CASES: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("mlp", (4,), {"hidden": (128, 128)}),
    ("mlp", (4,), {"hidden": (64, 32), "norm": "layer"}),
    ("mlp", (4,), {"hidden": ()}),
    ("small-cnn", (1, 10, 10), {"hidden": (128,)}),
    ("small-cnn", (2, 9, 14), {"hidden": (16, 16), "norm": "layer", "pool": 5, "residual": True}),
    ("small-cnn", (1, 28, 28), {"hidden": (64,), "channels": (16, 8, 4)}),
    ("local", (1, 28, 28), {"hidden": (64,), "channels": (2, 4)}),
    ("local", (3, 9, 14), {"hidden": (16,), "channels": (3,), "norm": "layer", "pool": 2}),
    ("nature-cnn", (4, 84, 84), {"hidden": (512,)}),
    ("nature-cnn", (3, 60, 91), {"hidden": (32,), "norm": "layer"}),
    ("nature-cnn", (4, 84, 84), {"hidden": (), "pool": 6}),
    ("impala", (4, 84, 84), {"hidden": (256,), "width": 2}),
    ("impala", (3, 10, 31), {"hidden": (16,), "norm": "layer", "pool": 2}),
]


@pytest.mark.parametrize(("name", "shape", "settings"), CASES)
def test_counts_are_those_of_the_network_itself(name: str, shape: tuple[int, ...], settings: dict[str, Any]) -> None:
    network = build(name, shape, **settings)
    counted = layers(name, NetworkConfig(network=name, **settings), shape, 6)  # type: ignore[arg-type]
    assert sum(layer.parameters for layer in counted) == sum(p.numel() for p in network.parameters())
    zeros = torch.zeros(1, *shape, dtype=torch.uint8 if len(shape) == 3 else torch.float32)
    assert [layer.multiply_adds for layer in counted] == multiply_adds(network, zeros)


def test_the_list_tells_what_the_networks_are() -> None:
    rows = listing("networks")["networks"]
    assert {name.split()[0] for name in rows} == {"mlp", "small-cnn", "local", "nature-cnn", "impala"}
    assert rows["nature-cnn"]["parameters"] == 1_693_362
    assert rows["nature-cnn"]["flops"] == 2 * (3_276_800 + 2_654_208 + 1_806_336 + 1_605_632 + 512 * 18)
    for name, (_, config, shape, num_actions) in NETWORKS.items():
        of = spec(shape, "uint8" if len(shape) == 3 else "float32", num_actions)
        network = q_network(config, of, num_actions, torch.Generator())
        assert rows[name]["parameters"] == sum(p.numel() for p in network.parameters())


def test_networks_without_the_new_parts_keep_their_names() -> None:
    names = list(build("nature-cnn", (4, 84, 84), hidden=(64, 64)).state_dict())
    convolutions = [f"trunk.0.layers.{i}.{kind}" for i in range(3) for kind in ("weight", "bias")]
    rest = [f"{layer}.{kind}" for layer in ("trunk.1", "head.hidden", "head.advantage") for kind in ("weight", "bias")]
    assert names == convolutions + rest


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("impala", {"norm": "layer", "dueling": True, "noisy": True}),
        ("impala", {"hidden": (32, 32), "residual": True, "distribution": "implicit-quantile"}),
        ("nature-cnn", {"norm": "layer", "pool": 6, "hidden": (32, 32), "residual": True, "distribution": "quantile"}),
    ],
)
def test_bodies_compose_with_heads_and_every_weight_learns(name: str, settings: dict[str, Any]) -> None:
    network = build(name, (4, 84, 84), **{"hidden": (32,), **settings})
    network.resample(torch.Generator().manual_seed(0))
    fractions = torch.rand(2, 5) if "implicit-quantile" in settings.values() else None
    torch.autograd.backward(network(pictures(2, 4, 84, 84), fractions).square().sum())
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.any(), parameter_name


@pytest.mark.parametrize(
    ("name", "settings"), [("nature-cnn", {"norm": "layer"}), ("nature-cnn", {"pool": 6}), ("impala", {})]
)
def test_bfloat16_is_for_the_plain_nature_cnn(
    name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    network = build(name, (4, 84, 84), hidden=(32,), **settings)
    assert network.costly == []
    config, device, replay = DQNConfig(network=name, hidden=(32,), **settings), torch.device("cpu"), ReplayConfig()  # type: ignore[arg-type]
    assert choose_learner(config, network, spec((4, 84, 84)), device, replay) == "eager"


@pytest.mark.parametrize(
    ("env", "settings", "said"),
    [
        ("qladder/Catch84-v0", {"width": 2}, "agent.width = 2 with agent.network = 'nature-cnn': only impala"),
        ("CartPole-v1", {"pool": 2}, "agent.pool = 2 with agent.network = 'mlp'"),
        ("qladder/Catch-v0", {"pool": 9}, "agent.pool = 9 with agent.network = 'small-cnn': .* only 8 x 8 cells"),
        ("CartPole-v1", {"norm": "layer", "hidden": []}, "agent.norm = 'layer' with .* agent.hidden = ..: no layer"),
        ("CartPole-v1", {"residual": True, "hidden": [64, 32, 64]}, "agent.residual with agent.hidden = .64, 32, 64."),
        ("CartPole-v1", {"channels": [8]}, "agent.channels = .8. with agent.network = 'mlp': only small-cnn and local"),
        (
            "qladder/Catch-v0",
            {"channels": [8, 8, 8, 8]},
            "agent.channels = .* with pictures of 10 x 10: too many layers",
        ),
        ("CartPole-v1", {"network": "impala"}, "agent.network = 'impala' needs pictures"),
    ],
)
def test_parts_that_do_not_go_together_are_named(env: str, settings: dict[str, Any], said: str) -> None:
    config = resolve("dqn", env, {"agent": settings})
    environment = make_environment(config, batched=True)
    environment.close()
    with pytest.raises(UserError, match=said):
        make_agent(config, environment.spec, "cpu")
