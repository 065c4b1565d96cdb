"""Work done by several processes together over gloo, each of which imports what it needs anew."""

import multiprocessing
import pickle
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
import torch.distributed as dist

_PATIENCE = timedelta(seconds=60)
_STARTING = multiprocessing.get_context("forkserver")
# The second is what the first use of a sharded tensor imports.
_STARTING.set_forkserver_preload(["ciess.experiment.distribute", "torch._dynamo"])


def together(count: int, folder: Path, work: Callable[..., Any], *given: Any) -> list[Any]:
    """What each process' work returned, a function of a module, or the error that stopped it.

    Args:
        count: of processes.
        folder: where they meet.
        work: given `given`.
    """
    meeting, started = folder / f"meeting-{uuid4()}", []
    try:
        for rank in range(count):
            here, there = _STARTING.Pipe(duplex=False)
            process = _STARTING.Process(target=_join, args=(there, meeting, rank, count, work, given), daemon=True)
            process.start()
            there.close()
            started.append((process, here))
        return [_received(here) for _, here in started]
    finally:
        # Whoever waits for one that is lost, or for a test that was stopped, would go on waiting.
        for process, _ in started:
            process.kill()
            process.join()


def _received(here: Connection) -> Any:
    try:
        return here.recv()
    except EOFError as error:
        # It was killed.
        return error


def _join(
    there: Connection, meeting: Path, rank: int, count: int, work: Callable[..., Any], given: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count, timeout=_PATIENCE)
    try:
        found = work(*given)
    except BaseException as error:
        found = error
    # As bytes: tensors that are sent as such lie in memory that ends with this process.
    there.send_bytes(pickle.dumps(found))
