import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from peers import PRUNED_BITS, Table, coded_at_most, place_bytes


@pytest.fixture(scope="module")
def rows() -> Table:
    return np.random.default_rng(0).standard_normal((400, 16)).astype(np.float32)


def test_places_take_the_shortest_code_by_hand() -> None:
    kept = np.zeros(800, dtype=bool)
    kept[[0, 5, 799]] = True
    # 0, 4 and 793 places are left out. In 8 bits 793 = 3 · 255 + 28 takes four codes, six in all. In 7 bits it is
    # 6 · 127 + 31: nine codes, 7.9 bytes. A bitmap takes 100.
    assert place_bytes(kept) == 6
    # In 2 bits 4 = 3 + 1 takes two codes: 4 codes are 1 byte, as a bitmap of 7 places is.
    assert place_bytes(kept[:7]) == 1
    assert place_bytes(np.ones(24, dtype=bool)) == 3, "a bitmap"


@given(arrays(bool, st.integers(1, 100)))
def test_places_are_counted_as_codes_written_one_by_one(kept: np.ndarray) -> None:
    kept[-1] = True  # Places after the last that is kept need no code.
    lengths = []
    for bits in range(1, 9):
        codes = left_out = 0
        for place in kept:
            ends = place or left_out + 1 == 2**bits - 1
            codes, left_out = codes + ends, 0 if ends else left_out + 1
        lengths.append(-(-codes * bits // 8))
    assert place_bytes(kept) == min(lengths)


@pytest.mark.parametrize("share", [0.06, 0.12])
def test_pruning_keeps_the_largest_numbers_that_fit_with_their_places(rows: Table, share: float) -> None:
    limit = int(rows.nbytes * share)
    pruned = [peer for peer in coded_at_most(limit, rows) if peer.method == "magnitude"]
    assert {peer.name.split()[0] for peer in pruned} == {str(bits) for bits in PRUNED_BITS}
    for peer in pruned:
        bits, least = (int(peer.name.split()[word]) for word in (0, 2))
        back = peer.coded(rows)
        kept = back != 0
        codebook = 2 * 2**bits if bits <= 8 else 0
        stored = -(-int(kept.sum()) * bits // 8) + codebook + place_bytes(kept.ravel())
        # A number more takes its bits, and the codes of its place, which may break a run in two.
        assert peer.stored_bytes(rows) == stored
        assert limit - 8 < stored <= limit
        assert kept.sum(1).min() >= least
        if least == 0:
            assert np.abs(rows[kept]).min() >= np.abs(rows[~kept]).max()
        error = np.abs(back - rows)[kept].mean()
        assert error < {3: 0.4, 4: 0.2, 8: 0.02, 16: 1e-3, 32: 1e-9}[bits]


def test_all_peers_fit_and_come_back_whole(rows: Table) -> None:
    rows = rows[:, :12]
    limit = rows.nbytes // 4
    found = coded_at_most(limit, rows)
    assert {peer.method for peer in found} >= {"PQ", "OPQ", "magnitude"}
    for peer in found[::3]:
        assert peer.stored_bytes(rows) <= limit
        assert peer.coded(rows).shape == rows.shape
