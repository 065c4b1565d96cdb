"""`CompressedModel`: packed tables and what scoring needs."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as serialised
from scipy.sparse import csr_array
from torch import Tensor

from ciess.backbones import backbone_from_settings, backbone_names, backbone_settings
from ciess.backbones.base import Backbone, BackboneConfig, Represented
from ciess.data import Interactions
from ciess.errors import InputError
from ciess.evaluation import Evaluation, Evaluator, rank
from ciess.tables.packed import PackedTable, falling_order, load_tables, save_tables, stored_bytes
from ciess.tables.plan import SizePlan

FORMAT = 2
TABLES, NETWORK, SETTINGS, USERS, ITEMS, SEEN = (
    "tables.safetensors",
    "network.safetensors",
    "model.json",
    "users.parquet",
    "items.parquet",
    "interactions.parquet",
)


@dataclass(eq=False)
class CompressedModel:
    """A small recommender. Made by `ciess.search` or `CompressedModel.pack`, read by `ciess.load`.

    Attributes:
        config: the backbone that scores.
        users: packed user table.
        items: packed item table.
        interactions: what was learned, ids and rows in the order of the packed tables: seen items, and the graph of
            graph backbones.
        about: settings, versions, seeds and results, as JSON keeps them.
        network: what the backbone learned beside its tables, by the names of its parameters.
    """

    config: BackboneConfig
    users: PackedTable
    items: PackedTable
    interactions: Interactions
    about: dict[str, Any] = field(default_factory=dict)
    network: dict[str, NDArray[Any]] = field(default_factory=dict)

    @classmethod
    def pack(
        cls,
        config: BackboneConfig,
        backbone: Backbone,
        plan: SizePlan,
        interactions: Interactions,
        about: Mapping[str, Any] | None = None,
    ) -> "CompressedModel":
        """Pack a backbone whose rows are zero beyond the plan's sizes.

        Args:
            config: what built the backbone.
            backbone: trained on `interactions`.
            plan: the sizes of its rows.
            interactions: kept beside the tables.
            about: kept with the model.
        """
        by_user, by_item = falling_order(plan.user_sizes), falling_order(plan.item_sizes)
        users, items = (
            PackedTable.pack(table.detach().cpu().numpy()[order], sizes[order], plan.precision)
            for table, order, sizes in (
                (backbone.user_table, by_user, plan.user_sizes),
                (backbone.item_table, by_item, plan.item_sizes),
            )
        )
        ordered = Interactions(
            csr_array(interactions.matrix[by_user][:, by_item]),
            interactions.user_ids[by_user],
            interactions.item_ids[by_item],
            None,
        )
        network = {name: weights.detach().cpu().numpy().copy() for name, weights in backbone.network.items()}
        return cls(config, users, items, ordered, dict(about or {}), network)

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
        return len(serialised(self.network)) if self.network else 0

    def known(self, user_ids: ArrayLike) -> NDArray[np.bool_]:
        """(b,) whether the model knows each user."""
        return self.interactions.user_rows(np.atleast_1d(np.asarray(user_ids))) >= 0

    def recommend(
        self, user_ids: Any, k: int = 10, exclude_seen: bool = True
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """The k best items for each user.

        A user the model does not know gets the most popular items, flagged by scores that are NaN. Where
        fewer than k unseen items are left, the rest of the row is None, with score −inf.

        Args:
            user_ids: one id, or (b,) ids.
            k: how many items.
            exclude_seen: leave out the items a user already has.

        Returns:
            item ids and scores, (b, k) each; (k,) for a single id.

        Raises:
            InputError: k is below 1 or above the number of items.
        """
        one = np.ndim(user_ids) == 0
        if not 1 <= k <= self.interactions.n_items:
            raise InputError(f"k is {k}: ask for 1 to {self.interactions.n_items:,} items")
        rows = self.interactions.user_rows(np.atleast_1d(np.asarray(user_ids)))
        items = np.tile(self._popular[:k], (len(rows), 1))
        scores = np.full(items.shape, np.nan, dtype=np.float32)
        known = rows >= 0
        if known.any():
            seen = self.interactions.matrix if exclude_seen else None
            ranked = rank(self.score, torch.from_numpy(rows[known]), self.interactions.n_items, k, seen)
            items[known], scores[known] = ranked.items.numpy(), ranked.scores.numpy()
        ids = self.interactions.item_ids.to_numpy()[items]
        if (items < 0).any():
            ids = ids.astype(object)
            ids[items < 0] = None
        return (ids[0], scores[0]) if one else (ids, scores)

    def evaluate(self, held_out: Interactions, k: int = 20) -> Evaluation:
        """Rank all unseen items for the users of a held-out set; its users and items are matched by their ids.

        Raises:
            InputError: no user of the set is known.
        """
        users = self.interactions.user_rows(held_out.user_ids)[held_out.users]
        items = self.interactions.item_rows(held_out.item_ids)[held_out.items]
        known = (users >= 0) & (items >= 0)
        ones = np.ones(int(known.sum()), dtype=np.float32)
        truth = csr_array((ones, (users[known], items[known])), shape=self.interactions.matrix.shape)
        return Evaluator(self.interactions.matrix, truth, k)(self.score)

    @torch.no_grad()
    def score(self, users: Tensor) -> Tensor:
        """(b, n_items) scores of users, (b,) rows in the order of the packed tables."""
        return self._backbone.score_all(self._vectors, users)

    def save(self, folder: str | Path) -> Path:
        """Write the model into a folder, made if need be: every file is written aside and then renamed.

        Raises:
            InputError: the folder cannot be written.
        """
        folder = Path(folder)
        settings = {
            "format": FORMAT,
            "backbone": backbone_settings(self.config),
            "network": {name: weights.shape for name, weights in self.network.items()},
            "about": self.about,
        }
        seen = pl.DataFrame({"user": self.interactions.users, "item": self.interactions.items})
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _replace(folder / TABLES, lambda path: save_tables(path, self.users, self.items))
            if self.network:
                _replace(folder / NETWORK, lambda path: path.write_bytes(serialised(self.network)))
            else:
                (folder / NETWORK).unlink(missing_ok=True)
            _replace(folder / USERS, lambda path: pl.DataFrame({"id": self.interactions.user_ids}).write_parquet(path))
            _replace(folder / ITEMS, lambda path: pl.DataFrame({"id": self.interactions.item_ids}).write_parquet(path))
            _replace(folder / SEEN, seen.write_parquet)
            _replace(folder / SETTINGS, lambda path: path.write_text(json.dumps(settings, indent=2) + "\n"))
        except OSError as error:
            raise InputError(f"{folder} cannot be written ({error.strerror}): choose another folder") from error
        return folder

    @cached_property
    def _backbone(self) -> Backbone:
        backbone = self.config.skeleton(self.interactions)
        wanted = {name: tuple(weights.shape) for name, weights in backbone.network.items()}
        if wanted != {name: weights.shape for name, weights in self.network.items()}:
            raise InputError("the model's weights are not those of its backbone: save the model again")
        with torch.no_grad():
            for name, weights in backbone.network.items():
                weights.copy_(torch.from_numpy(self.network[name]))
        return backbone.eval()

    @cached_property
    def _vectors(self) -> Represented:
        users, items = (torch.from_numpy(table.dense()) for table in (self.users, self.items))
        return self._backbone.vectors(users, items)

    @cached_property
    def _popular(self) -> NDArray[np.int64]:
        return np.argsort(-self.interactions.item_counts, kind="stable")


def load(folder: str | Path, backbone: BackboneConfig | None = None) -> CompressedModel:
    """Read a model that `CompressedModel.save` wrote.

    Args:
        folder: what it was saved into.
        backbone: settings of the backbone that scores, where it is your own and not one of ciess.

    Raises:
        InputError: a file is missing, damaged or foreign, or the backbone is not the one that was saved.
    """
    folder = Path(folder)
    if not (folder / SETTINGS).is_file():
        raise InputError(f"{folder} holds no {SETTINGS}: name a folder that ciess saved, such as runs/…/budget-5")
    try:
        settings = json.loads((folder / SETTINGS).read_text())
        written, saved, about = settings["format"], settings["backbone"], settings["about"]
        config = _config(folder, saved, backbone)
        shapes = dict(settings.get("network", {}))
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / SETTINGS} is damaged or not written by ciess: save the model again") from error
    if written != FORMAT:
        raise InputError(f"{folder} is of format {written}, this ciess reads format {FORMAT}: install a matching one")
    users, items = load_tables(folder / TABLES)
    user_ids, item_ids = (_read_parquet(folder / name, ("id",))["id"] for name in (USERS, ITEMS))
    if (len(user_ids), len(item_ids)) != (len(users), len(items)):
        raise InputError(f"{folder}: {USERS} and {ITEMS} do not match {TABLES}: save the model again")
    network = _read_network(folder / NETWORK, shapes)
    seen = _read_parquet(folder / SEEN, ("user", "item"))
    shape = (len(users), len(items))
    rows, columns = seen["user"].to_numpy(), seen["item"].to_numpy()
    if len(seen) and (min(rows.min(), columns.min()) < 0 or rows.max() >= shape[0] or columns.max() >= shape[1]):
        raise InputError(f"{folder / SEEN} does not match {TABLES}: save the model again")
    matrix = csr_array((np.ones(len(seen), dtype=np.float32), (rows, columns)), shape=shape)
    interactions = Interactions(matrix, user_ids, item_ids, None)
    return CompressedModel(config, users, items, interactions, about, network)


def _read_network(path: Path, shapes: Mapping[str, Sequence[int]]) -> dict[str, NDArray[Any]]:
    if not shapes:
        return {}
    try:
        network = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is missing or damaged: save the model again") from error
    if {name: list(weights.shape) for name, weights in network.items()} != shapes:
        raise InputError(f"{path} does not hold the weights that {SETTINGS} lists: save the model again")
    return network


def _config(folder: Path, saved: dict[str, Any], given: BackboneConfig | None) -> BackboneConfig:
    """The settings of a saved backbone, unless they are given."""
    if given is None:
        if saved["name"] not in backbone_names():
            raise InputError(
                f"{folder} was saved with the backbone '{saved['name']}', which is not one of ciess: "
                "load it with backbone=, the settings it was trained with"
            )
        return backbone_from_settings(saved)
    name = backbone_settings(given)["name"]
    if name != saved["name"]:
        raise InputError(f"{folder} was saved with the backbone '{saved['name']}', not '{name}': give that one")
    return given


def _read_parquet(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, columns=list(columns))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path} is missing or damaged: save the model again") from error


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write aside, then rename, so that a file is either whole or not there."""
    aside = path.with_name(f".{path.name}.part")
    write(aside)
    os.replace(aside, path)
