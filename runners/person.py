"""A person in an agent's place: at the keyboard, by the same wrappers and protocol, with a curve like any agent's."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from qladder.agents.schedules import Clocks
from qladder.envs.errors import UserError
from qladder.runners.board import settings_event
from qladder.runners.config import Config, resolve
from qladder.runners.evaluation import training_score, truth
from qladder.runners.extras import install
from qladder.runners.keys import Keys, keys_of
from qladder.runners.lock import RunLock
from qladder.runners.metrics import MetricsLog
from qladder.runners.progress import say
from qladder.runners.record import Record
from qladder.runners.run_folder import curve_point, folder_of, identity, open_folder, write_config, write_summary
from qladder.runners.settings import merge
from qladder.runners.watch import HARDWARE_RATE, Picture, camera_of, drawing_errors, has_display

AGENT = "qladder.runners.person:Person"
LEAST = 400  # pixels along the longer side of the window


@dataclass(frozen=True)
class PersonConfig:
    """Nothing to set."""

    replay: ClassVar[type | None] = None


class Person:
    """What a person's runs name as their agent; no agent that could be trained."""

    Config = PersonConfig
    batched = False

    def __init__(self, config: PersonConfig, spec: Any, *, seed: int, device: str) -> None:
        raise UserError("a person is no agent that can be trained: qladder play ENV")


def play_by_hand(
    env: str,
    *,
    settings: Mapping[str, Any] | None = None,
    who: str = "person",
    minutes: float = 10.0,
    rate: float | None = None,
    out: Path | str = "runs",
    name: str | None = None,
) -> dict[str, Any]:
    """A person plays in a window, until `minutes` of playing or `run.episodes` are over or the window is closed.

    Leaves a run folder: each episode's return is a point of its curve, the score is the mean of the last ones, as many
    as the protocol counts. An episode that is broken off counts for its steps and has no return.

    Args:
        settings: fields by section, as `train` takes them.
        who: what comparisons call the person.
        rate: agent steps a second; by default as fast as the environment is shown, Atari as its console ran.

    Raises:
        UserError: no display, no pygame, an environment that draws no pictures or whose actions are no finite set, or a
            folder that exists.
    """
    if not minutes > 0:
        raise UserError(f"--minutes {minutes:g}: must be above 0")
    if rate is not None and not rate > 0:
        raise UserError(f"--rate {rate:g}: must be above 0 steps a second")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    if not has_display() and "SDL_VIDEODRIVER" not in os.environ:
        raise UserError("there is no display to open a window on")
    config = resolve(AGENT, env, merge(settings or {}, {"run": {"label": who}}))
    folder = folder_of(config, out, name)
    camera = camera_of(config, config.env.id.startswith("ALE/"), config.run.seed, live=False)
    with contextlib.closing(camera), drawing_errors(config.env.id):
        spec = camera.env.spec
        if spec.num_actions is None:
            raise UserError(f"qladder play {env}: its actions are not a finite set, for which there are no keys")
        steps_a_second = HARDWARE_RATE / config.protocol.frame_skip if spec.batched else camera.rate
        game = _Game(config, camera, keys_of(config.env.id, spec.num_actions, config.protocol), rate or steps_a_second)
        with contextlib.closing(_Window(config.env.id)) as window:
            open_folder(folder, resume=False)
            with RunLock(folder) as lock:
                return game.play(folder, window, 60 * minutes, lock)


