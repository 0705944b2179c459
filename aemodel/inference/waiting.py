"""What someone at a terminal sees while something takes long: what it is and the seconds so far, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn("line"), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task(what)
        yield
