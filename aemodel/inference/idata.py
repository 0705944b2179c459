"""Draws as ArviZ's `InferenceData`: judged, power-scaled, written and read. Everything that touches ArviZ is here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import arviz as az
import arviz_stats
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from aemodel.inference.diagnostics import Diagnostics


def diagnose(idata: az.InferenceData) -> Diagnostics:
    """Judge a run by its worst parameter."""
    posterior, stats = idata["posterior"], idata["sample_stats"]
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
    quantities: NDArray[np.float64],
    samples: Mapping[str, NDArray[np.float64]],
    priors_of: Sequence[str],
    likelihoods: Sequence[str],
) -> dict[str, NDArray[np.float64]]:
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


def read_idata(path: str) -> az.InferenceData:
    """The full draws of a saved model."""
    return az.from_netcdf(path, engine="h5netcdf")


def write_idata(idata: az.InferenceData, path: str) -> None:
    """Write all groups, parameters as compressed float32, which the risk draws are computed from in any case."""
    small = idata.map(lambda group: group.astype(np.float32), groups=["posterior", "prior"])
    small.attrs.clear()
    for group in small.groups():
        # Times of creation would make each saved model differ from the last.
        small[group].attrs.clear()
    small.to_netcdf(path, engine="h5netcdf", compress=True)
