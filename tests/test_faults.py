"""The faults of the gate (benchmarks/faults.py) still fit the files that they are planted in."""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA: dict[str, Any] = tomllib.loads((ROOT / "benchmarks" / "faults.toml").read_text(encoding="utf-8"))


def syntax(text: str) -> str:
    return ast.dump(ast.parse(text))


@pytest.mark.parametrize("fault", DATA["fault"], ids=lambda fault: fault["name"])
def test_a_fault_fits_its_file_in_one_place(fault: dict[str, Any]) -> None:
    text = (ROOT / fault["file"]).read_text(encoding="utf-8")
    assert text.count(fault["old"]) == 1
    faulty = text.replace(fault["old"], fault["new"])
    parsed, parsed_faulty = map(tomllib.loads if fault["file"].endswith(".toml") else syntax, (text, faulty))
    assert parsed != parsed_faulty
    tests = fault.get("tests") or DATA["covers"][fault["file"]]
    assert [name for name in tests if not (ROOT / name).is_file()] == []


def test_faults_have_names_of_their_own() -> None:
    assert [name for name, count in Counter(f["name"] for f in DATA["fault"]).items() if count > 1] == []


def test_faults_are_enough() -> None:
    assert len(DATA["fault"]) >= 100
    assert {f["file"].partition("/")[0] for f in DATA["fault"]} == {"envs", "replay", "agents", "runners", "configs"}
