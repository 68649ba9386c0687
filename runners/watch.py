"""Shows a run's agent playing, in a window or as a recording."""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qladder.envs.errors import EnvironmentFaultError, UserError
from qladder.envs.seeding import integer
from qladder.envs.spec import Env, TimeStep
from qladder.runners.config import Config
from qladder.runners.evaluation import Policy, evaluation_environment
from qladder.runners.extras import install
from qladder.runners.loading import load_run

Picture = NDArray[np.uint8]  # [height, width, 3]
Recorder = Callable[[Path, Iterable[Picture], float], None]  # to a file, at so many pictures a second

STREAM = "watch"
HARDWARE_RATE = 60  # Atari frames a second
FASTEST = 50.0  # pictures a second; viewers of GIFs slow down shorter delays
USUAL_RATE = 30.0  # pictures a second where an environment names none
LARGEST = 400  # pixels along the longer side of a GIF


def watch(
    run: Path | str, *, record: Path | None = None, episodes: int = 1, seed: int = 0, at: int | None = None
) -> dict[str, Any]:
    """Plays a run's newest good weights by the protocol's evaluation rules, in a window or into `record`.

    A recording has a picture of each episode's start and of the result of each agent step; one that exists is replaced
    once the new one is complete. Closing the window of Atari or Catch ends the episode uncounted. With `at` it is the
    weights that were kept at so many agent steps.

    Returns:
        `run`, `returns` (undiscounted, of the whole episodes), `frames` (pictures shown), `record` (file or None).

    Raises:
        UserError: not a run folder, a recording that cannot be written, no display, or a package that is missing.
    """
    if episodes < 1:
        raise UserError(f"--episodes {episodes}: must be at least 1")
    if seed < 0:
        raise UserError(f"--seed {seed}: must be at least 0")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # it would greet on standard output
    if not has_display():
        if record is None:
            raise UserError("there is no display to open a window on: use --record FILE.gif")
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # else SDL complains on standard error
    recorder = None if record is None else _recorder(record)
    config, policy, _ = load_run(run, at=at)
    camera = camera_of(config, policy.agent.batched, seed, live=record is None)
    film = Film(camera, policy, episodes, seed)
    with contextlib.closing(camera), drawing_errors(config.env.id):
        if recorder is None or record is None:
            _show(film, camera.rate, str(run))
        else:
            part = _part(record)
            try:
                recorder(part, film, camera.rate)
                part.replace(record)
            finally:
                part.unlink(missing_ok=True)
    return {
        "run": str(run),
        "returns": film.returns,
        "frames": film.frames,
        "record": None if record is None else str(record),
    }


