"""Saving that is killed, meets a full disk or a folder it may not write to, or runs beside other savers and readers."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import aemodel
from aemodel.inference.risks import RiskDraws
from aemodel.serving import reading
from aemodel.serving import saved as saving
from tests.fixtures import FIXTURES

ROOT = Path(__file__).parents[1]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def fitted(model, factor=1.0):
    """The model as if just fitted, with draws and risks scaled."""
    import arviz as az

    risks = RiskDraws(**vars(model.risks) | {"draws": model.risks.draws * np.float32(factor)})
    idata = az.InferenceData(posterior=model.posterior * np.float32(factor), prior=model.prior)
    return aemodel.Fitted(model.tables, idata, model.diagnostics, model.settings, risks)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A whole small model, as this version writes it."""
    model = aemodel.load_model(FIXTURES / "format2")
    return aemodel.save_model(fitted(model), tmp_path_factory.mktemp("first") / "model")


@pytest.fixture(scope="module")
def second(first, tmp_path_factory):
    """The same with other risks and draws."""
    return aemodel.save_model(fitted(first, 0.5), tmp_path_factory.mktemp("second") / "model")


@pytest.fixture
def folder(first, tmp_path):
    """A folder with the first model, to be saved over."""
    return shutil.copytree(first.folder, tmp_path / "model")


def run(*arguments):
    result = subprocess.run(
        [sys.executable, "-m", "tests.interruptions", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


# Killed.


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "kills"), [("read back", 50), ("fitted", 10)])
def test_killed_at_a_random_moment_leaves_the_old_or_the_new_model(first, second, folder, tmp_path, kind, kills):
    """Never a mixture: manifest, files and draws are of one model, and the card is its own or not there."""
    allowed = {(model.folder / "manifest.json").read_bytes(): model for model in (first, second)}
    run("kill", folder, first.folder, second.folder, kind, kills, tmp_path / "snapshots")
    snapshots = sorted((tmp_path / "snapshots").iterdir())
    assert len(snapshots) == kills
    for snapshot in snapshots:
        whole = allowed[(snapshot / "manifest.json").read_bytes()]
        found = aemodel.load_model(snapshot)
        np.testing.assert_array_equal(found.risks.draws, whole.risks.draws)
        assert found.posterior.equals(whole.posterior)
        assert not (snapshot / "card.md").exists() or contents(snapshot)["card.md"] == contents(whole.folder)["card.md"]
    seen = {(snapshot / "manifest.json").read_bytes() for snapshot in snapshots}
    # Which of the two a kill leaves is chance: of many, both are met; ten can all come before the first save is whole.
    assert seen == set(allowed) if kills >= 50 else seen <= set(allowed)
    left = [snapshot for snapshot in snapshots if set(os.listdir(snapshot)) != set(os.listdir(first.folder))]
    assert left, "no kill met a save at work: the moments are badly chosen"
    for snapshot in left:
        aemodel.save_model(first, snapshot)
        assert sorted(os.listdir(snapshot)) == sorted(os.listdir(first.folder)), "what an interrupted save left was not removed"


def test_save_into_a_new_folder_after_a_kill_there(first, tmp_path):
    """A first save that was killed leaves no manifest, and no reason to refuse the folder."""
    (tmp_path / "new" / ".saving-killed").mkdir(parents=True)
    (tmp_path / "new" / ".saving-killed" / "scoring.npz").write_bytes(b"half")
    (tmp_path / "new" / "scoring-0123456789abcdef.npz").write_bytes(b"whole, without a manifest")
    aemodel.save_model(first, tmp_path / "new")
    assert contents(tmp_path / "new") == contents(first.folder)


# Side by side.


@pytest.mark.slow
def test_two_savers_and_two_readers_at_one_folder(first, second, folder):
    """No torn read, no error, and nothing left over."""
    counts = json.loads(run("share", folder, first.folder, second.folder, 60))
    assert all(reader["read"] > 0 for reader in counts)
    assert max(reader["models"] for reader in counts) == 2, "no reader met both models: the savers were too quick"
    assert contents(folder) in (contents(first.folder), contents(second.folder))


def test_reader_whose_files_are_replaced_starts_again(first, second, folder, monkeypatch):
    """The save comes between the reader's manifest and its file."""
    read, saves = reading.read_checked, iter([second])

    def read_late(where, manifest, kind):
        for model in saves:
            aemodel.save_model(model, folder)
        return read(where, manifest, kind)

    monkeypatch.setattr(reading, "read_checked", read_late)
    # Saving reads the model back, too: by then it is not late any more.
    np.testing.assert_array_equal(aemodel.load_model(folder).risks.draws, second.risks.draws)


