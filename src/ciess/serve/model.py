"""`CompressedModel`: packed tables and what scoring needs. Rows that are scored as they are need NumPy alone."""

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ciess.data.ids import RowIds, is_single
from ciess.errors import InputError
from ciess.serve.ranking import top_items
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
        network: what the backbone learned beside its tables, by the names of its parameters.
        given: settings of a backbone of your own, which `settings` does not suffice to build.
        source: the folder that the model was read from, and the checksums of its files.
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
    source: tuple[Path, Mapping[str, str]] | None = None

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
        """
        from ciess.models import backbone_settings

        by_user, by_item = falling_order(plan.user_sizes), falling_order(plan.item_sizes)
        users, items = (
            PackedTable.pack(table.detach().cpu().numpy()[order], sizes[order], plan.precision)
            for table, order, sizes in (
                (backbone.user_table, by_user, plan.user_sizes),
                (backbone.item_table, by_item, plan.item_sizes),
            )
        )
        has = interactions if given is None else given
        seen = has.matrix[by_user][:, by_item]
        seen.sort_indices()
        learned = None
        if len(has) > len(interactions):
            rows, columns = seen.nonzero()
            learned = np.asarray(interactions.matrix[by_user[rows], by_item[columns]]).reshape(-1) > 0
        return cls(
            users,
            items,
            RowIds.of(interactions.user_ids.to_numpy()[by_user]),
            RowIds.of(interactions.item_ids.to_numpy()[by_item]),
            SeenItems.of(seen.indptr, seen.indices, interactions.n_items, learned),
            backbone_settings(config),
            backbone.rows_stand_alone,
            dict(about or {}),
            {name: weights.detach().cpu().numpy().copy() for name, weights in backbone.network.items()},
            config,
        )

    def __repr__(self) -> str:
        rows = f"{len(self.users):,} users, {len(self.items):,} items"
        return f"CompressedModel({self.settings['name']}, {rows}, {self.table_bytes:,} bytes of {self.users.precision})"

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
        return self.user_index.take(np.arange(len(self.user_index)))

    @property
    def item_ids(self) -> NDArray[Any]:
        """(n_items,) ids in the order of the packed table."""
        return self.item_index.take(np.arange(len(self.item_index)))

    @cached_property
    def config(self) -> "BackboneConfig":
        """Settings of the backbone."""
        from ciess.models import backbone_from_settings

        return self.given or backbone_from_settings(self.settings)

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
        return Interactions(seen, pl.Series(self.user_ids), pl.Series(self.item_ids), None)

    @cached_property
    def _seen_matrix(self) -> "csr_array":
        """(n_users, n_items) what users have, in the order of the packed tables."""
        from scipy.sparse import csr_array

        ones = np.ones(len(self.seen.items), dtype=np.float32)
        index = np.int32 if len(ones) < 2**31 else np.int64
        parts = (ones, self.seen.items.astype(index), self.seen.offsets.astype(index))
        return csr_array(parts, shape=(len(self.users), len(self.items)))

    def known(self, user_ids: Any) -> NDArray[np.bool_]:
        """(b,) whether the model knows each user."""
        return self.user_index.rows(user_ids) >= 0

    def recommend(
        self, user_ids: Any, k: int = 10, exclude_seen: bool = True, device: "torch.device | str | None" = None
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """The k best items for each user.

        A user the model does not know gets the most popular items, flagged by scores that are NaN. Where
        fewer than k unseen items are left, the rest of the row is None, with score −inf.

        Args:
            user_ids: one id, or (b,) ids.
            k: how many items.
            exclude_seen: leave out the items a user already has.
            device: where PyTorch scores, such as `cuda`. None scores packed rows as they lie, with NumPy and in bounded
                memory, if they stand alone; else PyTorch on the CPU.

        Returns:
            item ids and scores, (b, k) each; (k,) for a single id.

        Raises:
            InputError: k is below 1 or above the number of items, or a file of the model is damaged.
        """
        one = is_single(user_ids)
        if not 1 <= k <= len(self.items):
            raise InputError(f"k is {k}: ask for 1 to {len(self.items):,} items")
        self.verify()
        rows = self.user_index.rows(user_ids)
        items = np.full((len(rows), k), -1)
        scores = np.full(items.shape, np.nan, dtype=np.float32)
        known = rows >= 0
        if not known.all():
            items[~known] = self._popular[:k]
        if known.any():
            items[known], scores[known] = self._ranked(rows[known], k, exclude_seen, device)
        ids = self.item_index.take(np.maximum(items, 0))
        if (items < 0).any():
            ids = ids.astype(object)
            ids[items < 0] = None
        return (ids[0], scores[0]) if one else (ids, scores)

    def _ranked(
        self, rows: NDArray[np.int64], k: int, exclude_seen: bool, device: "torch.device | str | None"
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if self.rows_stand_alone and device is None:
            return top_items(self.users, self.items, rows, k, self.seen if exclude_seen else None)
        import torch

        from ciess.evaluation.metrics import rank

        where = torch.device(device or "cpu")
        backbone, vectors = self._on(where)
        seen = self._seen_matrix if exclude_seen else None
        wanted = torch.from_numpy(rows).to(where)
        ranking = rank(lambda users: backbone.score_all(vectors, users), wanted, len(self.items), k, seen)
        return ranking.items.cpu().numpy(), ranking.scores.cpu().numpy()

    def evaluate(self, held_out: "Interactions", k: int = 20) -> "Evaluation":
        """Rank the items that users do not have, but for a held-out set; its users and items are matched by their ids.

        What of the set the model has learned says nothing about new interactions: a warning tells how much that is.

        Rows and columns of the result are those of the set, whatever the order of the packed tables: so models can be
        compared user by user and item by item. Items that the set does not know are −1.

        Raises:
            InputError: no user of the set is known, or a file of the model is damaged.
        """
        import torch
        from scipy.sparse import csr_array
        from torch.nn.functional import pad

        from ciess.evaluation.metrics import Evaluator

        rows = self.user_index.rows(held_out.user_ids.to_numpy())
        columns = self.item_index.rows(held_out.item_ids.to_numpy())
        users, items = rows[held_out.users], columns[held_out.items]
        known = (users >= 0) & (items >= 0)
        ones = np.ones(int(known.sum()), dtype=np.float32)
        truth = csr_array((ones, (users[known], items[known])), shape=self.interactions.matrix.shape)
        if learned := int(self.interactions.matrix.multiply(truth).nnz):
            _log.warning(
                "the model has learned %d of the %d held-out interactions: measure it on others, "
                "or take one of search(..., refit=False)",
                learned,
                truth.nnz,
            )
        seen = self._seen_matrix - self._seen_matrix.multiply(truth)
        seen.eliminate_zeros()
        found = Evaluator(seen, truth, k, rows[rows >= 0])(self.score)
        of_row, of_column = (
            torch.from_numpy(_inverse(places, n)) for places, n in ((rows, len(self.users)), (columns, len(self.items)))
        )
        ranked = torch.where(found.items >= 0, of_column[found.items], -1)
        # A set of more items than the model has may want more ranks than there are: nothing is there.
        missing = (0, max(0, min(k, held_out.n_items) - ranked.shape[1]))
        return dataclasses.replace(
            found,
            users=of_row[found.users],
            items=pad(ranked, missing, value=-1),
            hits=pad(found.hits, missing),
            n_items=held_out.n_items,
        )

    def score(self, users: "torch.Tensor") -> "torch.Tensor":
        """(b, n_items) scores of users, (b,) rows in the order of the packed tables."""
        import torch

        with torch.no_grad():
            return self.backbone.score_all(self.represented, users)

    def vectors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What is scored by inner products: (n_users, width) and (n_items, width), in the order of the packed tables.

        Raises:
            InputError: the backbone scores otherwise.
        """
        from ciess.models.base import InnerProduct

        if not isinstance(self.backbone, InnerProduct):
            raise InputError(f"{self.settings['name']} does not score by inner products: there are no such vectors")
        users, items = self.represented
        return users.numpy(), items.numpy()

    @cached_property
    def backbone(self) -> "Backbone":
        """The module that scores; its tables are not used.

        Raises:
            InputError: the network that was saved is not that of this backbone.
        """
        import torch

        backbone = self.config.skeleton(self.interactions)
        wanted = {name: tuple(weights.shape) for name, weights in backbone.network.items()}
        if wanted != {name: weights.shape for name, weights in self.network.items()}:
            raise InputError("the model's weights are not those of its backbone: save the model again")
        with torch.no_grad():
            for name, weights in backbone.network.items():
                weights.copy_(torch.from_numpy(self.network[name]))
        return backbone.eval()

    @cached_property
    def represented(self) -> "Represented":
        """The vectors that the backbone scores, on the CPU."""
        import torch

        self.verify()
        users, items = (torch.from_numpy(table.dense()) for table in (self.users, self.items))
        return self.backbone.vectors(users, items)

    def _on(self, device: "torch.device") -> "tuple[Backbone, Represented]":
        """The backbone and its vectors on a device: there from the first call on."""
        import copy

        if device.type == "cpu":
            return self.backbone, self.represented
        if device not in self._elsewhere:
            moved = type(self.represented)(*(side.to(device) for side in self.represented))
            self._elsewhere[device] = copy.deepcopy(self.backbone).to(device), moved
        return self._elsewhere[device]

    @cached_property
    def _elsewhere(self) -> "dict[torch.device, tuple[Backbone, Represented]]":
        return {}

    @cached_property
    def _popular(self) -> NDArray[np.int64]:
        return np.argsort(-self.seen.popularity(), kind="stable")

    def verify(self) -> None:
        """Compare the files that the model was read from with their checksums, once.

        Opening a model reads next to nothing, so this waits until it is first used.

        Raises:
            InputError: a file is not as it was written.
        """
        return self._verified

    @cached_property
    def _verified(self) -> None:
        from ciess.serve.saved import check_files

        if self.source is not None:
            check_files(*self.source)

    def save(self, folder: str | Path) -> Path:
        """Write the model into a folder, made if need be: every file is written aside and then renamed.

        Raises:
            InputError: the folder cannot be written, or is the one that the model was read from and is damaged.
        """
        from ciess.serve.saved import write

        self.verify()
        return write(self, Path(folder))


def _inverse(places: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """(n,) who is at each place, −1 where nobody is; a place of −1 is none."""
    who = np.full(n, -1)
    who[places[places >= 0]] = np.flatnonzero(places >= 0)
    return who
