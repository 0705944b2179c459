"""What calibration slope a right model would show on its own publication: from publications simulated and fitted again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import nutpie
import pandas as pd
import xarray as xr
from threadpoolctl import threadpool_limits

from aemodel.answers.calibration import contrast_slope
from aemodel.inference.design import Design, all_margins, make_design
from aemodel.inference.effects import effect_scales
from aemodel.inference.evidence import Evidence
from aemodel.inference.fitting import Fitted
from aemodel.inference.forward import PARAMETERS, Forward, make_forward
from aemodel.inference.integer_tables import sample_tables
from aemodel.inference.posterior import make_density
from aemodel.inference.simulated import all_frequencies, pair_tests, print_list, publish, row_rates, simulate_states
from aemodel.publication.arguments import whole_number
from aemodel.publication.evidence import Null
from aemodel.publication.tables import Tables
from aemodel.scoring.progress import waiting

CENTRAL = (0.05, 0.95)
SHORT = {"draws": 300, "tune": 300, "chains": 2}
"""How each is sampled: for posterior means alone."""


def expected_slopes(model: Fitted, *, seed: int, refits: int = 60) -> Fitted:
    """The model, with the slopes that a right one would show recorded in its settings.

    Each refit draws intercepts and scales from the posterior, *fresh* effects from the prior with those scales, a whole
    table of the cohort and its patients; prints of them what the publication printed, and of the events whose unlisted
    tests it tells, the pairs that were significant; fits that in the same way, orderings apart; and takes the slope of what
    was printed on what was fitted. So a model with truths like its own gets the selection, and the shrinkage, of the real
    one, and a slope outside the central 90 % says that its shrinkage is wrong, in either direction.

    Parameters
    ----------
    model
        From `fit`.
    seed
        The same seed gives the same publications.
    refits
        How many: 60 take a quarter of an hour or more.

    Returns
    -------
    Fitted
        Whose ``settings["expected_slopes"]`` has central90, from lower to upper by grade, median and refits. It goes into
        the files of `save_model`; `calibration_slopes` and the pages show it.

    Raises
    ------
    TypeError, ValueError
        ``model`` is no `Fitted`, or ``refits`` is below 20.
    """
    if not isinstance(model, Fitted):
        raise TypeError(f"model: expected what fit returns, not {type(model).__name__}")
    seed, refits = whole_number("seed", seed), whole_number("refits", refits, 20)
    tests = pair_tests(model.tables)
    tables = all_frequencies(model.tables, tests)
    design = make_design(tables)
    scale = model.settings.get("prior_scale", 1.0)
    forward = make_forward(design, deviation=0.0)
    samples = np.linspace(0, model.posterior.sizes["chain"] * model.posterior.sizes["draw"] - 1, refits).round().astype(int)
    slopes = []
    for i, sample in enumerate(samples):
        with waiting(f"Publication {i + 1} of {refits}"):
            rng = np.random.default_rng([seed, i])
            truth = _fresh(design, model.posterior, int(sample), rng)
            p = next(iter(forward.states(truth, seed + i)))
            table = sample_tables(tables, 1, seed=seed + i)[0]
            made = publish(tables, design, simulate_states(design, p, table, rng))
            printed, left_out, _ = print_list(made, tests)
            refitted = _refit(design, printed, left_out, scale, seed + i)
            slopes.append(_slopes(printed, model.risks.grades, forward, refitted))
    frame = pd.DataFrame(slopes)
    central = {grade: [float(np.quantile(frame[grade].dropna(), q)) for q in CENTRAL] for grade in frame}
    record = {"central90": central, "median": frame.median().to_dict(), "refits": refits, "seed": seed}
    return replace(model, settings={**model.settings, "expected_slopes": record})


def _fresh(design: Design, posterior: xr.Dataset, sample: int, rng: np.random.Generator) -> xr.Dataset:
    """One draw of intercepts and scales, and effects drawn afresh with these scales."""
    chain, draw = divmod(sample, posterior.sizes["draw"])
    one = posterior.isel(chain=[chain], draw=[draw])[sorted(PARAMETERS)]
    scales = effect_scales(design, one["scale"].values[0, 0], one["alike"].values[0, 0], np)
    pairs = zip(("own", "shared"), scales, strict=True)
    return one.assign({name: (one[name].dims, (scale * rng.normal(size=scale.shape))[None, None]) for name, scale in pairs})


def _refit(design: Design, printed: Tables, left_out: tuple[Null, ...], scale: float, seed: int) -> xr.Dataset:
    density = make_density(design, all_margins(design, printed.frequencies), Evidence((), "order", left_out), scale)
    with threadpool_limits(1, user_api="blas"):
        idata = nutpie.sample(density.sampler(), **SHORT, seed=seed, progress_bar=False, save_warmup=False)
    return idata["posterior"][sorted(PARAMETERS)]


def _slopes(printed: Tables, grades: Sequence[str], forward: Forward, posterior: xr.Dataset) -> dict[str, float]:
    """The slope of each grade over all events, as `calibration_slopes` has it in its last rows."""
    cells = forward.design.cells
    p = np.mean(list(forward.states(posterior, 1)), axis=0)[:, : len(cells.n)]
    rows = printed.frequencies
    rows = rows[~rows["derived"] & (rows["covariate"] != "total")]
    found = {}
    for grade, mine in rows[rows["grade"].isin(grades)].groupby("grade"):
        rates = row_rates(forward.design, mine, cells.n)(p)
        counts = mine["observed"].to_numpy(dtype=float)[None]
        found[str(grade)] = float(contrast_slope(mine, counts, rates)[0])
    return found
