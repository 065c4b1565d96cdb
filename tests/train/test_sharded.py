"""Tables that lie on several processes: they come to what one process comes to, and any number of them goes on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from several import together
from torch import Tensor

from ciess.data import Split
from ciess.errors import InputError
from ciess.evaluation.metrics import Evaluator
from ciess.models import BackboneConfig, Training, backbone_named
from ciess.models.base import USUAL_SCALE
from ciess.models.seeded import seeded
from ciess.tables.plan import SizePlan, TableShape
from ciess.tables.precision import Precision
from ciess.train import losses, sharded, shards
from ciess.train.finish import Finish, finish
from ciess.train.fit import Fitted, fit, while_gaining
from ciess.train.losses import BPR
from ciess.train.sharded import Sharded
from ciess.train.sharded_fit import ShardedEvaluator
from ciess.train.shards import Side

DIM = 16
CONFIGS = {
    "als": backbone_named("als", dim=DIM, training=Training(steps=6, eval_every=2)),
    "mf": backbone_named("mf", dim=DIM, training=Training(steps=30, batch_size=3_000, eval_every=10, lr=0.01, l2=0.01)),
}
FINISH = Finish(training=Training(steps=30, batch_size=1_500, lr=0.1, eval_every=10))
NEAR = 1e-4
"""What numbers of tables, which are of the size of 1, differ by at most: sums of float32 in another order."""


keeping = pytest.mark.skipif(not shards.KEEPS, reason="this PyTorch keeps no tables of several processes")


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_BFLOAT16", False)


def planned(split: Split, precision: Precision) -> SizePlan:
    sizes = np.random.default_rng(0).integers(1, 9, split.train.n_users + split.train.n_items)
    return SizePlan.from_sizes(sizes, TableShape(split.train.n_users, split.train.n_items, DIM), precision)


@dataclass(frozen=True)
class Trained:
    """Whole tables as they were drawn, trained and finished, and how often training was told of its phases."""

    drawn: list[Tensor]
    full: list[Tensor]
    small: list[Tensor]
    qualities: tuple[float | None, float | None]
    runs: int
    told: list[tuple[str, int]]


def trained(
    split: Split, config: BackboneConfig, precision: Precision, folder: Path | None = None, stop: Any = None
) -> Trained:
    """What processes come to together."""
    losses._BFLOAT16, shards._ROWS_AT_ONCE, sharded._PAIRS_AT_ONCE = False, 32, 300
    told: list[tuple[str, int]] = []

    def progress(phase: str, step: int, *_: Any) -> None:
        told.append((phase, step))
        if (phase, step) == stop:
            raise KeyboardInterrupt

    def whole(tables: Any) -> list[Tensor]:
        found = zip(model.sides, tables, strict=True)
        return [torch.cat([rows for _, rows in side.blocks(table.detach().clone())]) for side, table in found]

    with seeded(0):
        model = Sharded(config, split.train, 0)
        valid = ShardedEvaluator(model.sides, [split.train.matrix], split.valid.matrix)
        drawn = whole(model.tables)
        fitted = model.fit(valid, folder and folder / "full", progress)
        full = whole(model.tables)
        small, finishing = model.finish(planned(split, precision), FINISH, valid, folder and folder / "small", progress)
        return Trained(drawn, full, whole(small), (fitted.quality, finishing.quality), len(finishing.runs), told)


def alone(split: Split, config: BackboneConfig, precision: Precision) -> Trained:
    """What the package comes to in one process, whose tables are whole."""
    valid = Evaluator(split.train.matrix, split.valid.matrix)
    with seeded(0):
        model = config.build(split.train, 0)
        drawn = [model.user_table.detach().clone(), model.item_table.detach().clone()]

        def run(number: int, training: Training) -> Fitted:
            lesson = model.solver(split.train) or BPR(model, split.train, training, number)
            return fit(model, lesson, training, valid=valid, trained=number > 0)

        fitted = while_gaining(config.training, run)
        model.order_dimensions()
        plan = planned(split, precision)
        small, finishing = finish(model, plan, FINISH, seed=0, valid=valid)
    full, cut = [
        [each.user_table.detach()[:, :width], each.item_table.detach()[:, :width]]
        for each, width in ((model, DIM), (small, plan.max_size))
    ]
    return Trained(drawn, full, cut, (fitted.quality, finishing.quality), len(finishing.runs), [])


def same(found: Trained, expected: Trained) -> None:
    for part in ("full", "small"):
        for table, wanted in zip(getattr(found, part), getattr(expected, part), strict=True):
            # What lies between two levels may be rounded to either.
            apart = ~torch.isclose(table, wanted, rtol=NEAR, atol=NEAR)
            assert apart.float().mean() < 0.002
            torch.testing.assert_close(table, wanted, rtol=0, atol=float(wanted.abs().max()) / 127)
    assert found.qualities == pytest.approx(expected.qualities, abs=1e-6)
    assert found.runs == expected.runs


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("count", "precision"), [(2, Precision.INT8), (3, Precision.FLOAT32)])
def test_processes_come_to_what_one_comes_to(
    name: str, count: int, precision: Precision, split: Split, tmp_path: Path
) -> None:
    expected = alone(split, CONFIGS[name], precision)
    assert (expected.full[0] - expected.drawn[0]).abs().max() > 0.1, "they have learned"
    found, *_ = together(count, tmp_path, trained, split, CONFIGS[name], precision)
    for table, wanted in zip(found.drawn, expected.drawn, strict=True):
        torch.testing.assert_close(table, wanted, rtol=0, atol=0)
    same(found, expected)


@keeping
@pytest.mark.parametrize(("name", "others"), [("mf", 1), ("als", 3)])
def test_what_two_processes_have_kept_another_number_goes_on_with(
    name: str, others: int, split: Split, tmp_path: Path
) -> None:
    expected = alone(split, CONFIGS[name], Precision.FLOAT32)
    steps = {"als": ("full", 5, 4), "mf": ("finish", 15, 10)}
    phase, at, kept = steps[name]
    given = split, CONFIGS[name], Precision.FLOAT32, tmp_path / "kept"
    stop = ("fit" if phase == "full" else phase, at)
    assert all(isinstance(each, KeyboardInterrupt) for each in together(2, tmp_path, trained, *given, stop))
    # Half of a later state is none.
    [folder] = (tmp_path / "kept").rglob(f"{'full' if phase == 'full' else 'small'}/0/{kept}")
    (folder.parent / "90.part").mkdir()
    found, *_ = together(others, tmp_path, trained, *given)
    assert found.told[0] == (stop[0], kept + 1)
    same(found, expected)


@keeping
def test_a_damaged_state_is_refused(split: Split, tmp_path: Path) -> None:
    given = split, CONFIGS["als"], Precision.FLOAT32, tmp_path / "kept"
    together(2, tmp_path, trained, *given, ("fit", 4))
    [folder] = (tmp_path / "kept").rglob("full/0/*")
    shards = sorted(folder.iterdir())
    assert len(shards) == 2
    for damage in (shards[1].unlink, lambda: shards[0].write_bytes(shards[0].read_bytes()[:-9])):
        damage()
        for error in together(2, tmp_path, trained, *given):
            assert isinstance(error, InputError), error
            assert str(error) == f"{folder} is damaged: delete it, so that training goes on without it"


def looked_up() -> tuple[Tensor, Tensor]:
    """Rows 6, 0, 6 to the first of three processes, none to the second, row 3 to the third, each times its rank + 1."""
    rank, side = dist.get_rank(), Side("users", 7)
    table = (torch.arange(7.0)[side.own, None] * torch.tensor([1.0, 10.0])).requires_grad_()
    wanted = torch.tensor([[6, 0, 6], [], [3]][rank]).long()
    found = side.look_up(table, wanted)
    ((rank + 1) * found.sum()).backward()
    assert table.grad is not None
    return found.detach(), table.grad


def test_rows_come_from_their_owners_and_gradients_go_back(tmp_path: Path) -> None:
    (first, first_grad), (second, second_grad), (third, third_grad) = together(3, tmp_path, looked_up)
    assert first.tolist() == [[6, 60], [0, 0], [6, 60]]
    assert second.shape == (0, 2)
    assert third.tolist() == [[3, 30]]
    assert first_grad.tolist() == [[1, 1], [0, 0], [0, 0]]
    assert second_grad.tolist() == [[3, 3], [0, 0], [0, 0]]
    assert third_grad.tolist() == [[2, 2]]


def sided(rows: int) -> slice:
    return Side("items", rows).own


def test_no_process_is_left_without_rows(tmp_path: Path) -> None:
    assert together(3, tmp_path, sided, 3) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    for error in together(3, tmp_path, sided, 4):
        assert isinstance(error, InputError)
        assert str(error) == "3 processes are too many for 4 items: start fewer"


def measured(split: Split, users: list[int] | None) -> dict[str, float]:
    """The scores of tables that know what is held out of the items by rows of ones."""
    sides = Side("users", split.train.n_users), Side("items", split.train.n_items)
    generator = torch.Generator().manual_seed(0)
    tables = [side.table(4, generator) for side in sides]
    rows = None if users is None else np.array(users)
    return ShardedEvaluator(sides, [split.train.matrix], split.valid.matrix, rows).means(tables)


@pytest.mark.parametrize("users", [None, [3, 140], [0, 1, 5, 149, 80]])
def test_a_measurement_is_of_all_processes_users(users: list[int] | None, split: Split, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    of_users, of_items = (USUAL_SCALE * torch.randn(n, 4, generator=generator) for n in split.train.matrix.shape)
    rows = None if users is None else np.array(users)
    expected = Evaluator(split.train.matrix, split.valid.matrix, users=rows)(lambda at: of_users[at] @ of_items.T)
    for found in together(2, tmp_path, measured, split, users):
        assert found["quality"] == pytest.approx(float(expected.quality.mean()), abs=1e-6)
        assert found["ndcg@20"] == pytest.approx(expected["ndcg@20"], abs=1e-6)
