"""Whole numbers of 1 to 8 bits, one after the other without gaps, the first in a byte's lowest bits.

The fewest numbers that fill whole bytes, two of 4 bits and four of 6, are put together and taken apart as one.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def numbers_together(bits: int) -> int:
    """How many numbers fill whole bytes."""
    return 8 // int(np.gcd(8, bits))


def bytes_of_bits(numbers: Any, bits: int) -> Any:
    """Bytes that hold so many numbers, an integer or an array of them."""
    return -(-numbers * bits // 8)


def packed_bits(numbers: NDArray[np.float32], bits: int) -> NDArray[np.uint8]:
    """(n,) whole numbers from −2^(bits − 1) to 2^(bits − 1) − 1, to (⌈n bits / 8⌉,) bytes.

    Each is stored plus 2^(bits − 1).
    """
    together, length = _together(bits)
    codes = np.zeros((-(-len(numbers) // together), together), dtype=np.uint8)
    codes.reshape(-1)[: len(numbers)] = numbers + 2 ** (bits - 1)
    joined = _joined(codes, bits, together)
    parts = np.empty((len(codes), length), dtype=np.uint8)
    for byte in range(length):
        parts[:, byte] = joined >> 8 * byte & 255
    return parts.reshape(-1)[: bytes_of_bits(len(numbers), bits)]


def unpacked_bits(packed: NDArray[np.uint8], count: int, bits: int) -> NDArray[np.int8]:
    """The first `count` whole numbers of bytes that `packed_bits` made."""
    together, length = _together(bits)
    whole = -(-count // together)
    if len(packed) < whole * length:
        packed = np.concatenate([packed, np.zeros(whole * length - len(packed), dtype=np.uint8)])
    joined: Any = _joined(packed.reshape(whole, length), 8, together)
    # Each number to a byte of its own: all of them at once, several to a word.
    spread = joined & 2**bits - 1
    for number in range(1, together):
        part = joined << (8 - bits) * number
        part &= 2**bits - 1 << 8 * number
        spread |= part
    return _decoded(spread.view(np.uint8)[:count], bits)


def gathered_bits(packed: NDArray[np.uint8], places: NDArray[np.int64], bits: int) -> NDArray[np.int8]:
    """The whole numbers at some places of bytes that `packed_bits` made, in the places' shape."""
    first, shift = places * bits // 8, (places * bits % 8).astype(np.uint16)
    codes = packed[first].astype(np.uint16)
    if 8 % bits:
        # A number may begin in one byte and end in the next.
        codes |= packed[np.minimum(first + 1, len(packed) - 1)].astype(np.uint16) << np.uint16(8)
    return _decoded((codes >> shift & 2**bits - 1).astype(np.uint8), bits)


def _decoded(codes: NDArray[np.uint8], bits: int) -> NDArray[np.int8]:
    """Whole numbers from what is stored for them, which is overwritten."""
    # Wraps around, as eight bits with a sign do.
    codes -= np.uint8(2 ** (bits - 1))
    return codes.view(np.int8)


def _together(bits: int) -> tuple[int, int]:
    """The fewest numbers that fill whole bytes, and these."""
    together = numbers_together(bits)
    return together, together * bits // 8


def _joined(parts: NDArray[np.uint8], bits: int, length: int) -> NDArray[Any]:
    """(n,) whole numbers of so many bytes whose digits, of so many bits each and the lowest first, are the (n, digits)
    parts."""
    word = f"<u{length}"
    joined: NDArray[Any] = parts[:, 0].astype(word)
    for digit in range(1, parts.shape[1]):
        joined |= parts[:, digit].astype(word) << bits * digit
    return joined
