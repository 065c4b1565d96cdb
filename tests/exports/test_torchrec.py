import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file
from torch.nn.functional import pad

from ciess.exports import export
from ciess.serve.model import CompressedModel

K = 20
CASES = {
    "float32": {},
    "int8, numbered": {"name": "als", "precision": "int8", "ids": "numbers"},
    "graph, output": {"name": "lightgcn", "precision": "int8", "target": "output"},
}


@pytest.fixture(scope="module", params=CASES)
def model(request: pytest.FixtureRequest, packed: Callable[..., CompressedModel]) -> CompressedModel:
    return packed(**CASES[request.param])


def test_buckets_hold_the_packed_rows(model: CompressedModel, tmp_path: Path) -> None:
    export(model, "torchrec", tmp_path)
    configs = {config["name"]: config for config in json.loads((tmp_path / "torchrec.json").read_text())}
    state = load_file(tmp_path / "torchrec.safetensors")
    assert set(state) == {f"embedding_bags.{name}.weight" for name in configs}
    for name, config in configs.items():
        assert set(config) == {"name", "num_embeddings", "embedding_dim", "feature_names"}
        assert config["embedding_dim"] % 4 == 0
        assert state[f"embedding_bags.{name}.weight"].shape == (config["num_embeddings"], config["embedding_dim"])
        assert config["feature_names"] == [name]
    for side, ids, table in (("user", model.user_ids, model.users), ("item", model.item_ids, model.items)):
        places = {
            each: place
            for *place, each in pl.read_parquet(tmp_path / f"{side}_rows.parquet")["table", "row", "id"].rows()
        }
        assert len(places) == len(table)
        for entity, size, expected in zip(ids.tolist(), table.sizes, table.dense(), strict=True):
            name, row = places[entity]
            width = configs[name]["embedding_dim"]
            assert width - 4 < size <= width, "the narrowest bucket that holds the row"
            found = state[f"embedding_bags.{name}.weight"][row]
            np.testing.assert_array_equal(found[:size], expected[:size])
            assert not found[size:].any()


def test_torchrec_looks_up_what_the_model_scores(
    model: CompressedModel, tmp_path: Path, same_top: Callable[..., None]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchrec = pytest.importorskip("torchrec")
    export(model, "torchrec", tmp_path)
    configs = json.loads((tmp_path / "torchrec.json").read_text())
    collection = torchrec.EmbeddingBagCollection(tables=[torchrec.EmbeddingBagConfig(**config) for config in configs])
    collection.load_state_dict(
        {name: torch.from_numpy(weights) for name, weights in load_file(tmp_path / "torchrec.safetensors").items()}
    )

    def vectors(side: str, ids: Any) -> torch.Tensor:
        """(n, 12) rows of entities, each asked of its own bucket."""
        places = pl.DataFrame({"id": ids}).join(
            pl.read_parquet(tmp_path / f"{side}_rows.parquet"), on="id", maintain_order="left"
        )
        names = [config["name"] for config in configs]
        here = {name: torch.tensor((places["table"] == name).to_list()) for name in names}
        rows = torch.tensor(places["row"].to_list())
        asked = torchrec.KeyedJaggedTensor(
            keys=names,
            values=torch.cat([rows[here[name]] for name in names]),
            lengths=torch.cat([here[name].int() for name in names]),
        )
        found = collection(asked)
        return torch.stack([pad(found[name], (0, 12 - found[name].shape[1])) for name in names]).sum(0)

    with torch.no_grad():
        scores, best = (vectors("user", model.user_ids) @ vectors("item", model.item_ids).T).topk(K)
    same_top(model, model.item_ids[best.numpy()], scores)


def test_other_backbones_give_their_tables(packed: Callable[..., CompressedModel], tmp_path: Path) -> None:
    model = packed("ncf", dim=6)
    export(model, "torchrec", tmp_path)
    widths = {config["embedding_dim"] for config in json.loads((tmp_path / "torchrec.json").read_text())}
    assert widths == {4, 8}, "wider than the table, whose rows have 6 numbers"
