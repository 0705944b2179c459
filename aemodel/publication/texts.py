"""A publication's files as texts, and their digest. Light: a saved model carries them, and checks them, without pandas."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

FILES = ("publication.toml", "events.csv", "frequencies.csv", "cohort.csv", "tests.csv", "discrepancies.csv")


def digest_of(texts: Mapping[str, str]) -> str:
    """SHA-256 of the files' names and contents."""
    parts = [f"{name}\0{texts[name]}\0" for name in FILES]
    return hashlib.sha256("".join(parts).encode()).hexdigest()
