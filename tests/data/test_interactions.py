from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import bsr_array, coo_array, coo_matrix, csc_array, csr_array

from ciess.data import Interactions, interactions_of
from ciess.data.columns import encode
from ciess.data.ids import RowIds
from ciess.errors import InputError

PAIRS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 6)), min_size=1, max_size=60)


def pairs(interactions: Interactions) -> set[tuple[object, object]]:
    return {
        (interactions.user_ids[int(user)], interactions.item_ids[int(item)])
        for user, item in zip(interactions.users, interactions.items, strict=True)
    }


@given(PAIRS)
def test_frames_and_matrices_give_the_same_interactions(drawn: list[tuple[int, int]]) -> None:
    users, items = (np.array(side) for side in zip(*drawn, strict=True))
    from_frame = Interactions.from_frame(pl.DataFrame({"user": users, "item": items}))
    from_matrix = Interactions.from_matrix(coo_matrix((np.ones(len(users)), (users, items)), shape=(9, 7)))
    assert pairs(from_frame) == pairs(from_matrix) == set(drawn)
    for data in (
        from_frame,
        pl.DataFrame({"user": users, "item": items}),
        pd.DataFrame({"user": users, "item": items}),
        coo_matrix((np.ones(len(users)), (users, items))),
        csr_array((np.ones(len(users)), (users, items))),
    ):
        assert pairs(Interactions.of(data)) == set(drawn)
    assert len(from_frame) == len(set(drawn)), "duplicates are merged"
    assert from_frame.matrix.has_sorted_indices
    assert from_matrix.matrix.indices.dtype == from_matrix.matrix.indptr.dtype == np.int32
    assert from_frame.user_counts.sum() == from_frame.item_counts.sum() == len(from_frame)


def test_ids_of_any_type_in_the_order_of_their_values() -> None:
    frame = pd.DataFrame({"userId": ["b", "a", "b"], "movieId": [10, 9, 2]})
    interactions = Interactions.from_frame(frame)
    assert interactions.user_ids.to_list() == ["a", "b"]
    assert interactions.item_ids.to_list() == [2, 9, 10]
    assert pairs(interactions) == {("b", 10), ("a", 9), ("b", 2)}


def test_rows_of_ids() -> None:
    interactions = Interactions.from_frame(pl.DataFrame({"user": ["b", "a"], "item": [5, 7]}))
    assert interactions.user_rows(["b", "nobody", "a", "b"]).tolist() == [1, -1, 0, 1]
    assert interactions.item_rows(np.array([7, 6])).tolist() == [1, -1]
    assert interactions.item_rows(["7", "x"]).tolist() == [1, -1], "ids from a command line are text"


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.Series([3.0, 7.0, np.nan])[:2], [3, 7]),
        (pd.Series([3, 7], dtype="Int64"), [3, 7]),
        (pd.Series([7, 3], dtype="category"), [7, 3]),
        (pd.Series([2.5, 3.0]), ["2.5", "3"]),
        (pd.Series([np.float32(11.7), 3], dtype="float32"), ["11.7", "3"]),
        (pd.Series([12345678901234567890, 3], dtype="uint64"), ["12345678901234567890", "3"]),
        (pd.Series([10**19, 3, "x"][:2], dtype=object), ["10000000000000000000", "3"]),
        (pd.Series([1, "a"], dtype=object), ["1", "a"]),
        (pd.Series(["07", "7"], dtype="string"), ["07", "7"]),
        (pd.Series([UUID(int=1), UUID(int=2)]), [str(UUID(int=1)), str(UUID(int=2))]),
        (pd.Series([date(2024, 1, 31), date(2024, 2, 1)]), ["2024-01-31", "2024-02-01"]),
        (pd.Series([Decimal("3.00"), Decimal(4)]), [3, 4]),
        (pd.Series([Decimal("3.50"), Decimal(4)]), ["3.5", "4"]),
        (pd.Series([b"ab", b"c"]), ["ab", "c"]),
        (pl.Series([Decimal("3.00"), Decimal("4.00")]), [3, 4]),
        (pl.Series(["b", "a"], dtype=pl.Categorical), ["b", "a"]),
        (pl.Series([b"ab", b"c"]), ["ab", "c"]),
        (pl.Series([2**63, 1], dtype=pl.UInt64), [str(2**63), "1"]),
    ],
    ids=lambda each: f"{type(each).__module__.split('.')[0]}-{getattr(each, 'dtype', '')}",
)
def test_ids_of_every_type_are_whole_numbers_or_texts(column: pd.Series | pl.Series, expected: list[object]) -> None:
    table = {"user": column, "item": [1, 2]}
    frame = pl.DataFrame(table) if isinstance(column, pl.Series) else pd.DataFrame(table)
    found = Interactions.from_frame(frame)
    assert pairs(found) == set(zip(expected, [1, 2], strict=True))
    rows = found.user_rows(expected).tolist()
    assert min(rows) >= 0
    assert found.user_rows(column).tolist() == rows, "asked for as they were given"
    assert RowIds.of(found.user_ids.to_numpy()).rows(column.to_numpy()).tolist() == rows, "by a model too"


