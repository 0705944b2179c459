"""DuckDB's relations, and the SQL that codes, counts and scores their rows. Light: DuckDB and Narwhals are not loaded.

Queries run in the caller's catalog, where a macro may have the name of any function, operators' too, and a table any name: so
functions are named with the schema that is DuckDB's own, and constants are part of the text. Texts, which may be collated,
are compared byte by byte. A join could reorder rows: values are picked from lists, by positions that codes are looked up as.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from aemodel.publication.arrays import Ints
from aemodel.publication.codes import MISSING, NUMBER, Kind, Layout, Source
from aemodel.publication.patients import SHOWN_VALUES, Example
from aemodel.scoring.frames import MOST_COUNTED, Groups, Opened, check_names, no_groups, rows_grouped

MOST_POSITIONS = 1 << 16
"""Length up to which lists are indexed by codes directly; longer ones are split into stages."""
INTEGER = r"u?(tiny|small|big|huge)?int(eger)?"
NUMERIC = rf"{INTEGER}|float|double|decimal"
GROUPING = rf"{NUMERIC}|varchar|enum|boolean|blob|date|time|timestamp.*"
"""Types whose values make groups: of others equal ones may differ, as a month and 30 days do."""


@dataclass(frozen=True)
class DuckDB(Opened):
    """A relation of any connection: codes are a further column.

    Attributes
    ----------
    na
        Texts that stand for missing values, beside nulls.
    """

    na: tuple[str, ...] = ()
    same: ClassVar[Any] = str.lower
    """Names that differ in case only are one to it."""

    @staticmethod
    def kinds_of(relation: Any) -> dict[str, Kind]:
        check_names("frame", relation.columns)
        types = zip(relation.columns, relation.types, strict=True)
        return {
            name: Kind(str(kind), kind.id in ("varchar", "enum"), bool(re.fullmatch(NUMERIC, kind.id))) for name, kind in types
        }

    @cached_property
    def coded(self) -> Any:
        """The relation with a further column, the profile code; values are worked out before they are classed."""
        temporary = [quoted(f"{self.column}{i}") for i in range(len(self.layout.sources))]
        values = (f"{self._value(source)} AS {name}" for source, name in zip(self.layout.sources, temporary, strict=True))
        sources = zip(self.layout.sources, temporary, self.layout.strides, strict=False)
        parts = [self._class(*source) for source in sources]
        for limit in self.layout.limits_of(self.kinds):
            value, by = temporary[limit.source], temporary[limit.by]
            most = call("+", call("*", by, _double(limit.most.times)), _double(limit.most.plus))
            over = f"{value} > {most} AND NOT {_is_nan(value)}"
            parts.append(f"CAST(CASE WHEN {over} THEN {limit.stride} ELSE 0 END AS BIGINT)")
        code = reduce(lambda total, part: call("+", total, part), parts)
        valued = self.native.project(f"*, {', '.join(values)}")
        return valued.project(f"* EXCLUDE ({', '.join(temporary)}), {code} AS {quoted(self.column)}")

    def known(self, name: str) -> str:
        """A column as it is compared: texts byte by byte, and null where one stands for a missing value."""
        column = quoted(name)
        if not self.kinds[name].text:
            return column
        text = f"(CAST({column} AS VARCHAR) COLLATE C)"
        missing = " OR ".join(f"{text} = {literal(marker)}" for marker in self.na)  # a list might become a join
        return f"(CASE WHEN {missing} THEN NULL ELSE {text} END COLLATE C)" if missing else text

    def _value(self, source: Source) -> str:
        """What a column is classed by: text, or a number, infinite for text that is none; of the wrong type, the column."""
        kind, value = self.kinds[source.column], self.known(source.column)
        if source.texts or not (kind.text or kind.number):
            return value
        if kind.number:
            return f"CAST({value} AS DOUBLE)"
        number = f"WHEN {call('regexp_matches', value, literal(NUMBER))} THEN CAST({value} AS DOUBLE)"
        return f"CASE WHEN {value} IS NULL THEN NULL {number} ELSE {_double(math.inf)} END"

    def _class(self, source: Source, value: str, stride: int) -> str:
        """The class of a column's values, times the stride."""
        kind, missing, whens = self.kinds[source.column], f"{value} IS NULL", []
        if kind.name in ("FLOAT", "DOUBLE"):
            missing += f" OR {_is_nan(value)}"
        otherwise = source.other if source.texts else 1
        if source.texts and kind.text:
            texts = enumerate(source.texts, start=1)
            whens = [f"WHEN ({value} COLLATE C) = {literal(text)} THEN {place * stride}" for place, text in texts]
        elif not source.texts and (kind.number or kind.text):
            places = reversed(list(enumerate(source.cuts, start=2)))
            whens = [f"WHEN {value} >= {_double(cut)} THEN {place * stride}" for place, cut in places]
        else:
            otherwise = source.wrong
        cases = " ".join([f"WHEN {missing} THEN {MISSING}", *whens])
        return f"CAST(CASE {cases} ELSE {otherwise * stride} END AS BIGINT)"

    def tally(self, by: Sequence[str] = ()) -> Groups:
        """Of values that Python has not exactly the texts, of which DuckDB makes the same values."""
        keys, code = [quoted(f"{self.column}{i}") for i in range(len(by))], quoted(self.column)
        values, shown = [], []
        for name, key in zip(by, keys, strict=True):
            kind, value = str(self.native.types[self.native.columns.index(name)].id), self.known(name)
            if not re.fullmatch(GROUPING, kind):
                raise no_groups(name, self.kinds[name].name)
            value = f"CASE WHEN {_is_nan(value)} THEN NULL ELSE {value} END" if kind in ("float", "double") else value
            values.append(f"{value} AS {key}")
            exact = re.fullmatch(rf"{INTEGER}|float|double|varchar|enum|boolean", kind)
            shown.append(key if exact else f"CAST({key} AS VARCHAR)")
        counted = self.coded.project(", ".join([*values, code])).aggregate(
            ", ".join([*keys, code, f"{call('count_star')} AS n"]), ", ".join([*keys, code])
        )
        ordered = counted.order(", ".join(f"{key} ASC NULLS LAST" for key in [*keys, code])).limit(MOST_COUNTED + 1)
        return rows_grouped(by, ordered.project(", ".join([*shown, code, "n"])).fetchall())

    def examples(self, columns: Sequence[str], codes: Ints) -> list[Example]:
        chosen = f"{quoted(self.column)} IN ({', '.join(map(str, codes.tolist()))})"
        place = f"{call('row_number')} OVER ()" if self.numbered else "1"
        keys = [quoted(f"{self.column}{i}") for i in range(len(columns))]
        values = [f"{self.known(name)} AS {key}" for name, key in zip(columns, keys, strict=True)]
        rows = self.coded.project(", ".join([*values, quoted(self.column), f"{place} AS place"])).filter(chosen)
        number, first = call("count_star"), call("-", call("min", "place"), "1")
        counted = rows.aggregate(", ".join([*keys, f"{number} AS number", f"{first} AS first"]), ", ".join(keys))
        found = counted.order("number DESC, first ASC").limit(SHOWN_VALUES).fetchall()
        return [Example(row[:-2], row[-2], int(row[-1]) if self.numbered else None) for row in found]

    def add(self, codes: Ints, columns: Mapping[str, NDArray[Any]]) -> Any:
        """A list of structs, one for each row of values that occurs, is part of the query; fields are those of the row's code.

        Looked up in a projection of its own: in one with the fields, the list would be read once for each of them.
        """
        code, (values, positions) = quoted(self.column), _distinct(columns)
        looked_up = call("list_extract", _structs(values), lookup_position(self.layout, code, codes, positions))
        own = [f"{self.known(name)} AS {quoted(name)}" if self.na else quoted(name) for name in self.native.columns]
        added = [f"{call('struct_extract', code, literal(f'f{i}'))} AS {quoted(name)}" for i, name in enumerate(columns)]
        return self.coded.project(f"* REPLACE ({looked_up} AS {code})").project(", ".join(own + added))

    def texts(self, codes: Ints, columns: Mapping[str, NDArray[Any]], delimiter: str) -> str:
        """Expression of `coded` for the values that `add` would add, as one text for each row, cells after delimiters."""
        values, positions = _distinct(columns)
        rows = zip(*([csv_cell(value, delimiter) for value in of.tolist()] for of in values), strict=True)
        texts = constants(("".join(delimiter + cell for cell in row) for row in rows), "VARCHAR")
        return call("list_extract", texts, lookup_position(self.layout, quoted(self.column), codes, positions))

    def table(self, groups: Groups, columns: Mapping[str, Sequence[Any]]) -> Any:
        """Constants on the relation's own connection: derived from the relation, so that nothing is made in its catalog."""
        plain = {int: "BIGINT", float: "DOUBLE", str: "VARCHAR"}
        kinds = {name: self.kinds[name].name for name in groups.names}
        kinds |= {name: plain[type(of[0])] for name, of in columns.items()}
        rows = groups.rows(columns)
        lists = (f"{call('unnest', constants((row[name] for row in rows), 'VARCHAR'))} AS {quoted(name)}" for name in kinds)
        casts = (f"CAST({quoted(name)} AS {kind}) AS {quoted(name)}" for name, kind in kinds.items())
        none = self.native.limit(0).aggregate(f"{call('count_star')} AS n")
        return none.project(", ".join(lists)).project(", ".join(casts))


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def call(function: str, *arguments: str) -> str:
    """A call of DuckDB's own function, whatever macros the catalog holds; an operator is a function too."""
    return f"system.main.{quoted(function)}({', '.join(arguments)})"


