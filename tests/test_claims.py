"""Claims: the checks of their files, verdicts by hand, and the page of docs/adding-a-claim.md done as it stands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from run_folders import leave, write_run

from qladder.envs.errors import UserError
from qladder.runners.claim_file import Claim, claim_names, load_claim
from qladder.runners.claim_report import formula, told_of, write_claims
from qladder.runners.claim_verdict import Answer, Measures, _found_with, answers, effect, measures
from qladder.runners.claims import KEPT, cards, list_claims, write_last
from qladder.runners.progress import duration
from qladder.runners.runs import find_runs
from qladder.runners.shipped import CONFIGS
from qladder.runners.stats import student_mean, t_quantile
from qladder.runners.wording import number

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "adding-a-claim.md").read_text()


def block(kind: str) -> str:
    (found,) = re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "early-bird.toml"
    path.write_text(block("toml"))
    return path


@pytest.fixture
def claim(file: Path) -> Claim:
    return load_claim(str(file))


def judged(claim: Claim, large: list[float], small: list[float]) -> Answer:
    found: Measures = {
        "large": {"FrozenLake-v1": dict(enumerate(large))},
        "small": {"FrozenLake-v1": dict(enumerate(small))},
    }
    (answer,) = answers([(claim, claim.question[0], found)])
    return answer


def test_the_page_adds_a_claim(file: Path) -> None:
    environment = {**os.environ, "COLUMNS": "120"}
    told = []
    for line in block("console").splitlines():
        command = [sys.executable, "-m", "qladder.runners", *line.split()[1:], "--json"]
        done = subprocess.run(command, cwd=file.parent, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout))
    assert told[0]["claims"] == told[1]["claims"]
    (card,) = told[0]["claims"]
    (answer,) = card["answers"]
    assert answer["outcome"] == "supported"  # a thousandth of a step barely moves an optimistic table in 20,000 steps
    assert answer["seeds"] == 6
    assert card["cost"]["tuning_runs"] == 8
    assert card["cost"]["runs"] == 8 + 12
    assert [t["arm"] for t in card["tuned"] if t["chosen"]] == ["large", "small"]
    (place,) = (file.parent / "claims").glob("early-bird-*")
    manifests = list(place.glob("runs/*/config.toml"))
    assert len(manifests) == 12
    assert all(f'claim = "early-bird {card["stamp"]}"' in path.read_text() for path in manifests)
    tuned = {int(re.findall(r"^seed = (\d+)", p.read_text(), re.M)[0]) for p in place.glob("tuning/*/config.toml")}
    assert tuned == {1000, 1001}
    page = (file.parent / "claims" / "report.html").read_text()
    assert "A table learns sooner with large steps" in page
    assert ">supported<" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    ledger = [sys.executable, str(ROOT / "benchmarks" / "ledger.py")]
    subprocess.run([*ledger, "pack", "claims", "kept"], cwd=file.parent, check=True)
    assert {p.name for p in (file.parent / "kept").iterdir()} == {
        f"{place.name}.{x}.jsonl.gz" for x in ("runs", "tuning")
    }
    subprocess.run([*ledger, "unpack", "kept", "again"], cwd=file.parent, check=True)
    assert json.loads(json.dumps(cards([str(file)], file.parent / "again")[0].to_json())) == card

    file.write_text(file.read_text().replace("delta = 0.05", "delta = 0.5"))  # the rule, after the runs
    (stale,) = cards([str(file)], file.parent / "claims")
    assert stale.stale == [card["stamp"]]
    assert stale.answers[0].outcome == "undecided"
    assert not stale.found.runs


def test_prose_and_seeds_may_change_and_nothing_else(file: Path, claim: Claim) -> None:
    text = file.read_text()

    def stamp(old: str, new: str) -> str:
        assert old in text
        file.write_text(text.replace(old, new))
        return load_claim(str(file)).stamp

    assert stamp("seeds = 6", "seeds = 9") == claim.stamp
    assert stamp("A longer run", "A run without end") == claim.stamp
    for old, new in (
        ("delta = 0.05", "delta = 0.04"),
        ("delta = 0.05", 'over = "cpu_seconds"'),
        ("small = -1 }", "small = -0.9 }"),
        ("steps = 20_000", "steps = 5_000"),
        ("step_size = 0.5", "step_size = 0.6"),
        ("epsilon = 0.3", "epsilon = 0.4"),
        ("On FrozenLake the area", "On FrozenLake perhaps the area"),
    ):
        assert stamp(old, new) != claim.stamp, old


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("small = -1 }", "smal = -1 }", "there is no arm 'smal'; did you mean 'small'"),
        ("contrast = { large = 1, small = -1 }", "contrast = {}", "'sooner'.contrast: no arm feeds it"),
        ("contrast = { large = 1, small = -1 }", "contrast = { large = 0 }", "no arm feeds it"),
        ('name = "small"', 'name = "large"', "arm 'large': there are two of them"),
        ("seeds = 6", "seeds = 6\nfirst_seed = 999", "tuned on seeds 1000 to 1001, which the verdict uses too"),
        ("seeds = 6", 'seeds = 6\nmetric = "size"', "metric = 'size'"),
        ("delta = 0.05", 'places = ["FrozenLake-v0"]', "no place 'FrozenLake-v0'; did you mean 'FrozenLake-v1'"),
        ('"FrozenLake-v1"', '"my:Own-v0"', "must be the returns that count as 0 and 1"),
        ("steps = 20_000", "steps = 20_000\nlow = 1.0", "low = 1.0 and high = 0.7441903"),
        ('what = "steps of a half"', 'trials = [{ label = "x", settings = {} }]', "there are large 1, small 2"),
        ("seeds = 6", "seeds = 1", "seeds = 1"),
        ('hypothesis = "On', 'hypotheses = "On', "there is no such field; did you mean 'hypothesis'"),
        ("delta = 0.05", 'over = "frames"', "question.0.over = 'frames'"),
        ("delta = 0.05", "delt = 0.5", "question 'sooner'.delt: there is no such field; did you mean 'delta'"),
        ("delta = 0.05", 'rule = "x"', "question 'sooner'.rule: there is no such field"),
        ('what = "steps of a half"', 'why = "steps of a half"', "arm 'large'.why: there is no such field"),
        (
            "steps = 20_000",
            "steps = 20_000\nhigth = 1.0",
            "place 'FrozenLake-v1'.higth: there is no such field; did you mean 'high'",
        ),
    ],
)
def test_a_file_that_does_not_hold_together_is_refused(file: Path, old: str, new: str, told: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=re.escape(told)):
        load_claim(str(file))


def test_a_claim_that_there_is_not() -> None:
    with pytest.raises(UserError, match="no such claim; did you mean 'depth'"):
        load_claim("dept")


NEXT = [str(file) for file in sorted((CONFIGS / "claims" / "next").glob("*.toml"))]


@pytest.mark.parametrize("name", [*claim_names(), *NEXT], ids=lambda name: Path(name).stem)
def test_the_claims_that_come_along_hold_together(name: str) -> None:
    """Each arm's settings are ones that its agent has and that go together, and arms differ."""
    from qladder.runners.config import resolve
    from qladder.runners.plan import plan_run

    claim = load_claim(name)
    configs = [resolve(t.agent, t.env, t.table(claim.first_seed)) for t in claim.tasks({})]
    for config in {config.label: config for config in configs}.values():
        plan_run(config, 0.0)
    tables = [config.table() for config in configs]
    told = [json.dumps({**t, "run": {**t["run"], "label": ""}}, sort_keys=True) for t in tables]
    assert len(set(told)) == len(told)
    for _, _, task in claim.tuning_tasks():
        resolve(task.agent, task.env, task.table(claim.tuning_first_seed))


