"""What every rival must hold to, on small backbones of every kind."""

import copy
import dataclasses

import numpy as np
import pytest
from known import problem_of

import ciess
from ciess.data import Split
from ciess.methods.autoemb import AutoEmb
from ciess.methods.bet import BET
from ciess.methods.cross_entropy import CrossEntropy
from ciess.methods.dnis import DNIS
from ciess.methods.esapn import ESAPN
from ciess.methods.magnitude import Magnitude
from ciess.methods.optembed import OptEmbed
from ciess.methods.pep import PEP
from ciess.methods.problem import Method, SearchResult
from ciess.models import BackboneConfig, Training
from ciess.tables.packed import stored_bytes

RECIPE = Training(steps=30, batch_size=500)
BACKBONES = {
    "mf": ciess.MF(dim=8, training=RECIPE),
    "lightgcn": ciess.LightGCN(dim=8, training=RECIPE),
    "ncf": ciess.NCF(dim=8, training=RECIPE),
    "ngcf": ciess.NGCF(dim=8, training=RECIPE),
    "als": ciess.ALS(dim=8, training=Training(steps=2)),
}
METHODS: dict[str, Method] = {
    "cross-entropy": CrossEntropy(rounds=2, plans=4, elite=2),
    "bet": BET(rounds=2, candidates=6),
    "magnitude": Magnitude(),
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
