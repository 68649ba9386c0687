"""The README and docs/: their commands are understood, and what they point at is there."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from qladder.runners import cli
from qladder.runners.claim_file import load_claim
from qladder.runners.config import resolve
from qladder.runners.jobs import jobs_of
from qladder.runners.settings import parse_flags
from qladder.runners.shipped import agent_entry
from qladder.runners.suite_file import load_suite

ROOT = Path(__file__).resolve().parent.parent
DONE_ELSEWHERE = ("adding-a-claim.md", "adding-an-agent.md", "adding-an-environment.md")
"""By test_claims.py, test_adding_an_agent.py and test_adding_an_environment.py."""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FILE = re.compile(r"(?:docs|configs|benchmarks|tests|agents|envs|replay|runners)/[\w./-]+\.\w+")


def commands(page: str) -> Iterator[str]:
    """Each `qladder ...` of the page's console blocks, variables put in, remarks and what surrounds it taken off."""
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        variables = {"SLURM_ARRAY_TASK_ID": "3"}
        for line in block.splitlines():
            line = line.removeprefix("$ ")
            if given := re.fullmatch(r'(\w+)="(.*)"', line):
                variables[given[1]] = given[2]
            if called := re.match(r"(?:timeout [^q]*)?qladder (.*)", line):
                yield re.sub(r"\$(\w+)", lambda name, known=variables: known[name[1]], called[1])  # type: ignore[misc]


SHOWN = {
    name: text
    for page in PAGES
    for name, text in re.findall(r"```toml\n# (\S+)\n(.*?)```", page.read_text(), re.DOTALL)
}
"""Files that pages show, by the names that stand in their first lines."""

ALL = [command for page in PAGES if page.name not in DONE_ELSEWHERE for command in commands(page.read_text())]


def test_there_are_commands() -> None:
    assert len(ALL) > 40
    assert {command.split()[0] for command in ALL} == set(cli.COMMANDS)


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.split("  ")[0])
def test_a_command_is_understood(command: str, tmp_path: Path) -> None:
    """Its flags are there, and the agents, settings, presets, suites and claims that it names. Nothing is run."""
    flags, rest = parse_flags(shlex.split(command, comments=True))
    bound = cli._parse(rest)
    assert isinstance(bound, partial)
    given = inspect.signature(bound.func).bind(*bound.args, **bound.keywords).arguments
    if re.search(r"\bmy[-_]|\.\.\.", command):  # the reader's own
        return
    if rest[0] == "train" and not given.get("trained_in"):
        resolve(given.get("agent"), given.get("env"), flags, given.get("config"))
    elif rest[0] == "suite":
        if rest[1] in SHOWN:
            (tmp_path / rest[1]).write_text(SHOWN[rest[1]])
        suite = load_suite(str(tmp_path / rest[1]) if rest[1] in SHOWN else rest[1])
        jobs_of(suite, tmp_path)  # its settings are ones that its agents have
    elif rest[:2] == ["claims", "run"]:
        load_claim(rest[2])
    elif rest[0] == "diff":
        assert {agent_entry(name).name for name in rest[1:]} == set(rest[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_points_at_is_there(page: Path) -> None:
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    if page.name not in DONE_ELSEWHERE:
        named = {name for quoted in re.findall(r"`([^`\n]+)`", text) for name in FILE.findall(quoted)}
        assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_page_is_found_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)\)", PAGES[0].read_text()))
    assert linked == {f"docs/{page.name}" for page in PAGES[1:]}
