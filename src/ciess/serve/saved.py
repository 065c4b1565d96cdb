"""`load`: saved models, opened by memory mapping without PyTorch."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as deserialised

from ciess.data.ids import RowIds
from ciess.errors import InputError
from ciess.files import locked
from ciess.serve.folder import IDS, NETWORK, SEEN, TABLES, Opened, read_settings
from ciess.serve.model import CompressedModel
from ciess.serve.seen import SeenItems
from ciess.tables.files import arrays_in, checksum_of, damaged, map_file
from ciess.tables.packed import SIDES, load_tables

if TYPE_CHECKING:
    from ciess.models.base import BackboneConfig


def load(folder: str | Path, backbone: "BackboneConfig | None" = None) -> CompressedModel:
    """Open a model that `CompressedModel.save` wrote.

    Next to nothing is read: tables are mapped into memory, and compared with their checksums at the first use. The
    model stays what it is if another one is saved into the folder.

    Args:
        folder: what it was saved into.
        backbone: settings of the backbone that scores, where it is your own and not one of ciess.

    Raises:
        InputError: a file is missing, cut or foreign, or the backbone is not the one that was saved.
    """
    folder = Path(folder)
    with locked(folder, shared=True):
        settings = read_settings(folder)
        _refuse_other(folder, settings["backbone"]["name"], settings["rows_stand_alone"], backbone)
        files = {name: map_file(folder / name) for name in (TABLES, IDS, SEEN)}
        network = _read_network(folder / NETWORK, settings["checksums"])
    users, items = load_tables(folder / TABLES, files[TABLES])
    user_index, item_index = _ids_in(folder / IDS, files[IDS], len(users), len(items))
    arrays, _ = arrays_in(folder / SEEN, files[SEEN])
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
        network,
        backbone,
        settings.get("learns", True),
        Opened(folder, settings["checksums"], files),
    )


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


def _ids_in(path: Path, file: NDArray[np.uint8], n_users: int, n_items: int) -> tuple[RowIds, RowIds]:
    arrays, _ = arrays_in(path, file)
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


def _read_network(path: Path, checksums: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    if NETWORK not in checksums:
        return {}
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): save the model again") from error
    if checksum_of(content) != checksums[NETWORK]:
        raise damaged(path)
    return deserialised(content)
