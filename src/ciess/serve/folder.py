"""The folder of a saved model: which files it holds, how they are written together, and how they are checked."""

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as serialised

from ciess.data.ids import RowIds
from ciess.errors import InputError
from ciess.files import write_together
from ciess.serve.seen import SeenItems
from ciess.tables.files import checksum, checksum_of, damaged, write_arrays
from ciess.tables.packed import SIDES, PackedTable, save_tables

FORMAT = 3
TABLES, NETWORK, IDS, SEEN, SETTINGS = (
    "tables.safetensors",
    "network.safetensors",
    "ids.safetensors",
    "interactions.safetensors",
    "model.json",
)
MODEL_FILES = (TABLES, NETWORK, IDS, SEEN, SETTINGS)
"""What a saved model may consist of."""


class Opened(NamedTuple):
    """A folder that a model was read from.

    Attributes:
        folder: its path.
        checksums: of its files as they were written, by name.
        files: those that are read only when they are used, as bytes by name.
    """

    folder: Path
    checksums: Mapping[str, str]
    files: Mapping[str, NDArray[np.uint8]]

    def check(self) -> None:
        """Compare what is read later with the checksums. Another model in the folder's place does not matter.

        Raises:
            InputError: a file is not as it was written.
        """
        for name, file in self.files.items():
            if checksum_of(file) == self.checksums[name]:
                continue
            if read_settings(self.folder)["checksums"] != self.checksums:
                raise InputError(f"{self.folder} was written anew while this model was open: load it again")
            raise damaged(self.folder / name)


def write_folder(
    folder: Path,
    tables: tuple[PackedTable, PackedTable],
    indices: tuple[RowIds, RowIds],
    seen: SeenItems,
    network: Mapping[str, NDArray[Any]],
    settings: Mapping[str, Any],
) -> None:
    """Write the files of a model; a model may be written into the folder that it was read from.

    Args:
        folder: made if need be.
        tables: of users and items.
        indices: ids of users and items.
        seen: what users have already.
        network: weights by name.
        settings: what else is kept, as JSON.

    Raises:
        InputError: a file cannot be written.
    """
    ids = {
        f"{side}.{part}": array
        for side, index in zip(SIDES, indices, strict=True)
        for part, array in index.arrays.items()
    }
    files: dict[str, Callable[[Path], object]] = {
        TABLES: lambda path: save_tables(path, *tables),
        IDS: lambda path: write_arrays(path, ids, "ids"),
        SEEN: lambda path: write_arrays(path, seen.arrays, "seen"),
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
        path.write_text(json.dumps({**kept, "checksum": _sum_of(kept)}, indent=2) + "\n")

    # The settings come last: they hold the checksums of the others.
    together = {name: summed(name, write) for name, write in files.items()} | {SETTINGS: write_settings}
    write_together(folder, together, stale=() if network else (NETWORK,))


def read_settings(folder: Path) -> dict[str, Any]:
    """What `write_folder` kept as JSON.

    Raises:
        InputError: the folder holds no model, or one of another format, or it is damaged.
    """
    path = folder / SETTINGS
    if not path.is_file():
        raise InputError(f"{folder} holds no {SETTINGS}: name a folder that ciess saved, such as runs/…/budget-5")
    try:
        settings = json.loads(path.read_text())
        written, expected = settings["format"], settings.pop("checksum", None)
        if written != FORMAT:
            raise InputError(
                f"{folder} is of format {written}, this ciess reads format {FORMAT}: install a matching one"
            )
        if expected != _sum_of(settings):
            raise damaged(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): save the model again") from error
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path) from error
    return dict(settings)


def _sum_of(settings: dict[str, Any]) -> str:
    """CRC-32 of settings, whatever their layout."""
    return f"{zlib.crc32(json.dumps(settings, sort_keys=True).encode()):08x}"
