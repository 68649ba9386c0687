"""The HTML report, parsed: self-contained, escaped, and with the numbers that the runs have."""

from __future__ import annotations

import csv
import io
import json
import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from run_folders import summary, write_run, write_seeds

from qladder.envs.errors import UserError
from qladder.runners import train
from qladder.runners.axes import spread
from qladder.runners.compare import compare
from qladder.runners.curves import CLOCKS, Clock, aggregate
from qladder.runners.pictures import MOST
from qladder.runners.progress import duration
from qladder.runners.protocols import load_protocol
from qladder.runners.report import curves_figure, facts, write_report
from qladder.runners.runs import find_runs
from qladder.runners.settings import merge
from qladder.runners.wording import headline

STAMP = ("name", "version", "hash")
EVIL = "<script>alert(1)</script>"
STEPS, FRAMES, UPDATES, SECONDS, PLAY = CLOCKS


class Page(HTMLParser):
    """The tags, attributes, table rows and words of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.svg_words: list[str] = []
        self.inside = ""  # the cell or SVG text that is being read
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(key, value or "") for key, value in attrs]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag in ("td", "th", "text"):
            self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = "" if tag == self.inside else self.inside

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.inside == "text":
            self.svg_words.append(data)
        elif self.inside:
            self.rows[-1][-1] += data


def report(path: Path, **options: bool) -> str:
    runs, left_out = find_runs([path])
    return write_report(runs, path / "out", "A title", left_out, **options).read_text("utf-8")


def test_tables_hold_the_numbers(tmp_path: Path) -> None:
    known = {"optimal_return_in_limit": 12.0, "human_normalized": 0.5}
    write_seeds(tmp_path, "a", "X-v0", [10, 10.5, 11], evaluation=known)
    write_seeds(tmp_path, "b", "X-v0", [-1, -2, -3], evaluation=known)
    page = Page(report(tmp_path))
    assert ["a", "10.50", "[9.26, 11.74]", "10.50", "–", "3", "12.00", "50 %", "1,000", "10 s", "–"] in page.rows
    assert ["b", "−2.000", "[−4.484, 0.484]", "−2.000", "–", "3", "12.00", "50 %", "1,000", "10 s", "–"] in page.rows
    [pair] = [row for row in page.rows if row[0] == "a − b"]
    assert pair[1] == "12.50"
    assert pair[3:] == ["means, paired", "100 %", "15.81", "a better than b"]
    assert "a is better than b." in page.text
    assert ["versions.torch", "2.13.0"] in page.rows
    assert "qladder train a X-v0 --seed 2" in page.text
    assert "6 runs: 2 agents on 1 environment, 60 s of training" in page.text
    assert page.tags.count("svg") == 5
    assert {"a", "b", "optimum 12.00", "agent steps"} <= set(page.svg_words)


def test_curves_can_be_hidden_and_clocks_switched_without_a_script(tmp_path: Path) -> None:
    write_seeds(tmp_path, "a", "X", [1, 2, 3])
    write_seeds(tmp_path, "b", "X", [1, 2, 3])
    html = report(tmp_path)
    for number, name in enumerate(("a", "b")):
        assert f'id="show-{number}" checked autocomplete="off">' in html
        assert f"body:has(#show-{number}:not(:checked)) svg .agent-{number} {{ display: none; }}" in html
        [figure] = re.findall(r'<figure class="clock clock-0">(.*?)</figure>', html, re.S)
        parts = [e for e in ElementTree.fromstring(figure).iter() if e.get("class") == f"agent-{number}"]
        assert len(parts) == 3 + 1 + 1 + 2  # the seeds, the band, the mean, the name and the line to it
        assert name in [text for part in parts for text in part.itertext()]
    for number in range(len(CLOCKS)):
        assert f"body:has(#clock-{number}:checked) .clock-{number} {{ display: block; }}" in html
        assert html.count(f'class="clock clock-{number}"') == 1
    write_seeds(tmp_path, "b", "Y", [1, 2, 3])
    assert report(tmp_path).count('class="clock clock-4"') == 2 + 2  # of both, small ones beside each other first


def test_the_numbers_as_csv_and_markdown(tmp_path: Path) -> None:
    write_seeds(tmp_path, "a|b <i>", "X", [1, 2, 4])
    write_seeds(tmp_path, "&lt; $x$", "Z", [1])
    write_seeds(tmp_path, "=1+1", "X", [31, 32, 37])
    write_run(tmp_path, "c", "X", 0, 0, exit_reason="failed: | oops")
    report(tmp_path)
    data = tmp_path / "out" / "report-data"
    rows = {
        name: list(csv.DictReader((data / f"{name}.csv").read_text().splitlines()))
        for name in ("scores", "pairs", "runs", "curves")
    }
    assert [(row["agent"], row["seeds"]) for row in rows["scores"]] == [
        ("'=1+1", "3"), ("a|b <i>", "3"), ("&lt; $x$", "1"),
    ]  # fmt: skip
    assert [float(row["iqm"]) for row in rows["scores"]] == pytest.approx([32 + 2 / 3, 2 + 1 / 6, 1])
    low, high = (float(rows["scores"][1][f"interval_{end}"]) for end in ("low", "high"))
    assert (low + high) / 2 == pytest.approx(7 / 3)
    assert [(row["difference"], row["verdict"]) for row in rows["pairs"]] == [("31.0", "better")]
    assert [float(row["score"]) for row in rows["runs"]] == [31, 32, 37, 1, 2, 4, 1]
    assert [tuple(float(row[key]) for key in ("seed", "agent_steps", "mean")) for row in rows["curves"][:4]] == [
        (0, 0, 0), (0, 500, 15.5), (0, 1000, 31), (1, 0, 0),
    ]  # fmt: skip
    said = (data / "summary.md").read_text()
    assert "* **X**: =1+1 is better than a\\|b \\<i\\>." in said
    assert "| a\\|b \\<i\\> | 2.333 | 2.167 |" in said
    assert "failed: \\| oops at" in said
    assert "| &amp;lt; \\$x\\$ |" in said
    assert json.loads((data / "results.json").read_text())["pairs"][0]["verdict"] == "better"
    assert ElementTree.parse(data / "curves.svg").getroot().tag.endswith("svg")


def test_when_a_mark_is_first_reached_is_told(tmp_path: Path) -> None:
    write_seeds(tmp_path, "a", "CartPole-v1", [500] * 6 + [400] * 4)
    write_seeds(tmp_path, "b", "CartPole-v1", [1001] * 4 + [100] * 6)
    write_seeds(tmp_path, "c", "CartPole-v1", [1001] * 10)
    write_seeds(tmp_path, "a", "Unknown-v0", [500] * 6)
    runs = find_runs([tmp_path]).runs
    rows = {
        row[0]: row[1:] for row in Page(write_report(runs, tmp_path / "out").read_text("utf-8")).rows if len(row) == 6
    }
    assert rows["a"] == [
        "6 of 10",
        "1,000 [1,000, later]",
        "4,000 [4,000, later]",
        "250 [250, later]",
        "10 s [10 s, later]",
    ]
    assert rows["b"] == [
        "4 of 10",
        "later [500, later]",
        "later [2,000, later]",
        "later [125, later]",
        "later [5.0 s, later]",
    ]
    assert rows["c"][:2] == ["10 of 10", "500 [500, 500]"]
    page = Page(write_report(runs, tmp_path / "out", marks={"Unknown-v0": 250.0}).read_text("utf-8"))
    assert "First at 250.0" in page.text
    assert ["a", "6 of 6", "500 [500, 500]"] in [row[:3] for row in page.rows]


def test_what_differs_between_the_agents_is_told(tmp_path: Path) -> None:
    settings = {"run": {"steps": 60, "threads": 1, "eval_every": 1000}}
    for agent in ("q-learning", "sarsa"):
        for seed in (0, 1):
            table = merge(settings, {"run": {"seed": seed}, "agent": {"gamma": 0.9 if agent == "sarsa" else 0.8}})
            train(agent, "FrozenLake-v1", settings=table, out=tmp_path)
    page = Page(report(tmp_path))
    assert ["setting", "q-learning", "sarsa"] in page.rows
    assert ["agent.gamma", "0.8", "0.9"] in page.rows
    assert ["agent.name", "q-learning", "sarsa"] in page.rows
    assert not [row for row in page.rows if row[0] in ("run.seed", "run.steps", "env.id")]


def test_training_returns_are_called_so(tmp_path: Path) -> None:
    write_seeds(tmp_path, "a", "X", [1, 2], evaluation={"kind": "training"})
    page = Page(report(tmp_path))
    assert "the mean return of the last episodes of training; an" in page.text
    assert "; scores are training returns" in page.text
    assert "The last episodes of training, on the way. Thick" in page.text
    write_seeds(tmp_path, "a", "Y", [1, 2])
    page = Page(report(tmp_path))
    assert "weights or, under a protocol that says so, of the last episodes of training; an" in page.text
    assert page.text.count("Evaluations during training. Thick") == 1


def test_agents_can_be_seen_at_play_or_why_not(tmp_path: Path) -> None:
    train("random", "FrozenLake-v1", settings={"run": {"steps": 60}}, out=tmp_path)
    write_seeds(tmp_path, "b", "FrozenLake-v1", [1, 2])
    runs = find_runs([tmp_path]).runs
    runs = [run for run in runs if run.agent == "random"] + [
        replace(run, protocol=runs[0].protocol) for run in runs if run.agent == "b"
    ]
    page = Page(write_report(runs, tmp_path / "out", gifs=True).read_text("utf-8"))
    [film] = [value for key, value in page.attributes if key == "src"]
    kind, data = film.split(",")
    assert kind == "data:image/gif;base64"
    with Image.open(io.BytesIO(b64decode(data))) as gif:
        assert gif.n_frames > 1
    assert "seed 0: " in page.text
    assert "is not a run folder: it holds no config.toml" in page.text


def test_the_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    write_seeds(tmp_path, "a", "X", [1, 2, 3])
    write_seeds(tmp_path, "a", "Y", [1])
    html = report(tmp_path)
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "image"} & set(page.tags)
    assert not [value for key, value in page.attributes if "//" in value and not key.startswith("xmlns")]
    assert not re.findall(r"https?://(?!www\.w3\.org/(?:2000/svg|1999/xlink)\")", html)
    assert "@import" not in html
    [policy] = [value for key, value in page.attributes if key == "content" and "-src" in value]
    assert policy.startswith("default-src 'none';")
    ids = [value for key, value in page.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    used = [value for key, value in page.attributes if key in ("href", "xlink:href")]
    used += [ref for _, value in page.attributes for ref in re.findall(r"url\((#[^)]*)\)", value)]
    assert used
    assert {ref.removeprefix("#") for ref in used} <= set(ids)


def test_names_are_escaped_everywhere(tmp_path: Path) -> None:
    write_seeds(tmp_path, EVIL, EVIL, [1, 2, 3], manifest={EVIL: EVIL, "command_line": EVIL})
    write_seeds(tmp_path, "$\\frac{1}{2}$ & <b>", EVIL, [1, 2, 3])
    write_run(tmp_path, "c", EVIL, 0, 0, exit_reason=EVIL)
    html = report(tmp_path)
    page = Page(html)
    assert "<script" not in html
    assert not {"script", "b"} & set(page.tags)
    assert EVIL in "".join(page.svg_words)
    assert "$\\frac{1}{2}$ & <b>" in "".join(page.svg_words)
    assert [EVIL, EVIL] in page.rows


def test_runs_without_a_score_are_listed(tmp_path: Path) -> None:
    write_run(tmp_path, "a", "X", 0, 0, exit_reason="interrupted", agent_steps=40)
    page = Page(report(tmp_path))
    assert [str(tmp_path / "run-0"), "interrupted at 40 of 1,000 agent steps"] in page.rows
    assert "No run has a score yet." in page.text
    assert "svg" not in page.tags


def test_runs_without_curves_have_tables_only(tmp_path: Path) -> None:
    write_seeds(tmp_path, "a", "X", [1, 2], curve=[])
    page = Page(report(tmp_path))
    assert "svg" not in page.tags
    assert any(row[:2] == ["a", "1.500"] for row in page.rows)


def test_protocols_are_refused_or_labelled(tmp_path: Path) -> None:
    write_seeds(tmp_path, "a", "X", [1, 2])
    write_seeds(tmp_path, "b", "X", [1, 2], protocol={"name": "other", "version": 3, "hash": "cccccccccccc"})
    with pytest.raises(UserError, match="different protocols"):
        report(tmp_path)
    page = Page(report(tmp_path, mix_protocols=True))
    assert any(row[0] == "b [other v3 cccccc]" for row in page.rows if row)


def test_rules_that_differ_are_named(tmp_path: Path) -> None:
    """As they are shipped, or as a run's manifest tells them; what neither tells is not made up."""

    def told(*stamps: dict[str, Any]) -> str:
        place = tmp_path / str(len([*tmp_path.iterdir()]))
        for i, stamp in enumerate(stamps):
            run = write_run(place, f"agent {i}", "ALE/Pong-v5", 0, 1.0, protocol={k: stamp[k] for k in STAMP})
            manifest = json.loads((run / "manifest.json").read_text())
            (run / "manifest.json").write_text(json.dumps(manifest | {"protocol": stamp}))
        with pytest.raises(UserError, match="different protocols") as refused:
            report(place)
        return str(refused.value)

    nature, machado = (load_protocol(name) for name in ("nature-2015", "machado-2018"))
    shipped = [{k: getattr(p, k) for k in STAMP} for p in (machado, nature)]
    said = told(*shipped)
    differing = {k for k in nature.rules if nature.rules[k] != machado.rules[k]}
    assert {"sticky", "noop_max", "life_loss", "evaluation.episodes"} <= differing
    assert set(re.findall(r"([a-z_.]+) \(", said.partition("differ in ")[2])) == differing
    assert "sticky (0.25, 0.0)" in said
    assert "not known" not in said
    changed = replace(machado, frame_skip=5)  # somebody's own
    own = {k: getattr(changed, k) for k in STAMP}
    assert "they differ in frame_skip (4, 5); leave" in told(shipped[0], {**own, "rules": changed.rules})
    assert "compare (the rules of one are not known); leave" in told(shipped[0], own)


