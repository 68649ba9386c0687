"""Which runs of a claim count, and which trial of each arm they choose."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from run_folders import leave

from qladder.envs.errors import UserError
from qladder.runners import cli
from qladder.runners.claim_file import Claim, claim_names, load_claim
from qladder.runners.claim_report import write_claims
from qladder.runners.claim_runs import read_claim
from qladder.runners.claims import cards, list_claims, run_claim, write_last
from qladder.runners.run_folder import write_json

CLAIM = """
claim = "Large steps learn sooner"
said_by = "the field"
hypothesis = "They do."
held_equal = "All else."
not_equal = "The step."
would_change = "Nothing."
metric = "score"
seeds = 6
agent = "q-learning"
tuning_seeds = 1
[[place]]
env = "FrozenLake-v1"
steps = 1_000
low = 0.0
high = 1.0
[[trial]]
label = "slow"
settings.agent.epsilon = 0.1
[[trial]]
label = "fast"
settings.agent.epsilon = 0.3
[[arm]]
name = "large"
settings.agent.step_size = 0.5
[[arm]]
name = "small"
settings.agent.step_size = 0.001
[[question]]
name = "sooner"
sentence = "They learn sooner."
contrast = { large = 1, small = -1 }
"""


@pytest.fixture
def claim(tmp_path: Path) -> Claim:
    path = tmp_path / "steps.toml"
    path.write_text(CLAIM)
    return load_claim(str(path))


def tune(claim: Claim, place: Path, **scores: float) -> None:
    for arm, trial, task in claim.tuning_tasks():
        leave(place / "tuning", task, 1000, scores[f"{arm.name}_{trial.label}"])


def judge(claim: Claim, place: Path, large: float = 0.5, small: float = 0.25) -> list[Path]:
    chosen = read_claim(claim, place).chosen
    runs = []
    for task in claim.tasks(chosen):
        score = {"large": large, "small": small}[task.label]
        runs += [leave(place / "runs", task, seed, score + seed / 100) for seed in range(6)]
    return runs


def test_the_best_trial_is_chosen_once_all_have_ended(claim: Claim, tmp_path: Path) -> None:
    tune(claim, tmp_path, large_slow=0.2, large_fast=0.4, small_slow=0.3, small_fast=0.3)
    found = read_claim(claim, tmp_path)
    assert {arm: trial.label for arm, trial in found.chosen.items()} == {"large": "fast", "small": "slow"}
    run = next(run for run in found.tuning if run.agent == "small fast")
    (run.folder / "summary.json").unlink()
    again = read_claim(claim, tmp_path)
    assert list(again.chosen) == ["large"]
    assert [t.value for t in again.tuned] == [0.2, 0.4, 0.3, None]


def test_an_arm_that_is_tuned_as_another_has_its_trial(claim: Claim, tmp_path: Path) -> None:
    path = tmp_path / "steps.toml"
    path.write_text(CLAIM + '[[arm]]\nname = "larger"\ntuned_as = "large"\nsettings.agent.step_size = 0.9\n')
    claim = load_claim(str(path))
    assert {arm.name for arm, _, _ in claim.tuning_tasks()} == {"large", "small"}
    place = tmp_path / "out" / f"steps-{claim.stamp}"
    tune(claim, place, large_slow=0.2, large_fast=0.4, small_slow=0.3, small_fast=0.2)
    tasks = {task.label: task.settings["agent"] for task in claim.tasks(read_claim(claim, place).chosen)}
    assert tasks["larger"] == {"step_size": 0.9, "epsilon": 0.3}
    assert tasks["small"] == {"step_size": 0.001, "epsilon": 0.1}
    (card,) = cards([str(path)], tmp_path / "out")
    page = write_claims([card], tmp_path / "page.html").read_text()
    assert re.search(r"larger</th>.*<td>fast</td>", page)
    first, second, third = claim.arm
    own = replace(claim, trial=(), arm=(third, replace(first, trials=claim.trial), replace(second, trials=claim.trial)))
    assert own.trials(third) == claim.trial
    assert read_claim(own, tmp_path / "nothing").chosen == {}


@pytest.mark.parametrize(
    ("arm", "told"),
    [
        ('tuned_as = "larg"', "'larg': there is no such arm that is tuned by itself; did you mean 'large'?"),
        ('tuned_as = "larger"', "'larger': there is no such arm that is tuned by itself"),
        (
            'tuned_as = "large"\n[[arm.trials]]\nlabel = "own"\nsettings.agent.epsilon = 0.2',
            "it has trials of its own",
        ),
    ],
)
def test_an_arm_is_tuned_as_one_that_is_tuned(tmp_path: Path, arm: str, told: str) -> None:
    path = tmp_path / "steps.toml"
    path.write_text(f'{CLAIM}[[arm]]\nname = "larger"\n{arm}\n')
    with pytest.raises(UserError, match=r"arm 'larger'\.tuned_as = ") as error:
        load_claim(str(path))
    assert told in str(error.value)


def test_a_trial_that_diverged_is_the_worst(claim: Claim, tmp_path: Path) -> None:
    tune(claim, tmp_path, large_slow=0.2, large_fast=0.4, small_slow=0.3, small_fast=0.5)

    def fails(label: str, reason: str) -> None:
        run = next(run for run in read_claim(claim, tmp_path).tuning if run.agent == label)
        (run.folder / "summary.json").unlink()
        write_json(run.folder / "manifest.json", {"exit_reason": reason})

    fails("large fast", "failed: DivergedError: the loss is nan")
    fails("small fast", "failed: StorageError: no room")  # which says nothing of the trial
    found = read_claim(claim, tmp_path)
    assert {arm: trial.label for arm, trial in found.chosen.items()} == {"large": "slow"}
    assert [(t.value, t.diverged) for t in found.tuned] == [(0.2, False), (None, True), (0.3, False), (None, False)]


def test_a_seed_that_diverged_counts_as_random_play(claim: Claim, tmp_path: Path) -> None:
    """Judged by those that it survives, the arm with large steps would be far ahead."""
    out = tmp_path / "out"
    place = out / f"steps-{claim.stamp}"
    tune(claim, place, large_slow=0.2, large_fast=0.4, small_slow=0.3, small_fast=0.2)
    runs = judge(claim, place)

    def ends(run: Path, reason: str) -> None:
        (run / "summary.json").unlink()
        write_json(run / "manifest.json", {"exit_reason": reason})

    ends(runs[1], "failed: DivergedError: the loss is nan")
    ends(runs[3], "failed: DivergedError: a weight is inf")
    (card,) = cards([str(tmp_path / "steps.toml")], out)
    assert [(run.arm, run.env, run.seed) for run in card.found.lost] == [
        ("large", "FrozenLake-v1", 1),
        ("large", "FrozenLake-v1", 3),
    ]
    assert card.measures["large"]["FrozenLake-v1"] == pytest.approx({0: 0.5, 1: 0, 2: 0.52, 3: 0, 4: 0.54, 5: 0.55})
    (answer,) = card.answers
    assert (answer.seeds, answer.missing, answer.outcome) == (6, 0, "undecided")
    page = write_claims([card], tmp_path / "page.html").read_text()
    assert "<strong>Diverged</strong>, which counts as 0 and has no curve: large on FrozenLake-v1 (seeds 1, 3)." in page

    ledger = [sys.executable, str(Path(__file__).resolve().parent.parent / "benchmarks" / "ledger.py")]
    subprocess.run([*ledger, "pack", "out", "kept"], cwd=tmp_path, check=True)
    subprocess.run([*ledger, "unpack", "kept", "again"], cwd=tmp_path, check=True)
    assert cards([str(tmp_path / "steps.toml")], tmp_path / "again")[0].answers == card.answers

    ends(runs[4], "failed: StorageError: no room")  # which says nothing of the arm
    (card,) = cards([str(tmp_path / "steps.toml")], out)
    assert (card.answers[0].seeds, card.answers[0].missing) == (5, 1)


def test_claims_without_runs_are_not_asked_beside_those_with_runs(claim: Claim, tmp_path: Path) -> None:
    """Verdicts would have to be surer among all questions of the page than among those that are on it."""
    place = tmp_path / f"steps-{claim.stamp}"
    tune(claim, place, large_slow=0.2, large_fast=0.4, small_slow=0.3, small_fast=0.2)
    judge(claim, place, large=0.5, small=0.44)
    for seed, run in enumerate(sorted((place / "runs").glob("large*"))):
        summary = json.loads((run / "summary.json").read_text())
        summary["evaluation"]["mean"] += (-1) ** seed * 0.005
        write_json(run / "summary.json", summary)
    names = [str(tmp_path / "steps.toml"), *claim_names()]
    (card,) = cards(names, tmp_path, only_run=True)
    assert [(a.outcome, a.among_all) for a in card.answers] == [("supported", True)]
    beside = cards(names, tmp_path)
    assert len(beside) == len(names)
    assert [(a.outcome, a.among_all) for a in beside[0].answers] == [("supported", False)]


def test_runs_of_other_settings_are_left_out_and_told(claim: Claim, tmp_path: Path) -> None:
    """As they are when what qladder ships has changed since: neither the claim's file nor its stamp says so."""
    place = tmp_path / "out" / f"steps-{claim.stamp}"
    tune(claim, place, large_slow=0.2, large_fast=0.4, small_slow=0.3, small_fast=0.2)
    runs = judge(claim, place)
    (card,) = cards([str(tmp_path / "steps.toml")], tmp_path / "out")
    assert card.found.others == []
    assert card.answers[0].outcome == "supported"
    settings = runs[2] / "config.toml"
    settings.write_text(settings.read_text().replace("gamma = 0.99", "gamma = 0.5"))
    (runs[3] / "config.toml").unlink()
    summary = json.loads((runs[4] / "summary.json").read_text())
    write_json(runs[4] / "summary.json", {**summary, "protocol": {**summary["protocol"], "hash": "of before"}})
    (card,) = cards([str(tmp_path / "steps.toml")], tmp_path / "out")
    assert [run.folder for run in card.found.others] == runs[2:5]
    assert (card.answers[0].outcome, card.answers[0].missing) == ("undecided", 3)
    assert card.to_json()["other_settings"] == [str(run) for run in runs[2:5]]
    assert "<strong>3 runs left out</strong>" in write_claims([card], tmp_path / "page.html").read_text()


