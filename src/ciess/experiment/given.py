"""What a run is given: interactions over the backbone's users and items, and what must be said about them."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ciess.data import Interactions, Split, interactions_of, split_given, split_random
from ciess.evaluation.metrics import Evaluator, evaluate
from ciess.experiment.clock import Clock
from ciess.models import BackboneConfig
from ciess.models.factors import Factors

if TYPE_CHECKING:
    from ciess.data.interactions import InteractionsLike

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
    found = data if isinstance(data, Split) else interactions_of(data)
    if not isinstance(config, Factors):
        return found, []
    caution = config.caution(found.train if isinstance(found, Split) else found)
    if caution:
        _log.warning(caution)
    if isinstance(found, Split):
        found = split_given(config.matched(found.train), found.valid, found.test)
    else:
        found = config.matched(found)
    return found, [caution] if caution else []


def given(
    data: "Given | InteractionsLike | Split",
    config: BackboneConfig,
    seed: int,
) -> Given:
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
        f"the full tables rank no better than popularity does: their NDCG@20 is {full:.4f}, that of recommending the "
        f"most popular items to all is {popular:.4f}; a share of this quality says nothing"
    )
    _log.warning(caution)
    return [caution]
