import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from ciess.serve.seen import SeenItems


@given(st.integers(0, 99), st.sampled_from([3, 300, 70_000]))
def test_entries_are_those_of_the_matrix(seed: int, n_items: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = np.unique(np.stack([rng.integers(0, 8, 30), rng.integers(0, n_items, 30)]), axis=1)
    matrix = csr_array((np.ones(pairs.shape[1]), tuple(pairs)), shape=(8, n_items))
    made = SeenItems.of(matrix.indptr, matrix.indices, n_items)
    seen = SeenItems.from_arrays(made.arrays, 8, n_items)
    users = rng.integers(0, 8, 5)
    places, items = seen.of_users(users)
    expected = [(place, item) for place, user in enumerate(users) for item in matrix[[user]].indices]
    assert list(zip(places, items, strict=True)) == expected
    np.testing.assert_array_equal(seen.popular, np.argsort(-matrix.sum(axis=0), kind="stable"))
    assert seen.items.dtype.itemsize == {3: 1, 300: 2, 70_000: 4}[n_items]


def test_popularity_is_counted_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ciess.serve.seen._ENTRIES_AT_ONCE", 2)
    seen = SeenItems.of(np.array([0, 2, 5]), np.array([0, 2, 0, 1, 2]), 4)
    assert seen.popular.tolist() == [0, 2, 1, 3]


@pytest.mark.parametrize("popular", [[0, 2, 1, 1], [0, 2, 1, 4]])
def test_an_order_that_lacks_an_item_is_refused(popular: list[int]) -> None:
    made = SeenItems.of(np.array([0, 2, 5]), np.array([0, 2, 0, 1, 2]), 4)
    seen = SeenItems.from_arrays({**made.arrays, "popular": np.array(popular, dtype=np.uint8)}, 2, 4)
    with pytest.raises(ValueError, match="lacks some"):
        seen.check()


@pytest.mark.parametrize(("n_users", "n_items"), [(3, 4), (2, 300)])
def test_tables_of_another_shape_are_refused(n_users: int, n_items: int) -> None:
    seen = SeenItems.of(np.array([0, 2, 5]), np.array([0, 2, 0, 1, 2]), 4)
    with pytest.raises(ValueError, match="do not match"):
        SeenItems.from_arrays(seen.arrays, n_users, n_items)


@pytest.mark.parametrize(
    ("offsets", "items", "told"),
    [
        ([0, 3, 1, 3], [0, 1, 2], "do not follow each other"),
        ([1, 2, 3, 3], [0, 1, 2], "do not follow each other"),
        ([0, 2, 3, 3], [0, 4, 1], "do not exist"),
        ([0, 2, 3, 3], [2, 1, 3], "of a user fall"),
    ],
)
def test_what_no_users_can_have_is_refused(offsets: list[int], items: list[int], told: str) -> None:
    seen = SeenItems.of(np.array(offsets), np.array(items), 4)
    with pytest.raises(ValueError, match=told):
        seen.check()
