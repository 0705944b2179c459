"""Processes that save and read one folder, and are killed at it; forked, for starting them afresh would take seconds.

``python -m tests.interruptions kill FOLDER FIRST SECOND KIND KILLS SNAPSHOTS``: children save two models over each other
in FOLDER; each is killed at a random moment, and the folder as it then was is copied to SNAPSHOTS.

``python -m tests.interruptions share FOLDER FIRST SECOND SAVES``: two children save, two read, until the savers are done.
Prints how often each reader read, and how often a save came between a reader's risks and its draws.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np

import aemodel

REPLACED = "another model was saved here since this one was loaded"


def as_fitted(model):
    return aemodel.Fitted(model.tables, model.idata, model.diagnostics, model.settings, model.risks)


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


def kill(folder, models, kills, snapshots):
    """Moments are spread over two saves' time, from the end of a save on."""
    for _ in range(2):  # once without the clock: imports and compiling are no part of a save
        started = time.monotonic()
        for model in models:
            aemodel.save_model(model, folder)
        both = time.monotonic() - started
    for i, moment in enumerate(np.random.default_rng(1).uniform(0, both, kills)):
        reading, writing = os.pipe()
        child = forked(lambda writing=writing: save_by_turns(models, folder, writing))
        os.read(reading, 1)
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        os.close(reading)
        os.close(writing)
        shutil.copytree(folder, snapshots / str(i))


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
    what, folder, first, second, *rest = sys.argv[1:]
    models = [aemodel.load_model(path) for path in (first, second)]
    if what == "kill":
        kind, kills, snapshots = rest
        models = [as_fitted(model) for model in models] if kind == "fitted" else models
        kill(Path(folder), models, int(kills), Path(snapshots))
    else:
        for model in models:  # before the fork, so that children share it
            assert len(model.posterior)
        share(Path(folder), models, int(rest[0]))


if __name__ == "__main__":
    main()