def test_the_report_goes_where_it_is_told(tmp_path: Path) -> None:
    write_seeds(tmp_path / "runs", "a", "X", [1, 2])
    runs, _ = find_runs([tmp_path / "runs"])
    page = write_report(runs, tmp_path / "new" / "page.html")
    assert page == tmp_path / "new" / "page.html"
    first = page.read_bytes()
    assert write_report(runs, page).read_bytes() == first
    assert sorted(p.name for p in page.parent.iterdir()) == ["page-data", "page.html"]
    with pytest.raises(UserError, match="cannot be written"):
        write_report(runs, page / "below-a-file")


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        ({"a": [1, 2]}, "a is the only agent that was run."),
        ({"a": [9, 9.1, 9.3], "b": [1, 1.1, 1.2], "c": [0, 0.1, 0.1]}, "a is better than b and c."),
        ({"a": [1, 1.1, 1.3], "b": [9, 9.1, 9.2], "c": [8, 10, 9]}, "b is better than a; undecided against c."),
        ({"a": [1, 5], "b": [2, 7]}, "Undecided: b has the highest mean, but not clearly above a."),
        ({"a": [1], "b": [2]}, "Undecided: b has the highest mean, but one seed cannot say how sure that is."),
        (
            {"a": [7.3, 47.7, *[50.0] * 8], "b": [49.9, *[50.0] * 9], "c": [41.6, *[50.0] * 9]},
            "Undecided: b has the highest IQM, but not clearly above a and c.",
        ),
        (
            {"a": [10 + i / 10 for i in range(15)] + [-90], "b": [8 + i / 10 for i in range(16)]},
            "a is better than b (not by their means).",
        ),
        ({"a": [10] * 12 + [-20] * 4, "b": [9.8, 9.9, 9.9, 10, 9.9]}, "b is better than a."),
    ],
)
def test_headlines(tmp_path: Path, scores: dict[str, list[float]], says: str) -> None:
    for agent, values in scores.items():
        write_seeds(tmp_path, agent, "X", values)
    result = compare(*find_runs([tmp_path]))
    assert headline(result.scores, result.pairs) == says


