"""Posterior risk of severe toxicity for one patient, from a trial's published tables of margins.

    tables = aemodel.load_tables("aall1331")
    fitted = aemodel.fit(tables, seed=1)
    aemodel.risk_table(fitted, patients)

Names are loaded when first used: scoring from a saved model never loads what fitting needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aemodel.answers.bounds import bounds_table
    from aemodel.answers.calibration import calibration_table, differences_table
    from aemodel.answers.calibration_slopes import calibration_slopes
    from aemodel.answers.contrasts import contrast_table
    from aemodel.answers.evidence import ordering_table, selection_table
    from aemodel.answers.expected import expected_slopes
    from aemodel.answers.identification import identification_table
    from aemodel.answers.odds_ratios import odds_ratio_table
    from aemodel.answers.plots import plot_calibration, plot_differences, plot_identification, plot_prior
    from aemodel.answers.prior_check import prior_predictive_table
    from aemodel.answers.profiles import profile_table
    from aemodel.answers.risk import posterior_epred, posterior_predict, risk_table
    from aemodel.answers.risk_plots import plot_cohort, plot_effects, plot_patient, plot_profiles
    from aemodel.answers.second_cohort import validate
    from aemodel.answers.sensitivity import robustness_table, sensitivity_table
    from aemodel.answers.table_uncertainty import table_uncertainty
    from aemodel.inference.adam import read_adam
    from aemodel.inference.ard import read_ard
    from aemodel.inference.fitting import Fitted, fit
    from aemodel.inference.likelihood import margin_loglik
    from aemodel.pages.calculator import write_calculator
    from aemodel.pages.report import write_report
    from aemodel.publication.errors import InputError, PatientsError, PublicationError
    from aemodel.publication.p_values import p_value_table
    from aemodel.publication.tables import Tables, load_tables
    from aemodel.saved.manifest import SavedModelError
    from aemodel.saved.reader import LoadedModel, load_model
    from aemodel.saved.writer import save_model
    from aemodel.scoring.cohort import score_cohort
    from aemodel.scoring.score import score
    from aemodel.scoring.summary import score_summary

_HOME = {
    "Fitted": "inference.fitting",
    "InputError": "publication.errors",
    "LoadedModel": "saved.reader",
    "PatientsError": "publication.errors",
    "PublicationError": "publication.errors",
    "SavedModelError": "saved.manifest",
    "Tables": "publication.tables",
    "bounds_table": "answers.bounds",
    "calibration_slopes": "answers.calibration_slopes",
    "calibration_table": "answers.calibration",
    "contrast_table": "answers.contrasts",
    "differences_table": "answers.calibration",
    "expected_slopes": "answers.expected",
    "fit": "inference.fitting",
    "identification_table": "answers.identification",
    "load_model": "saved.reader",
    "load_tables": "publication.tables",
    "margin_loglik": "inference.likelihood",
    "odds_ratio_table": "answers.odds_ratios",
    "ordering_table": "answers.evidence",
    "p_value_table": "publication.p_values",
    "plot_calibration": "answers.plots",
    "plot_cohort": "answers.risk_plots",
    "plot_differences": "answers.plots",
    "plot_effects": "answers.risk_plots",
    "plot_identification": "answers.plots",
    "plot_patient": "answers.risk_plots",
    "plot_prior": "answers.plots",
    "plot_profiles": "answers.risk_plots",
    "posterior_epred": "answers.risk",
    "posterior_predict": "answers.risk",
    "prior_predictive_table": "answers.prior_check",
    "profile_table": "answers.profiles",
    "read_adam": "inference.adam",
    "read_ard": "inference.ard",
    "risk_table": "answers.risk",
    "robustness_table": "answers.sensitivity",
    "save_model": "saved.writer",
    "score": "scoring.score",
    "score_cohort": "scoring.cohort",
    "score_summary": "scoring.summary",
    "selection_table": "answers.evidence",
    "sensitivity_table": "answers.sensitivity",
    "table_uncertainty": "answers.table_uncertainty",
    "validate": "answers.second_cohort",
    "write_calculator": "pages.calculator",
    "write_report": "pages.report",
}

__all__ = [
    "Fitted",
    "InputError",
    "LoadedModel",
    "PatientsError",
    "PublicationError",
    "SavedModelError",
    "Tables",
    "bounds_table",
    "calibration_slopes",
    "calibration_table",
    "contrast_table",
    "differences_table",
    "expected_slopes",
    "fit",
    "identification_table",
    "load_model",
    "load_tables",
    "margin_loglik",
    "odds_ratio_table",
    "ordering_table",
    "p_value_table",
    "plot_calibration",
    "plot_cohort",
    "plot_differences",
    "plot_effects",
    "plot_identification",
    "plot_patient",
    "plot_prior",
    "plot_profiles",
    "posterior_epred",
    "posterior_predict",
    "prior_predictive_table",
    "profile_table",
    "read_adam",
    "read_ard",
    "risk_table",
    "robustness_table",
    "save_model",
    "score",
    "score_cohort",
    "score_summary",
    "selection_table",
    "sensitivity_table",
    "table_uncertainty",
    "validate",
    "write_calculator",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("aemodel")
    if name not in _HOME:
        raise AttributeError(f"module 'aemodel' has no attribute {name!r}")
    try:
        value = getattr(import_module(f"aemodel.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        if str(error.name).split(".")[0] == "aemodel":
            raise
        raise ImportError(
            f"aemodel.{name} needs {error.name}, which the base install leaves out: pip install 'aemodel[fit]'"
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
