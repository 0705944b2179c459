"""Long queries: a progress bar for people who watch, and an end to them when they are interrupted."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import duckdb

PATIENCE = 1.0
"""Seconds before a bar is shown."""


def watched(connection: duckdb.DuckDBPyConnection, label: str, work: Callable[[], Any]) -> Any:
    """What ``work`` returns: its queries run in a thread of their own, so that Ctrl-C ends them at once.

    On a terminal a bar on stderr shows how far they are and the time that remains.
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

    threading.Thread(target=run, name="aemodel-query").start()
    try:
        if not done.wait(PATIENCE):
            with _bar(label) as advance:
                while not done.wait(0.2):
                    advance(connection.query_progress())
    except KeyboardInterrupt:
        while not done.wait(0.1):
            connection.interrupt()
        raise
    if "error" in result:
        raise result["error"]
    return result["value"]


@contextmanager
def _bar(label: str) -> Iterator[Callable[[float], None]]:
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=100)
        yield lambda percent: progress.update(task, completed=max(percent, 0))
