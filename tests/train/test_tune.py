"""Tuning finds a known optimum, keeps what is as good, and leaves alone what it is told to."""

import math
from types import SimpleNamespace

import pytest
import torch

from ciess.data import Interactions, Split
from ciess.models import backbone_named
from ciess.models.als import ALS
from ciess.models.base import Backbone, BackboneConfig, Training
from ciess.train import tune as tuning
from ciess.train.losses import BPR
from ciess.train.tune import Tuning, tune


def peaked(alpha: float, regularisation: float, height: float = 1.0) -> "object":
    """A quality that is best at given settings and falls by a tenth for each factor e away from them."""

    def quality(_: object, config: BackboneConfig) -> float:
        away = math.log(config.setting("alpha") / alpha), math.log(config.setting("regularisation") / regularisation)
        return height * (1 - 0.1 * math.hypot(*away))

    return quality


@pytest.mark.parametrize(("alpha", "regularisation"), [(200.0, 20.0), (3.0, 0.2), (60.0, 0.5)])
def test_a_known_optimum_is_found(
    split: Split, monkeypatch: pytest.MonkeyPatch, alpha: float, regularisation: float
) -> None:
    monkeypatch.setattr(tuning._Search, "_quality", peaked(alpha, regularisation))
    found = tune(ALS(), split, tuning=Tuning(trials=40))
    narrow = [trial for trial in found.trials if trial["dim"] == 32]
    assert len(narrow) <= 80
    assert [trial["dim"] for trial in found.trials[len(narrow) :]] == [128] * 5
    assert isinstance(found.config, ALS)
    assert found.config.alpha == pytest.approx(alpha, rel=0.3)
    assert found.config.regularisation == pytest.approx(regularisation, rel=0.3)


@pytest.mark.parametrize(("best", "trials"), [((20.0, 1.6), range(16, 24)), ((3000.0, 3000.0), range(24, 33))])
def test_a_search_that_still_finds_better_settings_goes_on(
    split: Split, monkeypatch: pytest.MonkeyPatch, best: tuple[float, float], trials: range
) -> None:
    monkeypatch.setattr(tuning._Search, "_quality", peaked(*best))
    assert sum(trial["dim"] == 32 for trial in tune(ALS(), split).trials) in trials


def test_settings_stay_where_nothing_is_clearly_better(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning._Search, "_quality", peaked(15.3, 1.33))
    assert tune(ALS(), split).config == ALS()


@pytest.mark.parametrize(
    ("third", "fourth", "wide", "changes"),
    [
        (1.004, 0.6, [], False),
        (1.006, 0.6, [1.0, 1.006], True),
        (1.006, 0.6, [1.0, 1.004], False),
        (1.5, 0.6, [2.0, 1.9], False),
        (1.02, 1.01, [1.0, 1.03, 1.02], True),
    ],
)
def test_the_best_trial_is_taken_if_it_is_half_a_percent_better_narrow_and_wide(
    split: Split, monkeypatch: pytest.MonkeyPatch, third: float, fourth: float, wide: list[float], changes: bool
) -> None:
    told = {32: iter([1.0, 0.5, third, fourth]), 128: iter(wide)}
    monkeypatch.setattr(tuning._Search, "_quality", lambda _, config: next(told[config.dim], 0.6))
    found = tune(ALS(), split, tuning=Tuning(trials=6))
    names = ("alpha", "regularisation")
    assert {name: found.trials[2][name] for name in names} != {name: ALS().setting(name) for name in names}
    assert found.config == (ALS().changed(**{name: found.trials[2][name] for name in names}) if changes else ALS())


