"""Optimizers by name: Adam, the centred RMSProp of the DQN paper, and those that they are compared with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Plain(Optimizer):
    """torch's optimizers without what they do for its compiler, the import of which takes more than a second."""

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None


class CentredRMSProp(Plain):
    """RMSProp as DQN's released code has it (Mnih et al. 2015; Graves 2013, eq. 38-41).

    The squared gradients' mean less the squared mean gradient, epsilon inside the square root, averages from zero, no
    momentum. torch's own adds epsilon outside the root, which at the paper's 0.01 is another algorithm.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, decay: float = 0.95, eps: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            decay, params = group["decay"], [p for p in group["params"] if p.grad is not None]
            grads = [p.grad for p in params]
            for p in params:
                if not self.state[p]:
                    self.state[p].update(mean=torch.zeros_like(p), square=torch.zeros_like(p))
            mean, square = [self.state[p]["mean"] for p in params], [self.state[p]["square"] for p in params]
            torch._foreach_lerp_(mean, grads, 1 - decay)
            torch._foreach_mul_(square, decay)
            torch._foreach_addcmul_(square, grads, grads, 1 - decay)
            denominator = torch._foreach_addcmul(square, mean, mean, -1.0)
            torch._foreach_clamp_min_(denominator, 0.0)  # a variance, which rounding can make negative
            torch._foreach_add_(denominator, group["eps"])
            torch._foreach_sqrt_(denominator)
            torch._foreach_addcdiv_(params, grads, denominator, -group["lr"])


class FusedAdam(Plain, torch.optim.Adam):
    """torch's fused Adam without what its `step` does besides, which takes longer than the arithmetic of small nets."""

    _kernel = staticmethod(torch._fused_adam_)
    _decay = 0.0
    _slots: tuple[list[Tensor], list[Tensor], list[Tensor]] | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        group = self.param_groups[0]
        params = group["params"]
        if self._slots is None:
            self._slots = self._begin(params)
        mean, square, steps = self._slots
        torch._foreach_add_(steps, 1)
        self._kernel(
            params,
            [p.grad for p in params],
            mean,
            square,
            [],
            steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=self._decay,
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )

    step.hooked = True  # type: ignore[attr-defined]  # torch would wrap it for its profiler and for hooks

    def _begin(self, params: list[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Means, mean squares and steps, at 0 where there are none."""
        for p in params:
            if not self.state[p]:
                zeros = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
                self.state[p] = {"step": torch.zeros((), device=p.device), **zeros}
        mean, square, steps = ([self.state[p][name] for p in params] for name in ("exp_avg", "exp_avg_sq", "step"))
        return mean, square, steps

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._slots = None


class SGD(Plain, torch.optim.SGD):
    """Stochastic gradient descent, plain or with momentum (Polyak 1964; Nesterov 1983)."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class Adagrad(Plain, torch.optim.Adagrad):
    """Steps that shrink with the sum of all squared gradients so far (Duchi et al. 2011)."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adagrad.step))


class AdamW(FusedAdam):
    """Adam with decay of the weights beside the gradient's step (Loshchilov and Hutter 2019)."""

    _kernel = staticmethod(torch._fused_adamw_)
    _decay = 0.01


MOMENTUM = 0.9


def make_optimizer(name: str, params: Iterable[Tensor], lr: float | Tensor, eps: float) -> torch.optim.Optimizer:
    """One of `agent.optimizer`; RMSProp is centred, with decay 0.95; in a CUDA graph Adam's `lr` is a tensor."""
    if isinstance(lr, Tensor):
        return torch.optim.Adam(params, lr=lr, eps=eps, fused=True, capturable=lr.is_cuda)
    if name in ("sgd", "momentum", "nesterov"):
        return SGD(
            params, lr=lr, momentum=0.0 if name == "sgd" else MOMENTUM, nesterov=name == "nesterov", foreach=True
        )
    makers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "adagrad": lambda: Adagrad(params, lr=lr, eps=eps, foreach=True),
        "rmsprop": lambda: CentredRMSProp(params, lr, eps=eps),
        "adam": lambda: FusedAdam(params, lr=lr, eps=eps, fused=True),
        "radam": lambda: torch.optim.RAdam(params, lr=lr, eps=eps),  # Liu et al. 2020
        "adamw": lambda: AdamW(params, lr=lr, eps=eps, fused=True),
    }
    return makers[name]()


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's state with string keys, tensors and numbers only."""
    state = optimizer.state_dict()["state"]
    return {str(index): dict(slots) for index, slots in state.items()}


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """The inverse of `optimizer_state`; averages get the memory layout of their parameters: fused Adam assumes it."""
    groups = optimizer.state_dict()["param_groups"]
    rates = [group["lr"] for group in optimizer.param_groups]
    optimizer.load_state_dict({"state": {int(k): v for k, v in state.items()}, "param_groups": groups})
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate  # where it is a tensor it was copied, and who sets it would set another one
    for param, slots in optimizer.state.items():
        for name, value in slots.items():
            if value.shape == param.shape:
                slots[name] = torch.empty_like(param, dtype=value.dtype).copy_(value)