def test_without_the_tunings_runs_any_trial_may_have_been_chosen(claim: Claim, tmp_path: Path) -> None:
    tune(claim, tmp_path, large_slow=0.2, large_fast=0.4, small_slow=0.3, small_fast=0.2)
    runs = judge(claim, tmp_path)
    (tmp_path / "tuning").rename(tmp_path / "away")
    found = read_claim(claim, tmp_path)
    assert (len(found.runs), found.others, found.chosen) == (len(runs), [], {})
    other = next(iter(claim.tasks({arm.name: claim.trial[0] for arm in claim.arm})))
    leave(tmp_path / "runs", other, 9, 0.5)
    assert len(read_claim(claim, tmp_path).runs) == len(runs) + 1
    (tmp_path / "away").rename(tmp_path / "tuning")
    assert [run.seed for run in read_claim(claim, tmp_path).others] == [9]


def test_what_has_no_runs_is_no_verdict(claim: Claim, tmp_path: Path) -> None:
    """What the list knew of it stays."""
    write_last(cards(["sorting"], tmp_path), tmp_path)
    assert {verdict for row in list_claims(tmp_path) for verdict in row["verdicts"].values()} == {"not run"}
    stamp = load_claim("sorting").stamp
    write_json(tmp_path / "verdicts.json", {"sorting": {"stamp": f"not {stamp}", "verdicts": {}}})
    write_last(cards(["sorting"], tmp_path), tmp_path)
    told = {row["name"]: set(row["verdicts"].values()) for row in list_claims(tmp_path)}
    assert told["sorting"] == {"stale"}


