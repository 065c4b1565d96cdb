"""Parquet files and tables of several parts."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ciess.data import Interactions, read
from ciess.data.id_files import ids_in
from ciess.data.prepared import prepare, prepared
from ciess.errors import InputError


def write(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(columns).write_parquet(path)
    return path


def pairs(data: Interactions) -> list[tuple[object, object]]:
    return list(zip(data.user_ids[data.users], data.item_ids[data.items], strict=True))


def test_a_name_with_brackets_or_a_star_is_that_of_one_file(tmp_path: Path) -> None:
    """As patterns they would be those of their neighbours."""
    for name, neighbour in (("a[1]", "a1"), ("x*", "xy"), ("q?", "qz")):
        write(tmp_path / f"{neighbour}.parquet", item=[10, 20, 30], buyer=[1, 1, 1])
        path = write(tmp_path / f"{name}.parquet", user=[1, 2], item=[3, 4])
        assert pairs(read(path)) == [(1, 3), (2, 4)]
        assert ids_in(write(tmp_path / f"{name}-ids.parquet", user=["a"]), "user").to_list() == ["a"]
        (tmp_path / f"{neighbour}.csv").write_text("user\nx\ny\n")
        (tmp_path / f"{name}.csv").write_text("user\na\n")
        assert ids_in(tmp_path / f"{name}.csv", "user").to_list() == ["a"]


@pytest.mark.parametrize("log", ["_delta_log/0.json", ".hoodie/x", "metadata/v1.metadata.json"])
def test_tables_whose_files_may_count_no_more_are_refused(log: str, tmp_path: Path) -> None:
    write(tmp_path / "part.parquet", user=[1], item=[2])
    (tmp_path / log).parent.mkdir()
    (tmp_path / log).write_text("{}")
    with pytest.raises(InputError, match="is a table of Delta Lake, Hudi or Iceberg"):
        read(tmp_path)


def test_a_part_without_rows_says_nothing_of_types(tmp_path: Path) -> None:
    write(tmp_path / "0.parquet", user=pl.Series([], dtype=pl.String), item=pl.Series([], dtype=pl.String))
    write(tmp_path / "1.parquet", user=[1, 2], item=[3, 4], time=[5, 6])
    found = read(tmp_path)
    assert pairs(found) == [(1, 3), (2, 4)]
    assert found.times is not None


def test_dates_and_numbers_of_any_unit_are_not_joined(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = list(range(30))
    write(tmp_path / "parts" / "0.parquet", user=rows, item=rows[::-1], time=[1_700_000_000_000] * 30)
    write(tmp_path / "parts" / "1.parquet", user=rows, item=rows, time=["2024-01-31"] * 30)
    assert read(tmp_path / "parts").times is None
    prepare(tmp_path / "parts", tmp_path / "out")
    assert prepared(tmp_path / "out").train.times is None
    assert caplog.text.count("times are dates in some files and numbers in others: they are left out") == 2


def test_a_folder_may_name_a_stored_column_if_it_says_the_same(tmp_path: Path) -> None:
    write(tmp_path / "rating=05" / "user=9" / "part.parquet", user=[9, 9], item=[1, 2], rating=[5.0, 5.0])
    assert pairs(read(tmp_path, min_rating=5)) == [(9, 1), (9, 2)]
    write(tmp_path / "rating=05" / "user=9" / "part.parquet", user=[9, 8], item=[1, 2], rating=[5.0, 5.0])
    with pytest.raises(InputError, match="holds other values in column 'user' than its folder says"):
        read(tmp_path)
