import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import ciess
from ciess.data import Split
from ciess.errors import InputError
from ciess.methods.ciess.td3 import TD3Settings
from ciess.models import Training, backbone_from_settings, backbone_settings
from ciess.models.als import ALS
from ciess.models.factors import Factors
from ciess.train.finish import Finish
from ciess.train.fit import fit

QUICK = ciess.Ciess(episodes=2, steps=1, finish_steps=5, updates=1, td3=TD3Settings(batch_size=64, hidden=16))
FINISH = Finish(training=Training(steps=5, batch_size=64, lr=0.01, eval_every=5))
Tables = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def tables(split: Split) -> Tables:
    """Factors as a library elsewhere would have trained them, in float64."""
    model = ALS(dim=8).build(split.train)
    fit(model, model.solver(split.train), Training(steps=4))
    return model.user_table.detach().double().numpy(), model.item_table.detach().double().numpy()


@pytest.fixture
def files(tables: Tables, tmp_path: Path) -> tuple[Path, Path]:
    for name, table in zip(("U.npy", "V.npy"), tables, strict=True):
        np.save(tmp_path / name, table)
    return tmp_path / "U.npy", tmp_path / "V.npy"


def test_files_and_arrays_are_taken_as_they_are(tables: Tables, files: tuple[Path, Path], split: Split) -> None:
    for config in (Factors(users=files[0], items=str(files[1])), Factors.from_arrays(*tables)):
        assert config.dim == 8
        model = config.build(split.train)
        scores = model.score_all(model.vectors(), torch.arange(150)).detach()
        np.testing.assert_allclose(scores, tables[0] @ tables[1].T, rtol=1e-4, atol=1e-5)
        model.order_dimensions()
        again = config.build(split.train)
        np.testing.assert_allclose(again.user_table.detach(), tables[0], rtol=1e-6)


