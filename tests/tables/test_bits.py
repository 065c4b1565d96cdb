import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ciess.tables.bits import bytes_of_bits, gathered_bits, packed_bits, unpacked_bits


@given(st.integers(1, 8), st.data())
def test_numbers_share_bytes_and_come_back(bits: int, data: st.DataObject) -> None:
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    numbers = data.draw(arrays(np.float32, st.integers(1, 40), elements=st.integers(least, most).map(float)))
    packed = packed_bits(numbers, bits)
    assert len(packed) == -(-len(numbers) * bits // 8) == bytes_of_bits(len(numbers), bits)
    np.testing.assert_array_equal(unpacked_bits(packed, len(numbers), bits), numbers)
    places = np.random.default_rng(0).integers(0, len(numbers), (3, 5))
    np.testing.assert_array_equal(gathered_bits(packed, places, bits), numbers[places])


@pytest.mark.parametrize(
    ("bits", "numbers", "packed"),
    [
        (4, [-7, 7, 0], [0xF1, 0x08]),
        # Stored as 1, 63, 32, 33 from the lowest bits of 0x860FC1 upwards; then 31 alone.
        (6, [-31, 31, 0, 1, -1], [0xC1, 0x0F, 0x86, 0x1F]),
        # Signs: stored as 0, 1, 1, 0, 0, 0, 0, 0, 1.
        (1, [-1, 0, 0, -1, -1, -1, -1, -1, 0], [0x06, 0x01]),
        # Stored as 0, 7, 4, of which the third lies in two bytes.
        (3, [-4, 3, 0], [0x38, 0x01]),
    ],
)
def test_bytes_by_hand(bits: int, numbers: list[float], packed: list[int]) -> None:
    assert packed_bits(np.array(numbers), bits).tolist() == packed
