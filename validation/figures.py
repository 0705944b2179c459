"""What the experiments found, as tables and figures for `docs/validation.md`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aemodel.answers.drawing import BLUE, COLOURS, INK, MARKERS, SOFT, Drawing, drawn, key
from aemodel.inference.design import make_design
from aemodel.publication.tables import Tables
from validation.ranks import INTERVAL
from validation.summary import PROBABILITY, band_of, coverage_table, ecdfs, rank_table, sampler_table
from validation.withheld import MODELS, elpd_table

Rounds = Sequence[dict[str, Any]]

COMPETITORS = {"overall rate": "each event's overall rate for everyone", "product": "the product of binomials"}

LABELS = {
    "joint": "aemodel's likelihood",
    "product": "product of binomials",
    "twice": "one covariate's margins twice",
    "no_determinant": "kernel without its determinant",
    "association": "covariates associated beyond their margins",
    "interaction": "an interaction that the model lacks",
    "selective": "only significant tables, no term for it",
    "selective_term": "only significant tables, with the term",
    "posterior": "truths from the posterior of the trial",
    "full_rows": "bambi on the patients themselves",
}
"""What the arms are called in figures, in their order."""

RISKS = ("cohort", "profile")
NO_TRUE_PARAMETERS = ("association", "interaction", "posterior")
"""Arms whose truths are not drawn from the model, so that only ranks of risks mean anything; of the last not even those."""


def write_results(found: Mapping[str, Rounds], withheld: Rounds, folder: Path, tables_of: Tables) -> None:
    """Tables (CSV, Markdown) and figures (PNG) of all arms there are; ``found`` is rounds by arm, of a publication."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {arm: found[arm] for arm in LABELS if found.get(arm)}
    ranked = [arm for arm in found if arm != "full_rows"]
    others = {arm: found.get("joint", []) if arm not in ("joint", "posterior") else [] for arm in found}
    tables: dict[str, dict[str, pd.DataFrame]] = {
        "ranks": {arm: rank_table(found[arm]) for arm in ranked},
        "coverage": {arm: coverage_table(rounds, others[arm]) for arm, rounds in found.items()},
        "sampler": {arm: sampler_table(found[arm]).rename_axis("diagnostic").reset_index() for arm in ranked},
    }
    for name, parts in tables.items():
        frame = pd.concat([table.assign(arm=arm) for arm, table in parts.items()])
        frame[["arm", *frame.columns.drop("arm")]].round(4).to_csv(folder / f"{name}.csv", index=False)
    _draw_ranks(
        folder / "ranks.png", {arm: found[arm] for arm in ranked if arm in ("joint", "product", "twice", "no_determinant")}
    )
    _draw_coverage(folder / "coverage.png", tables["coverage"])
    _pages(folder, tables, _names(tables_of))
    if withheld:
        table = elpd_table(withheld)
        _withheld_page(folder, table)
        table.round(3).to_csv(folder / "withheld.csv", index=False)
        rows = [{"cluster": one["cluster"], **row} for one in withheld for row in one["rows"]]
        pd.DataFrame(rows).round(4).to_csv(folder / "withheld_rows.csv", index=False)
        _draw_withheld(folder / "withheld.png", table)


