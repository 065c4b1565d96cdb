import base64
import gzip
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciess.data import Interactions, read
from ciess.data.convert import convert
from ciess.data.ids import id_text
from ciess.errors import InputError

ZSTD = base64.b64decode("KLUv/QRYyQAAdXNlcixpdGVtCjcsMTAKNywzMAo4LDMwCiCjOJI=")
"""`user,item`, `7,10`, `7,30` and `8,30`, a line each, as the program zstd packs them."""


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def pairs(interactions: Interactions) -> set[tuple[object, object]]:
    return {
        (interactions.user_ids[int(user)], interactions.item_ids[int(item)])
        for user, item in zip(interactions.users, interactions.items, strict=True)
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lines.txt", "7 10 30\n8 30\n\n"),
        ("ratings.dat", "7::10::5::100\n7::30::4::100\n8::30::1::200\n"),
        ("u.data", "7\t10\t5\t100\n7\t30\t4\t100\n8\t30\t1\t200\n"),
        ("ratings.csv", "userId,movieId,rating,timestamp\n7,10,5.0,100\n7,30,4.0,100\n8,30,1.0,200\n"),
        ("user_artists.dat", "userID\tartistID\tweight\n7\t10\t13883\n7\t30\t11690\n8\t30\t1\n"),
        ("set.inter", "user_id:token\titem_id:token\trating:float\n7\t10\t5\n7\t30\t4\n8\t30\t1\n"),
        ("own.tsv", "uid\titem\n7\t10\n7\t30\n8\t30\n"),
        ("own.csv", "item,user\n10,7\n30,7\n30,8\n"),
        ("LOUD.CSV", "User ID,Item\r\n7,10\r\n7,30\r\n8,30\r\n"),
        ("semicolons.csv", "user;item;price\n7;10;1,5\n7;30;1,5\n8;30;2,5\n"),
        ("bars.txt", "user|item\n7|10\n7|30\n8|30\n"),
        ("commas.txt", "user,item\n7,10\n7,30\n8,30\n"),
        ("spaces.txt", "user  item  rating\n7  10 5\n 7 30  4\n8\t30 1\n"),
        ("mark.csv", b"\xef\xbb\xbfuser,item\n7,10\n7,30\n8,30\n"),
        ("excel.csv", b"\xef\xbb\xbfsep=;\r\nuser;item\r\n7;10\r\n7;30\r\n8;30\r\n"),
        ("blank.csv", "\nuser, item\n7, 10\n\n7, 30\n  \n8, 30\n\n"),
        ("quoted.csv", '"user","item"\n"7","10"\n"7","30"\n"8","30"\n'),
        ("latin.csv", b"user,item,title\n7,10,caf\xe9\n7,30,x\n8,30,y\n"),
        ("alone.txt", "7 10 30\n9\n8 30\n9 \n"),
        ("packed.csv.gz", gzip.compress(b"user,item\n7,10\n7,30\n8,30\n", mtime=0)),
        ("lines.tsv", "7 10 30\n8 30\n"),
        ("old_mac.csv", "user,item\r7,10\r7,30\r8,30\r"),
        ("lines.txt.gz", gzip.compress(b"7 10 30\n8 30\n", mtime=0)),
        ("packed.csv.zst", ZSTD),
        ("u1.base", "7\t10\t5\t100\n7\t30\t4\t100\n8\t30\t1\t200\n"),
        ("triples.txt", "7 10 5\n7 30 4\n8 30 1\n"),
        ("halves.txt", "7 10 4.5\n7 30 4\n8 30 1\n"),
        ("pairs.txt", "7 10\n7 30\n8 30\n"),
        ("empty_cell.txt", "7\t10\t\t100\n7\t30\t4\t100\n8\t30\t1\t\n"),
        ("ratings.dat", b"7::10::caf\xe9\n7::30::4\n8::30::1\n"),
        ("latin.txt", b"7\t10\tcaf\xe9\n7\t30\t4\n8\t30\t1\n"),
        ("letters_later.txt", "7\t10\t5\n7\t30\t4\n8\t30\tnone\n"),
        ("numpy.txt", "# user item rating\n7 10 5\n7 30 4\n8 30 1\n"),
        ("numpy.tsv", "#\tuser\titem\n7\t10\n7\t30\n8\t30\n"),
        ("space_quote.csv", 'user, "item"\n7, "10"\n"7", "30"\n8,"30"\n'),
        ("spaces_first.csv", " \t\nuser,item\n7,10\n7,30\n8,30\n"),
    ],
)
def test_every_format_gives_the_same(tmp_path: Path, name: str, content: str | bytes) -> None:
    expected = {(7, 10), (7, 30), (8, 30)}
    path = write(tmp_path, name, content)
    assert pairs(read(path)) == expected
    if not name.endswith(".base"):
        assert pairs(read(tmp_path)) == expected, "the folder that holds it alone"


