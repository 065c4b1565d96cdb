import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from scipy.sparse import csr_array, save_npz

import ciess
from ciess.cli import main
from ciess.data import Interactions, Split, read, split_given
from ciess.errors import InputError
from ciess.experiment.compress import compress
from ciess.experiment.given import LEARNED, below_popularity, given, matched
from ciess.experiment.outcome import Outcome
from ciess.models.factors import Factors

QUICK = {"budgets": ["60%"], "precision": "int8"}
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


def test_tables_and_a_matrix_become_a_model_of_the_same_rows(trained: tuple[Tables, csr_array], tmp_path: Path) -> None:
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
    assert (outcome.shown, outcome.settings["cautions"]) == ("validation", [LEARNED])
    outcome.save(tmp_path)
    assert LEARNED in (tmp_path / "report.md").read_text()


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


def test_a_budget_that_is_too_small_is_refused_before_interactions_are_read(
    trained: tuple[Tables, csr_array], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables, _ = trained
    with pytest.raises(InputError, match=r"0\.1%"):
        compress(tables, "no file", budgets=["0.1%"])
    for name, table in zip("UV", tables, strict=True):
        np.save(tmp_path / f"{name}.npy", table)
    command = [
        "compress",
        "--users",
        str(tmp_path / "U.npy"),
        "--items",
        str(tmp_path / "V.npy"),
        "--interactions",
        "none",
    ]
    with pytest.raises(SystemExit):
        main([*command, "--budgets", "0.1%", "--out", str(tmp_path / "out")])
    assert "0.1%" in capsys.readouterr().err


def test_ids_that_are_not_the_rows_numbers_are_refused(trained: tuple[Tables, csr_array]) -> None:
    tables, _ = trained
    for ids in (["a", "b", "c"], [1, 2, 81], [-1, 0, 1]):
        frame = pl.DataFrame({"user": ids, "item": [0, 1, 2]})
        with pytest.raises(InputError, match=r"3 users, whose ids are not all numbers in 0\.\.80: give the ids"):
            compress(Factors.from_arrays(*tables), Interactions.from_frame(frame), budgets=["60%"])


class Planted:
    """Factors whose rows are in an order of their own, and for each user the 12 + 4 items that they score highest.

    The four best are held out; one more item has a row, no interactions, and is what user 0 likes best of all.
    """

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        users, items = rng.standard_normal((60, 8)), rng.standard_normal((51, 8))
        items[50] = 3 * users[0]
        best = np.argsort(-(users @ items[:50].T), axis=1)
        self.order = rng.permutation(60)
        self.factors = torch.tensor(users[self.order], dtype=torch.bfloat16, requires_grad=True), items
        self.user_ids, self.item_ids = [f"u{row}" for row in self.order], [f"i{row}" for row in range(51)]
        self.learned, self.held_out = (
            pl.DataFrame(
                [(f"u{user}", f"i{item}") for user in range(60) for item in best[user, part]],
                schema=["user", "item"],
                orient="row",
            )
            for part in (slice(4, 16), slice(4))
        )

    @property
    def ids(self) -> dict[str, list[str]]:
        return {"user_ids": self.user_ids, "item_ids": self.item_ids}


@pytest.fixture(scope="module")
def planted() -> Planted:
    return Planted()


@pytest.fixture(scope="module")
def measured(planted: Planted) -> Outcome:
    return compress(planted.factors, planted.learned, **planted.ids, held_out=planted.held_out, **QUICK)


def test_held_out_interactions_are_what_is_measured(planted: Planted, measured: Outcome) -> None:
    assert (measured.shown, measured.settings["cautions"]) == ("test", [])
    assert measured.row("full").metrics["recall@20"] == 1.0
    data = measured.settings["data"]
    assert (data["train"], data["valid"], data["test"]) == (60 * 12, 120, 120)


def test_what_has_no_row_is_told_and_does_not_count(planted: Planted) -> None:
    extra = pl.concat([planted.held_out, pl.DataFrame({"user": ["u0", "u1"], "item": ["new", "newer"]})])
    found = compress(planted.factors, planted.learned, **planted.ids, held_out=extra, **QUICK)
    told = "2 of 242 interactions of held_out do not count, since the tables have no rows for their users or items"
    assert found.cautions[0].startswith(told)
    assert found.row("full").metrics["recall@20"] == 1.0
    factors = Factors.from_arrays(*planted.factors)
    split = split_given(*(Interactions.from_frame(part) for part in (planted.learned, extra)))
    with pytest.raises(InputError, match="51 rows of item factors for 50 items"):
        matched(split, factors)
    known, [caution] = matched(split, factors.with_ids(**planted.ids))
    assert isinstance(known, Split)
    assert (known.train.n_items, len(known.valid)) == (len(planted.item_ids), 240)
    assert caution.startswith("2 of 242 interactions of validation do not count")


@pytest.mark.parametrize("name", ["{}", "u{}"])
def test_held_out_may_lack_users_and_items_and_have_others(name: str) -> None:
    """Without ids: rows are those of the interactions, in the order of their ids, from 1."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(50, 4)), rng.normal(size=(40, 4))
    best = np.argsort(-factors[0] @ factors[1].T)
    learned, held_out = (
        pl.DataFrame(
            [(name.format(user + 101), name.format(int(item) + 101)) for user in users for item in best[user, part]]
            + others,
            schema=["user", "item"],
            orient="row",
        )
        for users, part, others in (
            (range(50), slice(4, 20), []),
            (range(49), slice(4), [(name.format(900), name.format(101))]),
        )
    )
    found = compress(factors, learned, held_out=held_out, **QUICK)
    assert found.row("full").metrics["recall@20"] == 1.0
    assert found.cautions[0].startswith("1 of 197 interactions of held_out do not count")


def test_without_ids_rows_are_those_of_train_alone() -> None:
    """Validation adds an item in the middle of the others' ids, which has no row."""
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(90, 4)), rng.normal(size=(20, 4))
    best = np.argsort(-users @ items.T)
    pairs = [(user, 2 * int(item)) for user in range(90) for item in best[user, :8]]
    learned, held_out = ([pair for n, pair in enumerate(pairs) if (n % 8 < 6) is first] for first in (True, False))
    frames = (pl.DataFrame(each, schema=["user", "item"], orient="row") for each in (learned, [*held_out, (3, 7)]))
    split = split_given(*map(Interactions.from_frame, frames))
    known, [caution] = matched(split, Factors.from_arrays(users, items))
    assert isinstance(known, Split)
    assert known.train.item_ids.to_list() == [2 * item for item in range(20)]
    assert len(known.valid) == len(held_out)
    assert "1 of 181 interactions of validation" in caution


