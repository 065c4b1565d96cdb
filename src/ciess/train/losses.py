"""What training lowers: BPR on interactions, and distillation from a full model."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, ClassVar, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import cross_entropy, softmax, softplus

from ciess.data import Interactions
from ciess.data.sampling import Triplets, TripletSampler
from ciess.models.base import Backbone, InnerProduct, Represented, Training

SPREAD = 2.0
"""Standard deviation of a user's scores that distillation scales the full model's to, so that its softmax is neither
nearly flat, as of ALS' scores in 0 to 1, nor nearly one item's."""
_SCORES = 2_000_000
"""Of a step of distillation, unless a recipe says otherwise."""
_BFLOAT16: bool = torch.cpu._is_avx512_bf16_supported()
"""Whether products of numbers rounded to bfloat16 are faster than others here."""
_BLOCK = 700_000
"""Scores that a step looks at together."""
_MOST = 0.5
"""Of the users and of the items in a step: all of them teach hardly more, and take three times as long."""


_MOST_HELD = 2**25
"""Probabilities of a teacher that are held: to take them takes less time than to find them anew in every step."""
_LEAST = 1e-35
"""Probabilities that are held are no smaller, so that those of any draw have a sum."""
_NEVER = -1e4
"""A score of which a softmax makes 0."""
_ROWS = 64
"""Whose probabilities find room in the processor's cache."""
_HELD: "WeakKeyDictionary[Backbone, tuple[tuple[object, ...], Tensor]]" = WeakKeyDictionary()
"""Probabilities of the latest teacher, and what they were found by."""


class Loss(Protocol):
    """Draws what the next step learns from, and says how far the vectors are from it.

    Attributes:
        dropout: whether a backbone that has dropout should drop while it learns this.
    """

    dropout: ClassVar[bool]

    @property
    def generator(self) -> torch.Generator:
        """Of its draws."""

    def __call__(self, vectors: Represented, user_table: Tensor, item_table: Tensor) -> Tensor:
        """A scalar whose gradient is that of the loss of a model as it stands; its value may be anything."""


class BPR:
    """Bayesian personalised ranking (Rendle et al., UAI 2009) with weight decay.

    Args:
        backbone: scores.
        train: interactions to learn.
        training: its batch size counts triplets; its l2 weighs the squared norms of a triplet's rows, its network_l2
            those of what is learned beside the tables.
        seed: of the triplets.
    """

    dropout: ClassVar[bool] = True

    def __init__(self, backbone: Backbone, train: Interactions, training: Training, seed: int) -> None:
        self._backbone, self._training = backbone, training
        self._sampler = TripletSampler(train, seed=seed)
        self._triplets = training.triplets(train.n_users + train.n_items)

    @property
    def generator(self) -> torch.Generator:
        """Of the triplets."""
        return self._sampler.generator

    def __call__(self, vectors: Represented, user_table: Tensor, item_table: Tensor) -> Tensor:
        """See `Loss`."""
        triplets = self._sampler.sample(self._triplets)
        loss = bpr_loss(self._backbone, vectors, user_table, item_table, triplets, self._training.l2)
        if self._training.network_l2:
            norms = sum(weights.square().sum() for weights in self._backbone.network.values())
            loss = loss + self._training.network_l2 / 2 * norms
        return loss


def bpr_loss(
    backbone: Backbone, vectors: Represented, user_table: Tensor, item_table: Tensor, triplets: Triplets, l2: float
) -> Tensor:
    """Mean over triplets of softplus(negative − positive score) + l2/2 · the sum of its three rows' squared norms."""
    users, positives, negatives = triplets
    user_norms, item_norms = user_table.square().sum(1), item_table.square().sum(1)
    norms = user_norms[users] + item_norms[positives] + item_norms[negatives]
    return triplet_losses(backbone, vectors, triplets).mean() + l2 / 2 * norms.mean()


def triplet_losses(backbone: Backbone, vectors: Represented, triplets: Triplets) -> Tensor:
    """(n,) softplus(negative − positive score) of each triplet."""
    scores = backbone.score(vectors, triplets.users, torch.stack([triplets.positives, triplets.negatives], dim=1))
    return softplus(scores[:, 1] - scores[:, 0])


