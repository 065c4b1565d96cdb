"""`Kept`: pieces of a run on disk, finished or half done, so that a run that was stopped goes on where it was."""

import hashlib
import json
import logging
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ciess.errors import InputError
from ciess.files import open_regular, write_whole
from ciess.stopping import asked, safe_point

_log = logging.getLogger(__name__)

_SHARE = 0.05
"""Of the time since a run began, that may be spent on keeping what is half done, or is soon made anew."""
_BETWEEN = 2.0
"""Seconds from one state of a loop to the next, at least."""
_SLOWEST, _CALL = 1e8, 0.01
"""Bytes a second, and seconds a file, that keeping is expected to take."""


class State(NamedTuple):
    """What a piece came to, or how far it is: `told`, as JSON keeps it, and tensors by name."""

    told: dict[str, Any]
    tensors: dict[str, Tensor]


@runtime_checkable
class Resumable(Protocol):
    """What changes in a loop, and can be put back as it was."""

    def state(self) -> State:
        """As it is."""

    def restore(self, state: State) -> None:
        """Be again as it was."""


Part = Tensor | torch.Generator | Resumable
"""What a loop changes."""


class Attributes:
    """What a model holds beside parameters and buffers: numbers and generators that are attributes of its modules.

    NGCF counts its draws of dropout so, and a module of one's own may do alike.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def state(self) -> State:
        """See `Resumable`."""
        told, tensors = dict[str, Any](), dict[str, Tensor]()
        for name, module in self._model.named_modules():
            for key, value in vars(module).items():
                if type(value) in (int, float):
                    told[f"{name}:{key}"] = value
                elif isinstance(value, torch.Generator):
                    tensors[f"{name}:{key}"] = value.get_state()
        return State(told, tensors)

    def restore(self, state: State) -> None:
        """See `Resumable`."""
        modules = dict(self._model.named_modules())
        for each, value in state.told.items():
            name, _, key = each.partition(":")
            setattr(modules[name], key, value)
        for each, tensor in state.tensors.items():
            name, _, key = each.partition(":")
            getattr(modules[name], key).set_state(tensor)


class Composed(ABC):
    """A `Resumable` made of others, whose states together are its own."""

    @property
    @abstractmethod
    def parts(self) -> "Mapping[str, Part]":
        """All that changes, by names."""

    def state(self) -> State:
        """See `Resumable`."""
        return taken(self.parts)

    def restore(self, state: State) -> None:
        """See `Resumable`."""
        put_back(self.parts, state)


class Kept:
    """Pieces of one run in a folder, each known by its name. A damaged one is told, and made anew.

    Args:
        folder: where they lie; None keeps nothing.
        name: with which their files' names begin. It must tell apart all that pieces follow from.
        spent: what writing has taken so far, of all pieces of the run together.
    """

    def __init__(self, folder: Path | None, name: str = "", spent: "_Spent | None" = None) -> None:
        self._folder, self._name, self._spent = folder, name, spent or _Spent()

    def within(self, *names: object) -> "Kept":
        """The pieces whose names go on with these."""
        if self._folder is None:
            return self
        plain = (re.sub(r"[^\w.=,-]", "-", str(name)) for name in names)
        return Kept(self._folder, "-".join(filter(None, (self._name, *plain))), self._spent)

    @property
    def path(self) -> Path | None:
        """The piece's file; None where nothing is kept."""
        return self._folder and self._folder / f"{self._name}.safetensors"

    def read(self) -> State | None:
        """The piece, None where there is none, or none that is whole; of a loop, an earlier state may still be."""
        if self.path is None:
            return None
        return _read(self.path) or _read(self._before(self.path))

    def write(self, state: State) -> None:
        """Keep a piece.

        Raises:
            InputError: the folder cannot be written.
        """
        if self.path is not None:
            start = time.perf_counter()
            write_whole(self.path, _content(state))
            self._spent.seconds += time.perf_counter() - start

    def once(self, make: Callable[[], State], always: bool = False) -> State:
        """A piece as it was kept, or made now.

        Args:
            make: makes it.
            always: keep it, however long that takes.
        """
        safe_point()
        found = self.read()
        if found is None:
            found = make()
            if always or self._spent.allows(found):
                self.write(found)
        return found

    def steps(self, last: int, parts: Mapping[str, Part], done: Callable[[], bool] = lambda: False) -> Iterator[int]:
        """The steps of a loop, from 1: those that are left, after all that it changes is put back as it was.

        Args:
            last: the last step.
            parts: all that the loop changes, but for PyTorch's global generator, which is always put back.
            done: whether to end before the last step.
        """
        parts, step, kept_at = {**parts, "torch": torch.default_generator}, 0, time.perf_counter()
        if self.path is not None and (found := self.read()) is not None:
            step = found.told["step"]
            put_back(parts, found)
        while step < last and not done():
            step += 1
            yield step
            if self.path is None:
                safe_point()
            elif asked() or time.perf_counter() - kept_at > _BETWEEN:
                state = taken(parts)
                state.told["step"] = step
                if asked() or self._spent.allows(state):
                    with suppress(OSError):
                        self.path.replace(self._before(self.path))
                    self.write(state)
                    kept_at = time.perf_counter()
                safe_point()

    def forget(self) -> None:
        """Remove all pieces whose names begin so, and the folder if nothing else is in it."""
        if self._folder is not None:
            with suppress(OSError):
                for path in self._folder.glob(f"{self._name}*"):
                    path.unlink(missing_ok=True)
                self._folder.rmdir()

    @staticmethod
    def _before(path: Path) -> Path:
        return path.with_suffix(".before.safetensors")


