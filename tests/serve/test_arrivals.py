"""Rows for users and items that come after training, and lists for somebody without an id."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ciess
from ciess.cli import main
from ciess.data import Interactions
from ciess.errors import InputError
from ciess.models import Training
from ciess.models.als import closer_rows, interactions_a_row
from ciess.serve import user_map
from ciess.serve.arrivals import Weights, gramian, solved, weights_of
from ciess.serve.model import CompressedModel
from ciess.serve.seen import SeenItems
from ciess.serve.user_map import UserMap, mean_rows
from ciess.tables.encoding import Encoding
from ciess.tables.layout import stored_bytes
from ciess.tables.packed import PackedTable
from ciess.tables.plan import SizePlan, TableShape
from ciess.tables.precision import Precision
from ciess.tables.taper import Taper, read_encoding

DIM, USERS, ITEMS = 8, 60, 50


def pairs(users: list[Any], items: list[Any]) -> Interactions:
    """Interactions of users and items by ids; text if some are."""
    columns = {"user": users, "item": items}
    return Interactions.from_frame(
        pl.DataFrame(
            {name: ids if {*map(type, ids)} == {int} else list(map(str, ids)) for name, ids in columns.items()}
        )
    )


def data(seed: int = 0) -> Interactions:
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(USERS), rng.integers(2, 30, USERS))
    items = (rng.random(len(users)) ** 2 * ITEMS).astype(np.int64)
    both = np.unique(np.stack([users, items]), axis=1)
    return Interactions.from_pairs(both[0], both[1], pl.Series(np.arange(USERS)), pl.Series(np.arange(ITEMS) + 1000))


def packed(config: ciess.BackboneConfig, precision: str = "float32", seed: int = 0, **more: Any) -> CompressedModel:
    """With rows at random, of sizes that rise with interactions."""
    train, rng = data(seed), np.random.default_rng(seed)
    backbone, dim = config.build(train), config.dim
    counts = (train.user_counts, train.item_counts)
    plan = SizePlan(*(1 + np.argsort(np.argsort(n)) * dim // len(n) for n in counts), dim, read_encoding(precision))
    with torch.no_grad():
        for table, sizes in ((backbone.user_table, plan.user_sizes), (backbone.item_table, plan.item_sizes)):
            kept = np.arange(dim) < sizes[:, None]
            table.copy_(torch.from_numpy(rng.standard_normal(table.shape) * kept))
    return CompressedModel.pack(config, backbone, plan, train, **more)


ALS = ciess.ALS(dim=DIM, training=Training(steps=1, eval_every=1))
MF = ciess.MF(dim=DIM)
MANY = [*range(1000, 1030)]
TAPER = Taper.read("tapered:5,3x2,2x3,1x3")


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([*Precision, TAPER]), st.integers(1, 40), st.integers(1, 30))
def test_more_rows_leave_the_others_as_they_are_stored(seed: int, precision: Encoding, old: int, new: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = np.sort(rng.integers(1, 10, old).astype(np.int32))[::-1]
    table = PackedTable.pack(rng.standard_normal((old, 9)).astype(np.float32), sizes, precision)
    more, more_sizes = (
        rng.standard_normal((new, 9)).astype(np.float32),
        rng.integers(1, sizes[0] + 1, new).astype(np.int32),
    )
    found, order = table.with_rows(more, more_sizes)
    found.check()
    assert sorted(order) == [*range(old + new)]
    assert (np.concatenate([sizes, more_sizes])[order] == found.sizes).all()
    dense = found.dense()
    np.testing.assert_array_equal(dense[order < old], table.dense()[order[order < old]])
    for place in np.flatnonzero(order >= old):
        row = more[order[place] - old] * (np.arange(9) < found.sizes[place])
        if precision is TAPER:
            kept = np.flatnonzero(row)
            assert (dense[place][kept] * row[kept] > 0).all(), "levels lie on both sides of zero"
        elif precision is Precision.INT4_SHARED:
            # The scale is the others', which may clip it.
            step = float(found.scales_of(np.array([place]))[0])
            assert np.abs(dense[place] - row.clip(-7 * step, 7 * step)).max() <= 0.51 * step
        else:
            alone = PackedTable.pack(row[None], found.sizes[place : place + 1], precision).dense()[0]
            np.testing.assert_array_equal(dense[place], alone)


@pytest.mark.parametrize("precision", ["float32", "float16", "int6", "int4-shared", "tapered:5,3x2,2x5"])
def test_new_users_get_rows_and_nobody_elses_changes(precision: str, tmp_path: Path) -> None:
    model = packed(MF, precision)
    new = pairs([900, 900, 901], [1003, 1004, 1003])
    grown = model.with_users(new)
    before, after = model.score(np.arange(USERS)), grown.score(np.arange(USERS), model.item_ids)
    np.testing.assert_array_equal(before, after)
    assert grown.known([900, 901, 902]).tolist() == [True, True, False]
    assert len(model.users) == USERS, "the model itself stays"
    assert 1003 not in grown.recommend(901, k=ITEMS)[0].tolist(), "what a new user has is seen"
    again = ciess.load(grown.save(tmp_path), verify=True)
    np.testing.assert_array_equal(again.score([900, 901]), grown.score([900, 901]))
    assert again.about["added"] == {"users": 2}
    assert again.with_users(pairs([903], [1000])).about["added"] == {"users": 3}
    assert dict(zip(again.user_ids, np.diff(again.seen.offsets), strict=True))[900] == 2


def predicted(model: CompressedModel, has: list[int]) -> Any:
    """What `UserMap` says, by its formula alone."""
    users, items = model.vectors()
    matrix = model._seen_matrix.toarray()
    counts = matrix.sum(1)
    means = matrix @ items / counts[:, None]
    apart = means - means.mean(0)
    within = sum((items[row > 0] - mean).T @ (items[row > 0] - mean) for row, mean in zip(matrix, means, strict=True))
    fewer = max(0, 1 / len(has) - (1 / counts).mean())
    variance = apart.T @ apart / len(users)
    variance += 0.01 * np.trace(variance) / len(variance) * np.eye(len(variance))
    variance += fewer * within / (counts.sum() - len(users))
    mean = items[model.item_index.rows(has)].mean(0) - means.mean(0)
    return mean @ np.linalg.solve(variance, apart.T @ users / len(users)) + users.mean(0)


@pytest.mark.parametrize("has", [[1003], [1003, 1004, 1005], [*range(1000, 1015)]])
def test_a_new_row_is_what_the_models_users_have_with_such_items_cut_to_the_size_of_its_like(has: list[int]) -> None:
    model = packed(MF)
    grown = model.with_users(pairs([900] * len(has), has))
    row = grown.user_index.rows([900])
    size = int(grown.users.sizes[row[0]])
    wanted = predicted(model, has) * (np.arange(DIM) < size)
    np.testing.assert_allclose(grown.users.rows(row)[0], wanted, rtol=1e-4, atol=1e-5)
    counts = model.interactions.user_counts
    like = model.users.sizes[counts == counts[np.abs(counts - len(has)).argmin()]]
    assert abs(size - like.mean()) <= 1.5


def test_new_users_hold_the_constant_that_biases_of_items_are_multiplied_with() -> None:
    """Users' last number is 1, and the items' what they are worth to anybody: most of all that counts."""
    rng = np.random.default_rng(0)
    model = packed(MF, "float16")
    users, items = np.hstack([rng.standard_normal((USERS, DIM - 1)), np.ones((USERS, 1))]), model.items.dense()
    items[:, -1] = -5 - 5 * rng.random(ITEMS)
    tables = [
        PackedTable.pack(each.astype(np.float32), np.full(len(each), DIM, dtype=np.int32), Precision.FLOAT16)
        for each in (users, items)
    ]
    model = dataclasses.replace(model, users=tables[0], items=tables[1])
    grown = model.with_users(pairs([900] * 3, [1003, 1004, 1005]), budget="100%")
    assert grown.users.rows(grown.user_index.rows([900]))[0, -1] == pytest.approx(1, abs=1e-3)


def test_a_model_that_learned_nothing_of_its_users_takes_the_mean() -> None:
    seen = SeenItems.of(np.zeros(3, dtype=np.int64), np.zeros(0, dtype=np.int64), 4)
    fitted = UserMap.fitted(lambda at: np.ones((len(at), 2), np.float32), lambda at: np.ones((len(at), 2)), 2, seen)
    np.testing.assert_allclose(fitted.rows(np.array([[3.0, -4.0]]), np.array([2])), [[3, -4]])


def test_means_of_items_do_not_depend_on_who_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    table, counts = rng.standard_normal((40, 4)).astype(np.float32), rng.integers(1, 40, 200)
    columns, offsets = rng.integers(0, 40, counts.sum()), np.concatenate([[0], np.cumsum(counts)])
    wanted = [table[part].mean(0, dtype=np.float64) for part in np.split(columns, offsets[1:-1])]
    for most in (4, 200, 10**6):
        monkeypatch.setattr(user_map, "_NUMBERS_AT_ONCE", most)
        np.testing.assert_allclose(mean_rows(table.__getitem__, offsets, columns, 4), wanted)


def by_als(interactions: Any, other: torch.Tensor, sizes: Any, weight: float) -> Any:
    """Rows of ALS' own solver, after more steps than they have dimensions."""
    start = torch.zeros(interactions.shape[0], DIM)
    return closer_rows(interactions, start, other, sizes, ALS.alpha, weight, steps=3 * DIM).numpy()