@pytest.mark.parametrize(
    ("content", "users", "items"),
    [
        ("user,item\n007,1\n07,2\n7,3\n", ["007", "07", "7"], [1, 2, 3]),
        ("user,item\n1,123E4\n2,1230000\n", [1, 2], ["1230000", "123E4"]),
        ("user,item\n1,12.5\n2,12.50\n", [1, 2], ["12.5", "12.50"]),
        ("user,item\n-1,+2\n3,2\n", [-1, 3], ["+2", "2"]),
        (
            "user,item\n12345678901234567890,1\n12345678901234567891,1\n",
            [str(12345678901234567890 + n) for n in (0, 1)],
            [1],
        ),
        ('user,item\n"01",1\n2,1\n', ["01", "2"], [1]),
        ("user,item\n" + "1,1\n" * 10_001 + "x,1\n", ["1", "x"], [1]),
        ("user:token,item:token,note:token_seq\n01,2,a b\n3,4,c\n", ["01", "3"], [2, 4]),
    ],
    ids=["zeros", "exponents", "decimals", "signs", "twenty digits", "quoted", "after ten thousand", "tokens"],
)
def test_ids_are_text_unless_all_are_whole_numbers(
    tmp_path: Path, content: str, users: list[object], items: list[object]
) -> None:
    found = read(write(tmp_path, "own.csv", content))
    assert (found.user_ids.to_list(), found.item_ids.to_list()) == (users, items)


@given(
    st.sets(
        st.text("0123456789.,;|\"' aE-+:\té", min_size=1, max_size=5).map(str.strip).filter(bool),
        min_size=1,
        max_size=9,
    )
)
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, ids: set[str]) -> None:
    """Ids of any letters come back from text; as numbers where all are whole."""
    users = sorted(ids)
    written = Interactions.from_frame(pl.DataFrame({"user": users, "item": list(range(len(users)))}))
    folder = tmp_path_factory.mktemp("written")
    for name in ("own.csv", "own.parquet"):
        again = read(convert(written, folder / name))
        assert {(id_text(user), item) for user, item in pairs(again)} == pairs(written)


def test_ids_of_lines_are_text_where_they_are_written_so(tmp_path: Path) -> None:
    found = read(write(tmp_path, "lines.txt", "01 2 3\n1 2\n"))
    assert (found.user_ids.to_list(), found.item_ids.to_list()) == (["01", "1"], [2, 3])
    found = read(write(tmp_path, "long.txt", f"0 1 {10**19}\n1 2\n"))
    assert found.item_ids.to_list() == ["1", str(10**19), "2"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("1 2 3\n2 3 4\n", None),
        ("1 2 3 4\n2 3 4 5\n", None),
        ("1 2 5 874965758\n2 3 4 874965759\n", {(1, 2), (2, 3)}),
        ("1\t2\t3\n2\t3\t4\n", {(1, 2), (2, 3)}),
        ("1 2 3\n1 3 4\n", {(1, 2), (1, 3)}),
        ("1 2 3\n2 3\n", {(1, 2), (1, 3), (2, 3)}),
        ("1 2 3 4 5\n2 3 4 5 6\n", {*((1, each) for each in (2, 3, 4, 5)), *((2, each) for each in (3, 4, 5, 6))}),
        ("1 2 3 4 5\n1 6 7 8 9\n", None),
        ("1 2 3\n1 3\n", None),
    ],
    ids=["three", "four", "times", "tabs", "users again", "ragged", "five", "five again", "ragged, users again"],
)
def test_whole_numbers_are_lines_or_a_table(
    tmp_path: Path, content: str, expected: set[tuple[int, int]] | None
) -> None:
    """By hand: a table if users come again, tabs separate, or a fourth number is a time."""
    path = write(tmp_path, "numbers.txt", content)
    if expected is not None:
        assert pairs(read(path)) == expected
        return
    with pytest.raises(InputError, match=r"numbers.txt may hold lines .* say which by the layout, lines or table"):
        read(path)
    rows = [line.split() for line in content.splitlines()]
    assert len(read(path, layout="lines")) == len({(row[0], item) for row in rows for item in row[1:]})
    if len(rows[0]) <= 4:
        assert len(read(path, layout="table")) == 2