def test_wide_models_may_be_best_between_the_start_and_what_narrow_ones_go_on_to(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow, wide = peaked(135.0, 11.7), peaked(45.0, 3.9)
    monkeypatch.setattr(tuning._Search, "_quality", lambda _, config: (narrow if config.dim == 32 else wide)(_, config))
    found = tune(ALS(), split, tuning=Tuning(trials=40)).config
    assert found.setting("alpha") == pytest.approx(45, rel=0.15)
    assert found.setting("regularisation") == pytest.approx(3.9, rel=0.15)


def test_wide_models_that_need_more_weight_of_squares_than_narrow_ones_get_it(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow, wide = peaked(15.0, 3.9), peaked(60.0, 24.0)
    monkeypatch.setattr(tuning._Search, "_quality", lambda _, config: (narrow if config.dim == 32 else wide)(_, config))
    found = tune(ALS(), split, tuning=Tuning(trials=40))
    assert found.config.setting("alpha") == pytest.approx(60, rel=0.5)
    assert found.config.setting("regularisation") == pytest.approx(24, rel=0.5)
    of_width = [(trial["alpha"], trial["regularisation"]) for trial in found.trials if trial["dim"] == 128]
    assert len(of_width) == len({*of_width}) <= 16, "none is trained twice"


def test_what_is_held_stays_and_the_rest_is_tuned(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning._Search, "_quality", peaked(200.0, 20.0))
    found = tune(ALS(), split, held={"alpha"}).config
    assert isinstance(found, ALS)
    assert found.alpha == 15.0
    assert found.regularisation == pytest.approx(20.0, rel=0.3)
    assert tune(ALS(), split, held={"alpha", "regularisation"}).trials == []


def test_a_bad_start_is_left_behind(split: Split) -> None:
    bad = ALS(dim=8, alpha=500.0, regularisation=0.05)
    found = tune(bad, split, tuning=Tuning(trials=12))
    assert max(each["quality"] for each in found.trials) > 1.1 * found.trials[0]["quality"]
    assert tune(bad, split, tuning=Tuning(trials=12)).config == found.config, "the same seed, the same settings"


def test_settings_of_training_are_tuned_where_a_backbone_descends(split: Split) -> None:
    config = backbone_named("mf", dim=8).changed(steps=30, lr=1e-4, lr_floor=0.0)
    found = tune(config, split, tuning=Tuning(trials=6))
    assert {"l2", "lr"} < found.trials[0].keys()
    assert found.config.training.lr > 1e-4, "thirty steps of this rate lead nowhere"


@pytest.mark.parametrize("steps", [100, 240, 960])
@pytest.mark.parametrize("dim", [32, 64, 128, 500])
def test_a_trial_goes_as_far_as_the_whole_model_would(dim: int, steps: int) -> None:
    """A step of Adam by lr in each dimension moves an inner product in proportion to lr times the dimensions."""
    whole = backbone_named("lightgcn", dim=128).changed(steps=steps, lr=0.02, lr_floor=0.001)
    trial = whole.short(dim)
    assert trial.dim == min(dim, 128)
    assert trial.training.steps == min(steps, 240)
    assert trial.dim * trial.training.steps * trial.training.lr == pytest.approx(128 * steps * 0.02)
    assert trial.dim * trial.training.steps * trial.training.lr_floor == pytest.approx(128 * steps * 0.001)


def test_the_last_trials_are_measured_as_the_full_model_will_be(split: Split) -> None:
    """Of those that are close, a sample of users would tell apart by chance."""

    def best(_: object) -> SimpleNamespace:
        return SimpleNamespace(quality=torch.tensor([0.9]))

    config = backbone_named("mf", dim=8).changed(steps=3, lr=1e-3)
    found = tune(config, split, tuning=Tuning(trials=6, dim=4), valid=best)  # type: ignore[arg-type]
    for trial in found.trials:
        assert (trial["quality"] == pytest.approx(0.9)) == (trial["dim"] == 8)
    assert {trial["dim"] for trial in found.trials} == {4, 8}


def test_trials_of_the_models_own_width_draw_as_many_triplets_as_it_does(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Narrow ones draw no more than a quarter of the interactions."""
    drawn = dict[int, set[int]]()

    class Noted(BPR):
        def __init__(self, backbone: Backbone, train: Interactions, training: Training, seed: int) -> None:
            super().__init__(backbone, train, training, seed)
            drawn.setdefault(backbone.user_table.shape[1], set()).add(training.triplets(0))

    monkeypatch.setattr(tuning, "BPR", Noted)
    config = backbone_named("mf", dim=8).changed(steps=30, lr=1e-3, batch_size=len(split.train))
    tune(config, split, tuning=Tuning(trials=6, dim=4))
    assert drawn == {4: {len(split.train) // 4}, 8: {len(split.train)}}
