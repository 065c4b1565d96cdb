"""The folder of a saved model: which files it holds, what is written into them, and how they are checked."""

import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray
from safetensors.numpy import save as serialised

from ciess.data.ids import RowIds
from ciess.errors import InputError
from ciess.files import Content
from ciess.serve.seen import SeenItems
from ciess.tables.files import MappedFile, checksum, damaged, read_record, write_arrays
from ciess.tables.layout import SIDES
from ciess.tables.packed import PackedTable, save_tables
from ciess.tables.plan import MOST_DIM

FORMAT, _READ = 4, (3, 4)
"""What is written, and what is read: models of format 3 do not store the order of popular items, nor tapered tables."""
TABLES, NETWORK, IDS, SEEN, SETTINGS = (
    "tables.safetensors",
    "network.safetensors",
    "ids.safetensors",
    "interactions.safetensors",
    "model.json",
)
MODEL_FILES = (TABLES, NETWORK, IDS, SEEN, SETTINGS)
"""What a saved model may consist of."""
_CHECKSUM = re.compile("[0-9a-f]{8}")
_NAME = re.compile(r"\w{1,100}")


class Parts(NamedTuple):
    """What is read from the files of a model when it is used: tables and ids of both sides, and what users have."""

    tables: tuple[PackedTable, PackedTable]
    ids: tuple[RowIds, RowIds]
    seen: SeenItems

    def check(self) -> None:
        """Read all of them: whether they are what a model consists of, whatever their checksums.

        Raises:
            ValueError: they are not.
        """
        for part in (*self.tables, *self.ids, self.seen):
            part.check()


@dataclass
class Opened:
    """A folder that a model was read from.

    Attributes:
        folder: its path.
        checksums: of its files as they were written, by name.
        files: those that are read when they are used, by name.
        parts: what they hold.
        checked: their stamps when they were last compared with the checksums; empty if they never were.
    """

    folder: Path
    checksums: Mapping[str, str]
    files: Mapping[str, MappedFile]
    parts: Parts
    checked: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def fresh(self) -> bool:
        """Whether nobody has written into the files since they were checked."""
        return self.checked == self._stamps()

    def check(self) -> None:
        """Compare the files with their checksums, and see what they hold, unless that was done and nothing changed.

        Another model in the folder's place does not matter: the files that are open stay.

        Raises:
            InputError: a file is not as it was written, or holds what no model consists of.
        """
        # Taken before the files are read, so that what changes meanwhile is seen the next time.
        stamps = self._stamps()
        if stamps == self.checked:
            return
        for name, file in self.files.items():
            if file.checksum() != self.checksums[name]:
                if self._replaced():
                    raise InputError(f"{self.folder} was written anew while this model was open: load it again")
                raise damaged(file.path)
        try:
            self.parts.check()
        except ValueError as error:
            raise damaged(self.folder) from error
        self.checked = stamps

    def _stamps(self) -> dict[str, tuple[int, int]]:
        return {name: file.stamp for name, file in self.files.items()}

    def _replaced(self) -> bool:
        try:
            return bool(read_settings(self.folder / SETTINGS)["checksums"] != self.checksums)
        except InputError:
            return False


def model_files(parts: Parts, network: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]) -> dict[str, Content]:
    """What `write_together` writes for a model, by name, in the order in which it must be written."""
    ids = {
        f"{side}.{part}": array
        for side, index in zip(SIDES, parts.ids, strict=True)
        for part, array in index.arrays.items()
    }
    files: dict[str, Callable[[Path], object]] = {
        TABLES: lambda path: save_tables(path, *parts.tables),
        IDS: lambda path: write_arrays(path, ids, "ids"),
        SEEN: lambda path: write_arrays(path, parts.seen.arrays, "seen"),
    }
    if network:
        files[NETWORK] = lambda path: path.write_bytes(serialised(dict(network)))
    sums: dict[str, str] = {}

    def summed(name: str, write: Callable[[Path], object]) -> Callable[[Path], object]:
        def write_and_sum(path: Path) -> None:
            write(path)
            sums[name] = checksum(path)

        return write_and_sum

    def write_settings(path: Path) -> None:
        kept = {"format": FORMAT, **settings, "checksums": sums}
        path.write_text(json.dumps({**kept, "checksum": settings_sum(kept)}, indent=2) + "\n")

    # The settings come last: they hold the checksums of the others.
    return {**{name: summed(name, write) for name, write in files.items()}, SETTINGS: write_settings}


def read_settings(path: Path) -> dict[str, Any]:
    """What `model_files` keeps as JSON: format, backbone, checksums of the known files, and what else is known.

    Raises:
        InputError: there is no such file, or it is of another format, or damaged.
    """
    with read_record(path, path, "a folder that ciess saved,", "save the model again") as settings:
        written, expected = settings["format"], settings.pop("checksum", None)
        if type(written) is not int:
            raise ValueError("the format is no number")
        if written not in _READ:
            known = " and ".join(map(str, _READ))
            raise InputError(
                f"{path.parent} is of format {written}, this ciess reads formats {known}: install a matching one"
            )
        if expected != settings_sum(settings) or not _is_model(settings):
            raise ValueError("settings are not those of a model")
    return settings


def _is_model(settings: Mapping[str, Any]) -> bool:
    """Whether settings have the types of a model's."""
    backbone, sums = settings["backbone"], settings["checksums"]
    return (
        isinstance(backbone, dict)
        and isinstance(backbone["name"], str)
        and _NAME.fullmatch(backbone["name"]) is not None
        and type(backbone.get("dim", 1)) is int
        and 1 <= backbone.get("dim", 1) <= MOST_DIM
        and isinstance(settings["rows_stand_alone"], bool)
        and isinstance(settings.get("learns", True), bool)
        and isinstance(settings["about"], dict)
        and isinstance(sums, dict)
        and sums.keys() - {NETWORK} == {TABLES, IDS, SEEN}
        and all(isinstance(each, str) and _CHECKSUM.fullmatch(each) for each in sums.values())
    )


def settings_sum(settings: Mapping[str, Any]) -> str:
    """CRC-32 of settings, whatever their layout."""
    return f"{zlib.crc32(json.dumps(settings, sort_keys=True).encode()):08x}"
