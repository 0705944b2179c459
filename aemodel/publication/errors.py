"""What is wrong with what was given: errors that carry their argument, rows and remedy, and say so in one line. Light."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class InputError(ValueError):
    """Something given cannot be used.

    Attributes
    ----------
    argument
        Which argument, or file, it was given in.
    problem
        What is wrong with it, and what is allowed.
    rows
        Rows it is about, of many the first of each kind: positions from 0 in a caller's frame, lines of a publication's file.
    remedy
        What to do, where that is known; empty otherwise.
    """

    def __init__(self, argument: str, problem: str, *, rows: Sequence[int] = (), remedy: str = "") -> None:
        super().__init__(argument, problem)
        self.argument, self.problem, self.rows, self.remedy = argument, problem, tuple(rows), remedy

    @property
    def place(self) -> str:
        """Where it is: the argument, or more closely."""
        return self.argument

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}" + (f"; {self.remedy}" if self.remedy else "")


class PatientsError(InputError):
    """Patients cannot be read: a column is missing, or values are impossible."""


def wrong_patients(problem: str, *, rows: Sequence[int] = (), remedy: str = "") -> PatientsError:
    return PatientsError("patients", problem, rows=rows, remedy=remedy)


class PublicationError(InputError):
    """A publication's file is wrong.

    Attributes
    ----------
    file
        Which of its files.
    line
        Which line of a table; None where it is not about one.
    key
        Which key of ``publication.toml``, or what else it is about; empty where it is about all of the file.
    faults
        Everything that was found wrong, this first.
    """

    def __init__(self, file: str, problem: str, *, line: int | None = None, key: str = "", remedy: str = "") -> None:
        super().__init__(file, problem, rows=() if line is None else (line,), remedy=remedy)
        self.file, self.line, self.key = file, line, key
        self.faults: tuple[PublicationError, ...] = (self,)

    @property
    def place(self) -> str:
        return self.file + (f", line {self.line}" if self.line else "") + (f", {self.key}" if self.key else "")

    @property
    def report(self) -> str:
        """Everything that was found wrong, a line each."""
        return ";\n".join(InputError.__str__(fault) for fault in self.faults)

    def __str__(self) -> str:
        more = len(self.faults) - 1
        return super().__str__() + (f" (and {more} more: `aemodel tables` lists them)" if more else "")


class Faults(list[PublicationError]):
    """What was found wrong with a publication so far."""

    def add(self, file: str, problem: str, *, line: int | None = None, key: str = "", remedy: str = "") -> None:
        self.append(PublicationError(file, problem, line=line, key=key, remedy=remedy))

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Take in what is raised inside, and go on after it."""
        try:
            yield
        except PublicationError as error:
            self.extend(error.faults)

    def within(self, file: str, key: str = "") -> bool:
        """Whether any is about a file, or keys of it that start so."""
        return any(fault.file == file and fault.key.startswith(key) for fault in self)

    def refuse(self) -> None:
        """Raise the first one, which has all the others, if there is any."""
        if self:
            first = self[0]
            first.faults = tuple(self)
            raise first