@pytest.mark.parametrize("refit", [False, True])
def test_new_rows_weigh_norms_as_the_model_did_that_was_trained(split: ciess.Split, refit: bool) -> None:
    config = ciess.ALS(dim=DIM, regularisation=2.5, training=Training(steps=1))
    found = ciess.search(split, backbone=config, budgets="60%", method="popularity", tune=False, refit=refit)
    weights = weights_of(found.models["60%"])
    assert weights is not None
    assert weights.regularisation == pytest.approx(2.5 * interactions_a_row(split.train))


def test_new_items_weigh_norms_alike_whoever_came_before() -> None:
    model = packed(ALS)
    grown = model.with_users(pairs([*range(900, 990)], [MANY[0]] * 90), budget="99%")
    assert weights_of(grown) == pytest.approx(weights_of(model))


def test_new_items_of_als_are_found_and_recommended() -> None:
    model = packed(ALS)
    fans = [*range(25)]
    grown = model.with_items(pairs([*fans, 0], [2000] * 25 + [2001]))
    rows = grown.item_index.rows([2000, 2001])
    weight = ALS.regularisation * len(model.seen.items) / (USERS * ITEMS) ** 0.5
    has = grown._seen_matrix.T.tocsr()[rows]
    users = torch.from_numpy(grown.users.dense())
    wanted = by_als(has, users, grown.items.sizes[rows], weight)
    np.testing.assert_allclose(grown.items.rows(rows), wanted, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(grown.score([3, 40], model.item_ids), model.score([3, 40]))
    for user in (0, 59):
        assert (2000 in grown.recommend(user, k=ITEMS + 2)[0].tolist()) == (user == 59)


def test_rows_are_solved_alike_whoever_else_is() -> None:
    """Chunks and counts do not matter; a small other side, so that all are mixed."""
    rng = np.random.default_rng(0)
    table = PackedTable.pack(rng.standard_normal((40, 4)).astype(np.float32), np.full(40, 4, dtype=np.int32))
    counts = rng.integers(1, 40, 200)
    columns = np.concatenate([np.sort(rng.permutation(40)[:n]) for n in counts])
    offsets, sizes = np.concatenate([[0], np.cumsum(counts)]), rng.integers(1, 5, 200).astype(np.int32)
    given = (Weights(15.0, 2.0), gramian(table))
    together = solved(table.rows, offsets, columns, sizes, *given)
    for row in range(0, 200, 17):
        own = columns[offsets[row] : offsets[row + 1]]
        alone = solved(table.rows, np.array([0, len(own)]), own, sizes[row : row + 1], *given)
        np.testing.assert_allclose(together[row], alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "int4"])
