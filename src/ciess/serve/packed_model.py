"""`PackedModel`: packed tables and what scoring needs, made, checked and saved."""

import dataclasses
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ciess.data.ids import RowIds
from ciess.errors import InputError
from ciess.files import Content, given_path, write_together
from ciess.serve.folder import NETWORK, Opened, Parts, model_files
from ciess.serve.packing import packed_seen, packed_table
from ciess.serve.seen import SeenItems
from ciess.tables.files import POLICY_FILES
from ciess.tables.layout import stored_bytes
from ciess.tables.packed import PackedTable, falling_order
from ciess.tables.plan import SizePlan

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from ciess.data import Interactions
    from ciess.models.base import Backbone, BackboneConfig, Represented

_preparing = threading.RLock()
"""Held while a model is checked or made ready to score, so that threads do that once."""


def _renew_lock() -> None:
    """A thread of the parent may have held the lock when this process was forked."""
    global _preparing
    _preparing = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@dataclass(eq=False, repr=False)
class PackedModel:
    """A small model as it is stored: packed tables, ids, what users have, and the backbone that scores.

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
    ) -> Self:
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
            {name: each.detach().numpy().copy() for name, each in backbone.beside_tables.items()},
            config,
            config.learns,
        )

    def __repr__(self) -> str:
        name, precision = self.settings["name"], self.users.precision
        rows = f"{len(self.users):,} users, {len(self.items):,} items"
        return f"{type(self).__name__}({name}, {rows}, {self.table_bytes:,} bytes of {precision})"

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

    @cached_property
    def backbone(self) -> "Backbone":
        """The module that scores; its tables are not used.

        Raises:
            InputError: the network that was saved is not that of this backbone.
        """
        import torch

        self.verify()
        backbone = self.config.skeleton(self.interactions)
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

    def ready_to_score(self) -> "tuple[Backbone, Represented]":
        """The module that scores and the vectors that it scores, made once, whatever the number of threads."""
        with _preparing:
            return self.backbone, self.represented

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

        The policy of another model that lies there is removed with the rest of it.

        Raises:
            InputError: the folder cannot be written, or the model was read from files that are damaged.
        """
        folder = given_path("folder", folder)
        others = () if self.source is not None and self.source.folder == folder else POLICY_FILES
        write_together(folder, self.files, stale=(*others, *(() if self.network else (NETWORK,))))
        return folder
