"""Shapes that docstrings state of arrays, as "(cell, state)", looked at in every call while public functions work.

A docstring says them of arguments and attributes behind the name, as "``p`` (cell, state)", or first thing in the name's entry;
all others in its first paragraph, or else under Returns, are the result's, in order: one for each array, or one for all.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from contextlib import contextmanager
from functools import cached_property, wraps
from importlib import import_module
from types import FunctionType, GeneratorType

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib import pyplot

import aemodel
from aemodel.answers.equation import model_equation
from aemodel.inference.approximation import approximation_range
from aemodel.inference.posterior import prepared
from aemodel.scoring.eager import as_frame, read_sets
from tests.fixtures import FIXTURES
from tests.publications import EVIDENCE, LEVELS, publication_texts
from tests.reports import drawn_model
from tests.test_any_table import rare, trial

ARRAYS = (np.ndarray, xr.DataArray, pd.Index, pd.Series)
DIM = r"(?:[a-z]+(?: [a-z]+)?(?: \+ \d)?|\d)"
SHAPE = rf"\(({DIM},|{DIM}(?:, {DIM})+)\)"
NAMED = re.compile(rf"((?:``\w+``(?:,|\s+and|\s+or)\s+)*``\w+``)(?:\s+is|\s+are)?\s+{SHAPE}")
ENTRY = re.compile(rf"^(\w+)\n    (?:(?!^\w).)*?{SHAPE}", re.M | re.S)


def stated(doc):
    """Dimensions of arguments or attributes, by name, and of results."""
    doc = inspect.cleandoc(doc or "")
    section = dict(re.findall(r"^(\w+)\n-+\n(.*?)(?=\n\n\w+\n-+\n|\Z)", doc, re.M | re.S))
    named = {name: shape for names, shape in NAMED.findall(doc) for name in re.findall(r"``(\w+)``", names)}
    named |= dict(ENTRY.findall(section.get("Parameters", section.get("Attributes", ""))))
    found = [re.findall(SHAPE, NAMED.sub("", text)) for text in (doc.split("\n\n")[0], section.get("Returns", ""))]
    return {name: dims_of(shape) for name, shape in named.items()}, [dims_of(shape) for shape in found[0] or found[1]]


def dims_of(shape):
    return shape.removesuffix(",").split(", ")


def check(what, dims, array, sizes):
    """Names stand for one size each throughout a call."""
    if not isinstance(array, ARRAYS) or not array.size:
        return
    there = [(*dim.partition(" + "), size) for dim, size in zip(dims, array.shape, strict=False)]
    told = [int(name) if name.isdigit() else sizes.setdefault(name, size - int(more or 0)) for name, _, more, size in there]
    fits = tuple(size + int(more or 0) for size, (_, _, more, _) in zip(told, there, strict=True)) == array.shape
    assert fits, f"{what}: {array.shape} is not ({', '.join(dims)}) where {sizes}"
    assert not isinstance(array, xr.DataArray) or array.dims == tuple(dims), f"{what}: {array.dims} is not {dims}"


def arrays_in(value):
    if isinstance(value, tuple):
        return [array for each in value for array in arrays_in(each)]
    return [value] if isinstance(value, ARRAYS) else []


def check_result(what, dims, value, sizes):
    """The result; of a list, and of a generator, each of what is in it by itself."""
    if isinstance(value, GeneratorType):
        return (check_result(what, dims, each, dict(sizes)) for each in value)
    if isinstance(value, list):
        return [check_result(what, dims, each, dict(sizes)) for each in value]
    arrays = arrays_in(value)
    assert len(dims) in (1, len(arrays)) or not arrays, f"{what}: {len(arrays)} arrays, shapes are stated of {len(dims)}"
    for shape, array in zip(dims if len(dims) > 1 else dims * len(arrays), arrays, strict=False):
        check(what, shape, array, sizes)
    return value


def sizes_of(value):
    """Sizes that an object's attributes have."""
    sizes = {}
    for name, dims in stated(type(value).__doc__)[0].items():
        check(f"{type(value).__qualname__}.{name}", dims, getattr(value, name), sizes)
    return sizes


def looked_at(function, called):
    """A function, or an __init__ or __new__ of a class that states shapes, that looks at what it gets and gives."""
    named, dims = stated(function.__doc__)
    what, signature = f"{function.__module__}.{function.__qualname__}", inspect.signature(function)
    if not named and not dims:
        return function
    called[what] = 0

    @wraps(function)
    def looking(*args, **options):
        called[what] += 1
        bound = signature.bind(*args, **options).arguments
        sizes = sizes_of(bound.get("self"))
        for name, shape in named.items():
            check(f"{what}: {name}", shape, bound.get(name), sizes)
        return check_result(what, dims, function(*args, **options), sizes) if dims else function(*args, **options)

    return looking


