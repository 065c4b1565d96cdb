"""Training is held against plain PyTorch: dense matrices, gathers, Adam with nothing left out."""

import copy
import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from ciess.data import Interactions, Split
from ciess.data.sampling import TripletSampler
from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluator
from ciess.models import Backbone, Represented, Training, backbone_named
from ciess.models.graph import averaging_adjacency, normalised_adjacency
from ciess.models.ncf import NCFModel
from ciess.models.ngcf import NGCFModel
from ciess.tables.encoding import Encoding
from ciess.tables.mask import prefix_mask
from ciess.tables.plan import SizePlan, TableShape
from ciess.tables.precision import Precision
from ciess.tables.taper import Taper
from ciess.train.checkpoint import Kept
from ciess.train.fit import Fitted, fit, while_gaining
from ciess.train.held_tables import HeldTables
from ciess.train.losses import BPR

SETTINGS: dict[str, dict[str, float]] = {
    "mf": {},
    "lightgcn": {},
    "ncf": {},
    "ngcf": {"message_dropout": 0.0, "edge_dropout": 0.0},
}
RECIPE = Training(steps=8, batch_size=64, lr=0.05, lr_decay=0.5, lr_every=3, lr_floor=0.02, l2=0.01)


def plain_scores(model: Backbone, rows: torch.Tensor, train: Interactions) -> torch.Tensor:
    """(users, items) scores of all pairs by dense formulas, from the rows of users and items."""
    if isinstance(model, NCFModel):
        users, items = rows[: train.n_users], rows[train.n_users :]
        hidden_users, hidden_items = users[:, 1::2] @ model.user_hidden.T, items[:, 1::2] @ model.item_hidden.T
        hidden = (hidden_users[:, None] + hidden_items + model.hidden_bias).relu()
        return (users[:, ::2] * model.gmf_output) @ items[:, ::2].T + hidden @ model.mlp_output
    vectors = rows
    if isinstance(model, NGCFModel):
        graph = averaging_adjacency(train.matrix)[0].to_dense()
        for w1, w2, bias in zip(model.of_means, model.of_products, model.biases, strict=True):
            rows = torch.nn.functional.leaky_relu(graph @ rows @ w1 + (graph @ rows * rows) @ w2 + bias, 0.2)
            vectors = torch.cat([vectors, rows / rows.norm(dim=1, keepdim=True)], 1)
    elif hasattr(model, "adjacency"):
        graph = normalised_adjacency(train.matrix).to_dense()
        vectors = (rows + graph @ rows + graph @ graph @ rows + graph @ graph @ graph @ rows) / 4
    return vectors[: train.n_users] @ vectors[train.n_users :].T


