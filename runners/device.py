"""What a run computes on: CPU or GPU, how many threads, and how much memory there is for its replay."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from qladder.envs.errors import UserError
from qladder.runners.config import Config
from qladder.runners.memory import available


def set_up_torch(config: Config) -> str:
    """Sets torch's threads where the agent uses torch, and says which device it gets; on a GPU sums in one order."""
    if not _uses_torch(config):
        if config.run.device == "cuda":
            raise UserError(f"run.device = 'cuda': {config.agent_name} computes on the CPU")
        return "cpu"
    import torch

    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    if config.run.device == "cuda" and not torch.cuda.is_available():
        raise UserError("run.device = 'cuda': torch finds no CUDA device here; auto or cpu work")
    if config.run.device == "cpu" or not torch.cuda.is_available():
        return "cpu"
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS begins
    torch.backends.cudnn.deterministic = True
    return "cuda"


def torch_threads(config: Config) -> int:
    """How many threads the run's arithmetic has."""
    if not _uses_torch(config):
        return 1
    import torch

    return torch.get_num_threads()


@contextlib.contextmanager
def flushed_denormals(config: Config) -> Iterator[None]:
    """Meanwhile torch takes for 0 what is too small to be a normal number; from here on, in threads it has not started.

    Gradients and averages that fade to nothing would slow arithmetic down tenfold and more.
    """
    if not _uses_torch(config):
        yield
        return
    import torch

    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def gpu_name(device: str) -> str | None:
    """The GPU that `device` is; None for a CPU."""
    if device != "cuda":
        return None
    import torch

    return torch.cuda.get_device_name()


def free_for_replay(config: Config, device: str) -> int | None:
    """Bytes that are free where the replay lies: a GPU's own memory, unless observations are compressed."""
    if device != "cuda" or config.replay is None or config.replay.compression != "none":
        return available()
    import torch

    return int(torch.cuda.mem_get_info()[0])


def _uses_torch(config: Config) -> bool:
    return bool(getattr(config.agent, "uses_torch", config.replay is not None))
