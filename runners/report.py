"""One self-contained HTML page that says what some runs showed, how surely, and on what it was measured."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from qladder.envs.errors import EnvironmentFaultError, UserError
from qladder.runners.compare import Comparison, compare
from qladder.runners.curves import CLOCKS
from qladder.runners.diff import differing, setting_text
from qladder.runners.figures import Style, clock_svg, colours, other_protocol, overall_curves_svg, profile_svg
from qladder.runners.groups import Group, groups
from qladder.runners.pictures import curves_figure
from qladder.runners.progress import duration
from qladder.runners.reach import Reached, reached
from qladder.runners.references import Reference, find_references
from qladder.runners.runs import LeftOut, RunSummary
from qladder.runners.scales import Scales, scale
from qladder.runners.settings import read_toml
from qladder.runners.summaries import markdown, spreadsheets
from qladder.runners.wording import headline, number, sentence, span

__all__ = ["curves_figure", "write_report"]

WIDE, NARROW = (9.2, 3.7), (4.9, 2.9)  # inches
COMMAND_KEYS = ("command_line", "command", "argv")


def write_report(
    runs: Sequence[RunSummary],
    out: Path | str,
    title: str = "qladder report",
    left_out: Sequence[LeftOut] = (),
    *,
    mix_protocols: bool = False,
    comparison: Comparison | None = None,
    references: Sequence[str] = (),
    marks: Mapping[str, float] | None = None,
    scales: Scales | None = None,
    gifs: bool = False,
) -> Path:
    """Writes the page to `out`, or to `report.html` in it where `out` is not an `.html` file; returns its path.

    Beside it, in a folder of the page's name and `-data`, the same as `summary.md`, `results.json`, `curves.svg` and as
    CSV: `scores`, `pairs`, `overall`, `overall_curves`, `reached`, `runs`, `settings`, `curves`.

    `comparison` is what `compare` says of these runs, where it is known already; `references` are laid over them (see
    `find_references`). `marks` are returns by environment, when they are first reached is told; where an environment is
    not among them, what counts as solved (by `scales` first), or as a human. With `gifs` each agent is recorded for an
    episode: the run in the middle of its seeds by score.

    Raises:
        UserError: protocols that do not compare (see `compare`), or a place that cannot be written to.
    """
    comparison = comparison or compare(runs, left_out, mix_protocols=mix_protocols, scales=scales)
    grouped = groups(runs, mix_protocols=mix_protocols)
    published = find_references(references, list(dict.fromkeys(group.env for group in grouped)))
    styles = colours(grouped, published)
    known = {group.env: one.mark for group in grouped if (one := scale(group.env, scales)) is not None}
    first = reached(grouped, {**known, **(marks or {})})
    scored = [run for g in grouped for run in g.runs]
    html = page(
        shipped("report.html"),
        title=title,
        overview=_overview(comparison),
        sections=_sections(comparison, grouped, styles, published, first),
        films={(group.env, group.label): _film(group) for group in grouped} if gifs else {},
        multiples=_multiples(grouped, styles),
        together=comparison.overall,
        profiles=profile_svg(comparison.overall, styles, WIDE, "profile-") if comparison.overall else "",
        overall_curves=_overall_curves(comparison, styles),
        failed=comparison.failed,
        cautions=comparison.cautions,
        pair_count=len(comparison.pairs),
        delta=comparison.delta,
        colour={label: style[0] for label, style in styles.items()},
        clocks=[clock.name for clock in CLOCKS],
        kinds=_kinds(grouped),
        sentence=sentence,
        times=_times,
        setting=setting_text,
        facts=facts([run.manifest for run in scored]),
        runs=[(run, _command(run.manifest)) for run in scored],
    )
    path = Path(out) if Path(out).suffix == ".html" else Path(out) / "report.html"
    data = path.with_name(f"{path.stem}-data")
    beside = {f"{name}.csv": text for name, text in spreadsheets(comparison, grouped, first).items()}
    beside["summary.md"] = markdown(comparison, title, facts([run.manifest for run in scored]))
    beside["results.json"] = json.dumps(comparison.to_json(), indent=1)
    for name, text in beside.items():
        write_page(data / name, text)
    if any(run.curve for run in scored):
        curves_figure(scored, data / "curves.svg", mix_protocols=mix_protocols)
    write_page(path, html)
    return path


def facts(manifests: Iterable[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Every fact that the manifests share or split on, nested keys joined by dots, with its distinct values.

    What is different in each of more than four runs (times, command lines) belongs to the run, and is left out.
    """
    values: dict[str, dict[str, None]] = {}
    for manifest in manifests:
        for key, value in _flat(manifest):
            values.setdefault(key, {})[value] = None
    return [(key, list(seen)) for key, seen in values.items() if len(seen) <= 4 and key not in COMMAND_KEYS]


