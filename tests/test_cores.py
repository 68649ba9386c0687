"""Recurrent cores: unrolls with fresh starts against episodes apart, burn-in, and what acting carries on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qladder.agents.cores import Carried, Core, RecurrentQNetwork, pieces, recurrent_network, single_frames
from qladder.agents.r2d2_config import R2D2Config
from qladder.envs.spec import EnvSpec

VECTORS = EnvSpec("vectors", 3, True, (4,), "float32", None, 2)


def core(kind: str, width: int = 3, size: int = 5) -> Core:
    torch.manual_seed(0)
    return Core(kind, width, size).double()


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_an_unroll_with_fresh_starts_is_each_episode_unrolled_alone(kind: str, data: st.DataObject) -> None:
    steps, columns = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 4))
    flags = st.lists(st.booleans(), min_size=columns, max_size=columns)
    reset = np.array(data.draw(st.lists(flags, min_size=steps, max_size=steps)))
    net = core(kind)
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(steps, columns, 3, generator=rng, dtype=torch.float64)
    state = torch.randn(columns, net.state_size, generator=rng, dtype=torch.float64)
    out, after = net(x, state, reset)
    for b in range(columns):
        own = state[b : b + 1]
        for t in range(steps):
            if reset[t, b]:
                own = torch.zeros_like(own)
            step, own = one_step(net, x[t, b : b + 1], own)
            assert torch.allclose(out[t, b], step[0])
        assert torch.allclose(after[b], own[0])


def one_step(net: Core, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The equations, gate by gate: Hochreiter and Schmidhuber's with a forget gate; Cho et al.'s as cuDNN has them."""
    w, u, b, c = (getattr(net.cells, f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    h = state[:, : net.size]
    here, before = x @ w.T + b, h @ u.T + c
    if isinstance(net.cells, torch.nn.LSTM):
        i, f, g, o = (here + before).chunk(4, 1)
        cell = f.sigmoid() * state[:, net.size :] + i.sigmoid() * g.tanh()
        h = o.sigmoid() * cell.tanh()
        return h, torch.cat([h, cell], 1)
    (r, z, n), (r2, z2, n2) = here.chunk(3, 1), before.chunk(3, 1)
    z = (z + z2).sigmoid()
    h = (1 - z) * (n + (r + r2).sigmoid() * n2).tanh() + z * h
    return h, h


def test_segments_by_hand() -> None:
    reset = np.array([[False, True], [False, False], [True, False]])
    cut = pieces(reset)
    # column 1 is one piece of three steps from zeros; column 0 two steps from its state and one from zeros
    assert cut.sizes.tolist() == [3, 2, 1]
    assert cut.order.tolist() == [1, 0, 4, 3, 2, 5]
    assert cut.start.tolist() == [2, 0, 2]
    assert cut.last.tolist() == [2, 0]


def network(kind: Any = "lstm", **changes: Any) -> RecurrentQNetwork:
    config = replace(R2D2Config(core=kind, hidden=(8,), core_size=6), **changes)
    return recurrent_network(config, VECTORS, 2, torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_burn_in_gives_the_state_of_an_unbroken_pass(kind: str) -> None:
    net = network(kind)
    obs = torch.randn(9, 3, 4, generator=torch.Generator().manual_seed(0))
    reset = np.zeros((9, 3), np.bool_)
    reset[2, 1] = reset[6, 2] = True
    begun = torch.zeros(3, net.core.state_size)
    whole, end = net(obs, begun, reset)
    _, burnt = net(obs[:4], begun, reset[:4])
    rest, after = net(obs[4:], burnt, reset[4:])
    assert torch.allclose(rest, whole[4:], atol=1e-6)
    assert torch.allclose(after, end, atol=1e-6)


def test_values_depend_on_what_was_before_but_not_on_other_episodes() -> None:
    net, reset = network(), np.zeros((3, 1), np.bool_)
    obs = torch.randn(3, 1, 4, generator=torch.Generator().manual_seed(0))
    other = obs.clone()
    other[0] += 1
    begun = torch.zeros(1, net.core.state_size)
    assert not torch.allclose(net(obs, begun, reset)[0][2], net(other, begun, reset)[0][2])
    reset[1] = True
    assert torch.equal(net(obs, begun, reset)[0][2], net(other, begun, reset)[0][2])


def test_a_link_past_the_core_shows_the_head_what_it_saw() -> None:
    net = network(core_skip=True)
    obs, begun = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(3, 12)
    for parameter in net.core.parameters():
        parameter.data.zero_()  # it gives zeros
    reset = np.zeros((2, 3), np.bool_)
    features = net.trunk(obs[1])
    expected = features @ net.head.advantage.weight.T[6:] + net.head.advantage.bias
    assert torch.allclose(net(obs, begun, reset)[0][1], expected, atol=1e-6)


def test_weights_come_from_the_generator() -> None:
    one, two = network(), network()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    bound = 6**-0.5
    weights = torch.cat([p.detach().flatten() for p in one.core.parameters()])
    assert 0.95 * bound < weights.abs().max() <= bound
    head = network(init="he", head_hidden=7, dueling=True).head
    assert head.hidden is not None
    assert head.hidden.weight.shape == (14, 6)
    assert head.hidden.bias.abs().max() == 0


def test_a_core_sees_the_newest_frame_of_a_stack() -> None:
    atari = EnvSpec("atari", 2, True, (4, 84, 84), "uint8", None, 6, stack=4)
    assert (single_frames(atari).obs_shape, single_frames(atari).stack) == ((1, 84, 84), 1)
    assert single_frames(VECTORS) is VECTORS


def test_what_is_carried_starts_anew_with_an_episode_and_for_another_number_of_environments() -> None:
    carried = Carried(2)
    assert carried.before(3, False).tolist() == [[0, 0]] * 3
    carried.state = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert carried.before(3, np.array([False, True, False])).tolist() == [[0, 1], [0, 0], [4, 5]]
    assert carried.before(3, True).tolist() == [[0, 0]] * 3
    assert carried.before(2, np.zeros(2, np.bool_)).tolist() == [[0, 0]] * 2


@pytest.mark.parametrize("size", [5, 8])
def test_links_are_of_the_body_and_not_of_the_layer_after_the_core(size: int) -> None:
    config = R2D2Config(hidden=(8, 8), residual=True, head_hidden=8, core_size=size)
    head = recurrent_network(config, VECTORS, 2, torch.Generator().manual_seed(0)).head
    features = torch.rand(3, head.hidden.in_features, generator=torch.Generator().manual_seed(1))  # type: ignore[union-attr]
    expected = head.advantage(torch.relu(head.hidden(features)))  # type: ignore[misc]
    assert torch.equal(head(features)[..., 0], expected)
