"""The command line in a forked child, whose stdin, stdout and stderr are what a test wants: a start would take a second."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import sys
import termios
import traceback
import warnings
from typing import NamedTuple

from click.testing import CliRunner

from aemodel import cli

PATIENCE = 120


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def run(*arguments):
    """A command in this process, its streams kept apart."""
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def opened(kind, path):
    """A descriptor for what a test calls ``kept`` (a file), ``full`` (a device) or ``gone`` (a pipe without a reader)."""
    if kind == "gone":
        reading, writing = os.pipe()
        os.close(reading)
        return writing
    return os.open("/dev/full", os.O_WRONLY) if kind == "full" else os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)


def command(tmp_path, arguments, *, stdin="kept", stdout="kept", stderr="kept"):
    """What the command printed, and its exit code; a stream may also be ``closed``."""
    kinds = {0: stdin, 1: stdout, 2: stderr}
    handles = {number: opened(kind, tmp_path / f"stream{number}") for number, kind in kinds.items() if kind != "closed"}
    child = forked(arguments, handles)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for handle in handles.values():
        os.close(handle)
    texts = [(tmp_path / f"stream{number}") for number in (1, 2)]
    printed = [path.read_bytes().decode() if path.exists() else "" for path in texts]
    for number in kinds:
        (tmp_path / f"stream{number}").unlink(missing_ok=True)
    return Ended(code, *printed)


def in_terminal(arguments, columns=100, **environment):
    """What the command shows in a terminal of so many columns, stdout and stderr together."""
    watching, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    child = forked(arguments, dict.fromkeys(range(3), terminal), {"TERM": "xterm-256color"} | environment)
    os.close(terminal)
    shown = b""
    while True:
        try:
            part = os.read(watching, 65536)
        except OSError:  # so Linux tells that the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(watching)
    text = shown.decode().replace("\r\n", "\n")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, text
    return text


def forked(arguments, handles, environment=None):
    """Process id of a child that runs the command as a fresh Python would, with these descriptors and no others of the three."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads that a fork loses: the child makes its own
        child = os.fork()
    if child:
        return child
    code = 1
    try:
        signal.alarm(PATIENCE)
        code = run_afresh(arguments, handles, environment or {})
    finally:
        os._exit(code)


def run_afresh(arguments, handles, environment):
    for name in ("COLUMNS", "LINES", "NO_COLOR", "CI"):
        os.environ.pop(name, None)
    os.environ.update(environment)
    for number in range(3):
        if number in handles:
            os.dup2(handles[number], number)
        else:
            os.close(number)
    for handle in {*handles.values()} - {0, 1, 2}:
        os.close(handle)
    sys.stdin = os.fdopen(0, closefd=False) if 0 in handles else None
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False) if 1 in handles else None
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1, closefd=False) if 2 in handles else None
    try:
        cli.main([str(argument) for argument in arguments], prog_name="aemodel")
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            code = 120  # as Python ends then
    return code
