from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from ciess.data import Interactions
from ciess.data.columns import is_missing, plain_ids, seconds, series_of
from ciess.data.ids import id_text
from ciess.errors import InputError


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Europe/Athens"])
def test_times_of_pandas_in_any_unit(unit: str, zone: str | None) -> None:
    """By hand: two in the morning in Athens is midnight, UTC."""
    moments = pd.Series(["1970-01-02 02:00:00", "1970-01-02 02:00:01", None]).astype(f"datetime64[{unit}]")
    late = 0 if zone else 7200
    found = seconds(series_of(moments.dt.tz_localize(zone) if zone else moments))
    assert found.to_list() == [86_400 + late, 86_401 + late, None]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_spans_of_time_are_neither_times_nor_ids(unit: str) -> None:
    spans = np.array([1, 2], dtype=f"timedelta64[{unit}]")
    for column in (series_of(pd.Series(spans)), series_of(spans)):
        assert plain_ids(column).to_list() == seconds(column).to_list() == [None, None]
    assert id_text(spans[0]) is None


@pytest.mark.parametrize("dtype", [pl.Categorical, pl.Enum(["1970-01-02", "1970-01-03"])])
def test_times_that_are_categories(dtype: pl.DataType) -> None:
    days = pl.Series(["1970-01-03", "1970-01-02", None], dtype=dtype)
    assert seconds(days).to_list() == [172_800, 86_400, None]
    assert seconds(pl.Series(["7", "9.5"], dtype=pl.Categorical)).to_list() == [7, 9.5]


@pytest.mark.parametrize(
    ("index", "ids"),
    [
        (pd.Index(["b", "a"]), ["b", "a"]),
        (pd.Index([7, 3]), [7, 3]),
        (pd.Index([7, "x"]), ["7", "x"]),
        (pd.MultiIndex.from_tuples([(1, 2), (3, 4)]), [None, None]),
    ],
)
def test_ids_of_an_index(index: "pd.Index[object]", ids: list[object]) -> None:
    assert plain_ids(series_of(index)).to_list() == ids


@pytest.mark.parametrize("text", ["05-04-14", "12-31-14 10:00", "1-2-24", "24-01-31"])
def test_a_year_has_four_digits(text: str) -> None:
    """By any of these three numbers first times would be in another order."""
    assert seconds(pl.Series(["2014-04-05", text])).to_list() == [1396656000, None]


@pytest.mark.parametrize("made", [pd.Series.unique, pd.array, pd.Index, pd.Series], ids=lambda made: made.__name__)
@pytest.mark.parametrize("kind", ["str", "category", "Int64", "object"])
def test_columns_of_pandas_come_in_many_classes(made: Any, kind: str) -> None:
    ids = [7, 3] if kind == "Int64" else ["b", "a"]
    assert series_of(made(pd.Series(ids, dtype=kind))).to_list() == ids


def test_a_frame_is_no_column() -> None:
    with pytest.raises(InputError, match="a frame stands where a column is wanted"):
        series_of(pd.DataFrame({"user": [1]}))


def test_a_frame_with_times_in_seconds() -> None:
    moments = np.array(["1970-01-02", "1970-01-01"], dtype="datetime64[s]")
    found = Interactions.from_frame(pd.DataFrame({"user": [1, 2], "item": [3, 4], "time": moments}), time="time")
    assert found.times is not None
    assert found.times.tolist() == [86_400, 0]


@pytest.mark.parametrize("name", ["Nat", "Nan", "Null", "nat", "  Nan"])
def test_names_of_people_are_ids(name: str) -> None:
    assert not is_missing(pl.Series([name, "x"])).any()
    assert not is_missing(pl.Series([name, 3], dtype=pl.Object)).any()


@pytest.mark.parametrize("nothing", [" ", "\t", "NaT", "<NA>", " NULL "])
def test_spaces_alone_are_no_id(nothing: str) -> None:
    for column in (pl.Series([nothing, "x"]), pl.Series([nothing, 3], dtype=pl.Object)):
        assert is_missing(column).to_list() == [True, False]


def test_halves_of_surrogates_are_no_text() -> None:
    """As pandas reads with `encoding_errors="surrogateescape"`."""
    for other in ("a", 3):
        with pytest.raises(InputError, match=r"'caf\\udce9' in row 2 is no Unicode text"):
            Interactions.of(pd.DataFrame({"user": [other, "caf\udce9"], "item": [1, 2]}))


def test_what_is_masked_is_missing() -> None:
    masked = np.ma.array([1, 2, 3], mask=[0, 1, 0])
    assert is_missing(series_of(masked)).to_list() == [False, True, False]


def test_the_letter_before_the_time_of_a_day_may_be_small() -> None:
    assert seconds(pl.Series(["2024-01-31t12:00:00Z"])).to_list() == [1_706_702_400]
