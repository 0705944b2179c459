"""Arrays of a saved model, written plainly and read within bounds known beforehand. Light: NumPy only, but for all draws.

Each member of an npz file must be stored uncompressed, of the declared type and shape in C order, and no larger than that,
before memory is taken for it: no bomb unpacks, nothing is unpickled. All draws of the parameters are a netCDF file. The HDF5
library, met by a full disk, has been seen to crash the process, and with it minutes of sampling, so that bytes are made in
memory. It would also follow whatever a file tells it to, into other files of the machine: it is looked through first.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aemodel.publication.families import make_families
from aemodel.publication.rules import places
from aemodel.publication.schema import Covariate, Event
from aemodel.publication.tables import Tables
from aemodel.saved.manifest import SavedModelError
from aemodel.scoring.risks import SUPPORT, RiskDraws, cell_count

MOST_HEADER_BYTES = 1024
"""More than the header of any member, and than its entry in the archive's directory."""
MOST_MOVED = 1e3
"""Log odds."""
ROUNDED = 1e-6
"""What a risk may be above another that it lies in: sums of the same draws of states, rounded to float32."""
AT_ONCE = 2048
"""Rows of risks that are compared while they are in a processor's cache."""
GROUPS = (
    *("posterior", "prior", "sample_stats", "observed_data", "constant_data", "log_likelihood", "log_prior"),
    *("posterior_predictive", "prior_predictive", "sample_stats_prior"),
)
FILTERS = (1, 2)
"""Deflate and shuffle, as HDF5 numbers them."""
SCALES = ("DIMENSION_LIST", "REFERENCE_LIST")
"""Attributes by which netCDF ties variables to their dimensions: references within the file."""
MOST_MEMBERS = 200
"""Of one group, and attributes of one variable."""
MOST_SWOLLEN = 50
"""What arrays may take in memory for each byte of the file, above `SMALL`; draws hardly compress."""
SMALL = 10_000_000
MOST_TEXTS = 50_000
MOST_TEXT = 2_000_000
"""Labels, and characters of all of them."""
Expected = Mapping[str, tuple[Any, tuple[int, ...]]]


def risks_bytes(risks: RiskDraws) -> bytes:
    """The arrays of risk draws as the bytes of an npz file."""
    measures = {name: value for name in RiskDraws.MEASURES if (value := getattr(risks, name)) is not None}
    return _npz({name: getattr(risks, name) for name in RiskDraws.ARRAYS} | measures)


def logits_bytes(logits: NDArray[np.float32]) -> bytes:
    """Branch logits as the bytes of an npz file; single precision loses nothing, for the risks were computed from these."""
    return _npz({"logits": logits})


