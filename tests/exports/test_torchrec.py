import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import torch.distributed as dist
from safetensors.numpy import load_file
from several import together
from torch import Tensor
from torch.nn.functional import pad

from ciess import ALS, synthetic
from ciess.exports import export
from ciess.serve.model import CompressedModel
from ciess.tables.plan import SizePlan

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


RATE = 0.1


def asked_by(process: int, configs: list[dict[str, Any]]) -> Any:
    """Four bags of each table, of up to two rows, that are this process' batch."""
    import torchrec

    generator = torch.Generator().manual_seed(process)
    lengths = torch.randint(0, 3, (len(configs), 4), generator=generator)
    rows = [
        torch.randint(config["num_embeddings"], (int(count),), generator=generator)
        for config, count in zip(configs, lengths.sum(1), strict=True)
    ]
    names = [config["name"] for config in configs]
    return torchrec.KeyedJaggedTensor(keys=names, values=torch.cat(rows), lengths=lengths.flatten())


def a_step_of_two(folder: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The kernels of tables that are sharded, and the tables after a step, kept and gathered: see docs/scaling.md."""
    from torch.distributed.checkpoint import load, save
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
    from torchrec import EmbeddingBagCollection, EmbeddingBagConfig
    from torchrec.distributed import DistributedModelParallel
    from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
    from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints, Topology
    from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward

    configs = json.loads((folder / "torchrec.json").read_text())
    tables = [EmbeddingBagConfig(**config) for config in configs]
    collection = EmbeddingBagCollection(tables=tables, device=torch.device("meta"))
    apply_optimizer_in_backward(torch.optim.SGD, collection.parameters(), {"lr": RATE})
    fused = {table.name: ParameterConstraints(compute_kernels=["fused"]) for table in tables}
    planner = EmbeddingShardingPlanner(Topology(world_size=2, compute_device="cpu"), constraints=fused)
    sharders = [EmbeddingBagCollectionSharder()]
    plan = planner.collective_plan(collection, sharders, dist.group.WORLD)
    model = DistributedModelParallel(collection, device=torch.device("cpu"), plan=plan, sharders=sharders)
    load(model.state_dict(), storage_reader=HuggingFaceStorageReader(str(folder)))
    model(asked_by(dist.get_rank(), configs)).wait().values().square().sum().backward()
    save(model.state_dict(), storage_writer=HuggingFaceStorageWriter(str(folder / "kept"), save_distributed=True))
    dist.barrier()
    gathered = {
        f"embedding_bags.{table.name}.weight": torch.zeros(table.num_embeddings, table.embedding_dim)
        for table in tables
    }
    load(gathered, storage_reader=HuggingFaceStorageReader(str(folder / "kept")))
    return {name: each.compute_kernel for name, each in plan.plan[""].items()}, gathered


def test_buckets_are_sharded_trained_and_gathered(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchrec = pytest.importorskip("torchrec", reason="TorchRec is not installed: see docs/scaling.md")
    data, config = synthetic(users=40, items=30, seed=0).interactions, ALS(dim=16)
    # A bucket of one row is what a planner that is left free makes dense, and then never trains.
    plan = SizePlan(1 + np.arange(data.n_users) % 12, np.r_[16, np.arange(1, data.n_items) % 7 + 1], 16)
    export(CompressedModel.pack(config, config.build(data), plan, data), "torchrec", tmp_path)
    configs = json.loads((tmp_path / "torchrec.json").read_text())
    start = {name: torch.from_numpy(rows) for name, rows in load_file(tmp_path / "torchrec.safetensors").items()}
    collection = torchrec.EmbeddingBagCollection(tables=[torchrec.EmbeddingBagConfig(**each) for each in configs])
    collection.load_state_dict(start)
    # TorchRec takes the mean of the processes' gradients.
    losses = [collection(asked_by(process, configs)).values().square().sum() for process in (0, 1)]
    (torch.stack(losses).mean()).backward()
    torch.optim.SGD(collection.parameters(), lr=RATE).step()
    for found in together(2, tmp_path, a_step_of_two, tmp_path):
        assert not isinstance(found, BaseException), found
        kernels, gathered = found
        assert kernels == {each["name"]: "fused" for each in configs}
        for name, rows in collection.state_dict().items():
            torch.testing.assert_close(gathered[name], rows, rtol=0, atol=1e-6)
            assert (gathered[name] - start[name]).abs().max() > 1e-3, f"{name} has learned"
