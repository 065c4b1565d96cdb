import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ciess.serve.ranking import _are_exact, packed_scores, top_items
from ciess.serve.seen import SeenItems
from ciess.tables.encoding import Encoding
from ciess.tables.packed import PackedTable
from ciess.tables.precision import Precision
from ciess.tables.taper import Taper


def table(rows: int, seed: int, precision: Precision, whole: bool) -> PackedTable:
    rng = np.random.default_rng(seed)
    sizes = -np.sort(-rng.integers(1, 7, rows)).astype(np.int32)
    dense = rng.standard_normal((rows, 6))
    # Small whole numbers make ties, and sums that do not depend on their order.
    return PackedTable.pack((np.rint(dense) if whole else dense).astype(np.float32), sizes, precision)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.integers(0, 999),
    st.integers(1, 60),
    st.tuples(*2 * [st.sampled_from(list(Precision))]),
    st.booleans(),
    st.sampled_from([1, 2, 5, 100]),
)
def test_the_best_of_all_scores_are_found(
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    n_items: int,
    precisions: tuple[Precision, Precision],
    whole: bool,
    block: int,
) -> None:
    monkeypatch.setattr("ciess.serve.ranking._ITEMS_AT_ONCE", block)
    monkeypatch.setattr("ciess.serve.ranking._SCORES_AT_ONCE", 3 * block)
    monkeypatch.setattr("ciess.serve.ranking._USERS_AT_ONCE", 7)
    rng = np.random.default_rng(seed)
    users, items = table(20, seed, precisions[0], whole), table(n_items, seed + 1, precisions[1], whole)
    known = rng.random((20, n_items)) < rng.choice([0.1, 0.9])
    offsets = np.concatenate([[0], known.sum(1).cumsum()])
    seen = SeenItems.of(offsets, np.nonzero(known)[1], n_items)
    rows, k = rng.integers(0, 20, 15), int(rng.integers(1, n_items + 1))
    scores = np.where(known, -np.inf, users.dense() @ items.dense().T)[rows]
    found, found_scores = top_items(users, items, rows, k, seen)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, expected, axis=1)
    np.testing.assert_allclose(found_scores, best, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found == -1, np.isneginf(best))
    every = packed_scores(users, items, rows, np.arange(n_items))
    np.testing.assert_allclose(every, (users.dense() @ items.dense().T)[rows], rtol=1e-4, atol=1e-5)
    if whole and precisions == (Precision.FLOAT32, Precision.FLOAT32):
        np.testing.assert_array_equal(found, np.where(np.isneginf(best), -1, expected))


def test_without_seen_items_all_are_ranked() -> None:
    users, items = table(3, 0, Precision.INT8, False), table(9, 1, Precision.INT8, False)
    found, scores = top_items(users, items, np.array([2]), 9)
    assert sorted(found[0]) == list(range(9))
    assert (np.diff(scores[0]) <= 0).all()


TAPER = Taper((8, 7, 6, 6, 5, 4, 4, 4, 3, 3, 3, 3, 2, 2, 2, 2))
ENCODINGS = [Precision.FLOAT32, Precision.FLOAT16, Precision.INT8, Precision.INT4_SHARED, TAPER]


@pytest.mark.parametrize("precision", ENCODINGS, ids=str)
def test_a_ranking_does_not_depend_on_who_else_is_ranked(precision: Encoding) -> None:
    """Nor on a user's place among them. Every item is there twice: both have one score, and the earlier comes first."""
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(40, 16)).astype(np.float32), np.tile(rng.normal(size=(250, 16)).astype(np.float32), (2, 1))
    users, items = (PackedTable.pack(each, np.full(len(each), 16, dtype=np.int32), precision) for each in dense)
    together = top_items(users, items, np.tile(np.arange(40), 30), 500)
    for each in together:
        ranked = each.reshape(30, 40, 500)
        np.testing.assert_array_equal(ranked, ranked[:1].repeat(30, axis=0))
    equal = np.diff(together[1]) == 0
    assert equal.sum(1).min() >= 250
    assert (np.diff(together[0])[equal] > 0).all()
    for user in (0, 7, 31, 39):
        alone = top_items(users, items, np.array([user]), 500)
        for one, all_ in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], all_[user])
        scores = packed_scores(users, items, np.array([user]), alone[0][0])
        np.testing.assert_array_equal(scores, alone[1])


def test_sums_of_whole_numbers_beyond_what_floats_hold_are_rounded_as_floats_are() -> None:
    # 127² × 1,041 is the first sum that float32 may not hold.
    dense = np.full((3, 1041), 127, dtype=np.float32)
    tables = [PackedTable.pack(dense[:, :dim], np.full(3, dim, dtype=np.int32), Precision.INT8) for dim in (1040, 1041)]
    assert [_are_exact(each) for each in tables] == [True, False]
    for each in tables:
        rounded = each.dense().astype(np.float64)
        [scores] = top_items(each, each, np.array([0]), 3)[1]
        np.testing.assert_allclose(scores, rounded @ rounded[0], rtol=1e-6)


def test_nobody_gets_nothing() -> None:
    users, items = table(3, 0, Precision.INT4, False), table(9, 1, Precision.INT4, False)
    found, scores = top_items(users, items, np.array([], dtype=np.int64), 4)
    assert found.shape == scores.shape == (0, 4)
