from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

import ciess
from ciess.data import Interactions, Split
from ciess.errors import InputError
from ciess.serve.model import CompressedModel
from ciess.tables.encoding import Encoding
from ciess.tables.packed import PackedTable
from ciess.tables.plan import SizePlan
from ciess.tables.precision import Precision
from ciess.tables.taper import Taper


class Next(nn.Module):
    """What to take next, from the mean of what was taken: a model that the package does not know."""

    def __init__(self, items: nn.Module, width: int) -> None:
        super().__init__()
        self.items = items
        self.turn = nn.Linear(width, width)

    def forward(self, taken: Tensor, candidates: Tensor) -> Tensor:
        return (self.items(candidates) * self.turn(self.items(taken).mean(-2))[..., None, :]).sum(-1)


def packed(data: Interactions, precision: Encoding) -> CompressedModel:
    """Tables of many sizes, whose order is not that of the ids."""
    config = ciess.MF(dim=12)
    rng = np.random.default_rng(0)
    plan = SizePlan(rng.integers(1, 13, data.n_users), rng.integers(1, 13, data.n_items), 12, precision)
    return CompressedModel.pack(config, config.build(data), plan, data)


TAPER = Taper((7, 5, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1))


@pytest.mark.parametrize("precision", [Precision.FLOAT32, Precision.INT8, Precision.INT6, Precision.INT4_SHARED, TAPER])
def test_a_foreign_model_computes_the_same_with_packed_rows(precision: Encoding, split: Split, tmp_path: Path) -> None:
    model = packed(split.train, precision)
    folder = model.save(tmp_path / "model")
    embedding = ciess.PackedEmbedding.from_model(folder, "items")
    dense = torch.from_numpy(model.items.dense()[np.argsort(model.item_ids)])
    small, plain = Next(embedding, 12), Next(nn.Embedding.from_pretrained(dense), 12)
    small.turn = plain.turn
    taken, candidates = torch.randint(100, (2, 5, 7)), torch.randint(100, (2, 5, 4), dtype=torch.int32)
    assert torch.equal(small(taken, candidates), plain(taken, candidates))


def test_ids_that_are_numbers_from_0_on_are_the_indices() -> None:
    rng = np.random.default_rng(1)
    tables = [rng.standard_normal((n, 6)).astype(np.float32) for n in (8, 9)]
    known = Interactions.from_pairs(np.arange(72) // 9, np.arange(72) % 9, pl.Series(range(8)), pl.Series(range(9)))
    plan = SizePlan(np.full(8, 6), np.array([1, 6, 2, 5, 3, 4, 6, 6, 2]), 6)
    backbone = ciess.Factors.from_arrays(*tables).build(known)
    with torch.no_grad():
        for table, sizes in ((backbone.user_table, plan.user_sizes), (backbone.item_table, plan.item_sizes)):
            table *= torch.arange(6) < torch.from_numpy(sizes)[:, None]
    model = CompressedModel.pack(ciess.Factors.from_arrays(*tables), backbone, plan, known)
    for side, table in (("users", backbone.user_table), ("items", backbone.item_table)):
        rows = ciess.PackedEmbedding.from_model(model, side)(torch.arange(len(table)))
        torch.testing.assert_close(rows, table.detach())


def test_indices_of_any_shape_are_looked_up() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    embedding = ciess.PackedEmbedding(PackedTable.pack(rows, np.full(4, 3, dtype=np.int32)))
    plain = nn.Embedding.from_pretrained(torch.from_numpy(rows))
    for indices in (torch.tensor(2), torch.tensor([[3, 0], [0, 1]]), torch.empty(0, 5, dtype=torch.int64)):
        assert torch.equal(embedding(indices), plain(indices))
    assert (embedding.num_embeddings, embedding.embedding_dim) == (4, 3)
    assert str(embedding) == "PackedEmbedding(4, 3, float32)"


def test_it_is_frozen_and_what_follows_is_not(split: Split) -> None:
    model = Next(ciess.PackedEmbedding.from_model(packed(split.train, Precision.INT8), "items"), 12)
    assert [*model.state_dict()] == ["turn.weight", "turn.bias"]
    assert not [*model.items.parameters()]
    model(torch.tensor([1, 2]), torch.tensor([3])).sum().backward()  # type: ignore[no-untyped-call]
    assert model.turn.weight.grad is not None
    assert not model.items(torch.tensor([1])).requires_grad


@pytest.mark.parametrize(
    ("indices", "told"),
    [
        (torch.tensor([0, 4]), "index 4 is beyond the table: give 0 to 3"),
        (torch.tensor([[-1]]), "index -1 is beyond the table"),
        (torch.tensor([1.0]), "indices are of type torch.float32: give a tensor of whole numbers"),
        (torch.tensor([True]), "indices are of type torch.bool"),
        ([1, 2], "indices are of type list"),
    ],
)
def test_what_is_no_index_of_the_table_is_refused(indices: Tensor, told: str) -> None:
    embedding = ciess.PackedEmbedding(
        PackedTable.pack(np.ones((4, 3), dtype=np.float32), np.full(4, 3, dtype=np.int32))
    )
    with pytest.raises(InputError, match=told):
        embedding(indices)


def test_another_side_and_damaged_files_are_refused(split: Split, tmp_path: Path) -> None:
    folder = packed(split.train, Precision.INT8).save(tmp_path / "model")
    with pytest.raises(InputError, match="side is 'item': use 'users' or 'items'"):
        ciess.PackedEmbedding.from_model(folder, "item")
    content = bytearray((folder / "tables.safetensors").read_bytes())
    content[-5] ^= 1
    (folder / "tables.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"tables\.safetensors is damaged"):
        ciess.PackedEmbedding.from_model(folder, "items")(torch.tensor([0]))
