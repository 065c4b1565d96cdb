"""Memory: what a run may take, and the refusal of one that would not fit."""

import os
from dataclasses import dataclass
from pathlib import Path

from ciess.errors import InputError
from ciess.models import Backbone
from ciess.tables.plan import TableShape
from ciess.train.losses import held_bytes

_PROGRAM = 400 * 10**6
"""Python with PyTorch and polars."""
_BUFFERS = 150 * 10**6
"""Blocks of scores, and what a step draws."""
_BYTES_AN_INTERACTION = 100
"""The matrix, its three parts, their unions, keys of samplers and evaluators."""
_BYTES_READ = 30
"""Of these, what is there once they are read."""
_TABLES_IN_TRAINING = {"descent": 9, "solver": 4}
"""The table itself, gradients, Adam's two moments, the best state so far, and what a step makes on its way."""
_TABLES_IN_A_FINISH = 14
"""The full model and its vectors, and a small one in training."""
_TABLES_IN_SEARCH = 16
"""As in a finish, the best small model so far, and gradients and curvatures."""
_GIB = 2**30
_LIMITS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
"""Of a container, and what of it is in use: control groups of version 2 and 1."""


@dataclass(frozen=True)
class Memory:
    """Bytes, roughly: within a factor of two of what small runs were measured to take.

    Attributes:
        interactions: and their parts.
        graph: of graph backbones.
        training: tables, gradients, optimiser and best state while the full model is trained.
        search: what the policy and measurements need.
        finish: models while a plan is finished.
        peak: of the whole program.
    """

    interactions: int
    graph: int
    training: int
    search: int
    finish: int
    peak: int


def memory_of(shape: TableShape, interactions: int, model: Backbone | None, descends: bool) -> Memory:
    """The memory that a search takes, by what takes it.

    Args:
        shape: of the full tables.
        interactions: in all parts of the split.
        model: of the backbone, whatever its size.
        descends: whether it is trained by gradients.
    """
    table = shape.full_bytes
    data = _BYTES_AN_INTERACTION * interactions
    # An index and a value there and back, of train, and of train and validation.
    graph = 0 if model is None or model.rows_stand_alone or not list(model.buffers()) else 40 * interactions
    training = table * _TABLES_IN_TRAINING["descent" if descends else "solver"]
    taught = held_bytes(shape.n_users, shape.n_items)
    search = _TABLES_IN_SEARCH * table + taught
    finishing = _TABLES_IN_A_FINISH * table + taught
    peak = _PROGRAM + _BUFFERS + data + graph + max(training, search, finishing)
    return Memory(data, graph, training, search, finishing, peak)


def available_memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that this process may still take, in the machine and in the container that it runs in; None if unknown."""
    known = []
    told = dict(line.split(":", 1) for line in _text(proc / "meminfo").splitlines() if ":" in line)
    if "MemAvailable" in told:
        known.append(int(told["MemAvailable"].split()[0]) * 1024)
    elif "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}) and proc == Path("/proc"):
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit, used in _LIMITS:
        numbers = [_text(groups / name).strip() for name in (limit, used)]
        if all(number.isdecimal() for number in numbers):
            known.append(max(0, int(numbers[0]) - int(numbers[1])))
    return min(known, default=None)


def check_room(shape: TableShape, interactions: int, model: Backbone | None, fixed: bool) -> None:
    """Refuse a run that would not fit into the memory that is available, once its data are read and before it trains.

    Args:
        shape: of the full tables.
        interactions: in all parts of the split.
        model: of the backbone, not yet trained; None where it is not made yet, and its tables are not there.
        fixed: whether the tables were given, so that their dimensions cannot be fewer.

    Raises:
        InputError: it would not fit; told is what would.
    """

    def needed(dim: int) -> int:
        # Python, the interactions and the tables are there already.
        there = _PROGRAM + _BYTES_READ * interactions + (shape.full_bytes if model is not None else 0)
        return memory_of(shape._replace(dim=dim), interactions, model, descends=True).peak - there

    available = available_memory()
    if available is None or needed(shape.dim) <= available:
        return
    fitting = 0 if fixed else max((dim for dim in range(1, shape.dim) if needed(dim) <= available), default=0)
    remedy = f"take {fitting} dimensions or fewer" if fitting else "take fewer users, items or interactions"
    raise InputError(
        f"this needs about {needed(shape.dim) / _GIB:.1f} GiB of memory and {available / _GIB:.1f} GiB are available: "
        f"{remedy}, or force it"
    )


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
