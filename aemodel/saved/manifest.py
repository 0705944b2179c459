"""The manifest of a saved model: strict JSON that vouches for every file, and for itself. Light: NumPy is not needed.

What it may hold is declared, format by format, in `aemodel.inference.record`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from aemodel.inference.record import FORMATS, manifest_digest
from aemodel.publication.schema import FILES
from aemodel.publication.tables import Tables, read_tables
from aemodel.publication.texts import digest_of, listed, read_regular, said, shown

MANIFEST = "manifest.json"
SUFFIXES = {"scoring": "npz", "branches": "npz", "posterior": "nc"}
"""Of the files beside the manifest."""
FILE_NAME = re.compile(r"(?:(?:scoring|branches)-[0-9a-f]{16}\.npz|posterior-[0-9a-f]{16}\.nc)")
MOST_MANIFEST_BYTES = 16_000_000
"""A publication's texts, a megabyte, and the evidence in them, row by row."""


class SavedModelError(Exception):
    """A saved model is damaged, incomplete, or not one of ours; nothing of it was believed."""


def read_manifest(folder: Path) -> tuple[dict[str, Any], Tables]:
    """The manifest, checked: UTF-8 JSON as its format declares it, no duplicate keys, no NaN, and true to its digests.

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
        raise SavedModelError(f"{path}: not a manifest ({said(error)}); copy the model again") from error
    try:
        return manifest, check_manifest(manifest)
    except (ValueError, RecursionError) as error:
        raise SavedModelError(f"{path}: {error}") from error


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


def check_manifest(manifest: Any) -> Tables:
    """The publication inside a manifest that is as its format declares, vouches for itself and speaks of that publication.

    Raises
    ------
    ValueError
        It is not, or is of a format that is not known.
    """
    record = _declared(manifest)
    if manifest["format"] > 1 and manifest_digest(manifest) != manifest["sha256"]:
        raise ValueError("its SHA-256 is not that of its contents; copy the model again, or refit")
    for kind, entry in manifest["files"].items():
        if entry["name"] != file_name(kind, entry["sha256"]):
            raise ValueError(f"files.{kind}: {shown(entry['name'])} is not the name that its digest gives it")
    if odd := set(manifest["diagnostics"]) - set(type(record.diagnostics).__dataclass_fields__):
        raise ValueError(f"diagnostics: {listed(sorted(odd))} is none of them")
    if len(record.publications) != 1:
        raise ValueError(f"of {len(record.publications)} publications; this version reads models of one. Upgrade aemodel")
    tables = _read_publication(*record.publications)
    expected = {"name": tables.name, "events": [event.name for event in tables.events], "grades": list(tables.grades)}
    if wrong := [key for key, value in expected.items() if manifest[key] != value]:
        raise ValueError(f"not those of the publication inside: {wrong}")
    return tables


def _declared(manifest: Any) -> Any:
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if type(found) is not int or found not in FORMATS:
        known = f"{', '.join(str(number) for number in list(FORMATS)[:-1])} and {max(FORMATS)}"
        raise ValueError(f"format {shown(found)} is not known; this version reads formats {known}. Upgrade aemodel or refit")
    try:
        return msgspec.convert(manifest, FORMATS[found])
    except msgspec.ValidationError as error:
        problem, _, place = said(error).partition(" - at `")
        place = place.strip("$.`")
        raise ValueError(f"{place}: {problem}" if place else f"{problem}, in format {found}") from error


def file_name(kind: str, sha256: str) -> str:
    return f"{kind}-{sha256[:16]}.{SUFFIXES[kind]}"


def _read_publication(publication: Any) -> Tables:
    """The publication inside is the one of its digest."""
    texts: Mapping[str, str] = publication.files
    if set(texts) != set(FILES):
        raise ValueError(f"publication must hold the texts of {', '.join(FILES)}; found {listed(sorted(texts))}")
    if digest_of(texts) != publication.digest:
        raise ValueError("the publication inside is not the one of its digest; copy the model again, or refit")
    return read_tables(texts)
