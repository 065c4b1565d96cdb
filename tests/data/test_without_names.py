"""Text without a line of column names, and what may stand in a folder beside the data."""

import base64
from pathlib import Path

import polars as pl
import pytest

from ciess.data import Interactions, read
from ciess.data.convert import convert
from ciess.data.id_files import ids_in
from ciess.errors import InputError

LATIN = base64.b64decode("KLUv/SQgAQEAdXNlcixpdGVtLHRpdGxlCjEsMixCavZyawozLDQseAoZ5gb+")
"""`user,item,title`, `1,2,Björk` in Latin-1 and `3,4,x`, a line each, as the program zstd packs them."""


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def pairs(data: Interactions) -> list[tuple[object, object]]:
    return list(zip(data.user_ids[data.users], data.item_ids[data.items], strict=True))


@pytest.mark.parametrize(
    ("content", "table"),
    [
        ("1\t10\t5\t881250949\n1\t11\t3\t881250950\n2\t12\t4\t881250951\n3", None),
        ("1 10 5\n1 11 3\n2 12 4\n3\n", None),
        ("3\n1 10 5\n1 11 3\n2 12 4\n", None),
        ("1 10 5 881250949\n2 11 3 881250950\n3 12 4 881250951\n4\n", None),
        ("1 10 5 881250949 3\n1 11 3 881250950 3\n2 12 4 881250951\n", None),
        ("1 10\n1 11 5\n2 12 4\n", None),
        ("0 1 2 3 4 5\n0 6 7\n1 2\n2 4 5 6\n", 11),
        ("0 1 2 3\n1\n2 4 5 6\n", 6),
    ],
    ids=["cut", "cut, spaces", "counted", "cut, users once", "cut, wide", "short", "lines of one user", "no items"],
)
def test_a_table_with_a_short_line_is_not_taken_for_lines(tmp_path: Path, content: str, table: int | None) -> None:
    """By hand: ratings and times would be items. None is to be asked."""
    path = write(tmp_path, "numbers.txt", content)
    if table is not None:
        assert len(read(path)) == table
        return
    with pytest.raises(InputError, match="say which by the layout, lines or table"):
        read(path)


def test_lines_that_begin_with_counts_are_refused(tmp_path: Path) -> None:
    """As CiteULike's: users are lines, and who has as many items would be one user."""
    with pytest.raises(InputError, match="lines that begin with how many items follow: begin each with its user"):
        read(write(tmp_path, "users.txt", "2 1 9\n3 4 5 8\n2 4 5\n"))
    # A user of two ratings is no count.
    assert pairs(read(write(tmp_path, "one.txt", "2 5 3\n2 6 4\n"))) == [(2, 5), (2, 6)]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("two.csv", "alice,milk\nbob,bread\n", [("alice", "milk"), ("bob", "bread")]),
        ("two.tsv", "alice\tmilk\nbob\tbread\n", [("alice", "milk"), ("bob", "bread")]),
        ("dated.csv", "alice,milk,2024-01-01\nbob,bread,2024-01-02\n", [("alice", "milk"), ("bob", "bread")]),
        ("rated.csv", "alice,milk,5\nbob,bread,4\n", [("alice", "milk"), ("bob", "bread")]),
        ("named.csv", "Item,User\nmilk,alice\nbread,bob\n", [("alice", "milk"), ("bob", "bread")]),
    ],
)
def test_a_layout_tells_that_no_line_of_names_is_missing(
    tmp_path: Path, name: str, content: str, expected: list[tuple[str, str]]
) -> None:
    assert pairs(read(write(tmp_path, name, content), layout="table")) == expected


@pytest.mark.parametrize("content", ["1,2,3,pv,1511544070\n", "1\t2\t5\t978300760\t\n"])
def test_more_columns_than_a_layout_tells_of_need_names(tmp_path: Path, content: str) -> None:
    path = write(tmp_path, "wide.csv", content * 2)
    for layout in (None, "table"):
        with pytest.raises(InputError, match=r"add one, .*; a layout is of 4 columns at most, and these are 5$"):
            read(path, layout=layout)


