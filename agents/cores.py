"""Recurrent cores: LSTM and GRU, unrolled over time with a fresh start wherever an episode begins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from qladder.agents.agent import EnvSpec
from qladder.agents.networks import INITIALISERS, Head, trunk
from qladder.agents.r2d2_config import R2D2Config


class Pieces(NamedTuple):
    """Columns of a window `[T, B]` cut where episodes begin, the longest piece first."""

    order: Tensor  # [T * B] places in the flattened window, by place in the piece, then by piece
    sizes: Tensor  # [longest] pieces that have a step at this place
    start: Tensor  # [pieces] the column whose state a piece starts from; B where it starts from zeros
    last: Tensor  # [B] the piece that each column ends with


def pieces(reset: NDArray[np.bool_]) -> Pieces:
    """The pieces of a window whose episodes begin where `reset [T, B]`."""
    steps, columns = reset.shape
    begins = reset.copy()
    begins[0] = True
    piece = begins.T.cumsum().reshape(columns, steps).T - 1  # [T, B] numbered column by column
    time = np.arange(steps)[:, None]
    place = time - np.maximum.accumulate(np.where(begins, time, 0), axis=0)
    rank = np.argsort(np.argsort(-np.bincount(piece.ravel()), kind="stable"))
    start = np.full(len(rank), columns)
    start[rank[piece[0]]] = np.where(reset[0], columns, np.arange(columns))
    order = np.lexsort((rank[piece].ravel(), place.ravel()))
    return Pieces(*map(torch.from_numpy, (order, np.bincount(place.ravel()), start, rank[piece[-1]])))


class Core(nn.Module):
    """Features `[T, B, W]` to `[T, B, H]`; its state `[B, S]` is an LSTM's output and cell side by side, or a GRU's."""

    def __init__(self, kind: str, width: int, size: int) -> None:
        super().__init__()
        self.size = size
        self._parts = 2 if kind == "lstm" else 1
        self.state_size = self._parts * size
        self.cells: Any = nn.LSTM(width, size) if kind == "lstm" else nn.GRU(width, size)

    def forward(self, x: Tensor, state: Tensor, reset: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
        """What it gives, and the state after the last step; it starts from zeros where `reset [T, B]`."""
        if not reset.any():
            return self._run(x, state)
        order, sizes, start, last = pieces(reset)
        order, start, last = (index.to(x.device) for index in (order, start, last))
        begun = torch.cat([state, state.new_zeros(1, state.shape[1])])[start]
        packed, state = self._run(PackedSequence(x.flatten(0, 1)[order], sizes), begun)
        return packed.data[order.argsort()].view(*reset.shape, -1), state[last]

    def _run(self, x: Any, state: Tensor) -> tuple[Any, Tensor]:
        parts = tuple(part.contiguous() for part in torch.split(state[None], self.size, -1))
        out, after = self.cells(x, parts if self._parts == 2 else parts[0])
        return out, torch.cat(after, -1)[0] if self._parts == 2 else after[0]


class RecurrentQNetwork(nn.Module):
    """From observations `[T, B, ...]` and a state `[B, S]` to action values `[T, B, A]` and the state after them."""

    def __init__(self, body: nn.Sequential, core: Core, head: Head, *, skip: bool) -> None:
        super().__init__()
        self.trunk, self.core, self.head, self._skip = body, core, head, skip

    def forward(self, obs: Tensor, state: Tensor, reset: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
        features = self.trunk(obs.flatten(0, 1)).view(*reset.shape, -1)
        out, state = self.core(features, state, reset)
        out = torch.cat([out, features], -1) if self._skip else out
        q: Tensor = self.head(out.flatten(0, 1))[..., 0]
        return q.view(*reset.shape, -1), state


def recurrent_network(
    config: R2D2Config, spec: EnvSpec, num_actions: int, generator: torch.Generator
) -> RecurrentQNetwork:
    """A network as configured: all `hidden` layers come before the core.

    Raises:
        UserError: the named network does not fit the observations.
    """
    body, width = trunk(config, spec, config.hidden)
    core = Core(config.core, width, config.core_size)
    head = Head(config, config.core_size + width * config.core_skip, config.head_hidden, num_actions, 1)
    network = RecurrentQNetwork(nn.Sequential(*body), core, head, skip=config.core_skip)
    INITIALISERS[config.init](network, generator)
    for parameter in core.parameters():  # torch's own default
        nn.init.uniform_(parameter, -(config.core_size**-0.5), config.core_size**-0.5, generator=generator)
    return network


def single_frames(spec: EnvSpec) -> EnvSpec:
    """The same environments, of whose stacks `[S, H, W]` only the newest frame `[1, H, W]` is seen."""
    return replace(spec, stack=1, obs_shape=(1, *spec.obs_shape[1:])) if spec.stack > 1 else spec


class Carried:
    """The recurrent state `[N, S]` float32 that goes on from one step to the next, zeros where an episode starts."""

    def __init__(self, size: int) -> None:
        self.state = np.zeros((0, size), np.float32)

    def before(self, num_envs: int, first: Any) -> NDArray[np.float32]:
        """The state before a step of so many environments; `first [N]`, or one for all, marks episode starts.

        For another number of environments than before, all start anew.
        """
        if len(self.state) != num_envs:
            self.state = np.zeros((num_envs, self.state.shape[1]), np.float32)
        fresh = np.broadcast_to(first, num_envs)[:, None]
        return np.where(fresh, np.float32(0), self.state)
