"""What is compiled can be kept on disk; functions of normal scores against SciPy."""

from __future__ import annotations

from types import SimpleNamespace

import numba
import numpy as np
import nutpie
import pytensor
import pytensor.tensor as pt
import pytest
from numba.core.caching import CacheImpl
from pytensor.graph.basic import Constant
from pytensor.link.numba.dispatch.basic import numba_funcify_and_cache_key
from scipy import special, stats

from aemodel.inference import kernels
from aemodel.inference.design import all_margins, make_design
from aemodel.inference.evidence import choose_evidence
from aemodel.inference.kernels import LARGEST_CONSTANT, compiled, held
from aemodel.inference.model import build_model
from aemodel.inference.normal import half_normal_quantile, normal_log_cdf
from aemodel.inference.own_patients import make_own_profiles

# Compiled functions that PyTensor keeps on disk.


def rewritten(model, monkeypatch):
    """The graphs that nutpie compiles, of the log density with its gradient and of the other variables, not compiled."""
    monkeypatch.setattr(numba, "cfunc", lambda *_, **__: lambda _: SimpleNamespace(address=0))
    made = nutpie.compile_pymc_model(model)
    return made.logp_func.maker.fgraph, made.expand_func.maker.fgraph


def without_key(graph):
    return [str(node) for node in graph.apply_nodes if numba_funcify_and_cache_key(node.op, node=node)[1] is None]


def not_embedded(graph):
    """Constants that Numba refers to by their address."""
    arrays = [(str(v), v.data) for v in graph.variables if isinstance(v, Constant) and isinstance(v.data, np.ndarray)]
    whole = [a.nbytes <= LARGEST_CONSTANT and (a.flags.c_contiguous or a.flags.f_contiguous) for _, a in arrays]
    return [name for (name, _), fits in zip(arrays, whole, strict=True) if not fits]


@pytest.mark.parametrize("name", ["invented_evidence", pytest.param("aall1331", marks=pytest.mark.slow)])
def test_every_node_of_the_log_density_can_be_kept_on_disk(name, request, invented_patients, monkeypatch):
    tables = request.getfixturevalue(name)
    design = make_design(tables)
    own = make_own_profiles(tables, design, invented_patients[:50], "disjoint") if name == "invented_evidence" else None
    evidence = choose_evidence(tables, "both", True)
    model = build_model(design, all_margins(design, tables.frequencies), evidence, own=own, power=0.5)
    for graph in rewritten(model, monkeypatch):
        assert len(graph.apply_nodes) > 10
        assert without_key(graph) == []
        assert not_embedded(graph) == []


def test_arrays_too_large_to_embed_are_data_and_others_are_in_one_piece():
    strided = np.arange(20.0).reshape(10, 2).T[1]
    assert held(strided).data.flags.c_contiguous
    large = np.random.default_rng(1).normal(size=(LARGEST_CONSTANT // 80 + 1, 10))
    assert not isinstance(held(large), Constant)
    np.testing.assert_array_equal(held(large).get_value(), large)
    assert held(large).name != held(large + 1).name


def test_kernels_work_where_nothing_can_be_written(monkeypatch):
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator"):
        numba.njit(cache=True)(kernels.source_key)
    assert compiled(lambda x: 2 * x)(3) == 6


# Functions of normal scores.

SCORES = np.concatenate([np.linspace(-36, 36, 289), [-1e-12, 1e-12, -1e-3, 1e-3]])


def value_and_gradient(function, at):
    x = pt.dvector()
    y = function(x)
    return pytensor.function([x], [y, pytensor.grad(y.sum(), x)], mode="FAST_COMPILE")(at)


def test_normal_log_cdf_is_scipys():
    at = np.concatenate([SCORES, [-1e4, -300.0, -50.0, 0.0]])
    value = np.array([normal_log_cdf(x) for x in at])
    np.testing.assert_allclose(value, special.log_ndtr(at), rtol=1e-11, atol=0)


def test_half_normal_quantile_and_its_gradient_are_scipys():
    value, gradient = value_and_gradient(half_normal_quantile, SCORES)
    below, above = np.sqrt(2) * special.erfinv(special.ndtr(SCORES)), -special.ndtri(special.ndtr(-SCORES) / 2)
    expected = np.where(SCORES < 0, below, above)
    np.testing.assert_allclose(value, expected, rtol=1e-11, atol=0)
    slope = np.exp(stats.norm.logpdf(SCORES) - stats.halfnorm.logpdf(expected))
    np.testing.assert_allclose(gradient, slope, rtol=1e-11, atol=0)


def test_half_normal_quantile_is_zero_far_below_and_nearly_its_score_far_above():
    value, gradient = value_and_gradient(half_normal_quantile, np.array([-60.0, 1e3]))
    np.testing.assert_allclose(value, [0, 1e3], atol=1e-3)
    np.testing.assert_allclose(gradient, [0, 1], atol=1e-3)
