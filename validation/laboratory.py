"""One compiled model for all experiments: which likelihood it has, and of which margins, is data to be exchanged.

The log likelihood is ``joint_power`` times the joint one of ``margins_*`` plus a binomial for each published frequency,
times ``row_power`` (row,), plus ``null_weights`` (test,) times the log probability that a table's test was not
significant. So the same machine code is the package's model (1, zeros), the product of binomials (0, ones), a margin
counted twice (1, and ones for its rows), or, with patients and counts multiplied by a large factor and ``joint_power``
divided by it, the kernel without its determinant; of all tables, or of some.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import nutpie
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from aemodel.inference.design import Design, all_margins, family_averages, make_design
from aemodel.inference.diagnostics import Diagnostics
from aemodel.inference.effects import Centring, make_centring, state_probabilities
from aemodel.inference.forward import Forward, make_forward
from aemodel.inference.idata import diagnose
from aemodel.inference.likelihood import joint_margins
from aemodel.inference.model import (
    SAMPLED,
    coordinates,
    exchanged,
    family_state_logp,
    margin_data,
    prior_logits,
)
from aemodel.inference.selection import selection_logp, weights_of_tests
from aemodel.publication.evidence import Null
from aemodel.publication.margins import FamilyMargins
from aemodel.publication.tables import Tables

Likelihood = Literal["joint", "product", "twice", "no_determinant"]
Prior = Callable[[Design, Centring, Any], Any]
"""As `prior_logits`: the prior, inside a `pm.Model`, that makes logits of branches in every cell."""

ALPHA = 0.05
"""Level of the tests by which a simulated publication chooses its tables."""

LARGE = 1e5
"""Factor of patients and counts beside which the determinant vanishes."""


@dataclass(frozen=True, eq=False)
class Laboratory:
    """The compiled model and what it was made of. Equal to itself only, so that what was fitted with it can be kept."""

    tables: Tables
    design: Design
    margins: tuple[FamilyMargins, ...]
    forward: Forward
    tests: tuple[Null, ...]
    compiled: Any
    parameters: tuple[str, ...]
    product: bool

    def data(
        self,
        tables: Tables,
        likelihood: Likelihood = "joint",
        prior_scale: float = 1.0,
        nulls: Sequence[Null] = (),
        like: Sequence[FamilyMargins] | None = None,
    ) -> dict[str, Any]:
        """The compiled model's data for a publication with the same rows, of which those marked derived are not used.

        ``nulls`` are those of ``tests`` that were not significant and are to count.
        """
        rows = tables.frequencies
        margins = all_margins(self.design, rows, like)
        packed = margin_data(margins)
        factor = LARGE if likelihood == "no_determinant" else 1.0
        packed = packed._replace(n=packed.n * factor, counts=packed.counts * factor)
        return (
            exchanged(self.design, margins)
            | {f"margins_{name}": value for name, value in packed._asdict().items()}
            | {
                "joint_power": 0.0 if likelihood == "product" else 1.0 / factor,
                "prior_scale": float(prior_scale),
                "null_weights": weights_of_tests(self.design, self.tests, nulls, margins),
            }
            | (_by_row(tables, likelihood) if self.product else {})
        )

    def data_of(self, margins: tuple[FamilyMargins, ...], design: Design) -> dict[str, Any]:
        """The compiled model's data for margins of another cohort, that of ``design``: counts alone."""
        data = exchanged(design, margins) | {"joint_power": 1.0, "prior_scale": 1.0, "null_weights": np.zeros(len(self.tests))}
        return data | (_by_row(self.tables, "joint") if self.product else {})

    def sample(
        self, data: Mapping[str, Any], *, seed: int, draws: int, tune: int, chains: int = 2, cores: int | None = None
    ) -> tuple[xr.Dataset, Diagnostics]:
        """Posterior draws and their diagnostics."""
        with threadpool_limits(1, user_api="blas"):
            idata = nutpie.sample(
                self.compiled.with_data(**data),
                draws=draws,
                tune=tune,
                chains=chains,
                cores=cores or chains,
                seed=seed,
                progress_bar=False,
                save_warmup=False,
            )
        idata["posterior"] = idata["posterior"][list(self.parameters)]
        return idata["posterior"], diagnose(idata)