def _npz(arrays: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def read_risks(manifest: Mapping[str, Any], tables: Tables, content: Callable[[], bytes]) -> RiskDraws:
    """Risk draws from the bytes of a scoring file, which are asked for once the manifest's size for them is plausible.

    Raises
    ------
    SavedModelError
        The file is not what the manifest's samples, covariates, events and grades need.
    """
    covariates, events, grades = tables.covariates, tuple(manifest["events"]), tuple(manifest["grades"])
    pairs = (len(events), len(grades))
    cells, samples = cell_count(covariates), manifest["samples"]
    expected: Expected = {
        "draws": (np.float32, (samples, cells, *pairs)),
        "levels": (np.int64, (cells, len(covariates))),
        "weight": (np.float64, (cells,)),
        "movement": (np.float32, (len(covariates), cells, *pairs)),
        "source": (np.int64, (len(covariates), *pairs)),
        "published": (np.bool_, pairs),
    }
    levels = sum(len(c.levels) for c in covariates)
    measures: Expected = {
        "variances": (np.float32, (3, levels, levels, *pairs)),
        "counted": (np.bool_, (levels, *pairs)),
    }
    arrays = _read_arrays(manifest["files"]["scoring"]["bytes"], content, expected, measures if manifest["format"] > 2 else {})
    _check_values(arrays, covariates)
    _check_weights(arrays, tables)
    _check_nesting(arrays["draws"], events, tables.events)
    arrays |= {"covariates": covariates, "events": events, "grades": grades, "shorts": tables.shorts}
    return RiskDraws(chains=manifest["chains"], **arrays)


def read_logits(manifest: Mapping[str, Any], tables: Tables, content: Callable[[], bytes]) -> NDArray[np.float32]:
    """Branch logits (sample, branch, cell) from the bytes of a branches file, as `read_risks` reads risk draws.

    Raises
    ------
    SavedModelError
        The file is not what the manifest's samples and the publication's events and covariates need.
    """
    branches = sum(len(family.branches) for family in make_families(tables.events, tables.classes))
    shape = (manifest["samples"], branches, cell_count(tables.covariates))
    found = _read_arrays(manifest["files"]["branches"]["bytes"], content, {"logits": (np.float32, shape)}, {})["logits"]
    if not np.isfinite(found).all():
        raise SavedModelError("the array 'logits' holds values that are not all finite numbers")
    return np.asarray(found)


def _size(dtype: Any, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * np.dtype(dtype).itemsize


def _read_arrays(size: int, content: Callable[[], bytes], expected: Expected, optional: Expected) -> dict[str, Any]:
    """Arrays of an npz file of so many bytes, and either all of the ``optional`` ones or none."""
    every = {**expected, **optional}
    least, most = (sum(_size(*array) for array in arrays.values()) for arrays in (expected, every))
    if not least <= size <= most + 3 * MOST_HEADER_BYTES * len(every):
        raise SavedModelError(f"a file of {size} bytes does not hold what the model's {least} bytes of arrays need")
    with zipfile.ZipFile(io.BytesIO(content())) as archive:
        found = sorted(archive.namelist())
        for wanted in (expected, every):
            if found == sorted(f"{name}.npy" for name in wanted):
                return {name: _read_array(archive, name, *array) for name, array in wanted.items()}
    raise SavedModelError(f"the file holds {found[:20]}, not {list(expected)}")


def _read_array(archive: zipfile.ZipFile, name: str, dtype: Any, shape: tuple[int, ...]) -> Any:
    size, about = _size(dtype, shape), archive.getinfo(f"{name}.npy")
    if about.file_size not in range(size, size + MOST_HEADER_BYTES):
        raise SavedModelError(f"the array {name!r} is not of the size its shape {shape} needs")
    if about.compress_type != zipfile.ZIP_STORED or about.compress_size != about.file_size:
        raise SavedModelError(f"the array {name!r} is compressed; saved models store plain arrays")
    content = archive.read(about)
    member = io.BytesIO(content)
    if (version := np.lib.format.read_magic(member)) != (1, 0):
        raise SavedModelError(f"the array {name!r} is of npy version {version}, not (1, 0)")
    found, by_columns, kind = np.lib.format.read_array_header_1_0(member, max_header_size=MOST_HEADER_BYTES)
    if kind != dtype or by_columns or found != shape:
        order = " by columns" if by_columns else ""
        raise SavedModelError(f"the array {name!r} is {kind} {found}{order}, not {np.dtype(dtype)} {shape}")
    data = memoryview(content)[member.tell() :]
    if len(data) != size:
        raise SavedModelError(f"the array {name!r} has {len(data)} bytes, not {size}")
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def _check_values(arrays: Mapping[str, Any], covariates: Sequence[Covariate]) -> None:
    """Each array within what it can hold; comparisons are false for NaN."""
    sizes = tuple(len(c.levels) + c.open for c in covariates)
    draws, levels, weight, movement, source = (arrays[name] for name in ("draws", "levels", "weight", "movement", "source"))
    within = {
        "draws": ("probabilities", np.array([draws.min() >= 0, draws.max() <= 1])),  # of NaN neither
        "levels": ("levels", (levels >= 0) & (levels < np.array(sizes))),
        "weight": ("positive numbers", (weight > 0) & (weight < np.inf)),
        "movement": ("numbers of zero or more, or beyond reason", (movement >= 0) & (movement < MOST_MOVED)),
        "source": ("places in the list of sources", (source >= 0) & (source < len(SUPPORT))),
        "variances": ("finite numbers", np.isfinite(arrays.get("variances", 0))),
        **{n: ("yes or no", x.view(np.uint8) < 2) for n, x in arrays.items() if n in ("published", "counted")},
    }
    for name, (what, good) in within.items():
        if not good.all():
            raise SavedModelError(f"the array {name!r} holds values that are not all {what}")
    strides = np.array([math.prod(sizes[k + 1 :]) for k in range(len(sizes))], dtype=np.int64)
    cells = np.sort(levels @ strides)
    if not np.array_equal(cells, np.arange(len(cells))):
        raise SavedModelError("the array 'levels' does not hold every combination of levels once")


def _check_weights(arrays: Mapping[str, Any], tables: Tables) -> None:
    """Weights are the cohort's patients, as many as were counted, and cells of a new level have those of all levels."""
    covariates, patients = tables.covariates, tables.n
    table = np.zeros(tuple(len(c.levels) + c.open for c in covariates))
    table[tuple(arrays["levels"].T)] = arrays["weight"] if covariates else arrays["weight"][0]
    with np.errstate(over="ignore"):
        usual = table[tuple(slice(len(c.levels)) for c in covariates)]
        whole = usual.sum()
    if not abs(whole - patients) < ROUNDED * patients:
        raise SavedModelError(f"the array 'weight' has {whole:.6g} patients, the publication {patients}")
    for row in tables.counts:
        where = [list(range(len(c.levels))) for c in covariates]
        counted = True
        for name, fine in places(covariates, row):
            axis = [c.name for c in covariates].index(name)
            where[axis] = [i for i, level in enumerate(covariates[axis].levels) if set(level.cohort) <= set(fine)]
            # A count of a part of a level says nothing of the level.
            counted &= sum(len(covariates[axis].levels[i].cohort) for i in where[axis]) == len(set(fine))
        here = usual[np.ix_(*where)].sum()
        if counted and not abs(here - row.n) < ROUNDED * patients:
            at = " ".join(filter(None, (row.covariate, row.level, row.by, row.by_level)))
            raise SavedModelError(f"the array 'weight' has {here:.6g} patients of {at}, the publication {row.n}")
    for axis, covariate in enumerate(covariates):
        if covariate.open:
            new, rest = np.split(np.moveaxis(table, axis, -1), [len(covariate.levels)], axis=-1)[::-1]
            if not np.allclose(new[..., 0], rest.sum(axis=-1), rtol=1e-6, atol=1e-6):
                raise SavedModelError(f"the array 'weight' of a new {covariate.name} is not the sum over its levels")


def _check_nesting(draws: Any, names: Sequence[str], events: Sequence[Event]) -> None:
    """In each draw no risk above that of the lower grade, nor above that of the event it lies in."""
    grades = draws.shape[3]
    place = {name: i * grades for i, name in enumerate(names)}
    within = [(place[e.name] + g, place[e.name] + g + 1) for e in events for g in range(grades - 1)]
    within += [(place[e.parent] + g, place[e.name] + g) for e in events if e.parent is not None for g in range(grades)]
    outer, inner = np.array(within, dtype=np.int64).reshape(-1, 2).T
    flat = draws.reshape(-1, len(names) * grades)
    for first in range(0, len(flat), AT_ONCE):
        part = np.ascontiguousarray(flat[first : first + AT_ONCE].T)
        if (part[inner] > part[outer] + np.float32(ROUNDED)).any():
            raise SavedModelError("the array 'draws' has risks above those of a lower grade, or of the event they lie in")


def draws_bytes(idata: Any) -> bytes:
    """All groups of ArviZ `InferenceData`, compressed; parameters as float32, which the risk draws come from in any case.

    The same draws give the same bytes: times of creation, which ArviZ keeps as attributes, are left out.
    """
    import xarray as xr

    groups = {}
    for name in idata.groups():
        group = (idata[name].astype(np.float32) if name in ("posterior", "prior") else idata[name].copy()).load()
        group.attrs.clear()
        for values in group.variables.values():
            values.encoding = {}
        groups[name] = group
    encoding = {
        f"/{name}": {str(key): {"zlib": True} for key, values in group.data_vars.items() if values.dtype.kind in "biuf"}
        for name, group in groups.items()
    }
    return bytes(xr.DataTree.from_dict(groups).to_netcdf(None, engine="h5netcdf", encoding=encoding))


def check_draws(content: bytes) -> None:
    """What `draws_bytes` writes, and nothing else: two levels of groups and plain arrays within this file.

    Raises
    ------
    ValueError
        The file has links, storage in other files, virtual arrays, foreign filters or types, or too large arrays or texts.
    """
    import h5py

    size, texts = 0, []
    with h5py.File(io.BytesIO(content), "r") as file:
        for name, group in _members(file, h5py.Group):
            if name not in GROUPS:
                raise ValueError(f"the group {name[:60]!r} is not one of {', '.join(GROUPS)}")
            for variable, dataset in _members(group, h5py.Dataset):
                size += _dataset_size(dataset, f"{name}/{variable}")
                if dataset.dtype.kind == "O":
                    texts.append(dataset)
                labels = sum(math.prod(each.shape) for each in texts)
                if size > MOST_SWOLLEN * len(content) + SMALL or labels > MOST_TEXTS:
                    raise ValueError(f"its arrays take more than {size:,} bytes, of a file of {len(content):,}")
        left = MOST_TEXT
        for dataset in texts:  # one text at a time: each may be as long as the file, and all of them the same one
            for place in np.ndindex(dataset.shape):
                left -= len(dataset[place])
                if left < 0:
                    raise ValueError(f"its labels have more than {MOST_TEXT:,} characters")


def _members(group: Any, kind: type) -> Iterator[tuple[str, Any]]:
    """What lies in a group; nothing is opened that lies elsewhere."""
    import h5py

    if len(group) > MOST_MEMBERS:
        raise ValueError(f"a group of {len(group)} members")
    _check_attributes(group)
    for name in list(group):
        if type(group.get(name, getlink=True)) is not h5py.HardLink:
            raise ValueError(f"{name[:60]!r} is a link")
        member = group[name]
        if type(member) is not kind:
            raise ValueError(f"{name[:60]!r} is a {type(member).__name__}")
        yield name, member


def _dataset_size(dataset: Any, name: str) -> int:
    """Bytes that an array of a plain kind takes."""
    _check_attributes(dataset)
    plan = dataset.id.get_create_plist()
    if not _is_plain(dataset.dtype):
        raise ValueError(f"{name[:60]!r} is of a type that no draws have")
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{name[:60]!r} is stored elsewhere")
    if any(plan.get_filter(i)[0] not in FILTERS for i in range(plan.get_nfilters())):
        raise ValueError(f"{name[:60]!r} is packed by another filter than deflate")
    return max(math.prod(dataset.shape), math.prod(dataset.chunks or ())) * int(dataset.dtype.itemsize)


def _is_plain(dtype: Any) -> bool:
    import h5py

    return dtype.kind in "biuf" or h5py.check_string_dtype(dtype) is not None


def _check_attributes(of: Any) -> None:
    """Numbers and single texts, and by which netCDF ties variables to dimensions: references within the file."""
    import h5py

    if len(of.attrs) > MOST_MEMBERS:
        raise ValueError(f"{len(of.attrs)} attributes")
    for name in of.attrs:
        attribute = of.attrs.get_id(name)
        dtype, values = attribute.dtype, math.prod(attribute.shape)
        inner = dtype[0] if dtype.names else h5py.check_vlen_dtype(dtype)
        refers = name in SCALES and inner is not None and h5py.check_ref_dtype(inner) is h5py.Reference
        plain = _is_plain(dtype) and (values <= 1 or dtype.kind in "biuf")
        if values > MOST_MEMBERS or not (plain or refers):
            raise ValueError(f"the attribute {name[:60]!r} is of a kind that no draws have")
