import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from ciess.errors import InputError
from ciess.files import reading, write_together, write_whole

MASKS = [0o022, 0o077, 0o002]


@pytest.mark.parametrize("mask", MASKS)
def test_files_have_the_mode_of_the_umask_whoever_writes_them(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        # safetensors makes files that only their owner may read.
        write_together(tmp_path, {"a": lambda path: save_file({}, path), "b": "text", "c": b"bytes"})
        (tmp_path / "plain").write_text("")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert set(modes) == {"a", "b", "c", "plain"}
    assert set(modes.values()) == {0o666 & ~mask}


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Both are within their write at once, the second one ends first."""
    path, inside, go_on = tmp_path / "file", threading.Event(), threading.Event()

    def slow(aside: Path) -> None:
        aside.write_text("slow")
        inside.set()
        assert go_on.wait(10)

    writer = threading.Thread(target=write_whole, args=(path, slow))
    writer.start()
    assert inside.wait(10)
    write_whole(path, "fast")
    assert path.read_text() == "fast"
    go_on.set()
    writer.join()
    assert path.read_text() == "slow"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_writer_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    write_together(tmp_path, {"a": "old", "b": "old"})
    with pytest.raises(InputError, match=r"b cannot be written \(No space left on device\): choose another folder"):
        write_together(tmp_path, {"a": "new", "b": fail})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old", "b": "old"}


def test_stale_files_go_with_the_new_ones(tmp_path: Path) -> None:
    write_together(tmp_path, {"a": "old", "b": "old"})
    write_together(tmp_path, {"a": "new"}, stale=["b", "c"])
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new"}


SAVE = """
import sys
from pathlib import Path
from ciess.files import write_together
for _ in range(15):
    write_together(Path(sys.argv[1]), {name: sys.argv[2] for name in "abcdefgh"})
"""


def test_files_of_two_writers_are_never_mixed(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", SAVE, str(tmp_path), name]) for name in ("one", "two")]
    assert [writer.wait(30) for writer in writers] == [0, 0]
    assert len({path.read_text() for path in tmp_path.iterdir()}) == 1
    assert len(list(tmp_path.iterdir())) == 8


def test_what_is_renamed_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a loss of power could leave a name and no content, though all was renamed in time."""
    synced, renamed = list[int](), os.replace

    def sync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)

    def rename(old: Path, new: Path) -> None:
        below = [old, *Path(old).rglob("*")] if Path(old).is_dir() else [old]
        assert {path.stat().st_ino for path in map(Path, below)} <= {*synced}
        renamed(old, new)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    write_together(tmp_path, {"a": "1", "inner/b": "2"})
    write_whole(tmp_path / "c", "3")
    assert synced[-1] == tmp_path.stat().st_ino
    assert {path.name for path in tmp_path.rglob("*")} == {"a", "inner", "b", "c"}


def test_files_that_never_counted_do_not_count_when_they_are_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer was stopped before its first file was in place; so is the next one, while it clears."""
    write_together(tmp_path, {"a": "old", "b": "old"})
    aside = tmp_path / ".ciess-committed"
    aside.mkdir()
    for name, text in {"plan.json": '{"first": "a", "stale": []}', "a": "new", "b": "new"}.items():
        (aside / name).write_text(text)

    def stopped(folder: Path, ignore_errors: bool) -> None:
        if folder == aside:
            (folder / "a").unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ciess.files.shutil.rmtree", stopped)
        with pytest.raises(KeyboardInterrupt):
            write_together(tmp_path, {"c": "next", "d": "next"})
    with reading(tmp_path) as place:
        assert [place(name).read_text() for name in "ab"] == ["old", "old"]
