"""Turns at a folder: who saves a model there holds its lock, which the system takes back from a process that dies."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait for the folder's lock and hold it. It leaves no file behind, and readers need not take it.

    Raises
    ------
    OSError
        The file system knows no locks, or the folder was taken away meanwhile.
    """
    if sys.platform == "win32":  # no lock on a folder there: savers must not share one
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
