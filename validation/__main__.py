"""Run the experiments: `python -m validation sbc --out DIR`. Interrupted, it goes on where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aemodel.publication.tables import load_tables
from validation.arms import FITS, arm_table, make_arm_laboratory, one_round, profile_table
from validation.figures import read_all, write_results
from validation.first_model import make_first_laboratory
from validation.flags import flag_table, one_event
from validation.full_rows import one_regression
from validation.runs import run_rounds
from validation.spelled import SPELLINGS, TRIAL, one_spelling, spelling_table
from validation.summary import coverage_table, rank_table, sampler_table
from validation.thinned import one_thinning, thinning_table
from validation.withheld import clusters, elpd_table, one_cluster

ARMS: dict[str, dict[str, Any]] = {
    "joint": {},
    "product": {"likelihood": "product"},
    "twice": {"likelihood": "twice"},
    "no_determinant": {"likelihood": "no_determinant"},
    "association": {"association": 0.8},
    "interaction": {"interaction": 0.5},
    "selective": {"selective": "without term"},
    "selective_term": {"selective": "with term"},
    "posterior": {"truths": "posterior"},
}
"""Experiments by name: the model itself, negative controls, patients the model does not describe, selective publication,
and truths that the trial's own counts make likely."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Experiments that could show the model wrong."""


@main.command()
@click.argument("arm", type=click.Choice(list(ARMS)))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of results; each arm has its own in it.")
@click.option("--publication", default="aall1331", show_default=True)
@click.option("--rounds", type=int, default=200, show_default=True)
@click.option("--first-seed", type=int, default=1, show_default=True)
@click.option("--processes", type=int, default=2, show_default=True)
def sbc(arm: str, out: Path, publication: str, rounds: int, first_seed: int, processes: int) -> None:
    """Simulation-based calibration: parameters from the prior, patients, their publication, a fit, ranks and coverage."""
    seeds = range(first_seed, first_seed + rounds)
    found = run_rounds(publication, out / arm, seeds, processes=processes, **ARMS[arm])
    ranks = rank_table(found)
    click.echo(ranks.sort_values("p").head(20).round(3).to_string(index=False))
    click.echo(f"\n{ranks['inside'].mean():.1%} of {len(ranks)} quantities inside their 95 % bands.\n")
    click.echo(coverage_table(found).round(3).to_string(index=False))
    click.echo()
    click.echo(sampler_table(found).round(3).to_string())


@main.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of results; `arms` is made in it.")
@click.option("--publication", default="aall1331", show_default=True)
@click.option("--rounds", type=int, default=200, show_default=True)
@click.option("--first-seed", type=int, default=1, show_default=True)
@click.option("--processes", type=int, default=2, show_default=True)
@click.option("--fit", type=click.Choice(list(FITS)), default="all evidence", show_default=True, help="How to fit.")
def arms(out: Path, publication: str, rounds: int, first_seed: int, processes: int, fit: str) -> None:
    """Truths unlike the prior: effects by several rules, patients, the list a paper would print, a fit of what it printed."""
    make = make_first_laboratory if fit == "first model" else make_arm_laboratory
    folder, seeds = out / "arms" / fit.replace(" ", "_"), range(first_seed, first_seed + rounds)
    found = run_rounds(publication, folder, seeds, what=one_round, make=make, processes=processes, fit=fit)
    click.echo(arm_table(found).round(3).to_string(index=False))
    click.echo()
    click.echo(profile_table(found).round(3).to_string(index=False))


@main.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of results; `spelled` is made in it.")
@click.option("--publication", default=TRIAL, show_default=True)
@click.option("--rounds", type=int, default=100, show_default=True)
@click.option("--first-seed", type=int, default=1, show_default=True)
@click.option("--processes", type=int, default=2, show_default=True)
@click.option("--truths", type=click.Choice(["prior", "trial"]), default="prior", show_default=True, help="Risks of patients.")
def spelled(out: Path, publication: str, rounds: int, first_seed: int, processes: int, truths: str) -> None:
    """Two-way tables, own denominators, cutoffs and rounded percentages: a fit of all of them, and one that drops them."""
    folder, seeds = out / "spelled" / truths, range(first_seed, first_seed + rounds)
    found = run_rounds(publication, folder, seeds, what=one_spelling, processes=processes, truths=truths)
    click.echo(spelling_table(found).round(3).to_string(index=False))
    for fit in SPELLINGS:
        click.echo(f"\n{fit}:\n{sampler_table([one[fit] for one in found]).round(3).to_string()}")


@main.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of results; `thinned` is made in it.")
@click.option("--publication", default="aall1331", show_default=True)
@click.option("--rounds", type=int, default=60, show_default=True)
@click.option("--processes", type=int, default=2, show_default=True)
def thinned(out: Path, publication: str, rounds: int, processes: int) -> None:
    """Patients completed from the margins and halved: one half's fit predicts the other."""
    found = run_rounds(publication, out / "thinned", range(1, rounds + 1), what=one_thinning, processes=processes)
    click.echo(thinning_table(found).round(3).to_string(index=False))


@main.command("full-rows")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of results; `full_rows` is made in it.")
@click.option("--publication", default="aall1331", show_default=True)
@click.option("--rounds", type=int, default=20, show_default=True)
@click.option("--first-seed", type=int, default=1, show_default=True)
@click.option("--processes", type=int, default=2, show_default=True)
def full_rows(out: Path, publication: str, rounds: int, first_seed: int, processes: int) -> None:
    """What only patients' rows could tell: bambi fitted to the simulated patients of the same seeds (extra `bench`)."""
    seeds = range(first_seed, first_seed + rounds)
    found = run_rounds(publication, out / "full_rows", seeds, what=one_regression, processes=processes)
    click.echo(coverage_table(found).round(3).to_string(index=False))


@main.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of results; `withheld` is made in it.")
@click.option("--publication", default="aall1331", show_default=True)
@click.option("--processes", type=int, default=2, show_default=True)
def withheld(out: Path, publication: str, processes: int) -> None:
    """Margins withheld from the fit and predicted: log predictive density against two competitors, and coverage."""
    numbers = range(1, len(clusters(load_tables(publication))) + 1)
    found = run_rounds(publication, out / "withheld", numbers, what=one_cluster, processes=processes)
    click.echo(elpd_table(found).round(2).to_string(index=False))


@main.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of results; `flags` is made in it.")
@click.option("--publication", default="aall1331", show_default=True)
@click.option("--events", type=int, help="How many events; by default all.")
@click.option("--processes", type=int, default=2, show_default=True)
def flags(out: Path, publication: str, events: int | None, processes: int) -> None:
    """Support's measure against refits without an event's own rows: variances of effects, and one rank correlation."""
    numbers = range(1, (events or len(load_tables(publication).events)) + 1)
    table = flag_table(run_rounds(publication, out / "flags", numbers, what=one_event, processes=processes))
    click.echo(table.round(2).to_string(index=False))
    click.echo(f"\nRank correlation over {len(table)} pairs: {table.attrs['rank_correlation']:.2f}")


@main.command()
@click.option("--out", type=click.Path(path_type=Path, exists=True), required=True, help="Folder of results.")
@click.option("--to", type=click.Path(path_type=Path), required=True, help="Folder for tables and figures.")
@click.option("--publication", default="aall1331", show_default=True)
def report(out: Path, to: Path, publication: str) -> None:
    """Tables (CSV, Markdown) and figures (PNG) of all results so far."""
    write_results(*read_all(out), to, load_tables(publication))


if __name__ == "__main__":
    main()