@pytest.mark.parametrize(
    "column",
    [
        [(1, "a"), (2, "b")],
        [True, False],
        [datetime(2024, 1, 1), datetime(2024, 1, 2)],
        [pd.Period("2024-01"), pd.Period("2024-02")],
        [timedelta(1), timedelta(2)],
        [b"\xff", b"a"],
        [{1}, {2}],
    ],
    ids=lambda each: type(each[0]).__name__,
)
def test_what_is_no_id_is_refused(column: list[object]) -> None:
    with pytest.raises(InputError, match="column 'user' holds what is neither whole number nor text in row 1"):
        Interactions.from_frame(pd.DataFrame({"user": column, "item": [1, 2]}))


def test_columns_of_a_frame_are_named_as_pandas_names_them() -> None:
    numbered = pd.DataFrame({0: [1, 2], 1: [3, 4], "note": [{"a": 1}, None]})
    assert pairs(Interactions.from_frame(numbered, user=0, item=1)) == {(1, 3), (2, 4)}
    twice = pd.DataFrame([[1, 2, 3]], columns=["user", "item", "item"])
    with pytest.raises(InputError, match="2 columns are called 'item': rename all but one"):
        Interactions.from_frame(twice)
    with pytest.raises(InputError, match="no column of users"):
        Interactions.from_frame(
            pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "user"), ("a", "item")]))
        )


def test_ratings_below_the_least_are_left_out_and_the_earliest_time_counts() -> None:
    frame = pl.DataFrame(
        {"user": [1, 1, 1, 2], "item": [1, 1, 2, 2], "rating": [4.0, 5.0, 3.0, 4.5], "timestamp": [30, 20, 10, 5]}
    )
    interactions = Interactions.from_frame(frame, min_rating=4)
    assert pairs(interactions) == {(1, 1), (2, 2)}
    assert interactions.times is not None
    assert interactions.times.tolist() == [20, 5]


@pytest.mark.parametrize(
    "moment",
    [
        date(1970, 1, 2),
        datetime(1970, 1, 2),
        datetime(1970, 1, 2, tzinfo=UTC),
        pd.Timestamp("1970-01-02 02:00", tz="Europe/Athens"),
        "1970-01-02",
        "1970-01-02 00:00",
        "1970-01-02 00:00:00",
        "1970-01-02T01:00:00.0+01:00",
        "1970-01-02T00:00Z",
        "1970-01-02 00:00:00 UTC",
        "86400",
        "8.64e4",
        86_400.0,
    ],
)
def test_dates_become_seconds(moment: object) -> None:
    for frame in (pl.DataFrame, pd.DataFrame):
        times = Interactions.from_frame(frame({"user": [1], "item": [1], "date": [moment]})).times
        assert times is not None
        assert times.tolist() == [86_400]
        assert times.dtype == np.int64


@pytest.mark.parametrize("unit", ["text", "dates", "numbers"])
def test_times_keep_what_is_below_a_second(unit: str) -> None:
    texts = ["1970-01-01T00:00:09.100Z", "1970-01-01T00:00:09.900Z", "1970-01-01T00:00:09Z"]
    columns = {"text": texts, "dates": pd.to_datetime(texts, format="ISO8601"), "numbers": [9.1, 9.9, 9.0]}
    times = Interactions.from_frame(pd.DataFrame({"user": [1] * 3, "item": [1, 2, 3], "time": columns[unit]})).times
    assert times is not None
    assert times.tolist() == [9.1, 9.9, 9.0]


