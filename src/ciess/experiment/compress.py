"""For those who have a model already: two tables and interactions in, small models out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ciess.data import Interactions, Split, interactions_of, split_random
from ciess.data.columns import Ids
from ciess.data.interactions import InteractionsLike
from ciess.errors import InputError
from ciess.experiment.bench import check_budgets
from ciess.experiment.clock import Clock
from ciess.experiment.given import LEARNED, Given, below_popularity, matched, without_rows
from ciess.experiment.outcome import Outcome
from ciess.experiment.pipeline import parsed_budgets, search
from ciess.experiment.recipe import parsed_precision
from ciess.models.factors import Factors
from ciess.progress import Progress, silent
from ciess.tables.budget import Budget
from ciess.tables.plan import TableShape
from ciess.tables.precision import Precision

_RATIOS = (0.75, 0.25, 0.0)
"""No test: tables that were trained elsewhere have usually learned all interactions, those held out here among them."""


def compress(
    factors: Factors | tuple[ArrayLike, ArrayLike],
    interactions: "InteractionsLike",
    *,
    user_ids: Ids | None = None,
    item_ids: Ids | None = None,
    held_out: "InteractionsLike | None" = None,
    budgets: Sequence[str | Budget] = ("5%",),
    precision: str | Precision = "auto",
    force: bool = False,
    seed: int = 0,
    kept: str | Path | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Make tables small that were trained elsewhere, such as those of implicit or LightFM.

    Size plans are chosen by how well they rank interactions that are left out: half of `held_out`, while the other
    half is what the result shows. Without `held_out`, both are done on a quarter of each user's `interactions`. The
    factors have usually learned these, so the result then tells how much of what they know is kept, not how well they
    recommend. All interactions that are given count as known: they are not recommended.

    Args:
        factors: both tables: a pair of arrays or tensors, or `Factors` from files or a fitted model.
        interactions: what the factors have learned, as `search` takes it.
        user_ids: (n_users,) ids in the order of the user factors' rows. If left out, row n belongs to the n-th user
            in rising order of ids; if there are fewer users than rows, their ids are the rows' numbers, from 0.
        item_ids: (n_items,) the same for the item factors.
        held_out: interactions of the same users and items that the factors have not learned.
        budgets: limits on the bytes of both tables as stored.
        precision: how numbers are stored; `auto` takes what is best for each budget.
        force: whether to try even what would not fit into the memory that is available.
        seed: of everything random.
        kept: as `search` takes it.
        progress: told every step.

    Raises:
        InputError: tables and interactions that do not belong together, or a budget that cannot be met.
    """
    clock = Clock()
    parsed_precision(precision)
    config = factors if isinstance(factors, Factors) else Factors.from_arrays(*_pair(factors))
    config = config.with_ids(user_ids, item_ids)
    check_fit(config, budgets, precision)
    found, cautions = matched(interactions_of(interactions), config)
    assert isinstance(found, Interactions)
    if held_out is None:
        split = split_random(found, _RATIOS, seed)
    else:
        wanted = interactions_of(held_out)
        known = wanted.over(found.user_ids, found.item_ids)
        cautions += without_rows(wanted, known, "held_out")
        split = _halved(found, known, seed)
    cautions += [*below_popularity(config, split), *([LEARNED] if held_out is None else [])]
    return search(
        Given(split, tuple(cautions), clock),
        backbone=config,
        budgets=budgets,
        precision=precision,
        force=force,
        seed=seed,
        kept=kept,
        progress=progress,
    )


def check_fit(config: Factors, budgets: str | Budget | Sequence[str | Budget], precision: str | Precision) -> None:
    """Refuse budgets that given tables cannot meet, before interactions are read.

    Raises:
        InputError: a budget that cannot be met, or is above the full tables.
    """
    users, items = config.tables
    stored = parsed_precision(precision)
    check_budgets(parsed_budgets(budgets), TableShape(len(users), len(items), users.shape[1]), stored)


def _pair(factors: object) -> tuple[ArrayLike, ArrayLike]:
    if not isinstance(factors, tuple | list) or len(factors) != 2:
        raise InputError(
            f"factors are of type {type(factors).__name__}: give a pair of tables, users and items, or ciess.Factors"
        )
    return factors[0], factors[1]


def _halved(train: Interactions, held_out: Interactions, seed: int) -> Split:
    """Half of the held-out interactions, drawn from all of them, to choose on, and the others to measure on."""
    if len(held_out) < 2:
        raise InputError("held_out has one interaction that can be measured: give more of them")
    order = np.random.default_rng(seed).permutation(len(held_out))
    middle = (len(order) + 1) // 2
    return Split(train, held_out.take(np.sort(order[:middle])), held_out.take(np.sort(order[middle:])))
