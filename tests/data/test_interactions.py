from datetime import datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_matrix, csr_array

from ciess.data import Interactions
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


def test_ratings_below_the_least_are_left_out_and_the_latest_time_counts() -> None:
    frame = pl.DataFrame(
        {"user": [1, 1, 1, 2], "item": [1, 1, 2, 2], "rating": [4.0, 5.0, 3.0, 4.5], "timestamp": [30, 20, 10, 5]}
    )
    interactions = Interactions.from_frame(frame, min_rating=4)
    assert pairs(interactions) == {(1, 1), (2, 2)}
    assert interactions.times is not None
    assert interactions.times.tolist() == [30, 5]


@pytest.mark.parametrize("date", [datetime(1970, 1, 2), "1970-01-02", "1970-01-02 00:00:00", "86400"])
def test_dates_become_seconds(date: datetime | str) -> None:
    frame = pl.DataFrame({"user": [1], "item": [1], "date": [date]})
    times = Interactions.from_frame(frame).times
    assert times is not None
    assert times.tolist() == [86_400]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"user": [1, None], "item": [1, 2]}, "column 'user' holds no id in row 2"),
        ({"user": [1.0, float("nan")], "item": [1, 2]}, "column 'user' holds no id in row 2"),
        ({"user": [1, 2], "item": [1, 2], "rating": [1.0, -1.0]}, "no rating of 0 or more in row 2"),
        ({"user": [1, 2], "item": [1, 2], "rating": [float("nan"), 1.0]}, "no rating of 0 or more in row 1"),
        ({"user": [1, 2], "item": [1, 2], "rating": ["4", "good"]}, "no rating of 0 or more in row 2"),
        ({"user": [1], "item": [1], "time": ["noon"]}, "holds no time in row 1"),
        ({"user": [1, 1], "item": [1, 2], "time": ["2024-01-31", "noon"]}, "holds no time in row 2"),
        ({"who": [1], "item": [1]}, "no column of users is known among who, item"),
        ({"user": [], "item": []}, "no interactions"),
    ],
)
def test_bad_frames_are_refused(frame: dict[str, list[object]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Interactions.from_frame(pl.DataFrame(frame, strict=False))


def test_missing_columns_are_named() -> None:
    frame = pl.DataFrame({"user": [1], "item": [1]})
    with pytest.raises(InputError, match="no column 'buyer' among user, item"):
        Interactions.from_frame(frame, user="buyer")
    with pytest.raises(InputError, match="no rating column"):
        Interactions.from_frame(frame, min_rating=3)


@pytest.mark.parametrize("value", [-1.0, np.nan])
def test_bad_matrices_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="negative or not numbers"):
        Interactions.from_matrix(csr_array(np.array([[1.0, value]])))


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


@pytest.mark.parametrize("data", [[(1, 2)], "ratings.csv", np.ones((2, 2)), pl.LazyFrame({"user": [1], "item": [2]})])
def test_what_holds_no_interactions_is_named(data: object) -> None:
    with pytest.raises(InputError, match=f"of type {type(data).__name__}: give"):
        Interactions.of(data)  # type: ignore[arg-type]
