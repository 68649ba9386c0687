"""The command that puts claims to the test."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from qladder.envs.errors import UserError
from qladder.runners.command_line import STATUS, Json, print_json
from qladder.runners.progress import duration
from qladder.runners.stop import StoppedError

if TYPE_CHECKING:
    from qladder.runners.claims import Card


def claims(
    action: Positional[Literal["list", "run", "report"]],
    name: Positional[str | None] = None,
    /,
    *,
    seeds: int | None = None,
    jobs: int | None = None,
    out: Path | None = None,
    retries: int = 0,
    executor: Literal["local", "ray"] = "local",
    mix_code: bool = False,
    json: Json = False,
) -> None:
    """Put what people say about deep learning to the test: experiments with verdicts that anyone can run again.

    Args:
        action: list them with their last verdicts; run what is missing, then report; or report what has been run.
        name: A claim from `qladder claims list`, a TOML file, or all; a report is of all by default.
        seeds: How many seeds; by default the claim's, with fewer of which there is no verdict.
        jobs: Runs side by side; by default one per core.
        out: Folder of the runs and the report; by default runs/claims.
        retries: How often a run that fails is continued from its last checkpoint.
        executor: local: processes on this machine; ray: a Ray cluster (docs/suites.md), with a folder in common.
        mix_code: Take finished runs as they are though modules of yours that they name have changed since.
    """
    from qladder.runners.claim_file import claim_names, load_claim
    from qladder.runners.claim_report import write_claims
    from qladder.runners.claims import OUT, cards, list_claims, write_last
    from qladder.runners.crew import alone
    from qladder.runners.suite import check_retries

    check_retries(retries)
    out = OUT if out is None else out
    if seeds is not None and seeds < 1:
        raise UserError(f"--seeds {seeds}: must be at least 1")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file, not a folder")
    if action == "list":
        told = list_claims(out)
        if json:
            print_json({"claims": told})
        else:
            _print_list(told)
        return
    if action == "run" and name is None:
        raise UserError("claims run needs a NAME: one of qladder claims list, a TOML file, or all")
    one_of_all = name in (None, "all")
    names = claim_names() if name is None or name == "all" else [name]
    for one in names:
        load_claim(one)  # what does not hold together is told before anything runs
    failed: list[str] = []
    how: dict[str, Any] = {"seeds": seeds, "jobs": jobs, "retries": retries, "executor": executor, "mix_code": mix_code}
    if action == "run":
        try:
            for one in names:
                failed += _run(one, one_of_all, out=out, **how)
        except StoppedError as stopped:
            print(f"{stopped}: the runs under way are saved; the same command goes on", file=sys.stderr)
            sys.exit(STATUS[str(stopped)])
    if not out.exists():
        raise UserError(f"--out {out}: no claim has runs there; qladder claims run NAME --out {out}")
    with alone(out / ".report.claim"):
        shown = cards(names, out, only_run=one_of_all)
        if not shown:
            raise UserError(f"--out {out}: no claim has runs there; qladder claims run NAME --out {out}")
        report = write_claims(shown, out / "report.html")
        write_last(shown, out)
    if json:
        print_json({"out": str(out), "report": str(report), "claims": [c.to_json() for c in shown], "failed": failed})
    else:
        _print_verdicts(shown)
        for line in failed:
            print(f"failed: {line}")
        print(f"report: {report}")
    sys.exit(1 if failed else 0)


def _run(name: str, one_of_all: bool, **asked: Any) -> list[str]:
    """What failed of one claim; of all of them, what stops one does not stop the others."""
    from qladder.runners.claims import run_claim

    try:
        return run_claim(name, progress=True, **asked)
    except UserError as error:
        if not one_of_all:
            raise
        return [str(error)]


def _print_verdicts(shown: Sequence[Card]) -> None:
    for card in shown:
        for answer in card.answers:
            outcome = "stale" if card.stale else answer.outcome
            mark = "" if card.stale or answer.among_all else " (not among all questions shown)"
            print(f"{card.claim.name}, {answer.question.name}: {outcome}{mark}: {answer.question.sentence}")
    for card in shown:
        if card.found.others:
            count, first = len(card.found.others), card.found.others[0].folder
            print(f"{card.claim.name}: {count} left out that have other settings than today's: {first}, ...")


def _print_list(told: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("name", min_width=max(len(row["name"]) for row in told))
    for column in ("claim", "said by", "runs", "CPU time", "last verdicts"):
        table.add_column(column, justify="right" if column in ("runs", "CPU time") else "left")
    for row in told:
        seconds = row["cpu_seconds"]
        took = "" if seconds is None else duration(seconds)
        cells = [row["name"], row["claim"], row["said_by"], f"{row['runs']:,}", took, _in_short(row)]
        table.add_row(*[Text(cell) for cell in cells])
    Console().print(table)


def _in_short(row: dict[str, Any]) -> str:
    """How many questions came out how; where none has been asked here, of the runs that are kept, or that none has."""
    here, kept = (Counter(row[name].values()).most_common() for name in ("verdicts", "kept"))
    for counts, where in ((here, ""), (kept, " (kept runs)")):
        if len(counts) > 1 or counts[0][0] not in ("not run", "stale"):
            return ", ".join(f"{count} {outcome}" for outcome, count in counts) + where
    return here[0][0]
