"""What all experiments fit with: the package's density for any publication of the same cohort and events, or a wrong one.

The log likelihood is the package's own (``joint``), a binomial for each published frequency (``product``), the package's and
one covariate's margins of an event once more (``twice``), or, with patients and counts multiplied by a large factor and the
log likelihood divided by it, the kernel without its determinant; of all tables, or of some, and with the log probability
that tests were not significant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import nutpie
import xarray as xr
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from aemodel.inference.density import Term
from aemodel.inference.design import Design, all_margins, make_design
from aemodel.inference.diagnostics import Diagnostics
from aemodel.inference.effects import Centring, make_centring
from aemodel.inference.forward import Forward, make_forward
from aemodel.inference.idata import diagnose
from aemodel.inference.likelihood import margins_term
from aemodel.inference.posterior import DIMS, Density, Known
from aemodel.inference.selection import null_weights, nulls_term
from aemodel.publication.evidence import Null
from aemodel.publication.margins import FamilyMargins
from aemodel.publication.tables import Tables

Likelihood = Literal["joint", "product", "twice", "no_determinant"]

Floats = NDArray[np.float64]

ALPHA = 0.05
"""Level of the tests by which a simulated publication chooses its tables."""

LARGE = 1e5
"""Factor of patients and counts beside which the determinant vanishes."""


@dataclass(frozen=True, eq=False)
class Laboratory:
    """A publication, and what its simulated ones have in common. Equal to itself only, so that fits can be kept by it.

    ``centring`` is that of the publication with all its ``tests``: coordinates, which change no posterior.
    """

    tables: Tables
    design: Design
    margins: tuple[FamilyMargins, ...]
    forward: Forward
    tests: tuple[Null, ...]
    centring: Centring

    def density(
        self,
        tables: Tables,
        likelihood: Likelihood = "joint",
        prior_scale: float = 1.0,
        nulls: Sequence[Null] = (),
        like: Sequence[FamilyMargins] | None = None,
    ) -> Density:
        """What is sampled given a publication with the same rows, of which those marked derived are not used.

        ``nulls`` are those of ``tests`` that were not significant and are to count.
        """
        margins = all_margins(self.design, tables.frequencies, like)
        terms = list(_likelihood(self.design, tables, margins, likelihood))
        if nulls:
            terms.append(Known("selection", nulls_term(self.design, nulls, null_weights(self.design, nulls, margins))))
        return Density(self.design, self.centring, prior_scale, tuple(terms))

    def density_of(self, margins: tuple[FamilyMargins, ...], design: Design) -> Density:
        """What is sampled given margins of another cohort, that of ``design``: counts alone."""
        return Density(self.design, self.centring, 1.0, (Known("margins", margins_term(design, margins)),))

    def sample(
        self,
        density: Density,
        *,
        seed: int,
        draws: int,
        tune: int,
        chains: int = 2,
        cores: int | None = None,
        target_accept: float = 0.8,
    ) -> tuple[xr.Dataset, Diagnostics]:
        """Posterior draws and their diagnostics."""
        with threadpool_limits(1, user_api="blas"):
            idata = nutpie.sample(
                density.sampler(),
                draws=draws,
                tune=tune,
                chains=chains,
                cores=cores or chains,
                target_accept=target_accept,
                seed=seed,
                progress_bar=False,
                save_warmup=False,
            )
        posterior = idata["posterior"]
        idata.posterior = posterior[[name for name in posterior.data_vars if name in DIMS]]
        return idata["posterior"], diagnose(idata)


def make_laboratory(tables: Tables, tests: tuple[Null, ...] | None = None) -> Laboratory:
    """For a publication's rows, and ``tests`` (by default those of its tables)."""
    design = make_design(tables)
    tests = table_tests(tables) if tests is None else tests
    margins = all_margins(design, tables.frequencies)
    centring = make_centring(design, margins, [(test.event, test.grade, test.covariate) for test in tests])
    return Laboratory(tables, design, margins, make_forward(design), tests, centring)


def _likelihood(design: Design, tables: Tables, margins: tuple[FamilyMargins, ...], likelihood: Likelihood) -> list[Known]:
    joint, rows = margins_term(design, margins), ~tables.frequencies["derived"].to_numpy()
    if likelihood == "product":
        return [Known("rows", binomials_term(tables, design, rows))]
    if likelihood == "twice":
        twice = binomials_term(tables, design, rows & _first_covariate(tables))
        return [Known("margins", joint), Known("rows", twice)]
    if likelihood == "no_determinant":
        packed = joint.packed._replace(n=joint.packed.n * LARGE, counts=joint.packed.counts * LARGE)
        return [Known("margins", replace(joint, packed=packed), 1 / LARGE)]
    return [Known("margins", joint)]


def binomials_term(tables: Tables, design: Design, counted: NDArray[np.bool_]) -> Term:
    """A binomial log likelihood for each of the frequencies that are ``counted`` (row,)."""
    rows = tables.frequencies[counted]
    having, share = row_averages(tables, design)
    having, share = having[counted], share[counted]
    counts, n = rows["observed"].to_numpy(dtype=float), rows["n"].to_numpy(dtype=float)

    def term(p: Floats) -> tuple[float, Floats]:
        rate = ((having @ p) * share).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):  # a rate may round to 0 or 1: nowhere, to the sampler
            slopes = counts / rate - (n - counts) / (1 - rate)
            value = (counts * np.log(rate) + (n - counts) * np.log1p(-rate)).sum()
            return value, having.T @ (slopes[:, None] * share)

    return term


def row_averages(tables: Tables, design: Design) -> tuple[Floats, Floats]:
    """Which states each frequency counts, (row, state), and of whom: cells' shares (row, cell)."""
    rows = tables.frequencies
    having = np.array([design.states_having(e, g) for e, g in zip(rows["event"], rows["grade"], strict=True)], dtype=float)
    inside = np.array([design.cells.having(c, v) for c, v in zip(rows["covariate"], rows["level"], strict=True)])
    share = inside * design.cells.n
    return having, share / share.sum(axis=1, keepdims=True)


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