@pytest.mark.parametrize(
    ("content", "times"),
    [
        ("1 100 1356998400\n1 101 1356998500\n2 100 1356998600.5\n", [1356998400, 1356998500, 1356998600.5]),
        ("1\t100\t2013-01-01\n1\t101\t2013-01-02\n", [1356998400, 1357084800]),
        ("1\t100\t1.3569984E9\n1\t101\t1.3569985E9\n", [1356998400, 1356998500]),
        ("1 100 5\n1 101 4\n", None),
    ],
)
def test_a_third_column_of_times_holds_no_ratings(tmp_path: Path, content: str, times: list[float] | None) -> None:
    path = write(tmp_path, "times.txt", content)
    found = read(path).times
    assert (None if found is None else found.tolist()) == times
    if times is None:
        assert len(read(path, min_rating=5)) == 1
        return
    assert read(path, time="time").times is not None
    with pytest.raises(InputError, match="a rating threshold needs a rating column"):
        read(path, min_rating=4)


def test_times_may_come_before_ratings(tmp_path: Path) -> None:
    rows = "1::10::978300760::5\n1::11::978300761::1\n2::10::978300762::4\n"
    for content in (rows, rows.replace("::", "\t")):
        found = read(write(tmp_path, "times.dat", content), min_rating=4)
        assert pairs(found) == [(1, 10), (2, 10)]
        assert found.times is not None
        assert found.times.tolist() == [978300760, 978300762]


def test_lines_that_begin_with_counts_are_no_users_whoever_says_so(tmp_path: Path) -> None:
    lines = "".join(f"{1 + n % 3}" + f" {n}" * (1 + n % 3) + "\n" for n in range(12))
    with pytest.raises(InputError, match="lines that begin with how many items follow"):
        read(write(tmp_path, "users.dat", lines), layout="lines")
    assert len(read(write(tmp_path, "few.txt", "1 5\n1 6\n2 3 4\n"), layout="lines")) == 4


def test_dates_are_no_items_of_a_table(tmp_path: Path) -> None:
    """As clicks of a session: its user, when, what."""
    path = write(tmp_path, "clicks.dat", "1,2014-04-07T10:51:09Z,20,0\n1,2014-04-07T10:54:09Z,21,0\n")
    with pytest.raises(InputError, match=r"no line of column names: add one, such as user,item,rating,time$"):
        read(path, layout="table")


def test_large_numbers_before_times_are_no_times(tmp_path: Path) -> None:
    found = read(write(tmp_path, "weights.txt", "1\t10\t1234567890\t20240101\n1\t11\t12\t20240102\n")).times
    assert found is not None
    assert found.tolist() == [20240101, 20240102]
    with pytest.raises(InputError, match="has no line of column names"):
        read(write(tmp_path, "clock.txt", "1 2 1997-12-04 15:55:49\n1 3 1997-12-05 15:55:49\n"))


def test_lists_beside_the_column_that_is_named_are_not_looked_at(tmp_path: Path) -> None:
    path = write(tmp_path, "set.inter", "user_id:token\titem_id:token_seq\tsku:token\n1\t2 3\t4\n")
    assert pairs(read(path, item="sku")) == [(1, 4)]
    with pytest.raises(InputError, match="has lists in column 'item_id:token_seq'"):
        read(path)
    typed = write(tmp_path, "own.inter", "buyer:token\tsku:token\trating:float\n1\t2\t5\n")
    assert pairs(read(typed, user="buyer:token", item="sku:token", layout="table")) == [(1, 2)]


def test_parts_have_names_of_columns_or_none_has(tmp_path: Path) -> None:
    write(tmp_path, "train.txt", "item user\n1 2\n2 2\n")
    write(tmp_path, "test.txt", "3 4\n5 6\n")
    with pytest.raises(InputError, match=r"some of train\.txt, test\.txt have a line of column names"):
        read(tmp_path)


