"""Executors: where the cells of a comparison are made, over `concurrent.futures`; shards of a list of work."""

import multiprocessing
import pickle
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from ciess.checks import check, shown
from ciess.errors import InputError, reason, shortened

T = TypeVar("T")

_FORMS = "write processes:4, ray, or ray:ADDRESS"
_REMEDY = "put its class into a file that can be imported"
_MAIN = (
    "each process imports the script that starts it: write that into a file, "
    'and the call below `if __name__ == "__main__":`'
)
_IMPORTED_ONCE = ["ciess.experiment.trials"]


def check_executor(text: str | None) -> None:
    """Refuse an executor that is not written as they are, or cannot be used, before data are read; None is none.

    Raises:
        InputError: it is refused.
    """
    if text is not None and not (isinstance(text, str) and re.fullmatch("processes:[1-9][0-9]{0,3}|ray(:.+)?", text)):
        raise InputError(f"executor is {shown(text)}: {_FORMS}")
    if text is None or not text.startswith("processes"):
        return
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # In a process that imports the script, and has come to the same call: the one that started it tells why.
        raise SystemExit(1)
    if getattr(sys.modules["__main__"], "__file__", None) == "<stdin>":
        raise InputError(f"executor is {shown(text)}, and the script is no file: {_MAIN}")


@contextmanager
def executor_named(text: str) -> Iterator[Executor]:
    """An executor by what people write: `processes:N`, `ray` for a cluster on this machine, or `ray:ADDRESS`.

    What is not done when the context is left by an error is given up.

    Raises:
        InputError: it is none of these, or Ray is not installed or cannot be reached.
    """
    check_executor(text)
    kind, _, rest = text.partition(":")
    executor: Executor = Processes(int(rest)) if kind == "processes" else Ray(rest or "local")
    finished = False
    try:
        yield executor
        finished = True
    finally:
        executor.shutdown(cancel_futures=not finished)


def part_of(work: Sequence[T], shard: str | None) -> list[T]:
    """Shard `i/n` of a list of work: the i-th of n runs of neighbours, nearly equally long; all of it without a shard.

    Raises:
        InputError: the shard is not written so, or i is not from 1 to n.
    """
    if shard is None:
        return [*work]
    check("shard", shard, str)
    found = re.fullmatch("([0-9]{1,6})/([0-9]{1,6})", shard)
    i, n = map(int, found.groups()) if found else (0, 0)
    if not 1 <= i <= n:
        raise InputError(f"shard is '{shortened(shard)}': write i/n, such as 1/4 to 4/4")
    return [*work[(i - 1) * len(work) // n : i * len(work) // n]]


class Processes(Executor):
    """Makes each call in a process of its own, so that one that is lost takes no other with it.

    Args:
        number: calls at a time.
    """

    def __init__(self, number: int) -> None:
        # A thread for each process waits for it. Servers of forks have imported what is needed once for all.
        forks = "forkserver" in multiprocessing.get_all_start_methods()
        self._context: Any = multiprocessing.get_context("forkserver" if forks else "spawn")
        if forks:
            self._context.set_forkserver_preload(_IMPORTED_ONCE)
        self._threads = ThreadPoolExecutor(number)
        self._alive: set[Any] = set()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """See `Executor`."""
        return self._threads.submit(self._alone, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `Executor`; what is cancelled ends at once, though it has begun."""
        self._threads.shutdown(False, cancel_futures=cancel_futures)
        for process in [*self._alive] if cancel_futures else []:
            process.terminate()
        self._threads.shutdown(wait)

    def _alone(self, *call: Any) -> Any:
        mine, theirs = self._context.Pipe()
        process = self._context.Process(target=_answer, args=(theirs,), daemon=True)
        process.start()
        self._alive.add(process)
        theirs.close()
        begun = False
        try:
            begun = mine.recv()
            _send(mine, call)
            value, error = mine.recv()
        except (EOFError, OSError):
            process.join()
            if not begun:
                raise InputError(f"a process ended as it began (exit code {process.exitcode}): {_MAIN}") from None
            raise RuntimeError(f"its process was lost (exit code {process.exitcode})") from None
        finally:
            mine.close()
            process.join()
            self._alive.discard(process)
        if error is not None:
            raise error
        return value


def _answer(connection: Connection) -> None:
    """Make the call that comes in, and send back what it gives or raises."""
    # Ctrl-C reaches all processes of a terminal: the one that asks decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Who asks may be gone.
    with suppress(EOFError, OSError):
        connection.send(True)
        answer: tuple[Any, Exception | None]
        try:
            fn, args, kwargs = _received(connection)
            answer = fn(*args, **kwargs), None
        except Exception as error:
            answer = None, error
        connection.send(answer)


def _send(connection: Connection, call: Any) -> None:
    try:
        connection.send(call)
    except (AttributeError, TypeError, ValueError, pickle.PicklingError) as error:
        raise InputError(f"a method or recommender cannot be sent to a process ({reason(error)}): {_REMEDY}") from error


def _received(connection: Connection) -> Any:
    try:
        return connection.recv()
    except (EOFError, OSError):
        raise
    except Exception as error:
        raise InputError(f"a process does not know a method or recommender ({reason(error)}): {_REMEDY}") from error


class Ray(Executor):
    """Makes calls on a cluster of Ray. What a lost machine was at work on is begun again on another one.

    Args:
        address: of the cluster; `local` starts one on this machine, whatever others there are.

    Raises:
        InputError: Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, address: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise InputError("Ray is not installed: pip install 'ciess[ray]', or write processes:N") from error
        self._ray = ray
        try:
            ray.init(address=address, include_dashboard=False if address == "local" else None, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise InputError(f"Ray at '{shortened(address)}' does not answer: check its address") from error

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """See `Executor`."""
        found: Future[T] = self._ray.remote(_called).remote(fn, *args, **kwargs).future()
        return found

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `Executor`."""
        self._ray.shutdown()


def _called(fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    return fn(*args, **kwargs)
