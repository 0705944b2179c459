"""The command line: tables, fit, check, show, score, calculator."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

FORMATS = click.Choice(["table", "json", "csv"])
Rows = list[dict[str, Any]]


class Failed(click.ClickException):
    """The data or the model failed a check: exit code 1."""

    exit_code = 1


def one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Errors of input in one line and with exit code 2; anything unforeseen keeps its traceback."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except BrokenPipeError:
            # The reader of a pipe has seen enough (`| head`).
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except KeyboardInterrupt:
            click.echo("Interrupted; nothing was saved.", err=True)
            raise SystemExit(130) from None
        except ModuleNotFoundError as error:
            remedy = "which the base install leaves out: pip install 'aemodel[fit]'"
            raise click.UsageError(f"this needs {error.name}, {remedy}") from error
        except (ValueError, TypeError, OSError) as error:
            raise click.UsageError(" ".join(str(error).split())) from error
        except Exception as error:
            if type(error).__name__ == "SavedModelError":
                raise Failed(" ".join(str(error).split())) from error
            raise

    return wrapped


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="aemodel")
def main() -> None:
    """Posterior risk of severe toxicity, from a trial's published tables."""


@main.command()
@click.argument("publication", default="aall1331")
@click.option("--format", "form", type=FORMATS, default="table", show_default=True, help="How to print the frequencies.")
@one_line_errors
def tables(publication: str, form: str) -> None:
    r"""Show a publication's frequencies as counts, and its discrepancies.

    PUBLICATION is the name of a shipped publication or a folder with the files of one.

    \b
    Examples:
      aemodel tables
      aemodel tables my/publication --format csv > frequencies.csv
    """
    from aemodel.publication.tables import load_tables

    read = load_tables(publication)
    rows = read.frequencies.to_dict("records")
    if form != "table":
        _print(rows, form, "")
        return
    click.echo(f"{read.about['title']}\nN = {read.n} patients. {read.about['citation']}\n")
    _print(_wide(rows), "table", "Patients with each event, by published margin")
    click.echo("(sum): adds up other rows, and is no second piece of evidence.\n")
    click.echo("Discrepancies in the publication, and what was done:")
    for row in read.discrepancies.to_dict("records"):
        printed = f"printed {row['printed']}" + (f"; computed {row['computed']}" if row["computed"] else "")
        _wrapped(f"{row['where']}: {printed}. {row['resolution'][:1].upper()}{row['resolution'][1:]}.")


def _wide(rows: Rows) -> Rows:
    """One line per event and level, grades side by side."""
    lines: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        key = (row["event"], row["covariate"], row["level"])
        line = lines.setdefault(key, {"event": key[0], "covariate": key[1], "level": key[2], "n": row["n"]})
        line[f"grade {row['grade']}"] = (
            f"{row['observed']} ({row['observed'] / row['n']:.1%}){' (sum)' if row['derived'] else ''}"
        )
    grades = sorted({name for line in lines.values() for name in line if name.startswith("grade")})
    return [
        {**{k: line[k] for k in ("event", "covariate", "level", "n")}, **{g: line.get(g, "") for g in grades}}
        for line in lines.values()
    ]


