import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from peers import DIRECTION_BITS, PRUNED_BITS, Table, in_a_byte, peers_for, place_bytes

needs_codes = pytest.mark.skipif(
    not hasattr(faiss.ScalarQuantizer, "QT_1bit_tqmse"), reason="this faiss has no TurboQuant: 1.15 has"
)


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
    pruned = [(peer.name, peer.coded(rows)) for peer in peers_for(limit, rows) if peer.method == "magnitude"]
    pruned = [(name, coded) for name, coded in pruned if coded.stored_bytes <= limit]
    assert {name.split()[0] for name, _ in pruned} == {str(bits) for bits in PRUNED_BITS}
    for name, (back, told) in pruned:
        bits, least = (int(name.split()[word]) for word in (0, 2))
        kept = back != 0
        codebook = 2 * 2**bits if bits <= 8 else 0
        stored = -(-int(kept.sum()) * bits // 8) + codebook + place_bytes(kept.ravel())
        # A number more takes its bits, and the codes of its place, which may break a run in two.
        assert told == stored
        assert limit - 8 < stored <= limit
        assert kept.sum(1).min() >= least
        if least == 0:
            assert np.abs(rows[kept]).min() >= np.abs(rows[~kept]).max()
        error = np.abs(back - rows)[kept].mean()
        assert error < {3: 0.4, 4: 0.2, 8: 0.02, 16: 1e-3, 32: 1e-9}[bits]


@needs_codes
def test_all_quantised_peers_fit_and_come_back_whole(rows: Table) -> None:
    limit = 6900
    found = [peer for peer in peers_for(limit, rows) if peer.method != "magnitude"]
    assert {peer.method for peer in found} == {"PQ", "scalar", "TurboQuant", "RaBitQ"}
    assert {peer.dearer.method for peer in found if peer.dearer} == {"OPQ"}
    for peer in found[::2]:
        for each in filter(None, (peer, peer.dearer)):
            back, stored = each.coded(rows)
            assert stored <= limit
            assert stored >= 0.8 * limit or each.name.endswith("of 16"), "all dimensions take less"
            assert back.shape == rows.shape


@pytest.mark.parametrize("bits", [4, 5, 6, 7, 8])
def test_codebooks_are_what_float16_holds_and_counted_as_such(rows: Table, bits: int) -> None:
    stored = 400 * bits + 2**bits * 16 * 2
    peer = next(peer for peer in peers_for(stored, rows) if peer.name == f"PQ8x{bits} of 16")
    back, told = peer.coded(rows)
    assert told == stored, "8 codes a row, and 2 bytes for each value of a codebook"
    for piece in np.split(back, 8, axis=1):
        values = np.unique(piece, axis=0)
        assert len(values) <= 2**bits
        np.testing.assert_array_equal(values, values.astype(np.float16))


def test_all_dimensions_are_tried_whatever_their_number() -> None:
    rows = np.random.default_rng(0).standard_normal((300, 20)).astype(np.float32)
    names = {peer.name for peer in peers_for(300 * 10 + 16 * 40, rows) if peer.method == "PQ"}
    assert "PQ20x4 of 20" in names


@needs_codes
@pytest.mark.parametrize(
    ("method", "errors", "extra"),
    # Of the best levels for normal numbers (Max, 1960), which keep no more than the mean of what they stand for; RaBitQ
    # of one bit keeps inner products right in the mean instead: π/2 − 1.
    [("TurboQuant", (1 - 2 / np.pi, 0.1175, 0.03454, 0.009497), 0), ("RaBitQ", (np.pi / 2 - 1,), 2 * 64)],
)
def test_directions_come_back_as_well_as_theory_says(method: str, errors: tuple[float, ...], extra: int) -> None:
    rng = np.random.default_rng(0)
    # Numbers that differ widely within a row, and rows that differ widely: both are made up for.
    rows = rng.standard_normal((3000, 64)) * np.exp(-np.arange(64) / 20) * np.exp(rng.standard_normal((3000, 1)))
    rows = rows.astype(np.float32)
    for bits, expected in enumerate(errors, 1):
        stored = 3000 * (64 * bits // 8 + 1) + 8 + extra
        peer = next(
            each for each in peers_for(stored, rows) if (each.method, each.name) == (method, f"{bits} bits of 64")
        )
        back, told = peer.coded(rows)
        assert told == stored, "codes, a byte a row, two ends, and a mean"
        error = np.square(back - rows).sum(1) / np.square(rows).sum(1)
        assert error.mean() == pytest.approx(expected, rel=0.06)


@needs_codes
def test_more_bits_of_rabitq_are_closer(rows: Table) -> None:
    found = {peer.name: peer for stored in range(1000, 9000, 300) for peer in peers_for(stored, rows)}
    errors = [np.square(found[f"{bits} bits of 16"].coded(rows).rows - rows).mean() for bits in DIRECTION_BITS]
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 8 * errors[3]


def test_a_byte_keeps_the_ends_and_all_between_within_half_a_step() -> None:
    lengths = np.array([0, 1e-3, 0.02, 3, 7, 1e3], dtype=np.float32)[:, None]
    back = in_a_byte(lengths)
    np.testing.assert_allclose(back[[0, 1, 5]], lengths[[0, 1, 5]], rtol=1e-5)
    step = np.log(1e6) / 254
    assert np.abs(np.log(back[1:] / lengths[1:])).max() <= step / 2 + 1e-4
    for alone in (0.0, 2.5):
        np.testing.assert_allclose(in_a_byte(np.full((3, 1), alone, dtype=np.float32)), alone, rtol=1e-5)


def test_pruning_that_cannot_fit_says_so(rows: Table) -> None:
    limit = 4 * len(rows) * 4 // 8
    least = {peer.name: peer for peer in peers_for(limit, rows) if peer.method == "magnitude"}
    assert least["4 bits, 4 a row"].coded(rows).stored_bytes > limit
    assert least["4 bits, 0 a row"].coded(rows).stored_bytes <= limit


def test_a_learned_rotation_makes_up_for_numbers_that_go_together() -> None:
    """Of rows whose neighbouring numbers are nearly the same, pieces of two waste half of their codes."""
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.standard_normal((2000, 4)), 2, axis=1).astype(np.float32)
    rows += 0.05 * rng.standard_normal(rows.shape).astype(np.float32)
    plain = next(peer for peer in peers_for(2000 * 2 + 2**4 * 16, rows) if peer.name == "PQ4x4 of 8")
    assert plain.dearer is not None
    errors = [np.square(peer.coded(rows).rows - rows).mean() for peer in (plain, plain.dearer)]
    assert errors[1] < errors[0]
