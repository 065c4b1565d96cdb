"""Models on disk: a folder of plain files, opened by memory mapping without PyTorch."""

import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as serialised

from ciess.data.ids import RowIds
from ciess.errors import InputError
from ciess.serve.model import CompressedModel
from ciess.serve.seen import SeenItems
from ciess.tables.files import checksum, damaged, map_arrays, write_arrays
from ciess.tables.packed import SIDES, load_tables, save_tables

if TYPE_CHECKING:
    from ciess.models.base import BackboneConfig

FORMAT = 3
TABLES, NETWORK, IDS, SEEN, SETTINGS = (
    "tables.safetensors",
    "network.safetensors",
    "ids.safetensors",
    "interactions.safetensors",
    "model.json",
)


def write(model: CompressedModel, folder: Path) -> Path:
    """Write a model into a folder, see `CompressedModel.save`."""
    ids = {
        f"{side}.{part}": array
        for side, index in zip(SIDES, (model.user_index, model.item_index), strict=True)
        for part, array in index.arrays.items()
    }
    files: dict[str, Callable[[Path], object]] = {
        TABLES: lambda path: save_tables(path, model.users, model.items),
        IDS: lambda path: write_arrays(path, ids, "ids"),
        SEEN: lambda path: write_arrays(path, model.seen.arrays, "seen"),
    }
    if model.network:
        files[NETWORK] = lambda path: path.write_bytes(serialised(model.network))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # All are written before the first is renamed: a model may be saved into the folder that it is read from.
        sums = {name: _written_aside(folder / name, into) for name, into in files.items()}
        settings = {
            "format": FORMAT,
            "backbone": model.settings,
            "rows_stand_alone": model.rows_stand_alone,
            "network": {name: list(weights.shape) for name, weights in model.network.items()},
            "checksums": sums,
            "about": model.about,
        }
        signed = json.dumps({**settings, "checksum": _sum_of(settings)}, indent=2) + "\n"
        _written_aside(folder / SETTINGS, lambda path: path.write_text(signed))
        for name in (*files, SETTINGS):
            os.replace(_aside(folder / name), folder / name)
        if not model.network:
            (folder / NETWORK).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}): choose another folder") from error
    return folder


def load(folder: str | Path, backbone: "BackboneConfig | None" = None) -> CompressedModel:
    """Open a model that `CompressedModel.save` wrote.

    Next to nothing is read: numbers are mapped into memory, and files compared with their checksums at the first use.

    Args:
        folder: what it was saved into.
        backbone: settings of the backbone that scores, where it is your own and not one of ciess.

    Raises:
        InputError: a file is missing, cut or foreign, or the backbone is not the one that was saved.
    """
    folder = Path(folder)
    settings = _read_settings(folder)
    _refuse_other(folder, settings["backbone"]["name"], settings["rows_stand_alone"], backbone)
    users, items = load_tables(folder / TABLES)
    user_index, item_index = _read_ids(folder / IDS, len(users), len(items))
    arrays, _ = map_arrays(folder / SEEN)
    try:
        seen = SeenItems.from_arrays(arrays, len(users), len(items))
    except (KeyError, ValueError) as error:
        raise damaged(folder / SEEN) from error
    return CompressedModel(
        users,
        items,
        user_index,
        item_index,
        seen,
        settings["backbone"],
        settings["rows_stand_alone"],
        settings["about"],
        _read_network(folder / NETWORK, settings["network"]),
        backbone,
        (folder, settings["checksums"]),
    )


def check_files(folder: Path, checksums: Mapping[str, str]) -> None:
    """Compare files with their checksums.

    Raises:
        InputError: one is missing or not as it was written.
    """
    for name, expected in checksums.items():
        try:
            found = checksum(folder / name)
        except OSError as error:
            raise InputError(f"{folder / name} cannot be read ({error.strerror}): save the model again") from error
        if found != expected:
            raise damaged(folder / name)


def _read_settings(folder: Path) -> dict[str, Any]:
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
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path) from error
    return dict(settings)


def _sum_of(settings: dict[str, Any]) -> str:
    """CRC-32 of settings, whatever their layout."""
    return f"{zlib.crc32(json.dumps(settings, sort_keys=True).encode()):08x}"


def _refuse_other(folder: Path, saved: str, stands_alone: bool, given: "BackboneConfig | None") -> None:
    """A backbone that is needed and not known, or is not the one given."""
    if given is None and stands_alone:
        return
    from ciess.models import backbone_names, backbone_settings

    if given is None:
        if saved not in backbone_names():
            raise InputError(
                f"{folder} was saved with the backbone '{saved}', which is not one of ciess: "
                "load it with backbone=, the settings it was trained with"
            )
    elif (name := backbone_settings(given)["name"]) != saved:
        raise InputError(f"{folder} was saved with the backbone '{saved}', not '{name}': give that one")


def _read_ids(path: Path, n_users: int, n_items: int) -> tuple[RowIds, RowIds]:
    arrays, _ = map_arrays(path)
    try:
        sides = [
            RowIds.from_arrays({name.removeprefix(f"{side}."): array for name, array in arrays.items() if side in name})
            for side in SIDES
        ]
    except (KeyError, ValueError) as error:
        raise damaged(path) from error
    if [len(side) for side in sides] != [n_users, n_items]:
        raise InputError(f"{path} does not match {TABLES}: save the model again")
    return sides[0], sides[1]


def _read_network(path: Path, shapes: Mapping[str, Sequence[int]]) -> dict[str, NDArray[Any]]:
    if not shapes:
        return {}
    try:
        network = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is missing or damaged: save the model again") from error
    if {name: list(weights.shape) for name, weights in network.items()} != shapes:
        raise InputError(f"{path} does not hold the weights that {SETTINGS} lists: save the model again")
    return network


def _written_aside(path: Path, into: Callable[[Path], object]) -> str:
    """Write beside the path, so that renaming it leaves a file whole or not there; its checksum."""
    into(_aside(path))
    return checksum(_aside(path))


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")
