"""One run under a limit on the size of files, for a process of its own: `python limited.py OUT BYTES ...`.

Every limit gets a run in OUT/BYTES; a line of JSON tells of each what ended it.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from qladder.envs.errors import StorageError
from qladder.runners import train

RUN = {"steps": 1_200, "log_every": 10, "eval_every": 400, "checkpoint_every": 100}


def main(out: Path, *limits: int) -> None:
    for limit in limits:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            train("q-learning", "CliffWalking-v1", settings={"run": RUN}, out=out / str(limit), name="run")
            ended = "finished"
        except StorageError as error:
            ended = str(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(json.dumps([limit, ended]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