def test_ids_say_which_row_is_whose_and_items_without_interactions_are_recommended(
    planted: Planted, measured: Outcome
) -> None:
    [model] = measured.models.values()
    known = set(planted.learned.rows())
    assert model.recommend("u0", k=1)[0][0] == "i50"
    for user in ("u0", "u7", "u59"):
        assert not known & {(user, item) for item in model.recommend(user, k=30)[0]}


def test_what_must_be_said_about_factors_is_said(planted: Planted) -> None:
    users, items = planted.factors
    turned = Factors.from_arrays(users.flip(0), items, **planted.ids)
    assert "no better than shuffled rows would" in given(planted.learned, turned, seed=0).cautions[0]
    right = Factors.from_arrays(users, items, **planted.ids)
    found = given(planted.learned, right, seed=0)
    assert found.cautions == (LEARNED,)
    # Those who say what is held out know what is learned.
    assert given(found.split, right, seed=0).cautions == ()


def test_tables_that_rank_no_better_than_popularity_are_cautioned_against() -> None:
    # Users 0 to 19 have item 0 and one of their own, users 20 to 39 the latter, and get item 0 next.
    own = csr_array(np.eye(40, 41, k=1))
    train, valid = own.copy().tolil(), csr_array((40, 41)).tolil()
    train[:20, 0] = valid[20:, 0] = 1
    split = Split(*(Interactions.from_matrix(each.tocsr()) for each in (train, valid)))
    # Users 20 to 39 have neither item 1 nor 2: what these score decides on item 0's rank.
    for scores, said in (([3, 4, 0], "is 0.6309, .* is 1.0000"), ([0, 0, 0], "is 0.0000, "), ([3, 2, 2], None)):
        items = np.ones((41, 1))
        items[:3, 0] = scores
        cautions = below_popularity(Factors.from_arrays(np.ones((40, 1)), items), split)
        assert len(cautions) == (said is not None)
        assert said is None or re.search(said, cautions[0])


