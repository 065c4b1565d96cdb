"""Full-ranking evaluation: every item that a user has not seen is ranked, in blocks of users.

Metrics of one user with held-out items T at a cut-off k, where hits are held-out items among the first k and
DCG is the sum over hits of 1 / log2(rank + 1):

    recall          hits / |T|, as in the papers, LightGCN and RecBole
    recall-capped   hits / min(|T|, k), as in LensKit
    precision       hits / k
    hit             1 if there is a hit
    mrr             1 / rank of the first hit
    ndcg            DCG / (DCG of min(|T|, k) hits in front), as in the papers
    ndcg-uncut      DCG / (DCG of |T| hits in front)
    map             sum of the precision at each hit's rank / |T|, as in trec_eval
    map-capped      the same / min(|T|, k)

Metrics of all users together, at k = 20:

    coverage        share of all items that are among the first k of any user
    tail-recall     hits in the tail / (T in the tail): a mean over users who have held out items of the tail
    gini            Gini coefficient of how many users have each item among their first k

The tail is the rarer half: see `tail_of`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from ciess.data.describe import gini
from ciess.errors import InputError
from ciess.models.base import Backbone

Score = Callable[[Tensor], Tensor]
"""From user rows (b,) to their scores of every item, (b, n_items). A score of −inf leaves an item out."""

METRICS = ("recall", "recall-capped", "precision", "hit", "mrr", "ndcg", "ndcg-uncut", "map", "map-capped")
QUALITY_METRICS = tuple(f"{name}@{k}" for k in (5, 10, 20) for name in ("recall", "ndcg"))
"""The six whose mean is a user's quality (CIESS, Sec. 3.2)."""
TAIL_METRICS = ("coverage@20", "tail-recall@20", "gini@20")
"""What becomes of rare items: those of all users together."""

_SCORES_IN_A_BLOCK = 4_000_000
_MOST_USERS_IN_A_BLOCK = 1024


class Ranking(NamedTuple):
    """The first k items of each user and their scores, (users, k). Item −1 with score −inf where none is left."""

    items: Tensor
    scores: Tensor


def rank(score: Score, users: Tensor, n_items: int, k: int, seen: csr_array | None = None) -> Ranking:
    """The k best items of each user in falling order of score; of equal scores the earlier item comes first.

    `score` is always called with the same number of users, the last ones filled up, because the rounding of a
    matrix product can depend on its shape: so a user's ranking does not depend on who else is ranked.

    Args:
        score: scores all items for a block of users.
        users: (n,) int64 rows.
        n_items: how many items there are.
        k: how many to rank.
        seen: (all users, n_items) items to leave out; None leaves out none.

    Raises:
        InputError: k is not in 1..n_items, scores or `seen` are of another shape, or a score is not a number.
    """
    return _rank(score, users, n_items, k, None if seen is None else _Seen.of(seen, users, n_items))


