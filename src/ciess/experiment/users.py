"""Which users are measured on: of many, a sample that is always the same."""

import numpy as np
from numpy.typing import NDArray

from ciess.data import Interactions
from ciess.experiment.recipe import TestUsers

USERS_MEASURED, USERS_MEASURED_AT_LEAST = 20_000, 5_000
"""On validation: so many keep the standard error of a difference between plans at some tenths of a percent."""
SCORES_IN_A_MEASUREMENT = 500_000_000
"""The most scores that one measurement on validation ranks, unless these are the least users'."""
SCORES_IN_A_TEST = 5_000_000_000
"""The most scores that one line of the table ranks on test, unless all users are wanted."""


def measured_users(n_items: int) -> int:
    """The most users that choices are measured on."""
    return max(USERS_MEASURED_AT_LEAST, min(USERS_MEASURED, SCORES_IN_A_MEASUREMENT // n_items))


def tested_users(n_items: int) -> int:
    """The most users that the table is measured on, unless all are wanted."""
    return max(USERS_MEASURED, SCORES_IN_A_TEST // n_items)


def sampled(held_out: Interactions, most: int, seed: int) -> NDArray[np.int64] | None:
    """So many of the users with held-out interactions, always the same; None where there are no more than that."""
    users = np.flatnonzero(held_out.user_counts)
    return None if len(users) <= most else np.sort(np.random.default_rng(seed).choice(users, most, replace=False))


def tested(test: Interactions | None, wanted: TestUsers) -> dict[str, int] | None:
    """How many users the table is measured on, and of how many; None where there is no test."""
    if test is None:
        return None
    users = int((test.user_counts > 0).sum())
    return {"users": users if wanted == "all" else min(users, tested_users(test.n_items)), "of": users}


def tested_part(test: Interactions, wanted: TestUsers, seed: int) -> Interactions:
    """Held-out interactions of all users, or of a sample where ranking all would take minutes."""
    users = None if wanted == "all" else sampled(test, tested_users(test.n_items), seed)
    return test if users is None else test.take(np.flatnonzero(np.isin(test.users, users)))
