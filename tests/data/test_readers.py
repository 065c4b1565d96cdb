from pathlib import Path

import polars as pl
import pytest

from ciess.data import Interactions, read
from ciess.errors import InputError


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
    ],
)
def test_every_format_gives_the_same(tmp_path: Path, name: str, content: str) -> None:
    expected = {(7, 10), (7, 30), (8, 30)}
    path = write(tmp_path, name, content)
    assert pairs(read(path)) == expected
    assert pairs(read(tmp_path)) == expected, "the folder that holds it alone"


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
        ("compressed.txt", b"\x1f\x8b\x08\x08 5 6\n", "compressed.txt is binary"),
        ("latin.csv", b"user,item\n\xe9,1\n", "not UTF-8"),
        ("letters.txt", "0 1 2\n1 2 x\n", "letters.txt, line 2: 'x' is not a whole number"),
        ("negative.txt", "0 1 -2\n", "line 1: '-2' is not a whole number"),
        ("lonely.txt", "0 1 2\n\n1\n2 3\n", "lonely.txt, line 3: a user without items"),
        ("letters.dat", "1::2::good::3\n", "letters.dat: column 'rating' holds no rating of 0 or more in row 1"),
        ("headless.csv", "1,2\n3,4\n", "no line of column names"),
        ("ragged.csv", "user,item\n1,2,3\n", "ragged.csv cannot be read as a table"),
        ("columns.csv", "a,b\n1,2\n", "columns.csv: no column of users is known among a, b"),
        ("broken.parquet", "not parquet", "broken.parquet cannot be read as Parquet"),
    ],
)
def test_bad_files_are_refused_with_a_sentence(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read(write(tmp_path, name, content))
    assert "\n" not in str(error.value)


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
