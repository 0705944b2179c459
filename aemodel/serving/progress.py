"""Long work: a progress bar for people who watch, and an end to queries when they are interrupted."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from aemodel.serving.failing import INTERRUPTED

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PATIENCE = 1.0
"""Seconds before a bar is shown."""

GRACE = 5.0
"""Seconds that an interrupted query has to end; DuckDB's tasks can wait for each other for ever then."""


def watched(
    connection: DuckDBPyConnection, label: str, work: Callable[[], Any], clean_up: Callable[[], None] = lambda: None
) -> Any:
    """What ``work`` returns: its queries run in a thread of their own, so that Ctrl-C ends them at once.

    On a terminal a bar on stderr shows how far they are and the time that remains. Queries that do not end within `GRACE`
    seconds of an interruption end with the process, after ``clean_up``.
    """
    result: dict[str, Any] = {}
    done = threading.Event()  # Thread.join takes a thread for ended when it is interrupted itself

    def run() -> None:
        try:
            result["value"] = work()
        except BaseException as error:
            result["error"] = error
        finally:
            done.set()

    try:
        threading.Thread(target=run, name="aemodel-query").start()
        with bar(label) as advance:
            while not done.wait(0.2):
                advance(connection.query_progress())
    except KeyboardInterrupt:
        latest = time.monotonic() + GRACE
        while not done.wait(0.1):
            connection.interrupt()
            if time.monotonic() > latest:
                clean_up()
                click.echo(INTERRUPTED, err=True)
                os._exit(130)
        raise
    if "error" in result:
        raise result["error"]
    return result["value"]


@contextmanager
def bar(label: str) -> Iterator[Callable[[float], None]]:
    """What is told, in per cent, how far some work is: shows it on stderr if that is a terminal, after `PATIENCE` seconds."""
    started, shown = time.monotonic(), ExitStack()
    update: Callable[[float], None] | None = None

    def advance(percent: float) -> None:
        nonlocal update
        if update is None and sys.stderr.isatty() and time.monotonic() - started > PATIENCE:
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
