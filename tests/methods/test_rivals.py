"""What every rival must hold to, on small backbones of every kind."""

import copy
import dataclasses

import numpy as np
import pytest
from known import problem_of

import ciess
from ciess.data import Split
from ciess.methods import method_name, method_names
from ciess.methods.autoemb import AutoEmb
from ciess.methods.bet import BET
from ciess.methods.ciess.budgeted import Ciess
from ciess.methods.ciess.paper import CiessPaper
from ciess.methods.ciess.td3 import TD3Settings
from ciess.methods.cross_entropy import CrossEntropy
from ciess.methods.dnis import DNIS
from ciess.methods.equal import EqualSizes
from ciess.methods.esapn import ESAPN
from ciess.methods.magnitude import Magnitude
from ciess.methods.marginal import Marginal
from ciess.methods.mixed import MixedRandom
from ciess.methods.optembed import OptEmbed
from ciess.methods.pep import PEP
from ciess.methods.popularity import Popularity
from ciess.methods.problem import Method, SearchResult
from ciess.methods.scall import SCALL
from ciess.methods.shared.sac import SACSettings
from ciess.models import BackboneConfig, Training
from ciess.tables.budget import Budget
from ciess.tables.layout import stored_bytes
from ciess.tables.plan import SizePlan
from ciess.tables.precision import Precision

SMALL = TD3Settings(batch_size=64, hidden=8)
RECIPE = Training(steps=30, batch_size=500)
BACKBONES = {
    "mf": ciess.MF(dim=8, training=RECIPE),
    "lightgcn": ciess.LightGCN(dim=8, training=RECIPE),
    "ncf": ciess.NCF(dim=8, training=RECIPE),
    "ngcf": ciess.NGCF(dim=8, training=RECIPE),
}
"""ALS has tables as MF has."""
METHODS: dict[str, Method] = {
    "ciess": Ciess(episodes=1, steps=1, finish_steps=5, updates=1, start=Popularity(rounds=1, plans=2), td3=SMALL),
    "ciess-alone": Ciess(episodes=1, steps=2, finish_steps=5, updates=1, start=None, td3=SMALL),
    "mixed-random": MixedRandom(),
    "popularity": Popularity(rounds=2, plans=3),
    "cross-entropy": CrossEntropy(rounds=2, plans=4, elite=2),
    "bet": BET(rounds=2, candidates=6),
    "magnitude": Magnitude(),
    "scall": SCALL(steps=3, updates=2, groups=8, sac=SACSettings(batch_size=8, hidden=8)),
    "marginal": Marginal(rounds=2, steps=5),
    "pep": PEP(steps=20),
    "dnis": DNIS(steps=10),
    "autoemb": AutoEmb(candidates=(2, 4, 8), steps=10),
    "esapn": ESAPN(batches=20),
    "optembed": OptEmbed(steps=20, generations=2, mutations=4, crossovers=4),
    "optembed-published": OptEmbed(steps=20, generations=2, mutations=4, crossovers=4, aimed=False),
}


def found(result: SearchResult) -> list[tuple[bytes, float]]:
    return [(each.plan.sizes.tobytes(), each.quality) for plans in result.best.values() for each in plans]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
@pytest.mark.parametrize("config", BACKBONES.values(), ids=BACKBONES.keys())
def test_plans_fit_and_the_full_model_stays_as_it_is(method: Method, config: BackboneConfig, split: Split) -> None:
    problem = problem_of(config, split)
    before, mode = copy.deepcopy(problem.full_model.state_dict()), problem.full_model.training
    result = method.search(problem)
    assert list(result.best) == list(problem.budgets)
    for budget, candidates in result.best.items():
        assert candidates
        assert all(stored_bytes(each.plan) <= budget.limit(problem.shape) for each in candidates)
        qualities = [each.quality for each in candidates]
        assert qualities == sorted(qualities, reverse=True)
        assert qualities == [problem.measure(each.plan).quality for each in candidates]
    after = problem.full_model.state_dict()
    assert all((after[name] == before[name]).all() for name in before)
    assert problem.full_model.training == mode
    assert all(np.isfinite(row["quality"]) for row in result.trace if "quality" in row)


@pytest.mark.parametrize("method", [each for each in METHODS.values() if hasattr(each, "seed")])
def test_a_seed_repeats_a_search(method: Method, split: Split) -> None:
    first, again, other = (
        dataclasses.replace(method, seed=seed).search(problem_of(BACKBONES["mf"], split))  # type: ignore[type-var]
        for seed in (0, 0, 1)
    )
    assert found(first) == found(again)
    assert first.trace == again.trace
    assert first.trace != other.trace


ALL = {**METHODS, "equal": EqualSizes(), "ciess-paper": CiessPaper(episodes=1, steps=3, td3=SMALL)}


def test_all_methods_of_the_package_are_tried_here() -> None:
    assert {method_name(each) for each in ALL.values()} == {*method_names()}


@pytest.mark.parametrize("method", ALL.values(), ids=ALL.keys())
def test_what_is_found_for_a_budget_depends_on_no_other_budget(method: Method, split: Split) -> None:
    alone, beside = (
        method.search(problem_of(BACKBONES["mf"], split, budgets)) for budgets in (["50%"], ["80%", "50%", "35%"])
    )
    [(budget, plans)] = alone.best.items()
    assert [(each.plan, each.quality, each.found_by) for each in plans] == [
        (each.plan, each.quality, each.found_by) for each in beside.best[budget]
    ]


@pytest.mark.parametrize("method", ALL.values(), ids=ALL.keys())
def test_rows_of_a_single_dimension_are_no_trouble(method: Method, split: Split) -> None:
    problem = problem_of(ciess.MF(dim=1, training=RECIPE), split, [])
    budget = Budget.parse("60%")
    problem.precision = {budget: Precision.INT8}
    problem.numbers = {budget: problem.shape.rows}
    [found] = method.search(problem).best.values()
    assert {each.plan for each in found} == {SizePlan.equal(problem.shape, 1, Precision.INT8)}
