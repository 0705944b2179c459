"""Classes of grades: nested thresholds that events are counted at, those of a publication's own or the usual ones. Light."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from msgspec.structs import replace

from aemodel.publication.records import hint, plain
from aemodel.publication.schema import Event, GradeClass
from aemodel.publication.texts import listed, shown

HIGHEST = 5
"""The highest grade there is."""
GRADES_BY_DEFAULT = (
    GradeClass("3-5", "Grade 3 or higher", "g3"),
    GradeClass("4-5", "Grade 4 or higher", "g4"),
    GradeClass("5", "Grade 5", "g5", answered=False),
)
"""Where a publication declares none: deaths are counted, and answered where they are events of their own."""
NUMBERED = r"([0-9])(?:-([1-5]))?"
"""Names of classes that tell their grades; a class ``3-4`` is taken for 3 or higher, as a paper that has it tells no more."""
ANY = ("any", "all", "overall", "total")
ROMAN = ("", "i", "ii", "iii", "iv", "v")


def class_numbers(classes: Sequence[GradeClass]) -> dict[str, int]:
    """The lowest grade of each nested class, outermost first: 4 of ``4-5``, 1 of ``any``; places where names tell none."""
    found = [re.fullmatch(NUMBERED, each.name) for each in classes]
    numbers = [int(each[1]) if each else 1 for each in found]
    if all(each or i == 0 for i, each in enumerate(found)) and numbers == sorted(set(numbers)):
        return {each.name: number for each, number in zip(classes, numbers, strict=True)}
    return {each.name: i + 1 for i, each in enumerate(classes)}


def lowest_grade(name: str) -> int | None:
    """The lowest grade that a class's name tells: 4 of ``4-5``, 0 of ``any``; None of one such as ``serious``."""
    found = re.fullmatch(NUMBERED, name)
    return int(found[1]) if found else 0 if name.casefold() in ANY else None


def short_name(name: str, short: str = "") -> str:
    """A class in names of columns: as the publication has it, or ``g3`` of 3-5, or its own name."""
    return short or (f"g{name[0]}" if name[:1].isdigit() else name)


def grade_bounds(grade: str, numbers: Mapping[str, int]) -> tuple[int, int]:
    """The lowest and highest grade of a class, or of a single grade or a range of them, such as ``4`` or ``1-2``.

    Raises
    ------
    ValueError
        It is none of these.
    """
    if grade in numbers:
        return numbers[grade], max(HIGHEST, *numbers.values())
    if found := re.fullmatch(r"([1-5])(?:-([1-5]))?", grade):
        low, high = int(found[1]), int(found[2] or found[1])
        if low <= high:
            return low, high
    raise ValueError(f"grade {shown(grade)} is none of {listed(numbers)}, nor a single grade or a range such as 1-2")


def spelling(grade: str, known: Sequence[str]) -> str:
    """How a paper's words for grades are written here, as 3-5 for ``>=3`` or ``III-V``; else what `hint` finds."""
    text = re.sub(r"\b(iv|v|i{1,3})\b", lambda found: str(ROMAN.index(found[0])), plain(grade).casefold())
    text = re.sub(r"ctcae|grades?|\bgr?(?=[0-9. ])|[ .]", "", text).strip("-")
    least = re.fullmatch(r"(?:>=?)?([1-5])(?:\+|(?:or|and)(?:higher|more|above|greater|worse))?", text)
    both = re.fullmatch(r"([1-5])(?:-|/|to|or|and|&)([1-5])", text)
    meant = f"{both[1]}-{both[2]}" if both else ""
    if text in ANY:
        meant = next((name for name in known if name.casefold() in ("any", "all", "1-5")), "any")
    elif least:
        low = int(least[1]) + (">" in text and ">=" not in text)
        meant = least[1] if text == least[1] else "5" if low >= HIGHEST else f"{low}-{HIGHEST}"
    if grade != plain(grade) == meant:
        return hint(grade)
    return f"; write {meant}" if meant not in ("", grade) else hint(grade, known)


def answered_classes(events: Sequence[Event], classes: Sequence[GradeClass] = GRADES_BY_DEFAULT) -> tuple[str, ...]:
    """Classes of grades that risks are given for: those that some event can be counted at, outermost first."""
    numbers = class_numbers(classes)
    told = {bound for event in events for grade in event.grades for bound in boundaries(grade, numbers)}
    answered = [each.name for each in classes if each.answered]
    # A publication that counts at none of them, such as deaths alone, is answered at the outermost.
    return tuple(name for name in answered if numbers[name] in told) or tuple(answered[:1])


def boundaries(grade: str, numbers: Mapping[str, int]) -> set[int]:
    """Grades at which states must be told apart for a count at this one."""
    low, high = grade_bounds(grade, numbers)
    return {low} if high >= HIGHEST or grade in numbers else {low, high + 1}


def is_told(grade: str, given: Collection[str], numbers: Mapping[str, int]) -> bool:
    """Whether counts at some grades tell that of a class: it is one of them, or single grades and ranges add up to it."""
    return bool(tiling(grade, given, numbers))


def tiling(grade: str, given: Collection[str], numbers: Mapping[str, int]) -> list[str]:
    """Those of some grades that add up to a class, without gaps or overlap: itself, if it is one; empty where none do."""
    if grade in given:
        return [grade]
    reached, end = grade_bounds(grade, numbers)
    parts: list[str] = []
    while reached <= end:
        fitting = [each for each in given if grade_bounds(each, numbers)[0] == reached]
        if not fitting:
            return []
        parts.append(max(fitting, key=lambda each: grade_bounds(each, numbers)[1]))
        reached = grade_bounds(parts[-1], numbers)[1] + 1
    return parts


def with_known_grades(events: Sequence[Event], classes: Sequence[GradeClass]) -> list[Event]:
    """The events with those of their grades that can be read: what is wrong with the others is told of the events."""
    numbers = class_numbers(classes)
    return [replace(event, grades=tuple(grade for grade in event.grades if _is_grade(grade, numbers))) for event in events]


def _is_grade(grade: str, numbers: Mapping[str, int]) -> bool:
    try:
        return bool(grade_bounds(grade, numbers))
    except ValueError:
        return False
