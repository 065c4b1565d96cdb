"""Train, validation and test interactions over the same users and items."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ciess.checks import Positive, Seed, check
from ciess.data.columns import one_type, rows_of
from ciess.data.interactions import Interactions, InteractionsLike, pair_keys
from ciess.data.pairs import Times, sorted_rows
from ciess.data.readers import interactions_of
from ciess.errors import InputError

_log = logging.getLogger(__name__)
_DRAWN = 2**53
_USERS_AT_ONCE = 100_000
PROTOCOL = (0.5, 0.25, 0.25)
"""Shares of train, validation and test in the papers."""


@dataclass(frozen=True, eq=False)
class Split:
    """Interactions to learn, to choose on and to test on, over the same users and items. Checked when made.

    What is held out and known before, validation pairs of train and test pairs of either, is left out with a warning:
    known items are never ranked, so that not even a perfect model could find them.

    Attributes:
        train: what models learn.
        valid: what choices are made on.
        test: touched once, at the end; None where there is none.

    Raises:
        InputError: parts that are no interactions, or over other ids than train, or nothing held out that is not known
            before.
    """

    train: Interactions
    valid: Interactions
    test: Interactions | None = None

    def __post_init__(self) -> None:
        for part, name in ((self.train, "train"), (self.valid, "validation"), (self.test, "test")):
            if not isinstance(part, Interactions) and not (part is None and name == "test"):
                raise InputError(
                    f"{name} is of type {type(part).__name__}: give Interactions, or use ciess.split_given"
                )
        for part, name in ((self.valid, "validation"), (self.test, "test")):
            if part is not None and not _same_ids(self.train, part):
                raise InputError(
                    f"users and items of {name} are not those of train in the same order: use ciess.split_given"
                )
        object.__setattr__(self, "valid", _without(self.valid, [self.train], "validation"))
        if self.test is not None:
            object.__setattr__(self, "test", _without(self.test, [self.train, self.valid], "test"))

    def k_core(self, k: int) -> "Split":
        """Only users and items with at least k interactions among themselves, in all parts together.

        Raises:
            InputError: nothing is left of a part, or k is below 1.
        """
        core = self.first(3).k_core(k)
        return Split(*(part.over(core.user_ids, core.item_ids) for part in self.parts))

    @property
    def parts(self) -> list[Interactions]:
        """Train, validation, and test where there is one."""
        return [part for part in (self.train, self.valid, self.test) if part is not None]

    def first(self, parts: int) -> Interactions:
        """The first `parts` of train, validation and test together."""
        return reduce(Interactions.union, self.parts[:parts])

    def train_valid(self) -> Interactions:
        """Train and validation together."""
        return self.first(2)


def _same_ids(one: Interactions, other: Interactions) -> bool:
    return one.user_ids.equals(other.user_ids) and one.item_ids.equals(other.item_ids)


def _without(part: Interactions, known: list[Interactions], name: str) -> Interactions:
    if not any(_overlap(part, each) for each in known):
        return part
    again = np.isin(pair_keys(part), np.concatenate([pair_keys(each) for each in known]))
    if again.all():
        raise InputError(f"all interactions of {name} are known before: hold out others than those that are learned")
    _log.warning("%d of %d interactions of %s left out: they are known before", again.sum(), len(part), name)
    return part.take(~again)


def _overlap(one: Interactions, other: Interactions) -> bool:
    """Whether two have a pair in common; looked at some users at a time, since either may be mapped from a file."""
    for start in range(0, one.n_users, _USERS_AT_ONCE):
        users = slice(start, start + _USERS_AT_ONCE)
        if one.matrix[users].multiply(other.matrix[users]).nnz:
            return True
    return False


def split_random(interactions: "InteractionsLike", ratios: Sequence[float] = PROTOCOL, seed: int = 0) -> Split:
    """Split each user's interactions at random; 50/25/25 is the papers' protocol.

    Of a user's n interactions the first round(n · train) go to train, but one at least, those up to
    round(n · (train + valid)) to validation, the rest to test; halves round up.

    Args:
        interactions: all of them, as `ciess.search` takes them.
        ratios: shares of train, validation and test; a test share of 0 makes no test.
        seed: of the order of each user's interactions.

    Raises:
        InputError: ratios that do not sum to 1 or leave train or validation empty, or a seed below 0.
    """
    check("seed", seed, Seed)
    interactions = interactions_of(interactions)
    return _parts(interactions, parts_at_random(interactions.matrix, np.random.default_rng(seed), ratios))


def split_by_time(interactions: "InteractionsLike", ratios: Sequence[float] = PROTOCOL) -> Split:
    """Cut all interactions at two points in time: the earliest are train, the latest are test.

    Raises:
        InputError: no times, or ratios as in `split_random`.
    """
    bounds = np.array(_bounds(ratios))
    interactions = interactions_of(interactions)
    times = _times(interactions)
    cuts = np.sort(times)[np.minimum((bounds * len(times)).round().astype(int), len(times) - 1)]
    part = (times >= cuts[0]).astype(int) + (times >= cuts[1] if bounds[1] < 1 else 0)
    return _parts(interactions, part)


def split_last(interactions: "InteractionsLike", n: int = 1) -> Split:
    """Each user's last n interactions are test, the n before them validation; users with fewer than 2n + 1 are train.

    Raises:
        InputError: no times, nobody has enough interactions, or n is below 1.
    """
    check("n", n, Positive)
    interactions = interactions_of(interactions)
    order = np.lexsort((_times(interactions), interactions.users))
    counts = interactions.user_counts
    from_end = np.empty(len(order), dtype=np.int64)
    from_end[order] = np.repeat(interactions.matrix.indptr[1:], counts) - np.arange(len(order))
    enough = np.repeat(counts > 2 * n, counts)
    part = np.where(enough & (from_end <= n), 2, np.where(enough & (from_end <= 2 * n), 1, 0))
    return _parts(interactions, part)


def split_given(train: "InteractionsLike", valid: "InteractionsLike", test: "InteractionsLike | None" = None) -> Split:
    """A split that is given, over the users and items of all parts.

    Held-out pairs whose user or item train lacks count when a model is measured, as by the usual protocol, though
    hardly any is found before validation joins the training data. A warning tells how many there are.

    Parts are matched by their ids, of one type for all: text where those of any part are text.

    Raises:
        InputError: validation or test shares nothing with the parts before, or as for `Split`.
    """
    parts = [interactions_of(train), interactions_of(valid), *([] if test is None else [interactions_of(test)])]
    users, items = (_together([getattr(part, f"{side}_ids") for part in parts]) for side in ("user", "item"))
    known_users, known_items = np.zeros(len(users), dtype=bool), np.zeros(len(items), dtype=bool)
    found: list[Interactions] = []
    for given, name in zip(parts, ("train", "validation", "test"), strict=False):
        part = given.over(users, items)
        known = known_users[part.users] & known_items[part.items]
        if found and not known.any():
            raise InputError(f"no interaction of {name} has a user and an item that is known before: check the ids")
        if found and not known.all():
            told = "%d of %d interactions of %s have a user or an item that is not known before: they count, too"
            _log.warning(told, (~known).sum(), len(known), name)
        known_users[rows_of(users, given.user_ids)] = known_items[rows_of(items, given.item_ids)] = True
        found.append(part)
    return Split(*found)


def _together(sides: list[pl.Series]) -> pl.Series:
    """The ids of all parts: those of the first as they are if it has all, else in rising order."""
    first, *others = one_type(sides)
    everything = pl.concat([first, *others]).unique()
    return first if len(everything) == len(first) else everything.sort()


def _bounds(ratios: Sequence[float]) -> tuple[float, float]:
    shares = tuple(check("ratios", each, float) for each in ratios)
    if len(shares) != 3 or min(shares[:2]) <= 0 or shares[2] < 0 or abs(sum(shares) - 1) > 1e-9:
        raise InputError(
            f"ratios {shares} must be shares of train, validation and test that sum to 1: as 0.5 0.25 0.25"
        )
    return shares[0], 1.0 if shares[2] == 0 else shares[0] + shares[1]


def parts_at_random(
    matrix: csr_array, random: np.random.Generator, ratios: Sequence[float] = PROTOCOL
) -> NDArray[np.int64]:
    """(n,) 0, 1 or 2: the part of each interaction, see `split_random`.

    Users' rows that are asked for one range after the other come to the same as all at once.

    Raises:
        InputError: ratios as there.
    """
    bounds, counts, offsets = _bounds(ratios), np.diff(matrix.indptr), matrix.indptr
    # Whole numbers of as many bits as floats from 0 to 1 are drawn with.
    drawn = (random.random(matrix.nnz) * _DRAWN).astype(np.int64)
    order = sorted_rows(offsets, drawn, np.arange(len(drawn)), _DRAWN)
    place = np.arange(len(order)) - np.repeat(offsets[:-1], counts)
    first, second = (np.maximum(np.floor(counts * bound + 0.5), 1) for bound in bounds)
    part = np.empty(len(order), dtype=np.int64)
    part[order] = (place >= np.repeat(first, counts)).astype(int) + (place >= np.repeat(second, counts))
    return part


def _parts(interactions: Interactions, part: NDArray[np.integer]) -> Split:
    for number, name in ((0, "train"), (1, "validation")):
        if not (part == number).any():
            raise InputError(f"{name} is empty: there are too few interactions for this split")
    test = interactions.take(part == 2) if (part == 2).any() else None
    return Split(interactions.take(part == 0), interactions.take(part == 1), test)


def _times(interactions: Interactions) -> Times:
    if interactions.times is None:
        raise InputError(
            "no times are known: name their column, time=NAME, which also tells what is wrong in it, or split at random"
        )
    return interactions.times
