"""Full models: where they start, and how they learn what is added."""

from typing import Any

import pytest
import torch

import ciess
from ciess.data import Split
from ciess.experiment.bench import Bench
from ciess.experiment.full import Full, FullModels, take_over
from ciess.experiment.recipe import Recipe
from ciess.models import BackboneConfig, Training


def full_models(split: Split, config: BackboneConfig) -> FullModels:
    return Bench(split, Recipe.of(config, None, "float32", "input", False), 0).full_models


def scores(full: Full) -> torch.Tensor:
    return full.trained.user_table @ full.trained.item_table.T


def test_als_learns_what_is_added_anew_in_as_many_sweeps_as_were_best(split: Split) -> None:
    """Trained on from where it was, it would have overfitted."""
    config = ciess.ALS(dim=8, training=Training(steps=6, eval_every=2, patience=1))
    models = full_models(split, config)
    both = split.train_valid()
    steps = models.finished.fitted.steps
    expected = config.on_more(both, split.train).build(both, 0)
    sweep = expected.solver(both)
    assert sweep is not None
    tables = expected.user_table.detach(), expected.item_table.detach()
    for _ in range(steps):
        tables = sweep(*tables)
    torch.testing.assert_close(scores(models.on(2)), tables[0] @ tables[1].T, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("config", [ciess.ALS(dim=8), ciess.MF(dim=8)])
def test_what_was_resumed_or_descends_trains_on(config: BackboneConfig, split: Split) -> None:
    """Without a single step more, it would be where it was."""
    models = full_models(split, config.changed(steps=4))
    if isinstance(config, ciess.ALS):
        models.resume(models.on(1))
    begun: list[torch.Tensor] = []

    def noted(backbone: Any, *_: object) -> None:
        begun.append(backbone.user_table @ backbone.item_table.T)

    before = scores(models.on(1))
    models._fit = noted  # type: ignore[method-assign, assignment]
    models.on(2)
    torch.testing.assert_close(begun[0], before)


def test_rows_that_are_known_go_on_and_new_ones_begin_anew(split: Split) -> None:
    config = ciess.NCF(dim=8)
    new = split.train
    old = new.take((new.users > 5) & (new.items > 5)).k_core(1)
    trained, model, fresh = config.build(old, 1), config.build(new, 2), config.build(new, 2)
    take_over(model, new, Full(trained, trained, old))
    for side in ("user", "item"):
        table, before, begun = (getattr(each, f"{side}_table") for each in (model, trained, fresh))
        rows = {each: row for row, each in enumerate(getattr(old, f"{side}_ids"))}
        for row, name in enumerate(getattr(new, f"{side}_ids")):
            same = before[rows[name]] if name in rows else begun[row]
            assert table[row].equal(same)
    others = [name for name, _ in model.named_parameters() if not name.endswith("_table")]
    assert others
    weights = [dict(each.named_parameters()) for each in (model, trained)]
    assert all(weights[0][name].equal(weights[1][name]) for name in others)


def test_buffers_go_on_unless_they_are_of_the_data(split: Split) -> None:
    def made() -> Any:
        model = ciess.MF(dim=4).build(split.train, 1)
        model.register_buffer("turn", torch.zeros(4, 4))
        model.register_buffer("popularity", torch.zeros(split.train.n_items))
        return model

    trained, model = made(), made()
    trained.turn += torch.eye(4)
    trained.popularity = torch.ones(3)
    take_over(model, split.train, Full(trained, trained, split.train))
    assert model.turn.equal(torch.eye(4))
    assert not model.popularity.any()
