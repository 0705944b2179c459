"""The manifest of a saved model: strict JSON that vouches for every file, and for itself. Light: NumPy is not needed.

Formats that ever landed, all still read:

- 1: `FIELDS` without ``performance`` and ``sha256``. Events, grades and name are checked against the publication inside.
- 2: ``performance`` (the calibration's coverage, so that the card needs no new calibration) and ``sha256``, the digest of
  everything else in the manifest: a rule, a seed or a diagnostic changed by accident is found out. Digests tell damage,
  not forgery: who rewrites them all has made another model.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aemodel.inference.record import FORMAT, manifest_digest
from aemodel.publication.schema import FILES, MOST_CHARACTERS
from aemodel.publication.tables import Tables, read_tables
from aemodel.publication.texts import MOST_NAME, digest_of, listed, read_regular, shown

MANIFEST = "manifest.json"
FILE_NAME = re.compile(r"(scoring-[0-9a-f]{16}\.npz|posterior-[0-9a-f]{16}\.nc)")
MOST_MANIFEST_BYTES = 4_000_000
MOST_FILE_BYTES = 2_000_000_000
MOST_DEPTH = 20
FIELDS = {
    "format": int,
    "name": str,
    "versions": dict,
    "settings": dict,
    "diagnostics": dict,
    "performance": dict,
    "digest": str,
    "events": list,
    "grades": list,
    "samples": int,
    "chains": int,
    "publication": dict,
    "files": dict,
    "sha256": str,
}
SINCE = {"performance": 2, "sha256": 2}
"""The format that brought a field; 1 where none is named."""
COUNT, MEASURE, SHARE = (int, 0, 10**9), (float, -1e15, 1e15), (float, 0.0, 1.0)
VALUES: dict[str, dict[str, Any]] = {
    "settings": {
        "seed": (int, 0, 2**64 - 1),
        "draws": COUNT,
        "chains": COUNT,
        "tune": COUNT,
        "target_accept": SHARE,
        "failed_attempts": (list,),
        "patients": COUNT,
        "ordering": (None, "both", "either", "order"),
        "selection": (False, True),
        "overlap": (None, "disjoint", "subset"),
        "prior_scale": (float, 1e-9, 1e9),
        "power": SHARE,
        "priors": (dict,),
        "expected_slopes": (dict,),
    },
    "settings.expected_slopes": {"central90": (dict,), "median": (dict,), "refits": COUNT, "seed": (int, 0, 2**64 - 1)},
    "diagnostics": {
        **dict.fromkeys(("r_hat", "ess_bulk", "ess_tail", "bfmi"), MEASURE),
        "divergences": COUNT,
        "worst": (str,),
        "approximation": (float, 0.0, 1e15),
    },
    "performance": {"rows": COUNT, "within50": SHARE, "within90": SHARE},
}
"""What the manifest's records hold: a type, with the lowest and highest number; or the values there can be."""
LATER = {"approximation"}
"""Entries of records that models saved before do not have."""
MOST_VERSIONS = 50
MOST_SETTINGS = 20_000
"""Characters of all settings; priors are most of them."""
SHA256 = re.compile("[0-9a-f]{64}")


class SavedModelError(Exception):
    """A saved model is damaged, incomplete, or not one of ours; nothing of it was believed."""


