import dataclasses
from random import Random

import numpy as np
import pytest
import pytrec_eval
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_array

from ciess.data.describe import gini
from ciess.errors import InputError
from ciess.evaluation.metrics import (
    METRICS,
    QUALITY_METRICS,
    TAIL_METRICS,
    Evaluation,
    Evaluator,
    rank,
    ratio_of_means,
    tail_of,
)

LOG3, LOG4, LOG6 = np.log2([3, 4, 6])


def by_table(scores: torch.Tensor):  # type: ignore[no-untyped-def]
    return lambda users: scores[users].clone()


def csr(rows: list[list[int]], n_items: int) -> csr_array:
    dense = np.zeros((len(rows), n_items), dtype=np.float32)
    for row, columns in enumerate(rows):
        dense[row, columns] = 1
    return csr_array(dense)


def random_case(seed: int, n_users: int = 30, n_items: int = 50) -> tuple[torch.Tensor, csr_array, csr_array]:
    """Scores, seen and truth; nothing seen is in truth, everybody has truth."""
    rng = np.random.default_rng(seed)
    draw = rng.random((n_users, n_items))
    draw[:, 0] = 0.99
    seen, truth = csr_array((draw < 0.2).astype(np.float32)), csr_array((draw > 0.85).astype(np.float32))
    return torch.from_numpy(rng.standard_normal((n_users, n_items)).astype(np.float32)), seen, truth


# One user: items ranked 0 1 2 3 4 5; 1, 2 and 4 held out, and 9 that comes last.
GOLDEN = {
    "recall@3": 2 / 4,
    "recall@5": 3 / 4,
    "recall-capped@3": 2 / 3,
    "recall-capped@5": 3 / 4,
    "precision@5": 3 / 5,
    "hit@1": 0.0,
    "hit@2": 1.0,
    "mrr@1": 0.0,
    "mrr@5": 1 / 2,
    "ndcg@3": (1 / LOG3 + 1 / LOG4) / (1 + 1 / LOG3 + 1 / LOG4),
    "ndcg@5": (1 / LOG3 + 1 / LOG4 + 1 / LOG6) / (1 + 1 / LOG3 + 1 / LOG4 + 1 / np.log2(5)),
    "ndcg-uncut@3": (1 / LOG3 + 1 / LOG4) / (1 + 1 / LOG3 + 1 / LOG4 + 1 / np.log2(5)),
    "map@5": (1 / 2 + 2 / 3 + 3 / 5) / 4,
    "map@3": (1 / 2 + 2 / 3) / 4,
    "map-capped@3": (1 / 2 + 2 / 3) / 3,
}


@pytest.mark.parametrize("metric", GOLDEN)
def test_metrics_by_hand(metric: str) -> None:
    scores = torch.arange(10, 0, -1).float()[None]
    evaluation = Evaluator(csr([[]], 10), csr([[1, 2, 4, 9]], 10))(by_table(scores))
    assert evaluation[metric] == pytest.approx(GOLDEN[metric], rel=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("recall@5", "recall_5"),
        ("recall@20", "recall_20"),
        ("precision@10", "P_10"),
        ("ndcg@10", "ndcg_cut_10"),
        ("ndcg@20", "ndcg_cut_20"),
        ("hit@5", "success_5"),
        ("map@20", "map_cut_20"),
        ("mrr@50", "recip_rank"),
    ],
)
def test_metrics_equal_those_of_trec_eval(ours: str, theirs: str) -> None:
    scores, seen, truth = random_case(0)
    evaluation = Evaluator(seen, truth, k=50)(by_table(scores))
    assert len(evaluation.users) == len(scores)
    unseen = scores.masked_fill(torch.from_numpy(seen.toarray()).bool(), -9)
    run = {str(u): {str(i): float(s) for i, s in enumerate(row) if s > -9} for u, row in enumerate(unseen)}
    judged = {str(u): {str(i): 1 for i in truth[[u]].indices} for u in range(len(scores))}
    expected = pytrec_eval.RelevanceEvaluator(judged, {theirs}).evaluate(run)
    for user, value in zip(evaluation.users.tolist(), evaluation.per_user(ours).tolist(), strict=True):
        assert value == pytest.approx(expected[str(user)][theirs], abs=1e-6)


