"""Writing a saved model, so that at every moment the folder holds a whole one: the old, then the new."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from aemodel.answers.calibration import calibration_table, coverage
from aemodel.inference.idata import write_idata
from aemodel.inference.risks import RiskDraws
from aemodel.serving.reading import FILE_NAME, FORMAT, MANIFEST, LoadedModel, load_model

VERSIONS = ("aemodel", "numpy", "pymc", "nutpie", "pytensor", "numba", "arviz", "xarray")


def save_model(model: Any, folder: str | Path) -> LoadedModel:
    """Write a fitted model to a folder, replacing a model that is there.

    Array files carry their digest in the name and the manifest is renamed into place last, so an interruption leaves
    the old model or the new one. No patient row is stored.

    Parameters
    ----------
    model
        From `fit` or `load_model`.
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
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as scratch:
            _write(model, folder, Path(scratch))
    except BaseException:
        if made:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return load_model(folder)


def check_folder(folder: Path) -> None:
    """Refuse a place where no model can be saved, before anything is computed for it."""
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / MANIFEST).is_file())):
        raise FileExistsError(f"folder: {str(folder)!r} holds something that is not a saved model; name another folder")


def _write(model: Any, folder: Path, scratch: Path) -> None:
    _write_risks(model.risks, scratch / "scoring.npz")
    write_idata(model.idata, str(scratch / "posterior.nc"))
    files = {path.stem: _entry(path) for path in sorted(scratch.iterdir())}
    manifest = _manifest(model, files)
    (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (scratch / "card.md").write_text(_card(model, manifest), encoding="utf-8")
    for path in scratch.iterdir():
        _flush(path)
    for kind, entry in files.items():
        os.replace(scratch / f"{kind}{Path(entry['name']).suffix}", folder / entry["name"])
    os.replace(scratch / "card.md", folder / "card.md")
    os.replace(scratch / MANIFEST, folder / MANIFEST)
    current = {entry["name"] for entry in files.values()}
    for path in folder.iterdir():
        if FILE_NAME.fullmatch(path.name) and path.name not in current:
            path.unlink()


def _write_risks(risks: RiskDraws, path: Path) -> None:
    np.savez(path, **{name: getattr(risks, name) for name in RiskDraws.ARRAYS})


def _entry(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"name": f"{path.stem}-{digest[:16]}{path.suffix}", "bytes": path.stat().st_size, "sha256": digest}


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _manifest(model: Any, files: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": model.name,
        "versions": {name: version(name) for name in VERSIONS},
        "settings": dict(model.settings),
        "diagnostics": asdict(model.diagnostics),
        "digest": model.tables.digest,
        "events": list(model.risks.events),
        "grades": list(model.risks.grades),
        "samples": len(model.risks.draws),
        "chains": model.risks.chains,
        "publication": dict(model.tables.texts),
        "files": files,
    }


def _card(model: Any, manifest: dict[str, Any]) -> str:
    """What a reader must know before using the model, in words."""
    about, fits = model.tables.about, coverage(calibration_table(model))
    notes = "\n".join(f"- {note}" for note in about.get("notes", []))
    covariates = "\n".join(f"- {c.label} (`{c.name}`): {', '.join(c.names)}" for c in model.tables.covariates)
    return f"""# Model card: {model.name}

**What it is.** A hierarchical logistic model of {len(model.risks.events)} severe toxicities, fitted to published counts:
{about["title"]}.

**Source.** {about["citation"]} DOI {about.get("doi", "not given")}. {about.get("licence", "")}

**Patients.** N = {model.tables.n}. {about.get("setting", "")}. {about.get("grading", "")}.

**Covariates.**
{covariates}

**Fit.** {model.diagnostics}. Seed {model.settings["seed"]}; data digest {manifest["digest"][:16]}.
Versions {manifest["versions"]}.

**Consistency with the publication.** {fits["within90"]:.0%} of {fits["rows"]:.0f} published frequencies lie in their 90 %
predictive interval. The model saw these rows: this is no validation, and no external cohort has been scored.

**Limits.** Not for treatment decisions. Margins say nothing about interactions; effects flagged `pooled` were learned from
other events, and those flagged `prior` rest on no published frequency at all.
{notes}
"""
