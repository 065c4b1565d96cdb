"""Work done by several processes together over gloo, each of which imports what it needs anew."""

import multiprocessing
import pickle
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

_STARTING = multiprocessing.get_context("forkserver")
_STARTING.set_forkserver_preload(["ciess.experiment.distribute"])


def together(count: int, folder: Path, work: Callable[..., Any], *given: Any) -> list[Any]:
    """What each process' work returned, a function of a module, or the error that stopped it.

    Args:
        count: of processes.
        folder: where they meet.
        work: given `given`.
    """
    meeting = folder / f"meeting-{len(list(folder.glob('meeting-*')))}"
    started = []
    for rank in range(count):
        here, there = _STARTING.Pipe(duplex=False)
        process = _STARTING.Process(target=_join, args=(there, meeting, rank, count, work, given))
        process.start()
        there.close()
        started.append((process, here))
    found = [_received(here) for _, here in started]
    for process, _ in started:
        process.join()
    return found


def _received(here: Connection) -> Any:
    try:
        return pickle.loads(here.recv_bytes())
    except EOFError as error:
        # It was killed.
        return error


def _join(
    there: Connection, meeting: Path, rank: int, count: int, work: Callable[..., Any], given: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
    try:
        found = work(*given)
    except BaseException as error:
        found = error
    # As bytes: tensors that are sent as such lie in memory that ends with this process.
    there.send_bytes(pickle.dumps(found))
    dist.destroy_process_group()