def test_a_first_line_that_may_be_names_is_not_taken_for_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="begins with u1, i1, click, which may be names or data: add one"):
        read(write(tmp_path, "events.csv", "u1,i1,click\nu2,i2,buy\n"), layout="table")


@pytest.mark.parametrize(
    "header", ['user,item,"a; b; c; d"', "user,item,meta::lang", "user,item,a\tb", '"user";"item";"a,b,c,d"']
)
def test_separators_in_other_names_separate_nothing(tmp_path: Path, header: str) -> None:
    row = "1;2;x" if header.startswith('"') else "1,2,x"
    assert pairs(read(write(tmp_path, "own.csv", f"{header}\n{row}\n"))) == [(1, 2)]


def test_columns_are_named_with_recboles_type_or_without(tmp_path: Path) -> None:
    path = write(tmp_path, "set.inter", "buyer:token\tsku:token\n1\t2\n")
    for user, item in (("buyer", "sku"), ("buyer:token", "sku:token")):
        assert pairs(read(path, user=user, item=item)) == [(1, 2)]


def test_validation_has_several_names(tmp_path: Path) -> None:
    write(tmp_path, "train.txt", "0 1 2 3\n1 4 5\n")
    write(tmp_path, "test.txt", "0 4\n")
    for name in ("valid.txt", "val.txt", "validation.txt"):
        path = write(tmp_path, name, "0 9\n")
        assert len(read(tmp_path)) == 7
        path.unlink()


def test_what_lies_below_other_files_is_not_theirs(tmp_path: Path) -> None:
    data = Interactions.of(pl.DataFrame({"user": [1, 2], "item": [3, 4]}))
    write(tmp_path, "README.md", "x")
    write(tmp_path, "part/one.parquet", "")
    convert(data, tmp_path / "part" / "one.parquet")
    assert pairs(read(tmp_path)) == [(1, 3), (2, 4)]
    write(tmp_path, "data.json", "{}")
    with pytest.raises(InputError, match="should hold one file of interactions, found none"):
        read(tmp_path)


def test_hidden_files_are_no_data(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", "user,item\n1,2\n")
    write(tmp_path, "._a.csv", b"\x00\x05\x16\x07")
    assert pairs(read(tmp_path)) == [(1, 2)]


def test_an_empty_path_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a.csv", "user,item\n1,2\n")
    with pytest.raises(InputError, match="path is empty: give a path"):
        read("")


def test_packed_letters_of_another_encoding_count_where_they_are_needed(tmp_path: Path) -> None:
    path = write(tmp_path, "latin.csv.zst", LATIN)
    assert pairs(read(path)) == [(1, 2), (3, 4)]
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read(path, item="title")


def test_long_fields_beside_a_stray_quote(tmp_path: Path) -> None:
    text = f'user,item,title,text\n1,2,12" vinyl,{"x" * 140_000}\n'
    assert pairs(read(write(tmp_path, "own.csv", text))) == [(1, 2)]
    with pytest.raises(InputError, match=r"own.csv, line 2: a carriage return stands within a row: remove it"):
        read(write(tmp_path, "own.csv", 'user,item,title\n1,2,12" a\rb\n'))


def test_a_trailing_separator_before_a_space_is_no_entry(tmp_path: Path) -> None:
    assert pairs(read(write(tmp_path, "own.csv", "user,item\n1,2, \n3,4,\n"))) == [(1, 2), (3, 4)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ids.tsv", "user_id\tname\nU1\ta\nU2\tb\n"),
        ("ids.csv", "user_id;name\nU1;a\nU2;b\n"),
        ("ids.csv", "user_id\nU1\nU2\n"),
        ("ids.txt", "user_id\nU1\nU2\n"),
        ("ids.txt", "U1\nU2\n"),
    ],
)
def test_ids_below_a_name_of_their_column(tmp_path: Path, name: str, content: str) -> None:
    assert ids_in(write(tmp_path, name, content), "user", counted=False).to_list() == ["U1", "U2"]
