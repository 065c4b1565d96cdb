"""Exports of a byte for each number: nearly what the model recommends, in a fraction of the bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import polars as pl
import pytest

from ciess.data import Split
from ciess.errors import InputError
from ciess.exports import export
from ciess.models.factors import Factors, FactorsModel
from ciess.serve.model import CompressedModel
from ciess.tables.plan import SizePlan

K = 20
CASES = {
    "int8": {"name": "als", "precision": "int8"},
    "int4, numbered": {"precision": "int4", "ids": "numbers"},
    "graph": {"name": "lightgcn"},
    "graph, output": {"name": "lightgcn", "precision": "int8", "target": "output"},
}


@pytest.fixture(scope="module", params=CASES)
def model(request: pytest.FixtureRequest, packed: Callable[..., CompressedModel]) -> CompressedModel:
    return packed(**CASES[request.param])


def check_top(model: CompressedModel, items: Any, scores: Any) -> None:
    """Items and scores, (n_users, k) in the order of the model's users, against those of the model itself."""
    best, theirs = model.recommend(model.user_ids, k=K, exclude_seen=False)
    spread = float(np.std(model.score(model.user_ids)))
    shared = [len({*one} & {*other}) / K for one, other in zip(items.tolist(), best.tolist(), strict=True)]
    assert np.mean(shared) > 0.95
    np.testing.assert_allclose(scores, theirs, rtol=0.02, atol=0.05 * spread)
    assert all(len(set(row)) == K for row in items.tolist())


def test_faiss_finds_nearly_the_same_in_bytes_for_each_width(model: CompressedModel, tmp_path: Path) -> None:
    files = {path.name: path for path in export(model, "faiss_int8", tmp_path)}
    indexes = {name: faiss.read_index(str(path)) for name, path in files.items() if name.endswith(".faiss")}
    rows = {side: pl.read_parquet(files[f"faiss_{side}.parquet"]) for side in ("users", "items")}
    for side, ids, vectors in zip(rows, (model.user_ids, model.item_ids), model.vectors(), strict=True):
        assert sorted(rows[side]["id"]) == sorted(ids.tolist())
        sizes = {each: np.flatnonzero(row).max(initial=0) + 1 for each, row in zip(ids.tolist(), vectors, strict=True)}
        for each, name, _ in rows[side].rows():
            width = indexes[f"{name}.faiss"].d
            assert sizes[each] <= width <= max(2 * sizes[each] - 1, 1), "the narrowest power of two, or all"
    for index in indexes.values():
        assert index.sa_code_size() == index.d, "a byte a number"
    queries = np.zeros((len(model.user_ids), model.users.dim), dtype=np.float32)
    places = {each: place for place, each in enumerate(model.user_ids.tolist())}
    for user, name, row in rows["users"].rows():
        vector = indexes[f"{name}.faiss"].reconstruct(row)
        queries[places[user], : len(vector)] = vector
    found = []
    for (name,), here in rows["items"].group_by("index"):
        index, ids = indexes[f"{name}.faiss"], here.sort("row")["id"].to_numpy()
        scores, at = index.search(np.ascontiguousarray(queries[:, : index.d]), min(K, index.ntotal))
        found.append((ids[at], scores))
    ids, scores = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
    order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    check_top(model, np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1))


def test_usearch_finds_nearly_the_same(model: CompressedModel, tmp_path: Path) -> None:
    usearch = pytest.importorskip("usearch.index", reason="usearch is not installed")
    export(model, "usearch", tmp_path)
    index = usearch.Index.restore(str(tmp_path / "items.usearch"), view=True)
    assert str(index.dtype) == "ScalarKind.I8"
    users = pl.read_parquet(tmp_path / "usearch_users.parquet")
    assert users.schema["vector"] == pl.List(pl.Int8)
    found = index.search(np.array(users["vector"].to_list(), dtype=np.int8), K, exact=True)
    scores = users["scale"].to_numpy()[:, None] * (1 - found.distances)
    items = pl.read_parquet(tmp_path / "item_ids.parquet")["id"].to_numpy()[found.keys]
    order = np.argsort(np.argsort(model.user_ids))
    check_top(model, items[order], scores[order])


def test_usearch_is_as_exact_where_users_have_columns_that_no_item_has(split: Split, tmp_path: Path) -> None:
    usearch = pytest.importorskip("usearch.index", reason="usearch is not installed")
    users, items = (np.random.default_rng(n).normal(size=(n, 8)) for n in (split.train.n_users, split.train.n_items))
    users[:, 3:], items[:, 3:] = 50 * users[:, 3:], 0
    plan = SizePlan(np.full(len(users), 8), np.full(len(items), 3), 8)
    small = CompressedModel.pack(Factors(dim=8), FactorsModel(users, items), plan, split.train)
    export(small, "usearch", tmp_path)
    rows = pl.read_parquet(tmp_path / "usearch_users.parquet")
    index = usearch.Index.restore(str(tmp_path / "items.usearch"), view=True)
    found = index.search(np.array(rows["vector"].to_list(), dtype=np.int8), K, exact=True)
    ids = pl.read_parquet(tmp_path / "item_ids.parquet")["id"].to_numpy()[found.keys]
    order = np.argsort(np.argsort(small.user_ids))
    check_top(small, ids[order], (rows["scale"].to_numpy()[:, None] * (1 - found.distances))[order])


@pytest.mark.parametrize("target", ["faiss_int8", "usearch"])
def test_other_scores_than_inner_products_are_refused(
    target: str, packed: Callable[..., CompressedModel], tmp_path: Path
) -> None:
    if target == "usearch":
        pytest.importorskip("usearch.index", reason="usearch is not installed")
    with pytest.raises(InputError, match="ncf does not score by inner products"):
        export(packed("ncf"), target, tmp_path / "out")
    assert not (tmp_path / "out").exists()