@settings(max_examples=30)
@given(st.integers(0, 2**31))
def test_metrics_lie_between_0_and_1_and_a_perfect_ranking_reaches_it(seed: int) -> None:
    scores, seen, truth = random_case(seed)
    for table, low in ((scores, 0), (torch.from_numpy(truth.toarray()), 1)):
        evaluation = Evaluator(seen, truth)(by_table(table))
        for name in METRICS:
            values = evaluation.per_user(f"{name}@10")
            assert values.min() >= 0
            assert values.max() <= 1 + 1e-6
        if low:
            for name in ("ndcg", "recall-capped", "hit", "mrr", "map-capped"):
                torch.testing.assert_close(evaluation.per_user(f"{name}@10"), torch.ones(len(evaluation.users)))


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 50))
def test_items_in_another_order_are_ranked_alike(seed: int, k: int) -> None:
    scores, seen, _ = random_case(seed)
    order = np.random.default_rng(seed).permutation(50)
    found = rank(by_table(scores), torch.arange(30), 50, k, seen)
    moved = rank(by_table(scores[:, order]), torch.arange(30), 50, k, csr_array(seen[:, order]))
    assert torch.equal(moved.scores, found.scores)
    named = torch.where(moved.items < 0, -1, torch.from_numpy(order)[moved.items])
    assert torch.equal(named, found.items)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 50))
def test_seen_items_are_never_ranked(seed: int, k: int) -> None:
    scores, seen, _ = random_case(seed)
    items = rank(by_table(scores), torch.arange(30), 50, k, seen).items
    unseen = np.pad(seen.toarray() == 0, ((0, 0), (0, 1)), constant_values=True)  # column −1 is no item
    assert np.take_along_axis(unseen, items.numpy() % 51, axis=1).all()
    left = (seen.toarray() == 0).sum(1).clip(max=k)
    assert ((items >= 0).sum(1).numpy() == left).all()


def test_short_rankings_end_in_nothing() -> None:
    seen = csr([[0, 1, 2, 3], [4]], 5)
    found = rank(by_table(torch.tensor([[5.0, 4, 3, 2, 1], [5, 4, 3, 2, 1]])), torch.tensor([0, 1]), 5, 3, seen)
    assert found.items.tolist() == [[4, -1, -1], [0, 1, 2]]
    assert found.scores.tolist() == [[1, -torch.inf, -torch.inf], [5, 4, 3]]


def test_ranks_without_an_item_are_no_hits() -> None:
    """The second user has one item left to rank; the first one's held-out item is the last of all."""
    evaluation = Evaluator(csr([[], [0, 1, 3]], 4), csr([[3], [2]], 4))(by_table(torch.zeros(2, 4)))
    assert evaluation.items[1].tolist() == [2, -1, -1, -1]
    assert evaluation.hits[1].tolist() == [1, 0, 0, 0]


@given(st.integers(0, 2**31), st.integers(1, 12))
def test_ties_go_to_the_earlier_item(seed: int, k: int) -> None:
    scores = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, (6, 12)).astype(np.float32))
    expected = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    assert torch.equal(rank(by_table(scores), torch.arange(6), 12, k).items, expected)


