"""Tables of subjects and records as frames, and files of CDISC's formats: SAS transport and Dataset-JSON 1.1. Light."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import narwhals.stable.v2 as nw

from aemodel.publication.arguments import path_in
from aemodel.publication.errors import InputError
from aemodel.publication.texts import said
from aemodel.scoring.eager import as_frame

FORMATS = {".xpt": "SAS transport", ".json": "Dataset-JSON 1.1", ".ndjson": "Dataset-JSON 1.1"}


def open_dataset(data: Any, argument: str) -> nw.DataFrame[Any]:
    """A caller's frame, or the table in the file of a path, in pandas.

    Raises
    ------
    TypeError, OSError, InputError
        It is neither, or cannot be read as what its name ends in.
    """
    if not isinstance(data, (str, os.PathLike)):
        return as_frame(data, argument)
    path = path_in(argument, data)
    if (kind := path.suffix.lower()) not in FORMATS:
        known = ", ".join(f"{suffix} ({name})" for suffix, name in FORMATS.items())
        raise InputError(argument, f"{path.name!r} ends in none of {known}")
    try:
        return as_frame(_read_transport(path) if kind == ".xpt" else _read_json(path, lines=kind == ".ndjson"), argument)
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(argument, f"{path.name!r} is not read as {FORMATS[kind]}: {said(error)}") from error


def _read_transport(path: Path) -> Any:
    import pandas as pd

    try:
        return pd.read_sas(path, format="xport", encoding="utf-8")
    except UnicodeDecodeError:
        return pd.read_sas(path, format="xport", encoding="cp1252")


def _read_json(path: Path, *, lines: bool) -> Any:
    """``columns``, each with its name, and ``rows``; where each row is a line, the first has all but the rows."""
    import pandas as pd

    text = path.read_text(encoding="utf-8-sig")
    if lines:
        about, *rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    else:
        about = json.loads(text)
        rows = about["rows"]
    if not str(about["datasetJSONVersion"]).startswith("1.1"):
        raise ValueError(f"its version is {about['datasetJSONVersion']!r}")
    return pd.DataFrame(rows, columns=[column["name"] for column in about["columns"]])
