import logging
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from ciess.data import Interactions, Split, read, split_by_time, split_given, split_last, split_random
from ciess.errors import InputError


def timed(users: list[int], items: list[int], times: list[int]) -> Interactions:
    return Interactions.from_frame(pl.DataFrame({"user": users, "item": items, "time": times}))


def parts(split: Split) -> list[Interactions]:
    return [split.train, split.valid, *([split.test] if split.test else [])]


def ids_of(part: Interactions) -> tuple[pl.Series, pl.Series]:
    return part.user_ids, part.item_ids


def items_of(part: Interactions | None, user: int) -> list[int]:
    assert part is not None
    return part.item_ids[part.matrix[[user]].indices].to_list()


@given(st.integers(0, 10_000), st.sampled_from([(0.5, 0.25, 0.25), (0.8, 0.2, 0.0), (0.1, 0.6, 0.3)]))
def test_random_parts_share_every_user_out(seed: int, ratios: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.random((12, 30)) < rng.random((12, 1))
    dense[0, :8] = True
    everything = Interactions.from_matrix(csr_array(dense.astype(float)))
    split = split_random(everything, ratios, seed)
    together = sum(part.matrix for part in parts(split))
    assert (together != everything.matrix).nnz == 0
    counts = everything.user_counts
    train = np.floor(counts * ratios[0] + 0.5)
    np.testing.assert_array_equal(split.train.user_counts, np.where(counts > 0, np.maximum(train, 1), 0))
    assert (split.test is None) == (ratios[2] == 0)


def test_ten_interactions_are_split_five_three_two() -> None:
    everything = Interactions.from_frame(pl.DataFrame({"user": [0] * 10, "item": list(range(10))}))
    assert [len(part) for part in parts(split_random(everything))] == [5, 3, 2]


def test_seeds_repeat_and_differ(split: Split) -> None:
    everything = split.train_valid()
    first, again, other = (split_random(everything, seed=seed).train.items for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@given(st.integers(0, 10_000))
def test_a_seed_orders_each_user_by_what_it_draws(seed: int) -> None:
    rng = np.random.default_rng(seed)
    everything = Interactions.from_matrix(csr_array((rng.random((9, 40)) < rng.random((9, 1))) | (np.arange(40) < 2)))
    order = np.lexsort((np.random.default_rng(seed).random(len(everything)), everything.users))
    train = split_random(everything, seed=seed).train
    for user, first in enumerate(everything.matrix.indptr[:-1]):
        own = order[first : first + train.user_counts[user]]
        assert np.sort(everything.items[own]).tolist() == train.matrix[[user]].indices.tolist()


def test_every_place_is_as_likely_as_any_other() -> None:
    everything = Interactions.from_frame(pl.DataFrame({"user": [0] * 8, "item": list(range(8))}))
    in_train = sum(split_random(everything, seed=seed).train.matrix.toarray() for seed in range(2_000)) / 2_000
    np.testing.assert_allclose(in_train, 0.5, atol=5 * 0.5 / 2_000**0.5)


def test_the_last_ones_by_hand() -> None:
    data = timed([0] * 4 + [1] * 2, [0, 1, 2, 3, 0, 1], [40, 10, 30, 20, 1, 2])
    split = split_last(data)
    assert items_of(split.test, 0) == [0]
    assert items_of(split.valid, 0) == [2]
    assert items_of(split.train, 0) == [1, 3]
    assert items_of(split.train, 1) == [0, 1], "too few to hold out"


def test_cuts_in_time_by_hand() -> None:
    data = timed([0, 0, 1, 1], [0, 1, 0, 1], [4, 1, 2, 3])
    split = split_by_time(data)
    assert [len(part) for part in parts(split)] == [2, 1, 1]
    assert items_of(split.test, 0) == [0]
    assert items_of(split.valid, 1) == [1]


def test_given_parts_are_brought_onto_the_ids_of_all(caplog: pytest.LogCaptureFixture) -> None:
    train = timed([5, 5, 6], [1, 2, 2], [0, 1, 2])
    valid = timed([6, 7, 5], [1, 1, 9], [5, 6, 7])
    with caplog.at_level(logging.WARNING):
        split = split_given(train, valid, timed([6, 6], [4, 9], [8, 9]))
    assert split.test is not None
    for part in parts(split):
        assert (part.user_ids.to_list(), part.item_ids.to_list()) == ([5, 6, 7], [1, 2, 4, 9])
    assert split.train.matrix.toarray().tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert split.valid.matrix.toarray().tolist() == [[0, 0, 0, 1], [1, 0, 0, 0], [1, 0, 0, 0]]
    assert split.test.matrix.toarray().tolist() == [[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]
    assert [part.times.tolist() for part in parts(split) if part.times is not None] == [[0, 1, 2], [7, 5, 6], [8, 9]]
    assert "2 of 3 interactions of validation have a user or an item that is not known before" in caplog.text
    with pytest.raises(InputError, match="no interaction of test has a user and an item that is known before"):
        split_given(train, valid, timed([8], [1], [0]))


def test_train_that_knows_all_keeps_its_order() -> None:
    train = Interactions.from_matrix(csr_array(np.ones((3, 2))), user_ids=["b", "c", "a"], item_ids=[2, 1])
    split = split_given(Interactions(train.matrix - csr_array(([1.0], ([0], [0])), (3, 2)), *ids_of(train)), train)
    assert (split.valid.user_ids.to_list(), split.valid.item_ids.to_list()) == (["b", "c", "a"], [2, 1])
    assert split.valid.matrix.toarray().tolist() == [[1, 0], [0, 0], [0, 0]]


def test_the_first_appearance_is_known_over_other_ids() -> None:
    found = timed([3, 1, 2], [7, 8, 7], [0, 0, 0]).over(pl.Series([0, 1, 2, 3]), pl.Series([8, 7]))
    assert found.matrix.toarray().tolist() == [[0, 0], [1, 0], [0, 1], [0, 1]]
    assert [each.tolist() for each in found.first_seen or ()] == [[3, 1, 2, 0], [1, 0]]
    assert len(found.over(pl.Series(["1", "x"]), pl.Series(["8"]))) == 1
    with pytest.raises(InputError, match="no interaction has a user and an item of those that are known"):
        found.over(pl.Series([1]), pl.Series([7]))


def test_a_core_is_of_all_parts_together() -> None:
    """Each part alone has nobody with two interactions; user 9 has one in all."""
    core = split_given(timed([0, 1, 9], [0, 1, 0], [0] * 3), timed([0, 1], [1, 0], [0] * 2)).k_core(2)
    assert (core.train.user_ids.to_list(), core.train.item_ids.to_list()) == ([0, 1], [0, 1])
    assert core.train.matrix.toarray().tolist() == [[1, 0], [0, 1]]
    assert core.valid.matrix.toarray().tolist() == [[0, 1], [1, 0]]


PARTS = {
    "whole numbers": [7, 8],
    "text of them": ["7", "8"],
    "floats": [7.0, 8.0],
    "text among them": ["7", "8", "guest"],
    "objects": pd.Series([7, "8"], dtype=object),
}


@pytest.mark.parametrize("of_valid", PARTS)
@pytest.mark.parametrize("of_train", PARTS)
def test_parts_with_ids_of_different_types_are_matched(of_train: str, of_valid: str) -> None:
    """Users 7 and 8 have item 1 to learn, and 8 has item 2 in validation, however the ids are given."""
    users = [PARTS[name] for name in (of_train, of_valid)]
    train = pd.DataFrame({"user": [*users[0], users[0][0]], "item": [*range(1, len(users[0]) + 1), 5]})
    valid = pd.DataFrame({"user": list(users[1])[:2], "item": [2, 1]})
    split = split_given(Interactions.of(train), Interactions.of(valid))
    assert split.valid.matrix.nnz == 2
    assert split.train.user_rows(["7", 8.0]).tolist() == split.valid.user_rows([7, "8"]).tolist()
    assert split.valid.user_ids.equals(split.train.user_ids)


def test_ids_of_all_files_of_a_split_decide_what_they_are(tmp_path: Path) -> None:
    """Item 11.7 is not item 11, user 01 is not user 1, and what is text in one file is text in all."""
    (tmp_path / "train.csv").write_text("user,item\n1,11\n1,12\n2,11\n")
    (tmp_path / "valid.csv").write_text("user,item\n2,12\n1,11.7\n01,11\n")
    split = split_given(read(tmp_path / "train.csv"), read(tmp_path / "valid.csv"))
    assert split.train.user_ids.to_list() == ["01", "1", "2"]
    assert split.train.item_ids.to_list() == ["11", "11.7", "12"]
    assert [items_of(split.valid, user) for user in range(3)] == [["11"], ["11.7"], ["12"]]
    (tmp_path / "train.csv").write_text("user,item\n001,1\n001,2\n010,1\nguest,1\n")
    (tmp_path / "valid.csv").write_text("user,item\n010,2\n")
    assert len(split_given(read(tmp_path / "train.csv"), read(tmp_path / "valid.csv")).valid) == 1


def test_parts_over_other_ids_are_refused() -> None:
    train, other = timed([1, 2], [1, 2], [0, 0]), timed([3, 4], [1, 2], [0, 0])
    with pytest.raises(InputError, match=r"users and items of validation are not those of train .*split_given"):
        Split(train, other)
    swapped = Interactions(train.matrix, train.user_ids.reverse(), train.item_ids)
    with pytest.raises(InputError, match="users and items of test are not those of train"):
        Split(train, train.take(np.array([True, False])), swapped)


def test_what_is_known_before_is_not_held_out(caplog: pytest.LogCaptureFixture) -> None:
    everything = timed([0] * 4 + [1] * 2, [0, 1, 2, 3, 0, 1], [1] * 6)
    take = lambda *which: everything.take(np.array(which))  # noqa: E731
    with caplog.at_level(logging.WARNING):
        split = Split(take(0, 1, 4), take(1, 2, 5), take(0, 2, 3))
    assert (items_of(split.valid, 0), items_of(split.valid, 1)) == ([2], [1])
    assert (items_of(split.test, 0), items_of(split.test, 1)) == ([3], [])
    assert "1 of 3 interactions of validation left out: they are known before" in caplog.text
    assert "2 of 3 interactions of test left out: they are known before" in caplog.text
    with pytest.raises(InputError, match="all interactions of validation are known before"):
        Split(take(0, 1), take(0, 1))


def test_the_last_by_parts_of_a_second(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(
        "user,item,time\n" + "".join(f"a,{item},2014-04-07T10:51:09.{ms}Z\n" for item, ms in enumerate((1, 9, 5)))
    )
    split = split_last(read(path))
    assert (items_of(split.test, 0), items_of(split.valid, 0)) == ([1], [2])


@pytest.mark.parametrize("ratios", [(0.5, 0.5, 0.5), (1.0, 0.0, 0.0), (0.5, 0.5), (-0.5, 1.0, 0.5)])
def test_impossible_ratios_are_refused(tiny: Interactions, ratios: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="sum to 1"):
        split_random(tiny, ratios)


def test_what_needs_times_says_so(tiny: Interactions) -> None:
    for way in (split_last, split_by_time):
        with pytest.raises(InputError, match="no times are known: name their column"):
            way(tiny)


def test_too_few_interactions_are_refused() -> None:
    single = Interactions.from_frame(pl.DataFrame({"user": [0, 1], "item": [0, 1]}))
    with pytest.raises(InputError, match="validation is empty"):
        split_random(single)
