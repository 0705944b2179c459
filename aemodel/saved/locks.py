"""Turns at a folder: who saves a model there holds its lock, which the system takes back from a process that dies."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aemodel.scoring.whole import settle_folder

if sys.platform != "win32":
    import fcntl


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
