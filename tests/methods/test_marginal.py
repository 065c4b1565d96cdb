"""Rows get the sizes that gain most: a planted problem's are found, and the loss falls."""

import numpy as np
import pytest
import torch
from planted import of_two_lengths

from ciess.data import Split
from ciess.evaluation.metrics import Evaluator
from ciess.methods.fidelity import Truncate
from ciess.methods.marginal import STARTS, Marginal
from ciess.methods.problem import Problem
from ciess.methods.shared.student import Student
from ciess.models import Training, backbone_named
from ciess.tables.budget import Budget
from ciess.train.finish import Finish
from ciess.train.fit import fit
from ciess.train.losses import BPR


def test_rows_get_the_numbers_that_they_are_made_of(split: Split) -> None:
    problem, short = of_two_lengths(split)
    [[found]] = Marginal(rounds=8, steps=10).search(problem).best.values()
    sizes = found.plan.item_sizes
    assert np.median(sizes[short]) <= 2
    assert np.median(sizes[~short]) >= 5
    assert Budget.parse("60%").limit(problem.shape) >= 4 * found.plan.numbers


def test_a_plan_follows_a_full_model_whose_rows_have_changed(split: Split) -> None:
    before, short = of_two_lengths(split)
    after, now_short = of_two_lengths(split, seed=1)
    [[found]] = Marginal(rounds=8, steps=10).search(before).best.values()
    sizes = Marginal(steps=10).followed(found.plan, before, after).item_sizes
    grown, shrunk = short & ~now_short, ~short & now_short
    assert np.median(sizes[grown]) >= 4 > 2 >= np.median(found.plan.item_sizes[grown])
    assert np.median(sizes[shrunk]) < 5 <= np.median(found.plan.item_sizes[shrunk])


@pytest.mark.parametrize("name", ["lightgcn", "ncf"])
def test_the_loss_falls_and_the_plan_of_the_lowest_is_kept(name: str, split: Split) -> None:
    config = backbone_named(name, dim=8).changed(steps=100)
    full = config.build(split.train)
    fit(full, BPR(full, split.train, config.training, 0), config.training)
    full.order_dimensions()
    valid, budgets = Evaluator(split.train.matrix, split.valid.matrix), [Budget.parse("40%"), Budget.parse("60%")]
    problem = Problem(full, config, split.train, valid, budgets, Truncate())
    before = {name: each.clone() for name, each in full.state_dict().items() if each.layout is torch.strided}
    result = Marginal(rounds=3, steps=15).search(problem)
    losses = {str(budget): [row["loss"] for row in result.trace if row["budget"] == str(budget)] for budget in budgets}
    assert all(min(each) < each[0] for each in losses.values())
    assert min(losses["60%"]) < min(losses["40%"]), "more numbers come closer to the full model"
    alone = Marginal(rounds=3, steps=15).search(Problem(full, config, split.train, valid, budgets[:1], Truncate()))
    assert alone.best[budgets[0]][0].plan == result.best[budgets[0]][0].plan, "whatever else is asked for"
    assert all(torch.equal(before[name], full.state_dict()[name]) for name in before), "the full model stays"


def test_it_begins_from_the_plan_of_the_lowest_loss(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, _ = of_two_lengths(split)
    tried, begun = [], []
    real_tried, real_begin = Student.tried, Student.begin
    monkeypatch.setattr(Student, "tried", lambda *given: tried.append(real_tried(*given)) or tried[-1])
    monkeypatch.setattr(Student, "begin", lambda self, best: begun.append(best) or real_begin(self, best))
    Marginal(rounds=1, steps=10).search(problem)
    losses = [each.loss for each in tried]
    assert len(losses) == STARTS
    assert min(losses) < max(losses)
    assert [each.loss for each in begun] == [min(losses)]


def test_plans_are_judged_by_draws_that_training_does_not_begin_with(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, _ = of_two_lengths(split)
    # Of which a draw holds a ninth of the scores.
    scores = problem.shape.n_users * problem.shape.n_items // 9
    monkeypatch.setattr(Finish, "suiting", lambda config: Finish(training=Training(batch_size=scores)))
    student = Student(problem, "marginal", 7)
    first = student._distillation(problem.full_model)._draw(*problem.shape[:2])
    for side, rows in enumerate(first):
        assert len(rows) < problem.shape[side] / 2
        assert not any(set(draw[side].tolist()) >= set(rows.tolist()) for draw in student._fresh)
