"""Posterior risk of severe toxicity for one patient, from a trial's published tables of margins.

    tables = aemodel.load_tables("aall1331")
    fitted = aemodel.fit(tables, seed=1)
    aemodel.risk_table(fitted, patients)

Names are loaded when first used: scoring from a saved model never loads what fitting needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same for those who read types; a test holds the two together
    from aemodel.answers.bounds import bounds_table as bounds_table
    from aemodel.answers.calibration import (
        calibration_slopes as calibration_slopes,
        calibration_table as calibration_table,
        differences_table as differences_table,
    )
    from aemodel.answers.contrasts import contrast_table as contrast_table, odds_ratio_table as odds_ratio_table
    from aemodel.answers.evidence import ordering_table as ordering_table, selection_table as selection_table
    from aemodel.answers.expected import expected_slopes as expected_slopes
    from aemodel.answers.identification import (
        identification_table as identification_table,
        prior_predictive_table as prior_predictive_table,
    )
    from aemodel.answers.plots import (
        plot_calibration as plot_calibration,
        plot_differences as plot_differences,
        plot_identification as plot_identification,
        plot_prior as plot_prior,
    )
    from aemodel.answers.risk import (
        posterior_epred as posterior_epred,
        posterior_predict as posterior_predict,
        profile_table as profile_table,
        risk_table as risk_table,
    )
    from aemodel.answers.risk_plots import (
        plot_cohort as plot_cohort,
        plot_effects as plot_effects,
        plot_patient as plot_patient,
        plot_profiles as plot_profiles,
    )
    from aemodel.answers.second_cohort import validate as validate
    from aemodel.answers.sensitivity import (
        robustness_table as robustness_table,
        sensitivity_table as sensitivity_table,
        table_uncertainty as table_uncertainty,
    )
    from aemodel.inference.adam import read_adam as read_adam
    from aemodel.inference.ard import read_ard as read_ard
    from aemodel.inference.fitting import Fitted as Fitted, fit as fit
    from aemodel.inference.likelihood import margin_loglik as margin_loglik
    from aemodel.inference.model import pymc_model as pymc_model
    from aemodel.pages.calculator import write_calculator as write_calculator
    from aemodel.pages.report import write_report as write_report
    from aemodel.publication.errors import (
        InputError as InputError,
        PatientsError as PatientsError,
        PublicationError as PublicationError,
    )
    from aemodel.publication.p_values import p_value_table as p_value_table
    from aemodel.publication.tables import Tables as Tables, load_tables as load_tables
    from aemodel.saved.manifest import SavedModelError as SavedModelError
    from aemodel.saved.reader import LoadedModel as LoadedModel, load_model as load_model
    from aemodel.saved.writer import save_model as save_model
    from aemodel.scoring.cohort import score_cohort as score_cohort
    from aemodel.scoring.score import score as score, score_summary as score_summary

_NAMES = {
    "answers.bounds": "bounds_table",
    "answers.calibration": "calibration_slopes calibration_table differences_table",
    "answers.contrasts": "contrast_table odds_ratio_table",
    "answers.evidence": "ordering_table selection_table",
    "answers.expected": "expected_slopes",
    "answers.identification": "identification_table prior_predictive_table",
    "answers.plots": "plot_calibration plot_differences plot_identification plot_prior",
    "answers.risk": "posterior_epred posterior_predict profile_table risk_table",
    "answers.risk_plots": "plot_cohort plot_effects plot_patient plot_profiles",
    "answers.second_cohort": "validate",
    "answers.sensitivity": "robustness_table sensitivity_table table_uncertainty",
    "inference.adam": "read_adam",
    "inference.ard": "read_ard",
    "inference.fitting": "Fitted fit",
    "inference.likelihood": "margin_loglik",
    "inference.model": "pymc_model",
    "pages.calculator": "write_calculator",
    "pages.report": "write_report",
    "publication.errors": "InputError PatientsError PublicationError",
    "publication.p_values": "p_value_table",
    "publication.tables": "Tables load_tables",
    "saved.manifest": "SavedModelError",
    "saved.reader": "LoadedModel load_model",
    "saved.writer": "save_model",
    "scoring.cohort": "score_cohort",
    "scoring.score": "score score_summary",
}
_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = sorted(_HOME)


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
