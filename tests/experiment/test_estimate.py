import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

import ciess
from ciess.cli import main
from ciess.data import synthetic
from ciess.experiment.estimate import Step, distillation_step, estimate
from ciess.models import Training
from ciess.models.als import ALS
from ciess.models.lightgcn import LightGCN
from ciess.models.mf import MF
from ciess.serve.seen import SeenItems
from ciess.tables.budget import Budget
from ciess.tables.layout import equal_bytes, stored_bytes
from ciess.tables.plan import SizePlan, TableShape
from ciess.tables.precision import Precision

SHAPE = TableShape(300, 200, 16)


@pytest.mark.parametrize("precision", list(Precision))
def test_bytes_of_equal_sizes_are_those_stored(precision: Precision) -> None:
    for size in (1, 5, 16):
        assert equal_bytes(SHAPE, size, precision) == stored_bytes(SizePlan.equal(SHAPE, size, precision))


def test_what_fits_is_the_largest_that_does() -> None:
    found = estimate(*SHAPE[:2], 2_000, MF(dim=16), ["50%", "3%"], seconds=False)
    assert found.table_bytes == SHAPE.full_bytes
    assert found.optimiser_bytes == 2 * SHAPE.full_bytes
    for packed in found.packed:
        limit, precision = Budget.parse(packed.budget).limit(SHAPE), Precision(packed.precision)
        if packed.size:
            assert packed.table_bytes == equal_bytes(SHAPE, packed.size, precision) <= limit
        if packed.size < SHAPE.dim:
            assert equal_bytes(SHAPE, packed.size + 1, precision) > limit


def test_what_a_model_keeps_beside_its_tables_is_told_to_the_byte() -> None:
    data = synthetic(users=300, items=200).interactions
    seen = SeenItems.of(data.matrix.indptr, data.matrix.indices, 200)
    found = estimate(300, 200, len(data), MF(dim=4), ["50%"], seconds=False)
    assert found.beside_bytes == sum(each.nbytes for each in seen.arrays.values()) + 8 * 500


def test_backbones_differ_where_they_should() -> None:
    sets = {config: estimate(10_000, 5_000, 10**6, config, seconds=False) for config in (MF(), ALS(), LightGCN())}
    mf, als, lightgcn = sets.values()
    assert als.optimiser_bytes == 0 < mf.optimiser_bytes
    assert mf.memory.graph == 0 < lightgcn.memory.graph
    assert als.memory.training < mf.memory.training


def test_a_large_set_is_estimated_at_once() -> None:
    found = estimate(10**9, 10**8, 10**11, MF(dim=64), ["5%"], seconds=False)
    assert found.memory.peak > found.table_bytes == 1_100_000_000 * 64 * 4
    assert found.packed[0].size == 3


def test_time_grows_with_steps() -> None:
    few, many = (
        estimate(400, 300, 5_000, MF(dim=8, training=Training(steps=steps, batch_size=500)), ["50%"]).seconds
        for steps in (10, 10_000)
    )
    assert few is not None
    assert many is not None
    assert 0 < few.training < many.training
    assert min(dataclasses.astuple(many)) > 0


def test_the_time_of_a_step_goes_with_the_scores_it_draws_and_with_rows() -> None:
    """A nanosecond a score, a microsecond a row, two milliseconds: 2 + .1 + 2 ms for 2 million scores of 100 rows."""

    def timed(rows: int, scores: float) -> Step:
        return Step(1e-9 * scores + 1e-6 * rows + 2e-3, rows, scores)

    near = timed(10_000, 2e6), timed(10_000, 5e5)
    for far in (timed(5_000, 1.2e6), timed(5_000, 2e6)):
        assert distillation_step(near, far, 100, 2e6) == pytest.approx(4.1e-3)
        assert distillation_step(near, far, 1_000_000, 2e6) == pytest.approx(1.004)
    assert distillation_step(near, near[0], 10_000, 4e6) == pytest.approx(16e-3), "there are no smaller tables"


def test_memory_is_within_a_factor_of_two() -> None:
    """Of what a small search takes at its peak, in a process of its own."""
    script = """
import resource, sys
import numpy as np, torch
import ciess
from ciess.models import Training
from ciess.train.finish import Finish
from ciess.methods.marginal import Marginal
from scipy.sparse import random_array
torch.set_num_threads(1)
matrix = random_array((20_000, 200), density=0.02, rng=np.random.default_rng(0)).tocsr()
backbone = ciess.MF(dim=64, training=Training(steps=2, batch_size=5_000))
ciess.search(ciess.Interactions.from_matrix(matrix), backbone=backbone, budgets=["10%"],
             method=Marginal(rounds=1, steps=2, looks=1), finishing=Finish().lasting(1), refit=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    config = MF(dim=64, training=Training(steps=2, batch_size=5_000))
    peak = estimate(20_000, 200, 80_000, config, ["10%"], seconds=False).memory.peak
    assert peak / 2 <= int(run.stdout.split()[-1]) <= peak * 2


def test_data_are_filtered_as_those_of_a_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text(
        "user,item,rating\n"
        + "".join(f"{user},{user * item % 7},{item % 5}\n" for user in range(30) for item in range(9))
    )
    told = ["--min-rating", "2", "--k-core", "3"]
    data = ciess.read(path, min_rating=2).k_core(3)
    main(["estimate", str(path), *told, "--no-time", "--dim", "4", "--json"])
    assert json.loads(capsys.readouterr().out)["table_bytes"] == 16 * (data.n_users + data.n_items)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    counts = ["--users", "1e6", "--items", "2e5", "--interactions", "5e7", "--no-time"]
    main(["estimate", *counts, "--budgets", "5%", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["packed"][0]["limit"] == told["table_bytes"] // 20
    assert told["seconds"] is None
    main(["estimate", "synthetic", "--backbone", "mf", "--no-time"])
    printed = capsys.readouterr().out
    assert "Full tables in float32: 819\N{NO-BREAK SPACE}kB" in printed
    assert all(len(line) <= 80 for line in printed.splitlines())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "too little is given"),
        (["--users", "10"], "too little is given"),
        (["--users", "1.5", "--items", "3", "--interactions", "2"], "each a whole number from 1 on"),
        (["synthetic", "--users", "10"], "DATA and --users, --items or --interactions are both given"),
        (["synthetic", "--backbone", "factors"], "factors are not trained"),
        (["synthetic", "--budgets", "0%"], "leaves no room"),
        (["synthetic", "--budgets", "1GB"], "budget '1GB' is 1,000,000,000 bytes"),
        (
            ["--users", "10", "--items", "10", "--interactions", "101"],
            "101 interactions are more than the 100 pairs of a user and an item",
        ),
    ],
)
def test_bad_input(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["estimate", *args])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