def test_a_ranking_does_not_depend_on_who_else_is_ranked() -> None:
    """Bit for bit, for inner products, whose rounding depends on the shape of the product."""
    generator = torch.Generator().manual_seed(0)
    users, items = torch.randn(3_000, 24, generator=generator), torch.randn(4_500, 24, generator=generator)
    score = lambda rows: users[rows] @ items.T  # noqa: E731
    everyone = rank(score, torch.arange(3_000), 4_500, 20)
    for some in (torch.tensor([7]), torch.arange(0, 3_000, 7), torch.arange(1_500, 1_490, -1)):
        found = rank(score, some, 4_500, 20)
        assert torch.equal(found.items, everyone.items[some])
        assert torch.equal(found.scores, everyone.scores[some])


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.integers(1, 1_200))
def test_measuring_some_users_gives_what_measuring_all_gives(seed: int, count: int) -> None:
    """Bit for bit; all 1,200 users are more than a block holds."""
    generator = torch.Generator().manual_seed(seed)
    users, items = torch.randn(1_200, 9, generator=generator), torch.randn(50, 9, generator=generator)
    _, seen, truth = random_case(seed, 1_200)
    chosen = np.random.default_rng(seed).permutation(1_200)[:count]
    score = lambda rows: users[rows] @ items.T  # noqa: E731
    everyone, some = Evaluator(seen, truth)(score), Evaluator(seen, truth, users=chosen)(score)
    for metric in [f"{name}@{k}" for name in METRICS for k in (1, 7, 20)]:
        assert torch.equal(some.per_user(metric), everyone.per_user(metric)[chosen])
    assert torch.equal(some.quality, everyone.quality[chosen])


def test_the_size_of_blocks_changes_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, seen, truth = random_case(5)
    whole = Evaluator(seen, truth)(by_table(scores))
    for size in (1, 7, 30):
        monkeypatch.setattr("ciess.evaluation.metrics._MOST_USERS_IN_A_BLOCK", size)
        blocks = Evaluator(seen, truth)(by_table(scores))
        assert torch.equal(blocks.items, whole.items)
        assert torch.equal(blocks.quality, whole.quality)


def test_the_scores_of_a_model_are_left_as_they_are() -> None:
    """A scorer may return its own table, or one row for everybody: what one has seen stays open to the others."""
    popularity, seen = torch.tensor([3.0, 2, 1, 0]), csr([[0], [1], []], 4)
    found = rank(lambda users: popularity.expand(len(users), -1), torch.arange(3), 4, 2, seen)
    assert found.items.tolist() == [[1, 2], [0, 2], [0, 1]]
    assert popularity.tolist() == [3, 2, 1, 0]


def test_nobody_can_be_ranked() -> None:
    found = rank(by_table(torch.ones(3, 4)), torch.arange(0), 4, 2, csr([[0]] * 3, 4))
    assert found.items.shape == found.scores.shape == (0, 2)


def test_users_without_held_out_items_are_not_measured() -> None:
    scores, seen, truth = random_case(1)
    truth = csr_array(truth.multiply((np.arange(30) % 3 > 0)[:, None]))
    truth.eliminate_zeros()
    everyone = Evaluator(seen, truth)(by_table(scores))
    assert everyone.users.tolist() == [user for user in range(30) if user % 3]
    some = Evaluator(seen, truth, users=np.array([3, 4, 5]))(by_table(scores))
    assert some.users.tolist() == [4, 5]
    assert torch.equal(some.per_user("ndcg@20"), everyone.per_user("ndcg@20")[[2, 3]])


def test_quality_is_the_mean_of_six_and_credit_shares_it_out() -> None:
    scores, seen, truth = random_case(2)
    evaluation: Evaluation = Evaluator(seen, truth)(by_table(scores))
    mean = torch.stack([evaluation.per_user(metric) for metric in QUALITY_METRICS]).mean(0)
    torch.testing.assert_close(evaluation.quality, mean)
    torch.testing.assert_close(evaluation.item_credit.sum(), evaluation.quality.sum())
    # The credit of one item, the long way: quality lost when its hits are counted as misses.
    item = int(evaluation.item_credit.argmax())
    without = dataclasses.replace(evaluation, hits=evaluation.hits * (evaluation.items != item))
    torch.testing.assert_close(evaluation.item_credit[item], (evaluation.quality - without.quality).sum())


