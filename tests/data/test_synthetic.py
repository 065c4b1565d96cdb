import numpy as np

from ciess.data import split_random, synthetic
from ciess.evaluation.metrics import Evaluator


def test_truth_and_counts_are_as_asked() -> None:
    made = synthetic(users=200, items=120, mean_count=15, dim=8, seed=1)
    data = made.interactions
    assert (data.n_users, data.n_items) == (200, 120)
    assert 10 < len(data) / 200 < 20
    for dims, factors in ((made.user_dims, made.user_factors), (made.item_dims, made.item_factors)):
        assert dims.min() >= 1
        assert dims.max() <= 8
        np.testing.assert_array_equal(factors != 0, np.arange(8) < dims[:, None])


def test_popular_items_are_the_large_ones() -> None:
    made = synthetic(seed=0)
    counts = made.interactions.item_counts
    assert np.corrcoef(np.log1p(counts), made.item_dims)[0, 1] > 0.4
    assert counts.max() > 8 * np.median(counts)


def test_a_seed_repeats_everything() -> None:
    first, again, other = (synthetic(users=50, items=40, mean_count=8, seed=seed) for seed in (0, 0, 1))
    assert (first.interactions.matrix != again.interactions.matrix).nnz == 0
    assert (first.interactions.matrix != other.interactions.matrix).nnz > 0


def test_vectors_explain_more_than_popularity() -> None:
    import torch

    made = synthetic(seed=0)
    split = split_random(made.interactions, seed=0)
    evaluate = Evaluator(split.train.matrix, split.valid.matrix)
    popularity = torch.from_numpy(split.train.item_counts).float()
    users, items = torch.from_numpy(made.user_factors), torch.from_numpy(made.item_factors)
    by_popularity = evaluate(lambda rows: popularity.expand(len(rows), -1).clone())["recall@20"]
    by_truth = evaluate(lambda rows: users[rows] @ items.T + popularity.add(1).log())["recall@20"]
    assert by_truth > 1.5 * by_popularity