@main.command()
@click.argument("publication", default="aall1331")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the fitted model.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--draws", type=int, default=1000, show_default=True, help="Kept draws per chain.")
@click.option("--chains", type=int, default=4, show_default=True)
@click.option(
    "--ordering",
    type=click.Choice(["both", "either", "order", "none"]),
    default="both",
    show_default=True,
    help="Use published orderings of groups, with significant tests at both grades, at either, or the order alone.",
)
@click.option(
    "--selection/--no-selection", default=True, show_default=True, help="Use tests that were not significant, or not listed."
)
@click.option("--prior-scale", type=float, default=1.0, show_default=True, help="Multiplies the prior scale of all effects.")
@click.option(
    "--patients",
    type=click.Path(path_type=Path),
    help="CSV or Parquet file of patients of your own: covariates, and each event's worst grade in a column of its name.",
)
@click.option(
    "--overlap",
    type=click.Choice(["disjoint", "subset"]),
    help="None of these patients is in the published cohort, or all of them are. Must be given with --patients.",
)
@one_line_errors
def fit(
    publication: str,
    out: Path,
    seed: int,
    draws: int,
    chains: int,
    ordering: Any,
    selection: bool,
    prior_scale: float,
    patients: Path | None,
    overlap: Any,
) -> None:
    r"""Fit a publication's tables and save the model.

    Takes a minute or two, most of it compiling. Exit code 1 if the sampler's diagnostics fail; the model is saved either
    way, with the verdict in it.

    \b
    Examples:
      aemodel fit --out models/mine
      aemodel fit my/publication --out models/mine --seed 7 --draws 2000
      aemodel fit --out models/margins-only --ordering none --no-selection
      aemodel fit --out models/with-ours --patients ours.csv --overlap disjoint
    """
    import time
    import warnings

    from aemodel.inference.fitting import fit as fit_tables
    from aemodel.publication.tables import load_tables
    from aemodel.serving.files import read_frame
    from aemodel.serving.saved import check_folder, save_model

    check_folder(out)
    read = load_tables(publication)
    own = None if patients is None else read_frame(patients)
    click.echo(f"Fitting {read.name}: compiling, then {chains} chains of {draws} draws.", err=True)
    started = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the verdict is printed below
        fitted = fit_tables(
            read,
            seed=seed,
            draws=draws,
            chains=chains,
            ordering=None if ordering == "none" else ordering,
            selection=selection,
            prior_scale=prior_scale,
            patients=own,
            overlap=overlap,
        )
    saved = save_model(fitted, out)
    click.echo(f"{fitted.diagnostics}.\nSaved in {saved.folder} after {time.monotonic() - started:.0f} s.")
    if not fitted.diagnostics.passed:
        raise Failed("the sampler's diagnostics failed: see above")


@main.command()
@click.argument("model", default="aall1331")
@click.option("--format", "form", type=FORMATS, default="table", show_default=True, help="How to print the calibration table.")
@one_line_errors
def check(model: str, form: str) -> None:
    r"""Check a saved model: diagnostics, and observed against predicted for every published frequency.

    Exit code 1 if the diagnostics fail or fewer than 85 % of published counts lie in their 90 % interval.

    \b
    Examples:
      aemodel check
      aemodel check models/mine --format csv > calibration.csv
    """
    from aemodel.answers.calibration import calibration_table, coverage
    from aemodel.serving.reading import load_model

    loaded = load_model(model)
    table = calibration_table(loaded)
    fits = coverage(table)
    if form == "table":
        click.echo(f"{loaded.name}: {loaded.diagnostics}\n")
        _print([_calibration_line(row) for row in table.to_dict("records")], "table", "Observed against predicted counts")
        click.echo(
            f"Of {fits['rows']:.0f} published frequencies, {fits['within90']:.0%} lie in their 90 % predictive interval and "
            f"{fits['within50']:.0%} in their 50 % one.\nA consistency check, not a validation: the model saw these rows."
        )
    else:
        _print(table.to_dict("records"), form, "")
    if not loaded.diagnostics.passed:
        raise Failed("the sampler's diagnostics failed: " + "; ".join(loaded.diagnostics.failures()))
    if fits["within90"] < 0.85:
        raise Failed(f"only {fits['within90']:.0%} of published counts lie in their 90 % predictive interval")


def _calibration_line(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "event": row["event"],
        "grade": row["grade"],
        "level": row["level"] + (" (sum)" if row["derived"] else ""),
        "n": row["n"],
        "observed": row["observed"],
        "predicted": f"{row['predicted'] * row['n']:.1f}",
        "50 %": f"{row['lower50']}-{row['upper50']}",
        "90 %": f"{row['lower90']}-{row['upper90']}",
        "tail P": f"{row['tail_probability']:.2f}",
    }


@main.command()
@click.argument("model", default="aall1331")
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True, help="How to print."
)
@one_line_errors
def show(model: str, form: str) -> None:
    r"""Show what a saved model is: its data, covariates, events, diagnostics, settings, limits, digest and files.

    MODEL is a shipped model's name or a saved model's folder. Its files are checked against their digests first.

    \b
    Examples:
      aemodel show
      aemodel show models/mine --format json
    """
    from aemodel.serving.facts import model_facts
    from aemodel.serving.reading import load_model
    from aemodel.serving.showing import shown

    loaded = load_model(model)
    facts = model_facts(loaded.manifest, loaded.risks) | {"files": loaded.file_states()}
    click.echo(json.dumps(facts, indent=1) if form == "json" else shown(facts))


