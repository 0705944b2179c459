"""How this package's kernels are compiled: once, by Numba, and kept on disk.

PyTensor keeps the compiled log density on disk too, if each of its nodes has a key and Numba can embed each of its
constants: arrays in one piece and under a megabyte. One that is not makes every process compile all of it again.

Also what they all do with symmetric positive definite matrices of a few rows: factor, solution and inverse.
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


@compiled
def cholesky(matrix):  # type: ignore[no-untyped-def]
    """Lower factor in place of a matrix of which the lower triangle is read; False where it is not positive definite."""
    for j in range(matrix.shape[0]):
        for k in range(j + 1):
            total = matrix[j, k]
            for i in range(k):
                total -= matrix[j, i] * matrix[k, i]
            if j > k:
                matrix[j, k] = total / matrix[k, k]
            elif total > 0.0:
                matrix[j, j] = np.sqrt(total)
            else:
                return False
    return True


@compiled
def cholesky_solve(factor, vector):  # type: ignore[no-untyped-def]
    size = vector.size
    for j in range(size):
        for k in range(j):
            vector[j] -= factor[j, k] * vector[k]
        vector[j] /= factor[j, j]
    for j in range(size - 1, -1, -1):
        for k in range(j + 1, size):
            vector[j] -= factor[k, j] * vector[k]
        vector[j] /= factor[j, j]


@compiled
def inverse(factor):  # type: ignore[no-untyped-def]
    """Inverse of L L' from its lower factor L, by the inverse of L."""
    size = factor.shape[0]
    lower = np.zeros((size, size))
    for j in range(size):
        lower[j, j] = 1.0 / factor[j, j]
        for i in range(j + 1, size):
            total = 0.0
            for k in range(j, i):
                total -= factor[i, k] * lower[k, j]
            lower[i, j] = total / factor[i, i]
    inverse = np.zeros((size, size))
    for j in range(size):
        for k in range(j + 1):
            total = 0.0
            for i in range(j, size):
                total += lower[i, j] * lower[i, k]
            inverse[j, k] = total
            inverse[k, j] = total
    return inverse
