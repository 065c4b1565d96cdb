"""Sizes of rows that no search has seen: `python benchmarks/unseen_rows.py DATA`.

CIESS searches a sample of users and the items that they touch, and learns to size rows by what they are like. One
forward pass then sizes all rows. Beside it stand searches on all rows. A comparison as any: equal sizes too, one finish
for all, test after all choices.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from reproduce import table
from rich.console import Console

import ciess
from ciess.checks import Count, Share
from ciess.data import Interactions
from ciess.evaluation.metrics import Evaluator
from ciess.methods.marginal import Marginal
from ciess.methods.problem import Candidate, Method, Problem, SearchResult
from ciess.progress import ConsoleProgress


@dataclass(frozen=True)
class FromSample:
    """Sizes all rows by a policy that was learned from some, where rows stand alone.

    Attributes:
        share: of the users that are searched, with the items that they touch.
        seed: of the sample and the search.
        method: searches the sample.
    """

    share: Share = 0.1
    seed: Count = 0
    method: ciess.Ciess = field(default_factory=lambda: ciess.Ciess(start=None))

    def search(self, problem: Problem) -> SearchResult:
        """Learn from a sample, size all rows."""
        some, stands_for = sample(problem, self.share, self.seed)
        full, result = problem.full_model, SearchResult(best={})
        for budget in problem.budgets:
            policy = self.method.learned(some, budget, stands_for)
            sides = zip(policy, problem.popularity, (full.user_table, full.item_table), strict=True)
            sizes = [side.sizes(counts, rows.detach().numpy()) for side, counts, rows in sides]
            plan = problem.project(np.concatenate(sizes), budget)
            result.best[budget] = [Candidate(plan, problem.quality_of(plan))]
        return result


def sample(problem: Problem, share: float, seed: int) -> tuple[Problem, NDArray[np.float64]]:
    """A part of the users and the items that they touch, and how many rows each of these rows stands for.

    A user stands for 1 / share; an item, which is the likelier in the sample the more users it has, for the inverse of
    that probability.
    """
    if not problem.full_model.rows_stand_alone:
        raise SystemExit("with a graph a sample's rows are not what they are in all: use mf, als or ncf")
    train, rng = problem.train, np.random.default_rng(seed)
    users = np.sort(rng.choice(train.n_users, max(1, round(share * train.n_users)), replace=False))
    items = np.unique(train.matrix[users].indices)

    def part(data: Interactions) -> Interactions:
        return Interactions(data.matrix[users][:, items], data.user_ids[users], data.item_ids[items])

    learned, held = part(train), part(problem.valid_positives)
    model = problem.config.build(learned, seed)
    own = problem.full_model.state_dict()
    model.load_state_dict({**own, "user_table": own["user_table"][users], "item_table": own["item_table"][items]})
    valid = Evaluator(learned.matrix, held.matrix)
    some = Problem(model, problem.config, learned, valid, problem.budgets, problem.fidelity, seed)
    # As popular as they are in all: by that the policy knows others like them.
    some.popularity = (train.user_counts[users], train.item_counts[items])
    reached = 1 - (1 - share) ** train.item_counts[items]
    return some, np.concatenate([np.full(len(users), 1 / share), 1 / reached])


@dataclass(frozen=True)
class UnseenRows:
    """Size rows that no search has seen."""

    data: tyro.conf.Positional[Path]
    """File or folder of interactions."""
    backbones: tuple[str, ...] = ("als", "mf")
    """Recommenders whose rows stand alone."""
    budgets: tuple[str, ...] = ("5%",)
    """Of the bytes of the full tables."""
    seeds: tuple[int, ...] = (0,)
    """Of split, training, sample and search."""
    share: float = 0.1
    """Of the users that are searched."""
    threads: int = 2
    """Of PyTorch."""


def main() -> None:
    """Compare, print the tables."""
    settings = tyro.cli(UnseenRows, description="Sizes of rows that no search has seen.")
    torch.set_num_threads(settings.threads)
    console, data = Console(width=120), ciess.read(settings.data)
    methods: dict[str, Method] = {
        "popularity": ciess.Popularity(),
        "marginal": Marginal(),
        "ciess": ciess.Ciess(start=None),
        f"policy of {settings.share:.0%}": FromSample(settings.share),
    }
    for backbone in settings.backbones:
        with ConsoleProgress(console, seconds_between_lines=60) as progress:
            found = ciess.compare(
                data,
                methods=methods,
                backbone=backbone,
                budgets=settings.budgets,
                seeds=settings.seeds,
                progress=progress,
            )
        if found.failures:
            raise SystemExit(found.failures[0].error)
        text = "\n".join([f"## {backbone}", "", *table(found.to_dict(), backbone, {}), ""])
        console.print(text, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