def test_budgets_hold_when_rows_are_added(precision: str) -> None:
    model = packed(MF, precision)
    share = model.table_bytes / model.plan.shape.full_bytes
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(500, 560), 20)
    new = pairs(users.tolist(), (1000 + rng.integers(0, ITEMS, len(users))).tolist())
    grown = model.with_users(new)
    assert grown.table_bytes == stored_bytes(grown.plan) <= share * grown.plan.shape.full_bytes
    assert grown.plan.user_sizes.mean() > model.plan.user_sizes.mean() * 0.8
    tight = model.table_bytes + 60 * 8
    small = model.with_users(new, budget=f"{tight}B")
    assert model.table_bytes < small.table_bytes <= tight
    told = r"new rows do not fit \(60\) into .* bytes: give a budget of '(.*)' or more, or search anew"
    with pytest.raises(InputError, match=told) as refused:
        model.with_users(new, budget=f"{model.table_bytes}B")
    found = re.search(told, str(refused.value))
    assert found is not None
    assert model.with_users(new, budget=found[1]).users.sizes.min() == 1


def test_a_new_user_fits_where_users_have_longer_rows_than_items() -> None:
    model = packed(MF)
    users = PackedTable.pack(model.users.dense(), np.full(USERS, DIM, dtype=np.int32))
    items = PackedTable.pack(model.items.dense(), np.full(ITEMS, 2, dtype=np.int32))
    model = dataclasses.replace(model, users=users, items=items)
    grown = model.with_users(pairs([900], [1003]))
    assert 1 <= grown.users.sizes[-1] < DIM
    assert grown.table_bytes / grown.plan.shape.full_bytes <= model.table_bytes / model.plan.shape.full_bytes


