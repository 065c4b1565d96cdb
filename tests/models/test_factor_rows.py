import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from ciess.data import Interactions, split_given
from ciess.errors import InputError
from ciess.models.factors import Factors

N_USERS, N_ITEMS, DIM, LEARNED = 60, 50, 8, 12
RNG = np.random.default_rng(0)
USERS, ITEMS = RNG.standard_normal((N_USERS, DIM)), RNG.standard_normal((N_ITEMS, DIM))
BEST = np.argsort(-(USERS @ ITEMS.T), axis=1)[:, :LEARNED]
"""What each user's row scores highest: these are the interactions that the factors explain best."""
Order = Callable[[int], list[Any]]


def planted(user_id: Callable[[int], Any], item_id: Callable[[int], Any], users: Any = range(N_USERS)) -> Interactions:
    """The interactions that the rows explain, their ids made of row numbers; users come in the order given."""
    rows = [(user_id(user), item_id(int(item))) for user in users for item in BEST[user]]
    return Interactions.from_frame(pl.DataFrame(rows, schema=["user", "item"], orient="row"))


def scores(factors: Factors, data: Interactions) -> dict[tuple[Any, Any], float]:
    """The score of each pair of ids."""
    found = factors.matched(data)
    model = factors.build(found)
    table = model.score_all(model.vectors(), torch.arange(found.n_users)).detach().numpy()
    return {
        (user, item): float(table[row, column])
        for row, user in enumerate(found.user_ids)
        for column, item in enumerate(found.item_ids)
    }


