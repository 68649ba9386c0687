"""What cards show beside verdicts, against numbers by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from run_folders import MANIFEST, leave, write_run

from qladder.runners.claim_file import Claim, load_claim
from qladder.runners.claim_report import write_claims
from qladder.runners.claim_runs import ClaimRuns, Tuned
from qladder.runners.claim_tables import elapsed, experience, tunability
from qladder.runners.claims import Card, cards
from qladder.runners.groups import groups
from qladder.runners.runs import find_runs


@pytest.fixture
def claim() -> Claim:
    return load_claim("ten-minutes-classic")


def card(claim: Claim, tuned: list[Tuned]) -> Card:
    return Card(claim, ClaimRuns([], tuned, [], [], []), {}, [], [])


def test_over_all_settings_that_were_tried(claim: Claim) -> None:
    arm, other = claim.arm[:2]
    trials = claim.trials(arm)
    values = [(0.25, False), (None, True), (-0.05, False)]
    tuned = [
        Tuned(arm.name, trial, value, False, lost) for trial, (value, lost) in zip(trials, values, strict=True)
    ] + [Tuned(other.name, trials[0], 0.9, True, False)]
    assert tunability(card(claim, tuned), arm) == "−0.050 to 0.250, mean 0.100; 1 of 3 diverged"
    assert tunability(card(claim, tuned), other) == "0.900 to 0.900, mean 0.900"
    alike = replace(arm, name="alike", tuned_as=other.name, trials=())
    assert tunability(card(claim, tuned), alike) == f"none: as {other.name}"
    assert tunability(card(claim, []), arm) == ""


def test_how_soon_so_much_of_the_way_was_reached(claim: Claim, tmp_path: Path) -> None:
    (place,) = [place for place in claim.place if place.env == "CartPole-v1"]
    low, high = place.scale.random, place.scale.mark
    for seed, share in enumerate([0.2, 0.6, 1.0]):  # at 500 agent steps half of it
        write_run(tmp_path, "tiles", "CartPole-v1", seed, low + share * (high - low), curve=curve(low, high, share))
    (row,) = experience(card(claim, []), groups(find_runs([tmp_path]).runs))
    assert (row["arm"], row["env"]) == ("tiles", "CartPole-v1")
    assert row["cells"] == [
        "500 steps, 33 s of play; 3 of 3",  # 10 %: 4 frames a step
        "500 steps, 33 s of play; 2 of 3",  # 25 %
        "1,000 steps, 67 s of play; 2 of 3",  # 50 %, by one after 500
        "1 of 3",
    ]
    nearly = low + 0.48 * (high - low)  # more than half of the mark, and less than half of the way
    assert nearly > high / 2
    write_run(tmp_path / "nearly", "tiles", "CartPole-v1", 0, nearly, curve=curve(low, high, 0.48))
    (row,) = experience(card(claim, []), groups(find_runs([tmp_path / "nearly"]).runs))
    assert row["cells"][2] == "0 of 1"


def curve(low: float, high: float, share: float) -> list[dict[str, float]]:
    return [
        {"agent_steps": k, "frames": 4 * k, "updates": 0, "seconds": 0.0, "episodes": 1, "mean": low + s * (high - low)}
        for k, s in ((0, 0.0), (500, share / 2), (1000, share))
    ]


def test_the_clock_on_the_wall_counts_what_ran_side_by_side_once(tmp_path: Path) -> None:
    spans = [("10:00:00+0000", "10:10:00+0000"), ("10:05:00+0000", "10:20:00+0000"), ("13:00:00+0200", "13:01:00+0200")]
    for seed, (started, ended) in enumerate(spans):
        manifest = {**MANIFEST, "started": f"2026-01-02T{started}", "ended": f"2026-01-02T{ended}"}
        write_run(tmp_path, "tiles", "CartPole-v1", seed, 1.0, manifest=manifest)
    write_run(tmp_path, "tiles", "CartPole-v1", 3, 1.0)  # which tells nothing
    write_run(tmp_path, "tiles", "CartPole-v1", 4, 1.0, manifest={**MANIFEST, "ended": "2026-01-02T10:00:00+0000"})
    runs = find_runs([tmp_path]).runs
    assert elapsed(runs) == (20 + 1) * 60
    assert elapsed(runs[3:]) is None


def test_the_page_has_them(tmp_path: Path) -> None:
    claim = load_claim("ten-minutes-classic")
    place = tmp_path / f"{claim.name}-{claim.stamp}"
    for arm, trial, task in claim.tuning_tasks():
        for seed in range(claim.tuning_seeds):
            leave(place / "tuning", task, claim.tuning_first_seed + seed, 100.0 + claim.trials(arm).index(trial))
    chosen = {arm.name: claim.trials(arm)[-1] for arm in claim.arm}
    for task in claim.tasks(chosen):
        leave(place / "runs", task, 0, 200.0)
    page = write_claims(cards([claim.name], tmp_path), tmp_path / "page.html").read_text()
    assert "over the settings tried" in page
    assert page.count(" of play; 1 of 1") > 0
