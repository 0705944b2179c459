"""Files of patients scored on the command line: into a file, or shown; refused, or what is said of them. Light."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from aemodel.pages.console import MOST_SHOWN, counts_in_words, print_risks, print_rows, print_wrapped
from aemodel.pages.errors import Refused, tell
from aemodel.publication.patients import Profiles, invalid_values, new_values
from aemodel.scoring.cohort import cohort_columns, refuse_empty
from aemodel.scoring.files import Patients
from aemodel.scoring.frames import profiles_of
from aemodel.scoring.score import LINEAGE, Asked, score_rows, summary_of
from aemodel.scoring.whole import whole


@dataclass(frozen=True)
class Run:
    """What a run must not pass, where its summary goes and by which columns OUT is a folder; shares are of rows."""

    max_missing: float | None
    max_invalid: float | None
    min_rows: int | None
    summary: Path | None
    partition_by: Sequence[str] = ()

    def judge(self, summary: dict[str, Any], said: Callable[[str], list[str]]) -> None:
        """Keep the summary, and refuse a run that passed a threshold, once what was found in it is ``said``."""
        rows = summary["rows"]
        missing, name = max(((of["missing"], name) for name, of in summary["columns"].items()), default=(0, ""))
        invalid = rows - summary["scored"]
        problems = []
        if self.min_rows is not None and rows < self.min_rows:
            problems.append(f"{rows} rows, fewer than --min-rows {self.min_rows}")
        if self.max_missing is not None and missing > round(self.max_missing * rows, 6):
            share = f"{missing} of {rows} rows ({missing / rows:.1%})"
            problems.append(f"{name} is missing in {share}, more than --max-missing {self.max_missing:g}")
        if self.max_invalid is not None and invalid > round(self.max_invalid * rows, 6):
            share = f"{invalid} of {rows} rows are invalid ({invalid / rows:.1%})"
            problems.append(f"{share}, more than --max-invalid {self.max_invalid:g}")
        if self.summary is not None:
            with whole(self.summary, "summary") as partial_file:
                partial_file.write_text(json.dumps(summary | {"refused": problems}, indent=1) + "\n", encoding="utf-8")
        if problems:
            tell("\n".join(said("counted")))
            raise Refused("refused: " + "; ".join(problems))


def score_patients(
    model: Any, patients: Patients, out: Path | None, form: str, asked: Asked, run: Run, *, reasons: bool
) -> None:
    """Each patient's risks, into the file ``out`` or printed in a form."""
    scored = patients.read("Counting profiles", partial(score_rows, model, asked=asked, reasons=reasons))
    summary, said = _summarised(model, patients, scored.found, asked, scored.columns)
    run.judge(summary, said)
    if out is not None:
        patients.write(f"Scoring {summary['rows']} patients", scored, out, _lineage(summary), run.partition_by)
        tell("\n".join(said(f"scored into {out}")))
    else:
        if form == "table":
            print_risks(list(patients.records(scored, MOST_SHOWN)), summary["rows"], model.risks, asked.interval)
        else:
            print_rows(patients.records(scored), form, names=[*scored.frame.kinds, *scored.columns])
        _say_more(said("scored"))
    _say_what_failed(model)


def score_groups(
    model: Any, patients: Patients, out: Path | None, form: str, asked: Asked, run: Run, *, by: Any, seed: int
) -> None:
    """Expected numbers of patients with each event, into the file ``out`` or printed in a form."""
    frame, groups, columns = patients.read("Counting profiles", partial(cohort_columns, model, asked=asked, by=by, seed=seed))
    summary, said = _summarised(model, patients, profiles_of(frame, groups), asked, {})
    run.judge(summary, said)
    refuse_empty(groups)
    rows = groups.rows(columns)
    if out is not None:
        patients.write_table(frame, groups, columns, out, _lineage(summary))
        tell(f"{len(rows)} expected numbers written to {out}.")
    elif form == "table":
        shown = [row | {"expected": f"{row['expected']:.1f}"} for row in rows]
        print_rows(shown, "table", "Patients expected to have each event")
        interval = f"{100 * asked.interval:g}% predictive interval"
        print_wrapped(f"Posterior mean and {interval}: uncertainty of the risks, and chance.")
    else:
        print_rows(rows, form)
    _say_more(said("counted"))
    _say_what_failed(model)


def _summarised(
    model: Any, patients: Patients, found: Profiles, asked: Asked, columns: Mapping[str, Any]
) -> tuple[dict[str, Any], Any]:
    """The run's summary, and what makes words of it once it is known what was done."""
    summary, new_levels = summary_of(model, found, asked, columns), asked.new_levels

    def look(_: Any) -> list[str]:
        return [*invalid_values(found, new_levels), *(new_values(found) if new_levels == "sample" else [])]

    values = patients.read("Looking for examples", look)
    return summary, lambda done: counts_in_words(summary, done, new_levels, values)


def _lineage(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {name: summary[name] for name in LINEAGE}


def _say_more(lines: list[str]) -> None:
    """Nothing, where all that could be said is how many there are."""
    if len(lines) > 1 or ";" in lines[0]:
        tell("\n".join(lines))


def _say_what_failed(model: Any) -> None:
    """A model whose sampler failed its checks still scores, but not without a word."""
    if not model.diagnostics.passed:
        failures = "; ".join(model.diagnostics.failures())
        tell(f"Note: this model's sampler failed its checks ({failures}): do not use its answers.")
