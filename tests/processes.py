"""The command line in a process of its own, and a package from outside the repository for it to use."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

OUTSIDE = '''
from dataclasses import dataclass
from typing import ClassVar
import gymnasium, numpy as np
from gymnasium import spaces

class Corridor(gymnasium.Env):
    """Walk right five times; `bad` breaks step 40 of all."""
    observation_space, action_space = spaces.Discrete(6), spaces.Discrete(2)
    def __init__(self, bad=None):
        self.bad, self.steps = bad, 0
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return 0, {}
    def step(self, action):
        self.steps += 1
        if self.bad and self.steps == 40:
            if self.bad == "raises":
                raise RuntimeError("the floor gave way")
            return self.at, float("nan"), False, False, {}
        self.at = max(0, self.at + (1 if action else -1))
        return self.at, float(self.at == 5), self.at == 5, False, {}

gymnasium.register("Corridor-v0", entry_point=Corridor, max_episode_steps=30)

def doubled(env):
    return gymnasium.wrappers.TransformReward(env, lambda r: 2 * r)

@dataclass(frozen=True)
class RightConfig:
    replay: ClassVar = None
    stubborn: bool = True

class Right:
    """Always goes right."""
    Config, batched = RightConfig, False
    def __init__(self, config, spec, *, seed, device): pass
    def act(self, obs, first, explore): return 1, None
    def observe(self, step): pass
    def learn(self, k): return {}
    def health(self): return {}
    def state_dict(self): return {}
    def load_state_dict(self, state): pass
'''


def qladder(*arguments: str, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qladder.runners", *arguments],
        cwd=cwd,
        env=environment(cwd),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def hanging(folder: Path) -> str:
    """Puts the environments of `hanging` where a process that is at work in `folder` finds them."""
    (folder / "hanging.py").write_text((Path(__file__).parent / "hanging.py").read_text())
    return "hanging"


def stopped(number: int, *arguments: str, cwd: Path, ready: Path, times: int = 1) -> tuple[int, str]:
    """Sends the signal so many times once there is something in `ready`; exit status and standard error."""
    command = [sys.executable, "-m", "qladder.runners", *arguments]
    process = subprocess.Popen(
        command, cwd=cwd, env=environment(cwd), stderr=subprocess.PIPE, text=True, preexec_fn=_heed_signals
    )
    deadline = time.monotonic() + 60
    while not (ready.exists() and ready.stat().st_size):
        assert time.monotonic() < deadline
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise AssertionError(f"it ended with {process.wait(0.05)}")
    for _ in range(times):
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1 if times > 1 else 0)
    _, error = process.communicate(timeout=30)
    return process.returncode, error


def _heed_signals() -> None:
    """Who runs the tests may ignore them, as under nohup or in the background, and processes inherit that."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def environment(cwd: Path) -> dict[str, str]:
    path = os.pathsep.join([str(cwd), *filter(None, [os.environ.get("PYTHONPATH")])])  # the tree that is tested
    return {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"}
