"""The house rules that the source itself can show: layers, flat folders, docstrings, nothing unsafe."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("envs", "replay", "agents", "runners")
PACKAGES = (*LAYERS, "configs")
FOLDERS = tuple(name for name in (*PACKAGES, "tests", "benchmarks") if (ROOT / name).is_dir())
MAY_IMPORT = {layer: set(LAYERS[: i + 1]) for i, layer in enumerate(LAYERS)} | {
    "configs": {"configs"},
    "tests": set(PACKAGES),
    "benchmarks": set(PACKAGES),
}
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_FLAGS = {"weights_only=False", "allow_pickle=True"}


def files(*folders: str) -> Iterator[tuple[str, Path, ast.Module]]:
    """(folder, path, syntax tree) of every Python file under the folders."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield folder, path, ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything imported in a module of `package`, relative and literal dynamic imports too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                yield node.lineno, str(node.args[0].value)


def layering(tree: ast.AST, folder: str) -> list[tuple[int, str]]:
    """Imports that the folder may not have: of a layer to its right, or of a folder by its bare name."""
    wrong = []
    for line, name in imported(tree, f"qladder.{folder}"):
        top, _, rest = name.partition(".")
        if top in PACKAGES or (top == "qladder" and rest.split(".")[0] not in MAY_IMPORT[folder]):
            wrong.append((line, name))
    return wrong


def unsafe(tree: ast.AST) -> list[tuple[int, str]]:
    """Whatever could run code that comes from a file or a string."""
    wrong = [(line, name) for line, name in imported(tree, "qladder.x") if name.split(".")[0] in UNSAFE_MODULES]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
            wrong.append((node.lineno, node.func.id))
        for keyword in node.keywords:
            flag = f"{keyword.arg}={ast.unparse(keyword.value)}"
            if flag in UNSAFE_FLAGS:
                wrong.append((node.lineno, flag))
    return wrong


def located(path: Path, wrong: list[tuple[int, str]]) -> list[str]:
    return [f"{path.relative_to(ROOT)}:{line}: {what}" for line, what in wrong]


def test_every_folder_imports_only_to_its_left() -> None:
    assert [w for folder, path, tree in files(*FOLDERS) for w in located(path, layering(tree, folder))] == []


def test_nothing_outside_the_tests_can_run_foreign_code() -> None:
    folders = [name for name in FOLDERS if name != "tests"]
    assert [w for _, path, tree in files(*folders) for w in located(path, unsafe(tree))] == []


def test_every_module_says_its_job() -> None:
    assert [str(path.relative_to(ROOT)) for _, path, tree in files(*FOLDERS) if not ast.get_docstring(tree)] == []


def test_folders_are_flat_and_configs_is_data() -> None:
    nested = [path for folder, path, _ in files(*FOLDERS) if path.parent != ROOT / folder]
    assert nested == []
    found = [path for path in (ROOT / "configs").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert [p for p in found if p.suffix != ".toml" and p != ROOT / "configs" / "__init__.py"] == []


def test_pyproject_lists_exactly_the_folders_that_hold_code() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {path.parent.name for path in ROOT.glob("[!.]*/*.py")} - {"tests", "benchmarks"}
    assert folders == set(PACKAGES)
    assert sorted(setuptools["packages"]) == sorted(f"qladder.{folder}" for folder in folders)
    assert setuptools["package-dir"] == {f"qladder.{folder}": folder for folder in folders}


@pytest.mark.parametrize(
    ("folder", "source", "wrong"),
    [
        ("replay", "from qladder.envs.spec import Spec", []),
        ("replay", "from qladder.replay import types", []),
        ("replay", "from qladder.agents.agent import Agent", ["qladder.agents.agent.Agent"]),
        ("envs", "def f():\n    import qladder.replay.types", ["qladder.replay.types"]),
        ("agents", "from qladder import envs, runners", ["qladder.runners"]),
        ("agents", "from ..runners import training", ["qladder.runners.training"]),
        ("agents", "from . import td", []),
        ("agents", "from .td import td_error", []),
        ("agents", "import_module('qladder.runners.cli')", ["qladder.runners.cli"]),
        ("runners", "from agents.td import td_error", ["agents.td.td_error"]),
        ("tests", "import replay", ["replay"]),
        ("tests", "from qladder.runners import stats", []),
        ("configs", "from qladder.envs import spec", ["qladder.envs.spec"]),
        ("envs", "import agentspeak, envsubst", []),
    ],
)
def test_the_import_rule_itself(folder: str, source: str, wrong: list[str]) -> None:
    assert [name for _, name in layering(ast.parse(source), folder)] == wrong


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("import pickle", ["pickle"]),
        ("from pickle import load", ["pickle.load"]),
        ("torch.load(f, weights_only=False)", ["weights_only=False"]),
        ("torch.load(f, weights_only=True)", []),
        ("np.load(f, allow_pickle=True)", ["allow_pickle=True"]),
        ("np.load(f, allow_pickle=False)", []),
        ("eval(text)", ["eval"]),
        ("network.eval()", []),
    ],
)
def test_the_safety_rule_itself(source: str, wrong: list[str]) -> None:
    assert [what for _, what in unsafe(ast.parse(source))] == wrong
