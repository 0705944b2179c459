"""Writing a saved model, so that at every moment the folder holds a whole one: the old, then the new."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from aemodel.answers.calibration import calibration_table, coverage
from aemodel.inference.record import make_manifest
from aemodel.pages.description import model_facts
from aemodel.pages.render import card
from aemodel.publication.arguments import path_in
from aemodel.saved.arrays import draws_bytes, logits_bytes, risks_bytes
from aemodel.saved.manifest import FILE_NAME, MANIFEST, SavedModelError, check_manifest, file_name, read_manifest
from aemodel.saved.reader import LoadedModel, load_model
from aemodel.scoring.whole import scratch, settle, settle_folder

if sys.platform != "win32":
    import fcntl

CARD = "card.md"
SCRATCH = ".saving-"
SCRATCH_NAME = re.compile(rf"{re.escape(SCRATCH)}[0-9a-f]{{16}}\.partial")


def save_model(model: Any, folder: str | Path) -> LoadedModel:
    """Write a fitted model to a folder, replacing a model that is there.

    Array files carry their digest in the name and the manifest is renamed into place last, so an interruption leaves
    the old model or the new one. What an interrupted save left is removed by the next. Several may save to one folder:
    they take turns. No patient row is stored.

    Parameters
    ----------
    model
        From `fit` or `load_model`; of the latter, manifest and arrays are copied as they are.
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
        It cannot be written: what was there stays, or the new model is there, whole.
    """
    folder = path_in("folder", folder)
    check_folder(folder)
    with locked(folder):
        check_folder(folder)
        _remove_leftovers(folder)
        with scratch(folder, SCRATCH) as new:
            manifest = _write(model, new, folder)
            _publish(new, folder, manifest)
        _remove_old(folder, manifest)
        return load_model(folder)


def check_folder(folder: Path) -> None:
    """Refuse a place where no model can be saved, before anything is computed for it.

    A manifest there must be one that this version reads: another program's, or a later version's model, is not replaced.
    """
    if folder.is_dir():
        found = list(folder.iterdir())
        in_the_way = any(path.is_dir() for path in found if path.name == CARD or FILE_NAME.fullmatch(path.name))
        if not in_the_way and (all(map(_is_leftover, found)) or _is_model(folder)):
            return
    elif not folder.exists() and not folder.is_symlink():
        return
    raise FileExistsError(f"folder: {str(folder)!r} holds something that is not a saved model; name another folder")


def _is_leftover(path: Path) -> bool:
    return bool(SCRATCH_NAME.fullmatch(path.name) or FILE_NAME.fullmatch(path.name))


def _is_model(folder: Path) -> bool:
    try:
        return bool(read_manifest(folder))
    except SavedModelError:
        return False


def _remove_leftovers(folder: Path) -> None:
    """Scratch folders of saves that were killed: none is at work while this one holds the lock."""
    for path in folder.iterdir():
        if SCRATCH_NAME.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _write(model: Any, new: Path, folder: Path) -> dict[str, Any]:
    """All files of the model, under their names and on disk, but in a folder of their own; its manifest."""
    arrays = _arrays(model)
    files = {kind: _entry(kind, content) for kind, content in arrays.items()}
    if isinstance(model, LoadedModel):
        manifest = dict(model.manifest)
    else:  # a second of work, so that a model read back keeps what it was saved with
        manifest = make_manifest(model, files, coverage(calibration_table(model)))
    check_manifest(manifest)  # what could not be read back must not replace what can
    contents = {files[kind]["name"]: content for kind, content in arrays.items()}
    contents[MANIFEST] = (json.dumps(manifest, indent=1, allow_nan=False) + "\n").encode()
    contents[CARD] = card(model_facts(manifest, model.tables, model.risks)).encode()
    for name, content in contents.items():
        (new / name).write_bytes(content)
        settle(new / name, folder / name)
    return manifest


def _arrays(model: Any) -> dict[str, bytes]:
    if isinstance(model, LoadedModel):
        return {kind: model.content(kind) for kind in model.manifest["files"]}
    contents = {"scoring": risks_bytes(model.risks), "branches": logits_bytes(model.branch_logits)}
    return contents | {"posterior": draws_bytes(model.idata)}


def _publish(new: Path, folder: Path, manifest: Mapping[str, Any]) -> None:
    """Rename the files into place, the manifest last of those that matter: until then the old model stands.

    Its rename may have been done whatever is reported of it, so no array is ever taken back: those that no manifest names
    are removed by the next save. The card has no digest in its name. The old one is put aside first: a model without card,
    for a moment, can do no harm, a card of another model can.
    """
    text, aside = (new / MANIFEST).read_bytes(), new / f"old-{CARD}"
    for entry in manifest["files"].values():
        os.replace(new / entry["name"], folder / entry["name"])
    try:
        if (folder / CARD).exists():
            os.replace(folder / CARD, aside)
        settle_folder(folder)
        os.replace(new / MANIFEST, folder / MANIFEST)
        settle_folder(folder)
        os.replace(new / CARD, folder / CARD)
        settle_folder(folder)
    except BaseException:
        with suppress(OSError):  # no card, if it comes to that
            stands = (folder / MANIFEST).read_bytes() == text
            os.replace(new / CARD if stands else aside, folder / CARD)
        raise


def _remove_old(folder: Path, manifest: Mapping[str, Any]) -> None:
    current = {entry["name"] for entry in manifest["files"].values()}
    for path in folder.iterdir():
        if FILE_NAME.fullmatch(path.name) and path.name not in current:
            path.unlink()


def _entry(kind: str, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {"name": file_name(kind, digest), "bytes": len(content), "sha256": digest}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder and its parents if need be, wait for its lock and hold it.

    The lock leaves no file behind, and readers need not take it. After an error, folders that were made are taken away
    again if nothing stands in them.

    Raises
    ------
    OSError
        The file system knows no locks, or the folder cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    handle = None
    try:
        while handle is None:
            handle = _lock(folder)
        yield
    except BaseException:
        for path in missing:  # while the lock is held: who waits for it finds out
            with suppress(OSError):  # not empty: someone else's by now, or never made
                path.rmdir()
        raise
    finally:
        if handle not in (None, -1):
            _release(handle)


def _lock(folder: Path) -> int | None:
    """The folder held, by a file descriptor; None if it was taken away while its lock was waited for."""
    for path in reversed([folder, *folder.parents]):
        if not path.exists():
            path.mkdir(exist_ok=True)
            settle_folder(path.parent)
    if sys.platform == "win32":  # no lock on a folder there: savers must not share one
        return -1
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if folder.exists() and os.path.samestat(os.fstat(handle), folder.stat()):
            return handle
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _release(handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_UN)  # forked processes may have the descriptor, too
    finally:
        os.close(handle)
