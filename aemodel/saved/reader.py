"""A saved model read back, after its digests. Light: NumPy only until more than risks is asked for.

A saved model is a folder: `manifest.json`, `scoring-<digest>.npz` (risk draws), `branches-<digest>.npz` (the logits they come
from), `posterior-<digest>.nc` (all draws) and `card.md`. The manifest is checked first, then each file's size and SHA-256,
then its contents; nothing is unpickled, and what is opened are the very bytes that were checked.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aemodel.inference.diagnostics import Diagnostics
from aemodel.inference.record import evidence_words, manifest_digest, model_html
from aemodel.publication.arguments import path_in
from aemodel.publication.tables import Tables
from aemodel.publication.texts import listed, read_regular, said
from aemodel.saved.arrays import check_draws, read_logits, read_risks
from aemodel.saved.manifest import MANIFEST, SavedModelError, read_manifest
from aemodel.scoring.risks import RiskDraws

MOST_ATTEMPTS = 20
"""How often a reader starts again when a save has replaced the manifest, and removed its files, under its hands."""


@dataclass(frozen=True)
class LoadedModel:
    """A saved model: answers the same calls as a fitted one. Its full draws are read when first asked for."""

    folder: Path
    manifest: Mapping[str, Any]
    tables: Tables
    risks: RiskDraws

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, and so of the whole model."""
        return manifest_digest(self.manifest)

    @property
    def settings(self) -> Mapping[str, Any]:
        return dict(self.manifest["settings"])

    @property
    def diagnostics(self) -> Diagnostics:
        return Diagnostics(**self.manifest["diagnostics"])

    @cached_property
    def branch_logits(self) -> NDArray[np.float32] | None:
        """Branch logits that the risk draws come from, (sample, branch, cell); None of models saved before format 3."""
        if "branches" not in self.manifest["files"]:
            return None
        with _reading(self.folder, "branch logits"):
            return read_logits(self.manifest, self.tables, lambda: self.content("branches"))

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

        with _reading(self.folder, "posterior"):
            return read_idata(self._draws())

    def content(self, kind: str) -> bytes:
        """The bytes of the ``scoring``, ``branches`` or ``posterior`` file, checked against the manifest."""
        try:
            return read_checked(self.folder, self.manifest, kind)
        except SavedModelError as error:
            if _replaced(self.folder, self.manifest):
                raise SavedModelError(f"{self.folder}: another model was saved here since this one was loaded") from error
            raise

    def file_states(self) -> dict[str, dict[str, Any]]:
        """The manifest's entry of each file, with ``state``: ``whole``, or what is wrong with it.

        All but ``scoring`` may be wanting: scoring does without it.
        """
        return {kind: {**entry, "state": self._state(kind)} for kind, entry in self.manifest["files"].items()}

    def _state(self, kind: str) -> str:
        try:
            self.content(kind)
        except SavedModelError as error:
            return str(error)
        return "whole"

    def __repr__(self) -> str:
        draws = self.risks.draws.shape[0]
        return (
            f"<LoadedModel {self.name}: {draws} risk draws. {self.diagnostics}. {evidence_words(self.settings, self.tables)}>"
        )

    def _repr_html_(self) -> str:
        return model_html(self)

    def _draws(self) -> io.BytesIO:
        """The posterior's file, once nothing in it leads out of it."""
        content = self.content("posterior")
        check_draws(content)
        return io.BytesIO(content)

    def _group(self, name: str) -> Any:
        import xarray as xr

        with _reading(self.folder, name), xr.open_dataset(self._draws(), group=name, engine="h5netcdf") as group:
            odd = [str(key) for key, x in group.load().items() if x.dtype.kind != "f" or not np.isfinite(x).all()]
            if odd:
                raise ValueError(f"not all finite numbers: {listed(odd)}")
            return group


def load_model(source: str | Path) -> LoadedModel:
    """Read a saved model.

    Parameters
    ----------
    source
        Name of a shipped model (``"aall1331"``) or the folder of a saved one; one that is named as a shipped model is
        ``"./aall1331"``, or a `Path`.

    Raises
    ------
    FileNotFoundError
        No such model.
    SavedModelError
        It is damaged or not a saved model of a known format.
    """
    folder = find_model(source)
    for _ in range(MOST_ATTEMPTS - 1):
        manifest, tables = read_manifest(folder)
        try:
            return _load(folder, manifest, tables)
        except SavedModelError:
            if not _replaced(folder, manifest):
                raise
    return _load(folder, *read_manifest(folder))


def find_model(source: str | Path) -> Path:
    """The folder of a saved model: a path, or the name of a shipped one (in a wheel, or beside a checkout's package)."""
    folder, package = path_in("source", source), Path(__file__).resolve().parents[1]
    for shipped in (package / "models", package.parent / "models"):
        if isinstance(source, str) and re.fullmatch(r"[\w-]+", source) and (shipped / source / MANIFEST).is_file():
            return shipped / source
    if folder.is_dir():
        return folder
    raise FileNotFoundError(f"source: {str(source)!r} is neither the folder of a saved model nor the name of a shipped one")


def read_checked(folder: Path, manifest: Mapping[str, Any], kind: str) -> bytes:
    """A file's bytes, once its size and digest are what the manifest says."""
    entry = manifest["files"][kind]
    path = folder / entry["name"]
    try:
        content = read_regular(path, entry["bytes"])
    except (OSError, ValueError, MemoryError) as error:
        raise SavedModelError(f"{path}: cannot be read ({said(error)})") from error
    if len(content) != entry["bytes"]:
        raise SavedModelError(f"{path}: its size is not the {entry['bytes']} bytes of the manifest; copy the model again")
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise SavedModelError(f"{path}: its SHA-256 is not the manifest's; copy the model again")
    return content


def _load(folder: Path, manifest: Mapping[str, Any], tables: Tables) -> LoadedModel:
    with _reading(folder, "risk draws"):
        return LoadedModel(
            folder, manifest, tables, read_risks(manifest, tables, lambda: read_checked(folder, manifest, "scoring"))
        )


@contextmanager
def _reading(folder: Path, what: str) -> Iterator[None]:
    """Whatever a library says of a file is an error of the model that it belongs to."""
    try:
        yield
    except SavedModelError:
        raise
    except Exception as error:
        raise SavedModelError(f"{folder}: the {what} cannot be read ({said(error)})") from error


def _replaced(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether the folder holds another whole model by now: its files are then not those of this manifest."""
    try:
        return read_manifest(folder)[0]["files"] != manifest["files"]
    except SavedModelError:
        return False
