"""How this package's kernels are compiled: once, by Numba, and kept on disk.

Also what they all do with symmetric positive definite matrices of a few rows: factor, solution and inverse; and the sum
of a geometric series, and of numbers blended from others, with derivatives; and two functions of normal scores.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numba
import numpy as np

MODULES = ("density", "integer_tables", "kernels", "levels", "likelihood", "saddlepoint", "selection")
"""Where kernels are; they call each other."""
ROOT_2 = math.sqrt(2)
LOG_ROOT_2_PI = 0.5 * math.log(2 * math.pi)
FAR = -30.0
"""Below this the distribution function is near the smallest of floats, and its asymptotic series exact to rounding."""
_SOURCES = zlib.crc32(b"".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in MODULES))


def compiled(function):  # type: ignore[no-untyped-def]
    """A kernel compiled once, and kept on disk wherever Numba may write, until any of `MODULES` is another."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        kernel = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's can be written to
        return numba.njit(**options)(function)
    # Numba looks at the kernel's own file alone, and would go on with old versions of what it calls in others.
    kept = kernel._cache._cache_file
    kept._source_stamp = (kept._source_stamp, _SOURCES)
    return kernel


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


@compiled
def geometric_sum(t, width, moments):  # type: ignore[no-untyped-def]
    """Log of sum_u exp(u t), u from 0 to width - 1, with its first three derivatives in t in place."""
    ratio = np.exp(-abs(t))
    weight = 1.0
    total = first = second = third = 0.0
    for u in range(width):
        total += weight
        first += u * weight
        second += u * u * weight
        third += u * u * u * weight
        weight *= ratio
        if weight < 1e-18:
            break
    mean = first / total
    moments[1] = second / total - mean * mean
    moments[2] = third / total - mean * (3 * moments[1] + mean * mean)
    if t > 0:
        moments[0] = width - 1 - mean
        moments[2] = -moments[2]
        return np.log(total) + t * (width - 1)
    moments[0] = mean
    return np.log(total)


@compiled
def blended(solved, offset, blend, weights):  # type: ignore[no-untyped-def]
    """Log of the sum over points of what they are blended from, and its derivatives by nodes, in place."""
    nodes = solved.size
    values, largest = offset.copy(), -np.inf
    for i in range(offset.size):
        for k in range(nodes):
            values[i] += blend[i * nodes + k] * solved[k]
        largest = max(largest, values[i])
    if not np.isfinite(largest):
        return -np.inf
    total = 0.0
    for i in range(offset.size):
        values[i] = np.exp(values[i] - largest)
        total += values[i]
    for i in range(offset.size):
        for k in range(nodes):
            weights[k] += values[i] / total * blend[i * nodes + k]
    return largest + np.log(total)


@compiled
def normal_log_cdf(x):  # type: ignore[no-untyped-def]
    """Log of P(X < x), X standard normal."""
    if x > 0:
        return np.log1p(-0.5 * math.erfc(x / ROOT_2))
    if x > FAR:
        return np.log(0.5 * math.erfc(-x / ROOT_2))
    r = 1 / (x * x)
    return -0.5 * x * x - np.log(-x) - LOG_ROOT_2_PI + np.log1p(-r * (1 - 3 * r * (1 - 5 * r * (1 - 7 * r * (1 - 9 * r)))))


@compiled
def half_normal_quantile(z):  # type: ignore[no-untyped-def]
    """The h with P(|X| < h) = P(X < z), by Newton's method.

    Below z = 0 on erf, from below; above, on the logarithm of the upper tail. Both are concave, so that no step after the
    first goes beyond the root.
    """
    if z <= 0:
        wanted = 0.5 * math.erfc(-z / ROOT_2)
        h = wanted * math.sqrt(math.pi / 2)
    else:
        wanted = normal_log_cdf(-z) - math.log(2)
        h = z + 0.7 / (1 + z)
    for _ in range(50):
        if z <= 0:
            step = (math.erf(h / ROOT_2) - wanted) * math.sqrt(math.pi / 2) * np.exp(0.5 * h * h)
        else:
            tail = normal_log_cdf(-h)
            step = (wanted - tail) * np.exp(tail + 0.5 * h * h + LOG_ROOT_2_PI)
        h -= step
        if abs(step) <= 1e-9 * h:  # the next one would be its square
            break
    return h