@torch.no_grad()
def _rank(score: Score, users: Tensor, n_items: int, k: int, seen: "_Seen | None") -> Ranking:
    if not 1 <= k <= n_items:
        raise InputError(f"k is {k}: ask for 1 to {n_items:,} items")
    size = max(1, min(_MOST_USERS_IN_A_BLOCK, _SCORES_IN_A_BLOCK // n_items))
    # Filled in place: small results that outlived each block would lie between the places of large ones, so that none
    # of these could be used again.
    ranking = Ranking(users.new_empty(len(users), k), torch.empty(len(users), k))
    for start in range(0, len(users), size):
        block = users[start : start + size]
        scores = score(torch.cat([block, block[-1:].expand(size - len(block))]))
        if scores.shape != (size, n_items):
            raise InputError(f"scores of {size} users are of shape {tuple(scores.shape)}: give {(size, n_items)}")
        scores = scores[: len(block)]
        if seen is not None:
            # A copy: what `score` returns may be its own table, or one row seen many times.
            scores = scores.clone()
            scores[seen.positions(start, start + len(block))] = -torch.inf
        for all_users, these in zip(ranking, _first(scores, k), strict=True):
            all_users[start : start + size] = these
    # What is not a number comes first, here as in topk.
    if ranking.scores[:, 0].isnan().any():
        raise InputError(
            "scores are not numbers: the model has diverged, or its numbers are too large for the precision: lower its "
            "learning rate or its norms' weight"
        )
    return ranking


def _first(scores: Tensor, k: int) -> Ranking:
    """The first k columns of each row in falling order, ties in order of columns."""
    values, items = scores.topk(min(k + 1, scores.shape[1]))
    items, last, next_ = items[:, :k], values[:, k - 1 : k], values[:, k:]
    # topk promises nothing about which of several equal scores it takes: such rows, rare, are sorted whole.
    tied = ((next_ == last) & (last > -torch.inf)).any(1)
    if tied.any():
        items[tied] = scores[tied].argsort(dim=1, descending=True, stable=True)[:, :k]
    items = items.sort(dim=1).values
    values, order = scores.gather(1, items).sort(dim=1, descending=True, stable=True)
    return Ranking(items.gather(1, order).masked_fill(values == -torch.inf, -1), values)


def tail_of(counts: NDArray[np.integer]) -> NDArray[np.bool_]:
    """(n_items,) whether items are the tail: the rarest ones that have at most half of all interactions together.

    Items that are equally rare are in it together or not at all: if all are equally rare, there is no tail.

    Args:
        counts: (n_items,) interactions of each item.
    """
    kinds, kind = np.unique(counts, return_inverse=True)
    up_to = np.cumsum(kinds * np.bincount(kind))
    tail: NDArray[np.bool_] = ((2 * up_to <= up_to[-1]) & (kinds < kinds[-1]))[kind]
    return tail


def standard_error(values: Tensor) -> float:
    """The standard error of the mean of (n,) values; 0 for a single one."""
    return float(values.double().std() / len(values) ** 0.5) if len(values) > 1 else 0.0


def ratio_of_means(part: Tensor, whole: Tensor) -> tuple[float, float]:
    """The mean of one quantity over the mean of another, both of the same users, (n,), and its standard error.

    By the delta method: users are drawn, both quantities with them.
    """
    mean = float(whole.double().mean())
    ratio = float(part.double().mean()) / mean
    return ratio, standard_error(part.double() - ratio * whole.double()) / mean


class _Seen(NamedTuple):
    """Items to leave out for a sequence of users. Offsets lie on the host: a block is cut without waiting."""

    offsets: list[int]
    counts: Tensor
    columns: Tensor

    @classmethod
    def of(cls, matrix: csr_array, users: Tensor, n_items: int) -> "_Seen":
        if matrix.shape[1] != n_items:
            raise InputError(
                f"seen items are given for {matrix.shape[1]:,} items, not {n_items:,}: give one column each"
            )
        picked = matrix[users.numpy()]
        counts = torch.as_tensor(np.diff(picked.indptr)).long()
        return cls(picked.indptr.tolist(), counts, torch.as_tensor(picked.indices))

    def positions(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """The entries of users start..stop: position among them, and column."""
        first, last = self.offsets[start], self.offsets[stop]
        rows = torch.repeat_interleave(self.counts[start:stop], output_size=last - first)
        return rows, self.columns[first:last].long()


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Rankings held against held-out items: `evaluation["recall@20"]` is a mean over users.

    Attributes:
        users: (n,) rows of the users measured: those with held-out items. (The papers count others as 0; their
            splits leave none.)
        items: (n, k) ranked items.
        hits: (n, k) 1.0 where a ranked item is held out, else 0.0.
        held_out: (n,) how many items each user has held out, those that cannot be ranked included.
        n_items: how many items there are.
        exposure: (all items that were ranked,) how many users have each item among their first 20.
        tail_hits: (n,) hits of each user among the first 20 that are items of the tail, see `tail_of`.
        tail_held_out: (n,) how many items of the tail each user has held out, those that cannot be ranked included.
    """

    users: Tensor
    items: Tensor
    hits: Tensor
    held_out: Tensor
    n_items: int
    exposure: Tensor
    tail_hits: Tensor
    tail_held_out: Tensor

    def __repr__(self) -> str:
        k = self.items.shape[1]
        told = ", ".join(f"{metric}={self[metric]:.4f}" for metric in (f"recall@{k}", f"ndcg@{k}"))
        return f"{type(self).__name__}(users={len(self.users)}, {told})"

    def __getitem__(self, metric: str) -> float:
        if metric in TAIL_METRICS:
            return self._of_all(metric)
        return float(self.per_user(metric).mean(dtype=torch.float64))

    def means(self, metrics: Iterable[str] = QUALITY_METRICS) -> dict[str, float]:
        """The mean of each metric over the users measured."""
        return {metric: self[metric] for metric in metrics}

    def per_user(self, metric: str) -> Tensor:
        """(n,) a metric, such as `ndcg@20`, of each user measured.

        Raises:
            InputError: no such metric, or its cut-off is beyond what was ranked.
        """
        name, _, cut = metric.partition("@")
        if name not in METRICS or not cut.isdecimal() or int(cut) < 1:
            raise InputError(
                f"'{metric}' is not a metric: use one of {', '.join(METRICS)} with a cut-off, as recall@20"
            )
        k = int(cut)
        hits, capped = self._first_hits(k, metric), self.held_out.clamp(max=k)
        ranks = torch.arange(1, hits.shape[1] + 1)
        if name == "precision":
            return hits.sum(1) / k
        if name == "hit":
            return hits.amax(1)
        if name == "mrr":
            return (hits / ranks).amax(1)
        if name in ("recall", "recall-capped"):
            return hits.sum(1) / (self.held_out if name == "recall" else capped)
        if name in ("map", "map-capped"):
            precision = hits.cumsum(1) / ranks
            return (hits * precision).sum(1) / (self.held_out if name == "map" else capped)
        return (hits * _discounts(hits)).sum(1) / self._ideal_dcg(capped if name == "ndcg" else self.held_out)

    def _of_all(self, metric: str) -> float:
        """One of `TAIL_METRICS`; a tail recall of 0 where nobody has held out items of the tail."""
        self._first_hits(20, metric)
        if metric == "coverage@20":
            return float((self.exposure > 0).double().mean())
        if metric == "gini@20":
            return gini(self.exposure.numpy())
        wanting = self.tail_held_out > 0
        recall = self.tail_hits[wanting].double() / self.tail_held_out[wanting]
        return float(recall.mean()) if len(recall) else 0.0

    @cached_property
    def quality(self) -> Tensor:
        """(n,) each user's mean of Recall@k and NDCG@k over k = 5, 10, 20 (CIESS, Eq. 8).

        Raises:
            InputError: fewer than 20 items were ranked though there are more.
        """
        return self._earned.sum(1)

    def standard_error(self, other: "Evaluation | None" = None) -> float:
        """Of the mean quality, as a mean over users that are a sample of all there could be.

        Args:
            other: of the same users; then of the difference between the two means, user by user.
        """
        return standard_error(self.quality if other is None else self.quality - other.quality)

    @cached_property
    def item_credit(self) -> Tensor:
        """(n_items,) what hits of each item add to the users' quality; its sum is the sum of their qualities."""
        credit = torch.zeros(self.n_items)
        # Ranks without an item earn nothing: where their nothing is added does not matter.
        return credit.index_add_(0, self.items.clamp(min=0).reshape(-1), self._earned.reshape(-1))

    @cached_property
    def _earned(self) -> Tensor:
        """(n, 20) what each rank adds to its user's quality: recall and NDCG are sums over hits."""
        hits = self._first_hits(20, "quality")
        worth = torch.zeros_like(hits)
        for k in (5, 10, 20):
            worth[:, :k] += (1 / self.held_out)[:, None]
            worth[:, :k] += _discounts(hits[:, :k]) / self._ideal_dcg(self.held_out.clamp(max=k))[:, None]
        return hits * worth / len(QUALITY_METRICS)

    def _first_hits(self, k: int, purpose: str) -> Tensor:
        if self.hits.shape[1] < min(k, self.n_items):
            raise InputError(
                f"'{purpose}' is out of reach: only the first {self.hits.shape[1]} items were ranked, rank {k}"
            )
        return self.hits[:, :k]

    def _ideal_dcg(self, hits_in_front: Tensor) -> Tensor:
        ranks = torch.arange(1, int(hits_in_front.max()) + 1)
        return (1 / torch.log2(ranks + 1.0)).cumsum(0)[hits_in_front.long() - 1]


def _discounts(hits: Tensor) -> Tensor:
    return 1 / torch.log2(torch.arange(2, hits.shape[1] + 2, dtype=hits.dtype))


class Evaluator:
    """Full ranking against one held-out set: made once, called for every model.

    Args:
        seen: (n_users, n_items) items left out of the rankings, usually what was trained on.
        truth: (n_users, n_items) held-out items.
        k: how many items are ranked; fewer where there are fewer.
        users: rows to measure, in any order; None measures all. Users without held-out items are not measured.
        held_out: (n_users,) how many items each user has held out, if some of them are no columns of `truth`: these
            count as missed, and as items of the tail. None counts those of `truth`.
        learned: (n_users, n_items) what the model has learned, which makes some items the tail; None is `seen`.

    Attributes:
        users: (n,) the rows that are measured.
        truth: as given.

    Raises:
        InputError: no user is left to be measured, `users` are not rows of `truth`, or `seen` is of another shape.
    """

    def __init__(
        self,
        seen: csr_array,
        truth: csr_array,
        k: int = 20,
        users: NDArray[np.integer] | None = None,
        held_out: NDArray[np.integer] | None = None,
        learned: csr_array | None = None,
    ) -> None:
        if seen.shape != truth.shape:
            raise InputError(f"seen items are of shape {seen.shape}, held-out ones of {truth.shape}: give equal shapes")
        n_users, self._n_items = truth.shape
        ranked = np.diff(truth.indptr)
        held_out = ranked if held_out is None else held_out
        chosen = np.arange(n_users) if users is None else np.asarray(users)
        if not ((chosen >= 0) & (chosen < n_users)).all():
            raise InputError(f"users to measure are not all rows 0 to {n_users - 1:,}: name those only")
        chosen = chosen[held_out[chosen] > 0]
        if not len(chosen):
            raise InputError("no user has held-out items: nothing can be measured")
        self._k = min(k, self._n_items)
        self.users = torch.as_tensor(chosen).long()
        self._seen = _Seen.of(seen, self.users, self._n_items)
        self._held_out = torch.as_tensor(held_out[chosen]).float()
        tail = tail_of(np.bincount((seen if learned is None else learned).indices, minlength=self._n_items))
        in_tail = truth @ tail.astype(np.int64) + held_out - ranked
        self._tail, self._tail_held_out = torch.from_numpy(tail), torch.as_tensor(in_tail[chosen]).float()
        keys = np.repeat(np.arange(n_users, dtype=np.int64), ranked) * self._n_items + truth.indices
        # The first is nobody's, so that there is one where no held-out item can be ranked.
        self._keys = torch.as_tensor(np.sort(np.append(keys, -1)))
        self.truth = truth

    def __call__(self, score: Score) -> Evaluation:
        """Rank and compare."""
        items = _rank(score, self.users, self._n_items, self._k, self._seen).items
        wanted = self.users[:, None] * self._n_items + items
        at = torch.searchsorted(self._keys, wanted).clamp(max=len(self._keys) - 1)
        hits = ((self._keys[at] == wanted) & (items >= 0)).float()
        first = items[:, :20]
        exposure = first[first >= 0].bincount(minlength=self._n_items)
        tail_hits = (hits[:, :20] * self._tail[first]).sum(1)
        return Evaluation(
            self.users, items, hits, self._held_out, self._n_items, exposure, tail_hits, self._tail_held_out
        )


@torch.no_grad()
def evaluate(model: Backbone, evaluator: Evaluator) -> Evaluation:
    """Rank with a model as it stands."""
    vectors = model.vectors()
    return evaluator(lambda users: model.score_all(vectors, users))