def _curve(*points: tuple[float, float]) -> list[dict[str, float]]:
    return [summary("a", "X", 0, 0)["curve"][0] | {"agent_steps": x, "frames": 60 * x, "mean": y} for x, y in points]


def test_curves_meet_on_the_union_of_points_within_every_run(tmp_path: Path) -> None:
    write_run(tmp_path, "a", "X", 0, 0, curve=_curve((0, 0), (10, 10), (20, 20), (30, 99)))
    write_run(tmp_path, "a", "X", 1, 0, curve=_curve((5, 1), (25, 21)))
    curve = aggregate(find_runs([tmp_path]).runs, STEPS)
    assert curve.x.tolist() == [5, 10, 20, 25]
    assert curve.mean == pytest.approx([(5 + 1) / 2, (10 + 6) / 2, (20 + 16) / 2, (59.5 + 21) / 2])
    half = 12.7062 * 2  # t(1) times the standard error of 5 and 1: sqrt(8 / 2)
    assert (curve.low[0], curve.high[0]) == pytest.approx((3 - half, 3 + half), abs=1e-3)
    assert [xs.tolist() for xs, _ in curve.seeds] == [[0, 10, 20, 30], [5, 25]]


@pytest.mark.parametrize(
    ("clock", "x"), [(STEPS, [0, 500, 1000]), (SECONDS, [0, 5, 10]), (PLAY, [0, 2000 / 60, 4000 / 60])]
)
def test_clocks(tmp_path: Path, clock: Clock, x: list[float]) -> None:
    write_run(tmp_path, "a", "X", 0, 8)
    curve = aggregate(find_runs([tmp_path]).runs, clock)
    assert curve.x == pytest.approx(x)
    assert curve.mean.tolist() == [0, 4, 8]
    assert np.isnan(curve.low).all()


