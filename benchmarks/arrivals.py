"""Users and items that come after training: `python benchmarks/arrivals.py DATA`, interactions with times.

New users are the last fifth to arrive: the first half of what each has is known, the other half to be found. New items
are the last fifth to appear: the first half of the users of each is known. Models have never seen them, and are not
trained anew. Recall@20, the mean over users, beside popularity.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

import ciess
from ciess.data import Interactions

K = 20
_TIMED = 200


@dataclass(frozen=True)
class Arrivals:
    """New users and new items."""

    data: tyro.conf.Positional[Path]
    """File or folder of interactions with times."""
    budget: str = "10%"
    """Of the bytes of the full tables."""
    out: Path | None = None
    """A JSON file."""


def main() -> None:
    """Train without them, add them, measure."""
    settings = tyro.cli(Arrivals, description="Users and items that come after training.")
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    data = ciess.read(settings.data)
    found: dict[str, Any] = {"data": settings.data.name, "budget": settings.budget}
    for backbone in ("als", "mf"):
        found[f"{backbone} users"] = new_users(data, backbone, settings.budget)
    found["als items"] = new_items(data, settings.budget)
    text = json.dumps(found, indent=1) + "\n"
    if settings.out:
        settings.out.write_text(text)
    print(text, end="")


def trained(data: Interactions, backbone: str, budget: str) -> ciess.CompressedModel:
    """A model of some interactions."""
    return ciess.search(data, backbone=backbone, budgets=budget, method="popularity", tune=False).models[budget]


def parted(data: Interactions, side: NDArray[np.int64], n: int) -> tuple[Interactions, Interactions, Interactions]:
    """What is old of a side, the first half of what each new entity has, and the other half."""
    assert data.times is not None
    first = np.full(n, np.inf)
    np.minimum.at(first, side, data.times)
    new = np.zeros(n, dtype=bool)
    new[np.argsort(first, kind="stable")[int(0.8 * n) :]] = True
    order = np.lexsort((data.times, side))
    counts = np.bincount(side, minlength=n)
    rank = np.empty(len(side), dtype=np.int64)
    rank[order] = np.arange(len(side)) - np.repeat(np.cumsum(counts) - counts, counts)
    early = 2 * rank < counts[side]
    masks = (~new[side], new[side] & early, new[side] & ~early)
    old, known, held = (some(data, mask) for mask in masks)
    return old, known, held


def some(data: Interactions, mask: NDArray[np.bool_]) -> Interactions:
    """A part of the interactions, over its own users and items."""
    return data.take(np.flatnonzero(mask)).k_core(1)


def recall(
    recommended: Callable[[Any], NDArray[Any]], held: Interactions, known: NDArray[np.bool_]
) -> dict[str, float | int]:
    """Recall@20 of users by what is recommended to each."""
    users, items = held.user_ids.to_list(), held.item_ids.to_numpy()
    places = [place for place in range(held.n_users) if known[place]]
    wanted = [set(items[held.matrix[[place]].indices].tolist()) for place in places]
    hits = [
        len(each & set(recommended(users[place]).tolist())) / min(K, len(each))
        for place, each in zip(places, wanted, strict=True)
    ]
    return {"recall@20": float(np.mean(hits)), "users": len(hits)}


def popular(model: ciess.CompressedModel, has: NDArray[np.int64], allowed: NDArray[np.bool_]) -> NDArray[Any]:
    """The most popular items that somebody does not have."""
    left = allowed.copy()
    left[has] = False
    order = model.seen.popular.astype(np.int64)
    return model.item_index.take(order[left[order]][:K])


def new_users(data: Interactions, backbone: str, budget: str) -> dict[str, Any]:
    """Users by rows of their own, without an id, and by popularity."""
    old, known, held = parted(data, data.users, data.n_users)
    model = trained(old, backbone, budget)
    grown, everything = model.with_users(known), np.ones(len(model.items), dtype=bool)
    there = grown.known(held.user_ids.to_numpy())
    has = dict(zip(known.user_ids, np.split(known.items, np.cumsum(known.user_counts)[:-1]), strict=True))
    ids = known.item_ids.to_numpy()

    def by_items(user: Any) -> NDArray[Any]:
        return model.recommend(items=ids[has[user]], k=K)[0]

    def by_popularity(user: Any) -> NDArray[Any]:
        rows = model.item_index.rows(ids[has[user]])
        return popular(model, rows[rows >= 0], everything)

    start = perf_counter()
    for user in (known.user_ids.to_list() * _TIMED)[:_TIMED]:
        by_items(user)
    seconds = (perf_counter() - start) / _TIMED
    return {
        "with_users": recall(lambda user: grown.recommend(user, k=K)[0], held, there),
        "recommend(items=)": recall(by_items, held, there),
        "popularity": recall(by_popularity, held, there),
        "bytes over full": [each.table_bytes / each.plan.shape.full_bytes for each in (model, grown)],
        "mean size, users before and new": [
            float(model.users.sizes.mean()),
            float(grown.users.sizes[~model.known(grown.user_ids)].mean()),
        ],
        "ms for one without an id": seconds * 1e3,
    }


def new_items(data: Interactions, budget: str) -> dict[str, Any]:
    """How well new items are found among all and among themselves, and what share of the lists they take."""
    old, known, held = parted(data, data.items, data.n_items)
    grown = trained(old, "als", budget).with_items(known)
    there, new = grown.known(held.user_ids.to_numpy()), known.item_ids.to_numpy()
    among_new = np.zeros(len(grown.items), dtype=bool)
    among_new[grown.item_index.rows(new)] = True
    found: dict[str, Any] = {"new items": len(new)}
    for name, allowed, candidates in (("all", ~among_new | True, None), ("new", among_new, new)):

        def by_model(user: Any, candidates: Any = candidates) -> NDArray[Any]:
            return grown.recommend(user, k=K, candidates=candidates)[0]

        def by_popularity(user: Any, allowed: NDArray[np.bool_] = allowed) -> NDArray[Any]:
            return popular(grown, grown.seen.of_users(grown.user_index.rows([user]))[1], allowed)

        found[f"among {name}"] = recall(by_model, held, there)
        found[f"among {name}, popularity"] = recall(by_popularity, held, there)
    lists = grown.recommend(held.user_ids.to_numpy(), k=K)[0]
    found["share of lists"] = float(np.isin(lists, new).mean())
    return found


if __name__ == "__main__":
    main()
