"""Scores by ids, lists of items to leave out or to choose from, users without interactions, and odd arguments."""

import dataclasses
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

import ciess
from ciess.data import Interactions
from ciess.errors import InputError
from ciess.models import backbone_named
from ciess.serve.model import CompressedModel
from ciess.serve.ranking import popular_items
from ciess.serve.seen import SeenItems
from ciess.tables.plan import SizePlan

HAS = {"a": ["w", "x"], "b": ["w"], "c": ["w", "y", "z"], "cold": []}
USERS, ITEMS = pl.Series(list(HAS)), pl.Series(["v", "w", "x", "y", "z"])


def interactions(has: dict[str, list[str]]) -> Interactions:
    dense = np.array([[item in has[user] for item in ITEMS] for user in USERS], dtype=np.float32)
    return Interactions(csr_array(dense), USERS, ITEMS, None)


DATA = interactions(HAS)
USER_ROWS = np.array([[1, 0], [0, 1], [1, 1], [2, -1]], dtype=np.float32)
ITEM_ROWS = np.array([[1, 2], [5, 5], [3, 1], [0, 4], [2, 0]], dtype=np.float32)


def pack(config: ciess.BackboneConfig, **more: Any) -> CompressedModel:
    """Sizes rise with the rows, so that packed tables lie in another order than ids."""
    backbone = ciess.Factors.from_arrays(USER_ROWS, ITEM_ROWS).build(DATA)
    plan = SizePlan(np.array([1, 2, 2, 2]), np.array([2, 2, 2, 2, 1]), 2)
    return CompressedModel.pack(config, backbone, plan, DATA, **more)


@pytest.fixture(params=[True, False], ids=["numpy", "torch"])
def model(request: pytest.FixtureRequest) -> CompressedModel:
    """Rows by hand that count as learned here."""
    return dataclasses.replace(pack(ciess.MF(dim=2)), rows_stand_alone=request.param)


def test_ids_may_come_in_any_container(model: CompressedModel) -> None:
    expected = model.recommend(["b", "a"], k=1)[0].tolist()
    for users in ({1: "b", 2: "a"}.values(), dict.fromkeys("ba").keys(), iter("ba"), (each for each in "ba")):
        assert model.recommend(users, k=1)[0].tolist() == expected


def test_scores_are_those_of_the_ids(model: CompressedModel) -> None:
    assert model.score("b", "y") == 4
    assert model.score("c", ["x", "v"]).tolist() == [4, 3]
    assert model.score(["c", "b"], "v").tolist() == [3, 2]
    assert model.score(["b", "a"], ["v", "z", "w"]).tolist() == [[2, 0, 5], [1, 2, 5]]
    everything = dict(zip(model.item_ids, model.score("c"), strict=True))
    assert everything == {"v": 3, "w": 10, "x": 4, "y": 4, "z": 2}


def test_unknown_ids_have_no_score(model: CompressedModel) -> None:
    scores = model.score(["b", "nobody", "cold"], ["v", "nothing"])
    assert scores[0, 0] == 2
    assert np.isnan(scores).tolist() == [[False, True], [True, True], [True, True]]
    assert model.score([], ["v"]).shape == (0, 1)


def test_vectors_lie_in_the_order_of_the_ids(model: CompressedModel) -> None:
    users, items = model.vectors()
    for user, vector in zip(model.user_ids, users, strict=True):
        if user != "cold":
            np.testing.assert_array_equal(items @ vector, model.score(user, model.item_ids))
    items[:] = 0
    assert model.score("b", "y") == 4, "what is given away is not what is scored with"


def test_items_that_are_excluded_are_recommended_to_nobody(model: CompressedModel) -> None:
    items, scores = model.recommend(["a", "b"], k=3, exclude=["v", "nothing"])
    assert items.tolist() == [["z", "y", None], ["y", "x", "z"]]
    assert scores.tolist() == [[2, 0, -np.inf], [4, 1, 0]]
    assert model.recommend("b", k=1, exclude="y")[0].tolist() == ["v"]


