"""What `aemodel check` prints: how a model stands to every published frequency, and to what was said in words."""

from __future__ import annotations

from typing import Any

import click
import pandas as pd

from aemodel.answers.calibration import calibration_slopes, coverage, slope_words
from aemodel.answers.evidence import DOUBTFUL, ordering_table, selection_table
from aemodel.inference.record import evidence_words, null_words
from aemodel.pages.console import print_rows, print_wrapped
from aemodel.publication.texts import between


def print_check(model: Any, table: pd.DataFrame) -> None:
    """Diagnostics, the calibration ``table`` and evidence, for a person."""
    print_wrapped(f"{model.name}: {model.diagnostics}")
    click.echo()
    print_rows([_line(row) for row in table.to_dict("records")], "table", "Observed against predicted counts")
    fits = coverage(table)
    print_wrapped(
        f"Of {fits['rows']:.0f} published frequencies, {fits['within90']:.0%} lie in their 90 % predictive interval and "
        f"{fits['within50']:.0%} in their 50 % one."
    )
    print_wrapped("A consistency check, not a validation: the model saw these rows.")
    print_wrapped(slope_words(calibration_slopes(model, seed=1), model))
    click.echo()
    print_wrapped(evidence_words(model.settings, model.tables))
    _print_orderings(ordering_table(model))
    _print_tests(selection_table(model), null_words(model.tables))


def _line(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "event": row["event"],
        "grade": row["grade"],
        "level": row["level"] + (" (sum)" if row["derived"] else ""),
        "n": row["n"],
        "observed": between(row["observed_low"], row["observed_high"]),
        "predicted": f"{row['expected']:.1f}",
        "50 %": f"{row['lower50']}-{row['upper50']}",
        "90 %": f"{row['lower90']}-{row['upper90']}",
        "tail P": f"{row['tail_probability']:.2f}",
    }


def _print_orderings(table: pd.DataFrame) -> None:
    for row in table.drop_duplicates(["event", "grade", "covariate", "within"]).itertuples():
        where = f" within {row.within}" if row.within else ""
        print_wrapped(f"Published order of {row.covariate}{where}, {row.event} {row.grade}: P {row.p_ordered:.2f}.")


def _print_tests(table: pd.DataFrame, words: str) -> None:
    if table.empty:
        return
    doubtful = table[table["doubtful"]]
    print_wrapped(
        f"{len(doubtful)} of {len(table)} {words} have P(not significant) below {DOUBTFUL:g}{':' if len(doubtful) else '.'}"
    )
    for row in doubtful.itertuples():
        told = f"odds ratio {row.odds_ratio:.2f}, P {row.p_nonsignificant:.2f} ({row.cause})"
        print_wrapped(f"{row.event} {row.grade} by {row.covariate}: {told}", indent="  - ")