def test_an_effect_by_hand(claim: Claim) -> None:
    found: Measures = {"large": {"FrozenLake-v1": {}}, "small": {"FrozenLake-v1": {}}}
    assert effect(claim.question[0], claim, found) is None
    found["large"]["FrozenLake-v1"] = {0: 0.5, 1: 0.7, 2: 0.9, 7: 5.0}
    found["small"]["FrozenLake-v1"] = {0: 0.1, 1: 0.1, 2: 0.4}
    few = effect(claim.question[0], claim, found)
    assert few is not None
    assert (few.statistic, few.seeds) == ("mean", 3)  # seed 7 is not in both
    assert few.estimate.value == pytest.approx((0.4 + 0.6 + 0.5) / 3)
    assert few.estimate.interval() == pytest.approx(student_mean([0.4, 0.6, 0.5]).interval())
    found["large"]["FrozenLake-v1"] = {s: float(s) for s in range(8)}
    found["small"]["FrozenLake-v1"] = dict.fromkeys(range(8), 1.0)
    many = effect(replace(claim.question[0], contrast={"large": 2.0, "small": -3.0}), claim, found)
    assert many is not None
    assert many.statistic == "IQM"
    assert many.estimate.value == pytest.approx(2 * 3.5 - 3)  # the middle half of 0 to 7 is 2 to 5


