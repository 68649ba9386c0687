"""Learning curves as picture files, one panel per environment, or one per agent where they are many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qladder.envs.errors import UserError
from qladder.runners.axes import plain_axes
from qladder.runners.curves import CLOCKS, aggregate
from qladder.runners.figures import (
    PALETTE,
    Style,
    box,
    colours,
    draw,
    draw_curve,
    extremes,
    limits,
    names_beside,
    plain_style,
)
from qladder.runners.groups import Group, groups
from qladder.runners.runs import RunSummary
from qladder.runners.svg import INK, MUTED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 6.2, 3.6  # inches of a panel
MOST = len(PALETTE)
"""Agents in one panel; of more each has a panel of its own, with the others in grey."""
ACROSS = 5  # of those in a row
SMALL, GAP, LEFT, HEAD = 1.8, 0.3, 0.72, 0.35  # inches: their height with what is below, between them, beside, above


def curves_figure(runs: Sequence[RunSummary], path: Path | str, *, mix_protocols: bool = False) -> Path:
    """Saves the curves over agent steps as a picture (`.png` or `.svg`); environments with many agents come last.

    Raises:
        UserError: another kind of picture, no finished run with a curve, or protocols that do not compare.
    """
    from matplotlib.figure import Figure

    path = Path(path)
    if path.suffix not in (".png", ".svg"):
        raise UserError(f"{path}: a picture of the curves is a .png or an .svg file")
    grouped = groups(runs, mix_protocols=mix_protocols)
    styles = colours(grouped)
    grouped = [g for g in grouped if any(run.curve for run in g.runs)]
    if not grouped:
        raise UserError("no finished run with evaluations during training, so there is no curve to draw")
    panels = {env: [g for g in grouped if g.env == env] for env in dict.fromkeys(g.env for g in grouped)}
    few = [env for env, panel in panels.items() if len(panel) <= MOST]
    many = [env for env in panels if env not in few]
    columns = 2 if many else min(2, len(few))
    above = -(-len(few) // 2) * HEIGHT
    tall = [HEAD + -(-len(panels[env]) // ACROSS) * SMALL + GAP for env in many]
    with plain_style():
        figure = Figure(figsize=(columns * WIDTH, above + sum(tall)), facecolor="white")
        _draw_few(figure, [panels[env] for env in few], styles)
        for i, env in enumerate(many):
            _draw_many(figure, panels[env], above + sum(tall[:i]))
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
    return path


def _draw_few(figure: Figure, panels: Sequence[Sequence[Group]], styles: dict[str, Style]) -> None:
    """Two panels in a row, from the top."""
    wide, high = figure.get_size_inches()
    names = [name for panel in panels for name in names_beside(panel)]
    for i, panel in enumerate(panels):
        left, bottom, width, height = box(names, WIDTH, HEIGHT, title=True)
        corner = (i % 2 + left) * WIDTH / wide, 1 - (i // 2 + 1 - bottom) * HEIGHT / high
        axes = figure.add_axes((*corner, width * WIDTH / wide, height * HEIGHT / high))
        draw(axes, panel, CLOCKS[0], styles)
        axes.set_title(panel[0].env, loc="left", fontsize=10, fontweight="bold", color=INK, pad=10, parse_math=False)


def _draw_many(figure: Figure, panel: Sequence[Group], top: float) -> None:
    """A small panel for each agent, from so many inches below the figure's top, as long as its own curve."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    wide, high = figure.get_size_inches()
    curves = {g.label: aggregate(g.runs, CLOCKS[0]) for g in panel}
    optimum = next((g.runs[0].optimum for g in panel if g.runs[0].optimum is not None), None)
    measured = extremes(curves.values()) + ([] if optimum is None else [optimum])
    width = (wide - LEFT - (ACROSS - 1) * GAP - 0.2) / ACROSS
    figure.text(
        LEFT / wide, 1 - (top + 0.22) / high, panel[0].env, fontsize=10, fontweight="bold", color=INK, parse_math=False
    )
    for i, (label, curve) in enumerate(curves.items()):
        left, below = LEFT + i % ACROSS * (width + GAP), top + HEAD + (i // ACROSS + 1) * SMALL - 0.45
        axes = figure.add_axes((left / wide, 1 - below / high, width / wide, (SMALL - 0.65) / high))
        for other in curves.values():
            axes.plot(other.x, other.mean, color=MUTED, alpha=0.35, linewidth=0.6, zorder=1)
        draw_curve(axes, curve, PALETTE[0])
        axes.set_xlim(0, float(curve.x[-1]) if curve.x.size else None)
        axes.set_ylim(*limits(measured))
        if optimum is not None:
            axes.axhline(optimum, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        last = i + ACROSS >= len(curves)
        plain_axes(axes, CLOCKS[0].name if last else "", "mean return" if i % ACROSS == 0 else "")
        axes.tick_params(labelleft=i % ACROSS == 0)
        axes.set_title(label, loc="left", fontsize=9, fontweight="bold", color=PALETTE[0], pad=4, parse_math=False)
