"""Whole updates as CUDA graphs: gather, forwards, loss, backward and optimizer step, captured once and replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qladder.agents.objective import Transitions
from qladder.replay.store import Store
from qladder.replay.types import Picks

WARM_UP = 3  # calls before a capture, in which libraries choose their kernels and allocate
ROWS = 32  # updates that one upload can hold


class Graph:
    """A function without arguments whose tensors stay where they are: captured at its first call, then replayed.

    Its result lies in tensors that the next call overwrites. On a CPU it is just called, which the tests compare.
    """

    def __init__(self, function: Callable[[], Any], device: torch.device) -> None:
        self._function, self._device = function, device
        self._graph: Any = None
        self._result: Any = None

    @property
    def captured(self) -> bool:
        return self._graph is not None or self._device.type != "cuda"

    def warm_up(self) -> None:
        """Calls the function aside a few times, with all its effects; on a CPU there is no need to."""
        if self._device.type != "cuda":
            return
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._function()
        torch.cuda.current_stream(self._device).wait_stream(stream)

    def __call__(self) -> Any:
        if self._device.type != "cuda":
            return self._function()
        if self._graph is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._result = self._function()
            self._graph = graph
        self._graph.replay()
        return self._result


class GraphOfArray:
    """A function of one tensor, called with arrays that all have one shape."""

    def __init__(self, function: Callable[[Tensor], Any], device: torch.device) -> None:
        self._function, self._device = function, device
        self._input: Tensor | None = None

    def __call__(self, array: Any) -> Any:
        given = torch.from_numpy(array)
        if self._input is None:
            kept = self._input = given.to(self._device, copy=True)
            function = self._function
            self._graph = Graph(lambda: function(kept), self._device)
            self._graph.warm_up()
        self._input.copy_(given)
        return self._graph()


class Feed:
    """Drawn transitions on the device: uploaded for up to `ROWS` updates at once, taken by one after another."""

    def __init__(self, store: Store, device: torch.device) -> None:
        self._store, self._device = store, device
        self._rows: dict[str, Tensor] = {}
        self._next = torch.zeros(1, dtype=torch.int64, device=device)

    def upload(self, picks: Picks, updates: int) -> None:
        """Takes `updates` times as many transitions as a batch has."""
        for name, array in picks._asdict().items():
            if name == "index" or array is None:
                continue
            if name in ("slots", "blank"):  # observations and successors come first
                rows = array.reshape(2, updates, -1, *array.shape[2:]).swapaxes(0, 1)
            else:
                rows = array.reshape(updates, -1)
            host = torch.from_numpy(np.ascontiguousarray(rows))
            if name not in self._rows:
                self._rows[name] = torch.zeros((ROWS, *host.shape[1:]), dtype=host.dtype, device=self._device)
            if self._device.type == "cuda":
                host = host.pin_memory()
            self._rows[name][:updates].copy_(host, non_blocking=True)
        self.rewind()

    def rewind(self) -> None:
        """Starts again at the first of the uploaded batches."""
        self._next.zero_()

    def take(self) -> Transitions:
        """The next batch."""
        row = {name: rows.index_select(0, self._next)[0] for name, rows in self._rows.items()}
        self._next.add_(1)
        obs = self._store.take(row.pop("slots"), row.pop("blank", None))
        return Transitions(obs=obs[0], next_obs=obs[1], **row)


class GraphedUpdates:
    """Updates of drawn transitions; `improve` takes what `Feed.take` gives and moves `params` by `optimizer`."""

    def __init__(
        self,
        improve: Callable[[Transitions], Any],
        store: Store,
        params: Sequence[Tensor],
        optimizer: torch.optim.Optimizer,
        device: torch.device,
    ) -> None:
        self._params, self._optimizer = params, optimizer
        feed = self._feed = Feed(store, device)
        self._graph = Graph(lambda: improve(feed.take()), device)

    def upload(self, picks: Picks, updates: int) -> None:
        """The transitions of the next `updates` calls, at most `ROWS`."""
        self._feed.upload(picks, updates)
        if not self._graph.captured:
            self._warm_up()

    def __call__(self) -> Any:
        """One update; what `improve` returned is overwritten by the next."""
        return self._graph()

    @torch.no_grad()
    def _warm_up(self) -> None:
        """Runs updates aside, as a capture needs, and takes them back."""
        params = [p.clone() for p in self._params]
        averages = {p: {name: v.clone() for name, v in slots.items()} for p, slots in self._optimizer.state.items()}
        with torch.enable_grad():
            self._graph.warm_up()
        self._feed.rewind()
        torch._foreach_copy_(list(self._params), params)
        for p, slots in self._optimizer.state.items():
            for name, value in slots.items():
                value.copy_(averages[p][name]) if p in averages else value.zero_()
