"""Fitting: compile, sample with nutpie, check the sampler."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import nutpie
import xarray as xr
from msgspec import structs
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from aemodel.inference import priors
from aemodel.inference.approximation import approximation_range
from aemodel.inference.diagnostics import Diagnostics
from aemodel.inference.evidence import Significance
from aemodel.inference.forward import make_forward, thinned
from aemodel.inference.idata import diagnose
from aemodel.inference.information import measured_risks
from aemodel.inference.likelihood import MarginsTerm
from aemodel.inference.own_patients import Overlap
from aemodel.inference.posterior import Density, prepared
from aemodel.inference.record import STANDARD, Settings, as_json, evidence_words, model_html
from aemodel.publication.tables import Tables
from aemodel.scoring.progress import is_terminal, waiting
from aemodel.scoring.risks import RiskDraws


@dataclass(frozen=True)
class Fitted:
    """A fitted model: the publication, the posterior and its diagnostics, and the risk draws that answers come from.

    ``idata`` is ArviZ `InferenceData` with groups posterior, prior, sample_stats and observed_data. There is no log_likelihood
    for `arviz.loo`: the margins overlap, so that their likelihood is one number and leaves none of them out.
    ``settings`` records seed, draws, chains, priors, and how many patients were given beside the publication.
    """

    tables: Tables
    idata: Any
    diagnostics: Diagnostics
    settings: Mapping[str, Any]
    risks: RiskDraws

    @property
    def name(self) -> str:
        return self.tables.name

    @property
    def posterior(self) -> xr.Dataset:
        return self.idata["posterior"]

    @property
    def prior(self) -> xr.Dataset:
        return self.idata["prior"]

    @property
    def branch_logits(self) -> NDArray[np.float32] | None:
        """Branch logits that the risk draws come from, (sample, branch, cell)."""
        return self.risks.logits

    def __repr__(self) -> str:
        draws = f"{self.posterior.sizes['chain']} chains x {self.posterior.sizes['draw']} draws"
        return f"<Fitted {self.name}: {draws}. {self.diagnostics}. {evidence_words(self.settings, self.tables)}>"

    def _repr_html_(self) -> str:
        return model_html(self)


def fit(
    tables: Tables,
    *,
    seed: int,
    draws: int = STANDARD.draws,
    chains: int = STANDARD.chains,
    tune: int = STANDARD.tune,
    target_accept: float = STANDARD.target_accept,
    attempts: int = STANDARD.attempts,
    ordering: Significance | None = STANDARD.ordering,
    selection: bool = STANDARD.selection,
    prior_scale: float = STANDARD.prior_scale,
    patients: Any = None,
    overlap: Overlap | None = None,
    power: float = STANDARD.power,
    progress: bool | None = None,
) -> Fitted:
    """Fit the hierarchical model to all published margins at once, and to patients of one's own, if given.

    Parameters
    ----------
    tables
        From `load_tables`.
    seed
        The same seed, package versions and machine give the same draws. Below 2**64.
    draws, chains, tune
        Kept draws and warm-up draws per chain: at most 100,000, and 200,000 draws of all chains.
    target_accept
        Acceptance that the sampler's step is tuned for, between 0 and 1: the higher, the smaller and slower its steps, and
        the fewer divergences.
    attempts
        How often to sample at most. Where the first run fails its diagnostics, the second takes twice the warm-up and twice
        the draws, of which every second is kept, at a higher acceptance; this is said in ``settings``.
    ordering
        Use the orderings of groups that the publication states, with significant tests at ``"both"`` grades, at
        ``"either"`` or both, or the ``"order"`` alone; None leaves them out.
    selection
        Use the tests that the publication states, or by not listing them implies, were not significant.
    prior_scale
        Multiplies the prior scales of the effects, 0.001 to 1,000: 0.5 and 2 show how much answers depend on them.
    patients
        A frame as for `posterior_epred`, with columns named as events that hold each patient's worst grade: 0 to 5, of which
        0 to 2 are none, or null where not known. Without its column, an event is known of nobody. No row is kept.
    overlap
        ``"disjoint"`` if none of the patients is in the published cohort; ``"subset"`` if all of them are: what the
        margins count must then be known of each, and the margins are taken without them, so that nobody counts twice.
    power
        Power prior: how much a published patient counts, above 0 and at most 1. With 0.5 the publication, orderings and tests
        included, weighs as if it had half as many patients: for a cohort of one's own that is not quite like it.
    progress
        Show a progress bar on stderr; by default only in a terminal or a notebook.

    Returns
    -------
    Fitted
        Also if the diagnostics fail, with a warning: see `Fitted.diagnostics`.

    Raises
    ------
    TypeError, ValueError
        An argument is not what it must be, or the counts, or patients' grades, contradict each other.
    KeyboardInterrupt
        Stopped by the user; nothing is left behind.
    """
    options: dict[str, Any] = {"seed": seed, "draws": draws, "chains": chains, "tune": tune, "attempts": attempts}
    options |= {"target_accept": target_accept, "ordering": ordering, "selection": selection}
    asked, evidence, density = prepared(tables, patients, overlap, **options, prior_scale=prior_scale, power=power)
    design = density.design
    idata, diagnostics, failed = _sample(density, asked, progress)
    margins = next(known.term for known in density.known if isinstance(known.term, MarginsTerm))
    approximation = approximation_range(design, margins, idata["posterior"])
    idata.add_groups(prior=density.prior(PRIOR_DRAWS, asked.seed), observed_data=_observed(tables))
    diagnostics = replace(diagnostics, approximation=approximation)
    if not diagnostics.passed:
        warnings.warn(str(diagnostics), stacklevel=2)
    run = _runs(asked)[len(failed)]
    settings = structs.replace(
        asked,
        tune=run.tune,
        target_accept=run.target_accept,
        failed_attempts=tuple(map(str, failed)),
        ordering=asked.ordering if evidence.orderings else None,
        selection=bool(evidence.nulls),
        priors=priors.describe(any(len(term.covariates) > 1 for term in design.terms)),
    )
    kept, scales = thinned(idata["posterior"]), {"prior_scale": asked.prior_scale, "power": asked.power}
    with threadpool_limits(1, user_api="blas"):
        risks = measured_risks(tables, make_forward(design), kept, asked.seed, **scales)
    return Fitted(tables, idata, diagnostics, as_json(settings), risks)


PRIOR_DRAWS = 1000


class _Run(NamedTuple):
    """How one attempt samples, each chain by itself; of its draws every ``thin``-th is kept."""

    draws: int
    tune: int
    target_accept: float
    thin: int


def _runs(asked: Settings) -> list[_Run]:
    return [
        _Run(asked.draws * 2**k, asked.tune * 2**k, 1 - (1 - asked.target_accept) / 4**k, 2**k) for k in range(asked.attempts)
    ]


def _sample(density: Density, asked: Settings, progress: bool | None) -> tuple[Any, Diagnostics, list[Diagnostics]]:
    """Draws of the first run that passes, or of the last; their diagnostics, and those of the runs before."""
    if progress is None:
        progress = is_terminal(sys.stderr) or "ipykernel" in sys.modules
    with waiting("Compiling (half a minute, once)"):
        sampler = density.sampler()
    failed: list[Diagnostics] = []
    for run in (runs := _runs(asked)):
        idata = _sample_once(sampler, run, seed=asked.seed, chains=asked.chains, progress=progress)
        diagnostics = diagnose(idata)
        if diagnostics.passed or run is runs[-1]:
            break
        failed.append(diagnostics)
    return idata, diagnostics, failed


def _sample_once(sampler: Any, run: _Run, *, seed: int, chains: int, progress: bool) -> Any:
    options = {"draws": run.draws, "tune": run.tune, "target_accept": run.target_accept, "chains": chains, "seed": seed}
    # Chains run in threads of their own, no more at once than there are cores, or they wait for each other; a BLAS that starts
    # more for matrices this small only gets in their way.
    with threadpool_limits(1, user_api="blas"):
        cores = min(chains, os.cpu_count() or 1)
        running = nutpie.sample(sampler, **options, cores=cores, progress_bar=progress, save_warmup=False, blocking=False)
        try:
            idata = running.wait()
        except KeyboardInterrupt:
            running.cancel()
            raise
    return idata.isel(draw=slice(run.thin - 1, None, run.thin)) if run.thin > 1 else idata


def _observed(tables: Tables) -> xr.Dataset:
    """The counts the likelihood used, or the ends of their intervals, with what each counts as coordinates."""
    rows = tables.frequencies[~tables.frequencies["derived"]].reset_index(drop=True)
    coords = {name: ("margin", rows[name].astype(str).to_numpy()) for name in ("event", "grade", "covariate", "level")}
    names = ["observed", "n"] if rows["observed"].notna().all() else ["observed_low", "observed_high", "n"]
    data = {name: ("margin", rows[name].to_numpy()) for name in names}
    return xr.Dataset(data, coords | {"margin": np.arange(len(rows))})
