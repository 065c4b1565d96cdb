from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_array, save_npz

import ciess
from ciess.cli import main
from ciess.data import Interactions, read
from ciess.errors import InputError
from ciess.experiment.compress import compress
from ciess.models.factors import Factors

Tables = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def trained() -> tuple[Tables, csr_array]:
    """Tables of another library, and the matrix that they have learned: the last user and item have nothing."""
    rng = np.random.default_rng(0)
    users, items = rng.standard_normal((81, 16)), rng.standard_normal((51, 16)) * np.geomspace(2, 0.2, 16)
    best = np.argsort(-(users @ items.T), axis=1)[:80, :16]
    pairs = np.repeat(np.arange(80), 16), np.minimum(best, 49).ravel()
    matrix = csr_array((np.ones(len(pairs[0])), pairs), shape=(81, 51))
    matrix.sum_duplicates()
    return (users, items), matrix


def test_tables_and_a_matrix_become_a_model_of_the_same_rows(trained: tuple[Tables, csr_array]) -> None:
    tables, matrix = trained
    outcome = compress(Factors.from_arrays(*tables), matrix, budgets=["60%"], precision="int8")
    [model] = outcome.models.values()
    assert model.table_bytes <= 0.6 * 132 * 16 * 4
    assert len(model.interactions) == matrix.nnz
    expected = tables[0] @ tables[1].T
    expected[matrix.nonzero()] = -np.inf
    found, _ = model.recommend(np.arange(81), k=10)
    overlap = [
        len(set(row) & set(best)) for row, best in zip(found, np.argsort(-expected, axis=1)[:, :10], strict=True)
    ]
    assert np.mean(overlap) > 9
    assert outcome.shown == "validation"


def test_the_command_reads_a_matrix_file(trained: tuple[Tables, csr_array], tmp_path: Path) -> None:
    tables, matrix = trained
    for name, table in zip("UV", tables, strict=True):
        np.save(tmp_path / f"{name}.npy", table)
    save_npz(tmp_path / "seen.npz", matrix)
    files = ["--users", str(tmp_path / "U.npy"), "--items", str(tmp_path / "V.npy")]
    seen = ["--interactions", str(tmp_path / "seen.npz")]
    main(["compress", *files, *seen, "--budgets", "60%", "--precision", "int4", "--out", str(tmp_path / "out")])
    model = ciess.load(tmp_path / "out" / "budget-60")
    assert model.users.precision == "int4"
    assert (len(model.users), len(model.items)) == (81, 51)


def test_ids_that_are_not_the_rows_numbers_are_refused(trained: tuple[Tables, csr_array]) -> None:
    tables, _ = trained
    for ids in (["a", "b", "c"], [1, 2, 81], [-1, 0, 1]):
        frame = pl.DataFrame({"user": ids, "item": [0, 1, 2]})
        with pytest.raises(InputError, match=r"user ids are not all numbers in 0\.\.80"):
            compress(Factors.from_arrays(*tables), Interactions.from_frame(frame), budgets=["60%"])


def test_a_file_that_holds_no_matrix_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "dense.npz", a=np.ones(3))
    for name in ("text.npz", "dense.npz"):
        with pytest.raises(InputError, match=r"holds no sparse matrix: write it with scipy\.sparse\.save_npz"):
            read(tmp_path / name)
