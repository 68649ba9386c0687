"""What docs/adding-an-environment.md shows, done: its file written, its commands run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_adding_an_agent import qladder

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "adding-an-environment.md").read_text()
PLANKS = 8


def best(planks: int) -> float:
    """The return of who has so many planks to go; to crawl over one takes two steps on average."""
    return 1.0 if planks == 0 else max(0.8 * best(planks - 1), best(planks - 1) - 2 * 0.05)


def test_the_page_adds_an_environment(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (name,) = re.findall(r"with that file, `(\w+\.py)`:", PAGE)
    (tmp_path / name).write_text(code)
    (block,) = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    commands = [line.split()[1:] for line in block.splitlines() if line.startswith("qladder ")]
    solved, table, deep = (qladder(*command, cwd=tmp_path) for command in commands)
    assert solved["optimal_return"] == pytest.approx(best(PLANKS))
    assert best(PLANKS) == pytest.approx(0.8**3 * (1 - 5 * 0.1))  # walk over three, crawl over five
    neither = max(0.8**PLANKS, 1 - PLANKS * 0.1)  # to walk, or to crawl, all the way
    for result in (table, deep):
        assert neither + 0.01 < result["evaluation"]["exact"] <= solved["optimal_return"] + 1e-9
