"""Which runs of distillation a finish takes, and that no further one at a lower rate would be worth it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ciess.data import Split, split_random, synthetic
from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluator, evaluate
from ciess.models import Backbone, BackboneConfig, Training, backbone_named
from ciess.tables.plan import SizePlan, TableShape
from ciess.tables.precision import Precision
from ciess.train.checkpoint import Kept
from ciess.train.finish import Finish, Finishing, Run, finish, learned_on
from ciess.train.fit import Fitted, fit
from ciess.train.losses import BPR

MIDDLE = 10**-0.5
SETTINGS = Finish(training=Training(steps=100, lr=0.2, lr_floor=0.0))


def finished(
    split: Split, monkeypatch: pytest.MonkeyPatch, outcomes: list[tuple[int, bool, bool]], **options: object
) -> tuple[Finishing, list[tuple[int, float, int]]]:
    """A finish whose fits keep so many steps, are gaining at the end or not, and have gained or not; the seed, rate and
    steps of each fit."""
    taken: list[tuple[int, float, int]] = []

    def fit(_: object, lesson: int, training: Training, **__: object) -> Fitted:
        steps, gaining, gained = outcomes[len(taken)]
        taken.append((lesson, training.lr, training.steps))
        return Fitted(steps, 0.5, 0.0, gaining, gained=gained)

    monkeypatch.setattr("ciess.train.finish.fit", fit)
    monkeypatch.setattr("ciess.train.finish.Distillation", lambda *given: given[3])
    full = backbone_named("lightgcn", dim=4).build(split.train)
    plan = SizePlan.equal(TableShape(split.train.n_users, split.train.n_items, 4), 2)
    return finish(full, plan, SETTINGS, seed=7, **options)[1], taken  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcomes", "runs", "converged"),
    [
        ([(50, False, False)], [Run(1.0, 50)], True),
        ([(50, False, True), (50, False, False)], [Run(1.0, 50), Run(MIDDLE, 50)], True),
        ([(50, False, True)] * 3, [Run(1.0, 50), Run(MIDDLE, 50), Run(0.1, 50)], True),
        ([(0, False, False), (60, False, False)], [Run(1.0, 0), Run(MIDDLE, 60)], True),
        ([(0, False, False)] * 3, [Run(1.0, 0), Run(MIDDLE, 0), Run(0.1, 0)], True),
        ([(49, False, False), (60, False, False)], [Run(1.0, 49), Run(MIDDLE, 60)], True),
        ([(49, False, False), *[(0, False, False)] * 2], [Run(1.0, 49), Run(MIDDLE, 0), Run(0.1, 0)], True),
        ([(100, True, True)] * 3, [Run(1.0, 100), Run(MIDDLE, 100), Run(0.1, 100)], False),
    ],
    ids=[
        "gained little in its second half",
        "gained much, and little after",
        "gained much to the end",
        "no gain at the full rate",
        "no gain at all",
        "best too early",
        "best, and no gain after",
        "gaining to the end",
    ],
)
def test_a_next_run_is_taken_where_the_one_before_was_too_fast_or_too_short(
    split: Split,
    monkeypatch: pytest.MonkeyPatch,
    outcomes: list[tuple[int, bool, bool]],
    runs: list[Run],
    converged: bool,
) -> None:
    valid = Evaluator(split.train.matrix, split.valid.matrix)
    finishing, taken = finished(split, monkeypatch, outcomes, valid=valid)
    assert finishing.runs == tuple(runs)
    assert finishing.steps == sum(run.steps for run in runs)
    assert finishing.converged == converged
    assert [steps for _, _, steps in taken] == [100] * len(runs), "the whole recipe each time"
    assert [rate / taken[0][1] for _, rate, _ in taken] == pytest.approx([run.rate for run in runs])


def test_runs_that_were_measured_are_repeated_without_validation(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    valid, outcomes = Evaluator(split.train.matrix, split.valid.matrix), [(30, False, False), (80, False, False)]
    measured, first = finished(split, monkeypatch, outcomes, valid=valid)
    repeated, again = finished(split, monkeypatch, outcomes, runs=measured.runs)
    assert [steps for _, _, steps in again] == [30, 80], "as many as were kept"
    assert [each[:2] for each in again] == [each[:2] for each in first], "by the same draws at the same rates"
    assert len({seed for seed, _, _ in again}) == 2, "each run draws for itself"
    assert (repeated.runs, repeated.converged) == (measured.runs, False)


# Regularised so that they rank held-out items better than their cuts do: else there is nothing to learn from them.
TEACHERS = {
    "als": backbone_named("als", dim=12).changed(regularisation=10.0),
    "mf": backbone_named("mf", dim=12).changed(l2=0.1),
}


def trained(config: BackboneConfig, split: Split) -> Backbone:
    full = config.build(split.train)
    solver = full.solver(split.train)
    fit(full, solver or BPR(full, split.train, config.training, 0), config.training.lasting(3 if solver else 120))
    full.order_dimensions()
    return full


@pytest.mark.parametrize("name", TEACHERS)
def test_no_finish_ends_below_the_cut_or_where_a_lower_rate_would_gain(name: str) -> None:
    # Fewer users measure less sharply than the one percent that is asked for.
    data = split_random(synthetic(users=1500, items=150, mean_count=25, seed=5).interactions, seed=5)
    full, valid = trained(TEACHERS[name], data), Evaluator(data.train.matrix, data.valid.matrix)
    shape = TableShape(data.train.n_users, data.train.n_items, 12)
    recipe = Finish.suiting(TEACHERS[name])

    @settings(max_examples=2, phases=[Phase.generate])
    @given(seed=st.integers(0, 99), most=st.integers(1, 11), precision=st.sampled_from(list(Precision)))
    def holds(seed: int, most: int, precision: Precision) -> None:
        sizes = np.random.default_rng(seed).integers(1, most + 1, shape.rows).astype(np.int32)
        plan = SizePlan.from_sizes(sizes, shape, precision)
        cut, _ = finish(full, plan, recipe.lasting(0), seed=0)
        small, done = finish(full, plan, recipe, seed=0, valid=valid)
        ended = evaluate(small, valid)
        assert ended.quality.mean() == pytest.approx(done.quality)
        assert done.quality >= float(evaluate(cut, valid).quality.mean())
        for rate in (1 / 3, 0.1):
            further = Run(rate * done.runs[-1].rate, 100)
            longer, _ = finish(full, plan, recipe, seed=0, runs=[*done.runs, further])
            gained = evaluate(longer, valid)
            # These users are a sample: what is gained counts by more than its standard error.
            more = float(gained.quality.mean()) - gained.standard_error(ended)
            assert more <= 1.01 * done.quality or not done.converged

    holds()


@torch.no_grad()
def divergences(full: Backbone, *others: Backbone) -> list[float]:
    """How far rankings are from a full model's: mean divergence of their softmax, scores in its standard deviations."""
    users = torch.arange(len(full.user_table))
    scores = [each.score_all(each.vectors(), users) for each in (full, *others)]
    wanted, *shares = (torch.log_softmax(2 * each / scores[0].std(dim=1).mean(), dim=1) for each in scores)
    return [float((wanted.exp() * (wanted - each)).sum(1).mean()) for each in shares]