def test_sets_with_fewer_items_than_the_cut_off_are_measured() -> None:
    evaluation = Evaluator(csr([[0]], 4), csr([[1, 2]], 4))(by_table(torch.tensor([[1.0, 4, 3, 2]])))
    assert evaluation["recall@20"] == evaluation["ndcg@20"] == 1
    assert evaluation["precision@20"] == pytest.approx(0.1)
    assert repr(evaluation) == "Evaluation(users=1, recall@4=1.0000, ndcg@4=1.0000)"


def test_scores_that_are_not_numbers_are_refused() -> None:
    scores, _, truth = random_case(3)
    evaluate = Evaluator(csr([[]] * 30, 50), truth)
    one, all_ = scores.clone(), torch.full_like(scores, torch.nan)
    one[4, 7] = torch.nan
    for table in (one, all_):
        with pytest.raises(ValueError, match="diverged"):
            evaluate(by_table(table))


def test_bad_requests_are_refused() -> None:
    scores, seen, truth = random_case(4)
    evaluation = Evaluator(seen, truth)(by_table(scores))
    for wrong in ("recal@20", "recall", "recall@0", "recall@x"):
        with pytest.raises(InputError, match=f"'{wrong}' is not a metric: use one of recall"):
            evaluation[wrong]
    with pytest.raises(InputError, match="only the first 20"):
        evaluation["recall@21"]
    short = Evaluator(seen, truth, k=10)(by_table(scores))
    with pytest.raises(InputError, match="'quality' is out of reach: only the first 10"):
        _ = short.quality
    with pytest.raises(InputError, match="'quality' is out of reach"):
        _ = short.item_credit
    for k in (0, 51):
        with pytest.raises(InputError, match=f"k is {k}: ask for 1 to 50"):
            rank(by_table(scores), torch.arange(3), 50, k)


def test_shapes_and_users_that_do_not_fit_are_refused() -> None:
    scores, seen, truth = random_case(4)
    with pytest.raises(InputError, match=r"of shape \(1024, 49\): give \(1024, 50\)"):
        Evaluator(seen, truth)(by_table(scores[:, :49]))
    with pytest.raises(InputError, match="seen items are given for 49 items, not 50"):
        rank(by_table(scores), torch.arange(3), 50, 5, csr_array(seen[:, :49]))
    with pytest.raises(InputError, match="give equal shapes"):
        Evaluator(csr_array(seen[:29]), truth)
    for row in (-1, 30):
        with pytest.raises(InputError, match="not all rows 0 to 29"):
            Evaluator(seen, truth, users=np.array([0, row]))
    with pytest.raises(InputError, match="no user has held-out items"):
        Evaluator(seen, truth, users=np.array([], dtype=int))


def test_items_that_cannot_be_ranked_count_as_missed() -> None:
    """A user has items 0 and 1 held out, and two that nobody can rank; another has one of these alone."""
    truth, scores = csr_array(np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])), torch.tensor([[3.0, 1.0, 2.0]])
    found = Evaluator(csr_array((2, 3)), truth, held_out=np.array([4, 1]))(lambda users: scores.expand(len(users), -1))
    assert found.per_user("recall@2").tolist() == [1 / 4, 0]
    ideal = sum(1 / np.log2(rank + 1) for rank in (1, 2, 3))
    np.testing.assert_allclose(found.per_user("ndcg@3"), [(1 + 1 / np.log2(4)) / ideal, 0], rtol=1e-6)
    none = Evaluator(truth, csr_array((2, 3)), held_out=np.array([0, 1]))(lambda users: scores.expand(len(users), -1))
    assert none.users.tolist() == [1]
    assert none.means(QUALITY_METRICS) == dict.fromkeys(QUALITY_METRICS, 0)
    with pytest.raises(InputError, match="no user has held-out items"):
        Evaluator(truth, csr_array((2, 3)))


