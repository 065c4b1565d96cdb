"""faiss, Parquet and arrays: what other libraries find in them is what the model recommends."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import faiss
import numpy as np
import polars as pl
import pytest
import torch
from implicit.cpu.als import AlternatingLeastSquares

from ciess.data import Interactions
from ciess.errors import InputError
from ciess.exports import export
from ciess.models.factors import Factors
from ciess.serve.model import CompressedModel

K = 20
CASES = {
    "float32": {},
    "int8": {"name": "als", "precision": "int8"},
    "int4, numbered": {"precision": "int4", "ids": "numbers"},
    "graph": {"name": "lightgcn"},
    "graph, output": {"name": "lightgcn", "precision": "int8", "target": "output", "ids": "numbers"},
    "graph and network": {"name": "ngcf"},
}
SameTop = Callable[..., None]


@pytest.fixture(scope="module", params=CASES)
def model(request: pytest.FixtureRequest, packed: Callable[..., CompressedModel]) -> CompressedModel:
    return packed(**CASES[request.param])


def by_user(model: CompressedModel, ids: pl.Series) -> np.ndarray:
    """Where each of the model's users stands among ids."""
    places = {each: place for place, each in enumerate(ids.to_list())}
    return np.array([places[each] for each in model.user_ids.tolist()])


def test_faiss_finds_what_the_model_recommends(model: CompressedModel, tmp_path: Path, same_top: SameTop) -> None:
    files = export(model, "faiss", tmp_path / "new" / "folder")
    assert all(path.is_file() for path in files)
    assert {path.name for path in files[0].parent.iterdir()} == {path.name for path in files}
    users = pl.read_parquet(files[0].parent / "user_vectors.parquet")
    index = faiss.read_index(str(files[0].parent / "items.faiss"))
    scores, found = index.search(np.array(users["vector"].to_list(), dtype=np.float32), K)
    if model.item_ids.dtype.kind == "i":
        assert len(files) == 2, "faiss keeps the ids itself"
        items = found
    else:
        items = pl.read_parquet(files[0].parent / "item_ids.parquet")["id"].to_numpy()[found]
    order = by_user(model, users["id"])
    same_top(model, items[order], scores[order])


def test_no_ids_of_an_earlier_export_stay(packed: Callable[..., CompressedModel], tmp_path: Path) -> None:
    export(packed(), "faiss", tmp_path)
    assert (tmp_path / "item_ids.parquet").is_file()
    files = export(packed(ids="numbers"), "faiss", tmp_path)
    assert {*tmp_path.iterdir()} == {*files}


def test_ids_that_faiss_cannot_keep_are_written_beside_it(
    packed: Callable[..., CompressedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """faiss says −1 where it finds nothing: −1 as an id would be lost."""
    model = packed(ids="numbers")
    monkeypatch.setattr(CompressedModel, "item_ids", np.arange(len(model.item_ids)) - 1)
    assert tmp_path / "item_ids.parquet" in export(model, "faiss", tmp_path)


def test_a_database_finds_in_parquet_what_the_model_recommends(
    model: CompressedModel, tmp_path: Path, same_top: SameTop
) -> None:
    users, items = export(model, "parquet", tmp_path)
    found = duckdb.execute(
        f"""SELECT users.id, list(items.id ORDER BY score DESC)[:{K}], list(score ORDER BY score DESC)[:{K}]
        FROM '{users}' users, '{items}' items, LATERAL (SELECT list_inner_product(users.vector, items.vector) AS score)
        GROUP BY users.id ORDER BY users.id"""
    ).fetchall()
    ids, best, scores = (list(column) for column in zip(*found, strict=True))
    order = by_user(model, pl.Series(ids))
    same_top(model, np.array(best)[order], np.array(scores)[order])


def test_parquet_holds_the_very_numbers(model: CompressedModel, tmp_path: Path) -> None:
    for path, ids, vectors in zip(
        export(model, "parquet", tmp_path), (model.user_ids, model.item_ids), model.vectors(), strict=True
    ):
        table = pl.read_parquet(path)
        assert table.schema["vector"] == pl.List(pl.Float32)
        assert table["id"].is_sorted()
        np.testing.assert_array_equal(table["vector"].to_list(), vectors[np.argsort(ids)])


def test_implicit_recommends_the_same_with_the_arrays(
    model: CompressedModel, tmp_path: Path, same_top: SameTop
) -> None:
    export(model, "arrays", tmp_path)
    users, items = np.load(tmp_path / "user_factors.npy"), np.load(tmp_path / "item_factors.npy")
    other = AlternatingLeastSquares(factors=users.shape[1])
    other.user_factors, other.item_factors = users, items
    order = by_user(model, pl.read_parquet(tmp_path / "user_ids.parquet")["id"])
    found, scores = other.recommend(order, None, N=K, filter_already_liked_items=False)
    same_top(model, pl.read_parquet(tmp_path / "item_ids.parquet")["id"].to_numpy()[found], scores)


def test_factors_reads_the_arrays_again(model: CompressedModel, tmp_path: Path) -> None:
    """Interactions that come from a file list their ids in rising order, and so do the arrays."""
    export(model, "arrays", tmp_path)
    config = Factors(users=tmp_path / "user_factors.npy", items=tmp_path / "item_factors.npy")
    ids = np.sort(model.user_ids), np.sort(model.item_ids)
    pairs = (np.arange(n) for n in (len(ids[0]), 1))
    data = Interactions.from_pairs(next(pairs), np.zeros(len(ids[0]), dtype=int), *(pl.Series(each) for each in ids))
    again = config.build(data)
    scores = again.score_all(again.vectors(), torch.arange(len(ids[0]))).detach().numpy()
    users, items = model.vectors()
    expected = (users @ items.T)[np.argsort(model.user_ids)][:, np.argsort(model.item_ids)]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", ["faiss", "parquet", "arrays"])
def test_other_scores_than_inner_products_are_refused(
    target: str, packed: Callable[..., CompressedModel], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="ncf does not score by inner products"):
        export(packed("ncf"), target, tmp_path / "out")
    assert not (tmp_path / "out").exists()
