import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ciess import load
from ciess.cli import main
from ciess.errors import InputError
from ciess.exports import export, target_names
from ciess.serve.model import CompressedModel

INSTALLED = [name for name in target_names() if name != "usearch" or importlib.util.find_spec(name)]
"""Targets whose library is there."""


@pytest.fixture(scope="module")
def model(packed: Callable[..., CompressedModel]) -> CompressedModel:
    return packed()


def test_every_file_of_the_room_is_a_target() -> None:
    assert target_names() == ["arrays", "faiss", "faiss_int8", "onnx", "parquet", "torchrec", "usearch"]


def test_targets_share_a_folder_with_the_model(model: CompressedModel, tmp_path: Path) -> None:
    """Nothing is written over: all is there in the end, and the model loads as before."""
    model.save(tmp_path)
    files = {path: path.read_bytes() for target in INSTALLED for path in export(model, target, tmp_path)}
    assert all(path.read_bytes() == written for path, written in files.items())
    items, scores = load(tmp_path).recommend(model.user_ids, k=5)
    expected = model.recommend(model.user_ids, k=5)
    np.testing.assert_array_equal(items, expected[0])
    np.testing.assert_array_equal(scores, expected[1])


def test_the_command_writes_what_the_function_writes(
    model: CompressedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = model.save(tmp_path / "model")
    main(["export", str(folder), "arrays", str(tmp_path / "out")])
    files = export(model, "arrays", tmp_path / "expected")
    assert capsys.readouterr().out.splitlines() == [f"wrote {tmp_path / 'out' / path.name}" for path in files]
    for path in files[:2]:
        np.testing.assert_array_equal(np.load(tmp_path / "out" / path.name), np.load(path))


def test_an_unknown_target_ends_with_code_2(
    model: CompressedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["export", str(model.save(tmp_path / "model")), "pickle", str(tmp_path / "out")])
    assert end.value.code == 2
    assert "'pickle' is not a target of exports: use one of arrays, faiss" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("target", "name"), [("faiss", "faiss"), ("onnx", "onnx"), ("usearch", "usearch.index")])
def test_a_missing_library_is_named(
    target: str, name: str, model: CompressedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"{name} cannot be imported .*: pip install 'ciess\[export\]'"):
        export(model, target, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", INSTALLED)
def test_a_folder_that_cannot_be_written_is_refused(target: str, model: CompressedModel, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match=r"cannot be written .*: choose another folder"):
        export(model, target, tmp_path / "taken" / "out")


@pytest.mark.parametrize("target", target_names())
def test_a_disk_that_becomes_full_is_told_in_one_sentence(
    target: str, packed: Callable[..., CompressedModel], tmp_path: Path
) -> None:
    """Libraries tell of it in their own ways, and some not at all where only the last bytes find no room."""
    resource = pytest.importorskip("resource")
    model = packed("mf", "float32", ids="text", dim=40)
    before = {path.name: path.read_bytes() for path in export(model, target, tmp_path)}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in {len(content) - 1 for content in before.values()}:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
            with pytest.raises(InputError, match=r"cannot be written \(.+\): choose another folder$") as error:
                export(model, target, tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert "\n" not in str(error.value)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
