"""A suite on a Ray cluster, on loopback: the same results as on this machine alone, also where workers are killed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import environment, qladder
from test_jobs import began, outcome, wait_for

HAS_RAY = importlib.util.find_spec("ray") is not None
SUITE = """
summary = "on ray"
seeds = 3
[[task]]
agent = ["q-learning", "sarsa"]
env = "Taxi-v4"
steps = 150_000
settings.run = { log_every = 5_000, checkpoint_every = 10_000 }
[[task]]
agent = "dqn"
env = "CartPole-v1"
steps = 1_500
settings.run = { learning_starts = 200, log_every = 100, checkpoint_every = 300 }
settings.replay.capacity = 1_000
"""

needs_ray = pytest.mark.skipif(not HAS_RAY, reason="the extra `ray` is not installed")


@pytest.mark.skipif(HAS_RAY, reason="the extra `ray` is installed")
def test_without_ray_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(SUITE)
    result = qladder("suite", "s.toml", "--executor", "ray", "--out", "o", cwd=tmp_path)
    assert result.returncode == 2
    assert "--executor ray: it needs the extra `ray`" in result.stderr
    assert not list((tmp_path / "o").glob("*__s*"))


NODES = """
import sys
from ray.cluster_utils import Cluster
each = {"num_cpus": 1, "object_store_memory": 100_000_000}
cluster = Cluster(initialize_head=True, head_node_args={**each, "include_dashboard": False})
cluster.add_node(**each)
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


@contextlib.contextmanager
def cluster(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two nodes of a core each, on loopback alone, which a token guards."""
    for name, value in {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }.items():
        monkeypatch.setenv(name, value)
    with subprocess.Popen(
        [sys.executable, "-c", NODES],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as nodes:
        assert nodes.stdout is not None
        address = nodes.stdout.readline().strip()
        assert address.startswith("127.0.0.1:"), address
        monkeypatch.setenv("RAY_ADDRESS", address)
        yield
        nodes.communicate("over\n", timeout=60)


@needs_ray
@pytest.mark.slow
def test_a_cluster_of_two_nodes_gives_the_results_of_one_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.toml").write_text(SUITE)
    local = qladder("suite", "s.toml", "--jobs", "2", "--out", "local", cwd=tmp_path, timeout=600)
    assert local.returncode == 0, local.stderr
    with cluster(tmp_path, monkeypatch):
        done = qladder("suite", "s.toml", "--executor", "ray", "--out", "ray", cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "ray") == outcome(tmp_path / "local")


@needs_ray
@pytest.mark.slow
def test_a_run_whose_worker_or_process_is_killed_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.toml").write_text(SUITE)
    local = qladder("suite", "s.toml", "--jobs", "2", "--out", "local", cwd=tmp_path, timeout=600)
    assert local.returncode == 0, local.stderr
    with cluster(tmp_path, monkeypatch):
        suite = began("s.toml", "--executor", "ray", "--out", "ray", "--retries", "2", cwd=tmp_path)
        run = tmp_path / "ray" / "q-learning__Taxi-v4__s0"
        wait_for(lambda: any(run.glob("checkpoints/step-*")), within=120)
        training = int((run / ".lock").read_text().split()[1])
        worker = int(Path(f"/proc/{training}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(worker, signal.SIGKILL)  # Ray's: the process that it had begun goes on, and is waited for
        other = tmp_path / "ray" / "sarsa__Taxi-v4__s2"
        wait_for(lambda: any(other.glob("checkpoints/step-*")), within=120)
        os.kill(int((other / ".lock").read_text().split()[1]), signal.SIGKILL)
        _, said = suite.communicate(timeout=600)
    assert suite.returncode == 0, said
    assert outcome(tmp_path / "ray") == outcome(tmp_path / "local")


@needs_ray
@pytest.mark.slow
def test_a_stop_saves_what_runs_on_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s.toml").write_text(SUITE.replace("150_000", "100_000_000"))
    with cluster(tmp_path, monkeypatch):
        suite = began("s.toml", "--executor", "ray", "--out", "ray", cwd=tmp_path)
        run = tmp_path / "ray" / "q-learning__Taxi-v4__s0"
        wait_for(lambda: any(run.glob("checkpoints/step-*")), within=120)
        suite.send_signal(signal.SIGTERM)
        _, said = suite.communicate(timeout=120)
        assert suite.returncode == 143, said
        manifest = run / "manifest.json"
        wait_for(lambda: '"terminated"' in manifest.read_text(), within=30)