def test_effects_of_factors_by_hand(file: Path) -> None:
    """Three factors, eight arms: a measure that adds 1 for a, 2 for b, 4 for both together, and 8 for c."""
    head, _, _ = file.read_text().partition("[[trial]]")
    factors = [f'[[factor]]\nname = "{n}"\non.agent.{s}\noff.agent.{t}\n' for n, s, t in (
        ("a", "step_size = 0.5", "step_size = 0.1"), ("b", "epsilon = 0.1", "epsilon = 0.3"),
        ("c", "gamma = 0.99", "gamma = 0.9"),
    )]  # fmt: skip
    questions = [
        f'[[question]]\nname = "{"".join(names)}"\nsentence = "more"\neffect = {json.dumps(names)}\n'
        for names in (["a"], ["b"], ["c"], ["a", "b"], ["a", "c"], ["a", "b", "c"])
    ]
    file.write_text(head + "".join(factors) + "".join(questions))
    claim = load_claim(str(file))
    assert [arm.name for arm in claim.arm][:3] == ["a + b + c", "a + b", "a + c"]
    assert claim.arm[-1].name == "none of them"
    found: Measures = {}
    for arm in claim.arm:
        a, b, c = (name in arm.name.split(" + ") for name in "abc")
        found[arm.name] = {"FrozenLake-v1": dict.fromkeys(range(6), float(a + 2 * b + 4 * (a and b) + 8 * c))}
    told = answers([(claim, question, found) for question in claim.question])
    assert [answer.effect for answer in told] == pytest.approx([3, 4, 8, 4, 0, 0])
    assert [formula(q) for q in claim.question][3] == "what a adds, with b more than without"
    file.write_text(file.read_text().replace('effect = ["a"]', 'effect = ["d"]'))
    with pytest.raises(UserError, match="must be one or more of the factors"):
        load_claim(str(file))


def test_what_all_arms_share_is_no_noise(claim: Claim) -> None:
    """Seeds are drawn again for all arms alike: a hard seed is hard for both."""
    hard = np.random.default_rng(0).normal(0, 10, 10)
    answer = judged(claim, list(hard + 0.3), list(hard))
    assert answer.outcome == "supported"
    assert answer.effect == pytest.approx(0.3)


