"""Quotes in delimited text: whether they enclose fields, and the reading of fields that hold some."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ciess.data.columns import refuse_rows
from ciess.errors import InputError

_QUOTE, _BREAK = ord('"'), ord("\n")
_BEFORE, _AFTER = b'"\n', b'"\r\n'
"""What may stand before an opening and after a closing quote, beside a separator; a doubled quote closes and opens."""
_ROWS_AT_ONCE = 1 << 16
_LONGEST_FIELD = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Lines:
    """Lines of fields, as a file holds them.

    Attributes:
        path: of the file.
        content: all of the file, by which its lines are numbered.
        body: the lines without column names and blank ones, each with its break.
        width: fields of a row.
        separator: of fields, one byte.
    """

    path: Path
    content: bytes
    body: bytes
    width: int
    separator: str

    @property
    def has_quotes(self) -> bool:
        """Whether there is any quote."""
        return b'"' in self.body

    def are_proper(self) -> bool:
        """Whether every quote opens or closes a whole field, or is doubled within one, as RFC 4180 has them."""
        codes = np.frombuffer(self.body, dtype=np.uint8)
        places = np.flatnonzero(codes == _QUOTE)
        opening, closing = places[::2], places[1::2]
        if len(opening) != len(closing):
            return False
        separator = self.separator.encode()
        before, after = codes[opening[opening > 0] - 1], codes[closing + 1]
        return _are_among(before, _BEFORE + separator) and _are_among(after, _AFTER + separator)

    def may_break_rows(self) -> bool:
        """Whether a line break within proper quotes may end a row all the same, and quotes be no more than letters.

        It may where the lines before and after it are as long as rows, or what follows it within the quotes is.
        """
        codes = np.frombuffer(self.body, dtype=np.uint8)
        quotes, breaks = np.flatnonzero(codes == _QUOTE), np.flatnonzero(codes == _BREAK)
        coming = np.searchsorted(quotes, breaks)
        within = coming[:-1] % 2 == 1
        if not within.any():
            return False
        separators = np.flatnonzero(codes == ord(self.separator))
        known = np.searchsorted(separators, breaks)
        full = np.diff(known, prepend=0) >= self.width - 1
        ends = np.minimum(breaks[1:], quotes[np.minimum(coming[:-1], len(quotes) - 1)])
        full_within = np.searchsorted(separators, ends) - known[:-1] >= self.width - 1
        return bool((within & (full[:-1] & full[1:] | full_within)).any())

    def refuse_rows_within(self, columns: list[pl.Series]) -> None:
        """Refuse fields that go on, after a line break, for as many fields as a row has: a quote may be missing.

        Raises:
            InputError: naming the first such row.
        """
        for column in columns:
            rest = column.str.splitn("\n", 2).struct.field("field_1")
            longest = rest.str.count_matches(self.separator, literal=True) >= self.width - 1
            what = f"{self.path} has quotes around a line break and what may be a row of its own"
            refuse_rows(longest.fill_null(False), what)

    def columns(self, places: list[int]) -> list[pl.Series]:
        """Columns as text, where a quote encloses at the beginning of a field, and is a letter within.

        Raises:
            InputError: a field begins with a quote and does not end with one, or a row has too many fields.
        """
        rows, parts, done = self._rows(), [pl.DataFrame(schema={str(place): pl.String for place in places})], 0
        # The limit is the process', and others may rely on it.
        most = csv.field_size_limit(_LONGEST_FIELD)
        try:
            while some := list(islice(rows, _ROWS_AT_ONCE)):
                self._refuse_long(some, done)
                fields = {str(place): [row[place] if place < len(row) else None for row in some] for place in places}
                parts.append(pl.DataFrame(fields, schema=parts[0].schema))
                done += len(some)
        finally:
            csv.field_size_limit(most)
        return pl.concat(parts, rechunk=True).get_columns()

    def _refuse_long(self, rows: list[list[str]], done: int) -> None:
        for number, row in enumerate(rows, done + 1):
            if any(row[self.width :]):
                raise InputError(f"{self.path} has more entries than columns in row {number}: fix or remove these rows")

    def _rows(self) -> Iterator[list[str]]:
        text = TextIOWrapper(BytesIO(self.body), encoding="utf-8", errors="replace", newline="\n")
        # Some write a space after a comma, before a quote that encloses all the same.
        rows = csv.reader(text, delimiter=self.separator, strict=True, skipinitialspace=self.separator in ",;|")
        before = 0
        try:
            for row in rows:
                yield row
                before = rows.line_num
        except csv.Error as error:
            line = f"{self.path}, line {self._number(before)}"
            if "new-line" in str(error):
                raise InputError(f"{line}: a carriage return stands within a row: remove it") from error
            raise InputError(
                f"{line}: a quote begins a field and does not end it: "
                "double the quotes that are part of a field, and put the field in quotes"
            ) from error

    def _number(self, place: int) -> int:
        """The number in the file of a line of the body."""
        filled = [number for number, line in enumerate(BytesIO(self.content), 1) if line.strip()]
        return filled[place - self.body.count(b"\n")]


def _are_among(codes: NDArray[np.uint8], allowed: bytes) -> bool:
    table = np.zeros(256, dtype=bool)
    table[list(allowed)] = True
    return bool(table[codes].all())
