"""Folders of saved models that change while a model is open."""

import contextlib
import copy
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile_changes import Folder

import ciess
from ciess.data import Interactions
from ciess.errors import InputError
from ciess.models.base import Represented
from ciess.serve.folder import Parts
from ciess.serve.model import CompressedModel
from ciess.tables.plan import SizePlan

DATA = ciess.synthetic(users=40, items=30, mean_count=8).interactions


def packed(seed: int, size: int = 4, name: str = "mf") -> CompressedModel:
    config = ciess.MF(dim=4) if name == "mf" else ciess.NCF(dim=4)
    plan = SizePlan(np.full(DATA.n_users, size), np.full(DATA.n_items, size), 4)
    return CompressedModel.pack(config, config.build(DATA, seed), plan, DATA)


def ranked(model: CompressedModel) -> list[list[str]]:
    return model.recommend(model.user_ids[:9], k=9)[0].tolist()


@pytest.mark.parametrize("name", ["mf", "ncf"])
def test_an_open_model_stays_what_it_was_if_another_is_saved_in_its_place(name: str, tmp_path: Path) -> None:
    old, new = packed(1, name=name), packed(2, size=2)
    model = ciess.load(old.save(tmp_path))
    new.save(tmp_path)
    assert ranked(model) == ranked(old) != ranked(new)
    assert ranked(ciess.load(tmp_path)) == ranked(new)


@pytest.mark.parametrize("gone", ["renamed", "removed"])
def test_an_open_model_does_not_need_its_folder(gone: str, tmp_path: Path) -> None:
    old, new = packed(1), packed(2)
    folder = old.save(tmp_path / "model")
    model = ciess.load(folder)
    if gone == "renamed":
        os.replace(folder, tmp_path / "older")
    else:
        shutil.rmtree(folder)
    new.save(folder)
    assert ranked(model) == ranked(old)
    assert ranked(ciess.load(folder)) == ranked(new)


def test_files_that_are_overwritten_in_place_are_told_from_damaged_ones(tmp_path: Path) -> None:
    new = packed(2)
    folder, other = packed(1).save(tmp_path / "model"), new.save(tmp_path / "other")
    model = ciess.load(folder)
    shutil.copytree(other, folder, dirs_exist_ok=True)
    with pytest.raises(InputError, match=r"model was written anew while this model was open: load it again$"):
        model.recommend(DATA.user_ids[0])
    assert ranked(ciess.load(folder)) == ranked(new)


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("size", [2, 4])
def test_what_is_overwritten_in_place_is_not_served(used: bool, size: int, tmp_path: Path) -> None:
    """As `cp` does, which keeps the file: with a shorter model, too, which would end the process where it is read."""
    folder, other = packed(1).save(tmp_path / "model"), packed(2, size=size).save(tmp_path / "other")
    model = ciess.load(folder, verify=True)
    if used:
        ranked(model)
    shutil.copytree(other, folder, dirs_exist_ok=True)
    for _ in range(2):
        with pytest.raises(InputError, match=r"model was written anew while this model was open: load it again$"):
            model.recommend(DATA.user_ids[0])


