"""Files of patients scored on the command line: into a file, or shown; and what is said of them. Light.

A file is opened by `csv_files` or `parquet_files`; both give the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aemodel.serving.cohort import cohort_columns
from aemodel.serving.failing import tell
from aemodel.serving.groups import rows_of
from aemodel.serving.printing import MOST_SHOWN, counts_in_words, print_risks, print_rows, print_wrapped
from aemodel.serving.scoring import score_rows


def score_patients(model: Any, patients: Any, out: Path | None, form: str, options: Mapping[str, Any]) -> None:
    """Each patient's risks, into the file ``out`` or printed in a form."""
    scored, counts = patients.read("Counting profiles", lambda frame: score_rows(model, frame, numbered=True, **options))
    if out is not None:
        patients.write(f"Scoring {counts['rows']} patients", scored, out)
        tell(counts_in_words(counts, f"scored into {out}"))
        return
    if form == "table":
        print_risks(list(patients.records(scored, MOST_SHOWN)), counts["rows"], model.risks, options["interval"])
    else:
        print_rows(patients.records(scored), form)
    _say_who_is_left_out(counts, "scored")


def score_groups(model: Any, patients: Any, out: Path | None, form: str, options: Mapping[str, Any]) -> None:
    """Expected numbers of patients with each event, into the file ``out`` or printed in a form."""
    coded, groups, columns, counts = patients.read(
        "Counting profiles", lambda frame: cohort_columns(model, frame, numbered=True, **options)
    )
    rows = rows_of(groups, columns)
    if out is not None:
        patients.write_table(coded, groups, columns, out)
        tell(f"{len(rows)} expected numbers written to {out}.")
    elif form == "table":
        shown = [row | {"expected": f"{row['expected']:.1f}"} for row in rows]
        print_rows(shown, "table", "Patients expected to have each event")
        interval = f"{options['interval']:.0%} predictive interval"
        print_wrapped(f"Posterior mean and {interval}: uncertainty of the risks, and chance.")
    else:
        print_rows(rows, form)
    _say_who_is_left_out(counts, "counted")


def say_what_failed(model: Any) -> None:
    """A model whose sampler failed its checks still scores, but not without a word."""
    if not model.diagnostics.passed:
        failures = "; ".join(model.diagnostics.failures())
        tell(f"Note: this model's sampler failed its checks ({failures}): do not use its answers.")


def _say_who_is_left_out(counts: dict[str, Any], done: str) -> None:
    if counts["invalid"] or counts["new"]:
        tell(counts_in_words(counts, done))