DIVERGES = (
    CLAIM.replace('agent = "q-learning"', 'agent = "dqn"\nsettings = { run = { learning_starts = 10 } }')
    .replace("seeds = 6", "seeds = 2")
    .replace("FrozenLake-v1", "CartPole-v1")
    .replace("1_000", "300")
    .replace(
        "settings.agent.epsilon = 0.1", 'settings.agent = { optimizer = "sgd", loss = "mse", learning_rate = 1e-4 }'
    )
    .replace(
        "settings.agent.epsilon = 0.3", 'settings.agent = { optimizer = "sgd", loss = "mse", learning_rate = 1e9 }'
    )
    .replace("step_size = 0.5", "hidden = [8]")
    .replace("step_size = 0.001", "hidden = [4]")
)


def test_a_claim_goes_on_without_a_trial_that_diverges(tmp_path: Path) -> None:
    """It is tried once: a second call does not train it again."""
    path = tmp_path / "rates.toml"
    path.write_text(DIVERGES)
    claim = load_claim(str(path))
    for _ in range(2):
        assert run_claim(str(path), out=tmp_path / "out", jobs=2) == []
    place = tmp_path / "out" / f"rates-{claim.stamp}"
    assert [(t.chosen, t.diverged) for t in read_claim(claim, place).tuned] == [(True, False), (False, True)] * 2
    assert "fast" not in (place / "tuning.toml").read_text()
    (card,) = cards([str(path)], tmp_path / "out")
    assert card.answers[0].seeds == 2
    path.write_text(DIVERGES.replace("1e-4", "1e10"))
    with pytest.raises(UserError, match="rates: all trials of arm 'large' diverged"):
        run_claim(str(path), out=tmp_path / "out", jobs=2)


