"""How this package's kernels are compiled: once, by Numba, and kept on disk.

PyTensor keeps the compiled log density on disk too, if each of its nodes has a key and Numba can embed each of its
constants: arrays in one piece and under a megabyte. One that is not makes every process compile all of it again.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray

LARGEST_CONSTANT = 10**6
"""Bytes of an array that Numba embeds in what it compiles; it refers to larger ones by address, and then keeps nothing."""


def compiled(function):  # type: ignore[no-untyped-def]
    """A kernel compiled once, and kept on disk wherever Numba may write."""
    try:
        return numba.njit(cache=True, error_model="numpy")(function)
    except RuntimeError:  # neither the package's folder nor the user's can be written to
        return numba.njit(error_model="numpy")(function)


def source_key(*files: str) -> int:
    """The key under which PyTensor keeps what calls the kernels of these files: it must change with them."""
    return zlib.crc32(b"".join(Path(file).read_bytes() for file in files))


def held(array: NDArray[Any]) -> Any:
    """An array of any size as the log density may hold it: a constant if Numba can embed it, otherwise data."""
    whole = np.ascontiguousarray(array)
    if whole.nbytes <= LARGEST_CONSTANT:
        return pt.constant(whole)
    return pytensor.shared(whole, name=f"held_{zlib.crc32(whole.tobytes())}_{'x'.join(map(str, whole.shape))}")
