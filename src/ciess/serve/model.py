"""`CompressedModel`: packed tables and what scoring needs. Rows that are scored as they are need NumPy alone."""

import dataclasses
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ciess.data.ids import RowIds
from ciess.errors import InputError
from ciess.files import Content, write_together
from ciess.serve.arguments import asked, whole
from ciess.serve.folder import NETWORK, Opened, Parts, model_files
from ciess.serve.packing import packed_seen, packed_table
from ciess.serve.ranking import packed_scores, popular_items, top_items
from ciess.serve.seen import SeenItems
from ciess.tables.packed import PackedTable, falling_order, stored_bytes
from ciess.tables.plan import SizePlan

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_array

    from ciess.data import Interactions
    from ciess.evaluation.metrics import Evaluation
    from ciess.models.base import Backbone, BackboneConfig, Represented

_log = logging.getLogger(__name__)
_SCORES_AT_ONCE = 4_000_000
_preparing = threading.RLock()
"""Held while a model is checked or made ready to score, so that threads do that once."""


def _renew_lock() -> None:
    """A thread of the parent may have held the lock when this process was forked."""
    global _preparing
    _preparing = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@dataclass(eq=False, repr=False)
class CompressedModel:
    """A small recommender. Made by `ciess.search` or `CompressedModel.pack`, read by `ciess.load`.

    Attributes:
        users: packed user table.
        items: packed item table.
        user_index: ids of the users, in the order of their table.
        item_index: ids of the items, in the order of theirs.
        seen: what users have, by rows of both tables: items to leave out. What of it was learned is the graph of graph
            backbones.
        settings: of the backbone, its name among them.
        rows_stand_alone: whether scores are inner products of the tables' rows: then nothing but them is needed.
        about: settings, versions, seeds and results, as JSON keeps them.
        network: what the backbone keeps beside its tables, by the names of its parameters and buffers.
        given: settings of a backbone of your own, which `settings` does not suffice to build.
        learns: whether rows were trained on `seen`; tables trained elsewhere may know users without interactions.
        source: the folder that the model was read from; None if it was not.
    """

    users: PackedTable
    items: PackedTable
    user_index: RowIds
    item_index: RowIds
    seen: SeenItems
    settings: dict[str, Any]
    rows_stand_alone: bool
    about: dict[str, Any] = field(default_factory=dict)
    network: dict[str, NDArray[Any]] = field(default_factory=dict)
    given: "BackboneConfig | None" = None
    learns: bool = True
    source: Opened | None = None

    @classmethod
    def pack(
        cls,
        config: "BackboneConfig",
        backbone: "Backbone",
        plan: SizePlan,
        interactions: "Interactions",
        about: Mapping[str, Any] | None = None,
        given: "Interactions | None" = None,
    ) -> "CompressedModel":
        """Pack a backbone whose rows are zero beyond the plan's sizes.

        Args:
            config: what built the backbone.
            backbone: trained on `interactions`.
            plan: the sizes of its rows.
            interactions: what it was trained on.
            about: kept with the model.
            given: all that users have, over the same ids, `interactions` among it; None where it was all learned.

        Raises:
            InputError: the tables hold numbers that are not finite, or too large for the precision.
        """
        from ciess.models import backbone_settings

        by_user, by_item = falling_order(plan.user_sizes), falling_order(plan.item_sizes)
        sides = ((backbone.user_table, by_user, plan.user_sizes), (backbone.item_table, by_item, plan.item_sizes))
        users, items = (packed_table(*side, plan.precision) for side in sides)
        return cls(
            users,
            items,
            RowIds.of(interactions.user_ids.to_numpy()[by_user]),
            RowIds.of(interactions.item_ids.to_numpy()[by_item]),
            packed_seen(interactions, given, by_user, by_item),
            backbone_settings(config),
            backbone.rows_stand_alone,
            dict(about or {}),
            {name: each.detach().cpu().numpy().copy() for name, each in backbone.beside_tables.items()},
            config,
            config.learns,
        )

    def __repr__(self) -> str:
        rows = f"{len(self.users):,} users, {len(self.items):,} items"
        return f"CompressedModel({self.settings['name']}, {rows}, {self.table_bytes:,} bytes of {self.users.precision})"

    def __getstate__(self) -> dict[str, Any]:
        """What copies consist of: they hold all that they need in memory, and no files; what follows is made anew."""
        self.verify()
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self)} | {"source": None}

    @property
    def plan(self) -> SizePlan:
        """The sizes of users and items, in the order of the packed tables."""
        return SizePlan(self.users.sizes, self.items.sizes, self.users.dim, self.users.precision)

    @property
    def table_bytes(self) -> int:
        """Bytes of the packed tables on disk, file header and index included."""
        return stored_bytes(self.plan)

    @property
    def network_bytes(self) -> int:
        """Bytes on disk of what was learned beside the tables; no budget counts them."""
        from safetensors.numpy import save

        return len(save(self.network)) if self.network else 0

    @property
    def user_ids(self) -> NDArray[Any]:
        """(n_users,) ids in the order of the packed table."""
        self.verify()
        return self.user_index.take(np.arange(len(self.user_index)))

    @property
    def item_ids(self) -> NDArray[Any]:
        """(n_items,) ids in the order of the packed table."""
        self.verify()
        return self.item_index.take(np.arange(len(self.item_index)))

    @cached_property
    def config(self) -> "BackboneConfig":
        """Settings of the backbone."""
        from ciess.models import backbone_from_settings

        # Of factors without a width, files would be read.
        return self.given or backbone_from_settings({"dim": self.users.dim, **self.settings})

    @cached_property
    def interactions(self) -> "Interactions":
        """What was learned, ids and rows in the order of the packed tables."""
        import polars as pl

        from ciess.data import Interactions

        seen = self._seen_matrix
        if self.seen.learned is not None:
            seen = seen.copy()
            seen.data[~self.seen.learned] = 0
            seen.eliminate_zeros()
        return Interactions.unchecked(seen, pl.Series(self.user_ids), pl.Series(self.item_ids))

    @cached_property
    def _seen_matrix(self) -> "csr_array":
        """(n_users, n_items) what users have, in the order of the packed tables."""
        from scipy.sparse import csr_array

        # SciPy trusts offsets and rows.
        self.verify()
        ones = np.ones(len(self.seen.items), dtype=np.float32)
        index = np.int32 if len(ones) < 2**31 else np.int64
        parts = (ones, self.seen.items.astype(index), self.seen.offsets.astype(index))
        return csr_array(parts, shape=(len(self.users), len(self.items)))

    def known(self, user_ids: Any) -> NDArray[np.bool_]:
        """(b,) whether the model has learned something of each user, so that it has scores of its own."""
        self.verify()
        return self._scored(self.user_index.rows(asked("user_ids", user_ids)[0]))

    def recommend(
        self,
        user_ids: Any,
        k: int = 10,
        exclude_seen: bool = True,
        *,
        exclude: Any = None,
        candidates: Any = None,
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """The k best items for each user.

        A user that the model does not know, or of whom it has learned no interaction, gets the most popular items,
        flagged by scores that are NaN. Where fewer than k items are left, the rest of the row is None, with score −∞.

        Packed rows that are scored as they are need NumPy alone and bounded memory; others are scored with PyTorch.

        Args:
            user_ids: one id, or (b,) ids.
            k: how many items, 1 to all.
            exclude_seen: leave out the items that a user has already.
            exclude: ids of items to recommend to none of the users. Those that the model does not know are never
                recommended; a warning tells how many they are, in case they are mistyped.
            candidates: ids of the only items to recommend; None: all. A warning tells how many the model does not know.

        Returns:
            item ids and scores, (b, k) each; (k,) for a single id.

        Raises:
            InputError: k is no whole number from 1 to the number of items, ids are nested lists, the model knows none
                of the candidates, or a file of the model is damaged.
        """
        self.verify()
        ids, single = asked("user_ids", user_ids)
        rows = self.user_index.rows(ids)
        k = whole(k, len(self.items))
        allowed, seen = self._allowed(exclude, candidates), self.seen if exclude_seen else None
        items = np.full((len(rows), k), -1)
        scores = np.full(items.shape, -np.inf, dtype=np.float32)
        own = self._scored(rows)
        if own.any():
            items[own], scores[own] = self._ranked(rows[own], k, seen, allowed)
        if not own.all():
            items[~own] = popular_items(self._popular, rows[~own], k, seen, allowed)
            scores[~own] = np.where(items[~own] >= 0, np.nan, -np.inf)
        ids = self.item_index.take(np.maximum(items, 0))
        if (items < 0).any():
            ids = ids.astype(object)
            ids[items < 0] = None
        return (ids[0], scores[0]) if single else (ids, scores)

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

    def evaluate(self, held_out: "Interactions", k: int = 20) -> "Evaluation":
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
        from ciess.data import Interactions
        from ciess.serve.measured import measured

        if not isinstance(held_out, Interactions):
            raise InputError(f"held_out is of type {type(held_out).__name__}: give Interactions, as ciess.read does")
        self.verify()
        k = whole(k)
        learned = self.interactions.matrix
        return measured(self._score_rows, held_out, self.user_index, self.item_index, self._seen_matrix, learned, k)

    def _score_rows(self, users: "torch.Tensor") -> "torch.Tensor":
        """(b, n_items) scores of users, (b,) rows in the order of the packed tables."""
        import torch

        with _preparing:
            backbone, vectors = self.backbone, self.represented
        with torch.no_grad():
            return backbone.score_all(vectors, users)

    def vectors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Vectors whose inner products are the scores: (n_users, width) and (n_items, width).

        Row n of each belongs to the n-th of `user_ids` and `item_ids`.

        Raises:
            InputError: the backbone scores otherwise.
        """
        self.verify()
        if self.rows_stand_alone:
            return self.users.dense(), self.items.dense()
        from ciess.models.base import InnerProduct

        if not isinstance(self.backbone, InnerProduct):
            raise InputError(f"{self.settings['name']} does not score by inner products: there are no such vectors")
        users, items = self.represented
        return users.numpy().copy(), items.numpy().copy()

    @cached_property
    def backbone(self) -> "Backbone":
        """The module that scores; its tables are not used.

        Raises:
            InputError: the network that was saved is not that of this backbone.
        """
        import torch

        self.verify()
        backbone = self.config.skeleton(self.interactions).cpu()
        beside = backbone.beside_tables
        wanted = {name: tuple(weights.shape) for name, weights in beside.items()}
        if wanted != {name: weights.shape for name, weights in self.network.items()}:
            raise InputError("the model's weights are not those of its backbone: save the model again")
        with torch.no_grad():
            for name, weights in beside.items():
                weights.copy_(torch.from_numpy(self.network[name]))
        return backbone.eval()

    @cached_property
    def represented(self) -> "Represented":
        """The vectors that the backbone scores."""
        import torch

        users, items = (torch.from_numpy(table.dense()) for table in (self.users, self.items))
        return self.backbone.vectors(users, items)

    @cached_property
    def _popular(self) -> NDArray[np.int64]:
        return np.argsort(-self.seen.popularity(), kind="stable")

    def verify(self) -> None:
        """Compare the files that the model was read from with their checksums, and see what they hold.

        Opening a model reads next to nothing, so this waits until it is first used. Later it takes microseconds, unless
        somebody has written into the files: then they are compared again.

        Raises:
            InputError: a file is not as it was written, or holds what no model consists of.
        """
        if self.source is not None and not self.source.fresh:
            with _preparing:
                self.source.check()

    @property
    def files(self) -> dict[str, Content]:
        """What `write_together` writes for the model, by name.

        Raises:
            InputError: the model was read from files that are damaged.
        """
        self.verify()
        settings = {
            "backbone": self.settings,
            "rows_stand_alone": self.rows_stand_alone,
            "learns": self.learns,
            "about": self.about,
        }
        parts = Parts((self.users, self.items), (self.user_index, self.item_index), self.seen)
        return model_files(parts, self.network, settings)

    def save(self, folder: str | Path) -> Path:
        """Write the model into a folder, made if need be, all its files at once; it may be the one it was read from.

        Raises:
            InputError: the folder cannot be written, or the model was read from files that are damaged.
        """
        write_together(Path(folder), self.files, stale=() if self.network else (NETWORK,))
        return Path(folder)


def evaluate(model: CompressedModel, held_out: "Interactions", k: int = 20) -> "Evaluation":
    """Measure a model on held-out interactions, see `CompressedModel.evaluate`.

    Raises:
        InputError: `model` is none, or what `CompressedModel.evaluate` raises.
    """
    if not isinstance(model, CompressedModel):
        raise InputError(f"model is of type {type(model).__name__}: give a CompressedModel, as ciess.load opens it")
    return model.evaluate(held_out, k)