def read_manifest(folder: Path) -> tuple[dict[str, Any], Tables]:
    """The manifest, checked: UTF-8 JSON of known fields and types, no duplicate keys, no NaN, and true to its digests.

    Beside it the publication inside, which is read here and nowhere else.

    Raises
    ------
    SavedModelError
        It is not there, or is not what `aemodel` writes.
    """
    path = folder / MANIFEST
    try:
        manifest = _parse(read_regular(path, MOST_MANIFEST_BYTES).decode("utf-8"))
    except FileNotFoundError as error:
        raise SavedModelError(f"{folder}: no saved model, or an incomplete copy: it holds no {MANIFEST}") from error
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise SavedModelError(f"{path}: not a manifest ({error}); copy the model again") from error
    try:
        _check_fields(manifest)
        _check_seal(manifest)
        _check_entries(manifest)
        _check_files(manifest["files"])
        tables = _read_publication(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SavedModelError(f"{path}: {error}") from error
    return manifest, tables


def _parse(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constants, parse_float=_finite)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


def _no_constants(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{listed([text])} is too large a number")
    return value


def _check_fields(manifest: Any) -> None:
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if type(found) is not int or not 1 <= found <= FORMAT:
        known = " and ".join(str(number) for number in range(1, FORMAT + 1))
        raise ValueError(f"format {shown(found)} is not known; this version reads formats {known}. Upgrade aemodel or refit")
    kinds = {key: kind for key, kind in FIELDS.items() if SINCE.get(key, 1) <= found}
    if odd := sorted(set(manifest) ^ set(kinds)):
        raise ValueError(f"its fields are not those of format {found}: {shown(odd)}")
    if wrong := [key for key, kind in kinds.items() if type(manifest[key]) is not kind]:
        raise ValueError(f"fields of another type than format {found} has: {wrong}")
    if _depth(manifest) > MOST_DEPTH:
        raise ValueError(f"nested deeper than {MOST_DEPTH} levels")


def _depth(value: Any) -> int:
    """Levels of nesting, counted without recursion."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return depth


def _check_seal(manifest: Mapping[str, Any]) -> None:
    digest = manifest_digest(manifest)
    if manifest["format"] > 1 and digest != manifest["sha256"]:
        raise ValueError("its SHA-256 is not that of its contents; copy the model again, or refit")


def _check_entries(manifest: Mapping[str, Any]) -> None:
    """What the fields hold, beyond their types."""
    for key in ("events", "grades"):
        names = manifest[key]
        if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise ValueError(f"{key} must be different names; found {shown(names)}")
    samples, chains = manifest["samples"], manifest["chains"]
    if chains < 1 or samples < 1 or samples % chains:
        raise ValueError(f"{samples} samples cannot come from {chains} chains")
    versions = manifest["versions"]
    if len(versions) > MOST_VERSIONS or not all(
        isinstance(v, str) and len(name + v) <= MOST_NAME for name, v in versions.items()
    ):
        raise ValueError("versions must be short texts")
    settings = manifest["settings"]
    records = {**manifest, **{f"settings.{name}": settings[name] for name in ("expected_slopes",) if name in settings}}
    for name, kinds in VALUES.items():
        if name in records:
            _check_record(name, records[name], kinds)
    ranges = settings.get("expected_slopes", {}).get("central90", {}).values()
    if not all(isinstance(pair, list) and [type(bound) for bound in pair] == [float, float] for pair in ranges):
        raise ValueError("settings.expected_slopes must have a lower and an upper bound for each grade")
    if "seed" not in settings or (settings.get("patients") and settings.get("overlap") is None):
        raise ValueError("settings must have a seed, and with patients say how they overlap with the cohort")
    if len(json.dumps(settings)) > MOST_SETTINGS:
        raise ValueError(f"settings of more than {MOST_SETTINGS} characters")


def _check_record(name: str, found: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Each value one that there can be. Settings may be fewer, as in older models, or more."""
    if name != "settings" and not set(kinds) - LATER <= set(found) <= set(kinds):
        raise ValueError(f"{name} must be {', '.join(kinds)}; found {shown(sorted(found))}")
    for key, kind in kinds.items():
        if key in found and not _is(found[key], kind):
            raise ValueError(f"{name}: {shown(found[key])} is no value of {key}")


def _is(value: Any, kind: tuple[Any, ...]) -> bool:
    if not isinstance(kind[0], type):
        return any(type(value) is type(one) and value == one for one in kind)
    return type(value) is kind[0] and (
        kind[1] <= value <= kind[2] if len(kind) > 1 else not isinstance(value, str) or len(value) <= MOST_CHARACTERS
    )


def _check_files(files: Mapping[str, Any]) -> None:
    for kind in ("scoring", "posterior"):
        entry = files.get(kind)
        if not isinstance(entry, dict) or not _is_entry(entry, kind):
            raise ValueError(f"no proper entry for the {kind} file")
    if set(files) != {"scoring", "posterior"}:
        raise ValueError(f"files that no saved model has: {listed(sorted(set(files) - {'scoring', 'posterior'}))}")


def _is_entry(entry: Mapping[str, Any], kind: str) -> bool:
    if set(entry) != {"name", "bytes", "sha256"} or not isinstance(entry["name"], str) or not isinstance(entry["sha256"], str):
        return False
    named = FILE_NAME.fullmatch(entry["name"]) and entry["name"].startswith(f"{kind}-{entry['sha256'][:16]}.")
    sized = type(entry["bytes"]) is int and 0 <= entry["bytes"] <= MOST_FILE_BYTES
    return bool(named and sized and SHA256.fullmatch(entry["sha256"]))


def _read_publication(manifest: Mapping[str, Any]) -> Tables:
    """The publication inside is the one of the digest, and the one that the other fields speak of."""
    texts = manifest["publication"]
    if set(texts) != set(FILES) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError(f"publication must hold the texts of {', '.join(FILES)}; found {listed(sorted(texts))}")
    if digest_of(texts) != manifest["digest"]:
        raise ValueError("the publication inside is not the one of its digest; copy the model again, or refit")
    tables = read_tables(texts)
    expected = {"name": tables.name, "events": [event.name for event in tables.events], "grades": list(tables.grades)}
    if wrong := [key for key, value in expected.items() if manifest[key] != value]:
        raise ValueError(f"not those of the publication inside: {wrong}")
    return tables
