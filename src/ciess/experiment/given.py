"""What a run is given: interactions over the backbone's users and items, and what must be said about them."""

import logging
from dataclasses import dataclass

import numpy as np
import torch

from ciess.data import Interactions, Split, split_random
from ciess.data.interactions import InteractionsLike
from ciess.data.prepared import split_or_interactions_of
from ciess.evaluation.metrics import Evaluator, evaluate
from ciess.experiment.clock import Clock
from ciess.models import BackboneConfig
from ciess.models.factors import Factors

_log = logging.getLogger(__name__)

LEARNED = (
    "measured on interactions that the factors have probably learned: this tells how much of what they know is kept, "
    "not how well they recommend; give interactions held out from their training to know that"
)
_USERS = 2_000
_PERFECT = 0.999


@dataclass(frozen=True, eq=False)
class Given:
    """A split, sentences about what its results may be worth, and a clock that counts what the split took."""

    split: Split
    cautions: tuple[str, ...] = ()
    clock: Clock | None = None


def matched(data: "InteractionsLike | Split", config: BackboneConfig) -> tuple[Interactions | Split, list[str]]:
    """Data over the users and items that a backbone has rows for, and a caution if the rows seem to be in disorder.

    Raises:
        InputError: rows of given factors that do not belong to these users and items, see `Factors.matched`.
    """
    found = split_or_interactions_of(data)
    if not isinstance(config, Factors):
        return found, []
    train = _with_rows(found.train, config) if isinstance(found, Split) else found
    caution = config.caution(train)
    if caution:
        _log.warning(caution)
    cautions = [caution] if caution else []
    if not isinstance(found, Split):
        return config.matched(found), cautions
    train = config.matched(train)
    parts = {"validation": found.valid, **({} if found.test is None else {"test": found.test})}
    known = {name: part.over(train.user_ids, train.item_ids) for name, part in parts.items()}
    cautions += [each for name, part in parts.items() for each in without_rows(part, known[name], name)]
    return Split(train, *known.values()), cautions


def _with_rows(train: Interactions, config: Factors) -> Interactions:
    """Train without the users and items that only other parts of a split have, where tables have no rows for them."""
    sides = zip(
        (train.user_ids, train.item_ids), (train.user_counts, train.item_counts), config.tables, config.ids, strict=True
    )
    kept = [ids if len(ids) <= len(table) or given is not None else ids.filter(n > 0) for ids, n, table, given in sides]
    return train.over(*kept)


def without_rows(held_out: Interactions, known: Interactions, name: str) -> list[str]:
    """A caution if a part of what is held out cannot be measured, since given tables have no rows for it."""
    if len(known) == len(held_out):
        return []
    return [
        f"{len(held_out) - len(known):,} of {len(held_out):,} interactions of {name} do not count, since the tables "
        "have no rows for their users or items: metrics that count them as missed would be lower"
    ]


def given(data: "Given | InteractionsLike | Split", config: BackboneConfig, seed: int) -> Given:
    """A split as `search` takes it; interactions are split at random.

    Raises:
        InputError: as for `matched`.
    """
    if isinstance(data, Given):
        return data
    found, cautions = matched(data, config)
    if isinstance(found, Split):
        return Given(found, (*cautions, *below_popularity(config, found)))
    split = split_random(found, seed=seed)
    return Given(split, (*cautions, *below_popularity(config, split), *learned(config)))


def learned(config: BackboneConfig) -> list[str]:
    """A caution if factors are measured on a part of what they have learned."""
    return [LEARNED] if isinstance(config, Factors) else []


def below_popularity(config: BackboneConfig, split: Split) -> list[str]:
    """A caution if given factors rank validation no better than the order of items by their train interactions."""
    if not isinstance(config, Factors):
        return []
    users = np.flatnonzero(split.valid.user_counts)
    if len(users) > _USERS:
        users = np.random.default_rng(0).choice(users, _USERS, replace=False)
    evaluator = Evaluator(split.train.matrix, split.valid.matrix, users=users)
    counts = torch.as_tensor(split.train.item_counts).float()
    popular = evaluator(lambda block: counts.expand(len(block), -1))["ndcg@20"]
    full = evaluate(config.build(split.train), evaluator)["ndcg@20"]
    if full > min(popular, _PERFECT):
        return []
    caution = (
        f"the full tables rank no better than popularity does: their NDCG@20 on validation is {full:.4f}, that of "
        f"recommending the most popular items to all is {popular:.4f}; a share of this quality says nothing"
    )
    _log.warning(caution)
    return [caution]
