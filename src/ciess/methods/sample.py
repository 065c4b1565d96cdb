"""Searches on a sample of users and the items that they touch, whose policy then sizes all rows."""

import copy
import dataclasses
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ciess.checks import Checked, Seed, Within
from ciess.data import Interactions
from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluator
from ciess.methods import cheap_methods, method_name, method_names
from ciess.methods.policy import policy_of, sized
from ciess.methods.problem import Candidate, Following, Method, Problem, Sampling, SearchResult
from ciess.models.base import Backbone
from ciess.tables.plan import SizePlan


@dataclass(frozen=True)
class Sampled(Checked):
    """A method on a sample: what it finds there becomes a policy, which sizes all rows.

    The full model has learned all that there is, whatever is searched: the sample's rows are its. A row of the sample
    stands for as many as the inverse of the probability that it is drawn, or touched by who is drawn.

    Attributes:
        method: what searches the sample.
        share: of the users that have interactions.
        seed: of the sample.

    Raises:
        InputError: a share of nothing or above 1, or a method that is not cheap, see `ciess.methods`.
    """

    method: Method
    share: Annotated[float, Within(0, 1, above=True)] = 0.1
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not getattr(self.method, "cheap", False):
            name = method_name(self.method)
            told = f"{name} searches all rows: without a sample, or by {', '.join(cheap_methods())}"
            own = "give its class cheap = True if it measures plans alone"
            raise InputError(told if name in method_names() else f"{told}; {own}")

    def search(self, problem: Problem) -> SearchResult:
        """A plan of all rows for every one that the method found for the sample's; nothing is measured on all."""
        some = sample(problem, self.share, self.seed)
        some.kept, some.carried = problem.kept, problem.carried
        found = self.seeded.search(some)
        problem.trainings += some.trainings
        problem.measurements += some.measurements
        result, name = SearchResult({}, found.trace, found.carried), method_name(self.method)
        for budget, candidates in found.best.items():
            policies = [policy_of(self.seeded, some, each.plan, each.found_by or name) for each in candidates]
            result.best[budget] = [
                Candidate(sized(policy, problem, budget), each.quality, each.found_by)
                for policy, each in zip(policies, candidates, strict=True)
            ]
        return result

    def followed(self, plan: SizePlan, before: Problem, after: Problem) -> SizePlan:
        """As the method follows, on all rows: no policy knows of each row what it is worth."""
        method = self.seeded
        return method.followed(plan, before, after) if isinstance(method, Following) else plan

    @property
    def seeded(self) -> Method:
        """The method with the sample's seed, if it has one."""
        if not hasattr(self.method, "seed"):
            return self.method
        return dataclasses.replace(self.method, seed=self.seed)  # type: ignore[type-var]


def drawn(
    full: Backbone, train: Interactions, valid: Interactions, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.integer]]:
    """Rows of the users of a sample, and of the items that they touch, in rising order.

    Args:
        full: the model whose rows they are, trained or not.
        train: what the sample learns from.
        valid: what it is measured on.
        share: of the users that have interactions, above 0.
        seed: of the draw.

    Raises:
        InputError: a graph, in which a sample's rows are not what they are in all, or a sample that holds no
            interactions of train or of validation.
    """
    if full.through_graph:
        raise InputError(
            "a sample's rows are not what they are in the whole graph: use mf, als or ncf, or search all rows"
        )
    known = np.flatnonzero(train.user_counts)
    n = max(1, round(share * len(known)))
    users = np.sort(np.random.default_rng(seed).choice(known, n, replace=False))
    items = np.unique(train.matrix[users].indices)
    if not len(items) or not valid.matrix[users][:, items].nnz:
        raise InputError(f"a sample of {n:,} users holds nothing to learn or to choose on: take a larger one")
    return users, items


def sample(problem: Problem, share: float, seed: int) -> Problem:
    """A part of the users and the items that they touch, as a problem of its own with the same budgets.

    A user stands for as many as there are with interactions for each that is drawn; an item, which is the likelier in
    the sample the more users it has, for the inverse of that probability.

    Args:
        problem: of all rows.
        share: of the users that have interactions, above 0.
        seed: of the draw.

    Raises:
        InputError: see `drawn`.
    """
    full, train = problem.full_model, problem.train
    users, items = drawn(full, train, problem.valid_positives, share, seed)

    def part(data: Interactions) -> Interactions:
        return Interactions(data.matrix[users][:, items], data.user_ids[users], data.item_ids[items])

    learned, held = part(train), part(problem.valid_positives)
    model = copy.copy(full)
    model._parameters, model.learned = dict(full._parameters), learned
    for name, rows in (("user_table", users), ("item_table", items)):
        setattr(model, name, nn.Parameter(getattr(full, name).detach()[torch.from_numpy(rows)]))
    chance = len(users) / np.count_nonzero(train.user_counts)
    reached = 1 - (1 - chance) ** train.item_counts[items]
    some = Problem(
        model,
        problem.config,
        learned,
        Evaluator(learned.matrix, held.matrix),
        problem.budgets,
        problem.fidelity,
        problem.seed,
        problem.progress,
        problem.precision,
        Sampling(problem.shape, np.concatenate([np.full(len(users), 1 / chance), 1 / reached])),
    )
    # As popular as they are in all: by that the policy knows others like them.
    some.popularity = (train.user_counts[users], train.item_counts[items])
    return some
