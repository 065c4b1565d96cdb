"""For those who have a model already: two tables and interactions in, small models out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ciess.data import Interactions, split_random
from ciess.experiment.outcome import Outcome
from ciess.experiment.pipeline import search
from ciess.models.factors import Factors
from ciess.progress import Progress, silent
from ciess.tables.budget import Budget
from ciess.tables.precision import Precision

if TYPE_CHECKING:
    from ciess.data.interactions import InteractionsLike

_RATIOS = (0.75, 0.25, 0.0)
"""No test: tables that were trained elsewhere have usually learned all interactions, those held out here among them."""


def compress(
    factors: Factors,
    interactions: "InteractionsLike",
    *,
    budgets: Sequence[str | Budget] = ("5%",),
    precision: str | Precision = "auto",
    seed: int = 0,
    progress: Progress = silent,
) -> Outcome:
    """Make tables small that were trained elsewhere, such as those of implicit or LightFM.

    A quarter of each user's interactions is held out, and plans are chosen by how well they rank it. The tables have
    usually learned these too, so what the result shows is the share of their quality that is kept, no promise for new
    interactions. Models know all interactions: what a user has is not recommended.

    Args:
        factors: both tables: from files, arrays or a fitted model.
        interactions: of the same users and items, as `search` takes them. Where ids are fewer than rows, they are the
            rows' numbers, from 0; else row n belongs to the n-th id in rising order.
        budgets: limits on the bytes of both tables as stored.
        precision: how numbers are stored; `auto` takes what is best for each budget.
        seed: of everything random.
        progress: told every step.

    Raises:
        InputError: tables and interactions that do not belong together, or a budget that cannot be met.
    """
    found = Interactions.of(interactions)
    rows = tuple(len(table) for table in factors.tables)
    if (found.n_users, found.n_items) != rows and found.n_users <= rows[0] and found.n_items <= rows[1]:
        found = found.numbered(*rows)
    split = split_random(found, _RATIOS, seed)
    return search(split, backbone=factors, budgets=budgets, precision=precision, seed=seed, progress=progress)
