"""What someone at a terminal sees while something takes long, and an end to it when it is interrupted. Light."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

INTERRUPTED = "Interrupted; what was to be written is there whole, or not at all."
PATIENCE = 1.0
"""Seconds before a bar is shown."""


def is_terminal(stream: Any) -> bool:
    """Whether somebody watches; nobody does where there is no stream, as in programs without a console, or a closed one."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A spinner with elapsed time until the block ends, then nothing; silent where stderr is no terminal."""
    if not is_terminal(sys.stderr):
        yield
        return
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    with _shown(SpinnerColumn("line"), TextColumn("{task.description}"), TimeElapsedColumn()) as progress:
        progress.add_task(what)
        yield


def _shown(*columns: Any) -> Any:
    from rich.console import Console
    from rich.progress import Progress

    return Progress(*columns, console=Console(stderr=True), transient=True)


@contextmanager
def watched(connection: Any, label: str, *unfinished: Path) -> Iterator[None]:
    """While queries run: a bar for people who watch, and an end of the process, exit code 130, when it is interrupted.

    DuckDB's threads can wait for each other for ever when they are asked to end. So nobody waits for them: folders
    ``unfinished`` are removed, and the process is gone.
    """
    done = threading.Event()

    def end(*_: Any) -> None:
        done.set()
        bar.join(timeout=1)  # the terminal gets its cursor back
        for folder in unfinished:
            shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError, AttributeError, ValueError):
            sys.stderr.write(f"{INTERRUPTED}\n")
            sys.stderr.flush()
        os._exit(130)

    bar = threading.Thread(target=_bar, args=(label, connection.query_progress, done), daemon=True)
    bar.start()
    with interrupted_by(end):
        try:
            yield
        finally:
            done.set()
            bar.join()


def _bar(label: str, percent: Callable[[], float], done: threading.Event) -> None:
    """A bar that shows how far some work is, after `PATIENCE` seconds, if stderr is a terminal."""
    if done.wait(PATIENCE) or not is_terminal(sys.stderr):
        return
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    with _shown(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task(label, total=100)
        while not done.wait(0.2):
            progress.update(task, completed=max(percent(), 0))


@contextmanager
def interrupted_by(handler: Callable[[int, Any], Any]) -> Iterator[None]:
    """Ctrl-C, what a scheduler sends, and the loss of the terminal are alike; what is ignored, as under nohup, stays so."""
    numbers = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
    before = {number: signal.getsignal(number) for number in numbers}
    heard = [number for number in numbers if before[number] is not signal.SIG_IGN]
    try:
        for number in heard:
            signal.signal(number, handler)
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])