def test_of_two_columns_of_times_none_is_guessed() -> None:
    frame = pl.DataFrame({"user": [1], "item": [1], "date": [5], "timestamp": [6]})
    assert Interactions.from_frame(frame).times is None
    assert Interactions.from_frame(frame, time="timestamp").times.tolist() == [6]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"user": [1, None], "item": [1, 2]}, "column 'user' holds no id in row 2"),
        ({"user": [1.0, float("nan")], "item": [1, 2]}, "column 'user' holds no id in row 2"),
        ({"user": ["a", "NULL"], "item": [1, 2]}, "column 'user' holds no id in row 2"),
        ({"user": ["", "a"], "item": [1, 2]}, "column 'user' holds no id in row 1"),
        ({"user": [True, False], "item": [1, 2]}, "column 'user' holds what is neither whole number nor text in row 1"),
        ({"user": [[1], [2]], "item": [1, 2]}, "column 'user' holds what is neither whole number nor text in row 1"),
        ({"user": [1.5, 2.0**53], "item": [1, 2]}, "column 'user' holds a float that is no exact id in row 2"),
        ({"user": pl.Series([1, 2**24], dtype=pl.Float32), "item": [1, 2]}, "a float that is no exact id in row 2"),
        ({"user": [1, 2], "User ID": [1, 2], "item": [1, 2]}, "columns 'user' and 'User ID' may all be the users'"),
        ({"who": [1], "item": [1]}, "no column of users is known among who, item"),
        ({"user": [], "item": []}, "no interactions"),
    ],
)
def test_bad_frames_are_refused(frame: dict[str, list[object]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Interactions.from_frame(pl.DataFrame(frame, strict=False))


@pytest.mark.parametrize(
    ("column", "options", "message"),
    [
        ({"rating": [float("nan"), 1.0]}, {"min_rating": 1}, "column 'rating' holds no rating in row 1"),
        ({"rating": ["4", "good"]}, {"min_rating": 1}, "column 'rating' holds no rating in row 2"),
        ({"rating": [True, False]}, {"min_rating": 1}, "column 'rating' holds true and false, no ratings"),
        ({"time": ["2024-01-31", "noon"]}, {"time": "time"}, "column 'time' holds no number, date .* in row 2"),
        ({"date": ["1/31/2024", "2/1/2024"]}, {"time": "date"}, "column 'date' holds no number, date .* in row 1"),
    ],
)
def test_columns_are_refused_where_they_are_asked_for_and_only_there(
    column: dict[str, list[object]], options: dict[str, object], message: str
) -> None:
    frame = pl.DataFrame({"user": [1, 2], "item": [3, 4], **column})
    found = Interactions.from_frame(frame)
    assert pairs(found) == {(1, 3), (2, 4)}
    assert found.times is None
    with pytest.raises(InputError, match=message):
        Interactions.from_frame(frame, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("named", [{"item": "user"}, {"user": "item"}, {"user": "user", "item": "user"}])
def test_one_column_is_not_both_users_and_items(named: dict[str, str]) -> None:
    frame = pl.DataFrame({"user": [1, 2], "item": [3, 4]})
    with pytest.raises(InputError, match=r"column '(user|item)' is named as that of users and of items: name that of"):
        Interactions.from_frame(frame, **named)  # type: ignore[arg-type]
    assert pairs(Interactions.from_frame(frame, user="item", item="user")) == {(3, 1), (4, 2)}


def test_missing_columns_are_named() -> None:
    frame = pl.DataFrame({"user": [1], "item": [1]})
    with pytest.raises(InputError, match="no column 'buyer' among user, item"):
        Interactions.from_frame(frame, user="buyer")
    with pytest.raises(InputError, match="needs a rating column; found user, item: name it, rating=NAME"):
        Interactions.from_frame(frame, min_rating=3)


@pytest.mark.parametrize("value", [-1.0, np.nan])
def test_bad_matrices_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="negative or not numbers"):
        Interactions.from_matrix(csr_array(np.array([[1.0, value]])))
    with pytest.raises(InputError, match="negative or not numbers"):
        Interactions.from_matrix(coo_array(([value, 2.0], ([0, 0], [0, 0])), shape=(2, 2)))


def test_ids_must_be_unique_and_enough(tiny: Interactions) -> None:
    matrix = tiny.matrix
    with pytest.raises(InputError, match="2 user ids for 3 users"):
        Interactions(matrix, tiny.user_ids[:2], tiny.item_ids)
    with pytest.raises(InputError, match="item ids are missing or repeated"):
        Interactions(matrix, tiny.user_ids, pl.Series([1, 1, 2, 3]))
    with pytest.raises(InputError, match="5 times for 6"):
        Interactions(matrix, tiny.user_ids, tiny.item_ids, np.arange(5))
    with pytest.raises(InputError, match="no interactions"):
        Interactions.from_matrix(csr_array((3, 4)))


def test_a_matrix_in_any_form_is_brought_into_order() -> None:
    """User 0 has items 2 and 0, unsorted; user 1 has item 1 twice, and a zero at item 2 that is none."""
    matrix = csr_array((np.array([1.0, 3.0, 1, 1, 0]), np.array([2, 0, 1, 1, 2]), np.array([0, 2, 5])), shape=(2, 3))
    found = Interactions(matrix, ["b", "a"], [7, 8, 9], np.array([20, 10, 1, 2, 3]))  # type: ignore[arg-type]
    assert found.matrix.toarray().tolist() == [[1, 0, 1], [0, 1, 0]]
    assert found.matrix.has_canonical_format
    assert found.times is not None
    assert found.times.tolist() == [10, 20, 1], "of a pair that comes twice the earliest"
    assert matrix.nnz == 5, "what is given is left as it is"


@pytest.mark.parametrize("form", ["coo", "csc"])
def test_times_belong_to_the_values_of_any_matrix(form: str) -> None:
    """A log in the order of its times; the pair (1, 0) comes twice, and one value is no interaction."""
    users, items = np.array([1, 0, 1, 0, 1, 0, 1]), np.array([0, 2, 1, 1, 2, 0, 0])
    ones, times = np.array([1, 1, 1, 1, 1, 0, 1]), np.arange(100, 107)
    matrix = coo_array((ones, (users, items)), shape=(2, 3))
    if form == "csc":
        # No value twice there; its values are in order of columns.
        order = np.lexsort((users, items))[[0, 1, 3, 4, 5, 6]]
        times = times[order]
        offsets = np.array([0, 2, 4, 6])
        matrix = csc_array((ones[order], users[order], offsets), shape=(2, 3))
    found = Interactions(matrix, pl.Series(["a", "b"]), pl.Series(["x", "y", "z"]), times)
    known = dict(zip(zip(found.users.tolist(), found.items.tolist(), strict=True), found.times.tolist(), strict=True))  # type: ignore[union-attr]
    assert known == {(0, 1): 103, (0, 2): 101, (1, 0): 100, (1, 1): 102, (1, 2): 104}


@pytest.mark.parametrize(
    ("dtype", "value", "n"),
    [("uint8", 1, 256), ("int8", 64, 4), ("int64", 2**62, 4), ("bool", 1, 2)],
)
@pytest.mark.parametrize("form", ["coo", "bsr", "csr", "csc"])
def test_a_pair_that_comes_often_does_not_vanish(dtype: str, value: float, n: int, form: str) -> None:
    """By hand: but for truth values, the sums are 0 in the matrix' own type."""
    data, places, offsets = np.full(n, value, dtype=dtype), np.zeros(n, dtype=np.int32), np.array([0, n])
    matrix = {
        "coo": lambda: coo_array((data, (places, places)), shape=(1, 1)),
        "bsr": lambda: bsr_array((data.reshape(-1, 1, 1), places, offsets), shape=(1, 1)),
        "csr": lambda: csr_array((data, places, offsets), shape=(1, 1)),
        "csc": lambda: csc_array((data, places, offsets), shape=(1, 1)),
    }[form]()
    assert pairs(Interactions.from_matrix(matrix)) == {(0, 0)}


def test_indices_beyond_the_matrix_are_refused() -> None:
    matrix = csr_array((np.ones(1), np.array([0]), np.array([0, 1])), shape=(1, 2))
    matrix.indices[0] = 5
    with pytest.raises(InputError, match="no valid CSR matrix"):
        Interactions(matrix, [0], [0, 1])  # type: ignore[arg-type]


@pytest.mark.parametrize("matrix", [coo_array(np.array([1, 2])), csr_array(np.array([[1j]])), csr_array([[np.inf]])])
def test_matrices_of_other_kinds_are_refused(matrix: csr_array) -> None:
    with pytest.raises(InputError, match=r"dimension|not numbers"):
        Interactions.of(matrix)


def test_a_path_stands_for_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("user,item\n1,2\n")
    assert pairs(interactions_of(tmp_path / "own.csv")) == pairs(interactions_of(str(tmp_path / "own.csv"))) == {(1, 2)}
    with pytest.raises(InputError, match="nowhere does not exist"):
        interactions_of("nowhere")


def test_k_core_by_hand() -> None:
    """Item 3 has one user; without it user 2 has one item; what is left are users 0, 1 with items 0, 1."""
    users, items = [0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 1, 3]
    core = Interactions.from_frame(pl.DataFrame({"user": users, "item": items})).k_core(2)
    assert pairs(core) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    with pytest.raises(InputError, match="lower the k-core"):
        core.k_core(3)


@given(PAIRS, st.integers(1, 4))
def test_everyone_in_a_k_core_has_k(drawn: list[tuple[int, int]], k: int) -> None:
    users, items = zip(*drawn, strict=True)
    everything = Interactions.from_frame(pl.DataFrame({"user": users, "item": items}))
    try:
        core = everything.k_core(k)
    except InputError:
        return
    assert core.user_counts.min() >= k
    assert core.item_counts.min() >= k
    assert pairs(core) <= pairs(everything)


def test_interactions_over_other_ids_are_not_joined_row_by_row() -> None:
    one, other = (Interactions.from_frame(pl.DataFrame({"user": [user], "item": ["x"]})) for user in ("ann", "cid"))
    with pytest.raises(InputError, match="over other users or items cannot be joined"):
        one.union(other)


@pytest.mark.parametrize("library", [pl.DataFrame, pd.DataFrame])
def test_a_threshold_with_decimals_keeps_ratings_of_few_bits_that_equal_it(library: Any) -> None:
    ratings = np.array([4.1, 4.2, 4.0], dtype=np.float32)
    frame = library({"user": [1, 2, 3], "item": [1, 1, 1], "rating": ratings})
    assert len(Interactions.from_frame(frame, min_rating=4.1)) == 2
    for odd in (float("nan"), True, [4]):
        with pytest.raises(InputError, match="min_rating is"):
            Interactions.from_frame(frame, min_rating=odd)


class Frame(pd.DataFrame):
    """As other libraries make their own of pandas' frames."""


def test_frames_made_from_pandas_are_frames() -> None:
    assert len(Interactions.of(Frame({"user": [1, 2], "item": [3, 3]}))) == 2


@given(PAIRS, st.integers(0, 99))
def test_taking_apart_and_joining_again(drawn: list[tuple[int, int]], seed: int) -> None:
    users, items = zip(*drawn, strict=True)
    times = list(range(len(drawn)))
    everything = Interactions.from_frame(pl.DataFrame({"user": users, "item": items, "time": times}))
    some = np.random.default_rng(seed).random(len(everything)) < 0.5
    if 0 < some.sum() < len(some):
        joined = everything.take(some).union(everything.take(~some))
        assert (joined.matrix != everything.matrix).nnz == 0
        assert joined.times is not None
        np.testing.assert_array_equal(joined.times, everything.times)


@pytest.mark.parametrize(
    "data",
    [
        [(1, 2)],
        np.ones((2, 2)),
        pl.LazyFrame({"user": [1], "item": [2]}),
        pd.Series([1, 2, 3]),
        pd.Index([1, 2]),
        pd.DataFrame({"user": [1], "item": [2]}).groupby("user"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_holds_no_interactions_is_named(data: object) -> None:
    with pytest.raises(InputError, match=f"of type {type(data).__name__}: give"):
        Interactions.of(data)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"of type {type(data).__name__}: give a polars or pandas frame"):
        Interactions.from_frame(data)


@given(st.integers(0, 10_000), st.booleans())
def test_pairs_are_put_in_order_and_the_earliest_time_counts(seed: int, timed: bool) -> None:
    rng = np.random.default_rng(seed)
    n, n_users, n_items = rng.integers(1, 60), 7, 300
    users, items = rng.integers(0, n_users, n), rng.integers(0, n_items, n) // rng.choice([1, 100])
    times = rng.integers(0, 5, n) if timed else None
    if rng.random() < 0.3:
        order = np.lexsort((items, users))
        users, items, times = users[order], items[order], None if times is None else times[order]
    found = Interactions.from_pairs(users, items, pl.Series(range(n_users)), pl.Series(range(n_items)), times)
    earliest: dict[tuple[int, int], int] = {}
    for user, item, time in zip(users.tolist(), items.tolist(), np.zeros(n) if times is None else times, strict=True):
        earliest[user, item] = min(earliest.get((user, item), 9), int(time))
    assert list(zip(found.users, found.items, strict=True)) == sorted(earliest)
    if timed:
        assert found.times is not None
        assert found.times.tolist() == [earliest[pair] for pair in sorted(earliest)]


@pytest.mark.parametrize("ids", [[3, 1, 3, -2, 7], [3, 1, 3, -(2**62), 2**62], ["b", "a", "b", "", "é"]])
def test_ids_are_numbered_in_rising_order(ids: list[object]) -> None:
    rows, known = encode(pl.Series("user", ids))
    assert known.to_list() == sorted(set(ids))  # type: ignore[type-var]
    assert known[rows].to_list() == ids
    assert known.name == "user"