def test_outcomes(claim: Claim) -> None:
    noise = [0.01, -0.02, 0.0, 0.02, -0.01, 0.015]
    base = [0.3, 0.32, 0.28, 0.31, 0.29, 0.3]
    assert judged(claim, [b + 0.2 + n for b, n in zip(base, noise, strict=True)], base).outcome == "supported"
    assert judged(claim, [b + n for b, n in zip(base, noise, strict=True)], base).outcome == "refuted"  # no effect
    near = judged(claim, [b + 0.05 + n for b, n in zip(base, noise, strict=True)], base)
    assert near.outcome == "undecided"
    assert near.missing == 0
    few = judged(claim, [0.9, 0.9, 0.91], [0.1, 0.11, 0.1])  # beyond doubt, but fewer seeds than were promised
    assert few.outcome == "undecided"
    assert few.missing == 3
    same = judged(claim, [0.9] * 6, [0.1] * 6)
    shorter = t_quantile(0.95, 5) / t_quantile(1 - 2**-5, 5)
    assert same.outcome == "supported"
    low, high = same.interval  # the one that is judged: 0.75 beyond delta, as sure as six that agree can be
    assert (low, high) == pytest.approx((0.8 - 0.75 * shorter, 0.8 + 0.75 * shorter))
    alike = replace(claim, seeds=5)  # 2 ** -4: as likely as that of a coin's two sides one comes five times
    assert judged(alike, [0.9] * 5, [0.1] * 5).outcome == "undecided"
    assert judged(alike, [0.9] * 4 + [0.91], [0.1] * 5).outcome == "supported"
    assert judged(claim, [], []).missing == 6


def test_verdicts_of_a_claim_are_corrected(claim: Claim) -> None:
    """One that is just sure alone is not sure among twenty others, but is so whatever other claims are beside it."""
    pattern = np.array([-1.0, -0.6, -0.2, 0.2, 0.6, 1.0]) / 10

    def found(shift: float) -> Measures:
        zeros = dict.fromkeys(range(6), 0.0)
        return {
            "large": {"FrozenLake-v1": dict(enumerate(pattern + shift))},
            "small": {"FrozenLake-v1": zeros},
        }

    def outcomes(*shifts: float) -> list[str]:
        return [a.outcome for a in answers([(claim, claim.question[0], found(shift)) for shift in shifts])]

    edge = next(shift for shift in np.linspace(0.05, 0.4, 36) if outcomes(shift) == ["supported"])
    assert edge > 0.06  # beyond delta by more than nothing
    assert outcomes(edge, *[0.05] * 20) == ["undecided"] * 21
    assert outcomes(edge + 0.3, *[0.05] * 20) == ["supported"] + ["undecided"] * 20
    unrun: Measures = {"large": {"FrozenLake-v1": {}}, "small": {"FrozenLake-v1": {}}}
    to_come = [(claim, claim.question[0], unrun)] * 20  # what has no runs yet is asked all the same
    assert answers([(claim, claim.question[0], found(edge)), *to_come])[0].outcome == "undecided"

    other = replace(claim, name="other")
    beside = [(other, claim.question[0], found(0.05))] * 20
    alone, among = answers([(claim, claim.question[0], found(edge)), *beside])[:2]
    assert (alone.outcome, alone.among_all) == ("supported", False)
    assert alone.decides == answers([(claim, claim.question[0], found(edge))])[0].decides
    assert (among.outcome, among.among_all) == ("undecided", True)
    interleaved = answers([beside[0], (claim, claim.question[0], found(edge + 0.3)), beside[1]])
    assert [(a.outcome, a.among_all) for a in interleaved] == [
        ("undecided", True),
        ("supported", True),
        ("undecided", True),
    ]


def test_measures_are_areas_between_random_play_and_the_mark(claim: Claim, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "runs", "large", "FrozenLake-v1", 3, 0.8)
    found = measures(claim, find_runs([folder]).runs, ["large", "small"])
    assert found["small"]["FrozenLake-v1"] == {}
    low, high = 0.0139398, 0.7441903  # of the environments' table
    assert found["large"]["FrozenLake-v1"] == {3: pytest.approx((0.4 - low) / (high - low))}  # of 0, 0.4, 0.8
    final = measures(replace(claim, metric="score"), find_runs([folder]).runs, ["large"])
    assert final["large"]["FrozenLake-v1"] == {3: pytest.approx((0.8 - low) / (high - low))}


