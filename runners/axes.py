"""How all axes look, and the names of curves at their ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from qladder.runners.svg import MUTED, RULE

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plain_axes(axes: Axes, across: str, up: str) -> None:
    """Only what is needed to read off values."""
    axes.set_xlabel(across, fontsize=9, color=MUTED)
    axes.set_ylabel(up, fontsize=9, color=MUTED)
    axes.tick_params(length=0, labelsize=8.5, labelcolor=MUTED)
    axes.grid(axis="y", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)


class End(NamedTuple):
    """Where a curve ends, in data, and what stands there."""

    x: float
    y: float
    name: str
    colour: str
    whose: str | None  # the class of its agent


def label_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Each curve's name to the right of the axes, moved apart where they would overlap, with a line to its end."""
    bottom, top = axes.get_ylim()
    height = axes.get_position().height * axes.get_figure().get_size_inches()[1]  # type: ignore[union-attr]
    order = sorted(ends, key=lambda end: end.y)
    places = spread([(end.y - bottom) / (top - bottom) for end in order], gap=0.17 / height)
    right = axes.get_xlim()[1]
    for (x, y, name, colour, whose), place in zip(order, places, strict=True):
        axes.annotate(
            name,
            xy=(x, y),
            xytext=(1.03, place),
            textcoords="axes fraction",
            fontsize=9,
            color=colour,
            fontweight="normal" if colour == MUTED else "bold",
            va="center_baseline",
            annotation_clip=False,
            parse_math=False,
            gid=whose,
        )
        axes.plot(
            [x / right, 1.02],
            [(y - bottom) / (top - bottom), place],
            color=colour,
            linewidth=0.7,
            alpha=0.6,
            transform=axes.transAxes,
            clip_on=False,
            solid_capstyle="round",
            gid=whose,
        )


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Ascending places moved as little as it takes (least squares) to lie `gap` apart and within [0, 1].

    By pooling adjacent violators (Ayer et al. 1955) of what is left of the places when their gaps are taken away.
    """
    pools: list[list[float]] = []
    for i, place in enumerate(places):
        pools.append([place - i * gap])
        while len(pools) > 1 and _middle(pools[-2]) > _middle(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    level = [_middle(pool) for pool in pools for _ in pool]
    highest = 1 - gap * (len(places) - 1)
    return [min(max(x, 0.0), highest) + i * gap for i, x in enumerate(level)]


def _middle(pool: Sequence[float]) -> float:
    return sum(pool) / len(pool)