def test_the_same_scores_are_the_same_model_in_any_basis(tables: Tables, split: Split) -> None:
    users, items = (table.astype(np.float32) for table in tables)
    basis = np.random.default_rng(0).normal(size=(8, 8)) + 3 * np.eye(8)
    found = []
    for pair in ((users, items), (40 * users, items / 10), (users @ basis, items @ np.linalg.inv(basis).T)):
        model = Factors.from_arrays(*pair).build(split.train)
        model.order_dimensions()
        found.append(np.concatenate([model.user_table.detach().numpy(), model.item_table.detach().numpy()]))
    np.testing.assert_allclose(found[1], 2 * found[0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(found[2], found[0], rtol=0, atol=1e-4)


def test_the_whole_way_without_training_and_loaded_without_the_files(
    files: tuple[Path, Path], split: Split, tmp_path: Path
) -> None:
    phases: set[str] = set()
    outcome = ciess.search(
        split,
        backbone=Factors(users=files[0], items=files[1]),
        budgets=["60%"],
        method=QUICK,
        finishing=FINISH,
        progress=lambda phase, *_: phases.add(phase),
    )
    assert not any("full model" in phase for phase in phases), "there is nothing to train"
    assert outcome.row("search", "60%").kept > 0.7
    [(budget, folder)] = outcome.save(tmp_path / "out").items()
    for path in files:
        path.unlink()
    users = split.train.user_ids.to_list()
    for found, expected in zip(
        ciess.load(folder).recommend(users), outcome.models[budget].recommend(users), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_arrays_in_memory_survive_saving(tables: Tables, split: Split, tmp_path: Path) -> None:
    config = Factors.from_arrays(*tables)
    settings = json.loads(json.dumps(backbone_settings(config)))
    assert settings["dim"] == 8
    loaded = backbone_from_settings(settings)
    assert loaded.skeleton(split.train).separable
    with pytest.raises(InputError, match=r"name a \.npy file of users and one of items"):
        loaded.build(split.train)
    outcome = ciess.search(split, backbone=config, budgets=["60%"], method=QUICK, finishing=FINISH)
    [folder] = outcome.save(tmp_path).values()
    assert ciess.load(folder).recommend(split.train.user_ids[0])[0].shape == (10,)


def test_rows_of_users_without_interactions_are_scored_as_they_are(tables: Tables, split: Split) -> None:
    """However the tables are given, also once the settings were changed."""
    users = np.vstack([tables[0], tables[0][:1] * 2])
    ids = [*split.train.user_ids, "nobody"]
    config = Factors.from_arrays(users, tables[1], user_ids=ids)
    again = config.changed()
    assert not again.learns
    assert again.ids.users is config.ids.users
    outcome = ciess.search(split.train, backbone=config, budgets=["60%"], method="equal", finishing=FINISH)
    model = outcome.models["60%"]
    assert model.known(["nobody"]).tolist() == [True]
    assert np.isfinite(model.recommend("nobody")[1]).all()


ARRAYS: dict[str, Callable[[Any], Any]] = {
    "bfloat16": lambda table: torch.tensor(table, dtype=torch.bfloat16),
    "gradients": lambda table: torch.tensor(table, requires_grad=True),
    "parameter in half": lambda table: torch.nn.Parameter(torch.tensor(table).half()),
    "whole": lambda table: torch.tensor(table).long(),
    "sparse": lambda table: torch.tensor(table).to_sparse(),
    "lists": lambda table: table.tolist(),
    "float16": lambda table: table.astype(np.float16),
    "big-endian": lambda table: table.astype(">f8"),
    "every other row of more": lambda table: np.repeat(table, 2, axis=0)[::2],
}


@pytest.mark.parametrize("case", ARRAYS)
def test_any_kind_of_numbers_in_memory(case: str) -> None:
    # Each is exact in eight bits.
    users, items = np.arange(12.0).reshape(4, 3), np.arange(15.0).reshape(5, 3)
    found = Factors.from_arrays(ARRAYS[case](users), ARRAYS[case](items)).tables
    assert [table.dtype for table in found] == [np.float32, np.float32]
    np.testing.assert_array_equal(found[0] @ found[1].T, users @ items.T)


REFUSED: dict[str, tuple[Any, str]] = {
    "not a number": (
        torch.tensor([[0.0, float("nan")]], dtype=torch.bfloat16),
        r"row 0 \(from 0\) holds .* not finite",
    ),
    "infinite": (np.array([[0.0, 1.0], [0.0, -np.inf]]), r"row 1 \(from 0\) holds"),
    "one row": (torch.ones(2, dtype=torch.float16), r"float32 of shape \(2,\), not a table"),
    "three axes": (np.ones((2, 2, 2)), "not a table"),
    "complex": (torch.ones(2, 2, dtype=torch.complex64), "complex64 .* not a table of numbers"),
    "truth": (torch.ones(2, 2, dtype=torch.bool), "bool .* not a table of numbers"),
    "ragged": ([[1.0, 2.0], [1.0]], r"user factors are no table of numbers .*: give rows of one length"),
    "nothing": (None, "not a table of numbers"),
    "path": ("U.npy", "are a path: name files by ciess.Factors"),
    "other width": (np.ones((2, 3)), "user factors have 3 columns and item factors 2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_table_in_memory_is_refused(case: str) -> None:
    users, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as error:
        Factors.from_arrays(users, np.ones((2, 2)))
    assert "\n" not in str(error.value)


def test_columns_of_different_scale_on_both_sides_are_balanced(tables: Tables) -> None:
    users, items = (np.float32(table) for table in tables)
    np.testing.assert_array_equal(Factors.from_arrays(users, items).tables[0], users)
    scale = 2.0 ** np.array([20, 20, 20, 20, -20, 0, 3, -2])
    found = Factors.from_arrays(users * scale, items / scale).tables
    np.testing.assert_array_equal(found[0] @ found[1].T, users @ items.T)
    lengths = [np.sqrt(np.square(table).mean(0)) for table in found]
    assert (np.abs(np.log2(lengths[0] / lengths[1])) <= 1.001).all()
    # A column that one side does not use has no scale to balance.
    zero = Factors.from_arrays(users * np.r_[0.0, np.ones(7)], items).tables
    np.testing.assert_array_equal(zero[1], items)


@pytest.mark.parametrize("scale", [1e25, 1e-25])
def test_scores_beyond_what_floats_can_square_keep_their_ratios(scale: float, tables: Tables, split: Split) -> None:
    users, items = (scale * table for table in tables)
    model = Factors.from_arrays(users, items).build(split.train)
    expected = tables[0] @ tables[1].T
    scores = model.score_all(model.vectors(), torch.arange(150)).detach().double().numpy()
    np.testing.assert_allclose(scores / scores.max(), expected / expected.max(), atol=1e-5)
    squares = [float(np.square(table).mean()) for table in Factors.from_arrays(users, items).tables]
    assert 1e-4 < squares[0] * squares[1] < 1e4


def test_fitted_models_of_other_libraries(tables: Tables) -> None:
    users, items = tables
    implicit = SimpleNamespace(user_factors=users, item_factors=items)
    np.testing.assert_allclose(Factors.from_model(implicit).tables[0], users, rtol=1e-6)
    on_gpu = SimpleNamespace(
        user_factors=SimpleNamespace(to_numpy=lambda: users), item_factors=SimpleNamespace(to_numpy=lambda: items)
    )
    np.testing.assert_allclose(Factors.from_model(on_gpu).tables[1], items, rtol=1e-6)
    user_bias, item_bias = np.arange(150.0), np.arange(100.0)
    lightfm = SimpleNamespace(
        get_user_representations=lambda: (user_bias, users), get_item_representations=lambda: (item_bias, items)
    )
    found = Factors.from_model(lightfm).tables
    expected = users @ items.T + user_bias[:, None] + item_bias
    np.testing.assert_allclose(found[0] @ found[1].T, expected, rtol=1e-4, atol=1e-4)


def test_models_without_factors_are_refused() -> None:
    def unfitted() -> None:
        raise ValueError("You must fit the model first")

    for model, message in (
        (SimpleNamespace(user_factors=None, item_factors=None), "no factors yet: fit it first"),
        (SimpleNamespace(get_user_representations=unfitted), "no factors yet"),
        (object(), "object has no user_factors and item_factors: use Factors.from_arrays"),
    ):
        with pytest.raises(InputError, match=message):
            Factors.from_model(model)


def _saved(table: Any, **settings: Any) -> Callable[[Path], None]:
    return lambda path: np.save(path, table, **settings)


HOLES = np.ones((150, 8))
HOLES[3, 2] = np.nan
BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda path: path.unlink(), "U.npy does not exist"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "U.npy is a folder: name a .npy file"),
    "text": (lambda path: path.write_text("1 2 3"), "is no .npy file of numbers"),
    "empty": (lambda path: path.write_bytes(b""), "is no .npy file of numbers"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-9]), "is no .npy file of numbers"),
    "pickled": (_saved(np.array([{"a": 1}], dtype=object), allow_pickle=True), "is no .npy file of numbers"),
    "one row": (_saved(np.ones(8)), r"float64 of shape \(8,\), not a table"),
    "no columns": (_saved(np.ones((150, 0))), "not a table"),
    "words": (_saved(np.full((150, 8), "a")), "not a table of numbers"),
    "holes": (_saved(HOLES), r"row 3 \(from 0\) holds numbers that are not finite"),
    "beyond float32": (_saved(np.full((150, 8), 1e300)), "not finite"),
    "narrower": (_saved(np.ones((150, 5))), "user factors have 5 columns and item factors 8"),
    "fewer rows": (_saved(np.ones((149, 8))), "149 rows of user factors for 150 users"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_refused_with_a_sentence(case: str, files: tuple[Path, Path], split: Split) -> None:
    spoil, message = BAD[case]
    spoil(files[0])
    with pytest.raises(InputError, match=message) as error:
        Factors(users=files[0], items=files[1]).build(split.train)
    assert "\n" not in str(error.value)


def test_a_wrong_width_and_missing_names_are_refused(files: tuple[Path, Path], split: Split) -> None:
    with pytest.raises(InputError, match=r"dim is 5, but .* holds 8 columns: leave dim out"):
        Factors(dim=5, users=files[0], items=files[1]).build(split.train)
    with pytest.raises(InputError, match=r"name a \.npy file of users and one of items"):
        Factors(users=files[0])
