"""Files that are written: what they may be called, and that they stand under their name only once they are whole. Light.

What is written is made in a folder of its own beside its place, under a name that nobody else can have (not by process id:
two containers may have the same ones). It is on the disk before it is renamed, and its folder after.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from aemodel.publication.errors import InputError

PATTERN = re.compile(r"[*?\[]")
"""In what is a pattern of files' names."""
NO_FOLDERS_SYNCED = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)
"""What file systems answer that see to folders themselves."""


def check_kind(path: Path, argument: str) -> str:
    """``csv`` or ``parquet``, by the end of the name."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("csv", "parquet"):
        raise InputError(argument, f"{str(path)!r} must end in .csv or .parquet")
    return kind


def check_place(path: Path, argument: str, *, folder: bool = False) -> None:
    """Refuse what a file must not replace: a folder, a pipe, a device; of a link, what it points to. A folder: anything."""
    if folder and os.path.lexists(path):
        raise FileExistsError(f"{argument}: {str(path)!r} is there already; name a folder that is not")
    if path.is_dir():
        raise IsADirectoryError(f"{argument}: {str(path)!r} is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{argument}: {str(path)!r} is a pipe, a socket or a device; name a file")
    if Path(os.path.realpath(path)).is_symlink():
        raise FileExistsError(f"{argument}: {str(path)!r} is a link that leads back to itself; name a file")


def check_output(path: Path | None, patients: Path, *, partitioned: bool = False) -> None:
    """Refuse a name for the output, if there is one, before any work is done.

    Raises
    ------
    ValueError, OSError
        It is of another kind than CSV or Parquet, among the patients themselves, or what `check_place` refuses.
    """
    if path is None:
        return
    if not partitioned:
        check_kind(path, "out")
    check_place(path, "out", folder=partitioned)
    check_apart(path, "out", patients)


def check_apart(path: Path, argument: str, patients: Path) -> None:
    """Refuse a name for something to be written that is the patients' own, or would be taken for theirs the next time."""
    place = path.resolve()
    if patients.is_dir():
        among = "in the folder" if place.is_relative_to(patients.resolve()) else ""
    elif PATTERN.search(str(patients)) and not patients.exists():
        parts = (patients.parent.resolve() / patients.name).parts
        fits = len(place.parts) == len(parts) and all(map(fnmatch, place.parts, parts))
        among = "by its name one of the files" if fits or ("**" in parts and fnmatch(str(place), os.path.join(*parts))) else ""
    else:
        among = "the file" if path.exists() and patients.exists() and path.samefile(patients) else ""
    if among:
        raise InputError(argument, f"{str(path)!r} is {among} of patients itself; name another one")


@contextmanager
def whole(path: Path, argument: str = "out", *, folder: bool = False) -> Iterator[Path]:
    """A name to write under, which becomes ``path`` when all is written, and is removed if anything fails before.

    A file that is replaced leaves its permissions to the new one. Of a link, what it points to is replaced. A folder is not.

    Raises
    ------
    OSError
        The file cannot be written, or the place is one that `check_place` refuses.
    """
    check_place(path, argument, folder=folder)
    target = Path(os.path.realpath(path))
    try:
        with scratch(target.parent, ".writing-") as unfinished:
            partial = unfinished / f"new{target.suffix}"
            if folder:
                partial.mkdir()
            yield partial
            for each in (partial, *partial.rglob("*")):
                settle_folder(each) if each.is_dir() else settle(each, target)
            os.replace(partial, target)
            settle_folder(target.parent)
    except OSError as error:
        raise OSError(f"{argument}: {str(path)!r} cannot be written: {error.strerror or error}") from error


@contextmanager
def scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder that is nobody else's, and is taken away again with all that is still in it."""
    folder = parent / f"{prefix}{os.urandom(8).hex()}.partial"
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # what cannot be removed must not hide what came of the work


def settle(partial: Path, target: Path) -> None:
    """Give a file the permissions of the one that it will replace, and see it onto the disk."""
    with partial.open("rb+") as file:
        if target.exists():
            _take_after(partial, target.stat())
        os.fsync(file.fileno())


def _take_after(partial: Path, before: os.stat_result) -> None:
    now = partial.stat()
    for owner in ((before.st_uid, -1), (-1, before.st_gid)):
        if owner not in ((now.st_uid, -1), (-1, now.st_gid)) and hasattr(os, "chown"):
            with suppress(PermissionError):  # only root gives files away, and one's groups are few
                os.chown(partial, *owner)
    if before.st_mode != now.st_mode:  # not all file systems have modes
        partial.chmod(before.st_mode & 0o777)  # nobody's rights go with a file that is written anew


def settle_folder(folder: Path) -> None:
    """See the names in a folder onto the disk, where folders can be opened (not on Windows, nor those one may not read)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with suppress(PermissionError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in NO_FOLDERS_SYNCED:
                raise
        finally:
            os.close(handle)
