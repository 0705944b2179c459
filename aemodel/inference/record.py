"""What is recorded of a fit: the fields of a saved model's manifest, and their digest. Light."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

FORMAT = 2
VERSIONS = ("aemodel", "numpy", "pymc", "nutpie", "pytensor", "numba", "arviz", "xarray")


def make_manifest(model: Any, files: dict[str, Any], performance: dict[str, Any] | None) -> dict[str, Any]:
    """The manifest of a fitted model whose arrays are in ``files``, and whose calibration covers what ``performance`` says."""
    fields = {
        "format": FORMAT,
        "name": model.name,
        "versions": {name: version(name) for name in VERSIONS},
        "settings": dict(model.settings),
        "diagnostics": {name: value for name, value in asdict(model.diagnostics).items() if value is not None},
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


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of all fields but ``sha256``, as JSON with sorted keys; with the files' digests in it, that of the model."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
