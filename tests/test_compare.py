"""Run folders read, compared and told in words."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from run_folders import summary, write_run, write_seeds

from qladder.envs.errors import UserError
from qladder.runners.compare import Comparison, compare
from qladder.runners.config import resolve
from qladder.runners.run_folder import write_config
from qladder.runners.runs import find_runs, read_metrics, read_run
from qladder.runners.scales import read_scales, scale
from qladder.runners.settings import Table
from qladder.runners.suite import run_suite
from qladder.runners.suite_file import load_suite
from qladder.runners.wording import number, render_table, sentence, span


def compared(path: Path, **options: Any) -> Comparison:
    return compare(*find_runs([path]), **options)


def test_reads_what_was_written(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "dqn", "X-v0", 3, 0.5, evaluation={"optimal_return": 2.0})
    run = read_run(folder)
    assert (run.agent, run.env, run.seed, run.folder) == ("dqn", "X-v0", 3, folder)
    assert run.protocol.hash == "aaaaaaaaaaaa"
    assert run.evaluation is not None
    assert run.evaluation.returns == (-0.5, 1.5)
    assert [p.mean for p in run.curve] == [0.0, 0.25, 0.5]
    assert run.manifest["versions"]["torch"] == "2.13.0"
    assert run.optimum == 2.0


def test_the_optimum_within_the_limit_goes_first_even_where_it_is_zero(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "a", "X", 0, 0, evaluation={"optimal_return": 2.0, "optimal_return_in_limit": 0.0})
    assert read_run(folder).optimum == 0.0


def test_finds_runs_at_any_depth_each_once(tmp_path: Path) -> None:
    a = write_run(tmp_path / "suite" / "deep", "a", "X", 0, 1)
    b = write_run(tmp_path / "other", "b", "X", 0, 1)
    runs, left_out = find_runs([a, tmp_path, str(b), b / ".." / b.name])
    assert [run.folder for run in runs] == [a, b]
    assert left_out == []


def test_unfinished_runs_are_told_apart_and_told(tmp_path: Path) -> None:
    write_run(tmp_path, "a", "X", 0, 1)
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "metrics.jsonl").write_text('{"agent_steps": 40}\n{"agent_steps": 80}\n{"agent_st')
    (tmp_path / "young").mkdir()
    (tmp_path / "young" / "manifest.json").write_text("{}")
    runs, left_out = find_runs([tmp_path])
    assert len(runs) == 1
    assert [left.folder.name for left in left_out] == ["killed", "young"]
    assert [f.reason for f in compare(runs, left_out).failed] == [
        "unfinished, last measured at 80 agent steps",
        "unfinished, nothing measured yet",
    ]


def test_other_arguments_or_wrappers_make_another_environment(tmp_path: Path) -> None:
    write_seeds(tmp_path, "a", "X", [1, 2])
    write_seeds(tmp_path, "b", "X", [5, 6], variant="is_slippery=False")
    result = compared(tmp_path)
    assert [(s.env, s.agent) for s in result.scores] == [("X", "a"), ("X (is_slippery=False)", "b")]
    assert result.pairs == []


def test_metrics_skip_a_torn_last_line_only(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"agent_steps": 1}\n{"agent_steps": 2, "x": "\xc3')
    assert read_metrics(tmp_path) == [{"agent_steps": 1}]
    file.write_text('{"agent_steps": 1}\n{"agent_st\n{"agent_steps": 3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 2 is not a JSON object"):
        read_metrics(tmp_path)
    file.unlink()
    assert read_metrics(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"agent": "dqn", "env', r"run-0/summary\.json: invalid JSON"),
        (json.dumps({k: v for k, v in summary("a", "X", 0, 1).items() if k != "seed"}), "'seed': field required"),
        (json.dumps(summary("a", "X", 0, 1) | {"seed": "one"}), "'seed': input should be a valid integer"),
        (json.dumps(summary("a", "X", 0, 1, evaluation={"mean": float("nan")})), r"'evaluation\.mean'"),
        ("", r"run-0/summary\.json"),
        ("[]", r"run-0/summary\.json"),
    ],
)
def test_a_broken_summary_is_named(tmp_path: Path, text: str, message: str) -> None:
    folder = write_run(tmp_path, "a", "X", 0, 1)
    (folder / "summary.json").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_run(folder)
    assert "\n" not in str(error.value)


def test_a_broken_manifest_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "a", "X", 0, 1)
    (folder / "manifest.json").write_text('{"device": ')
    with pytest.raises(UserError, match=r"manifest\.json: not valid JSON"):
        read_run(folder)


BROKEN = {
    "cut": ("summary.json", '{"agent": "dqn", "env', "damaged: summary.json: invalid JSON"),
    "foreign": ("summary.json", '{"algo": "ppo"}', "damaged: summary.json: 'agent': field required"),
    "no-manifest": ("manifest.json", "[]", "damaged: manifest.json: not a JSON object"),
    "torn": ("metrics.jsonl", "oops\n{}\n", "damaged: metrics.jsonl: line 1 is not a JSON object"),
    "control": (
        "summary.json",
        json.dumps(summary("a\x01b", "X", 0, 1)),
        "damaged: summary.json: 'agent': holds characters that cannot be printed",
    ),
    "huge": ("summary.json", json.dumps(summary("a", "X", 0, 1e200)), "damaged: summary.json: 'evaluation.mean'"),
    "odd": ("metrics.jsonl", '{"agent_steps": "many"}\n', "unfinished, nothing measured yet"),
}


def test_damaged_and_foreign_folders_are_named_and_left_out(tmp_path: Path) -> None:
    write_seeds(tmp_path, "a", "X", [1, 2])
    for name, (file, text, _) in BROKEN.items():
        (tmp_path / "other" / name).mkdir(parents=True)
        if file == "manifest.json":
            (tmp_path / "other" / name / "summary.json").write_text(json.dumps(summary("a", "X", 0, 1)))
        (tmp_path / "other" / name / file).write_text(text)
    (tmp_path / "empty").mkdir()
    runs, left_out = find_runs([tmp_path, tmp_path / "empty"])
    assert len(runs) == 2
    said = {left.folder.name: left.reason for left in left_out}
    assert all(said[name].startswith(reason) for name, (_, _, reason) in BROKEN.items())
    assert said["empty"].startswith("no run in or below it")
    assert len(said) == len(BROKEN) + 1
    assert len(compare(runs, left_out).failed) == len(said)


def test_what_a_later_version_wrote_beside_is_no_matter(tmp_path: Path) -> None:
    write_run(tmp_path, "a", "X", 0, 1, energy=3, evaluation={"spread": 2})
    assert len(find_runs([tmp_path]).runs) == 1


def test_no_runs_no_folder_no_summary(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run in or below it"):
        find_runs([tmp_path])
    with pytest.raises(UserError, match="no such folder"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(UserError, match=r"no summary\.json"):
        read_run(tmp_path)


def test_scores_and_pairs_by_hand(tmp_path: Path) -> None:
    write_seeds(tmp_path, "b", "X", [4, 6, 8])
    write_seeds(tmp_path, "a", "X", [1, 2, 3])
    write_seeds(tmp_path, "a", "W", [5, 5.5])
    result = compared(tmp_path)
    assert [(s.env, s.agent, s.mean, s.seeds) for s in result.scores] == [
        ("W", "a", 5.25, 2),
        ("X", "a", 2, 3),
        ("X", "b", 6, 3),
    ]
    assert result.scores[2].scores == [4, 6, 8]
    assert result.scores[2].seed_numbers == [0, 1, 2]
    assert result.scores[1].iqm == pytest.approx(2)
    assert result.scores[1].interval == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-5)
    [pair] = result.pairs
    assert (pair.a, pair.b, pair.env, pair.difference) == ("a", "b", "X", -4)
    assert pair.interval == pytest.approx((-4 - 4.302653 / 3**0.5, -4 + 4.302653 / 3**0.5), abs=1e-5)
    assert (pair.statistic, pair.paired, pair.verdict) == ("mean", True, "worse")


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ([10, 10.5, 11], [1, 2, 3], "better"),
        ([1, 2, 3], [10, 10.5, 11], "worse"),
        ([1, 2, 3], [1.5, 2, 2.5], "undecided"),
        ([100], [1, 2, 3], "undecided"),
        ([0.7, 0.7, 0.7], [0.7, 0.7, 0.7, 0.7, 0.7], "undecided"),
        ([1, 1], [0, 0], "undecided"),  # as likely as that both agents give either
        ([1, 1, 1], [0, 0, 0], "better"),
        ([7.916666666666667] * 8, [7.916666666666666] * 8, "undecided"),
    ],
)
def test_verdicts(tmp_path: Path, a: list[float], b: list[float], verdict: str) -> None:
    write_seeds(tmp_path, "a", "X", a)
    write_seeds(tmp_path, "b", "X", b)
    [pair] = compared(tmp_path).pairs
    assert pair.verdict == verdict


def test_json_is_plain(tmp_path: Path) -> None:
    write_seeds(tmp_path, "a", "X", [1.0])
    write_seeds(tmp_path, "b", "X", [2.0, 3.0])
    write_run(tmp_path, "c", "X", 0, 0, exit_reason="interrupted", agent_steps=500)
    data = json.loads(json.dumps(compared(tmp_path).to_json(), allow_nan=False))
    assert set(data) == {"metric", "delta", "marks", "cautions", "scores", "pairs", "overall", "failed"}
    assert (data["metric"], data["delta"], len(data["marks"])) == ("score", 0, 61)
    assert {"agent", "env", "mean", "iqm", "interval", "seeds", "protocol"} <= set(data["scores"][0])
    assert data["scores"][0]["interval"] == [None, None]
    assert data["pairs"] == [{
        "a": "a", "b": "b", "env": "X", "statistic": "mean", "paired": False, "difference": -1.5,
        "interval": [None, None], "verdict": "undecided", "verdict_alone": "undecided", "difference_of_means": -1.5,
        "improvement": 0.0, "effect": None, "more_seeds": None,
    }]  # fmt: skip
    [failed] = data["failed"]
    assert failed.pop("reason") == "interrupted at 500 of 1,000 agent steps"
    assert failed == {"run": str(tmp_path / "run-3"), "agent": "c", "env": "X", "seed": 0}


def test_different_protocols_are_refused_unless_asked_for(tmp_path: Path) -> None:
    other = {"name": "toy-text", "version": 2, "hash": "bbbbbbbbbbbb"}
    write_seeds(tmp_path, "a", "X", [1, 2])
    write_seeds(tmp_path, "b", "X", [3, 4], protocol=other)
    write_seeds(tmp_path, "b", "Y", [3, 4], protocol=other)
    with pytest.raises(UserError, match=r"runs of X .* toy-text v1 \(a{12}\) and toy-text v2 \(b{12}\)"):
        compared(tmp_path)
    scores = compared(tmp_path, mix_protocols=True).scores
    assert [s.agent for s in scores] == ["a [toy-text v1 aaaaaa]", "b [toy-text v2 bbbbbb]", "b"]
    assert [s.protocol_hash for s in scores] == ["a" * 12, "b" * 12, "b" * 12]


def test_runs_without_a_score_do_not_decide_the_protocol(tmp_path: Path) -> None:
    write_seeds(tmp_path, "a", "X", [1, 2])
    old = {"name": "toy-text", "version": 2, "hash": "bbbbbbbbbbbb"}
    write_run(tmp_path, "a", "X", 7, 3, protocol=old, exit_reason="interrupted")
    result = compared(tmp_path)
    assert [s.seeds for s in result.scores] == [2]
    assert len(result.failed) == 1


def test_other_settings_are_named_by_what_they_are_where_that_is_short(tmp_path: Path) -> None:
    """Seeds, labels and machines tell nothing apart; names of many settings would be no names."""

    def leave_some(agent: Table, seed: int) -> None:
        settings = {"agent": agent, "run": {"seed": seed, "steps": 1000, "threads": seed + 1}}
        folder = write_run(tmp_path, "q-learning", "FrozenLake-v1", seed, 0.5)
        write_config(folder, resolve("q-learning", "FrozenLake-v1", settings))

    leave_some({"step_size": 0.2}, 0)
    leave_some({"step_size": 0.2}, 1)
    leave_some({"step_size": 0.4, "epsilon": 0.3}, 2)
    assert [(s.agent, s.seeds) for s in compared(tmp_path).scores] == [
        ("q-learning (step_size 0.2, epsilon 0.1)", 2),
        ("q-learning (step_size 0.4, epsilon 0.3)", 1),
    ]
    many = {"start": 1.0, "end": 0.125, "over": 123_456_789, "clock": "agent_steps", "begin": 0}
    leave_some({"step_size": 0.1, "epsilon": many}, 3)
    names = {s.agent for s in compared(tmp_path).scores}
    assert len(names) == 3
    assert all(re.fullmatch(r"q-learning #[0-9a-f]{6}", name) for name in names)


def test_settings_that_read_alike_are_told_apart(tmp_path: Path) -> None:
    for epsilon in (0.3, 0.3000000001):
        folder = write_run(tmp_path, "q-learning", "FrozenLake-v1", 0, 0.5)
        write_config(folder, resolve("q-learning", "FrozenLake-v1", {"agent": {"epsilon": epsilon}}))
    names = [s.agent for s in compared(tmp_path).scores]
    assert [name.partition(" #")[0] for name in names] == ["q-learning"] * 2
    assert len(set(names)) == 2


def test_other_settings_or_steps_are_another_agent(tmp_path: Path) -> None:
    write_seeds(tmp_path, "dqn", "X", [1, 2], settings_hash="0123456789")
    write_seeds(tmp_path, "dqn", "X", [3, 4], settings_hash="9876543210")
    write_seeds(tmp_path, "dqn", "X", [5, 6], settings_hash="0123456789", steps=2000)
    labels = [(s.agent, s.mean) for s in compared(tmp_path).scores]
    assert labels == [("dqn @1,000 #012345", 1.5), ("dqn @1,000 #987654", 3.5), ("dqn @2,000", 5.5)]


def test_runs_of_two_versions_with_the_same_settings_are_one_agent(tmp_path: Path) -> None:
    config = resolve("dqn", "CartPole-v1", {})
    older = write_seeds(tmp_path, "dqn", "X", [1, 2], settings_hash="0123456789")
    newer = [write_run(tmp_path, "dqn", "X", seed, 3, settings_hash="9876543210") for seed in (2, 3)]
    for folder in [*older, *newer]:
        write_config(folder, config)
    for folder in older:
        file = folder / "config.toml"
        file.write_text(file.read_text().replace("huber_delta = 1.0\n", ""))
    assert [(s.agent, s.seeds) for s in compared(tmp_path).scores] == [("dqn", 4)]


def test_one_result_is_never_counted_twice(tmp_path: Path) -> None:
    write_run(tmp_path, "dqn", "X", 4, 1)
    write_run(tmp_path, "dqn", "X", 4, 1)
    with pytest.raises(UserError, match=r"two runs of dqn on X have seed 4.*run-0 and .*run-1"):
        compared(tmp_path)


def test_the_table_says_it_all(tmp_path: Path) -> None:
    write_seeds(tmp_path, "[red]a", "X", [10, 10.5, 11], evaluation={"optimal_return": 12.0})
    write_seeds(tmp_path, "b", "X", [1, 2, 3])
    write_run(tmp_path, "c", "X", 0, 0, exit_reason="diverged", agent_steps=17)
    console = Console(file=io.StringIO(), width=160)
    render_table(compared(tmp_path), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in (
        "[red]a",
        "10.50",
        "[9.26, 11.74]",
        "12.00",
        "[red]a better",
        "diverged at 17 of 1,000 agent steps",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (None, "-"),
        (0, "0.000"),
        (0.7442, "0.744"),
        (-12.345, "-12.35"),
        (123.45, "123.5"),
        (43210.9, "43,211"),
        (0.00042, "0.00042"),
        (-2.4e-10, "0.000"),
    ],
)
def test_numbers_for_people(x: float | None, text: str) -> None:
    assert number(x) == text


def test_spans_for_people() -> None:
    assert span((None, None)) == "-"
    assert span((0.0001, 0.75)) == "[0.000, 0.750]"
    assert span((5.432, 21.81)) == "[5.43, 21.81]"
    assert span((-1.6e-9, 1e-9)) == "[0.000, 0.000]"


def curve(*points: tuple[float, float]) -> list[dict[str, float]]:
    clocks = ("agent_steps", "frames", "updates", "seconds", "episodes")
    return [{**dict.fromkeys(clocks, x), "frames": 4 * x, "mean": y} for x, y in points]


def test_areas_by_hand(tmp_path: Path) -> None:
    """All were evaluated from 10 to 30; the second rises there from 4 to 6 and falls to 3."""
    write_run(tmp_path, "a", "X", 0, 9, curve=curve((10, 1), (20, 3), (30, 3)))
    write_run(tmp_path, "a", "X", 1, 9, curve=curve((0, 2), (20, 6), (40, 0)))
    write_run(tmp_path, "b", "Y", 0, 9, curve=curve((5, 7), (6, 7)))
    found = compared(tmp_path, metric="area")
    assert [s.scores for s in found.scores] == [[pytest.approx((2 + 3) / 2), pytest.approx((5 + 4.5) / 2)], [7]]
    assert found.metric == "area over agent_steps"
    assert compared(tmp_path, metric="area", over="frames").scores[0].scores == found.scores[0].scores
    assert compared(tmp_path).scores[0].scores == [9, 9]


def test_areas_need_something_in_common(tmp_path: Path) -> None:
    write_run(tmp_path, "a", "X", 0, 9, curve=curve((10, 1), (20, 3)))
    write_run(tmp_path, "a", "X", 1, 9, curve=curve((20, 2), (30, 6)))
    with pytest.raises(UserError, match="first evaluated when"):
        compared(tmp_path, metric="area")


def test_a_run_without_a_curve_is_named_where_areas_are_compared(tmp_path: Path) -> None:
    write_run(tmp_path, "a", "X", 0, 9)
    bare = write_run(tmp_path, "b", "Y", 0, 9, curve=[])
    with pytest.raises(UserError, match=f"{bare.name}: not evaluated during training"):
        compared(tmp_path, metric="area")


def test_seeds_are_planned_for_what_is_seen(tmp_path: Path) -> None:
    """A delta does not change how many tell which is better; where nothing is between them, it is planned for."""
    write_seeds(tmp_path, "a", "X", [1.0, 1.4, 0.6, 1.2])
    write_seeds(tmp_path, "b", "X", [0.9, 0.6, 1.1, 0.4])
    (plain,), (small,) = compared(tmp_path).pairs, compared(tmp_path, delta=0.01).pairs
    assert plain.verdict == small.verdict == "undecided"
    assert plain.more_seeds is not None
    assert plain.more_seeds == small.more_seeds
    write_seeds(tmp_path, "c", "Y", [1.0, 1.4, 0.6, 1.2])
    write_seeds(tmp_path, "d", "Y", [1.4, 0.6, 1.2, 1.0])
    assert compared(tmp_path).pairs[1].more_seeds is None
    near, far = (compared(tmp_path, delta=delta).pairs[1].more_seeds for delta in (0.1, 0.2))
    assert near is not None
    assert far is not None
    assert near > 3 * far


def test_smallest_difference_that_matters(tmp_path: Path) -> None:
    write_seeds(tmp_path, "a", "X", [1.0, 1.1, 0.9, 1.0])
    write_seeds(tmp_path, "b", "X", [1.1, 1.0, 1.0, 0.9])
    assert compared(tmp_path).pairs[0].verdict == "undecided"
    found = compared(tmp_path, delta=0.5)
    assert (found.pairs[0].verdict, found.delta) == ("equivalent", 0.5)
    assert sentence(found.pairs[0]) == "a and b equivalent"


def test_verdicts_are_corrected_for_their_number(tmp_path: Path) -> None:
    """A difference of 1 with a spread of 1, fifteen seeds: by itself sure, not as one of 28."""
    shape = np.linspace(-1.5, 1.5, 15)
    for i in range(8):
        write_seeds(tmp_path, f"agent-{i}", "X", list(np.roll(shape, 2 * i) + (1.1 if i == 7 else 0.0)))
    found = compared(tmp_path)
    assert len(found.pairs) == 28
    best = [p for p in found.pairs if p.b == "agent-7"]
    assert [p.verdict_alone for p in best].count("worse") > [p.verdict for p in best].count("worse")
    assert all(p.more_seeds for p in best if p.verdict == "undecided" and p.verdict_alone == "undecided")


def test_iqms_that_the_means_contradict_are_told(tmp_path: Path) -> None:
    """One seed of sixteen fails: the middle half does not see it."""
    scores = [10 + i / 10 for i in range(16)]
    write_seeds(tmp_path, "a", "X", [*scores[:15], -90])
    write_seeds(tmp_path, "b", "X", [score - 2 for score in scores])
    [pair] = compared(tmp_path).pairs
    assert (pair.statistic, pair.verdict) == ("IQM", "better")
    assert sentence(pair) == "a better than b (not by their means)"


def test_environments_together(tmp_path: Path) -> None:
    """Normalised by hand; X has no scale, on Acrobot one agent was not run, and another nowhere else."""
    marks = {env: scale(env) for env in ("CartPole-v1", "MountainCar-v0")}
    for env, known in marks.items():
        assert known is not None
        for agent, levels in (("good", [0.9, 1.0, 1.1]), ("bad", [0.0, 0.2, 0.4])):
            write_seeds(tmp_path, agent, env, [known.random + x * (known.mark - known.random) for x in levels])
    write_seeds(tmp_path, "good", "X", [1, 2])
    write_seeds(tmp_path, "bad", "X", [1, 2])
    write_seeds(tmp_path, "good", "Acrobot-v1", [-90, -80])
    write_seeds(tmp_path, "other", "Acrobot-v1", [-90, -80])
    good, bad = compared(tmp_path).overall
    assert (good.agent, good.envs) == ("good", ["CartPole-v1", "MountainCar-v0"])
    assert (good.iqm, good.mean, good.median) == pytest.approx((1, 1, 1))
    assert good.optimality_gap == pytest.approx(0.1 / 3)
    assert (bad.iqm, bad.optimality_gap) == pytest.approx((0.2, 0.8))
    assert (good.improvement["bad"][0], bad.improvement["good"][0]) == (1, 0)
    low, high = bad.iqm_interval
    assert low is not None
    assert high is not None
    assert low < 0.2 < high
    assert bad.profile[0] == pytest.approx(4 / 6)  # above 0
    console = Console(file=io.StringIO(), width=120)
    render_table(compared(tmp_path), console)
    assert "2 environments, normalised" in console.file.getvalue()  # type: ignore[attr-defined]


def test_the_largest_table_of_agents_that_share_environments(tmp_path: Path) -> None:
    """Both were run on two, and each on one that the other was not."""
    for agent, envs in (
        ("a", ("CartPole-v1", "MountainCar-v0", "Acrobot-v1")),
        ("b", ("CartPole-v1", "MountainCar-v0")),
    ):
        for env in envs:
            write_seeds(tmp_path, agent, env, [1, 2])
    write_seeds(tmp_path, "b", "LunarLander-v3", [1, 2])
    assert [(o.agent, o.envs) for o in compared(tmp_path).overall] == [
        (agent, ["CartPole-v1", "MountainCar-v0"]) for agent in ("a", "b")
    ]
    assert scale("ALE/Pong-v5 (obs_type=ram)") is None


def test_one_environment_is_not_many(tmp_path: Path) -> None:
    write_seeds(tmp_path, "a", "CartPole-v1", [1, 2])
    write_seeds(tmp_path, "b", "CartPole-v1", [1, 2])
    assert compared(tmp_path).overall == []


def test_scales() -> None:
    pong, frozen = scale("ALE/Pong-v5"), scale("FrozenLake-v1")
    assert pong is not None
    assert frozen is not None
    assert (pong.kind, pong.normalised(-20.7), pong.normalised(14.6)) == ("human", 0, pytest.approx(1))
    assert (frozen.kind, frozen.normalised(frozen.random)) == ("solved", 0)
    assert scale("FrozenLake-v1 (map_name=8x8)") is None
    assert scale("ALE/Casino-v5") is None


def test_scales_of_ones_own_put_environments_together(tmp_path: Path) -> None:
    for env, low, high in (("mine:A-v0", 10.0, 20.0), ("mine:B-v0", -1.0, 1.0)):
        for agent, levels in (("good", [0.9, 1.0, 1.1]), ("bad", [0.0, 0.2, 0.4])):
            write_seeds(tmp_path, agent, env, [low + x * (high - low) for x in levels])
    assert compared(tmp_path).overall == []
    file = tmp_path / "scales.toml"
    file.write_text('[scales]\n"mine:A-v0" = [10, 20]\n"mine:B-v0" = [-1.0, 1]\n')
    told = compare(*find_runs([tmp_path]), scales=read_scales(file))
    good, bad = told.overall
    assert told.cautions == []
    assert (good.agent, good.envs) == ("good", ["mine:A-v0", "mine:B-v0"])
    assert (good.iqm, bad.iqm) == pytest.approx((1.0, 0.2))
    file.write_text('[scales]\n"mine:A-v0" = [10, 20]\n"mine:B-v1" = [-1.0, 1]\n')
    told = compare(*find_runs([tmp_path]), scales=read_scales(file))
    assert (told.overall, told.cautions) == ([], ["no run here is of mine:B-v1, of which a scale was given"])
    for bad_table in (
        "[other]\n",
        "[scales]\nx = [1, 1]\n",
        "[scales]\nx = [1]\n",
        '[scales]\nx = "ab"\n',
        "scales = 3\n",
        "[scales]\nx = [0, inf]\n",
        "[scales]\nx = [false, 1]\n",
    ):
        file.write_text(bad_table)
        with pytest.raises(UserError, match="scales"):
            read_scales(file)


def test_a_suite_has_scales_of_its_own(tmp_path: Path) -> None:
    task = '[[task]]\nagent = ["random", "q-learning"]\nenv = ["FrozenLake-v1", "FrozenLake8x8-v1"]\nsteps = 60\n'
    kwargs = "settings.env.kwargs.is_slippery = false\n"
    scales = "[scales]\n" + "".join(
        f'"{env} (is_slippery=False)" = [0.0, 1.0]\n' for env in ("FrozenLake-v1", "FrozenLake8x8-v1")
    )
    (tmp_path / "s.toml").write_text(f'summary = ""\nseeds = 2\n{task}{kwargs}{scales}')
    told = run_suite(str(tmp_path / "s.toml"), out=str(tmp_path / "o"))
    names = {score.env for score in told.comparison.scores}
    assert {row.agent for row in told.comparison.overall} == {"random", "q-learning"}, names
    (tmp_path / "s.toml").write_text(f'summary = ""\nseeds = 2\n{task}[scales]\nx = [2, 1]\n')
    with pytest.raises(UserError, match=r"s.toml scales 'x' = .2.0, 1.0.: must be"):
        load_suite(str(tmp_path / "s.toml"))


def test_runs_of_before_own_code_was_kept_are_not_of_other_code(tmp_path: Path) -> None:
    write_seeds(tmp_path, "a", "X", [1.0, 2.0, 3.0])
    runs = find_runs([tmp_path]).runs
    told = [{}, {"own_code": {}}, {"own_code": None}]
    alike = [replace(run, manifest={**run.manifest, **more}) for run, more in zip(runs, told, strict=True)]
    assert compare(alike).cautions == []
    other = replace(runs[2], manifest={"own_code": {"mine": "1"}})
    assert [line.rpartition(": ")[2] for line in compare([*alike[:2], other]).cautions] == [
        "seeds 0, 1, of other code 2"
    ]
