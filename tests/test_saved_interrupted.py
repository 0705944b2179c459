"""Saving that is killed, meets a full disk or a folder it may not write to, or runs beside other savers and readers."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import aemodel
from aemodel.saved import reader
from aemodel.saved.writer import locked
from aemodel.scoring.risks import RiskDraws
from tests.interruptions import FAULTS, Calls, contents, forked
from tests.reports import small_model
from tests.streams import run

REPLACED = "another model was saved here since this one was loaded"


def fitted(model, factor=1.0):
    """The model as if just fitted, with draws and risks scaled."""
    import arviz as az

    changed = {"draws": model.risks.draws * np.float32(factor), "logits": model.branch_logits * np.float32(factor)}
    risks = RiskDraws(**vars(model.risks) | changed)
    idata = az.InferenceData(posterior=model.posterior * np.float32(factor), prior=model.prior)
    return aemodel.Fitted(model.tables, idata, model.diagnostics, model.settings, risks)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A whole small model, as this version writes it."""
    return aemodel.save_model(fitted(small_model()), tmp_path_factory.mktemp("first") / "model")


@pytest.fixture(scope="module")
def second(first, tmp_path_factory):
    """The same with other risks and draws."""
    return aemodel.save_model(fitted(first, 0.5), tmp_path_factory.mktemp("second") / "model")


@pytest.fixture
def folder(first, tmp_path):
    """A folder with the first model, to be saved over."""
    return shutil.copytree(first.folder, tmp_path / "model")


# Faults at each call to the system.


def old_or_new(folder, models, *, card_may_be_missing=False):
    """Which of the models the folder holds, whole: its manifest, files, draws and card; None if it holds no manifest."""
    if not (folder / "manifest.json").exists():
        return None
    standing = (folder / "manifest.json").read_bytes()
    (model,) = [each for each in models if (each.folder / "manifest.json").read_bytes() == standing]
    found = aemodel.load_model(folder)
    np.testing.assert_array_equal(found.risks.draws, model.risks.draws)
    assert {state["state"] for state in found.file_states().values()} == {"whole"}
    if (folder / "card.md").exists() or not card_may_be_missing:
        assert contents(folder)["card.md"] == contents(model.folder)["card.md"]
    return model


def saved_with(model, folder, root, at, fault):
    """The calls of a save of which one goes wrong, and whether the save was heard to fail."""
    with Calls(root, at, fault) as calls:
        try:
            aemodel.save_model(model, folder)
        except (OSError, KeyboardInterrupt, aemodel.SavedModelError):
            return calls.made, True
    return calls.made, False


@pytest.fixture(params=["over another model", "in a new folder"])
def place(request, first, tmp_path):
    """Makes ready what a save meets: the folder below which all happens, and the one to save in."""
    root = tmp_path / "work"

    def start():
        shutil.rmtree(root, ignore_errors=True)
        if request.param == "in a new folder":
            root.mkdir()
            return root, root / "some" / "new" / "model"
        return root, shutil.copytree(first.folder, root)

    start.standing = None if request.param == "in a new folder" else first
    return start


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_fault_at_each_call_of_a_save_leaves_the_old_or_the_new_model(first, second, place, every):
    """Whole, always; and what else it leaves, the next save removes. The renames are tried in any case."""
    root, folder = place()
    plain, failed = saved_with(second, folder, root, None, "")
    assert not failed
    counts = Counter()
    for at, (name, *_) in enumerate(plain):
        for fault in FAULTS if name == "replace" or at % every == 0 else ():
            place()
            made, failed = saved_with(second, folder, root, at, fault)
            assert made[at][0] == name, "the save went another way"
            left = old_or_new(folder, (first, second))
            assert left in (place.standing, second), f"{fault} {plain[at]}: the model is lost"
            assert left is second or failed, f"{fault} {plain[at]}: nothing was saved, and nothing said so"
            counts[fault, "new" if left is second else "old"] += 1
            aemodel.save_model(second, folder)
            assert contents(folder) == contents(second.folder), f"{fault} {plain[at]}: left over after the next save"
            assert sorted(os.listdir(folder)) == sorted(os.listdir(second.folder))
    print(f"{len(plain)} calls of a save, {sum(counts.values())} faults: {dict(counts)}")
    assert {kept for _, kept in counts} == {"old", "new"}


