"""All draws of a model as the bytes of a netCDF file, made in memory, and looked through before they are read.

The HDF5 library, met by a full disk, has been seen to crash the process, and with it minutes of sampling; bytes are then
written by Python, which raises an `OSError`. It would also follow whatever a file tells it to, into other files of the machine.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import xarray as xr
from h5py import h5a, h5d, h5g, h5l, h5o, h5t, h5z

GROUPS = (
    *("posterior", "prior", "sample_stats", "observed_data", "constant_data", "log_likelihood", "log_prior"),
    *("posterior_predictive", "prior_predictive", "sample_stats_prior"),
)
NUMBERS = (h5t.INTEGER, h5t.FLOAT, h5t.ENUM)
LAYOUTS = (h5d.COMPACT, h5d.CONTIGUOUS, h5d.CHUNKED)
FILTERS = (h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE)
SCALES = (b"DIMENSION_LIST", b"REFERENCE_LIST")
"""Attributes by which netCDF ties variables to their dimensions: references within the file."""
MOST_MEMBERS = 200
"""Of one group, and attributes of one variable."""
MOST_SWOLLEN = 50
"""What arrays may take in memory for each byte of the file, above `SMALL`; draws hardly compress."""
SMALL = 10_000_000
MOST_TEXTS = 50_000
MOST_TEXT = 2_000_000
"""Labels, and characters of all of them."""


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


def check_draws(content: bytes) -> None:
    """What `draws_bytes` writes, and nothing else: two levels of groups and plain arrays within this file.

    Raises
    ------
    ValueError
        The file has links, storage in other files, virtual arrays, foreign filters or types, or too large arrays or texts.
    """
    size = texts = 0
    with h5py.File(io.BytesIO(content), "r") as file:
        for name, group in _members(file.id, h5g.GroupID):
            if name not in GROUPS:
                raise ValueError(f"the group {name[:60]!r} is not one of {', '.join(GROUPS)}")
            for variable, dataset in _members(group, h5d.DatasetID):
                size += _size(dataset, f"{name}/{variable}")
                if dataset.get_type().get_class() == h5t.STRING:
                    texts += math.prod(dataset.shape)
                if size > MOST_SWOLLEN * len(content) + SMALL or texts > MOST_TEXTS:
                    raise ValueError(f"its arrays take more than {size:,} bytes, of a file of {len(content):,}")
        _check_texts(file)


def _members(group: Any, kind: type) -> Iterator[tuple[str, Any]]:
    """What lies in a group; nothing is opened that lies elsewhere."""
    if len(group) > MOST_MEMBERS:
        raise ValueError(f"a group of {len(group)} members")
    _check_attributes(group)
    for name in list(group):
        shown = name.decode("utf-8", "replace")[:60]
        if group.links.get_info(name).type != h5l.TYPE_HARD:
            raise ValueError(f"{shown!r} is a link")
        member = h5o.open(group, name)
        if type(member) is not kind:
            raise ValueError(f"{shown!r} is a {type(member).__name__}")
        yield name.decode(), member


def _size(dataset: Any, name: str) -> int:
    """Bytes that an array of a plain kind takes."""
    _check_attributes(dataset)
    kind, plan = dataset.get_type(), dataset.get_create_plist()
    if kind.get_class() not in (*NUMBERS, h5t.STRING):
        raise ValueError(f"{name[:60]!r} is of a type that no draws have")
    if plan.get_external_count() or plan.get_layout() not in LAYOUTS:
        raise ValueError(f"{name[:60]!r} is stored elsewhere")
    if any(plan.get_filter(i)[0] not in FILTERS for i in range(plan.get_nfilters())):
        raise ValueError(f"{name[:60]!r} is packed by another filter than deflate")
    chunk = plan.get_chunk() if plan.get_layout() == h5d.CHUNKED else ()
    return max(math.prod(dataset.shape), math.prod(chunk)) * int(kind.get_size())


def _check_attributes(of: Any) -> None:
    number = h5a.get_num_attrs(of)
    if number > MOST_MEMBERS:
        raise ValueError(f"{number} attributes")
    for i in range(number):
        attribute = h5a.open(of, index=i)
        kind, values = attribute.get_type(), math.prod(attribute.shape)
        plain = kind.get_class() in NUMBERS or (kind.get_class() == h5t.STRING and values <= 1)
        if values > MOST_MEMBERS or not (plain or (attribute.name in SCALES and _refers(kind))):
            raise ValueError(f"the attribute {attribute.name[:60]!r} is of a kind that no draws have")


def _refers(kind: Any) -> bool:
    """Whether these are references, alone or with a number, to what is in the file itself: others could name a file."""
    inner = {h5t.VLEN: lambda: kind.get_super(), h5t.COMPOUND: lambda: kind.get_member_type(0)}.get(kind.get_class())
    return bool(inner and inner().equal(h5t.STD_REF_OBJ))


def _check_texts(file: h5py.File) -> None:
    """One text at a time: each may be as long as the file, and all of them the same one."""
    left = MOST_TEXT
    for group in file.values():
        for dataset in group.values():
            if dataset.id.get_type().get_class() == h5t.STRING:
                for place in np.ndindex(dataset.shape):
                    left -= len(dataset[place])
                    if left < 0:
                        raise ValueError(f"its labels have more than {MOST_TEXT:,} characters")
