from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from ciess.data import Interactions, Split
from ciess.models import Backbone, BackboneConfig, backbone_named
from ciess.models.factors import Factors, FactorsModel
from ciess.serve.model import CompressedModel
from ciess.tables.mask import prefix_mask
from ciess.tables.plan import SizePlan
from ciess.tables.precision import Precision

Packed = Callable[..., CompressedModel]
K = 20


def pack(
    config: BackboneConfig, backbone: Backbone, interactions: Interactions, precision: Precision
) -> CompressedModel:
    """Cut at random sizes, pack."""
    rng, dim = np.random.default_rng(1), backbone.user_table.shape[1]
    sizes = [rng.integers(1, dim + 1, n) for n in (interactions.n_users, interactions.n_items)]
    plan = SizePlan(*sizes, dim, precision)
    with torch.no_grad():
        for table, each in zip((backbone.user_table, backbone.item_table), sizes, strict=True):
            table *= prefix_mask(each, dim)
    return CompressedModel.pack(config, backbone, plan, interactions)


@pytest.fixture(scope="session")
def packed(split: Split) -> Packed:
    """Makes a model of random numbers: `packed("mf", "int8", target="output", ids="numbers")`."""

    def make(
        name: str = "mf", precision: str = "float32", target: str = "input", ids: str = "text", dim: int = 10
    ) -> CompressedModel:
        data = split.train
        if ids == "numbers":
            # In another order than the rows, and far from 0.
            numbers = [
                pl.Series(np.random.default_rng(2).permutation(n) * 7 + 5_000_000_000) for n in data.matrix.shape
            ]
            data = Interactions(data.matrix, *numbers)
        config = backbone_named(name, dim=dim)
        backbone = config.build(data, seed=4)
        with torch.no_grad():
            for weights in backbone.network.values():
                weights += torch.randn(weights.shape, generator=torch.Generator().manual_seed(6)) * 0.3
        if target == "output":
            backbone = FactorsModel(*(side.numpy() for side in backbone.vectors()))
            config = Factors(dim=dim)
        return pack(config, backbone, data, Precision(precision))

    return make


@pytest.fixture(scope="session")
def same_top() -> Callable[..., None]:
    """Asserts that items and scores, (n_users, k) in the order of a model's users, are those that it recommends."""

    def check(model: CompressedModel, items: Any, scores: Any) -> None:
        _, best = model.recommend(model.user_ids, k=K, exclude_seen=False)
        everything, theirs = model.recommend(model.user_ids, k=len(model.item_ids), exclude_seen=False)
        items = np.asarray(items)
        assert items.shape == best.shape
        np.testing.assert_allclose(scores, best, rtol=1e-4, atol=1e-5)
        # Items of equal scores may come in any order: each must have the score that the model gives it.
        known = [dict(zip(*pair, strict=True)) for pair in zip(everything.tolist(), theirs, strict=True)]
        found = [[known[user][item] for item in row] for user, row in enumerate(items.tolist())]
        np.testing.assert_allclose(found, scores, rtol=1e-4, atol=1e-5)
        assert all(len(set(row)) == K for row in items.tolist())

    return check