@main.command()
@click.argument("model")
@click.argument("patients", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option("--interval", type=float, default=0.9, show_default=True, help="Probability of the interval.")
@click.option("--events", help="Events to score, separated by commas; by default all.")
@click.option("--grades", help="Grades to score: 3-5, 4-5 or both separated by a comma; by default both.")
@click.option("--new-levels", type=click.Choice(["error", "sample"]), default="error", show_default=True)
@click.option("--on-invalid", type=click.Choice(["error", "null"]), default="error", show_default=True)
@click.option("--format", "form", type=FORMATS, default="table", show_default=True, help="How to print, without OUT.")
@click.option("--cohort", is_flag=True, help="Expected numbers of patients with each event, instead of each one's risks.")
@click.option("--by", help="The same for each value of a column, or of several separated by commas.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the counts simulated for a cohort's interval.")
@one_line_errors
def score(
    model: str, patients: Path, out: Path | None, interval: float, events: str | None, grades: str | None,
    new_levels: Any, on_invalid: Any, form: str, cohort: bool, by: str | None, seed: int,
) -> None:  # fmt: skip
    r"""Score a file of patients with a saved model.

    MODEL is a shipped model's name or a saved model's folder. PATIENTS is CSV or Parquet with a column per covariate
    (empty where not known: averaged over the cohort). With OUT, CSV or Parquet, all columns are written there; without,
    a readable table of risks is printed. Files are streamed: they may be larger than memory. CSV cells come out as they
    went in, in Parquet as text; only text that a spreadsheet would run as a formula is given an apostrophe in CSV.

    \b
    Examples:
      aemodel score aall1331 patients.csv
      aemodel score aall1331 cohort.parquet scored.parquet --grades 4-5
      aemodel score aall1331 cohort.csv --by site
    """
    from duckdb import Error as DuckDBError

    from aemodel.serving.files import check_output, connect, read_patients, unreadable
    from aemodel.serving.reading import load_model

    if out is not None:
        check_output(out, patients)
    chosen: Any = {name: text.split(",") if text else None for name, text in (("events", events), ("grades", grades))}
    chosen |= {"interval": interval, "new_levels": new_levels, "on_invalid": on_invalid, "numbered": True}
    loaded = load_model(model)
    with connect() as connection:
        frame = read_patients(connection, patients)
        try:
            if cohort or by:
                chosen |= {"by": by.split(",") if by else None, "seed": seed}
                _score_cohort(connection, loaded, frame, patients, out, form, chosen)
            else:
                _score_rows(connection, loaded, frame, patients, out, form, chosen)
        except DuckDBError as error:
            raise unreadable(patients, error) from error


def _score_rows(
    connection: Any, loaded: Any, frame: Any, patients: Path, out: Path | None, form: str, chosen: dict[str, Any]
) -> None:
    from aemodel.serving.files import write_rows
    from aemodel.serving.progress import watched
    from aemodel.serving.scoring import score_rows

    scored, rows = watched(connection, "Counting profiles", lambda: score_rows(loaded, frame, **chosen))
    if out is not None:
        watched(connection, f"Scoring {rows} patients", lambda: write_rows(scored, out, patients))
        click.echo(f"{rows} patients scored into {out}.", err=True)
    elif form == "table":
        _print_risks(_records(scored.limit(MOST_SHOWN)), rows, loaded.risks, chosen["interval"])
    else:
        _print(_records(scored), form, "")


def _score_cohort(
    connection: Any, loaded: Any, frame: Any, patients: Path, out: Path | None, form: str, chosen: dict[str, Any]
) -> None:
    from aemodel.serving.cohort import cohort_rows
    from aemodel.serving.engines import small_table
    from aemodel.serving.files import write_rows
    from aemodel.serving.progress import watched

    coded, rows = watched(connection, "Counting profiles", lambda: cohort_rows(loaded, frame, **chosen))
    if out is not None:
        write_rows(small_table(coded, chosen["by"] or [], rows), out, patients)
        click.echo(f"{len(rows)} expected numbers written to {out}.", err=True)
    elif form == "table":
        shown = [row | {"expected": f"{row['expected']:.1f}"} for row in rows]
        _print(shown, "table", "Patients expected to have each event")
        click.echo(f"Posterior mean and {chosen['interval']:.0%} predictive interval: uncertainty of the risks, and chance.")
    else:
        _print(rows, form, "")


def _records(relation: Any) -> Rows:
    return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]


