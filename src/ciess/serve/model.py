"""`CompressedModel`: a small recommender. Rows that are scored as they are need NumPy alone."""

import dataclasses
import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ciess.checks import check
from ciess.errors import InputError
from ciess.serve.arguments import asked, whole
from ciess.serve.arrivals import grown, weights_of
from ciess.serve.packed_model import PackedModel
from ciess.serve.ranking import packed_scores, popular_items, top_items
from ciess.serve.seen import SeenItems
from ciess.serve.user_map import Rows, UserMap, mean_rows
from ciess.tables.packed import PackedTable

if TYPE_CHECKING:
    import torch

    from ciess.data.interactions import InteractionsLike
    from ciess.evaluation.metrics import Evaluation
    from ciess.tables.budget import Budget

_log = logging.getLogger(__name__)
_SCORES_AT_ONCE = 4_000_000


class CompressedModel(PackedModel):
    """A small recommender. Made by `ciess.search` or `CompressedModel.pack`, read by `ciess.load`."""

    def known(self, user_ids: Any) -> NDArray[np.bool_]:
        """(b,) whether the model has learned something of each user, so that it has scores of its own."""
        self.verify()
        return self._scored(self.user_index.rows(asked("user_ids", user_ids)[0]))

    def recommend(
        self,
        user_ids: Any = None,
        k: int = 10,
        exclude_seen: bool = True,
        *,
        items: Any = None,
        exclude: Any = None,
        candidates: Any = None,
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """The k best items for each user, or for somebody without an id who has some items.

        A user that the model does not know, or of whom it has learned no interaction, gets the most popular items,
        flagged by scores that are NaN. Where fewer than k items are left, the rest of the row is None, with score −∞.

        Packed rows that are scored as they are need NumPy alone and bounded memory; others are scored with PyTorch.

        Args:
            user_ids: one id, or (b,) ids.
            k: how many items, 1 to all.
            exclude_seen: leave out the items that a user has already.
            items: in place of `user_ids`: ids of what somebody has. A row is made of theirs, see `with_users`, and
                nothing is kept. A warning tells how many the model does not know; if it knows none, the most popular
                items come back, as for an unknown user.
            exclude: ids of items to recommend to none of the users. Those that the model does not know are never
                recommended; a warning tells how many they are, in case they are mistyped.
            candidates: ids of the only items to recommend; None: all. A warning tells how many the model does not know.

        Returns:
            item ids and scores, (b, k) each; (k,) for a single id.

        Raises:
            InputError: k is no whole number from 1 to the number of items, ids are nested lists, the model knows none
                of the candidates, both users and items are given or neither, rows cannot be made of items' by this
                backbone, or a file of the model is damaged.
        """
        self.verify()
        exclude_seen = check("exclude_seen", exclude_seen, bool)
        if (user_ids is None) == (items is None):
            raise InputError("users and items are both given, or neither: name users, or what somebody has")
        if items is not None:
            return self._for_items(items, k, exclude_seen, exclude, candidates)
        ids, single = asked("user_ids", user_ids)
        rows = self.user_index.rows(ids)
        k = whole(k, len(self.items))
        allowed, seen = self._allowed(exclude, candidates), self.seen if exclude_seen else None
        best = np.full((len(rows), k), -1)
        scores = np.full(best.shape, -np.inf, dtype=np.float32)
        own = self._scored(rows)
        if own.any():
            best[own], scores[own] = self._ranked(rows[own], k, seen, allowed)
        if not own.all():
            best[~own] = popular_items(self.seen.popular, rows[~own], k, seen, allowed)
            scores[~own] = np.where(best[~own] >= 0, np.nan, -np.inf)
        found = self._named(best)
        return (found[0], scores[0]) if single else (found, scores)

    def _named(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Ids of items by their rows; None for −1."""
        ids = self.item_index.take(np.maximum(rows, 0))
        if (rows < 0).any():
            ids = ids.astype(object)
            ids[rows < 0] = None
        return ids

    def _for_items(
        self, items: Any, k: int, exclude_seen: bool, exclude: Any, candidates: Any
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """The k best items, (k,), for somebody who has some."""
        # Refused whatever they have, where there is none.
        _ = self._user_map
        has = self.item_index.rows(asked("items", items)[0])
        if unknown := int((has < 0).sum()):
            _log.warning("items: the model does not know %d of %d items", unknown, len(has))
        has = np.unique(has[has >= 0])
        k, allowed = whole(k, len(self.items)), self._allowed(exclude, candidates)
        offsets = np.array([0, len(has)])
        seen = SeenItems.of(offsets, has, len(self.items)) if exclude_seen else None
        row = np.zeros(1, dtype=np.int64)
        if len(has):
            table = self._item_vectors
            made = self._user_map.rows(mean_rows(table.rows, offsets, has, table.dim), np.diff(offsets))
            user = PackedTable.pack(made, np.array([table.dim], dtype=np.int32))
            best, scores = top_items(user, table, row, k, seen, allowed)
        else:
            best = popular_items(self.seen.popular, row, k, seen, allowed)
            scores = np.where(best >= 0, np.float32(np.nan), np.float32(-np.inf))
        return self._named(best)[0], scores[0]

    @cached_property
    def _user_map(self) -> UserMap:
        width, (users, items) = self.rows_of_vectors()
        return UserMap.fitted(users, items, width, self.seen)

    @cached_property
    def _item_vectors(self) -> PackedTable:
        """What is scored by inner products: the items' table, or what a graph makes of it."""
        if self.rows_stand_alone:
            return self.items
        vectors = self.vectors()[1]
        return PackedTable.pack(vectors, np.full(len(vectors), vectors.shape[1], dtype=np.int32))

    def with_users(self, interactions: "InteractionsLike", budget: "str | Budget | None" = None) -> "CompressedModel":
        """The model with rows for new users, too; nobody else's row changes by a bit.

        A new row has the size of the model's rows with as many interactions. It is what the model's own users have,
        given the mean of the rows of their items, see `UserMap`. What a new user has counts as seen, and as learned.

        Args:
            interactions: of new users with items that the model knows, as `ciess.search` takes them. Others are left
                out, with a warning.
            budget: a limit on the bytes of both tables as stored, rows of new users included, which are made smaller
                to hold it; None: tables stay within the share of the full ones that they take now.

        Raises:
            InputError: no such interaction, new rows that do not fit, or a graph or network, which mixes rows.
        """
        return self._grown(interactions, 0, budget)

    def with_items(self, interactions: "InteractionsLike", budget: "str | Budget | None" = None) -> "CompressedModel":
        """The same for new items, by the rows of their users: of an ALS model alone.

        Args:
            interactions: of users that the model knows with new items. Others are left out, with a warning.
            budget: as for `with_users`.

        Raises:
            InputError: as for `with_users`, or a backbone that was not trained by least squares: the rows of its items
                say how popular they are, which a mean of users does not, so that new items would flood all lists.
        """
        if self.rows_stand_alone and weights_of(self) is None:
            raise InputError(f"{self.settings['name']} has no rows for new items: train it anew, or use als")
        return self._grown(interactions, 1, budget)

    def _grown(self, interactions: "InteractionsLike", side: int, budget: "str | Budget | None") -> "CompressedModel":
        from ciess.data import interactions_of

        if not self.rows_stand_alone:
            from ciess.models.base import InnerProduct

            others = "search with target='output', or search anew"
            remedy = others if isinstance(self.backbone, InnerProduct) else "search anew, or use als or mf"
            raise InputError(f"{self.settings['name']} mixes rows, so new ones would change the others: {remedy}")
        self.verify()
        return dataclasses.replace(self, **grown(self, interactions_of(interactions), side, budget))

    def score(self, user_ids: Any, item_ids: Any = None) -> Any:
        """Scores of items for users, as `recommend` ranks by.

        Args:
            user_ids: one id, or (b,) ids.
            item_ids: one id, or (m,) ids, the same for all users; None: all items, in the order of `item_ids`.

        Returns:
            (b, m) float32 scores; a single id has no axis. NaN where the model does not know the item, and for users
            that `known` does not tell.

        Raises:
            InputError: ids are nested lists, or a file of the model is damaged.
        """
        self.verify()
        users, one_user = asked("user_ids", user_ids)
        items, one_item = asked("item_ids", self.item_ids if item_ids is None else item_ids)
        rows, columns = self.user_index.rows(users), self.item_index.rows(items)
        own, there = self._scored(rows), columns >= 0
        scores = np.full((len(rows), len(columns)), np.nan, dtype=np.float32)
        if own.any() and there.any():
            scores[np.ix_(own, there)] = self._scores(rows[own], columns[there])
        return scores[0 if one_user else slice(None), 0 if one_item else slice(None)]

    def _scores(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        """(b, m) scores of items, (m,) rows, for users, (b,) rows."""
        if self.rows_stand_alone:
            return packed_scores(self.users, self.items, rows, columns)
        import torch

        scores = np.empty((len(rows), len(columns)), dtype=np.float32)
        size = max(1, _SCORES_AT_ONCE // len(self.items))
        for start in range(0, len(rows), size):
            block = slice(start, start + size)
            scores[block] = self._score_rows(torch.from_numpy(rows[block])).numpy()[:, columns]
        return scores

    def _scored(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(b,) which users, by rows, −1 for unknown ones, have scores of their own."""
        known = rows >= 0
        if self.learns:
            known[known] = self.seen.learned_counts(rows[known]) > 0
        return known

    def _allowed(self, exclude: Any, candidates: Any) -> NDArray[np.bool_] | None:
        """(n_items,) which items may be recommended; None: all."""
        if exclude is None and candidates is None:
            return None
        allowed = np.full(len(self.items), candidates is None)
        for name, ids, may in (("candidates", candidates, True), ("exclude", exclude, False)):
            if ids is not None:
                rows = self.item_index.rows(asked(name, ids)[0])
                unknown = int((rows < 0).sum())
                if unknown and unknown == len(rows) and may:
                    raise InputError("the model knows none of the candidates: give ids of items as the data have them")
                if unknown:
                    _log.warning("%s: the model does not know %d of %d items", name, unknown, len(rows))
                allowed[rows[rows >= 0]] = may
        return allowed

    def _ranked(
        self, rows: NDArray[np.int64], k: int, seen: SeenItems | None, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if self.rows_stand_alone:
            return top_items(self.users, self.items, rows, k, seen, allowed)
        import torch

        from ciess.evaluation.metrics import rank

        score, left_out = self._score_rows, None if seen is None else self._seen_matrix
        if allowed is not None:
            barred = ~torch.from_numpy(allowed)
            score = lambda users: self._score_rows(users).masked_fill(barred, -torch.inf)  # noqa: E731
        ranking = rank(score, torch.from_numpy(rows), len(self.items), k, left_out)
        return ranking.items.numpy(), ranking.scores.numpy()

    def evaluate(self, held_out: "InteractionsLike", k: int = 20) -> "Evaluation":
        """Rank the items that users do not have, but for a held-out set; its users and items are matched by their ids.

        What of the set the model has learned says nothing about new interactions: a warning tells how much that is.

        Rows and columns of the result are those of the set, whatever the order of the packed tables: so models can be
        compared user by user and item by item. Items that the set does not know are −1.

        Held-out items that the model does not know count as missed, as by the usual protocol; users that it does not
        know have no scores, and are left out with a warning.

        Users of whom nothing was learned are ranked by their rows here, as the full model ranks them.

        Raises:
            InputError: no user of the set is known, k is no whole number of 1 or more, or a file of the model is
                damaged.
        """
        from ciess.data import interactions_of
        from ciess.serve.measured import measured

        held_out = interactions_of(held_out)
        self.verify()
        return measured(self, self._score_rows, held_out, whole(k))

    def _score_rows(self, users: "torch.Tensor") -> "torch.Tensor":
        """(b, n_items) scores of users, (b,) rows in the order of the packed tables."""
        import torch

        backbone, vectors = self.ready_to_score()
        with torch.no_grad():
            return backbone.score_all(vectors, users)

    def vectors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Vectors whose inner products are the scores: (n_users, width) and (n_items, width).

        Row n of each belongs to the n-th of `user_ids` and `item_ids`.

        Raises:
            InputError: the backbone scores otherwise.
        """
        users, items = (
            rows(np.arange(len(ids)))
            for rows, ids in zip(self.rows_of_vectors()[1], (self.user_index, self.item_index), strict=True)
        )
        return users, items

    def rows_of_vectors(self) -> tuple[int, tuple[Rows, Rows]]:
        """The width of `vectors`, and functions that give some of them: of users and of items by (b,) rows.

        Raises:
            InputError: the backbone scores otherwise.
        """
        self.verify()
        if self.rows_stand_alone:
            return self.users.dim, (self.users.rows, self.items.rows)
        from ciess.models.base import InnerProduct

        if not isinstance(self.backbone, InnerProduct):
            told = "so there are no vectors, nor rows by items: use als, mf, lightgcn or ngcf, or export to onnx"
            raise InputError(f"{self.settings['name']} does not score by inner products, {told}")
        users, items = (side.numpy() for side in self.represented)
        return users.shape[1], (users.__getitem__, items.__getitem__)


def evaluate(model: CompressedModel, held_out: "InteractionsLike", k: int = 20) -> "Evaluation":
    """Measure a model on held-out interactions, see `CompressedModel.evaluate`.

    Raises:
        InputError: `model` is none, or what `CompressedModel.evaluate` raises.
    """
    if not isinstance(model, CompressedModel):
        raise InputError(f"model is of type {type(model).__name__}: give a CompressedModel, as ciess.load opens it")
    return model.evaluate(held_out, k)
