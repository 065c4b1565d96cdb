"""`load`: saved models, opened by memory mapping without PyTorch."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ciess.checks import check
from ciess.data.ids import RowIds
from ciess.errors import InputError
from ciess.files import given_path, reading
from ciess.serve.folder import IDS, NETWORK, SEEN, SETTINGS, TABLES, Opened, Parts, read_settings
from ciess.serve.model import CompressedModel
from ciess.serve.seen import SeenItems
from ciess.tables.files import MappedFile, arrays_in, checksum_of, damaged
from ciess.tables.layout import SIDES
from ciess.tables.packed import load_tables
from ciess.tables.plan import FLOAT32_BYTES

if TYPE_CHECKING:
    from ciess.models.base import BackboneConfig

_DENSE_BYTES, _DENSE_FOLD = 2**30, 1000
"""Of both tables with all their dimensions: never refused, and how many times the files' bytes they may be beyond that.
Packed rows can be as short as a byte or two: a small file could ask for more memory than there is."""


def load(folder: str | Path, backbone: "BackboneConfig | None" = None, *, verify: bool = False) -> CompressedModel:
    """Open a model that `CompressedModel.save` wrote.

    Next to nothing is read: tables are mapped into memory, and compared with their checksums at the first use. The
    model stays what it is if another one is saved into the folder, or if the folder is removed. A folder may be a
    stranger's: what it holds is checked, nothing outside of it is read, and nothing in it is run.

    Args:
        folder: what it was saved into.
        backbone: settings of the backbone that scores, where it is your own and not one of ciess.
        verify: whether the files are read and checked now, and not at the first use.

    Raises:
        InputError: a file is missing, cut or foreign, or the backbone is not the one that was saved.
    """
    check("verify", verify, bool)
    folder = given_path("folder", folder).absolute()
    with reading(folder) as place:
        settings = read_settings(place(SETTINGS))
        _refuse_other(folder, settings["backbone"], settings["rows_stand_alone"], backbone)
        files = {name: MappedFile(place(name)) for name in (TABLES, IDS, SEEN)}
        network = _read_network(place(NETWORK), settings["checksums"])
    parts = _parts(files)
    if not settings["rows_stand_alone"] and backbone is None:
        _refuse_unfit(folder, settings["backbone"], parts, network)
    opened = Opened(folder, settings["checksums"], files, parts)
    model = CompressedModel(
        *parts.tables,
        *parts.ids,
        parts.seen,
        settings["backbone"],
        settings["rows_stand_alone"],
        settings["about"],
        network,
        backbone,
        settings.get("learns", True),
        opened,
    )
    if verify:
        model.verify()
    return model


def _refuse_other(
    folder: Path, settings: Mapping[str, Any], stands_alone: bool, given: "BackboneConfig | None"
) -> None:
    """A backbone that is needed and not known, or is not the one given."""
    if given is None and stands_alone:
        return
    from ciess.models import BackboneConfig, backbone_names, backbone_settings

    check("backbone", given, BackboneConfig | None)
    saved = settings["name"]
    if given is None:
        if saved not in backbone_names():
            raise InputError(
                f"{folder} was saved with the backbone '{saved}', which is not one of ciess: "
                "load it with backbone=, the settings it was trained with"
            )
    elif (name := backbone_settings(given)["name"]) != saved:
        raise InputError(f"{folder} was saved with the backbone '{saved}', not '{name}': give that one")
    elif given.dim != settings.get("dim", given.dim):
        raise InputError(f"{folder} was saved with dim {settings['dim']}, not {given.dim}: give the settings of then")


def _parts(files: Mapping[str, MappedFile]) -> Parts:
    """What the files hold, the number of rows the same in all of them."""
    tables = load_tables(files[TABLES].path, files[TABLES].content)
    n_users, n_items = map(len, tables)
    dense = (n_users + n_items) * tables[0].dim * FLOAT32_BYTES
    held = sum(len(file.content) for file in files.values())
    if not n_users or not n_items or dense > max(_DENSE_BYTES, _DENSE_FOLD * held):
        raise damaged(files[TABLES].path)
    users, items = _ids_in(files[IDS])
    if (len(users), len(items)) != (n_users, n_items):
        raise InputError(f"{files[IDS].path} does not match {TABLES}: save the model again")
    arrays, _ = arrays_in(files[SEEN].path, files[SEEN].content)
    try:
        seen = SeenItems.from_arrays(arrays, n_users, n_items)
    except (KeyError, ValueError) as error:
        raise damaged(files[SEEN].path) from error
    return Parts(tables, (users, items), seen)


def _ids_in(file: MappedFile) -> tuple[RowIds, RowIds]:
    arrays, _ = arrays_in(file.path, file.content)
    sides: dict[str, dict[str, NDArray[Any]]] = {side: {} for side in SIDES}
    try:
        for name, array in arrays.items():
            side, _, part = name.partition(".")
            sides[side][part] = array
        users, items = (RowIds.from_arrays(sides[side]) for side in SIDES)
    except (KeyError, ValueError) as error:
        raise damaged(file.path) from error
    return users, items


def _read_network(path: Path, checksums: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """Weights by name, copied and checked at once: they are few."""
    if NETWORK not in checksums:
        return {}
    content = MappedFile(path).content.copy()
    if checksum_of(content.data) != checksums[NETWORK]:
        raise damaged(path)
    return arrays_in(path, content)[0]


def _refuse_unfit(folder: Path, settings: dict[str, Any], parts: Parts, network: Mapping[str, NDArray[Any]]) -> None:
    """Settings of a backbone of ciess that are none, or that are not those of the tables and the network."""
    from ciess.models import backbone_from_settings

    try:
        config = backbone_from_settings({"dim": parts.tables[0].dim, **settings})
    except (InputError, TypeError, ValueError) as error:
        raise damaged(folder / SETTINGS) from error
    if config.dim != parts.tables[0].dim or config.network_parameters > sum(map(np.size, network.values())):
        raise InputError(f"{folder / SETTINGS} does not match the tables and the network: save the model again")