def _pages(folder: Path, tables: Mapping[str, Mapping[str, pd.DataFrame]], names: Callable[[str], str]) -> None:
    """Tables in Markdown, which the documentation includes."""
    rows: list[tuple[str, ...]] = []
    for arm, table in tables["ranks"].items():
        likelihood = table.set_index("quantity").loc["log likelihood"]
        verdict = "inside" if likelihood["inside"] else f"outside ({likelihood['largest']:+.2f})"
        if arm in NO_TRUE_PARAMETERS:
            table, verdict = table[table["quantity"].str.startswith(RISKS)], "-"
        outside = int((~table["inside"]).sum())
        last = table.assign(size=-table["largest"].abs()).sort_values(["p", "size"]).iloc[0]
        farthest = f"{names(last['quantity'])} ({last['largest']:+.2f}, p {_p_value(last['p'])})"
        if arm != "posterior":
            rows.append((LABELS[arm], f"{likelihood['rounds']}", f"{outside} of {len(table)}", verdict, farthest))
    head = ["fit or publication", "rounds", "outside", "log likelihood", "farthest from uniform"]
    (folder / "ranks.txt").write_text(_markdown(head, rows), encoding="utf-8")
    if "joint" in tables["ranks"]:
        ranks = tables["ranks"]["joint"]
        exceptions = [
            (names(row["quantity"]), str(row["rounds"]), f"{row['largest']:+.3f}", _p_value(row["p"]))
            for row in ranks[~ranks["inside"]].sort_values("p").to_dict("records")
        ]
        head = ["outside its band", "rounds", "largest difference", "p"]
        (folder / "exceptions.txt").write_text(_markdown(head, exceptions), encoding="utf-8")
    covered: list[tuple[str, ...]] = []
    for arm, table in tables["coverage"].items():
        last = table.iloc[-1]
        parts, paired = ("profiles", "cohort"), not np.isnan(last["width_less"])
        shares = [f"{last[part]:.1%} ± {last[f'{part}_se']:.1%}" for part in parts]
        less = [f"{100 * last[f'{part}_less']:+.1f} ± {100 * last[f'{part}_less_se']:.1f}" if paired else "" for part in parts]
        wider = f"{last['width'] / (last['width'] - last['width_less']):.2f}" if paired else ""
        covered.append((LABELS[arm], str(last["rounds"]), *shares, *less, f"{last['width']:.3f}", wider))
    head = ["fit or publication", "rounds", "profiles", "cohort", "profiles, less", "cohort, less", "width", "times"]
    (folder / "coverage.txt").write_text(_markdown(head, covered), encoding="utf-8")


def _withheld_page(folder: Path, table: pd.DataFrame) -> None:
    rows = [
        (
            str(one["cluster"]) + ("" if one["passed"] else " *"),
            str(one["rows"]),
            f"{one['elpd']:.1f}",
            *(f"{one[f'over {model}']:+.2f} ± {one[f'se {model}']:.2f}" for model in MODELS[1:]),
            f"{one['inside50']:.0%}",
            f"{one['inside90']:.0%}",
        )
        for one in table.to_dict("records")
    ]
    head = ["withheld", "counts", "log density", "less overall rate's", "less product's", "in 50 %", "in 90 %"]
    (folder / "withheld.txt").write_text(_markdown(head, rows), encoding="utf-8")


def _names(tables: Tables) -> Callable[[str], str]:
    """Words for quantities that are ranked by number."""
    design = make_design(tables)
    covariates = design.cells.covariates
    words = {f"intercept {k}": f"intercept {branch.name}" for k, branch in enumerate(design.branches)}
    for cell, levels in enumerate(design.cells.levels):
        named = (covariate.names[level] for covariate, level in zip(covariates, levels, strict=True))
        words[f"profile {cell}"] = f"profile {' '.join(named)},"
    for kind, pools in (("scale", design.pools), ("alike", design.sharing)):
        for i, pool in enumerate(pools):
            words |= {f"{kind} {i}/{k}": f"{kind} {pool}, {term.name}" for k, term in enumerate(design.terms)}

    def named_in_words(quantity: str) -> str:
        number = " ".join(quantity.split(" ")[:2])
        return words.get(number, number) + quantity.removeprefix(number)

    return named_in_words