def maker(cls, called):
    """How objects of a class are made, if it states shapes of their attributes, looking at these."""
    how = "__new__" if issubclass(cls, tuple) else "__init__"
    make, what = getattr(cls, how), f"{cls.__module__}.{cls.__qualname__}"
    called[what] = 0

    @wraps(make)
    def looking(first, *args, **options):
        called[what] += 1
        made = make(first, *args, **options)
        sizes_of(first if made is None else made)
        return made

    return how, looking


@contextmanager
def looking():
    """How often each function and class that states shapes is called."""
    names = [each.name for each in pkgutil.walk_packages(aemodel.__path__, "aemodel.") if "__main__" not in each.name]
    modules, called = [aemodel, *map(import_module, names)], {}
    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            own = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
            for value in own:
                if isinstance(value, FunctionType) and (new := looked_at(value, called)) is not value:
                    for where in modules:
                        for name in [name for name, there in vars(where).items() if there is value]:
                            patch.setattr(where, name, new)
            for cls in filter(inspect.isclass, own):
                for name, value in list(vars(cls).items()):
                    if isinstance(value, FunctionType):
                        patch.setattr(cls, name, looked_at(value, called))
                    elif isinstance(value, property):
                        patch.setattr(cls, name, property(looked_at(value.fget, called)))
                    elif isinstance(value, cached_property):
                        patch.setattr(cls, name, new := cached_property(looked_at(value.func, called)))
                        new.__set_name__(cls, name)
                if stated(cls.__doc__)[0]:
                    patch.setattr(cls, *maker(cls, called))
        yield called


def ask(model, patients):
    """Everything that is answered of a model."""
    aemodel.posterior_epred(model, patients)
    aemodel.posterior_predict(model, patients, seed=1)
    aemodel.risk_table(model, patients, why=True)
    aemodel.profile_table(model, ["arm"])
    aemodel.score(model, patients)
    aemodel.score_cohort(model, patients, by="arm")
    aemodel.contrast_table(model, {"arm": "high"}, {"arm": "low"})
    aemodel.odds_ratio_table(model)
    aemodel.calibration_table(model)
    aemodel.calibration_slopes(model, seed=1, replicates=20)
    aemodel.differences_table(model)
    aemodel.ordering_table(model)
    aemodel.selection_table(model)
    aemodel.prior_predictive_table(model)
    for of in ("risks", "effects"):
        aemodel.identification_table(model, of=of)
    aemodel.robustness_table(model, patients)
    aemodel.sensitivity_table(model)
    aemodel.table_uncertainty(model, tables=2, draws=4, seed=1)
    aemodel.plot_identification(model)
    aemodel.plot_effects(model, covariate="arm")
    pyplot.close("all")
    model_equation(model)


def test_arrays_have_the_shapes_that_docstrings_state(invented_patients, tmp_path):
    """All of some hundred functions and classes that state any are called, so that none escapes by being of no use here."""
    patients = invented_patients[list(LEVELS)].head(3).assign(arm=[None, "low", "high"])
    one = {name: levels[0] for name, levels in LEVELS.items()} | {"event": "rash", "grade": "3-5"}
    texts = publication_texts(invented_patients, evidence=EVIDENCE)
    intervals = trial(["rash,3-5,arm,a,20,<5", "rash,3-5,arm,b,20,6-8"], "rash,Rash,,,3-5,all")
    assessed = trial(["rash,3-5,arm,a,17,4", "rash,3-5,arm,b,15,5"], "rash,Rash,,,3-5,own")
    with looking() as called:
        model = drawn_model(texts, chains=2, draws=20)
        ask(model, patients)
        aemodel.validate(model, pd.DataFrame([one | {"n": 20, "count_low": 3, "count_high": 4}]))
        aemodel.bounds_table(model.tables, patients.tail(1))
        aemodel.pymc_model(model.tables)
        aemodel.write_calculator(model, tmp_path / "page.html")
        aemodel.p_value_table(printed := aemodel.load_tables("aall1331"))
        of_age = {"age": 9, "relapse_site": "bm", "months_to_relapse": 20, "sex": None, "race_ethnicity": None}
        read_sets(as_frame(pd.DataFrame([of_age]).astype({"sex": "object"})), printed.covariates)
        aemodel.margin_loglik([[0.5, 0.5]], [10], np.array([[[0], [1]]]), [5])
        prepared(model.tables, invented_patients.head(60), "subset", seed=1)
        for tables in (intervals, assessed, rare(0, 1, 0, 1), model.tables):
            density = prepared(tables, None, None, seed=1).density
            density(density.start)
        approximation_range(density.design, density.known[0].term, density.prior(2, seed=1))
        for saved in (2, 3):
            aemodel.risk_table(aemodel.load_model(FIXTURES / f"format{saved}"), patients)
        aemodel.posterior_predict(aemodel.load_model(FIXTURES / "format3"), patients, seed=1)
    assert [name for name, times in called.items() if not times] == []
