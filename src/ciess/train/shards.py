"""Tables whose rows lie on several processes: look-ups by all-to-all, sums, and checkpoints of such tables."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from inspect import signature
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from ciess.errors import InputError
from ciess.models.base import USUAL_SCALE

try:
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter

    KEEPS = "save_distributed" in signature(HuggingFaceStorageWriter).parameters
except ImportError:
    KEEPS = False
"""Whether this PyTorch writes what lies on several processes as safetensors."""
_ROWS_AT_ONCE = 1 << 13
_PATIENCE = timedelta(days=1)
"""Others wait while the first process packs. That one is lost they see at once, as it closes its connections."""


def is_first() -> bool:
    """Whether this is the first of the processes, which may still have to join."""
    return (dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", 0))) == 0


@contextmanager
def processes() -> Iterator[None]:
    """Join the processes that `torchrun` started, over gloo, or be one alone; those that are joined already stay so."""
    if dist.is_initialized():
        yield
        return
    alone: dict[str, Any] = {"store": dist.HashStore(), "rank": 0, "world_size": 1}  # type: ignore[attr-defined]
    dist.init_process_group("gloo", timeout=_PATIENCE, **({} if "WORLD_SIZE" in os.environ else alone))
    try:
        yield
    finally:
        dist.destroy_process_group()


def total(part: Tensor) -> Tensor:
    """The sum of all processes' tensors, in place; the same bits on all of them."""
    dist.all_reduce(part)
    return part


class Side:
    """The users or the items: rows of which each process holds one block, as `torch.chunk` cuts them.

    Args:
        name: of the side.
        rows: of the whole table.

    Attributes:
        own: the rows that this process holds.

    Raises:
        InputError: a process would hold no rows.
    """

    def __init__(self, name: str, rows: int) -> None:
        world, rank = dist.get_world_size(), dist.get_rank()
        self.name, self.rows, self._block = name, rows, -(-rows // world)
        if self._block * (world - 1) >= rows:
            raise InputError(f"{world} processes are too many for {rows:,} {name}: start fewer")
        self.own = slice(self._block * rank, min(self._block * (rank + 1), rows))

    def table(self, dim: int, generator: torch.Generator) -> nn.Parameter:
        """This process' rows of a table, drawn as `normal_table` does and the same on any number of processes."""
        table = torch.empty(self.own.stop - self.own.start, dim)
        for start in range(0, self.rows, _ROWS_AT_ONCE):
            stop = min(start + _ROWS_AT_ONCE, self.rows)
            drawn = torch.randn(stop - start, dim, generator=generator) * USUAL_SCALE
            first, last = max(start, self.own.start), min(stop, self.own.stop)
            if first < last:
                table[first - self.own.start : last - self.own.start] = drawn[first - start : last - start]
        return nn.Parameter(table)

    def look_up(self, table: Tensor, rows: Tensor) -> Tensor:
        """Rows of the whole table, from the processes that hold them. Gradients go back to these.

        All processes must call it together, each for rows of its own choice.

        Args:
            table: (own rows, width) this process' rows.
            rows: (b,) places in the whole table.

        Returns:
            (b, width) rows.
        """
        owner = rows // self._block
        order = owner.argsort(stable=True)
        wanted = owner.bincount(minlength=dist.get_world_size())
        asked = torch.empty_like(wanted)
        dist.all_to_all_single(asked, wanted)
        counts = wanted.tolist(), asked.tolist()
        places = rows.new_empty(sum(counts[1]))
        dist.all_to_all_single(places, rows[order], counts[1], counts[0])
        found: Tensor = _Exchange.apply(table[places - self.own.start], *counts)  # type: ignore[no-untyped-call]
        return found[order.argsort()]

    def blocks(self, table: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """The whole table in blocks of rows, to the first process alone; the others, which must take part, get none."""
        first = dist.get_rank() == 0
        for start in range(0, self.rows, _ROWS_AT_ONCE):
            rows = slice(start, min(start + _ROWS_AT_ONCE, self.rows))
            yield rows, self.look_up(table, torch.arange(rows.start, rows.stop) if first else torch.arange(0))

    def sharded(self, table: Tensor) -> Tensor:
        """This process' rows as a part of the whole table, in the same memory."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor import DTensor, Shard

        mesh, width = init_device_mesh("cpu", (dist.get_world_size(),)), table.shape[1]
        shape = torch.Size((self.rows, width))
        return DTensor.from_local(table.detach(), mesh, [Shard(0)], run_check=False, shape=shape, stride=(width, 1))


class _Exchange(torch.autograd.Function):
    """Rows to other processes, and theirs here; gradients go the other way."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, here: list[int], there: list[int]) -> Tensor:
        """From (sum of `there`, width) rows to (sum of `here`, width): so many from and to each process."""
        ctx.counts = here, there
        found = rows.new_empty(sum(here), rows.shape[1])
        dist.all_to_all_single(found, rows.contiguous(), here, there)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The gradients of the rows that were sent."""
        here, there = ctx.counts
        found: Tensor = _Exchange.apply(gradients[0], there, here)  # type: ignore[no-untyped-call]
        return found, None, None


class Checkpoint:
    """The last state of a loop, in a folder that all processes see; read by any number of them.

    What lies on several processes is written by each, as safetensors. A state counts once all have written theirs.

    Args:
        folder: None keeps nothing.

    Raises:
        InputError: PyTorch is too old to write such files.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        if folder is not None and not KEEPS:
            raise InputError(f"PyTorch {torch.__version__} keeps no tables of several processes: install a newer one")

    def read(self, state: Mapping[str, Tensor]) -> int:
        """Put the last state into tensors of its shapes; its step, or 0 where there is none.

        Raises:
            InputError: its files are damaged.
        """
        if self._folder is None:
            return 0
        found = [int(each.name) for each in self._folder.glob("*") if each.name.isdecimal()]
        # What the first process sees counts for all.
        step = int(total(torch.tensor(max(found, default=0) if dist.get_rank() == 0 else 0)))
        if step:
            path = self._folder / str(step)
            try:
                load(dict(state), storage_reader=HuggingFaceStorageReader(str(path)))
            except (CheckpointException, SafetensorError) as error:
                raise InputError(f"{path} is damaged: delete it, so that training goes on without it") from error
        return step

    def write(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Keep a state in place of the one before."""
        if self._folder is None:
            return
        aside = self._folder / f"{step}.part"
        if dist.get_rank() == 0:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
        dist.barrier()
        writer = HuggingFaceStorageWriter(str(aside), save_distributed=True)
        save(dict(state), storage_writer=writer)
        dist.barrier()
        if dist.get_rank() == 0:
            aside.rename(self._folder / str(step))
            for each in self._folder.iterdir():
                if each.name != str(step):
                    shutil.rmtree(each, ignore_errors=True)