def test_tables_that_are_smaller_than_their_index_name_bytes_that_are_enough() -> None:
    """Of a hundred percent new rows never fit."""
    tiny = ciess.Interactions.from_frame(pl.DataFrame({"user": [0, 0, 1], "item": [0, 1, 1]}))
    config = ciess.MF(dim=1)
    model = CompressedModel.pack(config, config.build(tiny), SizePlan.equal(TableShape(2, 2, 1), 1), tiny)
    new = ciess.Interactions.from_frame(pl.DataFrame({"user": [2], "item": [0]}))
    with pytest.raises(InputError, match=r"give a budget of '\d+B' or more") as refused:
        model.with_users(new, budget="100%")
    enough = str(refused.value).split("'")[1]
    assert model.with_users(new, budget=enough).table_bytes == int(enough[:-1])


def test_what_was_seen_but_not_learned_stays_so() -> None:
    more = data().union(pairs([0, 1], [1049, 1049]).over(data().user_ids, data().item_ids))
    model = packed(MF, given=more)
    grown = model.with_users(pairs([900], [1049]))
    assert model.seen.learned is not None
    for user in (0, 1, 900, 30):
        [before], [after] = model.user_index.rows([user]), grown.user_index.rows([user])
        wanted = 1 if user == 900 else model.seen.learned_counts(np.array([before]))[0]
        assert grown.seen.learned_counts(np.array([after]))[0] == wanted
    assert 1049 not in grown.recommend(0, k=ITEMS)[0].tolist()


def test_what_cannot_get_rows_is_left_out_with_a_warning_or_refused(caplog: pytest.LogCaptureFixture) -> None:
    model = packed(MF)
    grown = model.with_users(pairs([900, 900, 901, 0], [1003, "x", "x", 1003]))
    assert len(grown.users) == USERS + 1
    assert "3 of 4 interactions left out: their users have rows already, or their items have none" in caplog.text
    for new in (pairs([0], [1003]), pairs([900], ["x"])):
        with pytest.raises(
            InputError, match="no interaction is of a new user with an item that the model knows: check their ids"
        ):
            model.with_users(new)
    with pytest.raises(InputError, match="of type list: give Interactions"):
        model.with_users([1])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="mf has no rows for new items: train it anew, or use als"):
        model.with_items(pairs([0], [2000]))
    graph = packed(ciess.LightGCN(dim=DIM))
    for grow in (graph.with_users, graph.with_items):
        with pytest.raises(InputError, match=r"lightgcn mixes rows, .*: search with target='output', or"):
            grow(pairs([900], [1003]))
    with pytest.raises(InputError, match=r"ncf mixes rows, .*: search anew, or use als or mf"):
        packed(ciess.NCF(dim=DIM)).with_users(pairs([900], [1003]))
    with pytest.raises(InputError, match="alpha is 'x': give a finite number"):
        dataclasses.replace(model, settings={"name": "als", "alpha": "x"}).with_users(pairs([900], [1003]))