def test_the_halves_of_a_folder_are_told_apart_together(tmp_path: Path) -> None:
    write(tmp_path, "train.txt", "0 1 2\n1 2\n")
    write(tmp_path, "test.txt", "0 3 4\n1 5 6\n")
    assert len(read(tmp_path)) == 7


@pytest.mark.parametrize("header", ["user,User ID,item", "user,item,movie_id"])
def test_columns_that_may_both_be_meant_are_asked_for(tmp_path: Path, header: str) -> None:
    path = write(tmp_path, "own.csv", f"{header}\n1,2,3\n")
    with pytest.raises(InputError, match=r"own.csv: columns '.*' and '.*' may all be the .*s': name the one that is"):
        read(path)
    assert pairs(read(path, user="user", item="item"))


def test_column_names_that_come_twice(tmp_path: Path) -> None:
    path = write(tmp_path, "own.csv", "user,item,item,x,x\n1,2,3,4,5\n")
    with pytest.raises(InputError, match="2 columns are called 'item': rename all but one"):
        read(path)
    assert pairs(read(write(tmp_path, "own.csv", "user,item,x,x\n1,2,4,5\n"))) == {(1, 2)}


@pytest.mark.parametrize("nothing", ["", '""', "NULL", "NaN", "None", "NA", r"\N", " "])
def test_ids_that_are_missing_are_refused(tmp_path: Path, nothing: str) -> None:
    path = write(tmp_path, "own.csv", f"user,item,rating\n1,2,5\n{nothing},3,1\n")
    with pytest.raises(InputError, match="column 'user' holds no id in row 2: fix or remove these rows"):
        read(path)
    assert pairs(read(path, min_rating=2)) == {(1, 2)}, "rows that are left out anyway do no harm"


def test_parts_of_a_parquet_table_are_put_together(tmp_path: Path) -> None:
    for place, users in (("item=007/a.parquet", [1, 2]), ("item=7/b.parquet", [2]), ("item=x%2Fy/c.parquet", [3])):
        path = tmp_path / "sales" / place
        path.parent.mkdir(parents=True)
        pl.DataFrame({"user": users}, schema={"user": pl.Int32 if len(users) > 1 else pl.Int64}).write_parquet(path)
    write(tmp_path / "sales", "_SUCCESS", "")
    (tmp_path / "sales" / "_temporary").mkdir()
    pl.DataFrame({"other": [1]}).write_parquet(tmp_path / "sales" / "_temporary" / "0.parquet")
    assert pairs(read(tmp_path / "sales")) == {(1, "007"), (2, "007"), (2, "7"), (3, "x/y")}


def test_parts_without_what_is_wanted_add_nothing(tmp_path: Path) -> None:
    for rating, users in ((1, [7, 8]), (5, [9])):
        path = tmp_path / f"rating={rating}" / "part.parquet"
        path.parent.mkdir()
        pl.DataFrame({"user": users, "item": users}).write_parquet(path)
    pl.DataFrame({"user": [], "item": [], "rating": []}).write_parquet(tmp_path / "empty.parquet")
    found = read(tmp_path, min_rating=2)
    assert pairs(found) == {(9, 9)}
    with pytest.raises(InputError, match="there are no interactions: check the data and the rating threshold"):
        read(tmp_path, min_rating=6)


def test_parts_without_partitions(tmp_path: Path) -> None:
    for name, rows in (
        ("part-0.parquet", {"user": [1], "item": ["7"]}),
        ("part-1.parquet", {"user": [2], "item": ["07"]}),
    ):
        pl.DataFrame(rows).write_parquet(tmp_path / name)
    assert pairs(read(tmp_path)) == {(1, "7"), (2, "07")}


def test_options_that_do_nothing_are_refused(tmp_path: Path) -> None:
    lines = write(tmp_path, "lines.txt", "0 1 2\n1 2\n")
    with pytest.raises(InputError, match=r"lines.txt holds no named columns"):
        read(lines, user="buyer")
    pl.DataFrame({"user": [1], "item": [1]}).write_parquet(tmp_path / "own.parquet")
    with pytest.raises(InputError, match="a layout is of text files"):
        read(tmp_path / "own.parquet", layout="table")
    with pytest.raises(InputError, match=r"layout is 'tabel': use 'lines' or 'table' .*'table'"):
        read(lines, layout="tabel")  # type: ignore[arg-type]


