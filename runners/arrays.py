"""Files of arrays from whoever: read only if they are what they say, no larger than they are, and plain numbers."""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

PLAIN = "biufSU"  # kinds of dtypes that hold no objects
MOST_DEFLATED = 2**28  # bytes of an array that was deflated; without a limit a small file could fill the memory
DAMAGED = (
    FileNotFoundError,
    NotADirectoryError,
    IsADirectoryError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    RuntimeError,  # an encrypted member
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a file may raise that is not what was written."""


def own_file(path: Path) -> Path:
    """The path; ValueError where a link stands there, which could lead anywhere."""
    if path.is_symlink():
        raise ValueError(f"{path} is a link")
    return path


def check_npz(path: Path) -> None:
    """Looks at the members' headers before anything of them is allocated.

    Raises:
        ValueError, or another of `DAMAGED`: a member is no array of plain numbers or not of the size that it claims.
    """
    with zipfile.ZipFile(own_file(path)) as file:
        for member in file.infolist():
            if not re.fullmatch(r"\w[\w.]*\.npy", member.filename):
                raise ValueError(f"{path} has a member '{member.filename[:80]}'")
            if member.compress_type != zipfile.ZIP_STORED and member.file_size > MOST_DEFLATED:
                raise ValueError(f"{path}: {member.filename} is of {member.file_size:,} bytes, deflated")
            with file.open(member) as entry:
                _check_header(entry, member)


def _check_header(entry: Any, member: zipfile.ZipInfo) -> None:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, _, dtype = readers[np.lib.format.read_magic(entry)](entry)
    if dtype.kind not in PLAIN or dtype.hasobject:
        raise ValueError(f"{member.filename} holds {dtype}, not plain numbers")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != member.file_size - entry.tell():
        raise ValueError(f"{member.filename} says that it is {dtype} {shape}, and is of {member.file_size:,} bytes")
    if member.compress_type == zipfile.ZIP_STORED and member.compress_size != member.file_size:
        raise ValueError(f"{member.filename} is not as long as it says")
