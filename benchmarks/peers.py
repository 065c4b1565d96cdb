"""What else makes tables small: product and scalar quantisation, TurboQuant, RaBitQ, and pruning of single numbers.

Each takes trained tables, their dimensions in order, to tables that are stored in fewer bytes, without any training of
the model afterwards. Codebooks are float16, counted as such, and rows come back by what is stored. No rotation is
counted, since scores that are inner products do not need to know it. The places of what pruning keeps are counted.

TurboQuant (arXiv 2504.19874) and RaBitQ (arXiv 2405.12497, with several bits 2409.09913) code the direction of a row
that is turned at random. Its length is kept in a byte: less than faiss keeps, so that they lose nothing by it.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float32]
PREFIXES = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Dimensions of a row that are kept before they are coded; all of them are tried, too."""
LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Dimensions that share a code."""
BITS = (4, 5, 6, 7, 8)
"""Of a code."""
ROWS_TURNED = 20_000
"""At most, that a rotation is learned from: with more it takes minutes and hardly changes."""
DIRECTION_BITS = (1, 2, 3, 4, 8)
"""Of a number of a row's direction."""
PRUNED_BITS = (3, 4, 8, 16, 32)
"""Of a number that pruning keeps: up to 8 are a code, 16 and 32 a float."""
PRUNED_LEAST = (0, 1, 4)
"""Numbers of a row that pruning keeps, however small they are."""


class Coded(NamedTuple):
    """Rows as they come back, and the bytes that they are stored in."""

    rows: Table
    stored_bytes: int


@dataclass(frozen=True)
class Peer:
    """A way of storing rows (n, dim) of both tables, each table in its root mean squares.

    Attributes:
        method: what results are listed under.
        name: its settings in short.
        coded: the rows as they come back, and their bytes: more than the limit where nothing that fits can be kept.
        dearer: the same with what takes long to learn: worth a try where this one is among the best.
    """

    method: str
    name: str
    coded: Callable[[Table], Coded]
    dearer: "Peer | None" = None


def peers_for(limit: int, rows: Table) -> list[Peer]:
    """The peers that may store these rows within the limit, and use most of it."""
    quantised = [peer for stored, peer in _quantised(*rows.shape) if 0.8 * limit <= stored <= limit]
    return [
        *quantised,
        *_directions(limit, *rows.shape),
        *(_pruned(limit, bits, least) for bits, least in product(PRUNED_BITS, PRUNED_LEAST)),
    ]