def test_of_two_evaluations_at_one_time_the_later_counts(tmp_path: Path) -> None:
    write_run(tmp_path, "a", "X", 0, 0, curve=_curve((0, 0), (10, 3), (10, 5)))
    assert aggregate(find_runs([tmp_path]).runs, STEPS).mean.tolist() == [0, 5]


def test_human_play_time_is_marked_where_it_is_in_range(tmp_path: Path) -> None:
    write_run(tmp_path, "a", "X", 0, 0, curve=_curve((0, 0), (3 * 3600, 1)))  # 60 frames a step: a second a step
    words = Page(report(tmp_path)).svg_words
    assert words.count("10 min") == 1
    assert words.count("2 h") == 1
    assert "10 h" not in words


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_pictures_of_curves(tmp_path: Path, suffix: str) -> None:
    write_seeds(tmp_path, "a", "X", [1, 2])
    write_seeds(tmp_path, "a", "Y", [1, 2])
    write_seeds(tmp_path, "a", "Z", [1, 2], curve=[])
    runs, _ = find_runs([tmp_path])
    path = curves_figure(runs, tmp_path / "docs" / f"curves{suffix}")
    if suffix == ".png":
        with Image.open(path) as picture:
            assert picture.width > picture.height > 400  # two panels side by side
    else:
        words = [e.text for e in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]
        assert "X" in words
        assert "Y" in words
        assert "Z" not in words


