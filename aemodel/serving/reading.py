"""A saved model read back, after its digests. Light: NumPy only until more than risks is asked for.

A saved model is a folder: `manifest.json`, `scoring-<digest>.npz` (risk draws), `posterior-<digest>.nc` (all draws) and
`card.md`. The manifest is checked first, then each file's size and SHA-256, then its contents; nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from aemodel.inference.diagnostics import Diagnostics
from aemodel.inference.risks import SUPPORT, RiskDraws, cell_count
from aemodel.publication.rules import Covariate, read_covariates

FORMAT = 1
MANIFEST = "manifest.json"
FILE_NAME = re.compile(r"(scoring-[0-9a-f]{16}\.npz|posterior-[0-9a-f]{16}\.nc)")
MOST_MANIFEST_BYTES = 4_000_000
MOST_FILE_BYTES = 2_000_000_000
WITHIN = {
    "draws": "not all probabilities",
    "levels": "not all levels",
    "weight": "not all positive numbers",
    "movement": "not all numbers of zero or more",
    "source": "not all places in the list of sources",
}
FIELDS = {
    "format": int,
    "name": str,
    "versions": dict,
    "settings": dict,
    "diagnostics": dict,
    "digest": str,
    "events": list,
    "grades": list,
    "samples": int,
    "chains": int,
    "publication": dict,
    "files": dict,
}


class SavedModelError(Exception):
    """A saved model is damaged, incomplete, or not one of ours; nothing of it was believed."""


@dataclass(frozen=True)
class LoadedModel:
    """A saved model: answers the same calls as a fitted one. Its full draws are read when first asked for."""

    folder: Path
    manifest: Mapping[str, Any]
    risks: RiskDraws

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def settings(self) -> Mapping[str, Any]:
        return dict(self.manifest["settings"])

    @property
    def diagnostics(self) -> Diagnostics:
        return Diagnostics(**self.manifest["diagnostics"])

    @cached_property
    def tables(self) -> Any:
        """The publication the model was fitted to, `aemodel.publication.tables.Tables`."""
        from aemodel.publication.tables import read_tables

        return read_tables(self.manifest["publication"])

    @cached_property
    def posterior(self) -> Any:
        """All posterior draws of the parameters, an `xarray.Dataset`."""
        return self._group("posterior")

    @cached_property
    def prior(self) -> Any:
        """Prior draws of the parameters, an `xarray.Dataset`."""
        return self._group("prior")

    @cached_property
    def idata(self) -> Any:
        """All groups as ArviZ `InferenceData`."""
        from aemodel.inference.idata import read_idata

        return read_idata(str(self._checked_posterior()))

    def __repr__(self) -> str:
        return f"<LoadedModel {self.name}: {self.risks.draws.shape[0]} risk draws. {self.diagnostics}>"

    def _group(self, name: str) -> Any:
        import xarray as xr

        with xr.open_dataset(self._checked_posterior(), group=name, engine="h5netcdf") as group:
            return group.load()

    def _checked_posterior(self) -> Path:
        _read_checked(self.folder, self.manifest["files"], "posterior")
        return self.folder / self.manifest["files"]["posterior"]["name"]


def load_model(source: str | Path) -> LoadedModel:
    """Read a saved model.

    Parameters
    ----------
    source
        Name of a shipped model (``"aall1331"``) or the folder of a saved one.

    Raises
    ------
    FileNotFoundError
        No such model.
    SavedModelError
        It is damaged or not a saved model of a known format.
    """
    folder = find_model(source)
    manifest = read_manifest(folder)
    try:
        risks = _read_risks(manifest, _read_checked(folder, manifest["files"], "scoring"))
    except SavedModelError:
        raise
    except Exception as error:
        raise SavedModelError(f"{folder}: the risk draws cannot be read ({error})") from error
    return LoadedModel(folder, manifest, risks)


def find_model(source: str | Path) -> Path:
    """The folder of a saved model: a path, or the name of a shipped one (in a wheel, or beside a checkout's package)."""
    folder = Path(source)
    if folder.is_dir():
        return folder
    package = Path(__file__).resolve().parents[1]
    for shipped in (package / "models", package.parent / "models"):
        if re.fullmatch(r"[\w-]+", str(source)) and (shipped / str(source) / MANIFEST).is_file():
            return shipped / str(source)
    raise FileNotFoundError(f"source: {str(source)!r} is neither the folder of a saved model nor the name of a shipped one")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, strictly: UTF-8 JSON of known fields and types, no duplicate keys, no NaN."""
    path = folder / MANIFEST
    try:
        if path.is_symlink() or path.stat().st_size > MOST_MANIFEST_BYTES:
            raise SavedModelError(f"{path}: a link, or larger than {MOST_MANIFEST_BYTES} bytes")
        manifest = json.loads(path.read_bytes().decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
    except (OSError, ValueError, RecursionError) as error:
        raise SavedModelError(f"{path}: not a manifest ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else manifest
        raise SavedModelError(
            f"{path}: format {found!r} is not known; this version reads format {FORMAT}. Upgrade aemodel or refit"
        )
    if set(manifest) != set(FIELDS) or any(type(manifest[key]) is not kind for key, kind in FIELDS.items()):
        raise SavedModelError(f"{path}: its fields are not those of format {FORMAT}: {sorted(set(manifest) ^ set(FIELDS))}")
    _check_entries(manifest, path)
    return manifest


def _check_entries(manifest: dict[str, Any], path: Path) -> None:
    """What the fields hold, beyond their types."""
    for key in ("events", "grades"):
        names = manifest[key]
        if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise SavedModelError(f"{path}: {key} must be different names; found {names}")
    if manifest["chains"] < 1 or manifest["samples"] < 1 or manifest["samples"] % manifest["chains"]:
        raise SavedModelError(f"{path}: {manifest['samples']} samples cannot come from {manifest['chains']} chains")
    found = manifest["diagnostics"]
    expected = {
        field.name: (int if field.type == "int" else str if field.type == "str" else float) for field in fields(Diagnostics)
    }
    if set(found) != set(expected) or any(type(found[name]) is not kind for name, kind in expected.items()):
        raise SavedModelError(f"{path}: diagnostics must be {', '.join(expected)}; found {found}")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


def _no_constants(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _read_checked(folder: Path, files: Mapping[str, Any], kind: str) -> bytes:
    """A file's bytes, once its name, size and digest are what the manifest says."""
    entry = files.get(kind)
    if not isinstance(entry, dict) or set(entry) != {"name", "bytes", "sha256"} or not FILE_NAME.fullmatch(str(entry["name"])):
        raise SavedModelError(f"{folder / MANIFEST}: no proper entry for the {kind} file")
    path = folder / entry["name"]
    try:
        if path.is_symlink() or path.stat().st_size != entry["bytes"] or path.stat().st_size > MOST_FILE_BYTES:
            raise SavedModelError(f"{path}: its size is not the {entry['bytes']} bytes of the manifest; copy the model again")
        content = path.read_bytes()
    except OSError as error:
        raise SavedModelError(f"{path}: cannot be read ({error})") from error
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise SavedModelError(f"{path}: its SHA-256 is not the manifest's; copy the model again")
    return content


def _read_risks(manifest: Mapping[str, Any], content: bytes) -> RiskDraws:
    about = tomllib.loads(manifest["publication"]["publication.toml"])
    covariates = read_covariates(about["covariates"], MANIFEST)
    events, grades = tuple(manifest["events"]), tuple(manifest["grades"])
    cells, pairs = cell_count(covariates), (len(events), len(grades))
    expected = {
        "draws": (np.float32, (manifest["samples"], cells, *pairs)),
        "levels": (np.int64, (cells, len(covariates))),
        "weight": (np.float64, (cells,)),
        "movement": (np.float32, (len(covariates), cells, *pairs)),
        "source": (np.int64, (len(covariates), *pairs)),
        "published": (np.bool_, pairs),
    }
    arrays = _read_arrays(content, expected)
    _check_values(arrays, covariates)
    return RiskDraws(covariates=covariates, events=events, grades=grades, chains=manifest["chains"], **arrays)


def _check_values(arrays: Mapping[str, Any], covariates: Sequence[Covariate]) -> None:
    """Each array within what it can hold; comparisons are false for NaN."""
    sizes = np.array([len(c.levels) + c.open for c in covariates])
    within = {
        "draws": (arrays["draws"] >= 0) & (arrays["draws"] <= 1),
        "levels": (arrays["levels"] >= 0) & (arrays["levels"] < sizes),
        "weight": (arrays["weight"] > 0) & (arrays["weight"] < np.inf),
        "movement": (arrays["movement"] >= 0) & (arrays["movement"] < np.inf),
        "source": (arrays["source"] >= 0) & (arrays["source"] < len(SUPPORT)),
    }
    for name, good in within.items():
        if not good.all():
            raise SavedModelError(f"the array {name!r} holds values that are {WITHIN[name]}")


def _read_arrays(content: bytes, expected: Mapping[str, tuple[Any, tuple[int, ...]]]) -> dict[str, Any]:
    """Members of an npz file, each of the declared type and shape and no larger than that."""
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sorted(archive.namelist()) != sorted(f"{name}.npy" for name in expected):
            raise SavedModelError(f"the scoring file holds {archive.namelist()}, not {list(expected)}")
        for name, (dtype, shape) in expected.items():
            size = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
            if archive.getinfo(f"{name}.npy").file_size not in range(size, size + 1024):
                raise SavedModelError(f"the array {name!r} is not of the size its shape {shape} needs")
            with archive.open(f"{name}.npy") as member:
                array = np.lib.format.read_array(member, allow_pickle=False)
            if array.dtype != dtype or array.shape != shape:
                raise SavedModelError(f"the array {name!r} is {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}")
            arrays[name] = array
    return arrays
