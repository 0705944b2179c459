"""What `aemodel check` prints: how a model stands to every published frequency, and to what was said in words."""

from __future__ import annotations

from typing import Any

import click
import pandas as pd

from aemodel.answers.calibration import calibration_slopes, coverage, slope_words, told
from aemodel.answers.evidence import DOUBTFUL, ordering_table, selection_table
from aemodel.inference.forward import PARAMETERS
from aemodel.inference.record import TESTS, evidence_words
from aemodel.pages.console import print_rows, print_wrapped


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
    if set(model.posterior.data_vars) >= PARAMETERS:
        print_wrapped(slope_words(calibration_slopes(model, seed=1), model))
    click.echo()
    tests, kinds = {null.stated for null in model.tables.nulls}, ("not significant", "not listed")
    words = TESTS if len(tests) != 1 else f"tests that were {kinds[not tests.pop()]}"
    used = {"ordering": model.tables.orderings, "selection": model.tables.nulls}
    settings = model.settings | {name: model.settings.get(name) if said else None for name, said in used.items()}
    print_wrapped(evidence_words(settings).replace(TESTS, words))
    _print_orderings(ordering_table(model))
    _print_tests(selection_table(model), words)


def _line(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "event": row["event"],
        "grade": row["grade"],
        "level": row["level"] + (" (sum)" if row["derived"] else ""),
        "n": row["n"],
        "observed": told(row),
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
        f"{len(doubtful)} of {len(table)} {words}{',' * (words == TESTS)} have P(not significant) below {DOUBTFUL:g}"
        f"{':' if len(doubtful) else '.'}"
    )
    for row in doubtful.itertuples():
        told = f"odds ratio {row.odds_ratio:.2f}, P {row.p_nonsignificant:.2f} ({row.cause})"
        print_wrapped(f"{row.event} {row.grade} by {row.covariate}: {told}", indent="  - ")
