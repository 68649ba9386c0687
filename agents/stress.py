"""What an evaluation does to a trained network: noise in what it sees, or weights that are taken from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn import functional

from qladder.agents.agent import EnvSpec
from qladder.agents.dqn_config import DQNConfig
from qladder.agents.networks import QNetwork
from qladder.envs.errors import UserError

FULL_SCALE = 255.0  # of a pixel


class Stress:
    """Noise of `agent.stress_size` of a pixel's full scale, or that share of the weights set to 0.

    Random noise is that much up or down for each pixel by a coin; directed noise goes where the greedy action becomes
    less likely under a softmax of the values (the gradient's sign: Goodfellow et al. 2014; Huang et al. 2017). Weights
    go over all layers, the smallest or any; biases stay.
    """

    def __init__(self, kind: str, size: float, seed: int) -> None:
        self._kind, self._size, self._seed = kind, size, seed

    def greedy(self, network: QNetwork, q: Callable[[Tensor], Tensor], obs: Tensor) -> Tensor:
        """The greedy actions `[N]` under stress; `q` gives action values `[N, A]` by `network`, all in float32."""
        with network.exact(), self._without(network):
            seen = obs
            if "noise" in self._kind:
                pixels = obs.float()
                signs = self._directed(q, pixels) if self._kind == "directed-noise" else self._coins(pixels)
                seen = (pixels + self._size * FULL_SCALE * signs).clamp(0, FULL_SCALE)
            with torch.no_grad():
                return q(seen).argmax(1)

    def _directed(self, q: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = pixels.clone().requires_grad_()
            values = q(leaf * 1)  # layers may divide what they get in place
            loss = functional.cross_entropy(values, values.argmax(1), reduction="sum")
            (gradient,) = torch.autograd.grad(loss, leaf)
        return gradient.sign()

    def _coins(self, pixels: Tensor) -> Tensor:
        seen = crc32(pixels.cpu().numpy().tobytes(), self._seed & 0xFFFFFFFF)  # an evaluation done again is the same
        coins = torch.randint(0, 2, pixels.shape, generator=torch.Generator().manual_seed(seen))
        return (2.0 * coins - 1.0).to(pixels.device)

    @contextmanager
    def _without(self, network: nn.Module) -> Iterator[None]:
        """While entered, a share of the weights is 0."""
        weights = [p for p in network.parameters() if p.dim() > 1] if "prune" in self._kind else []
        kept = [w.detach().clone() for w in weights]
        try:
            with torch.no_grad():
                for weight, mask in zip(weights, self._masks(weights), strict=True):
                    weight.mul_(mask)
            yield
        finally:
            with torch.no_grad():
                for weight, before in zip(weights, kept, strict=True):
                    weight.copy_(before)

    def _masks(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """1 where a weight stays."""
        sizes = [w.numel() for w in weights]
        if not sizes:
            return []
        if self._kind == "prune-smallest":
            rank = torch.cat([w.detach().abs().flatten() for w in weights]).argsort(stable=True)
        else:  # the same ones each time
            rank = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(self._seed))
        mask = torch.ones(sum(sizes), device=weights[0].device)
        mask[rank[: round(self._size * sum(sizes))].to(mask.device)] = 0
        return [part.view_as(w) for part, w in zip(torch.split(mask, sizes), weights, strict=True)]


def make_stress(config: DQNConfig, spec: EnvSpec, seed: int) -> Stress | None:
    """As configured; None where evaluations are what they are.

    Raises:
        UserError: noise in observations that are no pixels.
    """
    if config.stress == "none":
        return None
    if "noise" in config.stress and spec.obs_dtype != "uint8":
        told = f"agent.stress = '{config.stress}': {spec.id} observes {spec.obs_dtype}"
        raise UserError(f"{told}; noise is for pixels (uint8), prune-smallest and prune-random for every network")
    return Stress(config.stress, config.stress_size, seed)
