"""Everything a report tells of a model, worked out once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pandas as pd

from aemodel.answers.calibration import calibration_table
from aemodel.answers.calibration_slopes import calibration_slopes
from aemodel.answers.contrasts import contrast_table
from aemodel.answers.evidence import ordering_table, selection_table
from aemodel.answers.identification import identification_table
from aemodel.answers.odds_ratios import odds_ratio_table
from aemodel.answers.prior_check import prior_predictive_table
from aemodel.answers.profiles import profile_table
from aemodel.answers.sensitivity import sensitivity_table
from aemodel.answers.table_uncertainty import table_uncertainty
from aemodel.inference.record import make_manifest
from aemodel.pages.description import model_facts
from aemodel.publication.errors import InputError
from aemodel.publication.tables import Tables
from aemodel.publication.words import Words, words_of
from aemodel.scoring.progress import waiting
from aemodel.scoring.risks import SUPPORT

DRAWS = 300
"""Draws of the model that are reweighted under each table of the covariates."""


@dataclass(frozen=True)
class Other:
    """What another fit says of the same things."""

    settings: Mapping[str, Any]
    ordering: pd.DataFrame
    odds: pd.DataFrame


@dataclass(frozen=True)
class ReportData:
    """The tables of a report. ``contrasts`` are by covariate; ``slopes``, ``profiles`` and ``uncertainty`` may be None."""

    facts: Mapping[str, Any]
    tables: Tables
    words: Words
    settings: Mapping[str, Any]
    calibration: pd.DataFrame
    slopes: pd.DataFrame | None
    effects: pd.DataFrame
    risks: pd.DataFrame
    odds: pd.DataFrame
    prior: pd.DataFrame
    sensitivity: pd.DataFrame
    ordering: pd.DataFrame
    selection: pd.DataFrame
    contrasts: Mapping[str, pd.DataFrame]
    profiles: tuple[str, pd.DataFrame] | None
    uncertainty: pd.DataFrame | None
    other: Other | None


def gather(model: Any, compare: Any, tables: int) -> ReportData:
    """All tables of a report; ``tables`` is how many tables of the covariates to draw."""
    other = None if compare is None else _as_of(model, compare)
    with waiting("Calibration"):
        calibration = calibration_table(model)
    with waiting("Identification"):
        effects, risks = identification_table(model), identification_table(model, "risks")
    with waiting("Prior check"):
        prior = prior_predictive_table(model)
    with waiting("Sensitivity to the priors"):
        sensitivity = sensitivity_table(model)
    slopes = uncertainty = None
    if tables:
        with waiting("Calibration slopes"):
            slopes = calibration_slopes(model, seed=1)
        with waiting(f"{tables} tables of the covariates"):
            kept = model.risks.draws.shape[0]
            uncertainty = table_uncertainty(model, seed=1, tables=tables, draws=min(DRAWS, kept))
    with waiting("Contrasts"):
        contrasts = {c.name: contrast_table(model, *({c.name: c.names[i]} for i in (-1, 0))) for c in model.risks.covariates}
        odds = odds_ratio_table(model)
        beside = None if other is None else Other(other.settings, ordering_table(other), odds_ratio_table(other))
    return ReportData(
        facts=_facts(model),
        tables=model.tables,
        words=words_of(model),
        settings=model.settings,
        calibration=calibration,
        slopes=slopes,
        effects=effects,
        risks=risks,
        odds=odds,
        prior=prior,
        sensitivity=sensitivity,
        ordering=ordering_table(model),
        selection=selection_table(model, other),
        contrasts=contrasts,
        profiles=_profiles(model),
        uncertainty=uncertainty,
        other=beside,
    )


def check_comparable(model: Any, compare: Any) -> None:
    """Refuse to compare models of different events, covariates or levels.

    Raises
    ------
    TypeError, ValueError
        ``compare`` is no model, or speaks of other things.
    """
    if not hasattr(compare, "risks") or not hasattr(compare, "settings"):
        raise TypeError(f"compare: expected a model from load_model or fit, not {type(compare).__name__}")
    mine, its = model.risks, compare.risks
    if mine.events != its.events or [(c.name, c.names) for c in mine.covariates] != [(c.name, c.names) for c in its.covariates]:
        raise InputError(
            "compare", "the two models must have the same events, covariates and levels; name fits of one publication"
        )


def _as_of(model: Any, compare: Any) -> Any:
    """The other fit, asked about what this model's publication says: its own copy may be of another date."""
    return SimpleNamespace(risks=compare.risks, settings=compare.settings, tables=model.tables)


def _facts(model: Any) -> Mapping[str, Any]:
    """A fitted model that was not saved yet is told of as if it were."""
    manifest = getattr(model, "manifest", None)
    return model_facts(make_manifest(model, {}, None) if manifest is None else manifest, model.tables, model.risks)


def _profiles(model: Any) -> tuple[str, pd.DataFrame] | None:
    """An event whose margins are published by more covariates than others', with its risks by the first two of them."""
    risks = model.risks
    data = (risks.source == SUPPORT.index("data")).any(axis=2)
    event = int(data.sum(axis=0).argmax())
    names = [c.name for c, own in zip(risks.covariates, data[:, event], strict=True) if own]
    return (risks.events[event], profile_table(model, names[:2])) if names else None
