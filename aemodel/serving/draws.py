"""All draws of a model as the bytes of a netCDF file, made in memory.

The HDF5 library, met by a full disk, has been seen to crash the process, and with it minutes of sampling; bytes are then
written by Python, which raises an `OSError`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr


def draws_bytes(idata: Any) -> bytes:
    """All groups of ArviZ `InferenceData`, compressed; parameters as float32, which the risk draws come from in any case.

    The same draws give the same bytes: times of creation, which ArviZ keeps as attributes, are left out.
    """
    groups = {name: _plain(idata[name], small=name in ("posterior", "prior")) for name in idata.groups()}
    encoding = {
        f"/{name}": {
            str(variable): {"zlib": True} for variable, values in group.data_vars.items() if values.dtype.kind in "biuf"
        }
        for name, group in groups.items()
    }
    tree = xr.DataTree.from_dict(groups)
    return bytes(tree.to_netcdf(None, engine="h5netcdf", encoding=encoding))


def _plain(group: xr.Dataset, *, small: bool) -> xr.Dataset:
    group = (group.astype(np.float32) if small else group.copy()).load()
    group.attrs.clear()
    for values in group.variables.values():
        values.encoding = {}
    return group
