"""What an evaluation does to a trained network: noise in what it sees, or other weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn import functional

from qladder.agents.agent import EnvSpec
from qladder.agents.dqn_config import DQNConfig
from qladder.agents.networks import QNetwork
from qladder.agents.surgery import changed
from qladder.envs.errors import UserError

FULL_SCALE = 255.0  # of a pixel
STEPS = 5  # in which stepped noise is found, each half as large as the noise may become
PREDICTED = 10_000  # pixels; a gigabyte for each matrix


class Stress:
    """Noise of `agent.stress_size` of a pixel's full scale, or that share of the weights changed.

    Random noise is that much up or down for each pixel by a coin; directed noise goes where the greedy action becomes
    less likely under a softmax of the values (the gradient's sign: Goodfellow et al. 2014; Huang et al. 2017); stepped
    noise follows that sign anew from where it led until the choice turns, and stays within the size (Madry et al. 2018,
    section 2.1, from no noise). What becomes of weights is in agents/surgery.py.
    """

    def __init__(self, kind: str, size: float, seed: int, picture: tuple[int, ...] = ()) -> None:
        self._kind, self._size, self._seed, self._picture = kind, size, seed, picture
        self._of: list[Tensor] = []  # the weights that were changed last, and what became of them
        self._others: list[Tensor] = []

    def greedy(self, network: QNetwork, q: Callable[[Tensor], Tensor], obs: Tensor) -> Tensor:
        """The greedy actions `[N]` under stress; `q` gives action values `[N, A]` by `network`, all in float32."""
        with network.exact(), self._with_others(network):
            seen = obs
            if "noise" in self._kind:
                seen = self._with_noise(q, obs.float())
            with torch.no_grad():
                return q(seen).argmax(1)

    def _with_noise(self, q: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
        size = self._size * FULL_SCALE
        if self._kind == "random-noise":
            return (pixels + size * self._coins(pixels)).clamp(0, FULL_SCALE)
        greedy, away = _away(q, pixels)
        if self._kind == "directed-noise":
            return (pixels + size * away).clamp(0, FULL_SCALE)
        low, high = (pixels - size).clamp(0, FULL_SCALE), (pixels + size).clamp(0, FULL_SCALE)
        seen = (pixels + size / 2 * away).clamp(low, high)
        for _ in range(STEPS - 1):
            choice, away = _away(q, seen, greedy)
            turned = (choice != greedy).view(-1, *[1] * (seen.dim() - 1))
            seen = torch.where(turned, seen, (seen + size / 2 * away).clamp(low, high))
        return seen

    def _coins(self, pixels: Tensor) -> Tensor:
        seen = crc32(pixels.cpu().numpy().tobytes(), self._seed & 0xFFFFFFFF)  # an evaluation done again is the same
        coins = torch.randint(0, 2, pixels.shape, generator=torch.Generator().manual_seed(seen))
        return (2.0 * coins - 1.0).to(pixels.device)

    @contextmanager
    def _with_others(self, network: nn.Module) -> Iterator[None]:
        """While entered, the weights are what the stress makes of them."""
        weights = [] if "noise" in self._kind else acting_weights(network)
        kept = [w.detach().clone() for w in weights]
        if len(kept) != len(self._of) or not all(map(torch.equal, kept, self._of)):
            self._of, self._others = kept, changed(self._kind, self._size, self._seed, kept, self._picture)
        try:
            _fill(weights, self._others)
            yield
        finally:
            _fill(weights, kept)


def _away(q: Callable[[Tensor], Tensor], pixels: Tensor, actions: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The greedy actions `[N]`, and the sign of what each pixel adds to the cross entropy of `actions`, or of those."""
    with torch.enable_grad():
        leaf = pixels.clone().requires_grad_()
        values = q(leaf * 1)  # layers may divide what they get in place
        greedy = values.argmax(1)
        loss = functional.cross_entropy(values, greedy if actions is None else actions, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, leaf)
    return greedy, gradient.sign()


def acting_weights(network: nn.Module) -> list[Tensor]:
    """The weights that decide what a greedy agent does: no biases, and no scales of noise."""
    return [p for name, p in network.named_parameters() if p.dim() > 1 and not name.endswith("weight_std")]


@torch.no_grad()
def _fill(weights: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)


def make_stress(config: DQNConfig, spec: EnvSpec, seed: int) -> Stress | None:
    """As configured; None where evaluations are what they are.

    Raises:
        UserError: noise in observations that are no pixels, or weights of pixels in a network that is no mlp.
    """
    if config.stress == "none":
        return None
    if "noise" in config.stress and spec.obs_dtype != "uint8":
        told = f"agent.stress = '{config.stress}': {spec.id} observes {spec.obs_dtype}"
        raise UserError(
            f"{told}; noise is for pixels (uint8), prune-smallest, prune-random and low-rank for every network"
        )
    if "pixels" in config.stress and (config.network != "mlp" or len(spec.obs_shape) != 3):
        told = f"agent.stress = '{config.stress}': {spec.id} observes {spec.obs_shape} with network {config.network}"
        raise UserError(f"{told}; it is for an mlp that sees pictures")
    if config.stress == "predict-pixels" and math.prod(spec.obs_shape) > PREDICTED:
        told = f"agent.stress = 'predict-pixels': {spec.id} has {math.prod(spec.obs_shape):,} pixels"
        raise UserError(f"{told}; it takes memory for the distance of every two, and at most {PREDICTED:,} are allowed")
    return Stress(config.stress, config.stress_size, seed, spec.obs_shape)
