import dataclasses
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file, save_file

import ciess
from ciess.data import Interactions, Split
from ciess.errors import InputError
from ciess.evaluation.metrics import TAIL_METRICS, Evaluator, evaluate
from ciess.models import Training, backbone_named
from ciess.serve.model import CompressedModel
from ciess.tables.plan import SizePlan
from ciess.train.finish import Finish, finish
from ciess.train.fit import fit
from ciess.train.losses import BPR

NAMES = ["mf", "lightgcn", "als", "ncf", "ngcf"]
WITH_NETWORK = ["ncf", "ngcf"]


def compressed(name: str, split: Split) -> tuple[CompressedModel, torch.nn.Module]:
    config = backbone_named(name, dim=12)
    backbone = config.build(split.train)
    recipe = Training(steps=60, batch_size=500, l2=0.05)
    fit(backbone, backbone.solver(split.train) or BPR(backbone, split.train, recipe, seed=0), recipe)
    backbone.order_dimensions()
    rng = np.random.default_rng(0)
    plan = SizePlan(rng.integers(1, 13, split.train.n_users), rng.integers(1, 13, split.train.n_items), 12)
    small, _ = finish(backbone, plan, Finish(training=Training(steps=5)), seed=0)
    return CompressedModel.pack(config, small, plan, split.train), small


@pytest.fixture(scope="module")
def pairs(split: Split) -> dict[str, tuple[CompressedModel, torch.nn.Module]]:
    """Of each backbone a packed model, and what was packed."""
    return {name: compressed(name, split) for name in NAMES}


@pytest.fixture(scope="module")
def models(pairs: dict[str, tuple[CompressedModel, torch.nn.Module]]) -> dict[str, CompressedModel]:
    return {name: packed for name, (packed, _) in pairs.items()}


@pytest.fixture(params=NAMES)
def model(request: pytest.FixtureRequest, models: dict[str, CompressedModel]) -> CompressedModel:
    return models[request.param]


@pytest.mark.parametrize(
    ("users", "same", "unknown"),
    [
        ([3.0, 4.0], [3, 3.0, "3", np.int32(3), np.float32(3), np.str_("3"), Decimal(3)], ["03", "3.0", 5, None, True]),
        (["3", "x"], [3, 3.0, "3", np.int32(3), b"3"], ["03", "3.0", 5, "X"]),
        ([2**64, 3], [2**64, str(2**64), Decimal(2**64)], [float(2**64), 2**64 + 1, "4"]),
    ],
    ids=["whole numbers", "text", "beyond 64 bits"],
)
def test_a_user_is_the_same_whatever_the_type_of_its_id(
    users: list[object], same: list[object], unknown: list[object]
) -> None:
    data = Interactions.from_frame(pd.DataFrame({"user": users, "item": ["07", "7"]}))
    config = backbone_named("mf", dim=4)
    plan = SizePlan(np.array([2, 3]), np.array([1, 4]), 4)
    model = CompressedModel.pack(config, config.build(data), plan, data)
    expected, scores = model.recommend(users[0], k=2)
    assert expected[0] == "7", "it has 07"
    for asked in same:
        items, found = model.recommend(asked, k=2)
        assert items.tolist() == expected.tolist()
        assert found.tolist() == scores.tolist()
    assert model.known([*same, *unknown]).tolist() == [True] * len(same) + [False] * len(unknown)


@pytest.mark.parametrize("name", NAMES)
def test_packing_changes_no_score(
    name: str, pairs: dict[str, tuple[CompressedModel, torch.nn.Module]], split: Split
) -> None:
    """The packed model, its rows in another order, measures the same as the masked dense one, by user and by item."""
    model, dense = pairs[name]
    vectors = dense.vectors()  # type: ignore[operator]
    expected = Evaluator(split.train.matrix, split.valid.matrix)(
        lambda users: dense.score_all(vectors, users)  # type: ignore[operator]
    )
    found = model.evaluate(split.valid)
    for metric in ("ndcg@20", "recall@5"):
        torch.testing.assert_close(found.per_user(metric), expected.per_user(metric), atol=1e-6, rtol=0)
    assert torch.equal(found.users, expected.users)
    torch.testing.assert_close(found.item_credit, expected.item_credit, atol=1e-6, rtol=0)
    assert found.means(TAIL_METRICS) == pytest.approx(expected.means(TAIL_METRICS))


