"""Long work: a progress bar for people who watch, and an end to queries when they are interrupted."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aemodel.inference.waiting import is_terminal
from aemodel.serving.failing import INTERRUPTED, interrupted_by, tell

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PATIENCE = 1.0
"""Seconds before a bar is shown."""


@contextmanager
def watched(connection: DuckDBPyConnection, label: str, *unfinished: Path) -> Iterator[None]:
    """While queries run: a bar for people who watch, and an end of the process, exit code 130, when it is interrupted.

    DuckDB's threads can wait for each other for ever when they are asked to end. So nobody waits for them: folders
    ``unfinished`` are removed, and the process is gone.
    """
    done = threading.Event()

    def show() -> None:
        with bar(label) as advance:
            while not done.wait(0.2):
                advance(connection.query_progress())

    def end(*_: Any) -> None:
        done.set()
        shown.join(timeout=1)  # the terminal gets its cursor back
        for folder in unfinished:
            shutil.rmtree(folder, ignore_errors=True)
        tell(INTERRUPTED)
        os._exit(130)

    shown = threading.Thread(target=show, daemon=True)
    shown.start()
    with interrupted_by(end):
        try:
            yield
        finally:
            done.set()
            shown.join()


@contextmanager
def bar(label: str) -> Iterator[Callable[[float], None]]:
    """What is told, in per cent, how far some work is: shows it on stderr if that is a terminal, after `PATIENCE` seconds."""
    started, shown = time.monotonic(), ExitStack()
    update: Callable[[float], None] | None = None

    def advance(percent: float) -> None:
        nonlocal update
        if update is None and is_terminal(sys.stderr) and time.monotonic() - started > PATIENCE:
            update = shown.enter_context(_rich_bar(label))
        if update is not None:
            update(percent)

    with shown:
        yield advance


@contextmanager
def _rich_bar(label: str) -> Iterator[Callable[[float], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=100)
        yield lambda percent: progress.update(task, completed=max(percent, 0))