def test_a_question_of_cpu_seconds_is_of_what_was_learnt_in_them(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both learn as much over agent steps; one takes twice the time, so that half of the other's way counts."""
    text = file.read_text()
    i = text.index("[[question]]")
    clocked = text[i:].replace('name = "sooner"', 'name = "quicker"\nover = "cpu_seconds"')
    file.write_text(text[:i] + '[[arm]]\nname = "none"\n\n' + text[i:] + clocked)
    claim = load_claim(str(file))
    place, scale = tmp_path / f"{claim.name}-{claim.stamp}", claim.place[0].scale
    for task in claim.tasks({arm.name: claim.trials(arm)[0] for arm in claim.arm}):
        slow = {"large": 1, "small": 2, "none": 0.1}[task.label]  # the quickest is asked of by nobody
        for seed in range(6):
            curve = [
                {
                    **POINT,
                    "agent_steps": k,
                    "cpu_seconds": slow * k / 100,
                    "mean": scale.random + k / 1000 * (scale.mark - scale.random),
                }
                for k in (500, 1000)
            ]
            leave(place / "runs", task, seed, 0.5, curve=curve)
    (card,) = cards([str(file)], tmp_path)
    by_steps, by_seconds = card.answers
    assert by_steps.effect == pytest.approx(0.0)
    assert by_seconds.effect == pytest.approx(0.5 - 0.25)  # within the ten seconds that both took
    page = write_claims([card], tmp_path / "page.html").read_text()
    assert "over CPU seconds of training," in page
    assert "CPU time of training" in page
    for run in (place / "runs").glob("*/summary.json"):
        run.write_text(re.sub(r'"cpu_seconds": [\d.]+, ', "", run.read_text()))
    (card,) = cards([str(file)], tmp_path)
    assert [(a.outcome, a.missing) for a in card.answers] == [(by_steps.outcome, 0), ("undecided", 6)]
    assert "early-bird, quicker: " in (told := capsys.readouterr().err)
    assert "its evaluations do not tell cpu_seconds" in told
    file.write_text(file.read_text().replace("seeds = 6", 'seeds = 6\nmetric = "score"'))
    with pytest.raises(UserError, match=r"question 'quicker'\.over = 'cpu_seconds': metric = 'area' has a clock"):
        load_claim(str(file))


POINT = {"frames": 0, "updates": 0, "seconds": 0.0, "episodes": 1}


def test_how_many_runs_had_values_that_diverge_stands_on_the_card(file: Path, tmp_path: Path) -> None:
    claim = load_claim(str(file))
    place = tmp_path / f"{claim.name}-{claim.stamp}"
    for task in claim.tasks({arm.name: claim.trials(arm)[0] for arm in claim.arm}):
        for seed in range(3):
            alarms = {"health/largest_q": task.label == "large" and seed > 0, "health/dormant": True}
            leave(place / "runs", task, seed, 0.5, alarms=alarms)
    page = write_claims(cards([str(file)], tmp_path), tmp_path / "page.html").read_text()
    assert "values diverged" in page
    assert re.findall(r"<td>(\d of 3)</td>", page)[:2] == ["2 of 3", "0 of 3"]


def test_a_contrast_is_written_as_people_write_it(claim: Claim) -> None:
    question = replace(claim.question[0], contrast={"a": 1.0, "b": -0.9, "c": 0.0, "d": -1.0})
    assert formula(question) == "a − 0.9 × b − d"
    named = replace(question, contrast={"a, far": 1.0, "b": -1.0})
    assert formula(named) == "“a, far” − b"


@pytest.mark.parametrize(
    ("contrast", "says", "effect", "interval"),
    [
        ({"a": -1.0, "b": 0.0}, "a < 0.5", 0.25, (-0.1, 0.6)),
        ({"a": -1.0, "b": 1.0}, "− a + b > −0.5", -0.25, (-0.6, 0.1)),
    ],
)
def test_what_is_only_taken_away_is_told_the_other_way_round(
    claim: Claim, contrast: dict[str, float], says: str, effect: float, interval: tuple[float, float]
) -> None:
    question = replace(claim.question[0], contrast=contrast, delta=-0.5)
    told = told_of(Answer(question, "supported", True, -0.25, (-0.6, 0.1), "mean", 3, 0, None, None))
    limit = says.split()[-1]
    assert told == {"says": says, "limit": limit, "effect": effect, "interval": interval}
    nothing = told_of(Answer(question, "undecided", True, None, (None, None), "mean", 0, 3, None, None))
    assert (nothing["effect"], nothing["interval"]) == (None, (None, None))


def test_the_middle_on_a_card_is_that_of_its_verdict(file: Path, tmp_path: Path) -> None:
    """Of three seeds the mean, of six the middle half; in the table and the picture as in what is said."""
    claim = load_claim(str(file))
    for seeds in (3, 6):
        place = tmp_path / str(seeds) / f"{claim.name}-{claim.stamp}"
        for task in claim.tasks({arm.name: claim.trials(arm)[0] for arm in claim.arm}):
            for seed, score in enumerate((0.0, 0.1, 0.7, 0.5, 0.4, 0.6)[:seeds]):
                leave(place / "runs", task, seed, score)
        (card,) = cards([str(file)], tmp_path / str(seeds))
        page = write_claims([card], tmp_path / "page.html").read_text()
        (row,) = re.findall(r'</i>large</th><td>[^<]*</td><td class="n">([^<]*)</td>', page)
        v = sorted(card.measures["large"]["FrozenLake-v1"].values())
        expected = sum(v) / 3 if seeds == 3 else (v[1] / 2 + v[2] + v[3] + v[4] / 2) / 3
        assert row == number(expected)
        assert '<figcaption class="muted">FrozenLake-v1</figcaption>' in page
        assert len({number(expected), number(sum(v) / seeds), number(v[seeds // 2])}) == (2 if seeds == 3 else 3)


def test_arms_on_a_variant_of_a_place_are_in_its_picture(file: Path, tmp_path: Path) -> None:
    file.write_text(
        file.read_text().replace('name = "small"', 'name = "small"\nsettings.env.kwargs.is_slippery = false')
    )
    claim = load_claim(str(file))
    place = tmp_path / "out" / f"{claim.name}-{claim.stamp}" / "runs"
    for task in claim.tasks({arm.name: claim.trials(arm)[0] for arm in claim.arm}):
        variant = "is_slippery=False" if task.label == "small" else ""
        for seed in range(6):
            leave(place, task, seed, seed / 10, variant=variant)
    (card,) = cards([str(file)], tmp_path / "out")
    page = write_claims([card], tmp_path / "page.html").read_text()
    (figure,) = re.findall(r"<figure>(.*?)</figure>", page, re.DOTALL)
    assert 'aria-label="Mean return of large, small on FrozenLake-v1 over agent steps"' in figure


def test_how_many_more_seeds_might_tell(claim: Claim) -> None:
    """As many as make the margin of Student's t, with the share that finds it in 80 %, no larger than the effect."""
    pattern = np.array([-1.0, -0.6, -0.2, 0.2, 0.6, 1.0]) / 10
    near = judged(claim, list(pattern + 0.07), [0.0] * 6)
    assert near.outcome == "undecided"
    assert near.effect is not None
    assert near.decides is not None
    assert near.more_seeds is not None
    spread = near.decides / _found_with(6, 0.95)

    def short(seeds: int) -> bool:
        return _found_with(seeds, 0.95) * spread > abs(near.effect - 0.05)  # type: ignore[operator]

    assert not short(6 + near.more_seeds)
    assert short(6 + near.more_seeds - 1)
    assert judged(claim, [0.05 + x for x in pattern], [0.0] * 6).more_seeds is None  # an effect of just delta


def test_a_claim_that_is_judged_by_the_score_shows_each_seeds(file: Path, tmp_path: Path) -> None:
    file.write_text(file.read_text().replace("seeds = 6", 'seeds = 6\nmetric = "score"').replace("20_000", "1_000"))
    scored = load_claim(str(file))
    place = tmp_path / "out" / f"early-bird-{scored.stamp}" / "runs"
    for task in scored.tasks({arm.name: scored.trial[0] for arm in scored.arm}):
        for seed in range(6):
            leave(place, task, seed, {"large": 0.5, "small": 0.25}[task.label] + seed / 100)
    (card,) = cards([str(file)], tmp_path / "out")
    page = write_claims([card], tmp_path / "page.html").read_text()
    (figure,) = re.findall(r"<figure>(.*?)</figure>", page, re.DOTALL)
    assert 'aria-label="Scores of large, small on FrozenLake-v1, a dot for each seed"' in figure
    by_arm = [re.findall(rf'<g class="agent-{arm}".*?</g>\s*</g>', figure, re.DOTALL) for arm in (0, 1)]
    assert ["".join(parts).count("<use") for parts in by_arm] == [6, 6]
    assert "A dot for each seed" in page


@pytest.mark.parametrize(
    ("scores", "told"), [((0.5, 0.4, 0.3), True), ((0.3, 0.5, 0.4), False), ((0.5, 0.5, 0.3), False)]
)
def test_a_card_tells_whose_best_setting_is_the_last_that_was_tried(
    file: Path, tmp_path: Path, scores: tuple[float, ...], told: bool
) -> None:
    third = '[[trial]]\nlabel = "epsilon 0.9"\nsettings.agent.epsilon = 0.9\n\n'
    text = file.read_text().replace("seeds = 6", 'seeds = 6\nmetric = "score"').replace("20_000", "1_000")
    file.write_text(text.replace("[[arm]]", third + "[[arm]]", 1))
    claim = load_claim(str(file))
    for (_, _, task), score in zip(claim.tuning_tasks(), [*scores, 0.3, 0.5, 0.4], strict=True):
        for seed in range(claim.tuning_seeds):
            leave(tmp_path / f"early-bird-{claim.stamp}" / "tuning", task, claim.tuning_first_seed + seed, score)
    (card,) = cards([str(file)], tmp_path)
    page = write_claims([card], tmp_path / "page.html").read_text()
    assert ("The settings of large are the first or last" in page) == told
    assert "here returns of 0" in page


def test_a_claim_that_has_just_begun_has_a_card(file: Path, claim: Claim, tmp_path: Path) -> None:
    """While its first run is under way, so that the others' page can be made."""
    (tmp_path / f"early-bird-{claim.stamp}" / "tuning" / "large 0.1__FrozenLake-v1__s1000").mkdir(parents=True)
    (card,) = cards([str(file)], tmp_path)
    assert (card.answers[0].outcome, card.answers[0].missing, card.cost["runs"]) == ("undecided", 6, 0)


def test_verdicts_of_other_claims_stay_known(tmp_path: Path) -> None:
    for name in ("sorting", "depth"):
        claim = load_claim(name)
        place = tmp_path / f"{name}-{claim.stamp}" / "runs"
        leave(place, next(iter(claim.tasks({arm.name: claim.trials(arm)[0] for arm in claim.arm}))), 0, 0.5)
        write_last(cards([name], tmp_path), tmp_path)
    told = {row["name"]: set(row["verdicts"].values()) for row in list_claims(tmp_path)}
    assert told["sorting"] == told["depth"] == {"undecided"}
    assert told["memory"] == {"not run"}
    command = [sys.executable, "-m", "qladder.runners", "claims", "list", "--out", str(tmp_path)]
    wide = {**os.environ, "COLUMNS": "200"}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=wide).stdout
    assert re.search(r"^ sorting .* 64 .* 4 undecided *$", printed, re.MULTILINE)
    kept = json.loads((KEPT / "verdicts.json").read_text())["ten-minutes-classic"]
    took, count = duration(kept["cpu_seconds"]), len(kept["verdicts"])
    (words,) = re.findall(rf"^ ten-minutes-classic .* 96 +{took} +(.*) \(kept runs\) *$", printed, re.MULTILINE)
    assert sum(map(int, re.findall(r"\d+", words))) == count
    (tmp_path / "verdicts.json").write_text("[]")
    assert {verdict for row in list_claims(tmp_path) for verdict in row["verdicts"].values()} == {"not run"}


def test_a_folder_without_claims_is_no_report(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "qladder.runners", "claims", "report", "--out", str(tmp_path / "typo")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no claim has runs there" in done.stderr
    assert not (tmp_path / "typo").exists()
