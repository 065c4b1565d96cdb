"""Columns of tables as ids, ratings and times; polars' series throughout."""

from collections.abc import Mapping, Sequence, Set
from datetime import date
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ciess.data.ids import id_text, listed
from ciess.errors import InputError

Ids = Sequence[Any] | NDArray[Any] | pl.Series
"""Ids of users or items; whole numbers, text, or what `id_text` makes text of."""

_MISSING = ("", "null", "NULL", "nan", "NaN", "NAN", "none", "None", "NONE", "NaT", "n/a", "N/A", "NA", "<NA>", "\\N")
"""How programs write that a text is missing; names of people are written otherwise."""
_MICROSECONDS = 10**6
_PLACES_A_ROW = 4
"""The most that a table of all whole numbers between a column's ids may have, for each of its rows."""
_NUMERIC = "biuf"
_DAY = "%Y-%m-%d"
_FORMATS = (
    (_DAY, False),
    (f"{_DAY} %H:%M", False),
    (f"{_DAY} %H:%M%#z", True),
    (f"{_DAY} %H:%M:%S%.f", False),
    (f"{_DAY} %H:%M:%S%.f%#z", True),
)
"""Of ISO 8601, and whether the zone is told; without one it is UTC."""


def series_of(values: Any) -> pl.Series:
    """A column of a pandas frame, an array or a list, as polars has it; what it has no type for are Python objects."""
    if isinstance(values, pl.Series):
        return values
    if is_of_pandas(values):
        return _from_pandas(values)
    if isinstance(values, Mapping | Set):
        raise InputError(f"a {type(values).__name__} has no order: give a list, one for each row")
    array = listed(values)
    if array.ndim != 1:
        raise InputError(f"an array of shape {array.shape} stands where a column is wanted: give one of its columns")
    return pl.Series(array) if array.dtype.kind in _NUMERIC else _from_objects(list(array))


def is_of_pandas(values: Any) -> bool:
    """Whether this is of a class of pandas, or of one made from such a class."""
    return any(kind.__module__.partition(".")[0] == "pandas" for kind in type(values).__mro__)


def _from_pandas(values: Any) -> pl.Series:
    import pandas as pd

    if isinstance(values, pd.DataFrame):
        raise InputError("a frame stands where a column is wanted: name one of its columns")
    # An index, and an array such as `unique` gives, lack half of what a column has.
    column = values.to_series() if isinstance(values, pd.Index) else pd.Series(values)
    kind = column.dtype.kind
    # Polars' own way from pandas would need pyarrow.
    if isinstance(column.dtype, np.dtype) and kind in f"{_NUMERIC}m":
        return pl.Series(_in_known_units(column.to_numpy()))
    if kind == "M":
        zoned = getattr(column.dt, "tz", None) is not None
        plain = column.dt.tz_convert("UTC").dt.tz_localize(None) if zoned else column
        return pl.Series(_in_known_units(plain.to_numpy()))
    missing = column.isna().to_numpy()
    return _from_objects([None if none else value for value, none in zip(column, missing, strict=True)])


def _in_known_units(values: NDArray[Any]) -> NDArray[Any]:
    """The same; times and spans of whole seconds in milliseconds: polars knows no longer unit of both."""
    if values.dtype.kind in "mM" and np.datetime_data(values.dtype)[0] not in ("ms", "us", "ns"):
        return values.astype(f"{values.dtype.kind}8[ms]")
    return values


def _from_objects(values: list[Any]) -> pl.Series:
    types = {type(value) for value in values if value is not None}
    if all(issubclass(each, str) for each in types):
        return _texts([None if value is None else str(value) for value in values])
    if types == {int} or types == {float}:
        try:
            return pl.Series(values, dtype=pl.Int64 if types == {int} else pl.Float64)
        except (OverflowError, TypeError):
            pass
    return pl.Series(values, dtype=pl.Object)


def _texts(values: list[str | None]) -> pl.Series:
    """A column of texts.

    Raises:
        InputError: one holds half of a pair of surrogates, as of a file that was read with the wrong encoding.
    """
    try:
        return pl.Series(values, dtype=pl.String)
    except UnicodeEncodeError as error:
        row = next(row for row, value in enumerate(values) if value and _is_broken(value))
        raise InputError(
            f"{values[row]!r} in row {row + 1} is no Unicode text: read its file with the encoding it was written in"
        ) from error


