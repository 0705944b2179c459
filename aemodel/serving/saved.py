"""Writing a saved model, so that at every moment the folder holds a whole one: the old, then the new."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aemodel.answers.calibration import calibration_table, coverage
from aemodel.serving.arrays import write_risks
from aemodel.serving.card import card
from aemodel.serving.draws import draws_bytes
from aemodel.serving.facts import model_facts
from aemodel.serving.locks import locked
from aemodel.serving.manifest import FILE_NAME, FORMAT, MANIFEST, manifest_digest
from aemodel.serving.reading import LoadedModel, load_model

CARD = "card.md"
SCRATCH = ".saving-"
VERSIONS = ("aemodel", "numpy", "pymc", "nutpie", "pytensor", "numba", "arviz", "xarray")


def save_model(model: Any, folder: str | Path) -> LoadedModel:
    """Write a fitted model to a folder, replacing a model that is there.

    Array files carry their digest in the name and the manifest is renamed into place last, so an interruption leaves
    the old model or the new one. What an interrupted save left is removed by the next. Several may save to one folder:
    they take turns. No patient row is stored.

    Parameters
    ----------
    model
        From `fit` or `load_model`; of the latter, the files are copied as they are.
    folder
        Made if it is not there.

    Returns
    -------
    LoadedModel
        The saved model, read back.

    Raises
    ------
    FileExistsError
        The folder holds something other than a saved model.
    OSError
        It cannot be written; what was there stays.
    """
    folder = Path(folder)
    check_folder(folder)
    with _made(folder), locked(folder):
        check_folder(folder)
        _remove_leftovers(folder)
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder) as scratch:
            files = _write(model, Path(scratch))
            _publish(Path(scratch), folder, files)
        _remove_old(folder, files)
        return load_model(folder)


def check_folder(folder: Path) -> None:
    """Refuse a place where no model can be saved, before anything is computed for it."""
    if not folder.exists():
        return
    if folder.is_dir() and ((folder / MANIFEST).is_file() or all(_is_leftover(path) for path in folder.iterdir())):
        return
    raise FileExistsError(f"folder: {str(folder)!r} holds something that is not a saved model; name another folder")


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """The folder and its parents, made if need be, and taken away again if no model came to stand there."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in missing:
            with suppress(OSError):  # not empty: someone else's by now, or never made
                path.rmdir()
        raise


def _is_leftover(path: Path) -> bool:
    return path.name.startswith(SCRATCH) or bool(FILE_NAME.fullmatch(path.name))


def _remove_leftovers(folder: Path) -> None:
    """Scratch folders of saves that were killed: none is at work while this one holds the lock."""
    for path in folder.glob(f"{SCRATCH}*"):
        shutil.rmtree(path, ignore_errors=True)


def _write(model: Any, scratch: Path) -> dict[str, Any]:
    """All files of the model in the scratch folder, on disk; their entries in the manifest."""
    _write_arrays(model, scratch)
    files = {path.stem: _entry(path) for path in sorted(scratch.iterdir())}
    manifest = make_manifest(model, files, _performance(model))
    (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (scratch / CARD).write_text(card(model_facts(manifest, model.risks)), encoding="utf-8")
    for path in scratch.iterdir():
        _flush(path)
    return files


def _write_arrays(model: Any, scratch: Path) -> None:
    if isinstance(model, LoadedModel):
        (scratch / "scoring.npz").write_bytes(model.content("scoring"))
        (scratch / "posterior.nc").write_bytes(model.content("posterior"))
    else:
        write_risks(model.risks, scratch / "scoring.npz")
        (scratch / "posterior.nc").write_bytes(draws_bytes(model.idata))


def _publish(scratch: Path, folder: Path, files: Mapping[str, Any]) -> None:
    """Move the files into place; until the manifest's own move, the last that can matter, the old model stands.

    The card has no digest in its name. The old one is put aside first: a model without card, for a moment, can do no
    harm, a card of another model can.
    """
    names = {kind: entry["name"] for kind, entry in files.items()}
    new = [folder / name for name in names.values() if not (folder / name).exists()]
    aside = scratch / f"old-{CARD}"
    try:
        for kind, name in names.items():
            os.replace(scratch / f"{kind}{Path(name).suffix}", folder / name)
        if (folder / CARD).exists():
            os.replace(folder / CARD, aside)
        _flush_folder(folder)
        os.replace(scratch / MANIFEST, folder / MANIFEST)
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        if aside.exists():
            os.replace(aside, folder / CARD)
        raise
    os.replace(scratch / CARD, folder / CARD)
    _flush_folder(folder)


def _remove_old(folder: Path, files: Mapping[str, Any]) -> None:
    current = {entry["name"] for entry in files.values()}
    for path in folder.iterdir():
        if FILE_NAME.fullmatch(path.name) and path.name not in current:
            path.unlink()


def _entry(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"name": f"{path.stem}-{digest[:16]}{path.suffix}", "bytes": path.stat().st_size, "sha256": digest}


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Put renames on disk in their order, where a folder can be opened (not on Windows)."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_manifest(model: Any, files: dict[str, Any], performance: dict[str, Any] | None) -> dict[str, Any]:
    """The manifest of a model whose arrays are in ``files``, and whose calibration covers what ``performance`` says."""
    fields = {
        "format": FORMAT,
        "name": model.name,
        "versions": _versions(model),
        "settings": dict(model.settings),
        "diagnostics": asdict(model.diagnostics),
        "performance": performance,
        "digest": model.tables.digest,
        "events": list(model.risks.events),
        "grades": list(model.risks.grades),
        "samples": len(model.risks.draws),
        "chains": model.risks.chains,
        "publication": dict(model.tables.texts),
        "files": files,
    }
    return fields | {"sha256": manifest_digest(fields)}


def _versions(model: Any) -> dict[str, str]:
    """What the model was fitted with."""
    if isinstance(model, LoadedModel):
        return dict(model.manifest["versions"])
    return {name: version(name) for name in VERSIONS}


def _performance(model: Any) -> dict[str, Any]:
    """Coverage of the published frequencies; seconds of work, so that a model read back keeps what it was saved with."""
    if isinstance(model, LoadedModel) and "performance" in model.manifest:
        return dict(model.manifest["performance"])
    found = coverage(calibration_table(model))
    return {"rows": round(found["rows"]), "within50": found["within50"], "within90": found["within90"]}
