"""How commands fail: one line for what the user can mend, and the exit code that says which kind it was."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

INTERRUPTED = "Interrupted; nothing was saved."


class Failed(click.ClickException):
    """The data or the model failed a check: exit code 1."""

    exit_code = 1


def one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Errors of input in one line, or one for each column, with exit code 2; anything unforeseen keeps its traceback."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        # What a scheduler sends, and a terminal that is gone, clean up as Ctrl-C does; under nohup the latter is still ignored.
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, signal.default_int_handler)
        try:
            command(*args, **kwargs)
        except BrokenPipeError:
            # The reader of a pipe has seen enough (`| head`).
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except KeyboardInterrupt:
            click.echo(INTERRUPTED, err=True)
            raise SystemExit(130) from None
        except ModuleNotFoundError as error:
            remedy = "which the base install leaves out: pip install 'aemodel[fit]'"
            raise click.UsageError(f"this needs {error.name}, {remedy}") from error
        except (ValueError, TypeError, OSError) as error:
            lines = [" ".join(line.split()) for line in str(error).split(";\n")]
            raise click.UsageError(_as_typed(";\n".join(lines))) from error
        except Exception as error:
            if type(error).__name__ == "SavedModelError":
                raise Failed(" ".join(str(error).split())) from error
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    return wrapped


def _as_typed(message: str) -> str:
    """An error of the package, under the name that the argument has on the command line."""
    typed = {
        "path": "OUT",
        "out": "OUT",
        "patients": "PATIENTS",
        "folder": "--out",
        "compare": "--compare",
        "tables": "--tables",
    }
    name, colon, rest = message.partition(":")
    if name == "source":
        return ("MODEL:" if "model" in rest else "PUBLICATION:") + rest
    return typed.get(name, name) + colon + options_as_typed(rest)


def options_as_typed(text: str) -> str:
    """What the package advises, as it is given on the command line."""
    return text.replace('new_levels="sample"', "--new-levels sample")