@pytest.mark.parametrize("larger", [slice(0, 5), slice(5, None)], ids=["the first items", "the others"])
def test_equal_scores_are_ranked_alike_whatever_the_sizes_of_rows(larger: slice, split: Split) -> None:
    """As of users of whom nothing was learned: packed rows lie by their sizes."""
    config = backbone_named("mf", dim=4)
    full = config.build(split.train)
    with torch.no_grad():
        full.user_table.zero_()
    sizes = np.full(split.train.n_items, 1)
    sizes[larger] = 4
    plan = SizePlan(np.full(split.train.n_users, 4), sizes, 4)
    found = CompressedModel.pack(config, full, plan, split.train).evaluate(split.valid)
    expected = evaluate(full, Evaluator(split.train.matrix, split.valid.matrix))
    assert torch.equal(found.items, expected.items)


def test_a_held_out_set_may_know_other_users_and_items(models: dict[str, CompressedModel]) -> None:
    model = models["mf"]
    [*users], [*items] = model.user_ids[:3], model.item_ids[:30]
    foreign = Interactions.from_pairs(
        np.repeat(np.arange(4), 30), np.tile(np.arange(30), 4), pl.Series(["?", *users]), pl.Series([*items[:29], "?"])
    )
    found = model.evaluate(foreign)
    assert found.users.tolist() == [1, 2, 3]
    assert found.held_out.tolist() == [30, 30, 30], "an item that the model does not know is missed"
    assert set(found.items[found.hits > 0].tolist()) <= {*range(29)}
    torch.testing.assert_close(found.item_credit.sum(), found.quality.sum())


def test_saved_models_recommend_the_same_in_a_new_process(models: dict[str, CompressedModel], tmp_path: Path) -> None:
    for name, model in models.items():
        model.save(tmp_path / name)
    script = (
        "import sys, pathlib, numpy, ciess\n"
        "for folder in map(pathlib.Path, sys.argv[1:]):\n"
        "    model = ciess.load(folder)\n"
        "    items, scores = model.recommend(model.interactions.user_ids.to_list(), k=20)\n"
        "    numpy.savez(folder.with_suffix('.npz'), items=items.astype(str), scores=scores)"
    )
    subprocess.run([sys.executable, "-c", script, *(str(tmp_path / name) for name in NAMES)], check=True)
    for name, model in models.items():
        items, scores = model.recommend(model.interactions.user_ids.to_list(), k=20)
        with np.load(tmp_path / f"{name}.npz") as again:
            np.testing.assert_array_equal(again["items"], items.astype(str), err_msg=name)
            np.testing.assert_array_equal(again["scores"], scores, err_msg=name)


def test_bytes_told_are_bytes_on_disk(model: CompressedModel, tmp_path: Path) -> None:
    folder = model.save(tmp_path)
    assert (folder / "tables.safetensors").stat().st_size == model.table_bytes
    networks = {"network.safetensors"} if model.network else set()
    assert sum((folder / name).stat().st_size for name in networks) == model.network_bytes
    assert {path.name for path in folder.iterdir()} == networks | {
        "tables.safetensors",
        "model.json",
        "ids.safetensors",
        "interactions.safetensors",
    }


def test_recommendations_are_the_best_unseen_items(model: CompressedModel) -> None:
    user = model.interactions.user_ids[3]
    items, scores = model.recommend(user, k=15)
    assert items.shape == scores.shape == (15,)
    everything = torch.from_numpy(model.score(user))
    seen = model.interactions.matrix[[3]].indices
    everything[seen] = -torch.inf
    expected = everything.argsort(descending=True)[:15]
    assert items.tolist() == model.interactions.item_ids[expected.numpy()].to_list()
    np.testing.assert_allclose(scores, everything[expected], rtol=1e-5)


