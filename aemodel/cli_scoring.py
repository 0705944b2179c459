"""The command line where patients are scored or counted: score, schema, export, profiles."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

import aemodel
from aemodel.pages.errors import tell

FORMATS = click.Choice(["table", "json", "csv"])
SHARE = click.FloatRange(0, 1)


def error_or(other: str) -> dict[str, Any]:
    """Of an option: an error, unless something else is asked for."""
    return {"type": click.Choice(["error", other]), "default": "error"}


def listed_names(option: str, text: str | None) -> list[str] | None:
    """Names separated by commas."""
    names = None if text is None else [name.strip() for name in text.split(",") if name.strip()]
    if names == []:
        raise ValueError(f"{option}: it names nothing; leave the option out, or give names separated by commas")
    if names and len(set(names)) < len(names):
        raise ValueError(f"{option}: it names something twice: {', '.join(names)}")
    return names


@click.command(
    help="""Score a file of patients with a saved model.

    MODEL is a shipped model's name or a saved model's folder. PATIENTS is CSV or Parquet with a column per covariate
    (empty where not known: averaged over the cohort). With OUT, CSV or Parquet, all columns are written there; an existing
    file OUT is replaced. Without, a readable table of risks is printed. Files are streamed: they may be larger than memory.
    CSV cells come out as they went in, in Parquet as text; only text that a spreadsheet would run as a formula is given an
    apostrophe in CSV. PATIENTS may be a folder of Parquet, Hive partitions too, or a quoted pattern of such files' names.

    \b
    Examples:
      aemodel score aall1331 patients.csv
      aemodel score aall1331 cohort.parquet scored.parquet --grades 4-5
      aemodel score aall1331 cohort.csv --by site
      aemodel score aall1331 'lake/*/*.parquet' scored --partition-by site
      aemodel score aall1331 tonight.parquet scored.parquet --min-rows 1000 --max-missing 0.2 --summary run.json

    \b
    Exit codes: 0 scored, 1 the model is damaged, 2 wrong usage or input, 3 refused by a threshold (none unless given).
    """,
)
@click.argument("model")
@click.argument("patients", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option("--interval", type=float, default=0.9, help="Probability of the interval.")
@click.option("--events", help="Events to score, separated by commas; by default all.")
@click.option("--grades", help="Classes of grades to score, as 3-5,4-5; by default all the model answers.")
@click.option("--new-levels", **error_or("sample"), help="Groups the publication does not have.")
@click.option("--na", help="Cells of a CSV file that are missing values, separated by commas, as NA; empty ones always are.")
@click.option("--on-invalid", **error_or("null"), help="Impossible values; null: no risks for them.")
@click.option("--missing-columns", **error_or("unknown"), help="Covariates without a column.")
@click.option("--format", "form", type=FORMATS, default="table", help="How to print, without OUT.")
@click.option("--cohort", is_flag=True, help="Expected numbers of patients with each event, instead of each one's risks.")
@click.option("--partition-by", help="Write OUT as a folder of Parquet, a folder in it for each value of these columns.")
@click.option("--by", help="The same for each value of a column, or of several separated by commas.")
@click.option("--min-rows", type=click.IntRange(0), help="Refuse fewer rows, with exit code 3 and no OUT.")
@click.option("--max-missing", type=SHARE, help="Refuse if a covariate is missing in more than this share of rows, as 0.1.")
@click.option("--max-invalid", type=SHARE, help="Refuse if more than this share of rows is invalid; implies --on-invalid null.")
@click.option("--summary", type=click.Path(path_type=Path), help="Write what the run was, as JSON, also if it is refused.")
@click.option("--reasons", is_flag=True, help="Add a column invalid_reason: the covariates whose values are impossible.")
@click.option("--seed", type=int, default=1, help="Of the counts simulated for a cohort's interval.")
def score(
    model: str, patients: Path, out: Path | None, interval: float, events: str | None, grades: str | None,
    new_levels: Any, na: str | None, on_invalid: Any, missing_columns: Any, form: str, cohort: bool, partition_by: str | None,
    by: str | None, min_rows: int | None, max_missing: float | None, max_invalid: float | None, summary: Path | None,
    reasons: bool, seed: int,
) -> None:  # fmt: skip
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # on products as small as these threads wait more than they work
    from aemodel.pages.score_command import Run, score_groups, score_patients
    from aemodel.publication.errors import InputError
    from aemodel.scoring.files import open_patients
    from aemodel.scoring.score import Asked
    from aemodel.scoring.whole import check_apart, check_output, check_place

    grouping = cohort or by is not None
    if out is not None and form != "table":
        raise click.UsageError(
            "--format says how to print, and with OUT nothing is printed: OUT's ending says how it is written"
        )
    if reasons and grouping:
        raise click.UsageError("--reasons are those of patients; with --cohort or --by there are none")
    if partition_by and (out is None or grouping):
        raise click.UsageError(
            "--partition-by says how patients are written to OUT: it needs one, and neither --cohort nor --by"
        )
    check_output(out, patients, partitioned=bool(partition_by))
    if summary is not None:
        check_place(summary, "summary")
        check_apart(summary, "summary", patients)
        if out is not None and summary.resolve() == out.resolve():
            raise InputError("summary", f"{str(summary)!r} is OUT itself; name another file")
    chosen = listed_names("events", events), listed_names("grades", grades)
    asked = Asked(interval, *chosen, new_levels, on_invalid if max_invalid is None else "null", missing_columns)
    loaded = aemodel.load_model(model)
    options: dict[str, Any] = {"by": listed_names("by", by), "seed": seed} if grouping else {"reasons": reasons}
    run = Run(max_missing, max_invalid, min_rows, summary, listed_names("partition-by", partition_by) or ())
    with open_patients(patients, listed_names("na", na) or []) as opened:
        (score_groups if grouping else score_patients)(loaded, opened, out, form, asked, run, **options)


@click.command(
    help="""List the columns that score adds: name, type and meaning; the last one only with --reasons.

    MODEL is a shipped model's name or a saved model's folder.

    \b
    Examples:
      aemodel schema aall1331
      aemodel schema aall1331 --format json
    """,
)
@click.argument("model")
@click.option("--format", "form", type=FORMATS, default="table", help="How to print.")
def schema(model: str, form: str) -> None:
    from aemodel.pages.console import print_rows
    from aemodel.scoring.score import column_table

    loaded = aemodel.load_model(model)
    labels = {event.name: event.label for event in loaded.tables.events}
    print_rows(column_table(loaded.risks, labels, reasons=True), form, f"Columns that {loaded.name} adds")


@click.command(
    help="""Write a table that any database can look risks up in: every profile, event and grade.

    MODEL is a shipped model's name or a saved model's folder, OUT the table, CSV or Parquet: the covariates (empty where not
    known), event, grade, risk, lower, upper, support, published.

    \b
    Examples:
      aemodel export aall1331 lookup.parquet
    """,
)
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--interval", type=float, default=0.9, help="Probability of the interval.")
def export(model: str, out: Path, interval: float) -> None:
    from aemodel.scoring.exports import write_lookup
    from aemodel.scoring.whole import check_kind

    check_kind(out, "out")
    tell(f"{write_lookup(aemodel.load_model(model), out, interval)} risks written to {out}.")


@click.command(
    help="""Count a cohort's outcomes by profile, so that a model can be checked on patients who stay where they are.

    MODEL is a shipped model's name or a saved model's folder; PATIENTS, CSV or Parquet, has the covariates, and each event's
    worst grade, 0 to 5, in a column of its name. OUT, CSV or Parquet, has no row of a patient and no small number:
    aemodel.validate reads it.

    \b
    Examples:
      aemodel profiles aall1331 cohort.parquet counts.csv --smallest 11
    """,
)
@click.argument("model")
@click.argument("patients", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--smallest", type=click.IntRange(5), default=5, help="Smaller numbers of patients, but none, are hidden.")
@click.option("--na", help="Cells of a CSV file that are missing values, as for score.")
def profiles(model: str, patients: Path, out: Path, smallest: int, na: str | None) -> None:
    from aemodel.scoring.exports import count_profiles
    from aemodel.scoring.files import open_patients, write_columns
    from aemodel.scoring.score import lineage
    from aemodel.scoring.whole import check_output

    check_output(out, patients)
    loaded = aemodel.load_model(model)
    with open_patients(patients, listed_names("na", na) or []) as opened:
        columns, left_out = count_profiles(loaded, opened, smallest)
    write_columns(out, columns, lineage(loaded))
    said = ", ".join(f"{event} {number}" for event, number in left_out.items() if number)
    tell(
        f"{len(columns['n'])} counts written to {out}."
        + (f"\nIn profiles of fewer than {smallest}, left out: {said}." if said else "")
    )
