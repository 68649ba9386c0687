"""The wheel holds all of qladder and nothing under a generic name; every dependency is pinned."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("envs", "replay", "agents", "runners", "configs")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that the checkout stays clean, unpacked as an installer unpacks it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in (*PACKAGES, "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def test_only_qladder_is_at_the_top(installed: Path) -> None:
    version = PROJECT["project"]["version"]
    assert {path.name for path in installed.iterdir()} == {"qladder", f"qladder-{version}.dist-info"}


def test_every_file_of_the_packages_is_inside(installed: Path) -> None:
    """All that lies in the package folders: modules, TOML, HTML, py.typed and what may come later."""
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "runners/report.html" in expected
    assert "envs/py.typed" in expected
    inside = installed / "qladder"
    assert {path.relative_to(inside).as_posix() for path in inside.rglob("*") if path.is_file()} == expected


def test_the_command_points_at_a_module_inside(installed: Path) -> None:
    distribution = Distribution.at(next(installed.glob("*.dist-info")))
    (command,) = distribution.entry_points.select(group="console_scripts")
    assert command.name == "qladder"
    assert (installed / f"{command.module.replace('.', '/')}.py").is_file()


def test_installed_it_is_found_as_qladder_only(installed: Path) -> None:
    names = [f"qladder.{package}" for package in PACKAGES]
    found = origins(installed, [*names, "qladder.envs.spec", *PACKAGES])
    for name in (*names, "qladder.envs.spec"):
        assert (found[name] or "").startswith(str(installed / "qladder")), name
    assert {package: found[package] for package in PACKAGES} == dict.fromkeys(PACKAGES)


def origins(target: Path, names: list[str]) -> dict[str, str | None]:
    """Where an interpreter without site-packages (hence without the editable install) finds each name in `target`."""
    code = (
        "import importlib.util, json, sys; target, *names = sys.argv[1:]; sys.path.insert(0, target); "
        "specs = {name: importlib.util.find_spec(name) for name in names}; "
        "print(json.dumps({name: spec and (spec.origin or 'namespace') for name, spec in specs.items()}))"
    )
    command = [sys.executable, "-I", "-S", "-c", code, str(target), *names]
    done = subprocess.run(command, cwd=target.parent, capture_output=True, text=True, check=True)
    found: dict[str, str | None] = json.loads(done.stdout)
    return found


def test_every_direct_dependency_is_pinned() -> None:
    def name(requirement: str) -> str:
        return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]).lower()

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {name(line) for line in lines if re.fullmatch(r"[\w.-]+==[\w.]+", line)}
    wanted = [
        *PROJECT["build-system"]["requires"],
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["dev"],
    ]
    assert {name(requirement) for requirement in wanted} - pins == set()
    assert len(pins) == len(lines), "each line of constraints.txt is one exact version, without a local '+' part"