def test_parquet_with_named_columns(tmp_path: Path) -> None:
    pl.DataFrame({"buyer": ["x", "y"], "sku": ["a", "b"]}).write_parquet(tmp_path / "sales.parquet")
    assert pairs(read(tmp_path / "sales.parquet", user="buyer", item="sku")) == {("x", "a"), ("y", "b")}


def test_train_and_test_of_a_folder_are_put_together(tmp_path: Path) -> None:
    write(tmp_path, "train.txt", "0 1 2\n1 2\n")
    write(tmp_path, "test.txt", "0 3\n")
    assert pairs(read(tmp_path)) == {(0, 1), (0, 2), (0, 3), (1, 2)}


def test_a_rating_threshold(tmp_path: Path) -> None:
    path = write(tmp_path, "ratings.dat", "7::10::5::100\n7::30::2::100\n")
    assert pairs(read(path, min_rating=4)) == {(7, 10)}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", "", "empty.txt is empty"),
        ("blank.csv", " \n\n", "blank.csv is empty"),
        ("binary.txt", b"\x00\x01\x02", "binary.txt is binary"),
        (
            "compressed.txt",
            b"\x1f\x8b\x08\x08 5 6\n",
            r"compressed.txt cannot be unpacked \(.*\): check that it is whole",
        ),
        ("cut.csv.gz", gzip.compress(b"user,item\n1,2\n", mtime=0)[:-9], "cut.csv.gz cannot be unpacked"),
        ("cut.csv.zst", ZSTD[:-9], "cut.csv.zst cannot be unpacked"),
        ("latin.csv", b"user,item\n\xe9,1\n", "not UTF-8"),
        ("header.csv", "user,item\n", "header.csv: there are no interactions"),
        ("letters.txt", "0 1 2\n1 2 x\n", "letters.txt, line 2: 'x' is not a whole number"),
        ("negative.txt", "0 1 -2\n1 2\n", "line 1: '-2' is not a whole number"),
        ("lonely.txt", "0\n1\n", "lonely.txt: there are no interactions"),
        ("headless.csv", "1,2\n3,4\n", "no line of column names"),
        ("lines.csv", "0 1 2\n1 4\n1 3 5\n", "no line of column names, and lines of different lengths"),
        ("even.dat", "0 1 2 3\n1 2 4 5\n2 5 6 7\n", "say which by the layout, lines or table"),
        ("lines.tsv", "0\t1\t2\t3\n1\t4\t5\n", "no line of column names, and lines of different lengths"),
        ("mixed.txt", "0 1 2 x3\n1 4 5\n", "no line of column names, and lines of different lengths"),
        ("comments.txt", "# drawn\n# user item\n1 2\n", "comments.txt begins with comments"),
        ("slashes.txt", "// user item\n1 2\n", "slashes.txt begins with comments"),
        ("ragged.csv", "user,item\n1,2\n1,2,3\n", "ragged.csv has more entries than columns in row 2"),
        ("comma.csv", "user,title,item\n1,A, B,2\n", "comma.csv has more entries than columns in row 1"),
        ("columns.csv", "a,b\n1,2\n", "columns.csv: no column of users is known among a, b"),
        ("broken.parquet", "not parquet", "broken.parquet cannot be read as Parquet"),
    ],
)
def test_bad_files_are_refused_with_a_sentence(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read(write(tmp_path, name, content))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "first", "columns"),
    [
        ("amazon.csv", "A2YK,B0001,5.0,1391990400", {"user": "A2YK", "item": "B0001"}),
        ("whole.csv", "A2YK,B0001,5,1391990400", {"user": "A2YK", "item": "B0001"}),
        ("gowalla.txt", "0\t2010-10-19T23:55:27Z\t30.23\t-97.79\t22847", {"user": "0", "item": "22847"}),
        ("numbers.csv", "7,x,12", {"user": "7", "item": "12"}),
        ("negative.csv", "-7,12,5", {}),
        ("five.txt", "-7\t12\t5\t6\t7", {}),
    ],
)
def test_data_in_place_of_column_names_are_refused(
    tmp_path: Path, name: str, first: str, columns: dict[str, str]
) -> None:
    """Even where they are named as the columns: the first interaction would be lost."""
    path = write(tmp_path, name, f"{first}\n{first}\n")
    said = "has no line of column names: add one, such as user,item,rating,time"
    if columns:
        with pytest.raises(
            InputError, match=r"no column of users .* user=NAME, or add a line of column names if there"
        ):
            read(path)
    with pytest.raises(InputError, match=said):
        read(path, **columns)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "first", "users"),
    [
        ("ml.csv", "7,12,3.5,1391990400", 7),
        ("pairs.txt", "7;12", 7),
        ("amazon.csv", "A2YK,B0001,5.0,1391990400", "A2YK"),
        ("ratings.dat", "A2YK::B0001::5", "A2YK"),
    ],
)
def test_a_table_without_column_names_may_be_told(tmp_path: Path, name: str, first: str, users: str | int) -> None:
    path = write(tmp_path, name, f"{first}\n{first}\n")
    found = read(path, layout="table")
    assert (len(found), found.user_ids.to_list()) == (1, [users])
    if "1391990400" in first:
        assert found.times is not None
        assert found.times.tolist() == [1391990400]
    if first != "7;12":
        with pytest.raises(InputError, match="no interactions"):
            read(path, layout="table", min_rating=5.5)


