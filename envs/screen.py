"""What people see of environments that are a few pixels or numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def enlarged(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Grey `[H, W]` as uint8 `[side H, side W, 3]`."""
    return np.repeat(np.kron(picture, np.ones((side, side), np.uint8))[:, :, None], 3, axis=2)
