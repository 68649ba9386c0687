"""Networks in bfloat16 against float32, on pictures of real games, and the choice between them."""

from __future__ import annotations

import copy
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from qladder.agents import learner
from qladder.agents.dqn import DQN
from qladder.agents.dqn_config import DQNConfig
from qladder.agents.layers import Pixels, Scale
from qladder.agents.learner import bf16_error, choose_learner
from qladder.agents.network_config import NetworkConfig
from qladder.agents.networks import QNetwork, multiply_adds, q_network
from qladder.envs.errors import UserError
from qladder.envs.make import make_env
from qladder.envs.protocol import Protocol
from qladder.envs.spec import EnvSpec, ResumableEnv
from qladder.replay.frames import ReplayConfig
from qladder.runners import checkpoint
from qladder.runners.config import resolve
from qladder.runners.loading import make_agent, make_environment
from qladder.runners.loop import Ratio, interact


def spec(shape: tuple[int, ...] = (4, 84, 84), dtype: str = "uint8") -> EnvSpec:
    return EnvSpec("X-v0", 8, True, shape, dtype, None, 6, None, None, None)


def build(network: str, hidden: tuple[int, ...], of: EnvSpec, seed: int = 0, **settings: Any) -> QNetwork:
    config = NetworkConfig(network=network, hidden=hidden, **settings)  # type: ignore[arg-type]
    return q_network(config, of, of.num_actions or 0, torch.Generator().manual_seed(seed))


def nature(seed: int = 0, **settings: Any) -> QNetwork:
    return build("nature-cnn", (512,), spec(), seed, **settings)


def choose(
    wanted: str,
    network: QNetwork | None = None,
    of: EnvSpec | None = None,
    device: str = "cpu",
    optimizer: str = "adam",
    replay: ReplayConfig | None = None,
    **settings: Any,
) -> str:
    config = DQNConfig(learner=wanted, optimizer=optimizer, **settings)  # type: ignore[arg-type]
    return choose_learner(config, network or nature(), of or spec(), torch.device(device), replay or ReplayConfig())


@pytest.fixture(scope="module", params=["ALE/Pong-v5", "ALE/Breakout-v5"])
def pictures(request: pytest.FixtureRequest) -> Tensor:
    """`[32, 4, 84, 84]` of a game that is under way."""
    env = make_env(request.param, Protocol("test"), seed=0, num_envs=8, batched=True)
    env.reset()
    rng, seen = np.random.default_rng(0), []
    for step in range(80):
        time_step = env.step(rng.integers(env.spec.num_actions or 0, size=8))
        if step % 20 == 19:
            seen.append(time_step.obs)
    env.close()
    return torch.from_numpy(np.concatenate(seen))


def gradients(network: QNetwork, pictures: Tensor) -> list[Tensor]:
    """Of half the mean square of what the values of action 0 lack to 1."""
    torch.autograd.backward((network(pictures)[:, 0, 0] - 1).square().mean() / 2)
    return [p.grad for p in network.parameters() if p.grad is not None]


