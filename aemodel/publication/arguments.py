"""Arguments as callers give them, NumPy's scalars and any list of names among them, as what is meant by them. Light."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from aemodel.publication.errors import InputError
from aemodel.publication.texts import shown


def whole_number(argument: str, value: Any, least: int = 0, most: float = math.inf) -> int:
    """A whole number, Python's own.

    Raises
    ------
    TypeError, ValueError
        It is none, below ``least`` or above ``most``.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{argument}: expected a whole number, not {shown(value)}")
    found: Any = value
    if found < least:
        raise InputError(argument, f"expected {('zero', 'one')[least] if least < 2 else least} or more, not {shown(value)}")
    if found > most:
        raise InputError(argument, f"expected at most {most:,}, not {shown(value)}")
    return int(found)


def real_number(argument: str, value: Any, expected: str, *, most: float = math.inf, below: float = math.inf) -> float:
    """A finite number above 0, at most ``most`` and below ``below``, Python's own; ``expected`` says so in words.

    Raises
    ------
    ValueError
        It is none.
    """
    found: Any = value
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < found <= most or not found < below:
        raise InputError(argument, f"expected {expected}, not {shown(value)}")
    return float(found)


def path_in(argument: str, value: Any) -> Path:
    """A path that a file system could have.

    Raises
    ------
    TypeError, ValueError
        It is none.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{argument}: expected a path, not {shown(value)}")
    try:
        possible = b"\0" not in os.fsencode(value)
    except UnicodeError:  # half of a surrogate pair
        possible = False
    if not possible:
        raise InputError(argument, f"{shown(str(value))} is no path")
    return Path(value)


def names_in(argument: str, wanted: Any, known: Sequence[str] | None = None) -> tuple[str, ...]:
    """Names from a list, tuple, array or column of them, each once; all that are ``known`` if None is given.

    Raises
    ------
    TypeError, ValueError
        There are no names in it, or others than those known.
    """
    if wanted is None and known is not None:
        return tuple(known)
    if isinstance(wanted, (str, bytes)) or not isinstance(wanted, Iterable):
        what = "the text " if isinstance(wanted, str) else ""
        raise TypeError(f"{argument}: expected a list of names, not {what}{shown(wanted)}")
    names = wanted.to_pylist() if hasattr(wanted, "to_pylist") else list(wanted)  # Arrow's scalars are no texts
    if others := [name for name in names if not isinstance(name, str)]:
        raise TypeError(f"{argument}: expected names, not {shown(others[0])}")
    unknown = [name for name in names if known is not None and name not in known]
    if known is not None and (unknown or not names):
        raise InputError(argument, f"unknown {shown(unknown)}; choose from {', '.join(known)}")
    return tuple(dict.fromkeys(map(str, names)))
