"""The density that is sampled against the PyMC model: value and gradient at random points, parameters and prior."""

from __future__ import annotations

import warnings

import numpy as np
import pymc as pm
import pytest

from aemodel.inference.design import all_margins, make_design
from aemodel.inference.evidence import choose_evidence
from aemodel.inference.model import build_model
from aemodel.inference.own_patients import make_own_profiles
from aemodel.inference.posterior import DIMS, make_density
from aemodel.publication.tables import read_tables
from tests.publications import publication_texts

UNCOMPILED = {"mode": "FAST_COMPILE"}
KINDS = ("all kinds of terms", "counts alone", "three classes of grades", "one class")


@pytest.fixture(scope="module", params=[KINDS[0], *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])])
def both(request, invented_evidence, invented_patients):
    """The density and the PyMC model of the same posterior."""
    tables, options = invented_evidence, {}
    if request.param == KINDS[0]:
        own = make_own_profiles(tables, make_design(tables), invented_patients[:50], "disjoint")
        options = {"evidence": choose_evidence(tables, "both", True), "own": own, "power": 0.5, "prior_scale": 1.7}
    elif request.param != KINDS[1]:
        tables = graded(publication_texts(invented_patients), request.param)
    design = make_design(tables)
    given = design, all_margins(design, tables.frequencies)
    density = make_density(*given, **options)
    return density, build_model(density)


def graded(texts, kind):
    """The invented publication with a class of grades more, or with the outermost only."""
    if kind == KINDS[2]:
        classes = "".join(f'[[grades]]\nname = "{name}"\nlabel = "{name}"\n' for name in ("3-5", "4-5", "5"))
        return read_tables(texts | {"publication.toml": texts["publication.toml"] + "\n" + classes})
    rows = texts["frequencies.csv"].splitlines()
    kept = [row for row in rows if ",4-5," not in row]
    return read_tables(
        texts | {"frequencies.csv": "\n".join(kept) + "\n", "events.csv": texts["events.csv"].replace("3-5 4-5", "3-5")}
    )


def points(density, number=4):
    start, rng = density.start, np.random.default_rng(1)
    return [start + rng.normal(0, 0.4, len(start)) for _ in range(number)]


def by_name(model, x):
    """A flat point as the PyMC model names its values, in the same order."""
    found, end = {}, 0
    for variable in model.value_vars:
        shape = model.initial_point()[variable.name].shape
        found[variable.name] = x[end : end + int(np.prod(shape))].reshape(shape)
        end += found[variable.name].size
    assert end == len(x)
    return found


def test_value_and_gradient_are_the_pymc_models(both):
    density, model = both
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logp, dlogp = model.compile_logp(**UNCOMPILED), model.compile_dlogp(**UNCOMPILED)
    values = []
    for x in points(density):
        value, gradient = density(x)
        expected = by_name(model, x)
        values.append(value - logp(expected))
        np.testing.assert_allclose(gradient, dlogp(expected), rtol=1e-7, atol=1e-7)
    assert np.ptp(values) < 1e-8 * max(1, abs(values[0]))


def test_parameters_are_the_pymc_models(both):
    density, model = both
    with model:
        variables = [model[name] for name in DIMS]
        values = model.replace_rvs_by_values(variables)
        natural = model.compile_fn(values, inputs=model.value_vars, **UNCOMPILED)
    for x in points(density, 2):
        for name, value, expected in zip(DIMS, density.natural(x).values(), natural(by_name(model, x)), strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-12, err_msg=name)
    assert {name: model.named_vars_to_dims[name] for name in DIMS} == DIMS


def test_gradient_is_the_slope_of_the_value(both):
    density, _ = both
    x = points(density, 1)[0]
    _, gradient = density(x)
    for direction in np.random.default_rng(2).normal(size=(5, len(x))):
        ends = [density(x + side * 1e-5 * direction)[0] for side in (-1, 1)]
        assert (ends[1] - ends[0]) / 2e-5 == pytest.approx(direction @ gradient, rel=1e-5, abs=1e-5)


def test_prior_draws_have_the_pymc_models_moments(both):
    """Means and standard deviations of each parameter's square roots of sizes, within five standard errors."""
    density, model = both
    ours = density.prior(2000, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = dict(zip(DIMS, pm.draw([model[name] for name in DIMS], draws=2000, random_seed=2), strict=True))
    for name, expected in theirs.items():
        got = ours[name].to_numpy()[0]
        assert got.shape == expected.shape
        for power in (np.asarray, lambda a: np.sqrt(abs(a))):
            one, other = power(got), power(expected)
            error = np.sqrt((one.var(axis=0) + other.var(axis=0)) / 2000)
            assert (abs(one.mean(axis=0) - other.mean(axis=0)) <= 5 * error + 1e-12).all(), name


def test_prior_draws_are_those_of_their_seed(both):
    density, _ = both
    one, again, other = (density.prior(3, seed) for seed in (1, 1, 2))
    assert one.equals(again)
    assert not any(np.isclose(one[name], other[name]).any() for name in DIMS)


def test_impossible_point_has_no_probability(both):
    density, _ = both
    value, gradient = density(np.full(len(density.start), 1e4))
    assert value == -np.inf
    assert not gradient.any()
