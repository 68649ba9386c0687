"""One run whose memory is limited, for a process of its own: `python hungry.py BYTES ARGUMENT ...` of the command line.

The limit is what the process takes once everything is imported, and so many bytes more.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch

from qladder.runners import training  # noqa: F401  (with what it imports)
from qladder.runners.cli import main

if __name__ == "__main__":
    torch.ones(9, 9, requires_grad=True).mm(torch.ones(9, 9)).sum().backward()  # starts its threads
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + int(sys.argv[1]), resource.RLIM_INFINITY))
    main(sys.argv[2:])
