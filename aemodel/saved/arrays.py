"""Arrays of risk draws in an npz file, written plainly and read within bounds known beforehand. Light: NumPy only.

Each member must be stored uncompressed, of the declared type and shape in C order, and no larger than that, before
memory is taken for it: no bomb unpacks, nothing is unpickled.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from aemodel.publication.rules import places
from aemodel.publication.schema import Covariate, Event
from aemodel.publication.tables import Tables
from aemodel.saved.manifest import SavedModelError
from aemodel.scoring.risks import SUPPORT, RiskDraws, cell_count

MOST_HEADER_BYTES = 1024
"""More than the header of any member, and than its entry in the archive's directory."""
WITHIN = {
    "draws": "not all probabilities",
    "levels": "not all levels",
    "weight": "not all positive numbers",
    "movement": "not all numbers of zero or more, or beyond reason",
    "source": "not all places in the list of sources",
    "published": "neither yes nor no",
}
MOST_MOVED = 1e3
"""Log odds."""
ROUNDED = 1e-6
"""What a risk may be above another that it lies in: sums of the same draws of states, rounded to float32."""
AT_ONCE = 2048
"""Rows of risks that are compared while they are in a processor's cache."""
Expected = Mapping[str, tuple[Any, tuple[int, ...]]]


def risks_bytes(risks: RiskDraws) -> bytes:
    """The arrays of risk draws as the bytes of an npz file."""
    file = io.BytesIO()
    np.savez(file, **{name: getattr(risks, name) for name in RiskDraws.ARRAYS})
    return file.getvalue()


def read_risks(manifest: Mapping[str, Any], tables: Tables, content: Callable[[], bytes]) -> RiskDraws:
    """Risk draws from the bytes of a scoring file, which are asked for once the manifest's size for them is plausible.

    Raises
    ------
    SavedModelError
        The file is not what the manifest's samples, covariates, events and grades need.
    """
    covariates = tables.covariates
    events, grades = tuple(manifest["events"]), tuple(manifest["grades"])
    expected = _expected(covariates, manifest["samples"], (len(events), len(grades)))
    need = sum(_size(*array) for array in expected.values())
    if not need <= manifest["files"]["scoring"]["bytes"] <= need + 3 * MOST_HEADER_BYTES * len(expected):
        size = manifest["files"]["scoring"]["bytes"]
        raise SavedModelError(f"a scoring file of {size} bytes does not hold what the model's {need} bytes of arrays need")
    arrays = _read_arrays(content(), expected)
    _check_values(arrays, covariates)
    _check_weights(arrays, tables)
    _check_nesting(arrays["draws"], events, tables.events)
    return RiskDraws(covariates=covariates, events=events, grades=grades, chains=manifest["chains"], **arrays)


def _expected(covariates: tuple[Covariate, ...], samples: int, pairs: tuple[int, int]) -> Expected:
    """Type and shape of every array."""
    cells = cell_count(covariates)
    return {
        "draws": (np.float32, (samples, cells, *pairs)),
        "levels": (np.int64, (cells, len(covariates))),
        "weight": (np.float64, (cells,)),
        "movement": (np.float32, (len(covariates), cells, *pairs)),
        "source": (np.int64, (len(covariates), *pairs)),
        "published": (np.bool_, pairs),
    }


def _size(dtype: Any, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * np.dtype(dtype).itemsize


def _read_arrays(content: bytes, expected: Expected) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sorted(archive.namelist()) != sorted(f"{name}.npy" for name in expected):
            raise SavedModelError(f"the scoring file holds {archive.namelist()[:20]}, not {list(expected)}")
        return {name: _read_array(archive, name, *array) for name, array in expected.items()}


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
    within = {
        "draws": np.array([arrays["draws"].min() >= 0, arrays["draws"].max() <= 1]),  # of NaN neither
        "levels": (arrays["levels"] >= 0) & (arrays["levels"] < np.array(sizes)),
        "weight": (arrays["weight"] > 0) & (arrays["weight"] < np.inf),
        "movement": (arrays["movement"] >= 0) & (arrays["movement"] < MOST_MOVED),
        "source": (arrays["source"] >= 0) & (arrays["source"] < len(SUPPORT)),
        "published": np.isin(arrays["published"].view(np.uint8), (0, 1)),
    }
    for name, good in within.items():
        if not good.all():
            raise SavedModelError(f"the array {name!r} holds values that are {WITHIN[name]}")
    cells = np.sort(np.ravel_multi_index(tuple(arrays["levels"].T), sizes))
    if not np.array_equal(cells, np.arange(len(cells))):
        raise SavedModelError("the array 'levels' does not hold every combination of levels once")


def _check_weights(arrays: Mapping[str, Any], tables: Tables) -> None:
    """Weights are the cohort's patients, as many as were counted, and cells of a new level have those of all levels."""
    covariates, patients = tables.covariates, tables.n
    table = np.zeros(tuple(len(c.levels) + c.open for c in covariates))
    table[tuple(arrays["levels"].T)] = arrays["weight"]
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
    outer, inner = np.array(within).T
    flat = draws.reshape(-1, len(names) * grades)
    for first in range(0, len(flat), AT_ONCE):
        part = np.ascontiguousarray(flat[first : first + AT_ONCE].T)
        if (part[inner] > part[outer] + np.float32(ROUNDED)).any():
            raise SavedModelError("the array 'draws' has risks above those of a lower grade, or of the event they lie in")
