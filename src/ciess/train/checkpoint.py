"""Trained full models on disk, so that a later run need not train again."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ciess.errors import InputError
from ciess.files import write_whole
from ciess.models import Backbone, BackboneConfig
from ciess.train.fit import Fitted
from ciess.train.tune import Tuned


def fitted_once(path: Path | None, backbone: Backbone, train: Callable[[], Fitted]) -> Fitted:
    """Train a backbone in place and keep it, or read it if it was kept.

    Args:
        path: of the safetensors file; None keeps nothing.
        backbone: as it was built.
        train: trains it.

    Raises:
        InputError: the file is not of such a backbone, or cannot be written.
    """
    if path is None:
        return train()
    if not path.exists():
        fitted = train()
        # One entry of metadata: safetensors writes several in any order.
        write_whole(path, save(backbone.state_dict(), {"fitted": json.dumps(dataclasses.asdict(fitted))}))
        return fitted
    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            fitted = Fitted(**json.loads(file.metadata()["fitted"]))
        backbone.load_state_dict(state)
        # As after training: a module is built in training mode.
        backbone.eval()
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged or of another backbone: delete it") from error
    return fitted


def tuned_once(path: Path | None, config: BackboneConfig, search: Callable[[], Tuned]) -> Tuned:
    """Tune a backbone and keep what was found, or read it if it was kept.

    Args:
        path: of the JSON file; None keeps nothing.
        config: of the backbone, before it is tuned.
        search: tunes it.

    Raises:
        InputError: the file is damaged or cannot be written.
    """
    if path is None:
        return search()
    if not path.exists():
        found = search()
        changes = {name: found.config.setting(name) for name in config.tuned}
        write_whole(path, json.dumps({"settings": changes, "trials": found.trials}) + "\n")
        return found
    try:
        told = json.loads(path.read_text())
        return Tuned(config.changed(**told["settings"]), told["trials"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: delete it") from error
