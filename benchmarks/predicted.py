"""How near predicted weights come to those that were trained: `python benchmarks/predicted.py RUN ...`.

Of runs of a perceptron on pictures of one channel, such as the arm `perceptron` of the claim `redundancy`, for each: of
half of the pixels, by the lot that its evaluation would draw, the share of the squared weights that their prediction
accounts for (1 is all, 0 no more than zeros do), and how alike the weights of pixels side by side are (the mean product
over the mean square).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from pathlib import Path

import torch

from qladder.agents.surgery import changed
from qladder.envs.seeding import integer
from qladder.runners.loading import load_run, make_environment
from qladder.runners.run_folder import provenance

GONE = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", type=Path)
    runs = {run.name: measured(run) for run in parser.parse_args().runs}
    means = {name: sum(run[name] for run in runs.values()) / len(runs) for name in ("accounted_for", "alike")}
    command = "python benchmarks/predicted.py " + " ".join(sys.argv[1:][:1]) + (" ..." if len(runs) > 1 else "")
    print(json.dumps({"command": command, **provenance(), "means": means, "runs": runs}, indent=1))


def measured(run: Path) -> dict[str, float]:
    """Of its newest weights."""
    config, policy = load_run(run)[:2]
    with contextlib.closing(make_environment(config, batched=True)) as env:
        picture = env.spec.obs_shape
    saved = policy.agent.state_dict()["online"].values()
    weights = [w for w in saved if w.dim() == 2]
    first = next(i for i, w in enumerate(weights) if w.shape[1] == math.prod(picture))
    trained = weights[first]
    zero, predicted = (
        changed(kind, GONE, integer(config.run.seed, "stress"), weights, picture)[first]
        for kind in ("zero-pixels", "predict-pixels")
    )
    missing = (zero == 0).all(0)
    error = (trained - predicted)[:, missing].square().sum() / trained[:, missing].square().sum()
    pixels = trained.view(-1, *picture[1:])
    alike = (pixels[:, :, 1:] * pixels[:, :, :-1]).mean() / pixels.square().mean()
    return {"accounted_for": 1 - float(error), "alike": float(alike)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