def test_reader_does_not_start_again_for_ever(folder, monkeypatch):
    def fail(*_):
        calls.append(1)
        raise aemodel.SavedModelError("gone again")

    calls = []
    monkeypatch.setattr(reading, "read_checked", fail)
    monkeypatch.setattr(reading, "_replaced", lambda *_: True)
    with pytest.raises(aemodel.SavedModelError, match="gone again"):
        aemodel.load_model(folder)
    assert len(calls) == reading.MOST_ATTEMPTS


def test_draws_of_a_model_that_was_replaced_since(second, folder):
    model = aemodel.load_model(folder)
    aemodel.save_model(second, folder)
    with pytest.raises(aemodel.SavedModelError, match="another model was saved here since this one was loaded"):
        _ = model.posterior


def test_draws_read_before_the_model_was_replaced_stay(first, second, folder):
    model = aemodel.load_model(folder)
    _ = model.posterior
    aemodel.save_model(second, folder)
    assert model.posterior.equals(first.posterior)


# Full disk.


def full_after(monkeypatch, writes):
    """The disk takes some writes to it and no more: what a full disk answers to flushing."""
    flush, done = os.fsync, []

    def fail(handle):
        done.append(handle)
        if len(done) > writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(handle)

    monkeypatch.setattr(saving.os, "fsync", fail)


@pytest.mark.parametrize("writes", range(5))
def test_disk_that_fills_leaves_the_old_model_and_nothing_else(second, folder, monkeypatch, writes):
    """Four files are flushed, and then the folder."""
    before = contents(folder)
    full_after(monkeypatch, writes)
    with pytest.raises(OSError, match="No space left on device"):
        aemodel.save_model(second, folder)
    assert contents(folder) == before
    assert set(os.listdir(folder)) == set(before)


@pytest.mark.parametrize("writes", range(5))
def test_disk_that_fills_leaves_no_new_folder_nor_its_parents(first, tmp_path, monkeypatch, writes):
    full_after(monkeypatch, writes)
    with pytest.raises(OSError, match="No space left on device"):
        aemodel.save_model(first, tmp_path / "some" / "new" / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["read back", "fitted"])
@pytest.mark.parametrize("limit", [1000, 20_000, 60_000])
def test_file_that_the_system_cuts_short(first, second, folder, kind, limit):
    """The system itself refuses to write past a size: within the manifest, the risk draws, or the posterior."""
    model = fitted(first, 0.5) if kind == "fitted" else second
    before, limits = contents(folder), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large|requested and 0 written|not enough"):
            aemodel.save_model(model, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(folder) == before
    assert set(os.listdir(folder)) == set(before)


# Folders that cannot be written to.


def test_place_below_a_file(first, tmp_path):
    """Nobody can write there, not even root, to whom permissions mean nothing."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="Not a directory"):
        aemodel.save_model(first, tmp_path / "file" / "model")
    assert contents(tmp_path) == {"file": b"x"}


def test_file_system_that_takes_no_files(first):
    """The one of processes is read-only in effect for everybody."""
    if not Path("/proc/self").is_dir():
        pytest.fail("this test needs a /proc; run it on Linux")
    with pytest.raises(OSError, match="/proc/"):
        aemodel.save_model(first, "/proc/aemodel-test/model")


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES], ids=["read-only", "not allowed"])
def test_existing_model_on_a_read_only_disk_stays(second, folder, monkeypatch, error):
    before = contents(folder)

    def fail(*_, **__):
        raise OSError(error, os.strerror(error), str(folder))

    monkeypatch.setattr(saving.tempfile, "mkdtemp", fail)
    with pytest.raises(OSError, match=os.strerror(error)):
        aemodel.save_model(second, folder)
    assert contents(folder) == before


def test_error_is_one_line_on_the_command_line(tmp_path, monkeypatch, first):
    """A fit that cannot be saved says so before it starts, or in one line after."""
    from click.testing import CliRunner

    from aemodel import cli
    from aemodel.inference import fitting

    monkeypatch.setattr(fitting, "fit", lambda *_, **__: fitted(first))
    full_after(monkeypatch, 1)
    result = CliRunner().invoke(cli.main, ["fit", "--out", str(tmp_path / "model")])
    assert result.exit_code == 2
    assert [line for line in result.stderr.splitlines() if line.startswith("Error")] == [
        "Error: [Errno 28] No space left on device"
    ]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "model").exists()