def test_rows_in_order_of_appearance_are_refused_before_anything_is_searched(planted: Planted) -> None:
    learned = pl.concat([planted.learned.filter(pl.col("user") == user) for user in planted.user_ids])
    items = {"item_ids": planted.item_ids}
    with pytest.raises(InputError, match=r"rows of users are in order of first appearance: .* \(user_ids\)"):
        compress(planted.factors, learned, **items, **QUICK)
    with pytest.raises(InputError, match=r"rows of users are in order of first appearance"):
        ciess.search(learned, backbone=Factors.from_arrays(*planted.factors, **items), budgets=["60%"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "flot16"}, r"precision is 'flot16': use .* \(did you mean 'float16'\?\)"),
        ({"budgets": ["5"]}, "budget"),
        ({"seed": -1}, "seed is -1"),
        ({"held_out": pl.DataFrame({"user": ["u1"], "item": ["i1"]})}, "held_out has one interaction"),
        ({"held_out": pl.DataFrame({"user": ["v"], "item": ["i1"]})}, "no interaction has a user and an item"),
    ],
)
def test_settings_are_checked(planted: Planted, settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compress(planted.factors, planted.learned, **planted.ids, **{**QUICK, **settings})


def test_factors_are_a_pair_of_tables(planted: Planted) -> None:
    for factors in (planted.factors[0], "U.npy", None):
        with pytest.raises(InputError, match=r"give a pair of tables, users and items, or ciess\.Factors"):
            compress(factors, planted.learned)  # type: ignore[arg-type]


@pytest.mark.parametrize("command", ["compress", "search"])
def test_the_commands_read_ids(
    command: str, planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    users, items = planted.factors
    np.save(tmp_path / "U.npy", users.detach().float())
    np.save(tmp_path / "V.npy", items)
    (tmp_path / "users.txt").write_text("\n".join(planted.user_ids))
    pl.DataFrame({"item": planted.item_ids}).write_csv(tmp_path / "items.csv")
    for name, frame in (("data.csv", planted.learned), ("held.csv", planted.held_out)):
        frame.write_csv(tmp_path / name)
    at = {name: str(tmp_path / name) for name in ("U.npy", "V.npy", "data.csv", "held.csv", "users.txt", "items.csv")}
    ids = ["--user-ids", at["users.txt"], "--item-ids", at["items.csv"]]
    if command == "compress":
        data = ["--users", at["U.npy"], "--items", at["V.npy"], "--interactions", at["data.csv"]]
        data += ["--held-out", at["held.csv"], "--precision", "int8"]
    else:
        data = [at["data.csv"], "--backbone", "factors", "--user-factors", at["U.npy"], "--item-factors", at["V.npy"]]
        data += ["--method", "popularity"]
    main([command, *data, *ids, "--budgets", "60%", "--out", str(tmp_path / "out")])
    assert ciess.load(tmp_path / "out" / "budget-60").recommend("u0", k=1)[0][0] == "i50"
    printed = capsys.readouterr().out
    assert re.search(r"full model +– +1\.0000", printed)
    assert ("Caution: measured on interactions that the factors have probably learned" in printed) is (
        command == "search"
    )


def test_a_file_that_holds_no_matrix_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "dense.npz", a=np.ones(3))
    for name in ("text.npz", "dense.npz"):
        with pytest.raises(InputError, match=r"holds no sparse matrix.*: write it with scipy\.sparse\.save_npz"):
            read(tmp_path / name)