def plain_training(name: str, train: Interactions, recipe: Training, plan: SizePlan | None) -> list[torch.Tensor]:
    """Both tables after training in one, users first, and the other parameters."""
    model = backbone_named(name, dim=6, **SETTINGS[name]).build(train, seed=2)
    table = torch.cat([model.user_table, model.item_table]).detach().requires_grad_()
    others = [p for name, p in model.named_parameters() if not name.endswith("_table")]
    mask = torch.ones_like(table) if plan is None else prefix_mask(plan.sizes, 6)
    sampler = TripletSampler(train, seed=5)
    optimiser = torch.optim.Adam([table, *others])
    for step in range(recipe.steps):
        optimiser.param_groups[0]["lr"] = max(recipe.lr_floor, recipe.lr * recipe.lr_decay ** (step // recipe.lr_every))
        rows = table * mask
        scores = plain_scores(model, rows, train)
        user, positive, negative = sampler.sample(recipe.batch_size)
        margin = scores[user, positive] - scores[user, negative]
        norms = sum(rows[who].square().sum(1) for who in (user, positive + train.n_users, negative + train.n_users))
        loss = softplus(-margin).mean() + recipe.l2 / 2 * norms.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return [(table * mask).detach(), *(parameter.detach() for parameter in others)]


def test_learning_rates_relative_to_a_model_are_in_root_mean_squares_of_what_is_kept(split: Split) -> None:
    model = backbone_named("mf", dim=4).build(split.train)
    like = copy.deepcopy(model)
    # Users keep two dimensions and three in turn; what is cut would count as 100.
    kept = torch.arange(split.train.n_users) % 2 + 2
    plan = SizePlan(kept.numpy(), torch.full((split.train.n_items,), 4).numpy(), dim=4)
    with torch.no_grad():
        like.user_table.copy_(torch.where(torch.arange(4) < kept[:, None], 3.0, 100.0))
        like.item_table.zero_()
        model.user_table.mul_(prefix_mask(kept, 4))
    before = model.user_table.detach().clone(), model.item_table.detach().clone()
    recipe = Training(steps=1, batch_size=10**4, lr=0.05)
    fit(model, BPR(model, split.train, recipe, 0), recipe, plan=plan, relative_to=like)
    # Adam's first step is the learning rate itself; a table of zeros counts as 0.001.
    moved = [
        float((now.detach() - then).abs().max())
        for now, then in zip((model.user_table, model.item_table), before, strict=True)
    ]
    assert moved == pytest.approx([0.15, 0.00005], rel=1e-2)


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_training_follows_the_reference_trajectory(name: str, sized: bool, split: Split) -> None:
    train = split.train
    sizes = torch.arange(train.n_users + train.n_items).numpy() % 5 + 1
    plan = SizePlan(sizes[: train.n_users], sizes[train.n_users :], dim=6) if sized else None
    model = backbone_named(name, dim=6, **SETTINGS[name]).build(train, seed=2)
    fit(model, BPR(model, train, RECIPE, seed=5), RECIPE, plan=plan)
    found = [torch.cat([model.user_table, model.item_table]), *model.network.values()]
    for one, other in zip(found, plain_training(name, train, RECIPE, plan), strict=True):
        torch.testing.assert_close(one.detach(), other, rtol=1e-3, atol=1e-4 if name == "ngcf" else 1e-5)


def test_the_best_state_on_validation_is_kept(split: Split) -> None:
    evaluator = Evaluator(split.train.matrix, split.valid.matrix)
    model = backbone_named("mf", dim=16).build(split.train, seed=0)
    overfit = dataclasses.replace(RECIPE, steps=600, l2=0.0, eval_every=20, patience=4)
    told: list[tuple[int, int]] = []
    fitted = fit(
        model,
        BPR(model, split.train, overfit, seed=0),
        overfit,
        valid=evaluator,
        progress=lambda _, done, total, __: told.append((done, total)),
    )
    vectors = model.vectors()
    assert float(evaluator(lambda users: model.score_all(vectors, users)).quality.mean()) == fitted.quality
    assert 0 < fitted.steps < 600, "overfitting should be stopped"
    assert told[-1] == (fitted.steps + 4 * 20, 600)


def test_fine_tuning_never_ends_below_its_start(split: Split) -> None:
    evaluator = Evaluator(split.train.matrix, split.valid.matrix)
    model = backbone_named("mf", dim=8).build(split.train, seed=0)
    fit(model, BPR(model, split.train, RECIPE, seed=0), dataclasses.replace(RECIPE, steps=200))
    vectors = model.vectors()
    start = float(evaluator(lambda users: model.score_all(vectors, users)).quality.mean())
    plan = SizePlan.equal(TableShape(split.train.n_users, split.train.n_items, 8), 8)
    harmful = dataclasses.replace(RECIPE, lr=5.0, steps=5, eval_every=1)
    fitted = fit(model, BPR(model, split.train, harmful, seed=0), harmful, valid=evaluator, plan=plan)
    assert fitted.steps == 0
    assert fitted.quality == start


@pytest.mark.parametrize("trained", [False, True])
def test_a_state_before_the_first_step_counts_where_it_was_trained(trained: bool, split: Split) -> None:
    evaluator = Evaluator(split.train.matrix, split.valid.matrix)
    model = backbone_named("mf", dim=8).build(split.train, seed=0)
    fit(model, BPR(model, split.train, RECIPE, seed=0), dataclasses.replace(RECIPE, steps=200))
    before = model.user_table.detach().clone()
    harmful = dataclasses.replace(RECIPE, lr=5.0, steps=5, eval_every=1)
    fitted = fit(model, BPR(model, split.train, harmful, seed=0), harmful, valid=evaluator, trained=trained)
    assert (fitted.steps == 0) == before.equal(model.user_table) == trained


@pytest.mark.parametrize(
    ("steps", "gaining", "told"),
    [
        ([90], [False], Fitted(90, 0.1, 2.0)),
        ([100, 40], [True, False], Fitted(140, 0.2, 4.0, later=[40])),
        ([100, 50, 0], [True, True, False], Fitted(150, 0.3, 6.0, later=[50, 0])),
        ([100, 50, 50, 50, 50, 50], [True] * 6, Fitted(300, 0.5, 10.0, gaining=True, later=[50] * 4)),
    ],
    ids=["levelled off", "a second run", "a run that gains nothing is the last", "three times the steps at most"],
)
def test_a_full_model_goes_on_while_it_gains(steps: list[int], gaining: list[bool], told: Fitted) -> None:
    trainings: list[Training] = []

    def run(number: int, training: Training) -> Fitted:
        assert number == len(trainings)
        trainings.append(training)
        return Fitted(steps[number], (number + 1) / 10, 2.0, gaining[number])

    recipe = Training(steps=100, lr=0.02)
    assert while_gaining(recipe, run) == told
    assert trainings == [recipe, *[dataclasses.replace(recipe, steps=50, lr=0.01)] * (len(trainings) - 1)]


class Told:
    """An evaluator that says what it is told to, one after the other."""

    def __init__(self, *qualities: float) -> None:
        self.left = iter(qualities)

    def __call__(self, _: object) -> SimpleNamespace:
        return SimpleNamespace(quality=torch.tensor([next(self.left)], dtype=torch.float64))


@pytest.mark.parametrize(
    ("qualities", "steps", "taken", "gaining"),
    [
        ([0.2, 0.1, 0.3, 0.1, 0.1], 3, 5, False),
        ([0.2, 0.1, 0.2, 0.3], 1, 3, False),
        ([0.1, 0.2, 0.3, 0.1, 0.302, 0.304], 6, 6, True),
        ([0.1, 0.2, 0.1, 0.3, 0.299, 0.301], 6, 6, False),
    ],
    ids=["a gain renews patience", "the same again is no gain", "gaining", "levelled off"],
)
def test_patience_and_gains_by_hand(
    qualities: list[float], steps: int, taken: int, gaining: bool, tiny: Interactions
) -> None:
    model = backbone_named("mf", dim=2).build(tiny)
    recipe = Training(steps=6, batch_size=4, eval_every=1, patience=2)
    valid = Told(*qualities)
    fitted = fit(model, BPR(model, tiny, recipe, seed=0), recipe, valid=valid)  # type: ignore[arg-type]
    assert (fitted.steps, fitted.quality, fitted.gaining) == (steps, max(qualities[:taken]), gaining)
    assert len([*valid.left]) == len(qualities) - taken
    assert not fitted.gained, "before the first step nothing was measured"


@pytest.mark.parametrize(("best", "gained"), [(0.2011, True), (0.2009, False), (0.1, False)])
def test_gained_is_more_than_half_a_percent_over_the_state_before_training(
    best: float, gained: bool, tiny: Interactions
) -> None:
    model = backbone_named("mf", dim=2).build(tiny)
    recipe = Training(steps=3, batch_size=4, eval_every=1, patience=3)
    plan = SizePlan.equal(TableShape(tiny.n_users, tiny.n_items, 2), 1)
    # The last measurement gains less than the best one did.
    valid = Told(0.2, 0.1, best, best)
    fitted = fit(model, BPR(model, tiny, recipe, seed=0), recipe, valid=valid, plan=plan)  # type: ignore[arg-type]
    assert (fitted.gained, fitted.gaining) == (gained, False)


def test_what_is_kept_is_the_state_of_the_best_measurement_the_network_too(tiny: Interactions) -> None:
    recipe = Training(steps=3, batch_size=4, lr=0.1, eval_every=1)
    best, first = (backbone_named("ncf", dim=4).build(tiny, seed=1) for _ in range(2))
    fit(best, BPR(best, tiny, recipe, seed=0), recipe, valid=Told(0.3, 0.1, 0.2))  # type: ignore[arg-type]
    fit(first, BPR(first, tiny, recipe, seed=0), recipe.lasting(1))
    for one, other in zip(best.parameters(), first.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_last_step_is_measured_whenever_it_comes(tiny: Interactions) -> None:
    model = backbone_named("mf", dim=2).build(tiny)
    recipe = Training(steps=6, batch_size=4, eval_every=4)
    assert fit(model, BPR(model, tiny, recipe, seed=0), recipe, valid=Told(0.1, 0.2)).steps == 6  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", [Precision.INT4, Taper((5, 3, 2, 2, 1, 1, 1, 1))], ids=str)
def test_what_is_measured_is_what_comes_out_rounded(precision: Encoding, split: Split) -> None:
    evaluator = Evaluator(split.train.matrix, split.valid.matrix)
    model = backbone_named("mf", dim=8).build(split.train, seed=0)
    plan = SizePlan.equal(TableShape(split.train.n_users, split.train.n_items, 8), 4, precision)
    recipe = Training(steps=2, batch_size=100, eval_every=1)
    fitted = fit(model, BPR(model, split.train, recipe, seed=0), recipe, valid=evaluator, plan=plan)
    vectors = model.vectors()
    found = evaluator(lambda users: model.score_all(vectors, users))
    assert float(found.quality.mean()) == fitted.quality


def kept_when_cut(model: Backbone, evaluator: Evaluator, size: int) -> float:
    """The quality that is left when every row is cut to a size, as a share of the whole."""

    def quality(size: int) -> float:
        mask = torch.arange(model.user_table.shape[1]) < size
        vectors = model.vectors(model.user_table * mask, model.item_table * mask)
        return float(evaluator(lambda users: model.score_all(vectors, users)).quality.mean())

    return quality(size) / quality(model.user_table.shape[1])


@pytest.mark.parametrize("name", SETTINGS)
def test_nested_training_loses_less_when_rows_are_cut(name: str, split: Split) -> None:
    evaluator = Evaluator(split.train.matrix, split.valid.matrix)
    kept = []
    for nested in (False, True):
        model = backbone_named(name, dim=16).build(split.train, seed=0)
        recipe = Training(steps=80, batch_size=1000, l2=0.01, eval_every=20, nested=nested)
        fit(model, BPR(model, split.train, recipe, seed=0), recipe, valid=evaluator)
        kept.append(kept_when_cut(model, evaluator, 4))
    plain, nested_kept = kept
    assert nested_kept > plain + 0.05


def test_a_seed_fixes_nested_training(split: Split) -> None:
    def trained(seed: int) -> torch.Tensor:
        model = backbone_named("mf", dim=8).build(split.train, seed=0)
        recipe = dataclasses.replace(RECIPE, nested=True)
        fit(model, BPR(model, split.train, recipe, seed=0), recipe, seed=seed)
        return model.user_table.detach()

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))


def test_dropout_is_on_in_steps_and_off_in_measurements(split: Split) -> None:
    evaluator = Evaluator(split.train.matrix, split.valid.matrix)
    model = backbone_named("ngcf", dim=4).build(split.train, seed=0)
    modes: list[bool] = []
    represent = model.represent

    def spied(users: torch.Tensor, items: torch.Tensor) -> Represented:
        modes.append(model.training)
        return represent(users, items)

    score_all, scoring = model.score_all, list[bool]()

    def spied_scores(vectors: Represented, users: torch.Tensor) -> torch.Tensor:
        scoring.append(model.training)
        return score_all(vectors, users)

    model.represent, model.score_all = spied, spied_scores  # type: ignore[method-assign]
    recipe = dataclasses.replace(RECIPE, steps=4, eval_every=2)
    fit(model, BPR(model, split.train, recipe, seed=0), recipe, valid=evaluator)
    assert modes == [True, True, False, True, True, False]
    assert scoring
    assert not any(scoring)
    assert not model.training


def test_rows_that_share_scales_learn_by_the_gradient_of_what_they_are_rounded_to(split: Split) -> None:
    """The gradient passes the rounding (Bengio et al., 2013)."""
    model = backbone_named("mf", dim=4).build(split.train)
    plan = SizePlan.equal(TableShape(split.train.n_users, split.train.n_items, 4), 4, Precision.INT4_SHARED)
    tables = HeldTables(model, plan)
    users, items = tables.seen(1)
    assert not torch.equal(users, tables.users), "losses see what is stored"
    (users.sum() + 2 * items.sum()).backward()
    assert torch.equal(tables.users.grad, torch.ones_like(users))
    assert torch.equal(tables.items.grad, torch.full_like(items, 2.0))


class Exploding:
    """A loss whose gradient is no number from some step on."""

    dropout = coarse = False

    def __init__(self, after: int) -> None:
        self.generator, self._left = torch.Generator(), after

    def __call__(self, vectors: object, user_table: Tensor, item_table: Tensor) -> Tensor:
        self._left -= 1
        return (user_table.sum() + item_table.sum()) * (1.0 if self._left >= 0 else torch.inf) * 0.0


def test_a_run_that_is_taken_up_after_it_diverged_has_diverged(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every step is kept, the last as well.
    monkeypatch.setattr("ciess.train.checkpoint._BETWEEN", -1.0)
    monkeypatch.setattr("ciess.train.checkpoint._Spent.allows", lambda *_: True)
    evaluator = Evaluator(split.train.matrix, split.valid.matrix)
    recipe = dataclasses.replace(RECIPE, steps=30, eval_every=5)
    for _ in range(2):
        model = backbone_named("mf", dim=4).build(split.train, seed=0)
        assert fit(model, Exploding(12), recipe, valid=evaluator, kept=Kept(tmp_path, "run")).diverged


def test_training_that_diverges_keeps_the_last_good_state(split: Split, caplog: pytest.LogCaptureFixture) -> None:
    """Where there is none, it is refused with a remedy."""
    evaluator = Evaluator(split.train.matrix, split.valid.matrix)
    recipe = dataclasses.replace(RECIPE, steps=30, eval_every=5)

    def trained(after: int, valid: Evaluator | None) -> tuple[Fitted, bool]:
        model = backbone_named("mf", dim=4).build(split.train, seed=0)
        fitted = fit(model, Exploding(after), recipe, valid=valid)
        return fitted, bool(model.user_table.isfinite().all())

    fitted, finite = trained(12, evaluator)
    assert (fitted.steps, fitted.diverged, finite) == (5, True, True)
    assert "diverged by step 15: lower its learning rate, or weigh its norms more; the state of step 5" in caplog.text
    for valid in (evaluator, None):
        with pytest.raises(InputError, match="training has diverged by step"):
            trained(2, valid)