def _quantised(count: int, dim: int) -> Iterator[tuple[int, Peer]]:
    """With the bytes of that many rows."""
    for size in sorted({*(size for size in PREFIXES if size < dim), dim}):
        for bits, length in product(BITS, LENGTHS):
            # A codebook is learned from as many rows at least.
            if size % length == 0 and 2**bits <= count:
                pieces = size // length
                stored = count * -(-pieces * bits // 8) + 2**bits * size * 2
                yield stored, _product(stored, size, pieces, bits)
        for bits, name in ((4, "4bit"), (6, "6bit"), (8, "8bit"), (16, "fp16")):
            # A lowest value and a range for each column, in float16.
            stored = count * -(-size * bits // 8) + 2 * size * 2
            yield stored, _scalar(stored, size, name)


def _directions(limit: int, count: int, dim: int) -> Iterator[Peer]:
    """With as many dimensions as fit, for each number of bits."""
    for bits, (method, coded, mean_bytes) in product(DIRECTION_BITS, DIRECTIONS):
        for size in range(dim, 1, -1):
            # A byte for each row's length, and the lowest and the highest length in float32.
            stored = count * (-(-size * bits // 8) + 1) + 8 + mean_bytes * size
            if stored <= limit:
                yield _turned(stored, size, bits, method, coded)
                break


def _product(stored: int, size: int, pieces: int, bits: int) -> Peer:
    def untrained() -> faiss.ProductQuantizer:
        quantiser = faiss.ProductQuantizer(size, pieces, bits)
        quantiser.cp.seed = 0
        quantiser.cp.min_points_per_centroid = 1
        return quantiser

    def plain(head: Table) -> Table:
        quantiser = untrained()
        quantiser.train(head)
        return _coded(quantiser, quantiser.centroids, head)

    def rotated(head: Table) -> Table:
        rotation = faiss.OPQMatrix(size, pieces)
        rotation.niter = 20
        rotation.max_train_points = ROWS_TURNED
        # Else it is learned for codes of 8 bits, whatever they are.
        rotation.pq = quantiser = untrained()
        rotation.train(head)
        turned = rotation.apply(head)
        quantiser.train(turned)
        back: Table = rotation.reverse_transform(_coded(quantiser, quantiser.centroids, turned))
        return back

    def peer(method: str, coded: Callable[[Table], Table], dearer: Peer | None = None) -> Peer:
        name = f"{method}{pieces}x{bits} of {size}"
        return Peer(method, name, lambda rows: Coded(_by_head(rows, size, coded), stored), dearer)

    return peer("PQ", plain, peer("OPQ", rotated))


def _scalar(stored: int, size: int, name: str) -> Peer:
    def coded(head: Table) -> Table:
        quantiser = faiss.ScalarQuantizer(size, getattr(faiss.ScalarQuantizer, f"QT_{name}"))
        quantiser.train(head)
        return _coded(quantiser, quantiser.trained, head)

    return Peer("scalar", f"{name} of {size}", lambda rows: Coded(_by_head(rows, size, coded), stored))


def _turned(stored: int, size: int, bits: int, method: str, coded: Callable[[Table, int], Table]) -> Peer:
    rotation = faiss.RandomRotationMatrix(size, size)
    rotation.init(0)

    def back(head: Table) -> Table:
        table: Table = rotation.reverse_transform(coded(rotation.apply(head), bits))
        return table

    return Peer(method, f"{bits} bits of {size}", lambda rows: Coded(_by_head(rows, size, back), stored))


def _turboquant(rows: Table, bits: int) -> Table:
    lengths = _lengths(rows)
    quantiser = faiss.ScalarQuantizer(rows.shape[1], getattr(faiss.ScalarQuantizer, f"QT_{bits}bit_tqmse"))
    units = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    # Its levels follow from the number of dimensions alone.
    quantiser.train(units)
    return in_a_byte(lengths) * quantiser.decode(quantiser.compute_codes(units))


def _rabitq(rows: Table, bits: int) -> Table:
    count, size = rows.shape
    mean = rows.mean(0).astype(np.float16).astype(np.float32)
    index = faiss.IndexRaBitQ(size, faiss.METRIC_INNER_PRODUCT, bits)
    index.qb = 0
    index.train(rows - mean)
    faiss.copy_array_to_vector(np.zeros(size, dtype=np.float32), index.center)
    index.add(rows - mean)
    # faiss decodes one bit alone, but estimates inner products from all; those with unit vectors are the numbers.
    found, order = index.search(np.eye(size, dtype=np.float32), count)
    back = np.empty((count, size), dtype=np.float32)
    back[order, np.arange(size)[:, None]] = found
    lengths = _lengths(back)
    return mean + np.divide(back, lengths, out=np.zeros_like(back), where=lengths > 0) * in_a_byte(lengths)


DIRECTIONS = (("TurboQuant", _turboquant, 0), ("RaBitQ", _rabitq, 2))
"""What codes directions, and the bytes for each dimension of a mean that it keeps."""


def _lengths(rows: Table) -> Table:
    """(n, 1) of rows."""
    lengths: Table = np.linalg.norm(rows, axis=1, keepdims=True)
    return lengths


def in_a_byte(lengths: Table) -> Table:
    """Lengths as a byte each brings them back: 0, or one of 255 from the lowest to the highest, in equal ratios."""
    back, above = np.zeros_like(lengths), lengths > 0
    if above.any():
        logarithms = np.log(lengths[above])
        low, step = logarithms.min(), np.ptp(logarithms) / 254 or 1.0
        back[above] = np.exp(low + step * np.round((logarithms - low) / step))
    return back


def _by_head(rows: Table, size: int, coded: Callable[[Table], Table]) -> Table:
    """Rows whose first numbers are coded, and whose other ones are zero."""
    back = coded(np.ascontiguousarray(rows[:, :size]))
    return np.pad(back, ((0, 0), (0, rows.shape[1] - size)))


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

    def coded(rows: Table) -> Coded:
        kept = kept_of(rows)
        numbers = rows.reshape(-1, 1)[kept]
        back = np.zeros(rows.size, dtype=np.float32)
        back[kept] = _shared(numbers, bits) if codebook else numbers[:, 0].astype(f"f{bits // 8}")
        return Coded(back.reshape(rows.shape), bytes_of(kept))

    return Peer("magnitude", f"{bits} bits, {least} a row", coded)


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
    shared: Table = _coded(quantiser, quantiser.centroids, numbers)[:, 0]
    return shared


def _coded(quantiser: Any, learned: Any, rows: Table) -> Table:
    """(n, size) rows as they come back where what a quantiser has learned is stored in float16."""
    faiss.copy_array_to_vector(faiss.vector_to_array(learned).astype(np.float16).astype(np.float32), learned)
    back: Table = quantiser.decode(quantiser.compute_codes(rows))
    return back
