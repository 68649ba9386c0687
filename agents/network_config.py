"""The settings of deep agents' networks, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, MinLen

WIDEST = 1_000_000
Width = Annotated[int, Gt(0), Le(WIDEST)]
"""Units of a layer."""


@dataclass(frozen=True)
class NetworkConfig:
    """From observations to what is learnt of each action's return."""

    uses_torch: ClassVar[bool] = True

    network: Literal["auto", "mlp", "small-cnn", "local", "nature-cnn", "impala"] = "auto"
    """`auto`: by the observations (pictures or vectors), never `local` or `impala` (`qladder list networks`)."""
    hidden: tuple[Width, ...] = (128, 128)
    """Widths of the fully connected layers."""
    channels: Annotated[tuple[Width, ...], MinLen(1)] = (16,)
    """Of the small CNN's 3x3 convolutions, and of `local`'s, whose weights are each place's own; the first has a stride
    of 1, the others of 2."""
    width: Annotated[int, Gt(0), Le(1_000)] = 1
    """IMPALA's channels (16, 32, 32; Espeholt et al. 2018) times this."""
    norm: Literal["none", "layer"] = "none"
    """`layer`: layer norm (Ba et al. 2016) after each convolution and fully connected layer, but the last, before its
    ReLU (as in Gallici et al. 2024)."""
    residual: bool = False
    """A link past each fully connected layer that is as wide as the one before it."""
    pool: Annotated[int, Gt(0)] | None = None
    """The convolutions' last map is reduced to the maxima of so many parts a side (6 in Clark et al. 2024)."""
    scale_inputs: bool = False
    """Bounded dimensions of a vector are scaled to [-1, 1] by the environment's bounds."""
    pixel_mean: Annotated[int, Ge(0), Le(255)] = 0
    """Taken off every pixel; the background's grey keeps filters from dying on it."""
    mean_image: bool = False
    """Taken off is each pixel's own mean instead (as by Krizhevsky et al. 2012), over what the replay held before the
    first update; until then `pixel_mean`. Where hardly anything moves, a picture is nearly its mean, and units that it
    switches off or on stay so in all states."""
    pixel_scale: Annotated[float, Gt(0)] = 255.0
    """What pixels are divided by then."""
    init: Literal["fan-in", "he"] = "fan-in"
    """Weights at the start: `fan-in` uniform within 1 / sqrt(inputs), torch's default; `he` as large as keeps the
    signal's size through ReLUs (He et al. 2015), biases 0."""
    dueling: bool = False
    """A value and an advantage per action, each with a last hidden layer of its own (Wang et al. 2016)."""
    noisy: bool = False
    """Learnt noise in the weights of all fully connected layers explores (Fortunato et al. 2018); with epsilon 0."""
    noisy_std: Annotated[float, Gt(0)] = 0.5
    """Standard deviation of that noise at the start, times the root of a layer's inputs."""
    distribution: Literal["mean", "categorical", "quantile", "implicit-quantile"] = "mean"
    """What is learnt of the return: its mean; the probabilities of `atoms` values in `support` (C51, Bellemare et al.
    2017); `atoms` quantiles (QR-DQN, Dabney et al. 2018a); or quantiles at random fractions (IQN, 2018b)."""
    atoms: Annotated[int, Gt(1), Le(WIDEST)] = 51
    """Values of a categorical distribution, quantiles, or random fractions of an update and as many of its target."""
    act_fractions: Width = 32
    """Fractions, evenly spread, whose mean an implicit quantile network acts by."""
    support: tuple[float, float] | None = None
    """Lowest and highest discounted return of a categorical distribution."""
    begin_std: Annotated[float, Gt(0)] | None = None
    """Standard deviation of an untrained network's categorical distributions, around a return of 0; none: even over
    the support, as published. Where rewards are rare, even ones narrow by the discount alone, copy by copy of the
    target network, and meanwhile all of them push the same way, which kills units."""
