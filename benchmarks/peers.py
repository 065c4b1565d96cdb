"""What else makes tables small: product and scalar quantisation, and pruning of single numbers.

Each takes trained tables, their dimensions in order, to tables that are stored in fewer bytes, without any training of
the model afterwards. Bytes are counted in their favour: codebooks as float16, though faiss writes float32, and no
rotation, since scores that are inner products do not need to know it. The places of what pruning keeps are counted.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import faiss
import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float32]
PREFIXES = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Numbers of a row that are kept before they are coded."""
LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Numbers that share a code."""
PRUNED_BITS = (3, 4, 8, 16, 32)
"""Of a number that pruning keeps: up to 8 are a code, 16 and 32 a float."""
PRUNED_LEAST = (0, 1, 4)
"""Numbers of a row that pruning keeps, however small they are."""


@dataclass(frozen=True)
class Peer:
    """A way of storing rows (n, dim) of both tables, each table in its root mean squares.

    Attributes:
        method: what results are listed under.
        name: its settings in short.
        stored_bytes: of these rows.
        coded: the rows as they come back.
    """

    method: str
    name: str
    stored_bytes: Callable[[Table], int]
    coded: Callable[[Table], Table]


def coded_at_most(limit: int, rows: Table) -> list[Peer]:
    """The peers that store these rows within the limit, and use most of it."""
    found = [peer for peer in _quantised(rows.shape[1]) if 0.8 * limit <= peer.stored_bytes(rows) <= limit]
    pruned = (_pruned(limit, bits, least) for bits, least in product(PRUNED_BITS, PRUNED_LEAST))
    return [*found, *(peer for peer in pruned if peer.stored_bytes(rows) <= limit)]


def _quantised(dim: int) -> Iterator[Peer]:
    for size in (size for size in PREFIXES if size <= dim):
        for bits, length in product((4, 8), LENGTHS):
            if size % length == 0:
                yield _product("PQ", size, size // length, bits)
                yield _product("OPQ", size, size // length, bits)
        for name in ("QT_4bit", "QT_6bit", "QT_8bit", "QT_fp16"):
            yield _scalar(size, name)


def _product(method: str, size: int, pieces: int, bits: int) -> Peer:
    def stored_bytes(rows: Table) -> int:
        return len(rows) * -(-pieces * bits // 8) + 2**bits * size * 2

    def coded(rows: Table) -> Table:
        head = np.ascontiguousarray(rows[:, :size])
        rotation = None
        if method == "OPQ":
            rotation = faiss.OPQMatrix(size, pieces)
            rotation.niter = 20
            rotation.train(head)
            head = rotation.apply(head)
        quantiser = faiss.ProductQuantizer(size, pieces, bits)
        quantiser.cp.seed = 0
        quantiser.cp.min_points_per_centroid = 1
        quantiser.train(head)
        back = quantiser.decode(quantiser.compute_codes(head))
        return _widened(back if rotation is None else rotation.reverse_transform(back), rows.shape[1])

    return Peer(method, f"{method}{pieces}x{bits} of {size}", stored_bytes, coded)


def _scalar(size: int, name: str) -> Peer:
    kind = getattr(faiss.ScalarQuantizer, name)
    bits = {"QT_4bit": 4, "QT_6bit": 6, "QT_8bit": 8, "QT_fp16": 16}[name]

    def stored_bytes(rows: Table) -> int:
        # A lowest value and a range for each column.
        return len(rows) * -(-size * bits // 8) + 2 * size * 2

    def coded(rows: Table) -> Table:
        head = np.ascontiguousarray(rows[:, :size])
        quantiser = faiss.ScalarQuantizer(size, kind)
        quantiser.train(head)
        return _widened(quantiser.decode(quantiser.compute_codes(head)), rows.shape[1])

    return Peer("scalar", f"{name[3:]} of {size}", stored_bytes, coded)


def _pruned(limit: int, bits: int, least: int) -> Peer:
    """The largest numbers, as many as fit with their places; numbers in few bits share values, as Han et al. (2016)."""
    codebook = 2**bits * 2 if bits <= 8 else 0

    def bytes_of(kept: NDArray[np.bool_]) -> int:
        return -(-int(kept.sum()) * bits // 8) + codebook + place_bytes(kept)

    def kept_of(rows: Table) -> NDArray[np.bool_]:
        magnitude = np.abs(rows)
        np.put_along_axis(magnitude, np.argsort(-magnitude, axis=1)[:, :least], np.inf, axis=1)
        order = np.argsort(-magnitude, axis=None, kind="stable")

        def largest(count: int) -> NDArray[np.bool_]:
            kept = np.zeros(rows.size, dtype=bool)
            kept[order[:count]] = True
            return kept

        fewest = max(1, least * len(rows))
        counts = range(fewest, rows.size + 1)
        fitting = bisect_right(counts, limit, key=lambda count: bytes_of(largest(count)))
        # Where not even the fewest fit, their bytes say so.
        return largest(counts[max(fitting, 1) - 1])

    def coded(rows: Table) -> Table:
        kept = kept_of(rows)
        numbers = rows.reshape(-1, 1)[kept]
        back = np.zeros(rows.size, dtype=np.float32)
        back[kept] = _shared(numbers, bits) if codebook else numbers[:, 0].astype(f"f{bits // 8}")
        return back.reshape(rows.shape)

    return Peer("magnitude", f"{bits} bits, {least} a row", lambda rows: bytes_of(kept_of(rows)), coded)


def place_bytes(kept: NDArray[np.bool_]) -> int:
    """To say which of the places, (n,), are kept, in codes of 1 to 8 bits, whichever are shortest.

    A code is how many places were left out before one that is kept, or, the highest, that so many were left out and the
    next code goes on. Codes of one bit are a bitmap.
    """
    left_out = np.diff(np.flatnonzero(kept), prepend=-1) - 1
    return min(-(-bits * int((1 + left_out // (2**bits - 1)).sum()) // 8) for bits in range(1, 9))


def _shared(numbers: Table, bits: int) -> Table:
    """(n,) numbers, (n, 1), each replaced by one of 2^bits values."""
    quantiser = faiss.ProductQuantizer(1, 1, bits)
    quantiser.cp.seed = 0
    quantiser.cp.min_points_per_centroid = 1
    quantiser.train(numbers)
    back: Table = quantiser.decode(quantiser.compute_codes(numbers))[:, 0]
    return back


def _widened(rows: Table, dim: int) -> Table:
    return np.pad(rows, ((0, 0), (0, dim - rows.shape[1])))
