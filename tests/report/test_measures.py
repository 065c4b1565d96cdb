import numpy as np

from ciess.data.describe import like_groups
from ciess.report.measures import kept_by_group, sizes_by_popularity


def test_deciles_by_hand() -> None:
    popularity = np.array([7, 1, 3, 3, 100, 2, 9, 8, 50, 60])
    assert like_groups(popularity, 10).tolist() == [4, 0, 2, 3, 9, 1, 6, 5, 7, 8]
    assert np.bincount(like_groups(np.ones(95, dtype=int), 10), minlength=10).tolist() == [10, 9] * 5
    assert like_groups(np.array([5, 2]), 10).tolist() == [5, 0], "fewer entities than deciles: some are empty"


def test_groups_with_nothing_to_keep_say_nothing() -> None:
    group = np.array([0, 0, 1, 9, 9])
    kept = kept_by_group(np.array([1.0, 2, 0.5, 300, 200]), np.array([2.0, 2, 0.1, 500, 500]), group)
    assert kept[[0, 9]].tolist() == [0.75, 0.5]
    assert np.isnan(kept[1:9]).all(), "a ten-thousandth of the whole is chance"


def test_sizes_of_like_popularity() -> None:
    popularity = np.array([1] * 50 + [10] * 40 + [100] * 10)
    sizes = np.array([2] * 50 + [4] * 20 + [6] * 20 + [9] * 10)
    found = sizes_by_popularity(sizes, popularity)
    assert found.popularity.tolist() == [1, 10, 100]
    assert found.mean.tolist() == [2, 5, 9]
    assert (found.low.tolist(), found.high.tolist()) == ([2, 4, 9], [2, 6, 9])
    everyone = np.random.default_rng(0).permutation(5000)
    assert len(sizes_by_popularity(everyone + 1, everyone, groups=24).mean) == 24
