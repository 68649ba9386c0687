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

SCRIPTS = sorted((Path(__file__).resolve().parent.parent / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_what_it_imports_is_there(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("qladder"):
            module = importlib.import_module(str(node.module))
            for name in node.names:
                assert hasattr(module, name.name) or importlib.util.find_spec(f"{node.module}.{name.name}"), name.name


@pytest.fixture(scope="module")
def shapes() -> ModuleType:
    (path,) = (script for script in SCRIPTS if script.name == "shapes.py")
    spec = importlib.util.spec_from_file_location("shapes", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
