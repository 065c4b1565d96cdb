from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch

from ciess.data import Interactions, Split
from ciess.errors import InputError
from ciess.exports import export
from ciess.exports import onnx as room
from ciess.models.base import Backbone, BackboneConfig, Represented
from ciess.serve.model import CompressedModel
from ciess.tables.plan import SizePlan

K = 20
CASES = {
    "ncf float32": {"name": "ncf"},
    "ncf int8, numbered": {"name": "ncf", "precision": "int8", "ids": "numbers", "dim": 11},
    "inner products": {"name": "als", "precision": "int8"},
    "graph, output": {"name": "lightgcn", "precision": "int8", "target": "output"},
    "graph and network": {"name": "ngcf"},
}


@pytest.fixture(scope="module", params=CASES)
def model(request: pytest.FixtureRequest, packed: Callable[..., CompressedModel]) -> CompressedModel:
    return packed(**CASES[request.param])


@pytest.fixture(scope="module")
def scorer(model: CompressedModel, tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    out = tmp_path_factory.mktemp("onnx")
    assert {path.name for path in export(model, "onnx", out)} == {
        "scorer.onnx",
        "user_ids.parquet",
        "item_ids.parquet",
    }
    for side, ids in (("user", model.user_ids), ("item", model.item_ids)):
        assert pl.read_parquet(out / f"{side}_ids.parquet")["id"].to_list() == sorted(ids.tolist())
    return onnxruntime.InferenceSession(out / "scorer.onnx")


def test_all_items_for_all_users(
    model: CompressedModel, scorer: onnxruntime.InferenceSession, same_top: Callable[..., None]
) -> None:
    users, items = np.argsort(np.argsort(model.user_ids)), np.arange(len(model.item_ids))
    [scores] = scorer.run(None, {"users": users, "items": items[None]})
    best = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    same_top(model, np.sort(model.item_ids)[best], np.take_along_axis(scores, best, axis=1))


def test_each_user_with_items_of_its_own(model: CompressedModel, scorer: onnxruntime.InferenceSession) -> None:
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 150, 7), rng.integers(0, 100, (7, 3))
    by_user, by_item = np.argsort(model.user_ids), np.argsort(model.item_ids)
    everything = model.score(model.user_ids[by_user[users]], model.item_ids[by_item])
    expected = np.take_along_axis(everything, items, axis=1)
    [scores] = scorer.run(None, {"users": users, "items": items})
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


class DistanceModel(Backbone):
    """Scores by distances: neither inner products nor NCF."""

    def __init__(self, n_users: int, n_items: int, dim: int) -> None:
        super().__init__()
        self.user_table, self.item_table = (torch.nn.Parameter(torch.ones(n, dim)) for n in (n_users, n_items))

    def score(self, vectors: Represented, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return self.score_all(vectors, users).gather(1, items)

    def score_all(self, vectors: Represented, users: torch.Tensor) -> torch.Tensor:
        return -torch.cdist(vectors.users[users], vectors.items)


class Distance(BackboneConfig):
    def build(self, train: Interactions, seed: int = 0) -> DistanceModel:
        return DistanceModel(train.n_users, train.n_items, self.dim)


def test_a_way_of_scoring_that_is_not_known_is_refused(split: Split, tmp_path: Path) -> None:
    config, plan = Distance(dim=3), SizePlan(np.full(150, 3), np.full(100, 3), 3)
    model = CompressedModel.pack(config, config.build(split.train), plan, split.train)
    with pytest.raises(InputError, match="distance scores neither by inner products nor as NCF does"):
        export(model, "onnx", tmp_path)


def test_what_is_too_large_for_a_file_is_refused(
    packed: Callable[..., CompressedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_MOST_BYTES", 250 * 10 * 4 - 1)
    with pytest.raises(InputError, match="an ONNX file holds 2"):
        export(packed(), "onnx", tmp_path)
