"""Learning curves, scores and profiles as drawings, for the report's page and for pictures."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np

from qladder.runners.axes import End, label_ends, plain_axes
from qladder.runners.curves import Clock, Curve, aggregate
from qladder.runners.groups import Group
from qladder.runners.references import Reference
from qladder.runners.stats import Floats, Interval, middle
from qladder.runners.svg import AGENT, MUTED, RULE, inline
from qladder.runners.together import MARKS, Overall, OverallCurve
from qladder.runners.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Style = tuple[str, int]  # a colour and which of the dash patterns
Dash = tuple[float, tuple[float, ...]]  # as matplotlib has it

PALETTE = ("#0077bb", "#ee7733", "#009988", "#cc3311", "#aa4499", "#33bbee", "#888888")
"""Told apart with any colour vision: Paul Tol's "vibrant" scheme (2021), its magenta exchanged for his muted purple."""
DASHES: tuple[Dash, ...] = ((0.0, ()), (0.0, (6, 2)), (0.0, (2, 1.5)), (0.0, (6, 2, 1.5, 2)))
FEW = 5
"""Up to this many seeds each is drawn as a thin line."""
UNITS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


def colours(grouped: Iterable[Group], published: Iterable[Reference] = ()) -> dict[str, Style]:
    """A colour and a dash pattern for each agent, in the order of appearance; colours repeat with another pattern.

    What was published is grey.
    """
    labels = dict.fromkeys(g.label for g in grouped)
    k = len(PALETTE)
    styles = {label: (PALETTE[i % k], i // k % len(DASHES)) for i, label in enumerate(labels)}
    names = dict.fromkeys(reference.name for reference in published)
    return styles | {name: (MUTED, i % len(DASHES)) for i, name in enumerate(names)}


def agent_class(label: str, styles: Mapping[str, Style]) -> str:
    """The class of an agent's parts of a picture in a page."""
    return f"{AGENT}{list(styles).index(label)}"


def clock_svg(
    grouped: Sequence[Group],
    clock: Clock,
    styles: dict[str, Style],
    size: tuple[float, float],
    prefix: str,
    *,
    each_seed: bool = True,
    published: Sequence[Reference] = (),
) -> str:
    """The curves of one environment over one clock as an `<svg>` element for an HTML page; `size` in inches.

    Every id begins with `prefix`, so that a page can hold many; what is an agent's is in its class, `agent-` and its
    place in `styles`, so that the page can hide it; colours of the page's own are its `--ink`, `--muted` and `--rule`.
    """
    from matplotlib.figure import Figure

    beside = names_beside(grouped) + [_published_label(reference, grouped) for reference in published]
    size = with_room(size, len(beside))
    with plain_style():
        figure = Figure(figsize=size, facecolor="none")
        axes = figure.add_axes(box(beside, *size))
        draw(axes, grouped, clock, styles, each_seed=each_seed, published=published)
        names = ", ".join(g.label for g in grouped)
        return _svg(figure, prefix, f"Mean return of {names} on {grouped[0].env} over {clock.name}")


def profile_svg(rows: Sequence[Overall], styles: Mapping[str, Style], size: tuple[float, float], prefix: str) -> str:
    """Of each agent the share of seeds that score more than each mark, as `clock_svg` gives curves."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    size = with_room(size, len(rows))
    with plain_style():
        figure = Figure(figsize=size, facecolor="none")
        axes = figure.add_axes(box([row.agent for row in rows], *size))
        for row in rows:
            (colour, dash), whose = styles[row.agent], agent_class(row.agent, styles)
            low, high = ends_of(row.profile_intervals)
            band = axes.fill_between(MARKS, low, high, step="post", color=colour, alpha=0.16, linewidth=0, zorder=1)
            band.set_gid(whose)
            axes.step(MARKS, row.profile, where="post", color=colour, linestyle=DASHES[dash], linewidth=2, gid=whose)
        axes.set_ylim(-0.04, 1.04)
        axes.set_xlim(MARKS[0], MARKS[-1])
        plain_axes(axes, "normalised score", "share of seeds above it")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        label_ends(axes, [_end(float(MARKS[-1]), row.profile[-1], row.agent, styles) for row in rows[::-1]])
        return _svg(figure, prefix, f"Performance profiles of {', '.join(row.agent for row in rows)}")


def overall_curves_svg(
    curves: Mapping[str, OverallCurve], styles: Mapping[str, Style], size: tuple[float, float], prefix: str
) -> str:
    """Of each agent the IQM over environments by the share of training, as `clock_svg` gives curves."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    size = with_room(size, len(curves))
    with plain_style():
        figure = Figure(figsize=size, facecolor="none")
        axes = figure.add_axes(box(list(curves), *size))
        for label, curve in curves.items():
            (colour, dash), whose = styles[label], agent_class(label, styles)
            low, high = ends_of(curve.interval)
            drawn = Curve(np.array(curve.share), np.array(curve.iqm), low, high, [])
            draw_curve(axes, drawn, colour, DASHES[dash], whose=whose)
        axes.set_xlim(0, 1)
        axes.set_ylim(*limits([y for curve in curves.values() for y in curve.iqm]))
        plain_axes(axes, "share of the agent steps", "IQM of normalised scores")
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        label_ends(axes, [_end(1.0, curve.iqm[-1], label, styles) for label, curve in curves.items()])
        return _svg(figure, prefix, f"IQM of {', '.join(curves)} over environments, during training")


def ends_of(intervals: Sequence[Interval]) -> tuple[Floats, Floats]:
    """The lower and the upper ends, nan where there are none."""
    low, high = np.array(intervals, dtype=np.float64).reshape(-1, 2).T
    return low, high


def _end(x: float, y: float, label: str, styles: Mapping[str, Style]) -> End:
    return End(x, y, _short(label), styles[label][0], agent_class(label, styles))


def scores_svg(
    scores: Mapping[str, Sequence[float]], styles: dict[str, Style], width: float, prefix: str, where: str
) -> str:
    """A row for each agent, a dot for each seed, a stroke at their `middle`; as `clock_svg` gives curves."""
    from matplotlib.figure import Figure

    height = 0.75 + 0.3 * len(scores)
    with plain_style():
        figure = Figure(figsize=(width, height), facecolor="none")
        left = 0.5 + 0.08 * max(len(_short(label)) for label in scores)
        axes = figure.add_axes((left / width, 0.5 / height, (width - left - 0.3) / width, (height - 0.65) / height))
        for row, (label, values) in enumerate(scores.items()):
            colour, gid = styles[label][0], agent_class(label, styles)
            axes.scatter(values, [row] * len(values), s=26, color=colour, alpha=0.45, linewidths=0, zorder=2, gid=gid)
            at = middle(values)
            axes.plot([at, at], [row - 0.34, row + 0.34], color=colour, linewidth=2, zorder=3, gid=gid)
        plain_axes(axes, f"score on {where}", "")
        axes.grid(axis="x", color=RULE, linewidth=0.7)
        axes.set_ylim(len(scores) - 0.4, -0.6)
        axes.set_yticks(range(len(scores)), [_short(label) for label in scores])
        return _svg(figure, prefix, f"Scores of {', '.join(scores)} on {where}, a dot for each seed")


def _svg(figure: Figure, prefix: str, label: str) -> str:
    """As an element of a page, without the time at which it was drawn."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return inline(file.getvalue(), prefix, label)


def plain_style() -> AbstractContextManager[None]:
    """Matplotlib's settings for our pictures, whatever the user's own are."""
    from matplotlib import style

    return style.context(["default", {"svg.fonttype": "none", "svg.hashsalt": "qladder"}])


def _short(label: str) -> str:
    return label if len(label) <= 30 else label[:29] + "…"


def _optimum_label(optimum: float | None) -> str:
    return "" if optimum is None else f"optimum {number(optimum)}".replace("-", "−")


def other_protocol(reference: Reference, grouped: Sequence[Group]) -> bool:
    """Whether what was published was scored otherwise than one of the runs."""
    return {run.protocol.name for group in grouped for run in group.runs} != {reference.protocol}


def _published_label(reference: Reference, grouped: Sequence[Group]) -> str:
    """With a mark where its protocol is another."""
    mark = "*" if other_protocol(reference, grouped) else ""
    return f"{reference.name}{mark} " + number(float(reference.mean[-1])).replace("-", "−")


def names_beside(grouped: Sequence[Group]) -> list[str]:
    """What stands to the right of a drawing of these: agents, and the optimum where it is known."""
    return [g.label for g in grouped] + [_optimum_label(g.runs[0].optimum) for g in grouped]


def with_room(size: tuple[float, float], names: int) -> tuple[float, float]:
    """A size in inches, high enough for so many names one above the other."""
    return size[0], max(size[1], 0.9 + 0.17 * names)


def box(names: Sequence[str], width: float, height: float, title: bool = False) -> tuple[float, float, float, float]:
    """The axes' place in the figure, in fractions of it, with room on the right for the longest name."""
    left, bottom, top = 0.72, 0.52, 0.42 if title else 0.22
    right = 0.3 + 0.08 * max(len(_short(name)) for name in names)
    return left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height


def draw(
    axes: Axes,
    grouped: Sequence[Group],
    clock: Clock,
    styles: dict[str, Style],
    *,
    each_seed: bool = True,
    published: Sequence[Reference] = (),
) -> None:
    """The curves of one environment over one clock, their names beside them."""
    curves = {g.label: aggregate(g.runs, clock) for g in grouped}
    longest = max((xs[-1] for c in curves.values() for xs, _ in c.seeds), default=0.0) or 1.0
    unit, unit_name = next(((u, n) for u, n in UNITS if longest >= 2 * u), UNITS[-1]) if clock.is_time else (1.0, "")
    ends = []
    for label, curve in curves.items():
        colour, dash = styles[label]
        whose = agent_class(label, styles)
        draw_curve(axes, curve, colour, DASHES[dash], unit=unit, whose=whose, each_seed=each_seed)
        if not curve.x.size:
            continue
        ends.append(_end(float(curve.x[-1]) / unit, float(curve.mean[-1]), label, styles))
    optimum = next((g.runs[0].optimum for g in grouped if g.runs[0].optimum is not None), None)
    if optimum is not None:
        axes.axhline(optimum, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        ends.append(End(longest / unit, optimum, _optimum_label(optimum), MUTED, None))
    measured = extremes(curves.values())
    measured += [] if optimum is None else [optimum]
    for reference in published:
        label, whose = _published_label(reference, grouped), agent_class(reference.name, styles)
        score = float(reference.mean[-1])
        axes.axhline(score, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1, gid=whose)
        ends.append(End(longest / unit, score, _short(label), MUTED, whose))
        measured.append(score)
        if clock.of_frames is not None:
            x = clock.of_frames(reference.frames, reference.frames_per_step)
            seen = x <= longest  # what came later than these runs would leave them no room
            pattern = DASHES[styles[reference.name][1]]
            way = axes.plot(x[seen] / unit, reference.mean[seen], ".", color=MUTED, linestyle=pattern, gid=whose)
            way[0].set(linewidth=1.3, zorder=2)
            measured += reference.mean[seen].tolist()
    if measured:
        axes.set_ylim(*limits(measured))
    _dress(axes, clock, longest, unit, unit_name)
    label_ends(axes, ends)


def draw_curve(
    axes: Axes,
    curve: Curve,
    colour: str,
    dash: Dash = DASHES[0],
    *,
    unit: float = 1.0,
    whose: str | None = None,
    each_seed: bool = True,
) -> None:
    """The mean with its band, and few seeds each as a thin line; on a clock that is counted in `unit`."""
    for xs, ys in curve.seeds if each_seed and len(curve.seeds) <= FEW else []:
        axes.plot(xs / unit, ys, color=colour, alpha=0.35, linewidth=0.7, zorder=2, gid=whose)
    if not curve.x.size:
        return
    x = curve.x / unit
    axes.fill_between(x, curve.low, curve.high, color=colour, alpha=0.16, linewidth=0, zorder=1).set_gid(whose)
    marker = "o" if x.size == 1 else ""  # a band of one point shows nothing
    if marker:
        axes.vlines(x, curve.low, curve.high, color=colour, alpha=0.4, linewidth=3, zorder=2).set_gid(whose)
    axes.plot(x, curve.mean, color=colour, linestyle=dash, marker=marker, linewidth=2, zorder=3, gid=whose)


def extremes(curves: Iterable[Curve]) -> list[float]:
    """The lowest and the highest evaluation of each seed."""
    return [float(y) for curve in curves for _, ys in curve.seeds for y in (ys.min(), ys.max())]


def limits(measured: Sequence[float]) -> tuple[float, float]:
    """Of an axis: a band of two seeds may be many times as high as all that was measured."""
    low, high = min(measured), max(measured)
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin


def _dress(axes: Axes, clock: Clock, longest: float, unit: float, unit_name: str) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.set_facecolor("none")
    axes.set_xlim(0, longest / unit)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if not clock.is_time:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    plain_axes(axes, f"{clock.name} ({unit_name})" if unit_name else clock.name, "mean return")
    for at, name in clock.marks:
        if 0.03 * longest <= at <= longest:
            axes.axvline(at / unit, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
            axes.text(at / unit, 1.01, name, transform=axes.get_xaxis_transform(), fontsize=8, color=MUTED, ha="center")
