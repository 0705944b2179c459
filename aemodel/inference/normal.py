"""Two functions of normal scores, compiled."""

from __future__ import annotations

import math

import numpy as np

from aemodel.inference.kernels import compiled

ROOT_2 = math.sqrt(2)
LOG_ROOT_2_PI = 0.5 * math.log(2 * math.pi)
FAR = -30.0
"""Below this the distribution function is near the smallest of floats, and its asymptotic series exact to rounding."""


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