def test_coverage_tail_recall_and_gini_by_hand() -> None:
    """Of 40 items the first two users are shown 0 to 19, the third 10 to 29."""
    rising = torch.arange(40).float()
    scores = torch.stack([-rising, -rising, -rising - 100 * (rising < 10)])
    truth = csr([[0, 12, 25], [5], [12, 25, 35]], 40)
    # Tens of items were learned by 3, 1, 2 and 0 users: all but the first have half of the 60 interactions.
    learned = csr([[*range(30)], [*range(10), *range(20, 30)], [*range(10)]], 40)
    found = Evaluator(csr_array((3, 40)), truth, learned=learned)(by_table(scores))
    assert found["coverage@20"] == 30 / 40
    # The second user has held out nothing of the tail.
    assert found["tail-recall@20"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    # Tens of items are shown to 2, 3, 1 and 0 users: all pairs differ by 20/16 in the mean, and the mean is 3/2.
    assert found["gini@20"] == pytest.approx(20 / 16 / 2 / (3 / 2))
    unknown = Evaluator(csr_array((3, 40)), truth, held_out=np.array([3, 2, 3]), learned=learned)(by_table(scores))
    assert unknown["tail-recall@20"] == pytest.approx((1 / 2 + 0 + 2 / 3) / 3), "what nobody knows is rare"


def test_what_was_seen_makes_the_tail_and_ranks_beyond_20_do_not_count() -> None:
    scores, seen, truth = random_case(5)
    deep, plain = (
        Evaluator(seen, truth, k=k, learned=given)(by_table(scores)) for k, given in ((50, None), (20, seen))
    )
    assert deep.means(TAIL_METRICS) == plain.means(TAIL_METRICS)
    short = Evaluator(seen, truth, k=10)(by_table(scores))
    for metric in TAIL_METRICS:
        with pytest.raises(InputError, match=f"'{metric}' is out of reach: only the first 10"):
            short[metric]


@given(arrays(np.int64, st.integers(1, 40), elements=st.integers(0, 2**40)))
def test_gini_is_the_mean_difference_of_pairs_over_twice_the_mean(amounts: np.ndarray) -> None:
    differences = np.abs(amounts[:, None] - amounts).mean()
    expected = differences / (2 * amounts.mean()) if amounts.any() else 0
    assert gini(amounts) == pytest.approx(expected, abs=1e-9)


@given(arrays(np.int64, st.integers(1, 40), elements=st.integers(0, 9)), st.randoms())
def test_the_tail_is_the_rarest_items_with_at_most_half(counts: np.ndarray, random: Random) -> None:
    tail = tail_of(counts)
    assert 2 * counts[tail].sum() <= counts.sum()
    order = np.array(random.sample(range(len(counts)), len(counts)))
    np.testing.assert_array_equal(tail_of(counts[order]), tail[order])
    rest = counts[~tail]
    assert len(rest), "the most popular item is never rare"
    assert counts[tail].max(initial=-1) < rest.min()
    assert 2 * (counts[tail].sum() + rest[rest == rest.min()].sum()) > counts.sum() or rest.min() == counts.max()


def test_the_interval_of_a_ratio_is_that_of_the_bootstrap() -> None:
    rng = np.random.default_rng(0)
    whole = rng.beta(2, 5, 400)
    part = whole * rng.uniform(0.6, 1.2, 400)
    ratio, error = ratio_of_means(torch.from_numpy(part), torch.from_numpy(whole))
    drawn = rng.integers(0, 400, (4000, 400))
    low, high = np.quantile(part[drawn].mean(1) / whole[drawn].mean(1), [0.025, 0.975])
    assert ratio == pytest.approx(part.sum() / whole.sum())
    assert (ratio - 1.96 * error, ratio + 1.96 * error) == pytest.approx((low, high), abs=0.002)
