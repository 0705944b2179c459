"""Calls to the system that fail or are interrupted, and work in another process (forked: starting one takes seconds)."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import sys
import traceback
import warnings
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

REAL_CLOSE = os.close
FAULTS = ("signal before", "signal after", "error before", "error after")
CALLS = {os: "mkdir open close replace unlink rmdir fsync chmod chown".split(), fcntl: ["flock"], io: ["open"]}


class Calls:
    """The calls to the system that concern what is below a folder, in their order; one of them may go wrong.

    Attributes
    ----------
    made
        Name of each call and the path it was about, a rename's two.
    at, fault
        Which call goes wrong, and how: a signal (as Python brings it, an exception) or an error, before it is done, or
        after it is.
    before_each
        Is called before each.
    """

    def __init__(self, root, at=None, fault="", before_each=lambda: None):
        self.root, self.at, self.fault, self.before_each = root, at, fault, before_each
        self.made, self.paths = [], {}

    def __enter__(self):
        self.patches = ExitStack()
        for module, names in CALLS.items():
            for name in names:
                self.patches.enter_context(mock.patch.object(module, name, self.wrapped(name, getattr(module, name))))
        return self

    def __exit__(self, *_):
        self.patches.close()

    def wrapped(self, name, call):
        def through(what, *rest, **options):
            path = self.path(what, options.get("dir_fd"))
            if self.root not in path.parents and self.root != path:
                return call(what, *rest, **options)
            both = (path, self.path(rest[0])) if name == "replace" else (path,)
            result = self.step((name, *both), lambda: call(what, *rest, **options))
            if name == "open":
                self.paths[result if isinstance(result, int) else result.fileno()] = path
                return result if isinstance(result, int) or not result.writable() else Written(result, self, path)
            return result

        return through

    def path(self, what, folder=None):
        if isinstance(what, int):
            return self.paths.get(what, Path("/"))
        return (self.paths.get(folder, Path.cwd()) / what).absolute()

    def step(self, call, work):
        self.before_each()
        self.made.append(call)
        kind, when = self.fault.split() if len(self.made) - 1 == self.at else (None, None)
        problem = KeyboardInterrupt() if kind == "signal" else OSError(errno.EIO, os.strerror(errno.EIO))
        if when == "before":
            raise problem
        result = work()
        if when == "after":
            if call[0] == "open":  # nobody hears of the descriptor
                REAL_CLOSE(result) if isinstance(result, int) else result.close()
            raise problem
        return result


class Written:
    """A file whose writes are calls too."""

    def __init__(self, file, calls, path):
        self.file, self.calls, self.path = file, calls, path
        self.fileno = file.fileno

    def write(self, content):
        return self.calls.step(("write", self.path), lambda: self.file.write(content) + bool(self.file.flush()))

    def writelines(self, lines):
        self.write("".join(lines))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.calls.step(("close", self.path), self.file.close)
        finally:
            self.file.close()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def forked(work):
    """Process id of a child that does the work, and ends with status 1 on any error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads that a fork loses: the child needs none
        child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)
