"""Draws as ArviZ's `InferenceData`: judged, power-scaled and read. Everything that touches ArviZ is here."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import arviz as az
import arviz.stats.stats_utils
import arviz_stats
import arviz_stats.base.stats_utils
import numpy as np
import xarray as xr

from aemodel.inference.diagnostics import Diagnostics
from aemodel.publication.arrays import Floats

if sys.flags.optimize > 1:
    # ArviZ adds to docstrings of its own, which `python -OO` has removed: without this a fit fails once it is sampled.
    for each in (arviz.stats.stats_utils, arviz_stats.base.stats_utils):
        each.update_docstring = lambda *_: None


def diagnose(idata: Any) -> Diagnostics:
    """Judge a run by its worst parameter."""
    stats = idata["sample_stats"]
    posterior = idata["posterior"].drop_vars([name for name, values in idata["posterior"].items() if not values.size])
    bulk, tail = az.ess(posterior), az.ess(posterior, method="tail")
    least = min(((float(d[name].min()), str(name)) for d in (bulk, tail) for name in d), default=(np.nan, ""))
    return Diagnostics(
        r_hat=float(max(values.max() for values in az.rhat(posterior).values())),
        ess_bulk=float(min(values.min() for values in bulk.values())),
        ess_tail=float(min(values.min() for values in tail.values())),
        divergences=int(stats["diverging"].sum()),
        bfmi=float(np.min(az.bfmi(idata))),
        worst=least[1],
    )


def power_scaling(
    quantities: Floats, samples: Mapping[str, Floats], priors_of: Sequence[str], likelihoods: Sequence[str]
) -> dict[str, Floats]:
    """Power-scaling sensitivity of quantities (chain, draw, quantity) to each log density of ``samples`` (chain, draw)."""
    dims = ("chain", "draw")
    groups = {
        "posterior": xr.Dataset({"quantity": ((*dims, "item"), quantities)}),
        "log_prior": xr.Dataset({name: (dims, samples[name]) for name in priors_of}),
        "log_likelihood": xr.Dataset({name: (dims, samples[name]) for name in likelihoods}),
    }
    tree = xr.DataTree.from_dict(groups)
    kinds = dict.fromkeys(priors_of, "prior") | dict.fromkeys(likelihoods, "likelihood")
    found = {name: arviz_stats.psense(tree, group=kind, group_var_names=[name]) for name, kind in kinds.items()}
    return {name: np.asarray(value["quantity"]) for name, value in found.items()}


def read_idata(content: BinaryIO) -> Any:
    """The full draws of a saved model, from the bytes of its file."""
    return az.from_netcdf(content, engine="h5netcdf")