MOST_SHOWN = 20


def _print_risks(rows: Rows, patients: int, risks: Any, interval: float) -> None:
    """A block per patient: each event's risks in per cent with intervals, and what carries them."""
    own = [name for name in (rows[0] if rows else ()) if not any(name.startswith(f"{event}_") for event in risks.events)]
    for number, row in enumerate(rows, start=1):
        about = ", ".join(f"{name} {row[name]}" for name in own if row[name] is not None)
        lines = []
        for event in risks.events:
            if f"{event}_support" in row:
                line = {"event": event}
                for grade in risks.grades:
                    prefix = f"{event}_g{grade[0]}"
                    if f"{prefix}_risk" in row:
                        line[f"grade {grade}"] = _in_words(*(row[f"{prefix}_{what}"] for what in ("risk", "lower", "upper")))
                lines.append(line | {"support": row[f"{event}_support"]})
        _print(lines, "table", f"Patient {number}: {about}")
    if patients > MOST_SHOWN:
        click.echo(f"... and {patients - MOST_SHOWN} more patients: name an output file to have them all.")
    click.echo(
        f"Posterior mean risk with {interval:.0%} interval. Support says what carries an answer: data = this event's own"
    )
    click.echo("published margins; pooled = learned from other events; prior = no published frequency speaks of it.")


def _in_words(risk: float | None, lower: float | None, upper: float | None) -> str:
    if risk is None or lower is None or upper is None:
        return ""
    return f"{risk:6.1%} ({lower:.1%} to {upper:.1%})"


@main.command(options_metavar="[OPTIONS] [MODEL] OUT")
@click.argument("arguments", nargs=-1, metavar="")
@one_line_errors
def calculator(arguments: tuple[str, ...]) -> None:
    r"""Write a web page that answers for one patient, with everything in it: no network, no server, no Python.

    MODEL is a shipped model's name or a saved model's folder (by default aall1331), OUT the page, ending in .html.

    \b
    Examples:
      aemodel calculator risks.html
      aemodel calculator models/mine risks.html
    """
    from aemodel.serving.calculator import write_calculator
    from aemodel.serving.reading import load_model

    if len(arguments) not in (1, 2):
        raise click.UsageError(f"expected [MODEL] OUT, not {len(arguments)} arguments")
    *model, out = arguments
    path = write_calculator(load_model(model[0] if model else "aall1331"), out)
    click.echo(f"Calculator written into {path} ({path.stat().st_size / 1000:.0f} kB).", err=True)


def _print(rows: Rows, form: str, title: str) -> None:
    """Rows for a person (aligned, in colour on a terminal) or for a program."""
    if form == "json":
        click.echo(json.dumps(rows, indent=1, default=str))
    elif form == "csv":
        from aemodel.serving.files import neutralised

        writer = csv.writer(sys.stdout, lineterminator="\n")
        for line in [list(rows[0]) if rows else [], *(list(row.values()) for row in rows)]:
            writer.writerow([neutralised(cell) for cell in line])
    elif sys.stdout.isatty():
        _print_rich(rows, title)
    else:
        click.echo(title)
        _print_plain(rows)


def _print_plain(rows: Rows) -> None:
    names = list(rows[0]) if rows else []
    widths = {name: max(len(name), *(len(str(row.get(name, ""))) for row in rows)) for name in names}
    for row in [dict(zip(names, names, strict=True)), *rows]:
        click.echo("  " + "  ".join(_padded(row.get(name, ""), widths[name]) for name in names).rstrip())
    click.echo()


def _padded(value: Any, width: int) -> str:
    return str(value).rjust(width) if isinstance(value, (int, float)) else str(value).ljust(width)


def _print_rich(rows: Rows, title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for name in rows[0] if rows else []:
        table.add_column(name, justify="right" if isinstance(rows[0][name], (int, float)) else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)
    click.echo()


def _wrapped(text: str) -> None:
    click.echo(click.wrap_text(text, width=100, initial_indent="  - ", subsequent_indent="    "))


if __name__ == "__main__":
    main()