def test_a_trial_without_a_score_is_named(tmp_path: Path) -> None:
    """No episode of MountainCar ends in so few steps, and the protocol's score is that of training."""
    path = tmp_path / "none.toml"
    text = DIVERGES.replace("CartPole-v1", "MountainCar-v0").replace("steps = 300", "steps = 60").replace("1e9", "1e-3")
    path.write_text(text.replace("settings = {", 'settings = { env = { protocol = "cleanrl" },'))
    with pytest.raises(UserError, match=r"arm 'large' has no best trial, since 'slow' has not ended with a score"):
        run_claim(str(path), out=tmp_path / "out", jobs=2)


def test_seeds_of_the_verdict_do_not_reach_into_the_tunings(tmp_path: Path) -> None:
    path = tmp_path / "steps.toml"
    path.write_text(CLAIM.replace("tuning_seeds = 1", "tuning_seeds = 1\ntuning_first_seed = 6"))
    with pytest.raises(UserError, match=r"tuned on seeds 6 to 6, which the verdict uses too \(seeds 0 to 6\)"):
        run_claim(str(path), out=tmp_path / "out", seeds=7)
    assert not (tmp_path / "out").exists()


def test_an_area_needs_two_evaluations(tmp_path: Path) -> None:
    path = tmp_path / "steps.toml"
    area = CLAIM.replace('"score"', '"area"')
    path.write_text(area.replace("tuning_seeds = 1", "tuning_seeds = 1\nsettings.run.eval_every = 1_000"))
    with pytest.raises(UserError, match=r"needs two evaluations of a run, and run\.eval_every is 1,000 of 1,000 steps"):
        run_claim(str(path), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_whoever_names_no_claim_runs_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["claims", "run"])
    assert ended.value.code == 2
    assert "claims run needs a NAME" in capsys.readouterr().err


def test_of_all_claims_one_that_fails_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = tmp_path / "configs"
    (configs / "claims").mkdir(parents=True)
    small = CLAIM.replace("1_000", "100").replace("seeds = 6", "seeds = 2")
    bad = small.replace('"score"', '"area"').replace(
        "tuning_seeds = 1", "tuning_seeds = 1\nsettings.run.eval_every = 999"
    )
    for name, text in (("a-bad", bad), ("b-good", small)):
        (configs / "claims" / f"{name}.toml").write_text(text)
    monkeypatch.setattr("qladder.runners.claim_file.CLAIMS", configs / "claims")
    with pytest.raises(SystemExit) as ended:
        cli.main(["claims", "run", "all", "--out", str(tmp_path / "out"), "--jobs", "2"])
    assert ended.value.code == 1
    assert {path.name.rsplit("-", 1)[0] for path in (tmp_path / "out").glob("*-*/")} == {"b-good"}
