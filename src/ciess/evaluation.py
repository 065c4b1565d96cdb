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

from ciess.errors import InputError

Score = Callable[[Tensor], Tensor]
"""From user rows (b,) to their scores of every item, (b, n_items)."""

METRICS = ("recall", "recall-capped", "precision", "hit", "mrr", "ndcg", "ndcg-uncut", "map", "map-capped")
QUALITY_METRICS = tuple(f"{name}@{k}" for k in (5, 10, 20) for name in ("recall", "ndcg"))
"""The six whose mean is a user's quality (CIESS, Sec. 3.2)."""

_SCORES_IN_A_BLOCK = 4_000_000
_MOST_USERS_IN_A_BLOCK = 1024


class Ranking(NamedTuple):
    """The first k items of each user and their scores, (users, k). Item −1 with score −inf where none is left."""

    items: Tensor
    scores: Tensor


@torch.no_grad()
def rank(score: Score, users: Tensor, n_items: int, k: int, seen: csr_array | None = None) -> Ranking:
    """The k best items of each user in falling order of score; of equal scores the earlier item comes first.

    `score` is always called with the same number of users, the last ones filled up, because the rounding of a
    matrix product can depend on its shape: so a user's ranking does not depend on who else is ranked.

    Args:
        score: scores all items for a block of users.
        users: (n,) rows.
        n_items: how many items there are.
        k: how many to rank.
        seen: (all users, n_items) items to leave out; None leaves out none.

    Raises:
        InputError: k is not in 1..n_items.
        ValueError: a score is not a number.
    """
    if not 1 <= k <= n_items:
        raise InputError(f"k is {k}: ask for 1 to {n_items:,} items")
    pattern = None if seen is None else _Pattern.of(seen, users.device)
    size = max(1, min(_MOST_USERS_IN_A_BLOCK, _SCORES_IN_A_BLOCK // n_items))
    parts = []
    for block in users.split(size):
        filled = torch.cat([block, block[-1:].expand(size - len(block))])
        scores = score(filled)[: len(block)]
        if pattern is not None:
            scores[pattern.positions(block)] = -torch.inf
        parts.append(_first(scores, k))
    return Ranking(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _first(scores: Tensor, k: int) -> Ranking:
    """The first k columns of each row in falling order, ties in order of columns."""
    values, items = scores.topk(k)
    if values[:, 0].isnan().any():
        raise ValueError("scores are not numbers: the model has diverged")
    last = values[:, -1:]
    # topk promises nothing about which of several equal scores it takes: such rows, rare, are sorted whole.
    tied = ((scores >= last).sum(1) > k) & (last.squeeze(1) > -torch.inf)
    if tied.any():
        items[tied] = scores[tied].argsort(dim=1, descending=True, stable=True)[:, :k]
        values = scores.gather(1, items)
    items = items.sort(dim=1).values
    values, order = scores.gather(1, items).sort(dim=1, descending=True, stable=True)
    return Ranking(items.gather(1, order).masked_fill(values == -torch.inf, -1), values)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Rankings held against held-out items. `evaluation["recall@20"]` is a mean over users.

    Attributes:
        users: (n,) rows of the users measured: those with held-out items. (The papers count others as 0; their
            splits leave none.)
        items: (n, k) ranked items.
        hits: (n, k) 1.0 where a ranked item is held out, else 0.0.
        held_out: (n,) how many items each user has held out.
        n_items: how many items there are.
    """

    users: Tensor
    items: Tensor
    hits: Tensor
    held_out: Tensor
    n_items: int

    def __getitem__(self, metric: str) -> float:
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
        if self.hits.shape[1] < min(k, self.n_items):
            raise InputError(f"'{metric}' is out of reach: only the first {self.hits.shape[1]} items were ranked")
        hits, capped = self.hits[:, :k], self.held_out.clamp(max=k)
        ranks = torch.arange(1, hits.shape[1] + 1, device=hits.device)
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

    @cached_property
    def quality(self) -> Tensor:
        """(n,) each user's mean of Recall@k and NDCG@k over k = 5, 10, 20 (CIESS, Sec. 3.2)."""
        return self._earned.sum(1)

    @cached_property
    def item_credit(self) -> Tensor:
        """(n_items,) what hits of each item add to the users' quality; its sum is the sum of their qualities."""
        credit = torch.zeros(self.n_items, device=self.hits.device)
        # Ranks without an item earn nothing: where their nothing is added does not matter.
        return credit.index_add_(0, self.items.clamp(min=0).reshape(-1), self._earned.reshape(-1))

    @cached_property
    def _earned(self) -> Tensor:
        """(n, 20) what each rank adds to its user's quality: recall and NDCG are sums over hits."""
        hits = self.hits[:, :20]
        worth = torch.zeros_like(hits)
        for k in (5, 10, 20):
            worth[:, :k] += (1 / self.held_out)[:, None]
            worth[:, :k] += _discounts(hits[:, :k]) / self._ideal_dcg(self.held_out.clamp(max=k))[:, None]
        return hits * worth / len(QUALITY_METRICS)

    def _ideal_dcg(self, hits_in_front: Tensor) -> Tensor:
        ranks = torch.arange(1, int(hits_in_front.max()) + 1, device=hits_in_front.device)
        return (1 / torch.log2(ranks + 1.0)).cumsum(0)[hits_in_front.long() - 1]


def _discounts(hits: Tensor) -> Tensor:
    return 1 / torch.log2(torch.arange(2, hits.shape[1] + 2, device=hits.device, dtype=hits.dtype))


class Evaluator:
    """Full ranking against one held-out set: made once, called for every model.

    Args:
        seen: (n_users, n_items) items left out of the rankings, usually what was trained on.
        truth: (n_users, n_items) held-out items.
        k: how many items are ranked; fewer where there are fewer.
        users: rows to measure; None measures all. Users without held-out items are not measured.
        device: where scores lie.

    Raises:
        InputError: no user is left to be measured.
    """

    def __init__(
        self,
        seen: csr_array,
        truth: csr_array,
        k: int = 20,
        users: NDArray[np.integer] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        held_out = np.diff(truth.indptr)
        chosen = np.arange(truth.shape[0]) if users is None else np.asarray(users)
        chosen = chosen[held_out[chosen] > 0]
        if not len(chosen):
            raise InputError("no user has held-out items: nothing can be measured")
        self._seen, self._n_items = seen, truth.shape[1]
        self._k = min(k, self._n_items)
        self.users = torch.as_tensor(chosen, device=device).long()
        self._held_out = torch.as_tensor(held_out[chosen], device=device).float()
        keys = np.repeat(np.arange(truth.shape[0], dtype=np.int64), held_out) * self._n_items + truth.indices
        self._keys = torch.as_tensor(np.sort(keys), device=device)

    def __call__(self, score: Score) -> Evaluation:
        """Rank and compare."""
        items = rank(score, self.users, self._n_items, self._k, self._seen).items
        wanted = self.users[:, None] * self._n_items + items
        at = torch.searchsorted(self._keys, wanted).clamp(max=len(self._keys) - 1)
        hits = ((self._keys[at] == wanted) & (items >= 0)).float()
        return Evaluation(self.users, items, hits, self._held_out, self._n_items)


class _Pattern(NamedTuple):
    """Where a CSR matrix has entries, on a device."""

    offsets: Tensor
    columns: Tensor

    @classmethod
    def of(cls, matrix: csr_array, device: torch.device) -> "_Pattern":
        return cls(torch.as_tensor(matrix.indptr, device=device).long(), torch.as_tensor(matrix.indices, device=device))

    def positions(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """The entries in the rows of `users`: position in `users`, and column."""
        counts = self.offsets[users + 1] - self.offsets[users]
        position = torch.repeat_interleave(torch.arange(len(users), device=users.device), counts)
        within = torch.arange(len(position), device=users.device) - (counts.cumsum(0) - counts)[position]
        return position, self.columns[self.offsets[users][position] + within].long()