class _Spent:
    """The time that a run spends on keeping."""

    def __init__(self) -> None:
        self.seconds, self._since = 0.0, time.perf_counter()

    def allows(self, state: State) -> bool:
        """Whether this may be kept, too."""
        size = sum(each.numel() * each.element_size() for each in state.tensors.values())
        expected = self.seconds + _CALL + size / _SLOWEST
        return expected <= _SHARE * (time.perf_counter() - self._since)


NOTHING = Kept(None)
"""Keeps nothing."""


def taken(parts: Mapping[str, Part]) -> State:
    """The state of all parts now. Nothing is copied: it must be written before the next step changes them."""
    told, tensors = dict[str, Any](), dict[str, Tensor]()
    for name, part in parts.items():
        if isinstance(part, Tensor):
            tensors[name] = part.detach()
        elif isinstance(part, torch.Generator):
            tensors[name] = part.get_state()
        else:
            inner = part.state()
            told[name] = inner.told
            tensors |= {f"{name}.{key}": value for key, value in inner.tensors.items()}
    return State(told, tensors)


@torch.no_grad()
def put_back(parts: Mapping[str, Part], state: State) -> None:
    """Make parts what they were when a state was taken, which stays as it is."""
    for name, part in parts.items():
        inner = {
            key.removeprefix(f"{name}."): each for key, each in state.tensors.items() if key.startswith(f"{name}.")
        }
        if isinstance(part, Tensor):
            part.copy_(state.tensors[name])
        elif isinstance(part, torch.Generator):
            part.set_state(state.tensors[name])
        else:
            part.restore(State(state.told[name], inner))


def _content(state: State) -> bytes:
    tensors, places = dict[str, Tensor](), set[int]()
    for name, each in state.tensors.items():
        plain = each.detach().cpu().contiguous()
        # Safetensors takes no two that lie in the same place, as tied weights do.
        place = plain.untyped_storage().data_ptr()
        tensors[name] = plain.clone() if place in places else plain
        places.add(place)
    told = json.dumps(state.told, default=float)
    # One entry of metadata: safetensors writes several in any order.
    return save(tensors, {"piece": json.dumps({"checksum": _checksum(told, tensors), "told": told})})


def _read(path: Path) -> State | None:
    try:
        with open_regular(path) as file:
            content = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): delete it") from error
    try:
        # The metadata are in the head: 8 bytes of its length, then JSON.
        head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        piece = json.loads(head["__metadata__"]["piece"])
        tensors = load(content)
        if piece["checksum"] == _checksum(piece["told"], tensors):
            return State(json.loads(piece["told"]), tensors)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    _log.warning("%s is damaged: what it held is made anew", path)
    return None


def _checksum(told: str, tensors: Mapping[str, Tensor]) -> str:
    """Of all that a piece holds, the names of tensors and their shapes among it."""
    found = hashlib.sha256(told.encode())
    for name, each in sorted(tensors.items()):
        found.update(f"{name} {each.dtype} {tuple(each.shape)}".encode())
        found.update(each.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
