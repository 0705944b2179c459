"""Files of patients scored on the command line: into a file, or shown; and what is said of them. Light."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from aemodel.pages.console import MOST_SHOWN, counts_in_words, print_risks, print_rows, print_wrapped
from aemodel.pages.errors import tell
from aemodel.scoring.cohort import cohort_columns
from aemodel.scoring.files import Patients
from aemodel.scoring.frames import profiles_of
from aemodel.scoring.score import row_counts, score_rows


def score_patients(model: Any, patients: Patients, out: Path | None, form: str, options: Mapping[str, Any]) -> None:
    """Each patient's risks, into the file ``out`` or printed in a form."""
    scored = patients.read("Counting profiles", partial(score_rows, model, **options))
    counts = patients.read("Looking for examples", lambda _: row_counts(scored.found, options["new_levels"]))
    if out is not None:
        patients.write(f"Scoring {counts['rows']} patients", scored, out)
        tell(counts_in_words(counts, f"scored into {out}"))
        _say_what_failed(model)
        return
    if form == "table":
        print_risks(patients.records(scored, MOST_SHOWN), counts["rows"], model.risks, options["interval"])
    else:
        print_rows(patients.records(scored), form)
    _say_who_is_left_out(counts, "scored")
    _say_what_failed(model)


def score_groups(model: Any, patients: Patients, out: Path | None, form: str, options: Mapping[str, Any]) -> None:
    """Expected numbers of patients with each event, into the file ``out`` or printed in a form."""
    frame, groups, columns = patients.read("Counting profiles", partial(cohort_columns, model, **options))
    counts = row_counts(profiles_of(frame, groups), options["new_levels"])
    rows = groups.rows(columns)
    if out is not None:
        patients.write_table(frame, groups, columns, out)
        tell(f"{len(rows)} expected numbers written to {out}.")
    elif form == "table":
        shown = [row | {"expected": f"{row['expected']:.1f}"} for row in rows]
        print_rows(shown, "table", "Patients expected to have each event")
        interval = f"{options['interval']:.0%} predictive interval"
        print_wrapped(f"Posterior mean and {interval}: uncertainty of the risks, and chance.")
    else:
        print_rows(rows, form)
    _say_who_is_left_out(counts, "counted")
    _say_what_failed(model)


def _say_what_failed(model: Any) -> None:
    """A model whose sampler failed its checks still scores, but not without a word."""
    if not model.diagnostics.passed:
        failures = "; ".join(model.diagnostics.failures())
        tell(f"Note: this model's sampler failed its checks ({failures}): do not use its answers.")


def _say_who_is_left_out(counts: dict[str, Any], done: str) -> None:
    if counts["invalid"] or counts["new"]:
        tell(counts_in_words(counts, done))