def test_only_candidates_are_recommended(model: CompressedModel) -> None:
    items, scores = model.recommend("c", k=3, candidates=["v", "w", "nothing"])
    assert (items.tolist(), scores.tolist()) == (["v", None, None], [3, -np.inf, -np.inf])
    items, _ = model.recommend(["c", "b"], k=2, exclude_seen=False, candidates=["v", "w", "x"], exclude=["w"])
    assert items.tolist() == [["x", "v"], ["v", "x"]]
    assert model.recommend("b", k=2, candidates=[])[0].tolist() == [None, None]


def test_lists_count_for_unknown_users_too(model: CompressedModel) -> None:
    items, scores = model.recommend(["nobody", "b"], k=3, candidates=["y", "w", "x", "z"], exclude=["y"])
    assert items.tolist() == [["w", "x", "z"], ["x", "z", None]]
    assert np.isnan(scores[0]).all()
    items, scores = model.recommend("nobody", k=3, candidates=["z"])
    assert items.tolist() == ["z", None, None]
    assert np.isneginf(scores[1:]).all()


def test_users_of_whom_nothing_was_learned_get_popular_items_and_a_flag(model: CompressedModel) -> None:
    items, scores = model.recommend(["cold", "b"], k=2)
    assert items[0].tolist()[0] == "w", "three have it"
    assert np.isnan(scores[0]).all()
    assert np.isfinite(scores[1]).all()
    assert model.known(["cold", "b", "nobody"]).tolist() == [False, True, False]


def test_what_a_user_has_is_left_out_though_it_was_not_learned(tmp_path: Any) -> None:
    given = interactions({**HAS, "cold": ["w", "v"]})
    model = pack(ciess.MF(dim=2), given=given)
    for each in (model, ciess.load(model.save(tmp_path))):
        assert set(each.recommend("cold", k=3)[0]) == {"x", "y", "z"}
        assert each.recommend("cold", k=1, exclude_seen=False)[0].tolist() == ["w"]
        assert not each.known("cold").any()


def test_tables_trained_elsewhere_may_know_users_without_interactions(tmp_path: Any) -> None:
    model = pack(ciess.Factors.from_arrays(USER_ROWS, ITEM_ROWS))
    for each in (model, ciess.load(model.save(tmp_path))):
        items, scores = each.recommend("cold", k=1)
        assert (items.tolist(), scores.tolist()) == (["w"], [5])
    # Outputs of a backbone are kept as factors, too, but were trained here.
    assert np.isnan(pack(ciess.Factors(dim=2)).recommend("cold", k=1)[1]).all()


@pytest.mark.parametrize("k", [3.0, np.int32(3), np.float64(3), np.uint8(3)])
def test_whole_numbers_of_any_type_will_do_as_k(model: CompressedModel, k: Any) -> None:
    assert model.recommend("b", k=k)[0].tolist() == ["y", "v", "x"]
    assert model.evaluate(DATA, k=k).items.shape == (3, 3)


@pytest.mark.parametrize("k", [0, -1, 2.5, np.nan, np.inf, True, "3", None, 6])
def test_other_k_are_refused_with_a_sentence(model: CompressedModel, k: Any) -> None:
    with pytest.raises(InputError, match=f"^k is {k!r}: ask for 1 to 5 items$"):
        model.recommend("b", k=k)
    if k != 6:
        with pytest.raises(InputError, match=f"^k is {k!r}: give a whole number of 1 or more$"):
            model.evaluate(DATA, k=k)


@pytest.mark.parametrize("nested", [[["a"], ["b"]], [["a", "b"], ["c"]], np.array([["a"]])])
def test_lists_of_lists_are_refused_with_a_sentence(model: CompressedModel, nested: Any) -> None:
    with pytest.raises(InputError, match="user_ids are lists of lists"):
        model.recommend(nested, k=1)
    with pytest.raises(InputError, match="exclude are lists of lists"):
        model.recommend("b", k=1, exclude=nested)
    with pytest.raises(InputError, match="item_ids are lists of lists"):
        model.score("b", nested)