def constants(values: Iterable[Any], kind: str) -> str:
    """A list of constants; None is null.

    Written as one text that is cast, which DuckDB parses once; a hundred thousand constants would be bound one by one.
    """
    return f"{literal('[' + ', '.join(map(_element, values)) + ']')}::{kind}[]"


def _element(value: Any) -> str:
    return "NULL" if value is None else '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def csv_cell(value: Any, delimiter: str) -> str:
    """A cell of CSV, empty where there is none."""
    text = "" if value != value else str(value)
    return '"' + text.replace('"', '""') + '"' if '"' in text or delimiter in text else text


def _is_nan(value: str) -> str:
    """Whether a number is NaN, never null.

    Not ``value = 'NaN'``: Parquet's statistics leave NaN out, and DuckDB takes a comparison with anything beyond the largest
    number they name for false without reading the values. Distinctness it works out of the values.
    """
    return f"{value} IS NOT DISTINCT FROM {_double(math.nan)}"


def _double(number: float) -> str:
    return f"'{number}'::DOUBLE"


def _distinct(columns: Mapping[str, NDArray[Any]]) -> tuple[list[NDArray[Any]], Ints]:
    """Columns' rows, each that occurs once, and which of these every row is."""
    rows = [repr(row) for row in zip(*(of.tolist() for of in columns.values()), strict=True)]
    last = {row: i for i, row in enumerate(rows)}
    place = {row: at for at, row in enumerate(last)}
    return [of[list(last.values())] for of in columns.values()], np.array([place[row] for row in rows], dtype=np.int64)