def test_seen_items_can_be_asked_for(model: CompressedModel) -> None:
    user = model.interactions.user_ids[3]
    with_seen, _ = model.recommend(user, k=model.interactions.n_items, exclude_seen=False)
    assert set(with_seen) == set(model.interactions.item_ids)
    without, scores = model.recommend(user, k=model.interactions.n_items)
    seen = len(model.interactions.matrix[[3]].indices)
    assert [item is None for item in without] == [False] * (100 - seen) + [True] * seen
    assert np.isneginf(scores[-seen:]).all()


def test_unknown_users_get_popular_items_and_a_flag(model: CompressedModel) -> None:
    known = model.interactions.user_ids[0]
    items, scores = model.recommend(["nobody", known], k=3)
    counts = pl.DataFrame({"id": model.interactions.item_ids, "n": model.interactions.item_counts})
    assert items[0].tolist() == counts.sort("n", descending=True, maintain_order=True)["id"][:3].to_list()
    assert np.isnan(scores[0]).all()
    assert np.isfinite(scores[1]).all()
    assert model.known(["nobody", known]).tolist() == [False, True]


def test_integer_ids_may_be_asked_for_as_text(tiny: Interactions) -> None:
    numbered = Interactions(tiny.matrix, pl.Series([100, 200, 300]), tiny.item_ids)
    config = backbone_named("mf", dim=2)
    plan = SizePlan(np.full(3, 2), np.full(4, 1), 2)
    model = CompressedModel.pack(config, config.build(numbered), plan, numbered)
    np.testing.assert_array_equal(model.recommend("200", k=2)[0], model.recommend(200, k=2)[0])


@pytest.mark.parametrize("k", [0, 101])
def test_impossible_k_is_refused(model: CompressedModel, k: int) -> None:
    with pytest.raises(InputError, match=f"k is {k}: ask for 1 to 100"):
        model.recommend(["u0"], k=k)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


DAMAGE = {
    "no folder": lambda folder: [path.unlink() for path in folder.iterdir()],
    "settings cut": lambda folder: _cut(folder / "model.json"),
    "settings foreign": lambda folder: (folder / "model.json").write_text("[1]"),
    "other format": lambda folder: (folder / "model.json").write_text(
        json.dumps(json.loads((folder / "model.json").read_text()) | {"format": 99})
    ),
    "other backbone": lambda folder: (folder / "model.json").write_text(
        json.dumps(json.loads((folder / "model.json").read_text()) | {"backbone": {"name": "gpt"}})
    ),
    "tables cut": lambda folder: _cut(folder / "tables.safetensors"),
    "settings changed": lambda folder: (folder / "model.json").write_text(
        (folder / "model.json").read_text().replace('"dim": 12', '"dim": 13')
    ),
    "tables foreign": lambda folder: shutil.copy(folder / "ids.safetensors", folder / "tables.safetensors"),
    "ids gone": lambda folder: (folder / "ids.safetensors").unlink(),
    "ids foreign": lambda folder: shutil.copy(folder / "tables.safetensors", folder / "ids.safetensors"),
    "ids cut": lambda folder: _cut(folder / "ids.safetensors"),
    "interactions cut": lambda folder: _cut(folder / "interactions.safetensors"),
    "interactions foreign": lambda folder: shutil.copy(
        folder / "tables.safetensors", folder / "interactions.safetensors"
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_models_are_refused_with_a_sentence(model: CompressedModel, tmp_path: Path, damage: str) -> None:
    folder = model.save(tmp_path)
    DAMAGE[damage](folder)
    with pytest.raises(InputError) as error:
        ciess.load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["tables", "ids", "interactions"])
@pytest.mark.parametrize("where", [0.3, 0.6, 0.999])
def test_a_flipped_bit_is_refused_with_a_sentence(
    model: CompressedModel, tmp_path: Path, name: str, where: float
) -> None:
    path = model.save(tmp_path) / f"{name}.safetensors"
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 4
    path.write_bytes(content)
    # Some flips are seen at once, the others when the model is used.
    with pytest.raises(InputError, match="save the model again") as error:
        ciess.load(tmp_path).recommend("u0")
    assert "\n" not in str(error.value)


def test_a_model_may_be_saved_into_its_own_folder(model: CompressedModel, tmp_path: Path) -> None:
    expected = model.recommend("u0", k=20)
    ciess.load(model.save(tmp_path)).save(tmp_path)
    for found, before in zip(ciess.load(tmp_path).recommend("u0", k=20), expected, strict=True):
        np.testing.assert_array_equal(found, before)


def test_rows_that_stand_alone_are_served_by_numpy_alone(models: dict[str, CompressedModel], tmp_path: Path) -> None:
    model = models["als"]
    expected, _ = model.recommend(["u0", "u5", "nobody"], k=5)
    script = (
        "import sys, ciess; model = ciess.load(sys.argv[1]);"
        "items, _ = model.recommend(['u0', 'u5', 'nobody'], k=5); print(*items.ravel());"
        "print(*({'torch', 'scipy', 'polars'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script, str(model.save(tmp_path))]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    assert told[0].split() == expected.ravel().tolist()
    assert told[1] == ""


def test_pytorch_ranks_the_same(model: CompressedModel) -> None:
    users = model.user_ids
    ours, theirs = (
        model.recommend(users, k=20),
        dataclasses.replace(model, rows_stand_alone=False).recommend(users, k=20),
    )
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-5)


def test_threads_may_share_a_model(model: CompressedModel, tmp_path: Path) -> None:
    opened = ciess.load(model.save(tmp_path))
    users = opened.user_ids
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda user: opened.recommend(user, k=5)[0], users))
    np.testing.assert_array_equal(np.stack(found), ciess.load(tmp_path).recommend(users, k=5)[0])


