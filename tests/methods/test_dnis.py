from typing import Any

import numpy as np
import pytest
import torch
from planted import NEEDED, POPULAR, RARE, selective

from ciess.data.describe import like_groups
from ciess.methods.dnis import DNIS, Selection
from ciess.methods.shared.joint import Learner


def test_the_planted_dimensions_of_each_block_are_selected() -> None:
    problem = selective()
    settings = DNIS(start="full", blocks=2, rate=0.04, steps=40)
    learner = Learner(problem, settings.start, settings.seed, settings.steps)
    users, items = settings.selected(learner, problem)
    # Tables stay as they are: what is left of them is α.
    weights = users / problem.full_model.user_table
    popular, rare = weights[:POPULAR].mean(0), weights[POPULAR : POPULAR + RARE].mean(0)
    assert popular[NEEDED["popular"]].min() > 0.5
    assert rare[NEEDED["rare"]].min() > 0.5
    # What users do not need of the items' dimensions is noise, and so is what the other kind of users needs.
    assert popular[NEEDED["rare"]].max() < 0.2
    assert rare[NEEDED["popular"]].max() < 0.2
    assert (items / problem.full_model.item_table)[:, [4, 7]].max() < 0.2


def test_without_the_noise_the_sparse_model_ranks_better() -> None:
    problem = selective()
    found = DNIS(start="full", blocks=2, rate=0.04, steps=40).search(problem)
    published = [float(row["quality"]) for row in found.trace if row["kind"] == "published"]
    assert len(published) == len(problem.budgets)
    assert max(published) > problem.full.quality + 0.05


def test_a_step_is_as_long_in_every_block_and_stays_in_bounds() -> None:
    side = Selection(torch.nn.Parameter(torch.ones(3, 2)), torch.tensor([0, 1, 1]))
    with torch.no_grad():
        side.weights.copy_(torch.tensor([[0.5, 0.5], [0.05, 0.98]]))
    side.move(torch.tensor([[3e-6, -1e-6], [3.0, -1.0]]), rate=0.1)
    # Gradients over their blocks' means, 2e-6 and 2, are 1.5 and −0.5.
    torch.testing.assert_close(side.weights.detach(), torch.tensor([[0.35, 0.55], [0.0, 1.0]]))
    side.move(torch.zeros(2, 2), rate=0.1)
    assert torch.isfinite(side.weights).all()
    torch.testing.assert_close(side.selected()[:, 0].detach(), torch.tensor([0.35, 0.0, 0.0]))


def test_blocks_are_of_like_popularity_and_length() -> None:
    popularity = np.array([5, 1, 9, 7, 3, 2, 8])
    assert like_groups(-popularity, 3).tolist() == [1, 2, 0, 0, 1, 2, 0]


def test_validation_alone_moves_the_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = selective()
    learner = Learner(problem, "full", 0, 1)
    monkeypatch.setattr(learner, "loss", lambda users, items: 0 * (users.sum() + items.sum()))
    users, _ = DNIS(steps=1).selected(learner, problem)
    assert not users.equal(problem.full_model.user_table)


def test_there_are_no_more_blocks_than_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory goes with the rows, not with what is asked for."""
    made: list[Selection] = []

    def noted(*given: Any) -> Selection:
        made.append(Selection(*given))
        return made[-1]

    monkeypatch.setattr("ciess.methods.dnis.Selection", noted)
    problem = selective()
    settings = DNIS(start="full", blocks=1000, steps=1)
    settings.selected(Learner(problem, settings.start, settings.seed, settings.steps), problem)
    assert [len(each.weights) for each in made] == [problem.shape.n_users, problem.shape.n_items]