def test_ids_may_be_of_another_kind_than_the_models() -> None:
    grown = packed(MF).with_users(pairs(["ann", "7x"], [1003, 1004]))
    assert grown.known(["ann", 5, "5", "7x", "bob"]).tolist() == [True, True, True, True, False]


@pytest.mark.parametrize("precision", ["float32", "int8", "int4-shared", "tapered:4x2,2x6"])
@pytest.mark.parametrize("config", [MF, ALS, ciess.LightGCN(dim=DIM)])
def test_somebody_without_an_id_gets_what_goes_with_what_they_have(
    config: ciess.BackboneConfig, precision: str
) -> None:
    model = packed(config, precision)
    vectors = model.vectors()[1]
    has = [1003, 1004, 1007]
    ids, scores = model.recommend(items=has, k=5)
    rows = model.item_index.rows(has)
    wanted = vectors @ predicted(model, has)
    wanted[rows] = -np.inf
    assert ids.tolist() == model.item_ids[np.argsort(-wanted)[:5]].tolist()
    np.testing.assert_allclose(scores, np.sort(wanted)[::-1][:5], rtol=1e-4)
    assert set(has) & set(model.recommend(items=has, k=ITEMS, exclude_seen=False)[0].tolist()) == set(has)
    assert model.recommend(items=has, k=2, candidates=[1001, 1002])[0].tolist() in ([1001, 1002], [1002, 1001])


def test_many_items_are_served_as_a_new_user_of_full_size_is() -> None:
    model = packed(ALS)
    model = dataclasses.replace(model, users=PackedTable.pack(model.users.dense(), np.full(USERS, DIM, np.int32)))
    ids, scores = model.recommend(items=MANY, k=10)
    wanted, wanted_scores = model.with_users(pairs([900] * 30, MANY), budget="100%").recommend(900, k=10)
    assert ids.tolist() == wanted.tolist()
    np.testing.assert_allclose(scores, wanted_scores, rtol=1e-4)


def test_items_that_nobody_knows(caplog: pytest.LogCaptureFixture) -> None:
    model = packed(MF)
    popular, _ = model.recommend("nobody", k=3)
    for items in (["x", "y"], []):
        found, none = model.recommend(items=items, k=3)
        assert found.tolist() == popular.tolist()
        assert np.isnan(none).all()
    assert "items: the model does not know 2 of 2 items" in caplog.text
    assert model.recommend(items=["x", 1003], k=3)[0].tolist() == model.recommend(items=1003, k=3)[0].tolist()
    for wrong in ({}, {"user_ids": 3, "items": [1003]}):
        with pytest.raises(InputError, match="users and items are both given, or neither"):
            model.recommend(**wrong)
    with pytest.raises(InputError, match=r"ncf does not score by inner products, .*: use als, mf,"):
        packed(ciess.NCF(dim=DIM)).recommend(items=[])
    with pytest.raises(InputError, match="exclude_seen is of type str: give a bool"):
        model.recommend(3, exclude_seen="no")  # type: ignore[arg-type]


def test_the_command_recommends_by_items(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = packed(MF).save(tmp_path)
    main(["recommend", str(folder), "--items", "1003", "1004", "-k", "2", "--json"])
    [told] = json.loads(capsys.readouterr().out)
    wanted, scores = ciess.load(folder).recommend(items=["1003", "1004"], k=2)
    assert told == {"user": None, "has": ["1003", "1004"], "known": True} | {
        "items": wanted.tolist(),
        "scores": pytest.approx(scores.tolist()),
    }
    main(["recommend", str(folder), "--items", "-x", "-k", "1"])
    assert capsys.readouterr().out.startswith("for -x (unknown items: popular items): ")
    with pytest.raises(SystemExit):
        main(["recommend", str(folder), "--items", "1003", "--users", "3"])
    assert "--items and users are both given" in capsys.readouterr().err
