"""Risks of patients and of profiles, and outcomes simulated for patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from aemodel.inference.forward import event_sums, model_states
from aemodel.publication.arguments import whole_number
from aemodel.publication.arrays import Floats, Ints
from aemodel.publication.codes import NewLevels
from aemodel.publication.errors import InputError, wrong_patients
from aemodel.publication.rules import MissingColumns, sets_of
from aemodel.publication.schema import Covariate
from aemodel.publication.tables import Tables
from aemodel.publication.texts import between, listed, shown
from aemodel.scoring.eager import as_frame, read_sets
from aemodel.scoring.risks import SUPPORT, RiskDraws, check_interval, risks_of


def posterior_epred(
    model: Any,
    patients: Any,
    *,
    id_column: str | None = None,
    new_levels: NewLevels = "error",
    missing_columns: MissingColumns = "error",
) -> xr.DataArray:
    """Posterior risk draws of each patient.

    Parameters
    ----------
    model
        From `fit` or `load_model`.
    patients
        A pandas or polars DataFrame or pyarrow Table with a column per covariate (its level, or the raw values the
        publication's rules turn into one). Null and NaN are averaged over the cohort given what is known.
    id_column
        Column that names the patients; otherwise a pandas index, or row numbers, do.
    new_levels
        ``"error"`` refuses levels the publication does not have; ``"sample"`` draws those of open covariates afresh
        from their hierarchy.
    missing_columns
        ``"unknown"`` takes a covariate that no column tells for not known of anybody, instead of an error.

    Returns
    -------
    xarray.DataArray
        Probabilities, dims (chain, draw, patient, event, grade), with the support flag as coordinate ``support``
        (patient, event, grade). Draws are the about 1,000 thinned ones that a saved model keeps.

    Raises
    ------
    TypeError, ValueError
        The frame is not one, has no rows, or its columns or values do not fit.
    """
    risks = risks_of(model)
    profiles, row, names = read_patients(risks.covariates, patients, id_column, new_levels, missing_columns)
    values = risks.risks(profiles)[:, row]
    flags = np.array(SUPPORT)[risks.support(profiles)][row]
    return _as_array(values, risks, names, "risk").assign_coords(support=(("patient", "event", "grade"), flags))


def posterior_predict(
    model: Any,
    patients: Any,
    *,
    seed: int,
    id_column: str | None = None,
    new_levels: NewLevels = "error",
    missing_columns: MissingColumns = "error",
) -> xr.DataArray:
    """Outcomes simulated for each patient from the joint states, so that nested events never contradict each other.

    Parameters
    ----------
    model, patients, id_column, new_levels, missing_columns
        As for `posterior_epred`.
    seed
        The same seed gives the same outcomes.

    Returns
    -------
    xarray.DataArray
        0 or 1 (int8), dims (chain, draw, patient, event, grade). A patient not wholly known is a random member of the
        cohort, afresh in every draw.

    Raises
    ------
    TypeError, ValueError
        As for `posterior_epred`.
    """
    seed = whole_number("seed", seed)
    risks = risks_of(model)
    profiles, row, names = read_patients(risks.covariates, patients, id_column, new_levels, missing_columns)
    rng = np.random.default_rng(seed)
    edges = np.cumsum(risks.weights(profiles), axis=1)
    design, states = model_states(model)
    having = event_sums(design, risks.pairs).astype(bool)
    outcomes = np.empty((len(risks.draws), len(row), len(having)), dtype=np.int8)
    for i, p in enumerate(states):
        # The cell first: an unknown covariate has one value in all of a patient's families.
        cell = _pick(edges, rng.random(len(row)), row)
        hit = np.zeros((len(row), len(having)), dtype=bool)
        for first, end in pairwise(design.edges):
            state = _pick(np.cumsum(p[first:end], axis=0).T, rng.random(len(row)), cell)
            hit |= having[:, first:end][:, state].T
        outcomes[i] = hit
    values = outcomes.reshape(len(outcomes), len(row), len(risks.events), len(risks.grades))
    return _as_array(values, risks, names, "outcome")


def risk_table(
    model: Any,
    patients: Any,
    *,
    interval: float = 0.9,
    id_column: str | None = None,
    new_levels: NewLevels = "error",
    missing_columns: MissingColumns = "error",
    why: bool = False,
) -> pd.DataFrame:
    """One row per patient, event and grade: posterior mean risk, equal-tailed interval and support flag.

    Parameters
    ----------
    model, patients, id_column, new_levels, missing_columns
        As for `posterior_epred`.
    interval
        Probability of the interval, between 0 and 1.
    why
        Also tell what the flag follows from.

    Returns
    -------
    pandas.DataFrame
        Columns patient, event, grade, risk, lower, upper (probabilities), support. With ``why`` also own and pooled (shares of
        what sets the answer apart from the cohort's that the event's own published rows and all others tell, as in
        `identification_table`), moved_by (the known covariate that moves the answer most: in root mean square over draws, so
        that one of which little is known counts by what its effect might be) and published (the event's counts by what is
        known of the patient, ``{count} of {n} {covariate} {level}``, or of the whole cohort where nothing is). The
        interval's probability is in ``attrs["interval"]``.

    Raises
    ------
    TypeError, ValueError
        As for `posterior_epred`, or the interval is not between 0 and 1.
    """
    interval = check_interval(interval)
    risks = risks_of(model)
    profiles, row, names = read_patients(risks.covariates, patients, id_column, new_levels, missing_columns)
    mean, lower, upper = risks.summary(profiles, interval)
    columns = {"risk": mean, "lower": lower, "upper": upper, "support": np.array(SUPPORT)[risks.support(profiles)]}
    columns |= _reasons(risks, model.tables, profiles) if why else {}
    table = long_table({"patient": names, **risks.dims}, {name: values[row] for name, values in columns.items()})
    table.attrs["interval"] = interval
    return table


def long_table(dims: Mapping[str, Any], columns: Mapping[str, Any]) -> pd.DataFrame:
    """A row for each combination of the dims' labels, the last dim fastest; ``columns`` are arrays of these dims."""
    keys = pd.MultiIndex.from_product(dims.values(), names=list(dims))
    return pd.DataFrame({name: np.ravel(values) for name, values in columns.items()}, index=keys).reset_index()


def _reasons(risks: RiskDraws, tables: Tables, profiles: Ints) -> dict[str, NDArray[Any]]:
    """What flags of profiles follow from, each (profile, event, grade)."""
    own, pooled = (
        np.full((2, len(profiles), *risks.published.shape), np.nan) if risks.variances is None else risks.told(profiles)
    )
    names = np.array([*(covariate.name for covariate in risks.covariates), ""])
    texts = np.full(own.shape, "", dtype=object)
    for row in tables.rows:
        if row.event not in risks.events or row.grade not in risks.grades:
            continue
        sets = risks.everything
        for k, bits in (sets_of(risks.covariates, row.covariate, row.level) or {}).items():
            sets[k] = bits
        count = between(row.observed_low, row.observed_high, " to ")
        told = f"{count} of {row.n}" + (f" {row.covariate} {row.level}" if row.covariate != "total" else "")
        everybody = sets == risks.everything
        nothing = (profiles == risks.everything).all(axis=1)
        here = nothing if everybody.all() else ((profiles & ~sets) == 0).all(axis=1)
        place = (here, risks.events.index(row.event), risks.grades.index(row.grade))
        texts[place] = [f"{text}; {told}" if text else told for text in texts[place]]
    return {"own": own, "pooled": pooled, "moved_by": names[risks.moved_by(profiles)], "published": texts}


def read_patients(
    covariates: Sequence[Covariate],
    patients: Any,
    id_column: str | None,
    new_levels: NewLevels = "error",
    missing_columns: MissingColumns = "error",
) -> tuple[Ints, Ints, Any]:
    """Patients' different profiles, sets of levels (profile, covariate) as bits; which is each one's, and what names him."""
    frame = as_frame(patients)
    if not len(frame):
        raise wrong_patients("the frame has no rows")
    names: Any = patients.index if isinstance(patients, pd.DataFrame) else np.arange(len(frame))
    if id_column is not None:
        if id_column not in frame.columns:
            raise InputError("id_column", f"no column {shown(id_column)}; columns are {listed(frame.columns)}")
        names = pd.Index(frame[id_column].to_list())
        if names.hasnans or not names.is_unique:
            again = list(names[names.duplicated()].unique()[:5])
            raise wrong_patients(f"column {shown(id_column)} must name each row once; missing or given twice: {again}")
    sets = read_sets(frame, covariates, new_levels=new_levels, missing_columns=missing_columns)
    return *np.unique(sets, axis=0, return_inverse=True), names


def _as_array(values: NDArray[Any], risks: RiskDraws, names: Any, name: str) -> xr.DataArray:
    shape = (risks.chains, -1, *values.shape[1:])
    coords = {"patient": np.asarray(names), "event": list(risks.events), "grade": list(risks.grades)}
    return xr.DataArray(values.reshape(shape), dims=("chain", "draw", "patient", "event", "grade"), coords=coords, name=name)


def _pick(edges: Floats, uniform: Floats, row: Ints) -> Ints:
    """Outcomes (patient,), each by one ``row`` (patient,) of cumulative probabilities, ``edges`` (row, outcome)."""
    last = edges.shape[1] - 1
    return np.asarray(np.minimum((edges[row] < uniform[:, None] * edges[row, -1:]).sum(axis=1), last))


def profile_table(model: Any, by: Sequence[str], *, interval: float = 0.9) -> pd.DataFrame:
    """Risks of patients of whom only some covariates are known: every combination of these covariates' levels.

    Parameters
    ----------
    model
        From `fit` or `load_model`.
    by
        Names of covariates.
    interval
        Probability of the equal-tailed intervals.

    Returns
    -------
    pandas.DataFrame
        One row per combination, event and grade: a column per covariate in ``by``, event, grade, risk (posterior mean),
        lower, upper (probabilities) and support. Equal to `risk_table` of patients with the other covariates missing. The
        interval's probability is in ``attrs["interval"]``.

    Raises
    ------
    ValueError
        ``by`` is empty or names something other than covariates of the model, or one twice.
    """
    interval = check_interval(interval)
    risks = risks_of(model)
    names = [c.name for c in risks.covariates]
    given = [] if isinstance(by, str) else by.to_pylist() if hasattr(by, "to_pylist") else list(by)
    if not given or any(name not in names or given.count(name) > 1 for name in given):
        raise InputError("by", f"expected one or more of {', '.join(names)}, each once, not {shown(by)}")
    chosen = [names.index(name) for name in given]
    combos = np.array(list(product(*(range(len(risks.covariates[k].levels)) for k in chosen))))
    sets = risks.knowing(chosen, combos)
    for k, of in zip(chosen, combos.T, strict=True):
        sets[:, k] = np.array(risks.covariates[k].sets)[of]  # at an unknown level nothing is known
    mean, lower, upper = risks.summary(sets, interval)
    columns = {"risk": mean, "lower": lower, "upper": upper, "support": np.array(SUPPORT)[risks.support(sets)]}
    table = long_table({name: risks.covariates[k].names for name, k in zip(given, chosen, strict=True)} | risks.dims, columns)
    table.attrs["interval"] = interval
    return table