def test_many_agents_have_a_panel_each(tmp_path: Path) -> None:
    names = [f"agent-{i}" for i in range(MOST + 1)]
    for i, name in enumerate(names):
        write_seeds(tmp_path, name, "X", [1, 2], curve=_curve((0, 0), (1_000 * (i + 1), 1)))
    for name in names[:MOST]:
        write_seeds(tmp_path, name, "Y", [1, 2])
    path = curves_figure(find_runs([tmp_path]).runs, tmp_path / "curves.svg")
    root = ElementTree.parse(path).getroot()
    words = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert sorted(word for word in words if word and word.startswith("agent-")) == sorted([*names, *names[:MOST]])
    axes = [e for e in root.iter("{http://www.w3.org/2000/svg}g") if e.get("id", "").startswith("axes_")]
    assert len(axes) == len(names) + 1
    thick = [e for e in root.iter("{http://www.w3.org/2000/svg}path") if "stroke-width: 2" in e.get("style", "")]
    assert len(thick) == len(names) + MOST  # of a small panel its own agent's alone


def test_pictures_that_cannot_be_drawn(tmp_path: Path) -> None:
    write_seeds(tmp_path, "a", "X", [1, 2], curve=[])
    runs, _ = find_runs([tmp_path])
    with pytest.raises(UserError, match=r"\.png or an \.svg"):
        curves_figure(runs, tmp_path / "curves.gif")
    with pytest.raises(UserError, match="no curve to draw"):
        curves_figure(runs, tmp_path / "curves.png")


