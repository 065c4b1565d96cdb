import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import chisquare

from ciess.data import Interactions, Split
from ciess.data.sampling import TripletSampler, _Pairs
from ciess.errors import InputError


def test_positives_are_owned_and_negatives_are_not(split: Split) -> None:
    users, positives, negatives = TripletSampler(split.train, seed=0).sample(20_000)
    owned = torch.from_numpy(split.train.matrix.toarray()).bool()
    assert owned[users, positives].all()
    assert not owned[users, negatives].any()
    assert (users.diff() >= 0).all()


def test_pairs_are_told_from_others_whatever_their_number() -> None:
    # Products of such numbers and the hash function's go beyond 64 bits.
    keys = np.unique(np.random.default_rng(0).integers(2**40, size=3000) * 2**20)
    asked = np.random.default_rng(1).permutation(np.concatenate([keys[::3], keys[1:1000] + 1, [0, 2**62]]))
    found = _Pairs(keys).places(torch.from_numpy(asked))
    assert found.tolist() == np.flatnonzero(np.isin(asked, keys)).tolist()


def test_users_are_uniform_and_so_are_items_within(tiny: Interactions) -> None:
    users, positives, negatives = TripletSampler(tiny, seed=1).sample(60_000)
    assert chisquare(np.bincount(users)).pvalue > 1e-3
    assert chisquare(np.bincount(positives[users == 2])[[0, 2, 3]]).pvalue > 1e-3
    assert chisquare(np.bincount(negatives[users == 1])[[0, 2, 3]]).pvalue > 1e-3


def test_users_without_a_negative_or_a_positive_are_not_drawn() -> None:
    users, items = [0, 0, 1], [0, 1, 0]
    everything = Interactions.from_frame(pl.DataFrame({"user": users, "item": items}))
    assert set(TripletSampler(everything).sample(100).users.tolist()) == {1}
    full = everything.take(np.array([True, True, False]))
    with pytest.raises(InputError, match="every user has every item"):
        TripletSampler(full)


def test_seeds_repeat_and_differ(tiny: Interactions) -> None:
    def draw(seed: int) -> torch.Tensor:
        return torch.stack(TripletSampler(tiny, seed=seed).sample(50))

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


def test_what_is_known_from_elsewhere_is_no_negative(split: Split) -> None:
    users, positives, negatives = TripletSampler(split.valid, known=split.train, seed=0).sample(20_000)
    train, valid = (torch.from_numpy(part.matrix.toarray()).bool() for part in (split.train, split.valid))
    assert valid[users, positives].all()
    assert not (train | valid)[users, negatives].any()


def test_a_stream_has_every_interaction_once_in_its_order(tiny: Interactions) -> None:
    order = np.array([5, 0, 3, 1, 4, 2])
    batches = [*TripletSampler(tiny).stream(order, 3)]
    pairs = [sorted(zip(batch.users.tolist(), batch.positives.tolist(), strict=True)) for batch in batches]
    assert pairs == [[(0, 0), (2, 3)], [(0, 1), (2, 0)], [(1, 1), (2, 2)]]
    owned = tiny.matrix.toarray()
    for batch in batches:
        assert (batch.users.diff() >= 0).all()
        assert not owned[batch.users, batch.negatives].any()
