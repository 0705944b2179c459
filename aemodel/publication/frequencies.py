"""Published frequencies as whole numbers of patients, and whether they agree with one another. Light."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import groupby, product
from math import ceil, floor
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from aemodel.publication.errors import Faults
from aemodel.publication.grades import GRADES_BY_DEFAULT, answered_classes, class_numbers, grade_bounds, spelling, tiling
from aemodel.publication.records import hint, plain
from aemodel.publication.rules import TOTAL, split
from aemodel.publication.schema import MOST_PATIENTS, About, Covariate, Event, Frequency
from aemodel.publication.texts import between, listed, shown

if TYPE_CHECKING:
    import pandas as pd

FILE = "frequencies.csv"
_NUMBER = r"([0-9]{1,12}(?:\.[0-9]{0,12})?|\.[0-9]{1,12})"
ADDED_UP = "sum of grades"
"""Begins the source of rows that add single grades up to a class."""

_PRINTED = re.compile(rf"(<=|<|\u2264)?\s*{_NUMBER}(?:\s*-\s*{_NUMBER})?\s*%?")
_TWO = re.compile(r"([<=]{0,2} ?[0-9.]{1,12}) ?(%?) ?(/|(?:out )?of\b|[(\[;]) ?([<=]{0,2} ?[0-9.]{1,12}) ?(%?) ?[)\]]?")
_MORE = re.compile(r"([0-9]{1,12}) ?(?:/ ?([0-9]{1,12}))? ?[(\[].+[)\]]")
"""Patients, of how many if that is told, and more in brackets."""
_COUNT = re.compile(r"([0-9]{1,12})(?:\.0{1,12})?(?:-([0-9]{1,12}))?")
OWN = "if only these were assessed for it, set assessed = own in events.csv"
UNKNOWN = "if it is not known of the others, give them a level with unknown = true"
"""What fewer patients than the cohort has may mean."""
Rows = Sequence[Frequency]


class Size(NamedTuple):
    """Of how many patients the levels of a covariate are together, by one of the tables."""

    file: str
    line: int | None
    key: str
    covariate: str
    patients: int


def printed_range(printed: str, unit: str, n: int) -> tuple[int, int] | None:
    """The lowest and highest number of patients of ``n`` that are printed so; None where no whole number is.

    A percentage may have been rounded half up, down or to even. ``<5`` and ``<=3`` leave out nobody, who is printed as 0:
    where it may be nobody, ``0-4`` says so.

    Raises
    ------
    ValueError
        It is no number, nor a bound or range of them; the message says what it must be.
    """
    found = _PRINTED.fullmatch(printed)
    ends = [text for text in found.groups()[1:] if text] if found else []
    whole = unit == "percent" or ("%" not in printed and all(re.fullmatch(r"[0-9]+(\.0*)?", text) for text in ends))
    if not found or not whole or (found[1] and len(ends) > 1):
        what = "percentage, such as 17.3" if unit == "percent" else f"whole number of at most {MOST_PATIENTS:,}"
        raise ValueError(f"not a {what}, nor <5 or 0-4")
    if Fraction(ends[0]) > Fraction(ends[-1]):
        raise ValueError(f"a range from the higher to the lower number; write {ends[1]}-{ends[0]}")
    if unit == "percent" and Fraction(ends[-1]) > 100:
        raise ValueError("more than 100 percent")
    half = 0 if unit == "count" or found[1] else 1
    first, last = (Fraction(text) + side * half * _half(text) for text, side in ((ends[0], -1), (ends[-1], 1)))
    if unit == "percent":
        first, last = first * n / 100, last * n / 100
        if not n and Fraction(ends[-1]):
            return None
    low, high = ceil(first), floor(last)
    if found[1]:
        low, high = 1, ceil(last) - 1 if found[1] == "<" else high
    low, high = max(0, low), min(high, n) if unit == "percent" else high
    return (low, high) if low <= high else None


def _half(text: str) -> Fraction:
    """Half a unit of the last decimal of a number."""
    return Fraction(1, 2 * 10 ** len(text.partition(".")[2]))


def count_rows(rows: Rows, excused: Collection[tuple[str, ...]], faults: Faults) -> list[Frequency]:
    """The rows with the numbers of patients behind what is printed; ``excused`` may have others, as the paper has it wrong.

    A row of nobody tells nothing: it is derived.
    """
    return [counted for row in rows if (counted := _count(row, row.key in excused, faults)) is not None]


def _count(row: Frequency, excused: bool, faults: Faults) -> Frequency | None:
    count = _COUNT.fullmatch(row.count)
    before = len(faults)
    try:
        found = printed_range(row.printed, row.unit, row.n)
    except ValueError as error:
        faults.add(FILE, f"printed: {shown(row.printed)} is {error}{_meant(row.printed)}", line=row.line)
        return None
    if row.count and not count:
        remedy = "leave it empty, unless what is printed leaves several numbers possible"
        problem = f"count: {shown(row.count)} is not a whole number, nor two as 12-13{hint(row.count)}"
        faults.add(FILE, problem, line=row.line, remedy=remedy)
    given = (int(count[1]), int(count[2] or count[1])) if count else found
    if given is None:
        problem = f"{row.printed} {row.unit} is no whole number over {row.n}"
        remedy = "give the count in its column"
        if re.fullmatch(r"0?\.[0-9]+", row.printed):
            remedy += f"; if it is a fraction of 1, write {float(row.printed) * 100:.6g}"
        faults.add(FILE, problem, line=row.line, remedy=remedy)
    elif given[0] > given[1]:
        faults.add(FILE, f"count: {shown(row.count)} goes from the higher to the lower number", line=row.line)
    elif given[1] > row.n:
        faults.add(FILE, f"{between(*given)} events exceed {row.n} patients", line=row.line)
    elif not excused and (found is None or given[0] < found[0] or given[1] > found[1]):
        problem = f"{between(*given)} of {row.n} is not printed {row.printed} ({row.unit})"
        faults.add(FILE, problem, line=row.line, remedy="correct it, or record it in discrepancies.csv")
    if given is None or len(faults) > before:
        return None
    return replace(row, observed_low=given[0], observed_high=given[1], derived=row.derived or not row.n)


def _meant(printed: str) -> str:
    """What to do with what a paper prints instead of a number, or of several numbers in one place."""
    if plain(printed).strip("-. ").casefold() in ("", "na", "n/a", "nd", "nr", "ns", "none", "nil"):
        return "; if by the paper's legend nobody had it, write 0; if it was not reported, leave the row out"
    if found := _TWO.fullmatch(plain(printed).replace(",", ".")):
        first, share, mark, second, other = found.groups()
        if mark not in "([;":
            return f"; write {first} here, with unit count, and {second} as n"
        count, percent = (second, first) if share and not other else (first, second)
        said = "" if share or other else ", if they are that"
        return f"; one number a row: {count} with unit count, or {percent} with unit percent{said}; of how many goes to n"
    if found := _MORE.fullmatch(plain(printed)):
        return f"; one number a row: {found[1]} with unit count; of how many{f', {found[2]},' if found[2] else ''} goes to n"
    return "; with a percent sign the unit is percent" if _PRINTED.fullmatch(printed) and "%" in printed else hint(printed)


def check_rows(
    rows: Rows,
    events: Sequence[Event],
    covariates: Sequence[Covariate],
    faults: Faults,
    unread: Collection[str] = (),
) -> list[Frequency]:
    """Those rows that are of events, grades, covariates and levels that there are, each once.

    Grades of ``unread`` events could not be read: that is told of these.
    """
    grades = {event.name: event.grades for event in events}
    good: dict[tuple[Any, ...], Frequency] = {}
    for row in rows:
        before, known = len(faults), grades.get(row.event, ())
        there = row.grade in known
        if not there and row.event not in unread:
            problem = f"event {shown(row.event)} at grade {shown(row.grade)} is not in events.csv"
            if known:
                meant = spelling(row.grade, known)
                problem += (
                    f", which has it at {listed(known)}{meant or f'; write one of these, or add {shown(row.grade)} there'}"
                )
            else:
                problem += f"; events are {listed(grades)}{hint(row.event, [*grades])}"
            faults.add(FILE, problem, line=row.line)
        check_level(row.covariate, row.level, covariates, FILE, row.line, faults)
        place = split(covariates, row.covariate, row.level) or (row.covariate, row.level)
        key = (row.event, row.grade, frozenset(place))  # two covariates in either order are one place
        if key in good:
            problem = f"given twice, in line {good[key].line} too: {listed([' '.join(row.key)])}"
            faults.add(FILE, problem, line=row.line, remedy="leave one out")
        if len(faults) == before and there:
            good[key] = row
    for name in dict.fromkeys(row.event for row in good.values()):
        mine = [row for row in good.values() if row.event == name]
        if all(row.derived for row in mine) and any(row.n for row in mine):
            problem = f"all rows of {name} are derived, the sums of others, so that none is evidence of it"
            faults.add(FILE, problem, line=mine[0].line, remedy="leave derived empty where the paper prints a number")
    return list(good.values())


def check_level(
    covariate: str, level: str, covariates: Sequence[Covariate], file: str, line: int, faults: Faults, *, fine: bool = False
) -> None:
    """Whether a row's covariate and level are known; ``fine``: of the cohort's levels."""
    if split(covariates, covariate, level, fine=fine) is not None:
        return
    known = {c.name: [n for one in c.levels for n in one.cohort] if fine else [*c.names, *c.groups] for c in covariates}
    allowed = {name: levels for name, levels in known.items() if name == covariate} or known | {"total": ["all"]}
    words = "; ".join(f"{name}: {listed(levels)}" for name, levels in allowed.items())
    like = [re.sub(r" *([*+]) *", r"\1", plain(text)) for text in (covariate, level)]
    turned = "*".join(reversed(like[1].split("*")))
    if "*" in like[0] and (pair := next((x for x in (like[1], turned) if split(covariates, like[0], x, fine=fine)), "")):
        meant = f"; write {like[0]} and {pair}" + ("; levels stand as their covariates do" if pair == turned else "")
    else:
        meant = hint(level, [one for levels in allowed.values() for one in levels]) or hint(covariate, [*allowed])
    faults.add(file, f"covariate {shown(covariate)} with level {shown(level)} is unknown; known are {words}{meant}", line=line)


def check_sums(rows: Rows, events: Sequence[Event], about: About, faults: Faults) -> list[Size]:
    """Whether every way of adding up one event at one grade gives one total; and of how many patients each is."""
    covariates = about.covariates
    _check_grades(rows, class_numbers(about.grades or GRADES_BY_DEFAULT), faults)
    own = {event.name for event in events if event.assessed == "own"}
    sizes: list[Size] = []
    for (event, _), group in groupby(sorted(rows, key=_event_grade), key=_event_grade):
        mine = list(group)
        totals: dict[str, tuple[int, int]] = {}
        for covariate, whole in complete_sets(mine, covariates):
            totals[covariate] = _sum(whole)
            size = Size(FILE, whole[0].line, " ".join(_event_grade(whole[0])), covariate, sum(row.n for row in whole))
            sizes += [] if event in own else [size]
        if len(totals) > 1 and max(low for low, _ in totals.values()) > min(high for _, high in totals.values()):
            found = shown({name: ends[0] if ends[0] == ends[1] else ends for name, ends in totals.items()})
            problem = f"the margins disagree on the number of patients with the event: {found}"
            remedy = (
                "correct it; if the paper itself has them so, give the right number in the column count of the row that is "
                "wrong, and that row in discrepancies.csv"
            )
            faults.add(FILE, problem, line=mine[0].line, key=" ".join(_event_grade(mine[0])), remedy=remedy)
        _check_groups(mine, covariates, event in own, faults)
    return sizes


def _event_grade(row: Frequency) -> tuple[str, str]:
    return row.event, row.grade


def _sum(rows: Rows) -> tuple[int, int]:
    return sum(row.observed_low for row in rows), sum(row.observed_high for row in rows)


def complete_sets(rows: Rows, covariates: Sequence[Covariate]) -> Iterator[tuple[str, list[Frequency]]]:
    """Covariates by all of whose levels, or crossed ones, an event at a grade is given, with those rows; the total last."""
    by_name = {covariate.name: covariate.names for covariate in covariates}
    found = {(row.covariate, row.level): row for row in rows}
    texts = sorted({row.covariate for row in rows} - {"total"}, key=lambda text: (text not in by_name, text))
    order = [name for name in by_name if name in texts] + [text for text in texts if text not in by_name]
    for text in order:
        crossed = [text] if text in by_name else text.split("*")
        levels = ["*".join(each) for each in product(*(by_name.get(name, ()) for name in crossed))]
        if levels and all((text, level) in found for level in levels):
            yield text, [found[text, level] for level in levels]
    if TOTAL in found:
        yield "total", [found[TOTAL]]


def _check_groups(rows: Rows, covariates: Sequence[Covariate], own: bool, faults: Faults) -> None:
    found = {(row.covariate, row.level): row for row in rows}
    for covariate in covariates:
        for group in covariate.groups:
            whole = found.get((covariate.name, group))
            parts = [found.get((covariate.name, covariate.names[i])) for i in covariate.members(group)]
            if whole is None or None in parts:
                continue
            levels = [row for row in parts if row is not None]
            low, high = _sum(levels)
            key, size = " ".join(_event_grade(whole)), sum(row.n for row in levels)
            if size != whole.n and not own:
                faults.add(FILE, f"n of {group} is {whole.n}, its levels sum to {size}", line=whole.line, key=key)
            if low > whole.observed_high or high < whole.observed_low:
                count, total = between(whole.observed_low, whole.observed_high), between(low, high)
                faults.add(FILE, f"observed of {group} is {count}, its levels sum to {total}", line=whole.line, key=key)


def check_sizes(sizes: Sequence[Size], n: int, faults: Faults) -> None:
    """Whether all are the cohort's; where they agree on another number, that in `publication.toml` is wrong."""
    if len(sizes) > 1 and len(told := {size.patients for size in sizes}) == 1 and told != {n}:
        remedy = "correct it" + (f"; {UNKNOWN}" if max(told) < n else "")
        problem = f"{n}, but every table of all levels is of {told.pop()} patients"
        faults.add("publication.toml", problem, key="patients", remedy=remedy)
        return
    for size in sizes:
        if size.patients != n:
            what = "the total is over" if size.covariate == "total" else f"the levels of {size.covariate} hold"
            problem = f"{what} {size.patients} patients, the cohort {n} (patients in publication.toml)"
            fewer = [UNKNOWN] * (size.covariate != "total") + [OWN] * (size.file == FILE) if size.patients < n else []
            faults.add(size.file, problem, line=size.line, key=size.key, remedy="; ".join(fewer) or "correct it")