def test_kill_before_each_call_of_a_save_leaves_the_old_or_the_new_model(first, second, place, tmp_path):
    """The card may be missing then, and is never another model's. What else is left, the next save removes."""
    root, folder = place()
    snapshots = tmp_path / "snapshots"
    snapshots.mkdir()
    with Calls(root, before_each=lambda: shutil.copytree(root, snapshots / str(len(os.listdir(snapshots))))) as calls:
        aemodel.save_model(second, folder)
    kept = [snapshots / str(at) / folder.relative_to(root) for at in range(len(calls.made))]
    found = [old_or_new(each, (first, second), card_may_be_missing=True) for each in kept]
    renamed = [call[0] == "replace" and call[-1].name == "manifest.json" for call in calls.made].index(True)
    assert found == [place.standing] * (renamed + 1) + [second] * (len(found) - renamed - 1)
    for call, each in zip(calls.made, kept, strict=True):
        if call[0] == "replace":
            aemodel.save_model(first, each)
            assert sorted(os.listdir(each)) == sorted(os.listdir(first.folder))


def unsynced(calls):
    """Renames before what they name was on the disk, or that were not seen onto the disk themselves by the end."""
    faults, files, folders = [], set(), set()
    for name, path, *target in calls:
        if name == "write":
            files.add(path)
        elif name == "fsync":
            files.discard(path)
            folders.discard(path)
        elif name == "mkdir":
            folders.add(path.parent)
        elif name == "replace":
            if path in files or (target[0].name == "manifest.json" and folders):
                faults.append(f"{path.name} was renamed before it, or what it speaks of, was on the disk")
            folders.add(target[0].parent)
    return faults + [f"{folder.name}: names in it are not on the disk" for folder in folders]


def test_power_lost_after_a_save_takes_nothing_away(first, tmp_path):
    with Calls(tmp_path) as calls:
        aemodel.save_model(first, tmp_path / "some" / "new" / "model")
    scratch = {path for name, path, *_ in calls.made if name == "mkdir" and path.name.endswith(".partial")}
    assert unsynced(call for call in calls.made if call[1] not in scratch) == []


# Side by side.


@pytest.mark.slow
def test_two_savers_and_a_reader_at_one_folder(first, second, folder):
    """No torn read, no error, and nothing left over."""
    models, seen = {model.digest: model for model in (first, second)}, set()
    assert all(len(model.posterior) for model in models.values())
    turns = (first, second), (second, first)
    savers = [forked(lambda both=both: [aemodel.save_model(model, folder) for model in both * 30]) for both in turns]
    while savers:
        found = aemodel.load_model(folder)
        np.testing.assert_array_equal(found.risks.draws, models[found.digest].risks.draws)
        try:
            assert found.posterior.equals(models[found.digest].posterior), "draws of another model"
        except aemodel.SavedModelError as error:
            if REPLACED not in str(error):
                raise
        seen.add(found.digest)
        ended = dict(os.waitpid(child, os.WNOHANG) for child in savers)
        savers = [child for child in savers if child not in ended]
        assert not any(ended.values())
    assert seen == set(models), "the reader did not meet both models: the savers were too quick"
    assert contents(folder) in (contents(first.folder), contents(second.folder))


def test_folder_that_a_failed_saver_takes_away_is_made_again_by_the_one_who_waits(tmp_path, monkeypatch):
    folder, waits, held, flock = tmp_path / "some" / "new", threading.Event(), [], fcntl.flock

    def tell_and_lock(handle, operation):
        if threading.current_thread() is waiter:
            waits.set()
        flock(handle, operation)

    def wait():
        with locked(folder):
            held.append(folder.is_dir())

    waiter = threading.Thread(target=wait)
    monkeypatch.setattr(fcntl, "flock", tell_and_lock)
    with suppress(ZeroDivisionError), locked(folder):
        waiter.start()
        waits.wait()
        raise ZeroDivisionError
    waiter.join()
    assert held == [True]


