"""Kernels where nothing can be kept on disk; functions of normal scores against SciPy."""

from __future__ import annotations

from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core.caching import CacheImpl, NullCache
from numba.core.dispatcher import Dispatcher
from scipy import special

from aemodel.inference import density, kernels, likelihood, saddlepoint, selection
from aemodel.inference.kernels import compiled, half_normal_quantile, normal_log_cdf


@pytest.mark.parametrize("module", [density, kernels, likelihood, saddlepoint, selection], ids=lambda m: m.__name__)
def test_kernels_are_kept_on_disk(module):
    """What Numba compiles and cannot keep, every process compiles again."""
    kernels_of = [each for each in vars(module).values() if isinstance(each, Dispatcher)]
    assert kernels_of
    assert [each.__name__ for each in kernels_of if isinstance(each._cache, NullCache)] == []
    assert module.__name__.rpartition(".")[2] in kernels.MODULES


def test_every_module_with_kernels_is_named():
    """Their callers elsewhere would not hear of changes."""
    folder = Path(kernels.__file__).parent
    assert {path.stem for path in folder.glob("*.py") if "@compiled" in path.read_text()} <= set(kernels.MODULES)


def test_kernels_are_compiled_again_when_what_they_call_changes():
    for module in (density, likelihood):
        for kernel in (each for each in vars(module).values() if isinstance(each, Dispatcher)):
            assert kernel._cache._cache_file._source_stamp[1] == kernels._SOURCES


def test_kernels_work_where_nothing_can_be_written(monkeypatch):
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator"):
        numba.njit(cache=True)(kernels.compiled)
    assert compiled(lambda x: 2 * x)(3) == 6


# Functions of normal scores.

SCORES = np.concatenate([np.linspace(-36, 36, 289), [-1e-12, 1e-12, -1e-3, 1e-3]])


def test_normal_log_cdf_is_scipys():
    at = np.concatenate([SCORES, [-1e4, -300.0, -50.0, 0.0]])
    value = np.array([normal_log_cdf(x) for x in at])
    np.testing.assert_allclose(value, special.log_ndtr(at), rtol=1e-11, atol=0)


def test_half_normal_quantile_is_scipys():
    value = np.array([half_normal_quantile(score) for score in SCORES])
    below, above = np.sqrt(2) * special.erfinv(special.ndtr(SCORES)), -special.ndtri(special.ndtr(-SCORES) / 2)
    np.testing.assert_allclose(value, np.where(SCORES < 0, below, above), rtol=1e-11, atol=0)
    assert half_normal_quantile(-60.0) == pytest.approx(0, abs=1e-12)
    assert half_normal_quantile(1e3) == pytest.approx(1e3, abs=1e-3)