def _p_value(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def read_all(folder: Path) -> tuple[dict[str, Rounds], Rounds]:
    """Rounds by arm, and withheld clusters, from the folder of an extended run."""
    found = {
        arm.name: [json.loads(path.read_text(encoding="utf-8")) for path in sorted(arm.glob("round-*.json"))]
        for arm in sorted(folder.iterdir())
        if arm.is_dir()
    }
    return {arm: rounds for arm, rounds in found.items() if arm in LABELS}, found.get("withheld", [])


def _draw_ranks(path: Path, found: Mapping[str, Rounds]) -> None:
    """Each quantity's ECDF of ranks less the uniform one, with the simultaneous band of its number of rounds."""
    with drawn(None, (3.1 * len(found), 3.2), len(found), sharey=True) as drawing:
        for axis, (arm, rounds) in zip(drawing.axes, found.items(), strict=True):
            each = ecdfs(rounds)
            outside = sum(not ecdf.inside for ecdf in each.values())
            band, _ = band_of(len(rounds), PROBABILITY)
            axis.fill_between(band.points, band.lower, band.upper, color=BLUE, alpha=0.2, linewidth=0, zorder=3)
            axis.axhline(0, color=SOFT, linewidth=0.8)
            for ecdf in each.values():
                colour, alpha, above = (INK, 0.2, 2) if ecdf.inside else (COLOURS[1], 0.55, 4)
                axis.plot(ecdf.band.points, ecdf.difference, color=colour, alpha=alpha, linewidth=0.7, zorder=above)
            axis.set_title(f"{LABELS[arm]}\n{outside} of {len(each)} outside, {len(rounds)} rounds")
            axis.set_xlabel("rank of the truth, as a share")
        drawing.axes[0].set_ylabel("ECDF less uniform")
        _save(drawing, path)


def _draw_coverage(path: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Coverage of profiles' and cohorts' intervals by arm, over all events and grades, with two standard errors."""
    arms = list(tables)
    with drawn(None, (7.6, 0.42 * len(arms) + 1.3)) as drawing:
        axis = drawing.axes[0]
        axis.axvline(INTERVAL, color=SOFT, linewidth=0.8)
        places = np.arange(len(arms))[::-1]
        last = pd.DataFrame([tables[arm].iloc[-1] for arm in arms])
        keys = [
            _bars(axis, last[part], last[f"{part}_se"], places, k, label)
            for k, (part, label) in enumerate({"profiles": "risk of each profile", "cohort": "risk of the cohort"}.items())
        ]
        axis.set_yticks(places, [f"{LABELS[arm]} ({int(n)})" for arm, n in zip(arms, last["rounds"], strict=True)])
        axis.set_xlabel("share of 90 % intervals that cover the truth (rounds)")
        drawing.legend(keys)
        _save(drawing, path)


def _draw_withheld(path: Path, table: pd.DataFrame) -> None:
    """How much better each withheld cluster is predicted than by either competitor, in nats."""
    clusters = table.iloc[:-2]
    with drawn(None, (7.6, 0.3 * len(clusters) + 1.3)) as drawing:
        axis = drawing.axes[0]
        axis.axvline(0, color=SOFT, linewidth=0.8)
        places = np.arange(len(clusters))[::-1]
        keys = [
            _bars(axis, clusters[f"over {model}"], clusters[f"se {model}"], places, k, f"better than {COMPETITORS[model]}")
            for k, model in enumerate(MODELS[1:])
        ]
        axis.set_yticks(places, clusters["cluster"])
        axis.set_xlabel("difference in log predictive density, nats (bars: Monte Carlo)")
        drawing.legend(keys)
        _save(drawing, path)


def _save(drawing: Drawing, path: Path) -> None:
    from matplotlib import pyplot

    figure = drawing.axes[0].figure
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _bars(axis: Any, values: Any, errors: Any, places: Any, series: int, label: str) -> Any:
    """The first or second series of values with two standard errors, beside the other; and its key for the legend."""
    colour, marker = COLOURS[series], MARKERS[series]
    beside = places + 0.12 - 0.24 * series
    axis.errorbar(values, beside, xerr=2 * errors, fmt=marker, color=colour, markersize=5, elinewidth=1)
    return key(label, color=colour, marker=marker, linestyle="", markersize=5)