class Distillation:
    """Cross-entropy against the full model's softmax over items (Hinton et al., 2015, arXiv 1503.02531).

    A small model that learns from the full one's scores comes closer to it, and sooner, than one that learns from
    triplets: each step compares whole rankings, of some users over some items. What a user is known to have is left
    out, as it is of what is recommended. All scores are multiplied by one number, so that models whose scores come on
    any scale learn alike.

    Args:
        backbone: the small model; scores.
        teacher: the full model.
        training: its batch size counts scores: of the users and of the items, the same share is drawn for each step, a
            half at most.
        seed: of the draws.

    Attributes:
        share: of the users and of the items drawn for each step.
    """

    dropout: ClassVar[bool] = False
    """The full model's scores, of which there are as many as one likes, leave nothing to overfit."""

    def __init__(self, backbone: Backbone, teacher: Backbone, training: Training, seed: int) -> None:
        self._backbone, self._teacher = backbone, teacher
        self.share = share_drawn(len(teacher.user_table), len(teacher.item_table), training)
        self.generator = torch.Generator().manual_seed(seed)

    @property
    def parts(self) -> int:
        """How many draws it takes until each user and each item is drawn."""
        return max(1, round(1 / self.share))

    # Both are made when the first step needs them: a plan that is only cut takes no step.

    @cached_property
    def _wanted(self) -> Represented:
        return self._teacher.vectors()

    @cached_property
    @torch.no_grad()
    def _sharpness(self) -> float:
        users, items = (spaced(len(side), self.share) for side in self._wanted)
        (scores,) = _scores(self._teacher, self._wanted, users, items, 1.0, len(users))
        spread = float(scores.std(dim=1).mean())
        return SPREAD / spread if spread > 0 else 1.0

    @cached_property
    def _held(self) -> Tensor | None:
        """(users, items) probabilities of the teacher over all items; None where these are too many."""
        if not held_bytes(*map(len, self._wanted)):
            return None
        return _probabilities(self._teacher, self._wanted, self._sharpness)

    def __call__(self, vectors: Represented, user_table: Tensor, item_table: Tensor) -> Tensor:
        """See `Loss`; see `_fast_products`, too: products are most of a step."""
        users, items = self._draw(*map(len, vectors))
        return self.pull(vectors, users, items) / len(users)

    def pull(self, vectors: Represented, users: Tensor, items: Tensor) -> Tensor:
        """The loss of some users over some items, summed over the users, as `_Pull` gives it."""
        with self._fast_products():
            blocks = self._blocks(vectors, users, items)
            pulls = [_Pull.apply(taught, scores) for taught, scores in blocks]  # type: ignore[no-untyped-call]
        return torch.stack(pulls).sum()

    def measured(self, vectors: Represented) -> float:
        """The mean loss on the next draw."""
        return self.on(vectors, *self._draw(*map(len, vectors)))

    @torch.no_grad()
    def on(self, vectors: Represented, users: Tensor, items: Tensor) -> float:
        """The mean loss of some users over some items."""
        blocks = self._blocks(vectors, users, items)
        losses = [cross_entropy(scores, taught, reduction="sum").item() for taught, scores in blocks]
        return sum(losses) / len(users)

    def compared(self, vectors: Represented, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's probabilities and the model's scores, scaled for a softmax: (users, items) each."""
        with self._fast_products():
            ((taught, scores),) = self._blocks(vectors, users, items, len(users))
        return taught, scores.float()

    def _fast_products(self) -> AbstractContextManager[object]:
        """Within this, factors of products are rounded to bfloat16 where that is faster."""
        # Not rounded, whoever asks for them first.
        _ = self._sharpness, self._held
        return torch.autocast("cpu", torch.bfloat16, enabled=_BFLOAT16)

    def _blocks(
        self, vectors: Represented, users: Tensor, items: Tensor, count: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The teacher's probabilities and the model's scores, scaled for a softmax, some users at a time.

        What passes over a block several times finds it in the processor's cache, and no memory is asked for anew.
        """
        count, by = count or max(1, _BLOCK // len(items)), self._sharpness
        learned = _scores(self._backbone, vectors, users, items, by, count)
        # Gradients of products need the factors alone.
        in_place = _by_inner_products(self._backbone)
        for some, scores in zip(users.split(count), learned, strict=True):
            taught, known = self._taught(some, items)
            yield taught, scores if known is None else _without(scores, known, in_place)

    @torch.no_grad()
    def _taught(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor | None]:
        """The teacher's probabilities, and where pairs are known and these are 0; None where that is not told."""
        if self._held is not None:
            found = _taken(self._held, users, items)
            known = None if self._teacher.learned is None else found == 0
            return found.div_(found.sum(1, keepdim=True).clamp_(min=_LEAST)), known
        (scores,) = _scores(self._teacher, self._wanted, users, items, self._sharpness, len(users))
        if self._teacher.learned is None:
            return softmax(scores.float(), dim=1), None
        known = _known(self._teacher.learned, users, items)
        return softmax(_without(scores.float(), known), dim=1).masked_fill_(known, 0.0), known

    def _draw(self, *counts: int) -> list[Tensor]:
        # Two items at least: one alone has nothing to be ranked against.
        return [
            torch.randperm(n, generator=self.generator)[: max(2, round(self.share * n))].sort().values for n in counts
        ]


def _by_inner_products(model: Backbone) -> bool:
    return type(model).score_all is InnerProduct.score_all


def _known(learned: Interactions, users: Tensor, items: Tensor) -> Tensor:
    """(b, m) whether a pair of a user, (b,) rows, and an item, (m,) rows, was learned."""
    pairs = learned.matrix[users.numpy()][:, items.numpy()].tocoo()
    found = torch.zeros(pairs.shape, dtype=torch.bool)
    found[torch.from_numpy(pairs.row).long(), torch.from_numpy(pairs.col).long()] = True
    return found


def _without(scores: Tensor, known: Tensor, in_place: bool = True) -> Tensor:
    """Scores of which a softmax makes 0 where pairs are known; in place where no gradient needs them as they were."""
    if not in_place:
        return scores.masked_fill(known, _NEVER)
    scores.detach().masked_fill_(known, _NEVER)
    return scores


def held_bytes(n_users: int, n_items: int) -> int:
    """Bytes of a teacher's probabilities of all pairs, which are held where they are few enough; else 0."""
    return 4 * n_users * n_items if n_users * n_items <= _MOST_HELD else 0


def share_drawn(n_users: int, n_items: int, training: Training) -> float:
    """Of the users and of the items, the share that a step of distillation draws."""
    share: float = min(_MOST, ((training.batch_size or _SCORES) / (n_users * n_items)) ** 0.5)
    return share


def spaced(count: int, share: float) -> Tensor:
    """Evenly spaced rows of so many, a share of them; two at least, since the scores of one item have no spread."""
    return torch.arange(0, count, max(1, min(int(1 / share), count - 1)))


class _Pull(Function):
    """A scalar, always 0, whose gradient is that of the summed cross-entropy of rows of scores against probabilities.

    Autograd would pass over matrices of a whole step many times more, and a step needs no more than the gradient.
    """

    @staticmethod
    def forward(ctx: Any, wanted: Tensor, scores: Tensor) -> Tensor:
        """From probabilities and scores, (n, m) each, to a scalar."""
        slope = softmax(scores.float(), dim=1).sub_(wanted)
        ctx.save_for_backward(slope.to(scores.dtype))
        return slope.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        """Softmax − wanted, times the gradient of the scalar."""
        slope: Tensor = ctx.saved_tensors[0]
        return None, slope * gradients[0].to(slope.dtype)


def _scores(
    model: Backbone, vectors: Represented, users: Tensor, items: Tensor, by: float, count: int
) -> Iterator[Tensor]:
    """Scores of some users over some items, times a number, so many users at a time; of bfloat16 where products are."""
    if _by_inner_products(model):
        # Rows are fewer than scores.
        near = Represented(by * vectors.users[users], vectors.items[items])
        for some in torch.arange(len(users)).split(count):
            yield model.score_all(near, some)
        return
    # Another model may know something of a user by its row.
    near = Represented(vectors.users, vectors.items[items])
    for some in users.split(count):
        yield by * model.score_all(near, some)


@torch.no_grad()
def _probabilities(model: Backbone, vectors: Represented, sharpness: float) -> Tensor:
    """(users, items) softmax of a model's scores times a number, found once for as long as the model stays as it is."""
    versions = (each._version for each in (*model.parameters(), *model.buffers()))
    found_by = (sharpness, model.learned, *versions)
    before = _HELD.get(model)
    if before is not None and before[0] == found_by:
        return before[1]
    users, items = (torch.arange(len(side)) for side in vectors)
    count, blocks = max(1, _BLOCK // len(items)), []
    for some, scores in zip(users.split(count), _scores(model, vectors, users, items, sharpness, count), strict=True):
        pairs = None if model.learned is None else _known(model.learned, some, items)
        found = softmax(scores if pairs is None else _without(scores, pairs), dim=1).clamp_(min=_LEAST)
        blocks.append(found if pairs is None else found.masked_fill_(pairs, 0.0))
    held = torch.cat(blocks)
    _HELD.clear()
    _HELD[model] = found_by, held
    return held


def _taken(table: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """A table's numbers in some rows and columns."""
    found = table.new_empty(len(rows), len(columns))
    for some, into in zip(rows.split(_ROWS), found.split(_ROWS), strict=True):
        torch.index_select(table.index_select(0, some), 1, columns, out=into)
    return found