class _Game:
    """A person's run, from its first picture to its summary."""

    def __init__(self, config: Config, camera: Any, keys: Keys, rate: float) -> None:
        self._config, self._camera, self._keys, self._rate = config, camera, keys, rate
        self._frames_per_step = camera.env.spec.frames_per_step
        self._steps = 0
        self._returns: list[float] = []
        self._curve: list[dict[str, Any]] = []

    def play(self, folder: Path, window: _Window, seconds: float, lock: RunLock) -> dict[str, Any]:
        """Writes the folder; what `qladder play --json` prints."""
        record = Record(folder, identity(self._config, "cpu", 1, None))
        record.begin(self._config, lock)
        with record:
            metrics = MetricsLog(folder)
            metrics.describe(settings_event(self._config))
            say(f"{self._keys.told}; escape ends")
            began = time.monotonic()
            with contextlib.closing(metrics), contextlib.suppress(KeyboardInterrupt):  # as good an end as any
                self._go_on(window, metrics, began, seconds)
            told = self._summary(folder, time.monotonic() - began)
            record.reason = "finished"
        return told

    def _go_on(self, window: _Window, metrics: MetricsLog, began: float, seconds: float) -> None:
        """Until the time or the episodes are over, or the person has enough."""
        env, limit = self._camera.env, self._config.run.episodes
        env.reset()
        running, length, action = 0.0, 0, 0
        window.show(self._camera.start, self._caption(began, seconds))
        while time.monotonic() - began < seconds and (limit is None or len(self._returns) < limit):
            wanted = window.wanted(self._keys, self._rate)
            if wanted is None:
                return
            action = action if wanted == "last" else int(wanted)
            step = env.step(np.array([action]) if env.spec.batched else action)
            self._steps += 1
            running, length = running + float(np.sum(step.reward)), length + 1
            window.show(self._camera.end, self._caption(began, seconds, running))
            if np.any(step.last):
                self._ended(metrics, running, length, time.monotonic() - began)
                running, length, action = 0.0, 0, 0
                window.show(self._camera.start, self._caption(began, seconds))

    @property
    def _clocks(self) -> Clocks:
        return Clocks(self._steps * self._frames_per_step, self._steps, 0)

    def _ended(self, metrics: MetricsLog, episode_return: float, length: int, seconds: float) -> None:
        self._returns.append(episode_return)
        told = {"train/episode_return": episode_return, "train/episode_length": length, "eval/return": episode_return}
        record = metrics.write(self._clocks, len(self._returns), {**told, "time/seconds": seconds})
        self._curve.append(curve_point(record))

    def _summary(self, folder: Path, seconds: float) -> dict[str, Any]:
        config = replace(self._config, run=replace(self._config.run, steps=max(self._steps, 1)))
        counted = self._returns[-config.protocol.evaluation.episodes :]
        score = training_score(config, counted, truth(config), agent_steps=self._steps) if counted else None
        ended: dict[str, Any] = {"episodes": len(self._returns), "exit_reason": "finished"}
        ended |= {"seconds": seconds, "cpu_seconds": time.process_time()}
        write_config(folder, config)
        write_summary(folder, config, {**self._clocks._asdict(), **ended}, score, self._curve)
        return {"run": str(folder), **self._clocks._asdict(), **ended, "returns": self._returns, "evaluation": score}

    def _caption(self, began: float, seconds: float, running: float = 0.0) -> str:
        played = time.monotonic() - began
        last = f", last {self._returns[-1]:g}" if self._returns else ""
        return (
            f"{self._config.env.id}: {running:g} ({len(self._returns)} episodes{last}) "
            f"{int(played // 60)}:{int(played % 60):02d} of {seconds / 60:g} min"
        )


class _Window:
    """A pygame window that shows pictures and tells what keys are held."""

    def __init__(self, title: str) -> None:
        try:
            import pygame
        except ModuleNotFoundError as error:
            raise UserError(f"qladder play needs pygame: {install('render')}") from error
        self._pygame = pygame
        try:
            pygame.display.init()
        except pygame.error as error:
            raise UserError(f"no window can be opened: {error}") from error
        self._clock = pygame.time.Clock()
        self._screen: Any = None
        self._held: set[str] = set()
        pygame.display.set_caption(title)

    def show(self, picture: Picture | None, caption: str) -> None:
        """A picture `[height, width, 3]`, made as large as it need be."""
        pygame = self._pygame
        assert picture is not None  # cameras that record give one after each step
        if self._screen is None:
            factor = max(1, math.ceil(LEAST / max(picture.shape[:2])))
            self._screen = pygame.display.set_mode((picture.shape[1] * factor, picture.shape[0] * factor))
        surface = pygame.surfarray.make_surface(picture.swapaxes(0, 1))
        pygame.transform.scale(surface, self._screen.get_size(), self._screen)
        pygame.display.set_caption(caption)
        pygame.display.flip()

    def wanted(self, keys: Keys, rate: float) -> int | str | None:
        """What to do next, asked so often a second, or "last"; None where the window was closed or escape pressed."""
        if keys.idle != "wait":
            self._clock.tick(rate)
        while True:
            events = [self._pygame.event.wait()] if keys.idle == "wait" else []
            touched = self._listen([*events, *self._pygame.event.get()])
            if touched is None:
                return None
            action = keys.action(touched if keys.idle == "wait" else touched | self._held)
            if action is not None or keys.idle != "wait":
                return keys.idle if action is None else action

    def _listen(self, events: list[Any]) -> set[str] | None:
        """The keys that were pressed, if only for a moment; None where all is over."""
        pygame, pressed = self._pygame, set()
        for event in events:
            if event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE):
                return None
            if event.type == pygame.KEYDOWN:
                name = pygame.key.name(event.key)
                pressed.add(name)
                self._held.add(name)
            elif event.type == pygame.KEYUP:
                self._held.discard(pygame.key.name(event.key))
        return pressed

    def close(self) -> None:
        self._pygame.display.quit()