class GymCamera(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Takes a picture after each reset and each step; with render mode `human` the environment shows itself."""

    start: Picture | None = None
    end: Picture | None = None

    def reset(self, **kwargs: Any) -> Any:
        result = self.env.reset(**kwargs)
        self.start = self._picture()
        return result

    def step(self, action: Any) -> Any:
        result = self.env.step(action)
        self.end = self._picture()
        return result

    def _picture(self) -> Picture | None:
        return np.array(self.env.render(), np.uint8) if self.render_mode == "rgb_array" else None


class Gym:
    """One Gymnasium environment as evaluation plays it, and its pictures."""

    def __init__(self, config: Config, batched: bool, seed: int, *, live: bool) -> None:
        from qladder.envs import own  # noqa: F401  (registers environments)
        from qladder.envs.gym import BatchEnv, GymEnv, make_gym

        id, env = config.env.id, config.env

        def make(render_mode: str | None) -> gymnasium.Env[Any, Any]:
            return make_gym(
                id,
                config.protocol,
                training=False,
                kwargs=env.evaluation_kwargs,
                wrappers=env.evaluation_wrappers,
                run_seed=config.run.seed,
                render_mode=render_mode,
            )

        with contextlib.closing(make(None)) as bare:
            modes = bare.metadata.get("render_modes", [])
        mode = "human" if live and "human" in modes else "rgb_array"
        if mode not in modes:
            raise UserError(f"environment '{id}' draws no pictures: its render modes are {modes}, rgb_array is needed")
        self._camera = GymCamera(make(mode))
        one = GymEnv(self._camera, id, seed, STREAM)
        self.env: Env = BatchEnv([one]) if batched else one
        self.rate = min(FASTEST, float(self._camera.metadata.get("render_fps") or USUAL_RATE))
        self.close = self.env.close

    @property
    def start(self) -> Picture | None:
        return self._camera.start

    @property
    def end(self) -> Picture | None:
        return self._camera.end


class Atari:
    """One Atari game as evaluation plays it, and the same game in full colour beside it."""

    def __init__(self, config: Config, seed: int) -> None:
        from qladder.envs.atari import AtariScreen

        id, protocol, kwargs = config.env.id, config.protocol, config.env.evaluation_kwargs
        self._game = evaluation_environment(config, True, seed, STREAM, 1)
        self._screen = AtariScreen(id, protocol, integer(seed, STREAM, 0), ram=bool(kwargs))
        self.env: Env = self
        self.spec = self._game.spec
        self.rate = min(FASTEST, HARDWARE_RATE / protocol.frame_skip)
        self.start: Picture | None = None
        self.end: Picture | None = None

    def reset(self) -> Any:
        self.start = self._screen.reset()
        return self._game.reset()

    def step(self, action: Any) -> TimeStep:
        self.start, _, _, _, self.end = self._screen.step(action[0])
        return self._game.step(action)

    def close(self) -> None:
        self._game.close()
        self._screen.close()


def camera_of(config: Config, batched: bool, seed: int, *, live: bool) -> Gym | Atari:
    if config.env.id.startswith("ALE/"):
        return Atari(config, seed)
    return Gym(config, batched, seed, live=live)


class Film:
    """Plays as it is iterated: the picture of an episode's start, then one for every agent step."""

    def __init__(self, camera: Gym | Atari, policy: Policy, episodes: int, seed: int) -> None:
        self._camera, self._policy, self._episodes, self._seed = camera, policy, episodes, seed
        self.returns: list[float] = []
        self.frames = 0

    def __iter__(self) -> Iterator[Any]:
        for picture in self._pictures():
            self.frames += 1
            yield picture

    def _pictures(self) -> Iterator[Picture | None]:
        camera, policy = self._camera, self._policy
        env = camera.env
        policy.reseed(self._seed, STREAM)
        obs = env.reset()
        first: Any = np.ones(1, np.bool_) if policy.agent.batched else True
        running = 0.0
        yield camera.start
        while True:
            obs, reward, _, last, _ = env.step(policy.act(obs, first))
            first = last
            running += float(np.sum(reward))
            yield camera.end
            if np.any(last):
                self.returns.append(running)
                running = 0.0
                if len(self.returns) == self._episodes:
                    return
                yield camera.start


def _recorder(record: Path) -> Recorder:
    """What writes files of that ending; UserError where that would fail."""
    recorders: dict[str, Recorder] = {".gif": _write_gif, ".mp4": _write_mp4}
    if record.suffix.lower() not in recorders:
        raise UserError(f"--record {record}: must end in {' or '.join(recorders)}")
    if not record.parent.is_dir():
        raise UserError(f"--record {record}: there is no folder {record.parent}")
    if record.is_dir():
        raise UserError(f"--record {record}: is a folder")
    try:
        _part(record).touch()
        _part(record).unlink()
    except OSError as error:
        raise UserError(f"--record {record}: cannot be written ({error.strerror})") from error
    if record.suffix.lower() == ".mp4":
        try:
            importlib.import_module("imageio_ffmpeg")
            importlib.import_module("imageio")
        except ModuleNotFoundError as error:
            raise UserError(
                f"--record {record}: MP4 needs the package {error.name} ({install('video')}); or record a .gif"
            ) from error
    return recorders[record.suffix.lower()]


def _part(record: Path) -> Path:
    """What the recording is called until it is complete."""
    return record.with_name(f".{record.stem}.part{record.suffix}")


def _write_gif(path: Path, film: Iterable[Picture], rate: float) -> None:
    """Equal pictures in a row become one that lasts as long; a GIF counts time in hundredths of a second."""

    def images() -> Iterator[Image.Image]:
        for i, picture in enumerate(film):
            image = Image.fromarray(picture)
            image = image.reduce(math.ceil(max(image.size) / LARGEST))
            image.info["duration"] = 10 * (round(100 * (i + 1) / rate) - round(100 * i / rate))  # milliseconds
            yield image

    pictures = images()
    with path.open("wb") as file:  # Pillow would leave its own open after Ctrl-C
        next(pictures).save(file, "GIF", save_all=True, append_images=pictures, loop=0)


def _write_mp4(path: Path, film: Iterable[Picture], rate: float) -> None:
    import imageio.v2 as imageio

    with imageio.get_writer(path, format="FFMPEG", fps=rate, macro_block_size=2) as writer:
        for picture in film:
            height, width = picture.shape[:2]
            writer.append_data(picture[: height // 2 * 2, : width // 2 * 2])  # H.264 wants even sides


def has_display() -> bool:
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _show(film: Iterable[Picture | None], rate: float, title: str) -> None:
    """Environments that show themselves give no pictures: they are only played."""
    window = None
    for picture in film:
        if picture is None:
            continue
        if window is None:
            window = _Window(picture, title)
        if not window.show(picture, 1 / rate):
            break
    if window is not None:
        window.close()


class _Window:
    """A small matplotlib window."""

    def __init__(self, picture: Picture, title: str) -> None:
        import matplotlib.pyplot as plt

        self._plt = plt
        self._figure = plt.figure(num=title, figsize=(4, 4 * picture.shape[0] / picture.shape[1]))
        if self._figure.canvas.required_interactive_framework is None:
            self.close()
            raise UserError("matplotlib can open no window here (it needs tkinter or PyQt): use --record FILE.gif")
        axes = self._figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        self._image = axes.imshow(picture, interpolation="nearest")

    def show(self, picture: Picture, seconds: float) -> bool:
        """False where the user has closed the window."""
        self._image.set_data(picture)
        self._plt.pause(seconds)
        return self._plt.fignum_exists(self._figure.number)

    def close(self) -> None:
        self._plt.close(self._figure)


@contextlib.contextmanager
def drawing_errors(env_id: str) -> Iterator[None]:
    """A missing package or screen is not the environment's fault."""
    try:
        yield
    except EnvironmentFaultError as error:
        cause = error.__cause__
        if isinstance(cause, gymnasium.error.DependencyNotInstalled):
            raise UserError(f"environment '{env_id}' needs pygame to draw: {install('render')}") from cause
        if type(cause).__module__.startswith("pygame"):
            raise UserError(f"environment '{env_id}' cannot draw: {cause}; use --record FILE.gif") from cause
        raise