def test_files_of_a_model_have_the_modes_of_the_umask_and_replaced_ones_keep_theirs(first, second, tmp_path):
    before = os.umask(0o027)
    try:
        aemodel.save_model(first, tmp_path / "model")
        (tmp_path / "model" / "card.md").chmod(0o600)
        aemodel.save_model(second, tmp_path / "model")
    finally:
        os.umask(before)
    modes = {path.name.split("-")[0]: path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()}
    assert modes == {"manifest.json": 0o640, "card.md": 0o600, "scoring": 0o640, "branches": 0o640, "posterior": 0o640}


def test_reader_whose_files_are_replaced_starts_again(first, second, folder, monkeypatch):
    """The save comes between the reader's manifest and its file."""
    read, saves = reader.read_checked, iter([second])

    def read_late(where, manifest, kind):
        for model in saves:
            aemodel.save_model(model, folder)
        return read(where, manifest, kind)

    monkeypatch.setattr(reader, "read_checked", read_late)
    # Saving reads the model back, too: by then it is not late any more.
    np.testing.assert_array_equal(aemodel.load_model(folder).risks.draws, second.risks.draws)


def test_reader_does_not_start_again_for_ever(folder, monkeypatch):
    def fail(*_):
        calls.append(1)
        raise aemodel.SavedModelError("gone again")

    calls = []
    monkeypatch.setattr(reader, "read_checked", fail)
    monkeypatch.setattr(reader, "_replaced", lambda *_: True)
    with pytest.raises(aemodel.SavedModelError, match="gone again"):
        aemodel.load_model(folder)
    assert len(calls) == reader.MOST_ATTEMPTS


def test_draws_of_a_model_that_was_replaced_since_are_those_read_before_or_an_error(first, second, folder):
    early, late = aemodel.load_model(folder), aemodel.load_model(folder)
    _ = early.posterior
    aemodel.save_model(second, folder)
    assert early.posterior.equals(first.posterior)
    for name in ("posterior", "branch_logits"):
        with pytest.raises(aemodel.SavedModelError, match=REPLACED):
            getattr(late, name)


# Full disk.


def full_after(monkeypatch, writes):
    """The disk takes some writes to it and no more: what a full disk answers to flushing."""
    flush, done = os.fsync, []

    def fail(handle):
        done.append(handle)
        if len(done) > writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(handle)

    monkeypatch.setattr(os, "fsync", fail)


def tree(root):
    return {path: path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


@pytest.mark.parametrize("writes", range(5))
def test_disk_that_fills_leaves_what_was_there_and_nothing_else(second, place, monkeypatch, writes):
    """All five files are on the disk before the first is put in place; a new folder and its parents are before them."""
    root, folder = place()
    before = tree(root)
    full_after(monkeypatch, writes if place.standing else writes + 3)
    with pytest.raises(OSError, match="No space left on device"):
        aemodel.save_model(second, folder)
    assert tree(root) == before


@pytest.mark.parametrize("limit", [1000, 20_000, 60_000])
def test_file_that_the_system_cuts_short(first, folder, limit):
    """The system itself refuses to write past a size: within the manifest, the risk draws, or the posterior."""
    model = fitted(first, 0.5)
    before, limits = tree(folder), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            aemodel.save_model(model, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert tree(folder) == before


# Folders that cannot be written to.


def test_places_that_take_no_files(first, tmp_path):
    """Nobody can write there, not even root, to whom permissions mean nothing: below a file, and among processes."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="Not a directory"):
        aemodel.save_model(first, tmp_path / "file" / "model")
    assert contents(tmp_path) == {"file": b"x"}
    assert Path("/proc/self").is_dir(), "this test needs a /proc; run it on Linux"
    with pytest.raises(OSError, match="/proc/"):
        aemodel.save_model(first, "/proc/aemodel-test/model")


def test_error_is_one_line_on_the_command_line(tmp_path, monkeypatch, first):
    """A fit that cannot be saved says so before it starts, or in one line after."""
    from aemodel.inference import fitting

    monkeypatch.setattr(fitting, "fit", lambda *_, **__: fitted(first))
    full_after(monkeypatch, 1)
    result = run("fit", "--out", tmp_path / "model")
    assert result.exit_code == 2
    assert [line for line in result.stderr.splitlines() if line.startswith("Error")] == [
        "Error: [Errno 28] No space left on device"
    ]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "model").exists()