def test_sets_and_iterators_will_do_as_lists(model: CompressedModel) -> None:
    assert model.recommend(iter(["b"]), k=2, exclude={"y"}, candidates=HAS["c"])[0].tolist() == [["z", None]]
    assert model.recommend({"b": 1}.keys(), k=1)[0].tolist() == [["y"]]


def test_evaluate_is_a_function_of_models() -> None:
    model = pack(ciess.MF(dim=2))
    found = ciess.evaluate(model, interactions({**HAS, "b": ["y"], "a": ["v"], "c": []}), k=2)
    # b: y is first. a: z comes before v, and w and x are left out.
    assert found.per_user("recall@2").tolist() == [1, 1]
    assert found.per_user("mrr@2").tolist() == [0.5, 1]
    with pytest.raises(InputError, match="model is of type MF: give a CompressedModel"):
        ciess.evaluate(ciess.MF(), DATA)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="interactions cannot be of type int: give Interactions"):
        ciess.evaluate(model, 3)  # type: ignore[arg-type]


@given(st.integers(0, 9_999))
@settings(max_examples=50)
def test_numpy_and_pytorch_agree_on_lists(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = ciess.synthetic(users=12, items=15, mean_count=4, seed=seed).interactions
    config = backbone_named("mf", dim=4)
    plan = SizePlan(rng.integers(1, 5, data.n_users), rng.integers(1, 5, data.n_items), 4)
    model = CompressedModel.pack(config, config.build(data, seed), plan, data)
    other = dataclasses.replace(model, rows_stand_alone=False)
    exclude, candidates = (rng.choice(model.item_ids, 5).tolist() if rng.random() < 0.7 else None for _ in range(2))
    asked: Any = {"k": int(rng.integers(1, data.n_items + 1)), "exclude_seen": bool(rng.integers(2))}
    users = [*model.user_ids, "nobody"]
    items, scores = model.recommend(users, exclude=exclude, candidates=candidates, **asked)
    theirs, their_scores = other.recommend(users, exclude=exclude, candidates=candidates, **asked)
    np.testing.assert_array_equal(items, theirs)
    np.testing.assert_allclose(scores, their_scores, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(model.score(users), other.score(users), rtol=1e-5, atol=1e-7)
    for user, row, values in zip(users[:-1], items, scores, strict=False):
        left = [each for each in row if each is not None]
        np.testing.assert_allclose(values[: len(left)], model.score(user, left), rtol=1e-5, atol=1e-7)


def test_popular_items_are_the_first_that_are_left() -> None:
    seen = SeenItems.of(np.array([0, 2, 2]), np.array([0, 3]), 4)
    order, rows = np.array([3, 1, 0, 2]), np.array([0, -1, 1])
    assert popular_items(order, rows, 3, seen).tolist() == [[1, 2, -1], [3, 1, 0], [3, 1, 0]]
    allowed = np.array([True, False, False, True])
    assert popular_items(order, rows, 3, seen, allowed).tolist() == [[-1, -1, -1], [3, 0, -1], [3, 0, -1]]
    assert popular_items(order, rows, 1).tolist() == [[3], [3], [3]]


def test_items_that_the_model_does_not_know_are_told(model: CompressedModel, caplog: pytest.LogCaptureFixture) -> None:
    model.recommend("c", k=3, candidates=["v", "nothing"], exclude=["w"])
    model.recommend("c", k=3, exclude=["W", "V"])
    assert [record.getMessage() for record in caplog.records] == [
        "candidates: the model does not know 1 of 2 items",
        "exclude: the model does not know 2 of 2 items",
    ]
    with pytest.raises(InputError, match="the model knows none of the candidates: give ids of items"):
        model.recommend("c", k=3, candidates=["V", "W"])


def test_a_list_for_each_user_is_refused_and_not_taken_for_items(model: CompressedModel) -> None:
    with pytest.raises(InputError, match="exclude are a mapping: give one id, or one list of ids"):
        model.recommend("b", k=1, exclude={"b": ["a"]})