@pytest.mark.parametrize("used", [False, True])
def test_a_file_that_is_cut_while_it_is_open_is_damaged(used: bool, tmp_path: Path) -> None:
    model = ciess.load(packed(1).save(tmp_path))
    if used:
        ranked(model)
    os.truncate(tmp_path / "tables.safetensors", 100)
    with pytest.raises(InputError, match=r"tables\.safetensors is damaged"):
        model.recommend(DATA.user_ids[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system forks no processes")
def test_reading_beyond_the_end_of_a_file_ends_no_process(tmp_path: Path) -> None:
    """As it would where a file of several pages has lost some since it was opened."""
    config = ciess.MF(dim=64)
    plan = SizePlan(np.full(DATA.n_users, 64), np.full(DATA.n_items, 64), 64)
    folder = CompressedModel.pack(config, config.build(DATA), plan, DATA).save(tmp_path)
    opened = [ciess.load(folder), ciess.load(folder, verify=True)]
    os.truncate(tmp_path / "tables.safetensors", 100)
    child = os.fork()
    if child == 0:
        for model in opened:
            with contextlib.suppress(InputError):
                model.recommend(DATA.user_ids[0])
                os._exit(3)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_is_written_while_files_are_checked_is_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(1).save(tmp_path) / "tables.safetensors"
    model = ciess.load(tmp_path)

    def overwritten(_: Parts) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        with path.open("r+b") as file:
            file.write(content)

    with monkeypatch.context() as patched:
        patched.setattr(Parts, "check", overwritten)
        model.verify()
    with pytest.raises(InputError, match=r"tables\.safetensors is damaged"):
        model.recommend(DATA.user_ids[0])


def test_files_that_are_only_touched_are_served(tmp_path: Path) -> None:
    model = ciess.load(packed(1).save(tmp_path))
    before = ranked(model)
    os.utime(tmp_path / "tables.safetensors", (7, 7))
    assert ranked(model) == before


def test_a_model_does_not_depend_on_where_the_process_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, other = packed(1).save(tmp_path / "model"), packed(2).save(tmp_path / "elsewhere" / "model")
    monkeypatch.chdir(tmp_path)
    model = ciess.load("model")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert ranked(model) == ranked(ciess.load(folder)) != ranked(ciess.load(other))


def test_files_can_be_checked_when_a_model_is_opened(tmp_path: Path) -> None:
    path = packed(1).save(tmp_path) / "tables.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    model = ciess.load(tmp_path)
    with pytest.raises(InputError, match=r"tables\.safetensors is damaged"):
        model.recommend(DATA.user_ids[0])
    with pytest.raises(InputError, match=r"tables\.safetensors is damaged"):
        ciess.load(tmp_path, verify=True)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system does not tell which files are open")
def test_files_are_closed_with_their_model(tmp_path: Path) -> None:
    def held() -> int:
        return sum(str(tmp_path) in os.path.realpath(each) for each in Path("/proc/self/fd").iterdir())

    folder = packed(1).save(tmp_path)
    assert held() == 0
    models = [ciess.load(folder) for _ in range(20)]
    assert held() > 0
    del models
    assert held() == 0


SAVE = """
import sys
import ciess

model = ciess.load(sys.argv[1])
for _ in range(25):
    model.save(sys.argv[2])
"""


def test_the_policy_of_another_model_goes_with_it(tmp_path: Path, split: ciess.Split) -> None:
    outcome = ciess.search(
        split, backbone=ciess.ALS(dim=4, training=ciess.Training(steps=1)), budgets="90%", method="equal", tune=False
    )
    [folder] = outcome.save(tmp_path / "run").values()
    model = ciess.load(folder)
    assert ciess.SizePolicy.load(model.save(folder)).dim == 4, "its own stays"
    [other] = outcome.save(tmp_path / "other").values()
    with pytest.raises(InputError, match=r"holds no policy\.json"):
        ciess.SizePolicy.load(model.save(other))


def test_readers_get_one_whole_model_while_two_processes_save(tmp_path: Path) -> None:
    kept = [packed(seed).save(tmp_path / str(seed)) for seed in (1, 2)]
    whole = [ranked(ciess.load(folder)) for folder in kept]
    target = packed(1).save(tmp_path / "target")
    writers = [subprocess.Popen([sys.executable, "-c", SAVE, str(folder), str(target)]) for folder in kept]
    found = [ranked(ciess.load(target))]
    while any(writer.poll() is None for writer in writers):
        found.append(ranked(ciess.load(target)))
    assert [writer.wait() for writer in writers] == [0, 0]
    assert all(each in whole for each in found)
    assert not list(target.glob(".*"))


@pytest.mark.parametrize("name", ["mf", "ncf"])
@pytest.mark.parametrize("used", [False, True])
def test_an_open_model_may_be_copied_and_sent_to_other_processes(used: bool, name: str, tmp_path: Path) -> None:
    model = ciess.load(packed(1, name=name).save(tmp_path))
    if used:
        ranked(model)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    # They hold all in memory, whatever becomes of the files.
    os.truncate(tmp_path / "tables.safetensors", 100)
    model = packed(1, name=name)
    assert [ranked(each) for each in copies] == [ranked(model)] * 2


def test_another_format_is_told_by_its_number(tmp_path: Path) -> None:
    path = packed(1).save(tmp_path) / "model.json"
    path.write_text(path.read_text().replace('"format": 4', '"format": 99'))
    with pytest.raises(InputError, match="is of format 99, this ciess reads formats 3 and 4"):
        ciess.load(tmp_path)


def test_popular_items_are_counted_when_a_model_is_saved_and_those_of_older_ones_when_they_are_used(
    tmp_path: Path,
) -> None:
    packed(1).save(tmp_path)
    popular = ciess.load(tmp_path).recommend("nobody", k=30)[0].tolist()
    counts = dict(zip(DATA.item_ids, DATA.matrix.sum(axis=0).tolist(), strict=True))
    assert [counts[each] for each in popular] == sorted(counts.values(), reverse=True)
    # As format 3 had it.
    older = Folder(tmp_path, np.random.default_rng(), [], tmp_path)
    header, body = older.opened("interactions.safetensors")
    begin, _ = header.pop("popular")["data_offsets"]
    assert all(each["data_offsets"][1] <= begin for name, each in header.items() if name != "__metadata__")
    older.closed("interactions.safetensors", header, body[:begin])
    older.settings["format"] = 3
    older.seal()
    assert ciess.load(tmp_path).recommend("nobody", k=30)[0].tolist() == popular
    ciess.load(tmp_path).save(tmp_path)
    stored = ciess.load(tmp_path)
    assert stored.item_ids[stored.seen.stored_popular].tolist() == popular


class Scaled(ciess.InnerProduct):
    """Keeps a buffer that its construction draws and training changes."""

    def __init__(self, n_users: int, n_items: int) -> None:
        super().__init__()
        self.user_table, self.item_table = (torch.nn.Parameter(torch.randn(n, 4)) for n in (n_users, n_items))
        self.register_buffer("scale", torch.rand(4) + 0.5)

    def represent(self, user_table: torch.Tensor, item_table: torch.Tensor) -> Represented:
        return Represented(user_table * self.scale, item_table)


class ScaledConfig(ciess.BackboneConfig):
    def build(self, train: Interactions, seed: int = 0) -> Scaled:
        return Scaled(train.n_users, train.n_items)


def test_buffers_are_kept_and_drawing_them_anew_changes_nothing(tmp_path: Path) -> None:
    config = ScaledConfig(dim=4)
    backbone = config.build(DATA)
    plan = SizePlan(np.full(DATA.n_users, 4), np.full(DATA.n_items, 4), 4)
    folder = CompressedModel.pack(config, backbone, plan, DATA).save(tmp_path)
    state = torch.random.get_rng_state()
    model = ciess.load(folder, backbone=config)
    scores = model.score(DATA.user_ids.to_list(), DATA.item_ids.to_list())
    expected = backbone.score_all(backbone.vectors(), torch.arange(DATA.n_users)).detach()
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(torch.random.get_rng_state(), state), "the caller's draws are left alone"


@pytest.mark.parametrize(
    ("number", "precision", "match"),
    [
        (np.nan, "float32", "not finite"),
        (np.inf, "int8", "not finite"),
        (1e6, "float16", "beyond the range of float16"),
    ],
)
def test_tables_that_have_diverged_are_not_packed(number: float, precision: str, match: str) -> None:
    config = ciess.MF(dim=4)
    backbone = config.build(DATA)
    with torch.no_grad():
        backbone.item_table[3, 1] = number
    plan = SizePlan(np.full(DATA.n_users, 4), np.full(DATA.n_items, 4), 4, ciess.Precision(precision))
    with pytest.raises(InputError, match=match):
        CompressedModel.pack(config, backbone, plan, DATA)
