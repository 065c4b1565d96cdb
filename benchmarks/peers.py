"""What else makes tables small: product and scalar quantisation, as they are commonly used.

Each takes trained tables, their dimensions in order, to tables that are stored in fewer bytes, without any training of
the model afterwards. Bytes are counted in their favour: codebooks as float16, though faiss writes float32, and no
rotation, since scores that are inner products do not need to know it.
"""

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


@dataclass(frozen=True)
class Peer:
    """A way of storing rows (n, dim) of both tables.

    Attributes:
        method: what results are listed under.
        name: its settings in short.
        stored_bytes: of so many rows.
        coded: the rows as they come back.
    """

    method: str
    name: str
    stored_bytes: Callable[[int], int]
    coded: Callable[[Table], Table]


def peers(dim: int) -> Iterator[Peer]:
    """All peers and their settings."""
    for size in (size for size in PREFIXES if size <= dim):
        for bits, length in product((4, 8), LENGTHS):
            if size % length == 0:
                yield _product("PQ", size, size // length, bits)
                yield _product("OPQ", size, size // length, bits)
        for name in ("QT_4bit", "QT_6bit", "QT_8bit", "QT_fp16"):
            yield _scalar(size, name)


def coded_at_most(limit: int, rows: int, dim: int) -> list[Peer]:
    """The peers that store so many rows within the limit, and use most of it."""
    return [peer for peer in peers(dim) if 0.8 * limit <= peer.stored_bytes(rows) <= limit]


def _product(method: str, size: int, pieces: int, bits: int) -> Peer:
    def stored_bytes(rows: int) -> int:
        return rows * -(-pieces * bits // 8) + 2**bits * size * 2

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

    def stored_bytes(rows: int) -> int:
        # A lowest value and a range for each column.
        return rows * -(-size * bits // 8) + 2 * size * 2

    def coded(rows: Table) -> Table:
        head = np.ascontiguousarray(rows[:, :size])
        quantiser = faiss.ScalarQuantizer(size, kind)
        quantiser.train(head)
        return _widened(quantiser.decode(quantiser.compute_codes(head)), rows.shape[1])

    return Peer("scalar", f"{name[3:]} of {size}", stored_bytes, coded)


def _widened(rows: Table, dim: int) -> Table:
    return np.pad(rows, ((0, 0), (0, dim - rows.shape[1])))
