"""The scripts of benchmarks/: what they take from qladder is there."""

from __future__ import annotations

import ast
import importlib.util
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from qladder.runners.run_folder import provenance

SCRIPTS = sorted((Path(__file__).resolve().parent.parent / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_what_it_imports_is_there(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("qladder"):
            module = importlib.import_module(str(node.module))
            for name in node.names:
                assert hasattr(module, name.name) or importlib.util.find_spec(f"{node.module}.{name.name}"), name.name


def script(name: str) -> ModuleType:
    (path,) = (script for script in SCRIPTS if script.name == f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def shapes() -> ModuleType:
    return script("shapes")


@pytest.fixture
def defects(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS[0].parent)
    return script("defects")


def test_contracts_are_of_functions_that_there_are_and_of_their_arguments(shapes: ModuleType) -> None:
    for name, contracts in shapes.CONTRACTS.items():
        for path, (arguments, _) in contracts.items():
            function = reduce(getattr, path.split("."), importlib.import_module(name))
            assert set(arguments) <= set(function.__code__.co_varnames), path


def pair(a: Any, b: Any) -> tuple[Any, Any]:
    del b
    return a, a.sum(0)


@pytest.mark.parametrize(
    ("a", "b", "wrong"),
    [
        (np.zeros((3, 2)), np.zeros(3, int), ""),
        (np.zeros((3, 2)), np.zeros((3, 1), int), r"pair, b: \[B\] int promised, \(3, 1\) found"),
        (
            np.zeros((3, 2)),
            np.zeros(2, int),
            r"pair, b: \[B\] int promised, \(2,\) found beside .*'B': 3",
        ),
        (np.zeros((3, 2)), np.zeros(3), r"pair, b: \[B\] int promised, float64 found"),
        (np.zeros(3), np.zeros(3, int), r"pair, its result\[1\]: \[K\] promised, \(\) found"),
    ],
)
def test_a_contract_holds_or_says_what_does_not(shapes: ModuleType, a: Any, b: Any, wrong: str) -> None:
    call = shapes.checked(pair, {"a": "[B ...]", "b": "[B] int"}, ("[B ...]", "[K]"), "pair")
    if wrong:
        with pytest.raises(shapes.ContractError, match=wrong):
            call(a, b)
    else:
        call(a, b)


@pytest.mark.parametrize(
    ("found", "of", "expected"),
    [
        (2, 30, (0.0082, 0.2207)),
        (0, 30, (0.0, 0.1157)),
        (30, 30, (0.8843, 1.0)),
        (5, 10, (0.1871, 0.8129)),
        (0, 0, (0.0, 1.0)),
    ],
)
def test_a_shares_interval_is_clopper_and_pearsons(
    defects: ModuleType, found: int, of: int, expected: tuple[float, float]
) -> None:
    """Against what R's binom.test prints."""
    assert defects.interval(found, of) == pytest.approx(expected, abs=5e-5)


def test_verdicts_on_checks_and_their_card(defects: ModuleType) -> None:
    """Twenty faults: the checks see two between them, learning four, the tests all but one that learning sees."""
    seen = {"types": {0}, "shapes": {0, 1}, "probe": {1}, "learning": {0, 1, 2, 3}, "tests": set(range(1, 20))}
    rows = [
        {
            "name": f"f{i}",
            "file": "agents/td.py",
            "fault": "it is wrong",
            **{arm: {"says": "seen" if i in those else "", "seconds": 1.0} for arm, those in seen.items()},
        }
        for i in range(20)
    ]
    clean = {arm: {"says": "", "seconds": 1.0} for arm in defects.ARMS}
    told = defects._told(rows, clean, 72)
    assert [(v["outcome"], v["of"]) for v in told["verdicts"]] == [
        ("refuted", (2, 20)),
        ("supported", (16, 20)),
        ("supported", (16, 17)),
    ]
    page = defects.card({**told, "command": "c", **provenance()})
    assert page.count('class="chip') == 3
    assert "20 of 72 faults" in page
    assert "16 of 17: 0.94" in page