def test_labels_move_apart_as_little_as_it_takes() -> None:
    assert spread([0.2, 0.6], gap=0.1) == pytest.approx([0.2, 0.6])
    assert spread([0.5, 0.5], gap=0.1) == pytest.approx([0.45, 0.55])
    assert spread([0.2, 0.99, 0.99], gap=0.1) == pytest.approx([0.2, 0.9, 1.0])
    assert spread([0.0, 0.0], gap=0.1) == pytest.approx([0.0, 0.1])


def test_facts_of_the_machine() -> None:
    manifests = [
        {"torch": "2.13", "gpu": None, "start": i, "git": {"dirty": i > 2}, "command_line": "x"} for i in range(5)
    ]
    assert facts(manifests) == [("torch", ["2.13"]), ("git.dirty", ["False", "True"])]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.84, "0.8 s"), (41, "41 s"), (150, "2.5 min"), (720, "12 min"), (12600, "3.5 h"), (181440, "2.1 days")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_environments_together_have_a_section_of_their_own(tmp_path: Path) -> None:
    for env, (low, high) in {"CartPole-v1": (23.25, 500.0), "MountainCar-v0": (-200.0, -110.0)}.items():
        write_seeds(tmp_path, "a", env, [low + x * (high - low) for x in (0.5, 0.5, 0.5)])
        write_seeds(tmp_path, "b", env, [low + x * (high - low) for x in (0.25, 0.25, 0.25)])
    page = Page(report(tmp_path))
    assert "All environments together" in page.text
    assert ["a", "0.500", "[0.500, 0.500]", "0.500", "[0.500, 0.500]", "0.500", "[0.500, 0.500]", "0.500"] in [
        row[:8] for row in page.rows
    ]
    assert ["b", "0 %", "–"] in page.rows
    assert {"normalised score", "share of seeds above it", "IQM of normalised scores"} <= set(page.svg_words)
    with (tmp_path / "out" / "report-data" / "overall_curves.csv").open() as file:
        curves = list(csv.DictReader(file))
    assert {(row["agent"], float(row["share"])): float(row["iqm"]) for row in curves}["a", 1.0] == pytest.approx(0.5)
    head = (tmp_path / "out" / "report-data" / "overall.csv").read_text().splitlines()[0]
    assert head.startswith("agent,iqm,iqm_interval_low,iqm_interval_high,mean,")
    assert "curve" not in head
    one = tmp_path / "one"
    write_seeds(one, "a", "CartPole-v1", [1, 2])
    assert "All environments together" not in Page(report(one)).text