def test_a_line_of_column_names_stays_one_where_a_table_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, "named.csv", "user,item,rating\nA,B,5\n")
    assert read(path, layout="table").user_ids.to_list() == ["A"]


def test_numbers_as_names_of_other_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "own.csv", "buyer,sku,2019,2020\n1,2,3,4\n")
    assert pairs(read(path, user="buyer", item="sku")) == {(1, 2)}
    path = write(tmp_path, "own.csv", "user,item,0.5,-1\n1,2,3,4\n")
    assert pairs(read(path)) == {(1, 2)}


def test_negative_ids_begin_a_table_of_numbers(tmp_path: Path) -> None:
    assert pairs(read(write(tmp_path, "u.data", "-7\t10\t5\n8\t30\t4\n"))) == {(-7, 10), (8, 30)}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"user": 1, "item": 2}\n', "holds JSON, .*: convert it to .csv or .parquet"),
        ('\n[ {"user": 1, "item": 2}]\n', "holds JSON, .*: convert it to .csv or .parquet"),
        ("[[1, 2], [3, 4]]\n", "holds JSON, .*: convert it to .csv or .parquet"),
        ("% bip unweighted\n1 2\n3 4\n", "begins with comments: put a line of column names in their place"),
        ("%%MatrixMarket matrix coordinate real general\n2 2 1\n1 2 1\n", "is of Matrix Market: read it by scipy.io"),
        ("1:\n5,3,2005-09-06\n", "no column of users is known .*, or add a line of column names if there is none"),
    ],
)
def test_what_other_programs_write_is_named(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(write(tmp_path, "own.txt", content))


def test_names_in_brackets_are_no_json(tmp_path: Path) -> None:
    path = write(tmp_path, "own.csv", "[buyer],[sku]\n1,2\n")
    assert pairs(read(path, user="[buyer]", item="[sku]")) == {(1, 2)}


def test_bad_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        read(tmp_path / "nowhere")
    with pytest.raises(InputError, match="found none"):
        read(tmp_path)
    lines = write(tmp_path, "lines.txt", "0 1\n")
    with pytest.raises(InputError, match="holds no ratings"):
        read(lines, min_rating=3)
    write(tmp_path, "more.csv", "user,item\n1,2\n")
    with pytest.raises(InputError, match=r"found lines\.txt, more\.csv|found more\.csv, lines\.txt"):
        read(tmp_path)


def test_real_sets_have_their_known_counts(real_data: Path) -> None:
    ml_1m = read(real_data / "ml-1m")
    assert (ml_1m.n_users, ml_1m.n_items, len(ml_1m)) == (6_040, 3_260, 998_539)
    gowalla = read(real_data / "gowalla")
    assert (gowalla.n_users, gowalla.n_items, len(gowalla)) == (29_858, 40_981, 810_128 + 217_242)
    ml_100k = read(real_data / "ml-100k")
    assert (ml_100k.n_users, ml_100k.n_items, len(ml_100k)) == (943, 1_682, 100_000)
    assert ml_100k.times is not None
