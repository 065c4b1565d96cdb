import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciess.data.columns import whole_if_all
from ciess.data.ids import RowIds, TextIds, WholeIds, id_text, whole_number
from ciess.errors import InputError

WHOLE = st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=40)
TEXTS = st.lists(st.text(max_size=6), unique=True, max_size=40)


@given(WHOLE | TEXTS)
def test_every_id_is_found_and_given_back(ids: list) -> None:
    index = RowIds.of(np.array(ids, dtype=object if ids and isinstance(ids[0], str) else None))
    again = RowIds.from_arrays(index.arrays)
    for each in (index, again):
        assert each.rows(ids).tolist() == list(range(len(ids)))
        assert each.take(np.arange(len(ids))).tolist() == ids


@given(WHOLE, st.lists(st.integers(-(2**70), 2**70), max_size=10))
def test_whole_numbers_that_are_none_of_the_ids_are_unknown(ids: list[int], asked: list[int]) -> None:
    index = RowIds.of(np.array(ids, dtype=np.int64))
    expected = [ids.index(each) if each in ids else -1 for each in asked]
    assert index.rows(np.array(asked, dtype=object)).tolist() == expected


def test_whole_numbers_may_be_asked_for_as_text() -> None:
    index = RowIds.of(np.array([30, 10, 20]))
    assert isinstance(index, WholeIds)
    asked = ["10", "x", 20.0, 20.5, None, True, float("nan"), "30", "010", "+10", " 10", "10.0", "1e1", 2**70]
    expected = [1, -1, 2, -1, -1, -1, -1, 0, *[-1] * 6]
    assert index.rows(asked).tolist() == index.rows(np.array(asked, dtype=object)).tolist() == expected


def test_each_id_of_a_list_keeps_its_type() -> None:
    """NumPy by itself makes text "3.0" of 3.0 beside text, and floats that have lost digits of large numbers."""
    index = RowIds.of(["3", "a", str(2**63 + 1)])
    assert index.rows([3.0, "a"]).tolist() == [0, 1]
    assert index.rows([3, 2**63 + 1]).tolist() == [0, 2]
    assert index.rows([3.0, 2**63 + 1]).tolist() == [0, 2]
    assert index.rows([(1, 2), (3,)]).tolist() == [-1, -1]
    assert index.rows(3).tolist() == [0]
    assert index.rows({1: "a", 2: "3"}.values()).tolist() == [1, 0]


@pytest.mark.parametrize(
    "asked",
    [
        pd.Series([2**60 + 1, None], dtype="Int64"),
        pd.array([2**60 + 1, None], dtype="Int64"),
        pl.Series([2**60 + 1, None]),
        pl.Series([2**60 + 1, None], dtype=pl.Int128),
    ],
    ids=["pandas", "an array of pandas", "polars", "128 bits"],
)
def test_one_id_that_is_missing_changes_no_other(asked: Any) -> None:
    """NumPy by itself makes floats of these, which hold no such numbers."""
    assert RowIds.of([7, 2**60 + 1, 2**60]).rows(asked).tolist() == [1, -1]


@given(st.integers(-(2**53) + 1, 2**53 - 1))
def test_a_number_is_one_id_whatever_its_type(number: int) -> None:
    same = [number, str(number), float(number), np.int64(number), np.float64(number), Decimal(number)]
    assert {id_text(each) for each in same} == {str(number)}
    assert whole_number(str(number)) == number
    assert whole_number(f"0{number}") is None


@given(st.lists(st.text("0123456789+-. eE", max_size=4), min_size=1, max_size=8))
def test_tables_and_models_go_by_one_rule(texts: list[str]) -> None:
    """Texts become whole numbers in a column exactly if each is one by itself."""
    numbers = [whole_number(text) for text in texts]
    found = whole_if_all(pl.Series(texts, dtype=pl.String))
    assert found.to_list() == (texts if None in numbers else numbers)


def test_numbers_that_may_have_lost_digits_are_no_ids() -> None:
    assert whole_number(str(2**63 - 1)) == 2**63 - 1
    assert whole_number(str(-(2**63))) == -(2**63)
    assert whole_number(str(2**63)) is None
    assert (id_text(2.0**53 - 1), id_text(2.0**53)) == (str(2**53 - 1), None)
    assert (id_text(np.float32(2**24 - 1)), id_text(np.float32(2**24))) == (str(2**24 - 1), None)


def test_what_is_no_id_is_unknown_even_among_0_and_empty_text() -> None:
    assert RowIds.of(np.array([0, 1])).rows(["x", None, 0]).tolist() == [-1, -1, 0]
    assert RowIds.of(["", "a"]).rows([None, True, ""]).tolist() == [-1, -1, 0]


def test_what_is_no_id_is_refused() -> None:
    with pytest.raises(InputError, match="True is no id: give whole numbers or text"):
        RowIds.of(["a", True])


def test_ids_of_other_kinds_are_their_texts() -> None:
    days = np.array([datetime.date(2020, 5, 17), datetime.date(2020, 5, 16)], dtype="datetime64[D]")
    index = RowIds.of(days)
    assert isinstance(index, TextIds)
    assert index.take(np.array([0])).tolist() == ["2020-05-17"]
    assert index.rows(days).tolist() == [0, 1]
    large = RowIds.of(np.array([2**64 - 1, 3], dtype=np.uint64))
    assert large.rows(np.array([3, 2**64 - 1], dtype=np.uint64)).tolist() == [1, 0]


def test_ids_keep_the_shape_that_they_are_asked_in() -> None:
    index = RowIds.of(np.array(["b", "äö", ""], dtype=object))
    assert index.take(np.array([[0, 1], [2, 0]])).tolist() == [["b", "äö"], ["", "b"]]


@pytest.mark.parametrize("part", ["order", "ends"])
def test_arrays_that_do_not_belong_together_are_refused(part: str) -> None:
    arrays = RowIds.of(np.array(["a", "bc"], dtype=object)).arrays
    arrays[part] = arrays[part][:-1]
    with pytest.raises(ValueError, match="do not match"):
        RowIds.from_arrays(arrays)


@pytest.mark.parametrize("order", [[0, 1, -1], [0, 1, 3], [1, 0, 2]])
def test_an_order_that_is_none_is_refused(order: list[int]) -> None:
    """Row -1 would be the last one where it is read, and none where it is found."""
    with pytest.raises(ValueError, match=r"the order of ids|in the order that is told"):
        WholeIds(np.array(order), np.array([10, 20, 30])).check()