NETWORK_DAMAGE = {
    "gone": lambda path: path.unlink(),
    "cut": _cut,
    "foreign": lambda path: save_file({"weights": np.ones(3, dtype=np.float32)}, path),
    "other shapes": lambda path: save_file(
        {name: np.repeat(weights, 2, axis=0) for name, weights in load_file(path).items()}, path
    ),
}


@pytest.mark.parametrize("damage", NETWORK_DAMAGE)
@pytest.mark.parametrize("name", WITH_NETWORK)
def test_a_damaged_network_is_refused_with_a_sentence(
    models: dict[str, CompressedModel], tmp_path: Path, name: str, damage: str
) -> None:
    folder = models[name].save(tmp_path)
    NETWORK_DAMAGE[damage](folder / "network.safetensors")
    with pytest.raises(InputError, match=r"network\.safetensors.*: save the model again") as error:
        ciess.load(folder)
    assert "\n" not in str(error.value)


def test_weights_of_another_backbone_are_refused(models: dict[str, CompressedModel], tmp_path: Path) -> None:
    folder = models["ncf"].save(tmp_path)
    mixed = dataclasses.replace(ciess.load(folder), settings=models["ngcf"].settings)
    with pytest.raises(InputError, match="not those of its backbone"):
        mixed.recommend("u0")


def test_a_backbone_s_name_is_no_settings(models: dict[str, CompressedModel], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="backbone is of type str: give a BackboneConfig"):
        ciess.load(models["ncf"].save(tmp_path), backbone="ncf")  # type: ignore[arg-type]


def test_settings_of_another_size_are_refused(models: dict[str, CompressedModel], tmp_path: Path) -> None:
    folder, dim = models["ncf"].save(tmp_path), models["ncf"].settings["dim"]
    assert ciess.load(folder, ciess.NCF(dim=dim)).recommend("u0", k=1)
    with pytest.raises(InputError, match=f"was saved with dim {dim}, not {2 * dim}: give the settings of then"):
        ciess.load(folder, ciess.NCF(dim=2 * dim))
    with pytest.raises(InputError, match="verify is of type str: give a bool"):
        ciess.load(folder, verify="yes")  # type: ignore[arg-type]


def test_no_network_is_left_behind_by_an_earlier_model(models: dict[str, CompressedModel], tmp_path: Path) -> None:
    models["ncf"].save(tmp_path)
    without = models["mf"]
    without.save(tmp_path)
    assert without.network_bytes == 0
    assert not (tmp_path / "network.safetensors").exists()


def test_a_folder_that_cannot_be_written_is_refused(model: CompressedModel, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match="choose another folder"):
        model.save(tmp_path / "taken" / "model")