def _check_grades(rows: Rows, numbers: Mapping[str, int], faults: Faults) -> None:
    """No more patients at a higher grade than at a lower one."""
    found = {row.key: row for row in rows}
    bounds = {row.grade: grade_bounds(row.grade, numbers) for row in rows}
    for row in rows:
        least, most = bounds[row.grade]
        for grade in [each for each, (low, high) in bounds.items() if least <= low and high <= most and each != row.grade]:
            inner = found.get((row.event, grade, row.covariate, row.level))
            if inner is not None and inner.observed_low > row.observed_high:
                problem = f"more patients at grade {grade} than at {row.grade} (line {row.line})"
                faults.add(FILE, problem, line=inner.line, key=f"{row.event} {row.covariate} {row.level}")


def with_totals(rows: Rows, events: Sequence[Event], about: About) -> tuple[Frequency, ...]:
    """The published rows, then derived ones: totals that margins imply, and higher grades of fatal events (5 is all)."""
    covariates, n = about.covariates, about.patients
    outermost, *higher = answered_classes(events, about.grades or GRADES_BY_DEFAULT) or ("",)
    fatal = {event.name for event in events if event.relation == "fatal"}
    own = {event.name for event in events if event.assessed == "own"}
    deaths = [row for row in rows if row.event in fatal and row.grade == outermost]
    added = [replace(row, grade=grade, derived=True) for grade in higher for row in deaths]
    numbers = class_numbers(about.grades or GRADES_BY_DEFAULT)
    summed = list(_added_up(rows, [grade for grade in (outermost, *higher) if grade], numbers))
    added += summed
    for (event, grade), group in groupby(sorted([*rows, *summed], key=_event_grade), key=_event_grade):
        covariate, whole = next(iter(complete_sets(mine := list(group), covariates)), ("total", mine))
        if covariate != "total" and not any((row.covariate, row.level) == TOTAL for row in mine):
            low, high = _sum(whole)
            size = sum(row.n for row in whole) if event in own else n
            made = Frequency(event, grade, *TOTAL, size, "", "count", "", True, f"sum over {covariate}", 0, low, high)
            added.append(made)
    order = {event.name: i for i, event in enumerate(events)}
    place = {"total": len(covariates) + 1} | {c.name: i for i, c in enumerate(covariates)}
    once: Mapping[tuple[str, ...], Frequency] = {row.key: row for row in reversed([*rows, *added])}
    every = [row for row in [*rows, *added] if once[row.key] is row]
    return tuple(sorted(every, key=lambda row: (order[row.event], row.grade, place.get(row.covariate, len(covariates)))))


def _added_up(rows: Rows, answered: Sequence[str], numbers: Mapping[str, int]) -> Iterator[Frequency]:
    """Derived rows of classes whose single grades, or ranges of them, are published."""
    places: dict[tuple[str, str, str], list[Frequency]] = {}
    for row in rows:
        places.setdefault((row.event, row.covariate, row.level), []).append(row)
    for mine in places.values():
        for grade in answered:
            parts = tiling(grade, [row.grade for row in mine], numbers)
            if len(parts) > 1 and grade not in {row.grade for row in mine}:
                low, high = _sum(summed := [row for row in mine if row.grade in parts])
                one, source = summed[0], f"{ADDED_UP} {', '.join(parts)}"
                yield Frequency(one.event, grade, one.covariate, one.level, one.n, "", "count", "", True, source, 0, low, high)


def frame_of(rows: Sequence[Any], columns: Sequence[str]) -> pd.DataFrame:
    """Rows of a publication's tables as a frame with these of their fields."""
    import pandas as pd

    return pd.DataFrame([[getattr(row, name) for name in columns] for row in rows], columns=columns)
