"""Files that are written: whole or not at all, under names that are nobody else's, with modes and links kept."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import threading

import pytest

from aemodel.pages import render
from aemodel.pages.errors import one_line_errors
from aemodel.scoring.whole import whole
from tests.interruptions import FAULTS, Calls
from tests.streams import run

HEADER = "age,sex,relapse_site,months_to_relapse,race_ethnicity"
OLD, NEW = "<p>old", "<p>new" * 1000


def put(path, text):
    """A page in its place: a template that is no more than its text."""
    render.write_page(path, "page", (), text=text)


@pytest.fixture(autouse=True)
def template(monkeypatch):
    monkeypatch.setattr(render, "rendered", lambda _, text, **__: text)


def write_page(path):
    put(path, NEW)
    assert path.read_text() == NEW


def scored(path):
    patients = path.parent / "patients.csv"
    patients.write_text(f"{HEADER}\n12,male,bm,20,hispanic\n")
    result = run("score", "aall1331", patients, path, "--events", "sepsis")
    patients.unlink()
    assert result.exit_code == 0, result.output
    assert path.read_bytes()[:4] in (b"age,", b"PAR1")


WRITERS = pytest.mark.parametrize(
    ("name", "write"),
    [("page.html", write_page), ("scored.csv", scored), ("scored.parquet", scored)],
    ids=lambda part: part if isinstance(part, str) else "",
)


# Places.


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(path))  # such names must be short


NO_PLACES = [
    (os.mkdir, "is a folder; name a file"),
    (os.mkfifo, "is a pipe, a socket or a device; name a file"),
    (make_socket, "is a pipe, a socket or a device; name a file"),
    (lambda path: path.symlink_to("/dev/null"), "is a pipe, a socket or a device; name a file"),
    (lambda path: path.symlink_to(path.parent), "is a folder; name a file"),
    (lambda path: path.symlink_to(path), "is a link that leads back to itself; name a file"),
]


@pytest.mark.parametrize(("make", "message"), NO_PLACES)
@pytest.mark.parametrize("name", ["page.html", "scored.csv"])
def test_what_no_file_can_replace_is_refused_and_left_alone(tmp_path, monkeypatch, make, message, name):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / name)
    before = os.lstat(tmp_path / name)
    if name.endswith("html"):
        with pytest.raises(OSError, match=f"^path: .*{message}"):
            put(tmp_path / name, NEW)
    else:
        result = run("score", "aall1331", "patients.csv", tmp_path / name)
        assert (result.exit_code, [message in line for line in result.stderr.splitlines()[-1:]]) == (2, [True])
    after = os.lstat(tmp_path / name)
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)
    assert os.listdir(tmp_path) == [name]


@WRITERS
def test_new_files_have_the_mode_of_the_umask_and_replaced_ones_keep_theirs(tmp_path, name, write):
    before = os.umask(0o027)
    try:
        write(tmp_path / name)
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640
        for mode in (0o600, 0o664):
            (tmp_path / name).chmod(mode)
            inode = (tmp_path / name).stat().st_ino
            write(tmp_path / name)
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode
            assert (tmp_path / name).stat().st_ino != inode, "it was written over, not replaced"
    finally:
        os.umask(before)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_replaced_files_keep_their_owner(tmp_path):
    (tmp_path / "page.html").touch()
    os.chown(tmp_path / "page.html", 1234, 2345)
    write_page(tmp_path / "page.html")
    about = (tmp_path / "page.html").stat()
    assert (about.st_uid, about.st_gid) == (1234, 2345)


@WRITERS
@pytest.mark.parametrize("target", ["old", "not there"])
def test_links_stay_and_what_they_point_to_is_replaced(tmp_path, name, write, target):
    (tmp_path / "elsewhere").mkdir()
    if target == "old":
        (tmp_path / "elsewhere" / name).write_text(OLD)
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / name).symlink_to(os.path.join("link", name))
    write(tmp_path / name)
    assert os.readlink(tmp_path / name) == os.path.join("link", name)
    assert os.listdir(tmp_path / "elsewhere") == [name]
    assert not (tmp_path / "elsewhere" / name).is_symlink()


# Names.


def test_two_writers_of_one_process_are_in_nobodys_way(tmp_path):
    """As two processes with one id in two containers: the last to be put in place is there, whole."""
    path = tmp_path / "page.html"
    with whole(path) as first, whole(path) as second:
        assert stat.S_IMODE(first.parent.stat().st_mode) == 0o700, "somebody else could put a link there"
        first.write_text("first")
        second.write_text("second, and longer")
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == [path.name]


def test_many_threads_writing_one_file_leave_one_whole(tmp_path):
    path, texts = tmp_path / "page.html", [letter * 1_000_000 for letter in "abcdefgh"]
    threads = [threading.Thread(target=put, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert os.listdir(tmp_path) == [path.name]


# Faults.


def test_fault_at_each_call_leaves_the_old_or_the_new_file(tmp_path):
    path = tmp_path / "page.html"
    with Calls(tmp_path) as plain:
        put(path, NEW)
    kept = set()
    for at, (name, *_) in enumerate(plain.made):
        for fault in FAULTS:
            path.write_text(OLD)
            with Calls(tmp_path, at, fault) as calls:
                try:
                    put(path, NEW)
                    failed = False
                except (OSError, KeyboardInterrupt):
                    failed = True
            assert calls.made[at][0] == name
            assert path.read_text() in ((OLD, NEW) if failed else (NEW,)), f"{fault} {plain.made[at]}"
            kept.add((fault, path.read_text()))
            clearing = name in ("unlink", "rmdir", "close") or plain.made[at][-1].name.endswith(".partial")
            assert os.listdir(tmp_path) == [path.name] or clearing, f"{fault} {plain.made[at]}"
            for left in set(os.listdir(tmp_path)) - {path.name}:
                os.rename(tmp_path / left, tmp_path.parent / left)
    assert kept == {(fault, text) for fault in FAULTS for text in (OLD, NEW)}


@pytest.fixture
def heard():
    """Interruptions are heard, also by tests that a shell has started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_second_signal_does_not_keep_a_command_from_clearing_up(tmp_path, monkeypatch, heard):
    clear = shutil.rmtree

    def clear_late(*args, **options):
        signal.raise_signal(signal.SIGTERM)
        clear(*args, **options)

    @one_line_errors()
    def command():
        with whole(tmp_path / "page.html") as partial:
            partial.write_text(NEW)
            monkeypatch.setattr(shutil, "rmtree", clear_late)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(SystemExit) as ended:
        command()
    assert (ended.value.code, os.listdir(tmp_path)) == (130, [])


@WRITERS
def test_what_is_put_in_place_is_on_the_disk_before_and_its_folder_after(tmp_path, name, write):
    with Calls(tmp_path) as calls:
        write(tmp_path / name)
    (rename,) = [at for at, call in enumerate(calls.made) if call[0] == "replace"]
    _, partial, target = calls.made[rename]
    assert target == tmp_path / name
    synced = [at for at, call in enumerate(calls.made) if call[0] == "fsync"]
    assert [calls.made[at] for at in synced] == [("fsync", partial), ("fsync", tmp_path)]
    assert synced[0] < rename < synced[1]
    assert not [call for call in calls.made[synced[0] : rename] if call[0] == "write"]