def _is_broken(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def is_missing(column: pl.Series) -> pl.Series:
    """Where a column of ids or ratings holds nothing: null, NaN, or text such as NULL or "" that says so."""
    if column.dtype.is_float():
        return column.is_null() | column.is_nan()
    if column.dtype == pl.Object:
        return pl.Series([_is_nothing(value) for value in column], dtype=pl.Boolean)
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        return column.is_null() | column.str.strip_chars().is_in(_MISSING)
    return column.is_null()


def _is_nothing(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip() in _MISSING
    # Only what is missing differs from itself.
    return value is None or (isinstance(value, float) and value != value)


def plain_ids(column: pl.Series) -> pl.Series:
    """Ids as Int64, or else as String by `id_text`; null where there is none. Text stays text: its type says so."""
    dtype = column.dtype
    if dtype == pl.String or isinstance(dtype, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    if dtype.is_integer():
        numbers = column.cast(pl.Int64, strict=False)
        return numbers if numbers.null_count() == column.null_count() else column.cast(pl.String)
    if dtype == pl.Object:
        return whole_if_all(_texts([id_text(value) for value in column]))
    if dtype == pl.Boolean or dtype == pl.Null or dtype.is_nested():
        return pl.Series([None], dtype=pl.Int64).new_from_index(0, len(column))
    distinct = column.unique()
    # NumPy's own numbers: a float32 of 11.7 is not 11.7 as a Python float.
    values = distinct.to_numpy() if dtype.is_float() else distinct.to_list()
    known = pl.DataFrame({"id": distinct, "text": pl.Series([id_text(each) for each in values], dtype=pl.String)})
    found = column.alias("id").to_frame().join(known, on="id", how="left", maintain_order="left")
    return whole_if_all(found["text"])


def whole_if_all(texts: pl.Series) -> pl.Series:
    """Int64 if every text is a whole number as Python writes it, so that nothing is lost; else the texts."""
    numbers = texts.cast(pl.Int64, strict=False)
    lossless = numbers.null_count() == texts.null_count() and (numbers.cast(pl.String) == texts).all()
    return numbers if lossless else texts


def one_type(sides: Sequence[pl.Series]) -> list[pl.Series]:
    """Plain ids of several parts as one type: text where those of any part are text."""
    if all(each.dtype == pl.Int64 for each in sides):
        return list(sides)
    return [each.cast(pl.String) for each in sides]


def encode(column: pl.Series) -> tuple[NDArray[np.int64], pl.Series]:
    """Row numbers of plain ids, and the ids they stand for in rising order, whatever the order of the data."""
    if column.dtype == pl.Int64 and len(column):
        numbers = column.to_numpy()
        least, most = int(numbers.min()), int(numbers.max())
        if most - least < _PLACES_A_ROW * len(column):
            # A table of all numbers between takes less time than to hash and to sort.
            present = np.zeros(most - least + 1, dtype=bool)
            present[numbers - least] = True
            rows = np.cumsum(present) - 1
            return rows[numbers - least], pl.Series(column.name, np.flatnonzero(present) + least)
    ids = column.unique().sort()
    return rows_of(ids, column), ids


def rows_of(ids: pl.Series, wanted: Ids) -> NDArray[np.int64]:
    """(b,) the place of each wanted id among plain ids, −1 where it is not one of them."""
    asked = plain_ids(series_of(wanted))
    if asked.dtype != ids.dtype:
        ids, asked = (each.cast(pl.String) for each in (ids, asked))
    known = pl.DataFrame({"id": ids, "row": np.arange(len(ids), dtype=np.int64)})
    found = asked.alias("id").to_frame().join(known, on="id", how="left", maintain_order="left")
    return found["row"].fill_null(-1).to_numpy()


def numbers(column: pl.Series) -> pl.Series:
    """Float64, null where a value is no number."""
    if column.dtype == pl.Object:
        column = pl.Series([id_text(value) for value in column], dtype=pl.String)
    if column.dtype.is_nested() or column.dtype.is_temporal() or column.dtype == pl.Binary:
        return pl.Series([None], dtype=pl.Float64).new_from_index(0, len(column))
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    return column.cast(pl.Float64, strict=False).fill_nan(None)


def seconds(column: pl.Series) -> pl.Series:
    """Times as numbers: those of dates and ISO texts are seconds since 1970, UTC; null where there is no time.

    Int64 where all are whole, else Float64, so that nothing above a microsecond is cut.
    """
    if column.dtype == pl.Object:
        texts = [value.isoformat() if isinstance(value, date) else id_text(value) for value in column]
        column = pl.Series(texts, dtype=pl.String)
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        column = _from_text(column)
    if column.dtype in (pl.Date, pl.Datetime):
        ticks = column.dt.epoch("us")
        return ticks // _MICROSECONDS if (ticks % _MICROSECONDS == 0).all() else ticks / _MICROSECONDS
    if column.dtype.is_integer():
        whole = column.cast(pl.Int64, strict=False)
        if whole.null_count() == column.null_count():
            return whole
    if column.dtype == pl.Boolean:
        column = column.cast(pl.Null, strict=False)
    floats = numbers(column)
    floats = pl.select(pl.when(floats.is_finite()).then(floats)).to_series()
    whole = floats.cast(pl.Int64, strict=False)
    return whole if (whole.cast(pl.Float64) == floats).all() and whole.null_count() == floats.null_count() else floats


def are_dates(column: pl.Series) -> bool:
    """Whether times are told by dates or texts of them, and not by numbers."""
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    return column.dtype.is_temporal() or (
        column.dtype in (pl.String, pl.Object) and numbers(column).null_count() > column.null_count()
    )


def _from_text(column: pl.Series) -> pl.Series:
    """Numbers if all are, else the moments that ISO texts tell, null where one does not."""
    given = column.null_count()
    for kind in (pl.Int64, pl.Float64):
        found = column.cast(kind, strict=False)
        if found.null_count() == given:
            return found
    # A year of two digits is no year, and which of three numbers it is cannot be known.
    dated = pl.select(pl.when(column.str.contains(r"^\d{4}-")).then(column)).to_series()
    spaced = dated.str.replace(" UTC$", "Z").str.replace("[Tt]", " ")
    moments = [
        spaced.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC" if zoned else None)
        for form, zoned in _FORMATS
    ]
    return pl.select(pl.coalesce(each.dt.replace_time_zone(None) for each in moments)).to_series()


def refuse_rows(bad: pl.Series, what: str) -> None:
    """Refuse data of which any row is bad.

    Raises:
        InputError: naming the first such row, counted from 1.
    """
    if bad.any():
        raise InputError(f"{what} in row {int(bad.arg_max() or 0) + 1}: fix or remove these rows")