def _sections(
    comparison: Comparison,
    grouped: Sequence[Group],
    styles: dict[str, Style],
    published: Sequence[Reference],
    first: Sequence[Reached],
) -> list[dict[str, Any]]:
    """What the page shows of each environment."""
    sections: list[dict[str, Any]] = []
    for i, env in enumerate(dict.fromkeys(s.env for s in comparison.scores)):
        scores = sorted((s for s in comparison.scores if s.env == env), key=lambda s: s.rank)
        pairs = [p for p in comparison.pairs if p.env == env]
        members = [g for g in grouped if g.env == env]
        theirs = [reference for reference in published if reference.env == env]
        figures = [
            clock_svg(members, clock, styles, WIDE, f"f{i}-{j}-", published=theirs)
            for j, clock in enumerate(CLOCKS if any(run.curve for g in members for run in g.runs) else ())
        ]
        human = any(s.human_normalized is not None for s in scores)
        optimum = any(s.optimum is not None for s in scores)
        sections.append(
            {
                "env": env,
                "anchor": f"env-{i}",
                "headline": headline(scores, pairs),
                "best": scores[0],
                "scores": scores,
                "pairs": pairs,
                "protocols": sorted({f"{s.protocol} ({s.protocol_hash})" for s in scores}),
                "figures": figures,
                "kinds": _kinds(members),
                "settings": settings_between(members),
                "reached": sorted((r for r in first if r.env == env), key=_sooner),
                "published": [(reference, other_protocol(reference, members)) for reference in theirs],
                "has_human": human,
                "has_joules": any(score.joules is not None for score in scores),
                "has_optimum": optimum,
            }
        )
    return sections


def _multiples(grouped: Sequence[Group], styles: dict[str, Style]) -> list[tuple[str, list[str]]]:
    """Small pictures of all environments that have curves, over every clock; none where there is but one."""
    by_env: dict[str, list[Group]] = {}
    for group in grouped:
        if any(run.curve for run in group.runs):
            by_env.setdefault(group.env, []).append(group)
    if len(by_env) < 2:
        return []
    return [
        (env, [clock_svg(some, clock, styles, NARROW, f"s{i}-{j}-", each_seed=False) for j, clock in enumerate(CLOCKS)])
        for i, (env, some) in enumerate(by_env.items())
    ]


def _kinds(grouped: Sequence[Group]) -> list[str]:
    """Of scores: evaluation, training."""
    return sorted({run.evaluation.kind for group in grouped for run in group.runs if run.evaluation is not None})


def settings_between(members: Sequence[Group]) -> dict[str, dict[str, Any]]:
    """What differs between the agents, from their runs' own settings, where they are there."""
    tables = {}
    for group in members:
        with contextlib.suppress(UserError):  # none, or damaged: it tells nothing
            tables[group.label] = read_toml(group.runs[0].folder / "config.toml")
    told = differing(tables)
    return {field: values for field, values in told.items() if field not in ("run.seed", "run.label")}


def _film(group: Group) -> tuple[str, str]:
    """A recording as a data URL, and what came of the episode; an empty URL, and why, where there is none."""
    from qladder.runners.watch import watch

    run = sorted(group.runs, key=lambda run: run.evaluation.mean if run.evaluation else 0.0)[len(group.runs) // 2]
    with tempfile.TemporaryDirectory(prefix="qladder-film-") as place:
        file = Path(place) / "film.gif"
        try:
            told = watch(run.folder, record=file)
        except (UserError, EnvironmentFaultError) as error:
            return "", str(error)
        url = f"data:image/gif;base64,{b64encode(file.read_bytes()).decode()}"
    return url, f"seed {run.seed}: {number(told['returns'][0])}"


def _sooner(row: Reached) -> tuple[float, int]:
    steps = row.median["agent_steps"]
    return (float("inf") if steps is None else steps, -row.reached)


def _times(row: Reached, clock: str) -> str:
    """The median and its interval in words."""
    form = duration if clock == "seconds" else "{:,.0f}".format
    middle, (low, high) = row.median[clock], row.interval[clock]
    told = "later" if middle is None else form(middle)
    if low is None:
        return told
    return f"{told} [{form(low)}, {'later' if high is None else form(high)}]"


def _overall_curves(comparison: Comparison, styles: dict[str, Style]) -> str:
    """The figure of all environments together, nothing where there is none."""
    curves = {row.agent: row.curve for row in comparison.overall if row.curve is not None}
    return overall_curves_svg(curves, styles, WIDE, "overall-") if curves else ""


def _overview(comparison: Comparison) -> str:
    scores = comparison.scores
    agents, envs = len({s.agent for s in scores}), len({s.env for s in scores})
    runs = _count(sum(s.seeds for s in scores), "run")
    total = duration(sum(s.seconds * s.seeds for s in scores))
    return f"{runs}: {_count(agents, 'agent')} on {_count(envs, 'environment')}, {total} of training"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def signed(text: str) -> str:
    """With the minus sign proper, but for the dash that stands for nothing."""
    return "–" if text == "-" else text.replace("-", "−")


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{prefix}{key}.")
        elif inner is not None:
            yield f"{prefix}{key}", " ".join(map(str, inner)) if isinstance(inner, list) else str(inner)


def _command(manifest: Mapping[str, Any]) -> str:
    return next((text for key, text in _flat(manifest) if key in COMMAND_KEYS), "")


def shipped(name: str) -> str:
    """The text of a file beside this one."""
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def page(template: str, **told: Any) -> str:
    """The HTML of a template that extends `page.html`, which is told `title`, `overview` and what else it asks for.

    `number`, `span` and `duration` are filters; a name that is asked for and not told is an error.
    """
    from jinja2 import DictLoader, Environment, StrictUndefined

    base = DictLoader({"page.html": shipped("page.html")})
    env = Environment(loader=base, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.filters.update(number=lambda x: signed(number(x)), span=lambda x: signed(span(x)), duration=duration)
    return env.from_string(template).render(css=shipped("page.css"), **told)


def write_page(path: Path, text: str) -> None:
    """In one piece: a reader sees the old file or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_text(text, encoding="utf-8")
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as e:
        raise UserError(f"{path}: the report cannot be written ({e.strerror})") from None
