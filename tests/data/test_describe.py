from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array

from ciess.cli import main
from ciess.data import Interactions, read, synthetic
from ciess.data.convert import convert
from ciess.data.describe import describe, gini
from ciess.errors import InputError


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30).filter(any))
def test_gini_is_half_the_relative_mean_difference(counts: list[int]) -> None:
    array = np.array(counts)
    differences = np.abs(array[:, None] - array).mean()
    assert gini(array) == pytest.approx(differences / (2 * array.mean()))


def test_counts_of_a_tiny_set(tiny: Interactions) -> None:
    found = describe(tiny)
    assert (found.interactions, found.density) == (6, 0.5)
    assert (found.users.count, found.users.mean, found.users.median, found.users.most) == (3, 2, 2, 3)
    assert (found.items.count, found.items.mean, found.items.median, found.items.most) == (4, 1.5, 1.5, 2)
    assert found.users.top_1 == found.users.top_10 == 0.5, "one user at least"
    assert found.users.gini == pytest.approx(2 / 9)


def test_the_hint_names_the_nearer_set() -> None:
    even = synthetic(users=300, items=200).interactions
    assert "nearest to Gowalla's" in describe(even).hint
    rows = np.repeat(np.arange(100), 12)
    columns = np.where(rows % 3, np.tile(np.arange(12), 100), rows * 12 % 400)
    uneven = Interactions.from_matrix(coo_array((np.ones(len(rows)), (rows, columns))))
    assert "nearest to MovieLens-1M's" in describe(uneven).hint


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "describe", "synthetic", "--k-core", "5"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith("% of all pairs")
    assert [line.split()[0] for line in printed[2:4]] == ["users", "items"]
    assert all(len(line) <= 80 for line in printed)


@pytest.mark.parametrize("name", ["set.parquet", "set.csv"])
def test_tables_keep_ids_and_times(tmp_path: Path, tiny: Interactions, name: str) -> None:
    timed = Interactions(tiny.matrix, tiny.user_ids, tiny.item_ids, np.arange(6))
    back = read(convert(timed, tmp_path / "made" / name))
    assert list(back.user_ids) == list(tiny.user_ids)
    assert list(back.item_ids) == list(tiny.item_ids)
    assert (back.matrix != tiny.matrix).nnz == 0
    assert back.times is not None
    assert list(back.times) == list(range(6))


def test_lines_number_ids_that_are_no_numbers(tmp_path: Path, tiny: Interactions) -> None:
    path = convert(tiny, tmp_path / "set.txt")
    assert path.read_text() == "0 10 11\n1 11\n2 10 12 13\n"
    assert (tmp_path / "set.users.csv").read_text() == "row,id\n0,u0\n1,u1\n2,u2\n"
    assert not (tmp_path / "set.items.csv").exists(), "items have numbers of their own"
    assert (read(path).matrix != tiny.matrix).nnz == 0


def test_users_without_interactions_have_no_line(tmp_path: Path, tiny: Interactions) -> None:
    path = convert(tiny.take(tiny.users != 1), tmp_path / "set.txt")
    assert path.read_text() == "0 10 11\n2 10 12 13\n"


def test_endings_that_are_not_known(tmp_path: Path, tiny: Interactions) -> None:
    with pytest.raises(InputError, match=r"set.xls has no known ending: use one of .parquet, .csv, .txt"):
        convert(tiny, tmp_path / "set.xls")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        convert(tiny, tmp_path / "file" / "set.csv")


def test_the_command_converts(tmp_path: Path) -> None:
    main(["data", "convert", "synthetic", str(tmp_path / "set.parquet")])
    assert len(read(tmp_path / "set.parquet")) == len(read("synthetic"))