def make_laboratory(
    tables: Tables, tests: tuple[Null, ...] | None = None, *, product: bool = True, prior: Prior = prior_logits
) -> Laboratory:
    """Compile the model for a publication's rows, and ``tests`` (by default those of its tables): half a minute, once.

    Without ``product`` there is no product of binomials in it, which takes half of the time of a round.
    """
    design = make_design(tables)
    tests = table_tests(tables) if tests is None else tests
    model = laboratory_model(tables, design, tests, product=product, prior=prior)
    parameters = tuple(v.name for v in model.unobserved_RVs if not v.name.endswith(SAMPLED))
    margins = all_margins(design, tables.frequencies)
    compiled = nutpie.compile_pymc_model(model)
    return Laboratory(tables, design, margins, make_forward(design), tests, compiled, parameters, product)


def laboratory_model(
    tables: Tables, design: Design, tests: tuple[Null, ...], *, product: bool = True, prior: Prior = prior_logits
) -> pm.Model:
    """Priors of the package's model, or others, and the likelihoods with their powers."""
    margins = all_margins(design, tables.frequencies)
    with pm.Model(coords=coordinates(design)) as model:
        centring = make_centring(design, margins, [(test.event, test.grade, test.covariate) for test in tests])
        p = state_probabilities(*design.paths, prior(design, centring, pm.Data("prior_scale", 1.0)), pt)
        data = [pm.Data(f"margins_{name}", value) for name, value in margin_data(margins)._asdict().items()]
        averages = [pm.Data(f"average_{i}", average) for i, average in enumerate(family_averages(design, margins))]
        joint = joint_margins(family_state_logp(design, p, averages), data)
        power = pm.Data("joint_power", 1.0)
        # Zero times minus infinity is no number: a likelihood that is not wanted is switched off, not multiplied away.
        pm.Potential("joint", pt.switch(power > 0, power * joint, 0.0))
        if product:
            pm.Potential("rows", _product_of_binomials(tables, design, p))
        weights = pm.Data("null_weights", np.zeros(len(tests)))
        pm.Potential("nulls", selection_logp(design, tests, weights, p))
    return model


def _by_row(tables: Tables, likelihood: Likelihood) -> dict[str, Any]:
    """The product's data: which rows' binomials count, and their counts."""
    power = ~tables.frequencies["derived"].to_numpy() & (likelihood in ("product", "twice"))
    power = power & _first_covariate(tables) if likelihood == "twice" else power
    return {"row_power": power.astype(float), "row_counts": tables.frequencies["observed"].to_numpy(dtype=float)}


def _product_of_binomials(tables: Tables, design: Design, p: Any) -> Any:
    """Sum over rows of each one's binomial log likelihood times its power, both of them data."""
    rows, rate = tables.frequencies, row_rates(tables, design, p)
    counts = pm.Data("row_counts", rows["observed"].to_numpy(dtype=float))
    rowwise = counts * pt.log(rate) + (rows["n"].to_numpy(dtype=float) - counts) * pt.log1p(-rate)
    return pt.dot(pm.Data("row_power", np.zeros(len(rows))), rowwise)


def row_rates(tables: Tables, design: Design, p: Any) -> Any:
    """The rate of each frequency, (row,), from state probabilities (state, cell)."""
    rows = tables.frequencies
    having = np.array([design.states_having(e, g) for e, g in zip(rows["event"], rows["grade"], strict=True)], dtype=float)
    inside = np.array([design.cells.having(c, v) for c, v in zip(rows["covariate"], rows["level"], strict=True)])
    share = inside * design.cells.n
    share = share / share.sum(axis=1, keepdims=True)
    return pt.clip((pt.dot(having, p) * share).sum(axis=1), 1e-12, 1 - 1e-12)


def table_tests(tables: Tables) -> tuple[Null, ...]:
    """The test between a covariate's levels of every table of an event's frequencies, at each grade."""
    rows = tables.frequencies[~tables.frequencies["derived"] & (tables.frequencies["covariate"] != "total")]
    return tuple(
        Null(event, grade, covariate, tuple(levels), ALPHA, False, "validation")
        for (event, covariate, grade), levels in rows.groupby(["event", "covariate", "grade"], sort=False)["level"]
        if grade in tables.grades
    )


def _first_covariate(tables: Tables) -> NDArray[np.bool_]:
    """Rows of the first event with margins by two covariates, by the first of them: what is counted twice on purpose."""
    rows = tables.frequencies[~tables.frequencies["derived"]]
    counted = rows.groupby("event", sort=False)["covariate"].nunique()
    event = counted[counted >= 2].index[0]
    covariate = rows[rows["event"] == event]["covariate"].iloc[0]
    both = (tables.frequencies["event"] == event) & (tables.frequencies["covariate"] == covariate)
    return both.to_numpy()
