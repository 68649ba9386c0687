"""What docs/adding-an-agent.md shows, done: its two files put into a copy of the house, its commands run."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qladder.runners import read_metrics

HOUSE = Path(__file__).resolve().parent.parent
PAGE = (HOUSE / "docs" / "adding-an-agent.md").read_text()


def block(kind: str, number: int = 0) -> str:
    return str(re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[number])


def qladder(*arguments: str, cwd: Path) -> Any:
    """What a command prints as JSON; modules that lie in `cwd` can be imported."""
    result = subprocess.run(
        [sys.executable, "-m", "qladder.runners", *arguments, "--json"],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(cwd)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_page_adds_an_agent(tmp_path: Path) -> None:
    package = tmp_path / "qladder"
    for folder in ("envs", "replay", "agents", "runners", "configs"):
        shutil.copytree(HOUSE / folder, package / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (file,) = re.findall(r"^`(agents/\w+\.py)`:", PAGE, re.MULTILINE)
    (settings,) = re.findall(r"^`(configs/[\w/.-]+)`:", PAGE, re.MULTILINE)
    (package / settings).parent.mkdir()
    (package / file).write_text(block("python", 1))
    (package / settings).write_text(block("toml"))
    commands = [line.split()[1:] for line in block("console", 1).splitlines()]
    assert len(commands) == 4
    agents, difference, one, other = (qladder(*command, cwd=tmp_path) for command in commands)
    assert "mellowmax-q" in agents["agents"]
    assert list(difference["fields"]) == ["agent.sharpness"]
    assert one["evaluation"]["exact"] > 0.3  # random play has 0.014
    assert (tmp_path / other["run"]).is_dir()
    assert other["seed"] == 1
    value = "from qladder.agents.mellowmax_q import mellowmax as m; print(m([0.0, 1.0], 3.0))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    printed = subprocess.run([sys.executable, "-c", value], env=environment, capture_output=True, text=True, check=True)
    assert float(printed.stdout) == pytest.approx(math.log((1 + math.e**3) / 2) / 3)


def own(number: int) -> list[list[str]]:
    """The arguments of the commands in a block that begin by naming this folder."""
    lines = [shlex.split(line) for line in block("console", number).splitlines()]
    assert {tuple(words[:2]) for words in lines} == {("PYTHONPATH=.", "qladder")}
    return [words[2:] for words in lines]


def test_the_page_has_an_agent_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "my_agents.py").write_text(block("python", 0))
    train, greedy, compare = own(0)
    counting, other = qladder(*train, cwd=tmp_path), qladder(*greedy, cwd=tmp_path)
    assert counting["agent_steps"] == 20_000  # past several looks at its health
    assert counting["evaluation"]["exact"] > 0.1 > other["evaluation"]["exact"]  # random play has 0.014
    assert {s["agent"] for s in qladder(*compare, cwd=tmp_path)["scores"]} == {"my_agents:Counting", "greedy"}


def test_the_page_has_a_variant_of_rainbow(tmp_path: Path) -> None:
    (tmp_path / "my_rainbow.py").write_text(block("python", 2))
    diff, train = own(2)
    assert list(qladder(*diff, cwd=tmp_path)["fields"]) == ["agent.temperature", "agent.penalty"]
    run = qladder(*train, cwd=tmp_path)["run"]
    records = read_metrics(tmp_path / run)
    assert {"loss/td", "loss/size"} <= {key for record in records for key in record}
    assert len({record["loss/size"] for record in records if "loss/size" in record}) > 1