WRITERS: dict[str, Callable[[Path, list[str]], Any]] = {
    "ids.txt": lambda path, ids: path.write_text("\n".join(ids) + "\n\n", encoding="utf-8-sig"),
    "ids": lambda path, ids: path.write_bytes("\r\n".join(ids).encode()),
    "ids.npy": lambda path, ids: np.save(path, np.array(ids)),
    "ids.csv": lambda path, ids: pl.DataFrame({"n": range(len(ids)), "user_id": ids}).write_csv(path),
    "shuffled.csv": lambda path, ids: (
        pl.DataFrame({"row": range(len(ids)), "user": ids}).sample(fraction=1, shuffle=True, seed=0).write_csv(path)
    ),
    "ids.parquet": lambda path, ids: pl.DataFrame({"any": ids}).write_parquet(path),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("spelled", ["u{}", "{}", "{:03d}"])
def test_rows_belong_to_the_ids_of_a_file(name: str, spelled: str, tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(N_USERS)
    np.save(tmp_path / "U.npy", USERS[order])
    np.save(tmp_path / "V.npy", ITEMS)
    WRITERS[name](tmp_path / name, [spelled.format(row) for row in order])
    factors = Factors(users=tmp_path / "U.npy", items=tmp_path / "V.npy", user_ids=tmp_path / name)
    found = scores(factors, planted(spelled.format, int))
    assert len(found) == N_USERS * N_ITEMS
    for user, item in ((0, 0), (9, 3), (10, 30), (59, 49)):
        known = {str(each): value for (each, of), value in found.items() if of == item}
        assert known[spelled.format(user)] == pytest.approx(USERS[user] @ ITEMS[item], rel=1e-4)


def test_rows_without_interactions_stay_and_interactions_without_rows_go(caplog: pytest.LogCaptureFixture) -> None:
    ids = [f"i{row}" for row in range(N_ITEMS)]
    cold = np.vstack([ITEMS, np.ones(DIM)])
    factors = Factors.from_arrays(USERS[:-1], cold, user_ids=range(N_USERS - 1), item_ids=[*ids, "new"])
    data = planted(int, "i{}".format)
    with caplog.at_level(logging.WARNING):
        found = factors.matched(data)
    assert f"{LEARNED} of {len(data)} interactions left out" in caplog.text
    assert found.item_ids.to_list()[-1] == "new"
    assert (found.n_users, found.item_counts[-1], len(found)) == (N_USERS - 1, 0, len(data) - LEARNED)
    assert factors.matched(found) is found
    assert scores(factors, data)[0, "new"] == pytest.approx(USERS[0].sum(), rel=1e-4)


def test_a_model_is_never_built_on_rows_of_others() -> None:
    data = planted("u{}".format, int)
    order = np.random.default_rng(1).permutation(N_USERS)
    factors = Factors.from_arrays(USERS[order], ITEMS, user_ids=[f"u{row}" for row in order])
    row = data.user_ids.to_list().index("u7")
    np.testing.assert_allclose(factors.build(data).user_table.detach()[row], USERS[7], rtol=1e-5)
    lacking = Factors.from_arrays(USERS[:9], ITEMS, user_ids=[f"u{row}" for row in range(9)])
    with pytest.raises(InputError, match="there are no factors for user 'u10'"):
        lacking.build(data)
    strange = Factors.from_arrays(USERS, ITEMS, user_ids=[f"v{row}" for row in range(N_USERS)])
    with pytest.raises(InputError, match="no interaction has a user and an item that the factors have rows for"):
        strange.matched(data)


def test_given_splits_learn_the_rows_of_users_that_only_factors_know() -> None:
    factors = Factors.from_arrays(USERS, ITEMS, user_ids=range(N_USERS), item_ids=range(N_ITEMS))
    train, valid = planted(int, int, range(30)), planted(int, int, range(30, 40))
    split = split_given(factors.matched(train), valid)
    assert len(split.valid) == 10 * LEARNED


def test_without_ids_rows_are_in_rising_order_or_numbered() -> None:
    rising = scores(Factors.from_arrays(USERS, ITEMS), planted(lambda row: 10 * row + 5, "i{:02d}".format))
    assert rising[75, "i03"] == pytest.approx(USERS[7] @ ITEMS[3], rel=1e-4)
    # User 0 has no interactions and so no id of its own; items have one each.
    numbered = scores(Factors.from_arrays(USERS, ITEMS), planted(int, "i{:02d}".format, range(1, N_USERS)))
    assert numbered[7, "i03"] == pytest.approx(USERS[7] @ ITEMS[3], rel=1e-4)
    assert (0, "i03") in numbered
    with pytest.raises(InputError, match=r"whose ids are not all numbers in 0\.\.59: .* \(user_ids\)"):
        Factors.from_arrays(USERS, ITEMS).matched(planted("u{}".format, int, range(1, N_USERS)))


MIXED = np.random.default_rng(3).permutation(N_USERS)
PADDING = np.zeros((1, DIM))
DISORDER: dict[str, tuple[Any, Callable[[int], Any], Any, str]] = {
    "as they appear": (USERS[MIXED], lambda row: 7 * row, MIXED, "in order of first appearance:"),
    "padded": (np.vstack([PADDING, USERS[MIXED]]), int, MIXED, "in order of first appearance after one row of padding"),
    "natural": (USERS, "sku-{}".format, MIXED, "in natural order of ids (a2 before a10)"),
    "as text": (USERS[sorted(range(60), key=str)], int, MIXED, "in order of ids as text (10 before 2)"),
    "text of digits": (USERS, lambda row: str(10 * row), MIXED, "in order of ids as numbers (2 before 10)"),
    "from 1": (np.vstack([USERS, PADDING]), lambda row: row + 1, MIXED, "numbered by ids that start at 1"),
}


@pytest.mark.parametrize("case", DISORDER)
def test_rows_in_another_usual_order_are_refused_by_its_name(case: str) -> None:
    users, user_id, order, name = DISORDER[case]
    with pytest.raises(InputError, match=r"give the ids in the order of the rows \(user_ids\)$") as error:
        Factors.from_arrays(users, ITEMS).caution(planted(user_id, int, order))
    assert f"rows of users are {name}" in str(error.value)


def test_both_sides_in_another_order_are_named() -> None:
    data = planted("u{}".format, "i{}".format)
    with pytest.raises(
        InputError, match=r"users are in .* and those of items are in natural .*\(user_ids and item_ids\)"
    ):
        Factors.from_arrays(USERS, ITEMS).caution(data)


def test_the_right_order_is_not_doubted() -> None:
    shuffled = planted(int, int, MIXED)
    assert Factors.from_arrays(USERS, ITEMS).caution(shuffled) == ""
    # Popularity on top, as factors of most libraries have it, and only a third of the items learned.
    common = np.hstack([ITEMS / 3, RNG.standard_normal((N_ITEMS, 1))])
    users = np.hstack([USERS, np.full((N_USERS, 1), 3.0)])
    best = np.argsort(-(users @ common.T), axis=1)[:, :LEARNED]
    frame = pl.DataFrame({"user": np.repeat(np.arange(N_USERS), LEARNED), "item": best.ravel()})
    data = Interactions.from_frame(frame.sample(fraction=1.0, shuffle=True, seed=0))
    factors = Factors.from_arrays(users, common, user_ids=range(N_USERS), item_ids=range(N_ITEMS))
    assert factors.caution(data) == ""


def test_rows_in_no_order_are_cautioned_against() -> None:
    data = planted(int, int)
    shuffled = np.random.default_rng(5).permutation(N_USERS)
    for factors in (
        Factors.from_arrays(USERS[shuffled], ITEMS),
        # Ids that are given are what counts: nothing else is guessed at.
        Factors.from_arrays(USERS, ITEMS, user_ids=shuffled),
        Factors.from_arrays(np.ones((N_USERS, 1)), ITEMS[:, :1]),
    ):
        assert "no better than shuffled rows would" in factors.caution(data)


BAD_IDS: dict[str, tuple[Any, str]] = {
    "too few": (range(59), "user_ids holds 59 ids for 60 rows of user factors"),
    "twice": ([*range(59), 3], "holds an id twice, or none for a row"),
    "none": ([*range(59), None], "holds an id twice, or none for a row"),
    "mapping": (dict(zip(range(60), range(60), strict=True)), "a dict has no order: give a list, one for each row"),
    "set": (set(range(60)), "a set has no order"),
    "columns": (np.arange(60)[:, None], r"an array of shape \(60, 1\) stands where a column is wanted"),
}


@pytest.mark.parametrize("case", BAD_IDS)
def test_ids_that_are_not_one_for_each_row_are_refused(case: str) -> None:
    ids, message = BAD_IDS[case]
    with pytest.raises(InputError, match=message):
        Factors.from_arrays(USERS, ITEMS, user_ids=ids)


BAD_FILES: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "missing": ("a.txt", lambda path: None, "does not exist: name a file of ids"),
    "table": (
        "a.npy",
        lambda path: np.save(path, np.ones((60, 2))),
        r"is no file of ids \(an array of shape \(60, 2\)",
    ),
    "pickled": ("a.npy", lambda path: np.save(path, np.array(["a", 1], dtype=object)), "is no file of ids"),
    "letters": ("a.txt", lambda path: path.write_bytes(b"\xff\xfe\x00"), "is no file of ids"),
    "no parquet": ("a.parquet", lambda path: path.write_text("a"), "is no file of ids"),
    "columns": ("a.csv", lambda path: path.write_text("a,b\n1,2\n"), "has columns a, b: keep one, or call .* 'user'"),
    "short": ("a.csv", lambda path: path.write_text("1\n2\n"), r"a\.csv holds 1 ids for 60 rows"),
    "no header": (
        "a.csv",
        lambda path: path.write_text("\n".join(map(str, range(60)))),
        "below a line with the name of their column, such as user",
    ),
    "rows": (
        "a.csv",
        lambda path: path.write_text("row,user\n" + "".join(f"{row // 2},{row}\n" for row in range(60))),
        "has a column 'row' that is not 0 to 59, each once",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_files_that_hold_no_ids_are_refused_with_a_sentence(case: str, tmp_path: Path) -> None:
    name, write, message = BAD_FILES[case]
    write(tmp_path / name)
    np.save(tmp_path / "U.npy", USERS)
    np.save(tmp_path / "V.npy", ITEMS)
    with pytest.raises(InputError, match=message) as error:
        Factors(users=tmp_path / "U.npy", items=tmp_path / "V.npy", user_ids=tmp_path / name).matched(planted(int, int))
    assert "\n" not in str(error.value)
