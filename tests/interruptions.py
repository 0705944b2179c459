"""Calls to the system that fail or are interrupted, and processes that share a folder (forked: starting them takes seconds).

``python -m tests.interruptions FOLDER FIRST SECOND SAVES``: two children save, two read, until the savers are done.
Prints how often each reader read, and how often a save came between a reader's risks and its draws.
"""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np

import aemodel

REAL_CLOSE = os.close
REPLACED = "another model was saved here since this one was loaded"


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


def save_by_turns(models, folder, done, saves=10**9):
    for i in range(saves):
        aemodel.save_model(models[i % 2], folder)
        os.write(done, b".")


def share(folder, models, saves):
    stop = folder.parent / "stop"
    out, devnull = folder.parent / "readers", os.open(os.devnull, os.O_WRONLY)
    out.mkdir()
    expected = {aemodel.load_model(m.folder).manifest["sha256"]: m for m in models}
    readers = [forked(lambda i=i: read_until(stop, folder, expected, out / str(i))) for i in range(2)]
    savers = [forked(lambda m=m: save_by_turns(m, folder, devnull, saves)) for m in (models, models[::-1])]
    ends = [os.waitpid(child, 0)[1] for child in savers]
    stop.touch()
    ends += [os.waitpid(child, 0)[1] for child in readers]
    assert ends == [0] * 4, ends
    print(json.dumps([json.loads(path.read_text()) for path in sorted(out.iterdir())]))


def read_until(stop, folder, expected, out):
    """Every model read must be one of the two, with the risks and draws of the same one."""
    counts = {"read": 0, "replaced": 0, "models": []}
    seen = set()
    while not stop.exists():
        model = aemodel.load_model(folder)
        whole = expected[model.manifest["sha256"]]
        assert np.array_equal(model.risks.draws, whole.risks.draws), "risks of another model"
        try:
            assert model.posterior.equals(whole.posterior), "draws of another model"
        except aemodel.SavedModelError as error:
            if REPLACED not in str(error):
                raise
            counts["replaced"] += 1
        counts["read"] += 1
        seen.add(model.manifest["sha256"])
    out.write_text(json.dumps(counts | {"models": len(seen)}))


def main():
    folder, first, second, saves = sys.argv[1:]
    models = [aemodel.load_model(path) for path in (first, second)]
    for model in models:  # before the fork, so that children share it
        assert len(model.posterior)
    share(Path(folder), models, int(saves))


if __name__ == "__main__":
    main()
