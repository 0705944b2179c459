"""Web pages in one file: put together from their parts, with a policy that lets nothing else in, and put in place whole.

Light: no PyMC, ArviZ, xarray, SciPy or pandas.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from aemodel.publication.errors import InputError
from aemodel.scoring.risks import RiskDraws
from aemodel.scoring.whole import check_place, whole


def check_page(model: Any, path: Path) -> None:
    """Refuse what is no model, and a place where no page can be, before anything is worked out.

    Raises
    ------
    TypeError, ValueError, OSError
        ``model`` is not a model; the path does not end in ``.html``, is no place for a file, or its folder is not there.
    """
    if not isinstance(getattr(model, "risks", None), RiskDraws):
        raise TypeError(f"model: expected a model from load_model or fit, not {type(model).__name__}")
    check_place(path, "path")
    if path.suffix.lower() != ".html":
        raise InputError("path", f"{str(path)!r} must end in .html")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: no folder {str(path.parent)!r}; make it first")


def source(name: str) -> str:
    """A file of `aemodel/pages/page`."""
    return (files("aemodel.pages") / "page" / name).read_text(encoding="utf-8").replace("\r\n", "\n")


def filled(template: str, parts: Mapping[str, str]) -> str:
    """A page's template with its parts; in one pass, so that a placeholder within a part is left alone."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], source(template))


def policy(style: str, script: str | None = None) -> str:
    """Content security policy: this style and this script, and nothing from anywhere."""
    scripts = "" if script is None else f"script-src {_digest(script)}; "
    return (
        f"default-src 'none'; style-src {_digest(style)}; {scripts}base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def replace_page(path: Path, page: str) -> None:
    """Write the page, which stands in its place only once it is whole."""
    with whole(path, "path") as partial:
        partial.write_bytes(page.encode())
