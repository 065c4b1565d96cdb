"""Problems whose structure is planted: who needs which numbers is known."""

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from ciess.data import Interactions, Split
from ciess.evaluation.metrics import Evaluator
from ciess.methods.fidelity import Truncate
from ciess.methods.problem import Problem
from ciess.models import BackboneConfig, Training
from ciess.models.factors import Factors
from ciess.models.mf import MF
from ciess.tables.budget import Budget

STILL = Training(lr=0.0, lr_floor=0.0, batch_size=2_000)
"""Tables stay as they are, so that what a search learns beside them shows."""
POPULAR, RARE = 60, 60
"""Users of each kind, popular ones first."""
NEEDED = {"popular": [0, 1, 2, 3], "rare": [5, 6]}
"""The dimensions that users' preferences are made of; all else in the full model's tables is noise."""


def selective(seed: int = 0) -> Problem:
    """Popular users need four dimensions and rare ones two others; the rest of the full rows is noise."""
    rng = np.random.default_rng(seed)
    users, items = rng.standard_normal((POPULAR + RARE, 8)), rng.standard_normal((80, 8))
    kept = np.zeros_like(users)
    kept[:POPULAR, NEEDED["popular"]] = kept[POPULAR:, NEEDED["rare"]] = 1
    ranked = np.argsort(-((users * kept) @ items.T), axis=1)
    counts = np.repeat([24, 8], [POPULAR, RARE])
    halves = [ranked[user, :count][rng.permutation(count)].reshape(2, -1) for user, count in enumerate(counts)]
    train, valid = (interactions([half[which] for half in halves], 80) for which in (0, 1))
    config = MF(dim=8, training=STILL)
    return _problem(config, train, valid, users, items)


def interactions(items_of: list[NDArray[np.int64]], n_items: int) -> Interactions:
    """From each user's items."""
    users = np.repeat(np.arange(len(items_of)), [len(items) for items in items_of])
    ids = pl.Series(np.arange(len(items_of))), pl.Series(np.arange(n_items))
    return Interactions.from_pairs(users, np.concatenate(items_of), *ids)


def _problem(
    config: BackboneConfig,
    train: Interactions,
    valid: Interactions,
    users: NDArray[np.float64] | None = None,
    items: NDArray[np.float64] | None = None,
) -> Problem:
    """With these tables as the full model's, or random ones."""
    model = config.build(train)
    with torch.no_grad():
        for table, given in ((model.user_table, users), (model.item_table, items)):
            if given is not None:
                table.copy_(torch.from_numpy(given))
    wanted = [Budget.parse(budget) for budget in ("70%", "50%")]
    return Problem(model, config, train, Evaluator(train.matrix, valid.matrix), wanted, Truncate())


def contrasting(seed: int = 0) -> Problem:
    """Popular users like the items of two of ten clusters; rare ones two items at random, of which nothing follows."""
    rng, clusters, size = np.random.default_rng(seed), 10, 10
    learned, held_out = [], []
    for user in range(POPULAR):
        both = [rng.permutation(size) + size * ((step * user + start) % clusters) for step, start in ((1, 0), (3, 1))]
        learned.append(np.concatenate([own[: size // 2] for own in both]))
        held_out.append(np.concatenate([own[size // 2 :] for own in both]))
    for _ in range(RARE):
        drawn = rng.permutation(clusters * size)
        learned.append(drawn[:2])
        held_out.append(drawn[2:4])
    config = MF(dim=16, training=Training(lr=0.03, l2=1e-3, batch_size=2_000))
    return _problem(config, *(interactions(each, clusters * size) for each in (learned, held_out)))


def of_two_lengths(split: Split, seed: int = 0) -> tuple[Problem, NDArray[np.bool_]]:
    """Tables trained elsewhere: a random half of the items is made of two dimensions, the others of eight."""
    rng = np.random.default_rng(seed)
    users, items = rng.standard_normal((split.train.n_users, 8)), rng.standard_normal((split.train.n_items, 8))
    short = rng.random(len(items)) < 0.5
    items[short, 2:] *= 0.02
    config = Factors.from_arrays(users.astype(np.float32), items.astype(np.float32))
    full = config.build(split.train)
    valid = Evaluator(split.train.matrix, split.valid.matrix)
    return Problem(full, config, split.train, valid, [Budget.parse("60%")], Truncate()), short
