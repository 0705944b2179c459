"""The command line: tables, fit, check, show, score, calculator, report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

import aemodel
from aemodel.cli_scoring import FORMATS, export, listed_names, profiles, schema, score
from aemodel.pages.errors import Commands, Failed, tell


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True},
    help="""Posterior risk of severe toxicity, from a trial's published tables.

    \b
    Examples:
      aemodel tables                               what was published
      aemodel score aall1331 patients.csv          risks of patients, from the shipped model
      aemodel fit --out models/mine                a model of one's own
      aemodel report aall1331 report.html          what it rests on, and how far to believe it

    NO_COLOR=1 turns colours off. Completion of commands and options in bash, and likewise in zsh and fish:

    \b
      eval "$(_AEMODEL_COMPLETE=bash_source aemodel)"
    """,
)
@click.version_option(package_name="aemodel")
def main() -> None:
    """Commands; what each says of itself is no docstring, for `python -OO` has none."""


@main.command(
    help="""Show a publication's frequencies as counts, and its discrepancies.

    PUBLICATION is the name of a shipped one or a folder with its files. All that is wrong is told, a line each: in cells or
    denominators, or that no patients have these counts. Last, which printed P-values follow: others are misprints or slips.

    \b
    Examples:
      aemodel tables --new my/publication
      aemodel tables my/publication --format csv > frequencies.csv
    """,
)
@click.argument("publication", default="aall1331")
@click.option("--format", "form", type=FORMATS, default="table", help="How to print the frequencies.")
@click.option("--new", is_flag=True, help="Write files to start from, into a folder that has none yet.")
def tables(publication: str, form: str, new: bool) -> None:
    from aemodel.pages.console import print_rows, print_wrapped
    from aemodel.publication.families import make_families
    from aemodel.publication.summary import cutoff_lines, frequency_lines, interval_lines, uncounted_lines, unit_lines
    from aemodel.publication.tables import load_tables, write_template

    if new:
        tell(f"Written: {write_template(publication)}. Start with publication.toml; check with: aemodel tables FOLDER")
        return
    read = load_tables(publication)
    checked = _check_counts(read)
    if form != "table":
        print_rows(read.frequencies.to_dict("records"), form)
        return
    print_wrapped(read.about.title)
    print_wrapped(f"N = {read.n} patients. {read.about.citation}")
    click.echo()
    print_rows(frequency_lines(read), "table", "Patients with each event, by published margin")
    print_wrapped("(sum): adds up other rows, and is no second piece of evidence.")
    for what, lines in (("Rows that are intervals:", interval_lines(read)), ("Cutoffs:", cutoff_lines(read))):
        for line in [what, *lines] if lines else []:
            print_wrapped(line, indent="" if line == what else "  - ")
    slow = [family.slow for family in make_families(read.events, read.classes) if family.slow]
    for line in [*unit_lines(read), *(f"{line}." for line in uncounted_lines(read)), *slow]:
        print_wrapped(line)
    click.echo()
    none = "No discrepancy of the publication is recorded."
    print_wrapped("Discrepancies in the publication, and what was done:" if read.known_discrepancies else none)
    for row in read.known_discrepancies:
        printed = f"printed {row.printed}" + (f"; computed {row.computed}" if row.computed else "")
        print_wrapped(f"{row.where}: {printed}. {row.resolution[:1].upper()}{row.resolution[1:]}.", indent="  - ")
    if checked:
        _print_p_values(read)


def _print_p_values(read: Any) -> None:
    """Which printed P-values follow from the counts."""
    from aemodel.pages.console import print_wrapped
    from aemodel.publication.p_values import p_value_table, tested_levels

    table = p_value_table(read)
    if len(table):
        click.echo()
        print_wrapped(f"Printed P-values that follow from these counts: {int(table['agrees'].sum())} of {len(table)}.")
    for row in table[~table["agrees"]].itertuples():
        tested = f"{row.event} {row.grade} by {row.covariate} ({', '.join(tested_levels(row.levels))}), {row.test}"
        print_wrapped(f"{tested}: printed {row.printed}, computed {row.computed:.3g}", indent="  - ")


def _check_counts(read: Any) -> bool:
    """What a fit would refuse of the cohort and of the counts together; False where the libraries for it are missing."""
    from aemodel.publication.cells import make_cells
    from aemodel.publication.families import make_families

    cells, families = make_cells(read), make_families(read.events, read.classes)
    try:
        from aemodel.publication.margins import check_margins
    except ModuleNotFoundError as error:
        message = f"Not checked, as {error.name} is missing: whether some table of patients has all these counts"
        tell(f"{message}. pip install 'aemodel[fit]'")
        return False
    check_margins(families, cells, read.frequencies)
    return True


@main.command(
    help="""Fit a publication's tables and save the model.

    Takes a minute or two, the first time on a machine half a minute more for compiling. Exit code 1 if the sampler's
    diagnostics fail; the model is saved either way, with the verdict in it.

    \b
    Examples:
      aemodel fit --out models/mine
      aemodel fit my/publication --out models/mine --seed 7 --draws 2000
      aemodel fit --out models/margins-only --ordering none --no-selection
      aemodel fit --out models/with-ours --patients ours.csv --overlap disjoint --power 0.5
    """,
)
@click.argument("publication", default="aall1331")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the fitted model.")
@click.option("--seed", type=int, default=1)
@click.option("--draws", type=int, default=1000, help="Kept draws per chain.")
@click.option("--chains", type=int, default=4)
@click.option("--tune", type=int, default=600, help="Warm-up draws of each chain.")
@click.option("--target-accept", type=float, default=0.85, help="Higher: smaller, slower steps, and fewer divergences.")
@click.option(
    "--ordering",
    type=click.Choice(["both", "either", "order", "none"]),
    default="both",
    help="Use published orderings of groups, with significant tests at both grades, at either, or the order alone.",
)
@click.option("--selection/--no-selection", default=True, help="Use tests that were not significant, or not listed.")
@click.option("--prior-scale", type=float, default=1.0, help="Multiplies the prior scale of all effects.")
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
@click.option("--na", help="Cells of a CSV file of patients that are missing values, separated by commas.")
@click.option("--power", type=float, default=1.0, help="How much a published patient counts (power prior).")
@click.option(
    "--refits",
    type=int,
    default=0,
    help="Publications to simulate and fit again, for the calibration slopes to expect: 60 take a quarter of an hour or more.",
)
def fit(
    publication: str, out: Path, ordering: Any, patients: Path | None, na: str | None, refits: int, **settings: Any
) -> None:
    import time
    import warnings

    from aemodel.answers.expected import expected_slopes
    from aemodel.inference.fitting import fit as fit_tables
    from aemodel.publication.families import make_families
    from aemodel.publication.tables import load_tables
    from aemodel.saved.writer import check_folder, save_model
    from aemodel.scoring.files import read_frame

    check_folder(out)
    read = load_tables(publication)
    own = None if patients is None else read_frame(patients, listed_names("na", na) or [])
    tell(f"Fitting {read.name}: {settings['chains']} chains of {settings['draws']} draws.")
    for family in make_families(read.events, read.classes):
        if family.slow:
            tell(f"Note: {family.slow}")
    started = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the verdict is printed below
        fitted = fit_tables(read, ordering=None if ordering == "none" else ordering, patients=own, **settings)
    if refits:
        fitted = expected_slopes(fitted, seed=settings["seed"], refits=refits)
    saved = save_model(fitted, out)
    tell(f"{fitted.diagnostics}.\nSaved in {saved.folder} after {time.monotonic() - started:.0f} s.")
    if not fitted.diagnostics.passed:
        raise Failed("the sampler's diagnostics failed: see above")


@main.command(
    help="""Check a saved model: diagnostics, observed against predicted for every published frequency, and evidence in words.

    MODEL is a shipped model's name or a saved model's folder.
    Exit code 1 if the diagnostics fail or fewer than 85 % of published counts lie in their 90 % interval.

    \b
    Examples:
      aemodel check
      aemodel check models/mine --format csv > calibration.csv
    """,
)
@click.argument("model", default="aall1331")
@click.option("--format", "form", type=FORMATS, default="table", help="How to print the calibration table.")
def check(model: str, form: str) -> None:
    from aemodel.answers.calibration import calibration_table, coverage
    from aemodel.pages.checking import print_check
    from aemodel.pages.console import print_rows
    from aemodel.scoring.progress import waiting

    loaded = aemodel.load_model(model)
    with waiting("Predicting every published frequency"):
        table = calibration_table(loaded)
    fits = coverage(table)
    if form == "table":
        print_check(loaded, table)
    else:
        print_rows(table.to_dict("records"), form)
    if not loaded.diagnostics.passed:
        raise Failed("the sampler's diagnostics failed: " + "; ".join(loaded.diagnostics.failures()))
    if fits["within90"] < 0.85:
        raise Failed(f"only {fits['within90']:.0%} of published counts lie in their 90 % predictive interval")


@main.command(
    help="""Show what a saved model is: its card, with data, covariates, events, settings, limits and digest, and its files.

    MODEL is a shipped model's name or a saved model's folder. Its files are checked against their digests first.

    \b
    Examples:
      aemodel show
      aemodel show models/mine --format json
    """,
)
@click.argument("model", default="aall1331")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="How to print.")
def show(model: str, form: str) -> None:
    from aemodel.pages.console import print_markdown
    from aemodel.pages.description import model_facts

    loaded = aemodel.load_model(model)
    facts = model_facts(loaded.manifest, loaded.tables, loaded.risks) | {"files": loaded.file_states()}
    if form == "json":
        click.echo(json.dumps(facts, indent=1))
    else:
        from aemodel.pages.render import card

        print_markdown(card(facts, facts["files"]))


@main.command(
    options_metavar="[OPTIONS] [MODEL] OUT",
    help="""Write a web page that answers for one patient, with everything in it: no network, no server, no Python.

    MODEL is a shipped model's name or a saved model's folder (by default aall1331), OUT the page, ending in .html.

    \b
    Examples:
      aemodel calculator risks.html
      aemodel calculator models/mine risks.html
      aemodel calculator models/mine risks.html --beside models/without-nulls
    """,
)
@click.argument("arguments", nargs=-1, metavar="")
@click.option("--beside", metavar="MODEL", help="Another fit of the same counts: each answer tells what that one says, too.")
def calculator(arguments: tuple[str, ...], beside: str | None) -> None:
    from aemodel.pages.calculator import write_calculator

    if len(arguments) not in (1, 2):
        raise click.UsageError(f"expected [MODEL] OUT, not {len(arguments)} arguments")
    *model, out = arguments
    other = None if beside is None else aemodel.load_model(beside)
    path = write_calculator(aemodel.load_model(model[0] if model else "aall1331"), out, other)
    tell(f"Calculator written into {path} ({path.stat().st_size / 1000:.0f} kB).")


@main.command(
    help="""Write a web page that tells what a model is, what it rests on, and how far to believe it.

    MODEL is a shipped model's name or a saved model's folder, OUT the page, ending in .html. It can be read on a screen
    of any width and on paper, and needs no network. Takes half a minute or more.

    \b
    Examples:
      aemodel report aall1331 report.html
      aemodel report models/mine report.html --compare models/no-nulls --compare models/counts-only
    """,
)
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--compare", metavar="MODEL", multiple=True, help="Another fit of the same publication, to show beside it.")
@click.option("--tables", type=int, default=20, help="Tables of the covariates to draw; 0 for none.")
def report(model: str, out: Path, compare: tuple[str, ...], tables: int) -> None:
    import time

    from aemodel.pages.report import write_report

    started = time.monotonic()
    loaded, others = aemodel.load_model(model), [aemodel.load_model(other) for other in compare]
    tell(f"Working out the report of {loaded.name}.")
    path = write_report(loaded, out, others, tables=tables)
    size, seconds = path.stat().st_size / 1000, time.monotonic() - started
    tell(f"Report written into {path} ({size:.0f} kB) after {seconds:.0f} s.")


for command in (score, schema, export, profiles):
    main.add_command(command)

if __name__ == "__main__":
    main()