@pytest.mark.parametrize(
    ("direct", "error", "settings"),
    [
        (False, 0.05, {}),
        (True, 0.05, {}),
        (True, 0.1, {"pixel_mean": 87, "init": "he"}),
        (False, 0.1, {"mean_image": True, "pixel_scale": 30.0, "init": "he"}),
    ],
)
def test_bfloat16_values_and_gradients_are_those_of_float32(
    direct: bool, error: float, settings: dict[str, Any], pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qladder.agents.layers.multiplies_low", lambda: direct)  # with AMX, and without
    exact, low = nature(**settings), nature(**settings)
    exact.see(pictures)
    low.see(pictures)
    low.lower()
    with torch.no_grad():
        values = exact(pictures)
        assert torch.allclose(values, low(pictures), atol=0.02 + 0.01 * float(values.abs().max()), rtol=0)
    for e, r in zip(gradients(exact, pictures), gradients(low, pictures), strict=True):
        assert torch.nn.functional.cosine_similarity(e.flatten(), r.flatten(), dim=0) > 1 - error**2 / 1.25
        assert (e - r).norm() < error * e.norm()


HEADS: list[dict[str, Any]] = [
    {"dueling": True},
    {"noisy": True},
    {"distribution": "categorical", "atoms": 11},
    {"distribution": "quantile", "atoms": 8},
    {"distribution": "implicit-quantile"},
    {"dueling": True, "noisy": True, "distribution": "categorical", "atoms": 11},
]


@pytest.mark.parametrize("settings", HEADS)
def test_every_head_passes_the_self_test(settings: dict[str, Any]) -> None:
    assert bf16_error(nature(**settings), (4, 84, 84)) < 0.15


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("settings", HEADS)
def test_every_head_composes_with_bfloat16(
    settings: dict[str, Any], direct: bool, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qladder.agents.layers.multiplies_low", lambda: direct)
    exact, low = nature(**settings), nature(**settings)
    low.lower()
    assert len(low.costly) == 2
    fractions = None
    if "implicit-quantile" in settings.values():
        fractions = torch.rand(len(pictures), 5, generator=torch.Generator().manual_seed(2))
    outs = []
    for network in (exact, low):
        network.resample(torch.Generator().manual_seed(1))
        out = network(pictures, fractions)
        torch.autograd.backward((out - 1).square().mean())
        outs.append(out.detach())
    assert torch.allclose(*outs, atol=0.02, rtol=0)
    assert not torch.equal(*outs)
    for (name, e), r in zip(exact.named_parameters(), low.parameters(), strict=True):
        assert e.grad is not None, name
        assert r.grad is not None, name
        assert (e.grad - r.grad).norm() < 0.1 * e.grad.norm(), name


@pytest.mark.parametrize("low", [False, True])
def test_a_picture_of_the_mean_is_dark(low: bool) -> None:
    network = nature(pixel_mean=87, init="he")
    if low:
        network.lower()
    with torch.no_grad():
        assert not network.trunk[0](torch.full((2, 4, 84, 84), 87, dtype=torch.uint8)).any()  # all biases are 0
        assert network.trunk[0](torch.full((2, 4, 84, 84), 88, dtype=torch.uint8)).any()


@pytest.mark.parametrize("low", [False, True])
def test_what_is_always_the_same_is_dark_to_a_network_that_has_seen_it(low: bool, pictures: Tensor) -> None:
    network = nature(mean_image=True, pixel_mean=20, pixel_scale=30.0, init="he")
    if low:
        network.lower()
    before = nature(pixel_mean=20, pixel_scale=30.0, init="he").trunk[0](pictures)
    with torch.no_grad():
        assert torch.allclose(network.trunk[0](pictures), before, atol=0.2)  # nothing measured yet
        network.see(pictures)
        mean = pictures.double().mean(0)
        assert (network.trunk[0].centre.image - mean).abs().max() <= 0.5
        assert not network.trunk[0](mean.round().byte()[None]).any()
        assert network.trunk[0](pictures).any()


def test_signals_keep_their_size_through_he_weights_and_fade_through_small_ones(pictures: Tensor) -> None:
    faded, kept = (nature(init=init, pixel_mean=87).trunk[0](pictures).std() for init in ("fan-in", "he"))
    size = ((pictures.float() - 87) / 255).square().mean().sqrt()
    assert kept > size / 4
    assert faded < kept / 5


@pytest.mark.parametrize("shape", [(4, 87, 90), (1, 36, 41), (3, 44, 44), (2, 40, 92)])
def test_pictures_of_any_size_are_folded_as_the_convolution_sees_them(shape: tuple[int, ...]) -> None:
    plain, folded = (build("nature-cnn", (32,), spec(shape), 1) for _ in range(2))
    plain.trunk[0]._folds = [None] * 3
    for network in (plain, folded):
        network.lower()
    pictures = torch.randint(0, 256, (8, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    for p, f in zip(gradients(plain, pictures), gradients(folded, pictures), strict=True):
        assert p.shape == f.shape
        assert (p - f).norm() < 0.01 * p.norm()  # they add up in another order


def test_the_largest_error_is_seen_in_whatever_layer_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bf16_error(nature(), (4, 84, 84)) < 0.1
    from qladder.agents.bf16 import LowConvolutions

    right = LowConvolutions.backward

    def wrong(ctx: Any, *grads: Tensor) -> Any:
        found = list(right(ctx, *grads))
        found[-6] = found[-6] * 255  # the first weights' scale, forgotten
        return tuple(found)

    monkeypatch.setattr(LowConvolutions, "backward", staticmethod(wrong))
    assert bf16_error(nature(), (4, 84, 84)) > 100


@pytest.mark.parametrize("which", [0, 3])
def test_a_kernel_that_gives_nan_fails_the_self_test(which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from qladder.agents.bf16 import LowConvolutions

    right = LowConvolutions.backward

    def wrong(ctx: Any, *grads: Tensor) -> Any:
        found = list(right(ctx, *grads))
        found[which - 6] = found[which - 6] * float("nan")
        return tuple(found)

    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(LowConvolutions, "backward", staticmethod(wrong))
    with pytest.warns(UserWarning, match="fails its self-test here .relative error nan."):
        assert choose("auto") == "eager"


def test_inputs_are_brought_to_scale() -> None:
    x = torch.tensor([[1.0, 7.0], [3.0, 7.0]])
    scaled = Scale((-1.0, -float("inf")), (3.0, float("inf")))(x)
    assert scaled.tolist() == [[0.0, 7.0], [1.0, 7.0]]
    assert Pixels()(torch.tensor([[0, 51, 255]], dtype=torch.uint8)).tolist() == [[0.0, pytest.approx(0.2), 1.0]]


@pytest.mark.parametrize("dtype", ["float64", "int64", "bool", "float16", "uint8"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_vectors_of_any_type_and_shape(shape: tuple[int, ...], dtype: str) -> None:
    network = build("auto", (8,), spec(shape, dtype))
    assert network(torch.from_numpy(np.ones((7, *shape), dtype))).shape == (7, 6, 1)


@pytest.mark.parametrize("shape", [(96, 96, 3), (84, 84, 1)])
def test_pictures_with_their_channels_last_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="channels, height, width"):
        build("auto", (8,), spec(shape))
    network = build("mlp", (8,), spec(shape))
    assert network(torch.zeros((2, *shape), dtype=torch.uint8)).shape == (2, 6, 1)


def test_refresh_follows_the_weights(pictures: Tensor) -> None:
    network = nature()
    network.lower()
    with torch.no_grad():
        before = network(pictures)
        for parameter in network.parameters():
            parameter.mul_(1.5)
        network.refresh()
        exact = copy.deepcopy(nature())
        exact.load_state_dict(network.state_dict())
        assert not torch.allclose(before, network(pictures), atol=0.02)
        assert torch.allclose(exact(pictures), network(pictures), atol=0.05)


def two_agents(flags: dict[str, Any], capacity: int) -> tuple[ResumableEnv, DQN, DQN]:
    """With the same weights, and two games of Catch in 84 x 84 pixels."""
    settings = {"agent": flags, "replay": {"capacity": capacity, "batch_size": 8}, "env": {"num_envs": 2}}
    config = resolve("dqn", "qladder/Catch84-v0", settings)
    env = make_environment(config, batched=True)
    agent, other = (make_agent(config, env.spec, "cpu") for _ in range(2))
    assert isinstance(agent, DQN)
    assert isinstance(other, DQN)
    return env, agent, other


def test_dqn_computes_with_its_present_weights_after_updates_copies_and_loading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)  # without them it is slow, not wrong
    agent_flags = {"learner": "cpu-bf16", "learning_rate": 1e-3, "target_period": 2, "hidden": [64]}
    env, agent, other = two_agents(agent_flags, 400)
    assert agent.learner == "cpu-bf16"
    for moment in interact(env, agent, Ratio(40, 4, 1), False):
        if moment.updates == 4:  # the second copy to the target was just made
            obs = torch.from_numpy(moment.time_step.obs)
            break
    env.close()
    other.load_state_dict(copy.deepcopy(agent.state_dict()))
    exact = build("auto", (64,), env.spec)
    exact.load_state_dict(agent.state_dict()["online"])
    with torch.no_grad():
        values = exact(obs)
        for network in (agent._online, agent._target, other._online, other._target):
            assert torch.allclose(network(obs), values, atol=0.01)


def test_dqn_measures_its_mean_image_once_before_the_first_update() -> None:
    agent_flags = {"learner": "eager", "hidden": [16], "mean_image": True, "pixel_mean": 9, "target_period": 1000}
    env, agent, other = two_agents(agent_flags, 4000)
    images, mean = [], None
    for moment in interact(env, agent, Ratio(200, 4, 1), False):
        if moment.updates == 0 and len(agent._replay) > 190:
            mean = agent._replay.peek(5_000).obs.astype(np.float64).mean(0)
        images.append([network.trunk[0].centre.image.clone() for network in (agent._online, agent._target)])
        if moment.updates == 30:
            break
    env.close()
    assert mean is not None
    assert all((image == 9).all() for image in images[0])
    assert all(torch.equal(image, images[-1][0]) for image in images[-1])
    assert all(torch.equal(image, images[-1][0]) for pair in images for image in pair if not (image == 9).all())
    assert np.abs(images[-1][0].numpy() - mean).max() < 30  # of the same pictures, less often drawn
    assert mean.max() > 60
    other.load_state_dict(agent.state_dict())
    assert torch.equal(other._target.trunk[0].centre.image, images[-1][0])
    other._online.see(torch.full((2, 4, 84, 84), 200, dtype=torch.uint8))  # weights come with theirs
    assert torch.equal(other._online.trunk[0].centre.image, images[-1][0])


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adagrad", "rmsprop", "adam", "adamw"])
def test_a_checkpoint_of_a_picture_network_goes_on_the_same_way(optimizer: str, tmp_path: Path) -> None:
    agent_flags = {"learner": "eager", "optimizer": optimizer, "hidden": [16]}
    env, agent, other = two_agents(agent_flags, 400)
    next(islice(interact(env, agent, Ratio(40, 4, 1), False), 30, None))
    env.close()
    other.load_state_dict(checkpoint.load(checkpoint.save(tmp_path, 1, agent.state_dict())))
    agent.learn(3)
    other.learn(3)
    one, two = agent.state_dict()["online"], other.state_dict()["online"]
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_multiplications_of_the_nature_cnn_are_those_counted_by_hand() -> None:
    counted = multiply_adds(nature(), torch.zeros(1, 4, 84, 84, dtype=torch.uint8))
    layers = [20 * 20 * 32 * 4 * 8 * 8, 9 * 9 * 64 * 32 * 4 * 4, 7 * 7 * 64 * 64 * 3 * 3, 3136 * 512, 512 * 6]
    assert counted == layers == [3_276_800, 2_654_208, 1_806_336, 1_605_632, 3_072]


@pytest.mark.parametrize("wanted", ["auto", "eager"])
def test_a_vector_network_is_eager(wanted: str) -> None:
    network = build("auto", (16,), spec((4,), "float32"))
    assert choose(wanted, network, spec((4,), "float32")) == "eager"


def test_what_cannot_be_had_is_said() -> None:
    network = build("auto", (16,), spec((4,), "float32"))
    with pytest.raises(UserError, match="it is for the Nature CNN"):
        choose("cpu-bf16", network, spec((4,), "float32"))
    with pytest.raises(UserError, match="the device is cuda"):
        choose("cpu-bf16", device="cuda")
    with pytest.raises(UserError, match=r"cuda-graph: it does not do rmsprop .it is for adam."):
        choose("cuda-graph", device="cuda", optimizer="rmsprop")
    with pytest.raises(UserError, match="cuda-graph: a compressed replay"):
        choose("cuda-graph", device="cuda", replay=ReplayConfig(compression="deflate"))
    assert choose("cuda-graph", device="cuda") == "cuda-graph"
    assert choose("auto", device="cuda") == "eager"  # until the other has run on a GPU


def test_a_cpu_without_bfloat16_is_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert choose("auto") == "eager"
    with pytest.raises(UserError, match="no bfloat16 instructions"):
        choose("cpu-bf16")


def test_a_cpu_that_fails_the_self_test_is_eager_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert choose("auto") == "cpu-bf16"
    monkeypatch.setattr(learner, "LARGEST_ERROR", 0.0)
    with pytest.warns(UserWarning, match="fails its self-test"):
        assert choose("auto") == "eager"