def test_what_cannot_be_kept_is_told_and_not_taken_for_divergence(split: Split, tmp_path: Path) -> None:
    full = trained(backbone_named("mf", dim=8), split)
    plan = SizePlan.equal(TableShape(split.train.n_users, split.train.n_items, 8), 3)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be"):
        learned_on(full, full, plan, Finish().lasting(2), seed=0, kept=Kept(tmp_path / "file" / "folder", "run"))


@pytest.mark.parametrize("wrong", [{"refit_steps": -3}, {"share": 0.0}, {"share": float("nan")}, {"training": 3}])
def test_settings_of_a_finish_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(wrong))} is"):
        Finish(**wrong)


@pytest.mark.parametrize(("rate", "learns"), [(0.3, True), (1e4, False), (1e38, False)])
def test_what_is_finished_learns_on_only_where_it_comes_closer(rate: float, learns: bool, split: Split) -> None:
    rng = np.random.default_rng(0)
    full = backbone_named("mf", dim=8).build(split.train)
    with torch.no_grad():
        for table in (full.user_table, full.item_table):
            table.copy_(torch.from_numpy(rng.standard_normal(table.shape)))
    full.order_dimensions()
    plan = SizePlan.equal(TableShape(split.train.n_users, split.train.n_items, 8), 3)
    recipe = Finish(training=Training(steps=40, lr=rate, lr_every=4))
    cut, _ = finish(full, plan, recipe, seed=0, runs=(Run(1.0, 0),))
    before = cut.user_table.detach().clone()
    found = learned_on(cut, full, plan, recipe, seed=0)
    assert torch.equal(cut.user_table, before)
    assert (found is not cut) == learns
    assert not found.user_table[:, 3:].any()
    if learns:
        far, near = divergences(full, cut, found)
        assert near < 0.9 * far