def _structs(columns: Sequence[NDArray[Any]]) -> str:
    """As `constants`, structs with fields f0, f1 and so on, of numbers or of texts; NaN is null."""
    kinds = ", ".join(f"f{i} {'DOUBLE' if of.dtype.kind == 'f' else 'VARCHAR'}" for i, of in enumerate(columns))
    texts = [[f"f{i}: {_element(None if value != value else value)}" for value in of.tolist()] for i, of in enumerate(columns)]
    rows = ", ".join("{" + ", ".join(row) + "}" for row in zip(*texts, strict=True))
    return f"{literal(f'[{rows}]')}::STRUCT({kinds})[]"


def lookup_position(layout: Layout, code: str, codes: Ints, positions: Ints) -> str:
    """Expression for the one of ``positions`` that goes with a row's code among ``codes``; null where it is none of them.

    Codes could be as many as there are combinations of classes, so sources are taken one stage at a time: as many as a
    list of `MOST_POSITIONS` has room for. After each stage, what has been met so far is numbered densely.
    """
    sizes = layout.sizes
    known, many, text, first = np.zeros(len(codes), dtype=np.int64), 1, "", 0
    while first < len(sizes):
        last, size = first + 1, sizes[first]
        while last < len(sizes) and many * size * sizes[last] <= MOST_POSITIONS:
            size *= sizes[last]
            last += 1
        stride = layout.strides[first]
        key = known * size + codes // stride % size
        known = np.unique(key, return_inverse=True)[1] if last < len(sizes) else positions
        table = np.zeros(many * size, dtype=np.int64)
        table[key] = known + 1
        index = call("%", call("//", code, str(stride)), str(size)) if size < layout.size else code
        if text:
            index = call("+", call("*", call("-", text, "1"), str(size)), index)
        entries = ", ".join(str(entry) if entry else "NULL" for entry in table.tolist())
        text = call("list_extract", f"'[{entries}]'::INTEGER[]", call("+", index, "1"))
        many, first = int(known.max(initial=0)) + 1, last
    return text
