"""How commands speak and fail: one line for what the user can mend, and the exit code that says which kind it was.

Also where stdin, stdout or stderr is closed, full or a pipe whose reader has gone, and whatever the texts hold.
"""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from aemodel.scoring.progress import INTERRUPTED, interrupted_by

UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of characters that give a terminal orders or turn its text around, and of those that cannot be encoded."""


def printable(text: str) -> str:
    """The text as it may be shown to people: characters nobody sees but the terminal are escaped, except line ends."""
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or unicodedata.category(c) not in UNSEEN else repr(c)[1:-1] for c in text)


def tell(text: str) -> None:
    """A message on stderr; where that cannot be written there is nobody to tell, and the work goes on."""
    with suppress(OSError):
        click.echo(printable(text), err=True)


class Failed(click.ClickException):
    """The data or the model failed a check: exit code 1."""


class Unusable(click.ClickException):
    """What was given cannot be used, or what was asked for not be printed: exit code 2."""

    exit_code = 2


class Refused(click.ClickException):
    """A run that passed a threshold it was given: exit code 3."""

    exit_code = 3


class Commands(click.Group):
    """Commands that need no stream but the one they print on, and do not take one that is closed for a file of theirs."""

    def invoke(self, ctx: click.Context) -> Any:
        with one_line_errors():
            return super().invoke(ctx)

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        run: Any = super().main
        if not standalone_mode:
            return run(*args, standalone_mode=False, **extra)
        _hold_descriptors()
        before = sys.stdout, sys.stderr
        out = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)
        sys.stdout = _Printed(out)
        try:
            code = run(*args, standalone_mode=False, **extra)
        except click.ClickException as error:
            text = io.StringIO()
            error.show(text)
            tell(text.getvalue().removesuffix("\n"))
            code = error.exit_code
        except click.Abort:
            tell(INTERRUPTED)
            code = 130
        finally:
            _let_go(out)
            _let_go(sys.stderr)
            sys.stdout, sys.stderr = before
        sys.exit(code or 0)


def _hold_descriptors() -> None:
    """Keep the numbers of closed streams from files that are opened: what is printed would be written into those.

    Reading the first and writing the second still fail, as they should; what is told on the third is lost.
    """
    for number, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # it has the lowest number that is free


def _let_go(stream: Any) -> None:
    """What a stream still holds would be written again when the process ends, and failing then changes its exit code."""
    try:
        stream.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


class _Printed:
    """stdout, where a command ends that cannot print: quietly if its reader has seen enough (`| head`), or saying so."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> Any:
        with _ending():
            return self._stream.write(text)

    def flush(self) -> None:
        with _ending():
            self._stream.flush()


@contextmanager
def _ending() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise click.exceptions.Exit(0) from None
    except (OSError, UnicodeEncodeError) as error:
        reason = "it is closed" if getattr(error, "errno", None) == errno.EBADF else getattr(error, "strerror", error)
        raise Unusable(f"stdout: cannot be written: {reason}") from error


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Errors of input in one line, or one for each column, with exit code 2; anything unforeseen keeps its traceback."""
    try:
        with interrupted_by(_interrupt_once):
            yield
    except KeyboardInterrupt:
        tell(INTERRUPTED)
        raise SystemExit(130) from None
    except ModuleNotFoundError as error:
        remedy = "which the base install leaves out: pip install 'aemodel[fit]'"
        raise Unusable(f"this needs {error.name}, {remedy}") from error
    except (ValueError, TypeError, OSError) as error:
        lines = [" ".join(line.split()) for line in getattr(error, "report", str(error)).split(";\n")]
        raise Unusable(_as_typed(";\n".join(lines), getattr(error, "argument", None))) from error
    except Exception as error:
        if type(error).__name__ == "SavedModelError":
            raise Failed(" ".join(str(error).split())) from error
        raise


def _interrupt_once(*_: Any) -> None:
    """Further signals are not heard: what clears up after the first must not be kept from it."""
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _as_typed(message: str, argument: str | None) -> str:
    """An error of the package, under the name that the argument has on the command line."""
    typed = {"path": "OUT", "out": "OUT", "patients": "PATIENTS", "frame": "PATIENTS", "folder": "--out"}
    typed |= {name: f"--{name.replace('_', '-')}" for name in ("beside", "compare", "partition_by", "summary", "tables")}
    name, colon, rest = message.partition(":") if argument is None else (argument, "", message.removeprefix(argument))
    if name == "source":
        return ("MODEL:" if "model" in rest else "PUBLICATION:") + rest
    return typed.get(name, name) + colon + options_as_typed(rest)


def options_as_typed(text: str) -> str:
    """What the package advises, as it is given on the command line."""
    return re.sub(r'(new_levels|missing_columns)="(\w+)"', lambda found: f"--{found[1].replace('_', '-')} {found[2]}", text)
