"""What other sizes gain, by hand, and the price at which they fill a budget."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ciess.methods.shared.gains import Gains, filling_price
from ciess.tables.plan import SizePlan
from ciess.tables.taper import Taper


def gains(stands_for: list[float] | None = None) -> Gains:
    """A user of 4 of 8 numbers and an item of 1, with the worth of each number."""
    worth = torch.tensor([[9.0, 9, 4, 1, 3, 1, 0, 0], [9.0, 5, 5, 0, 0, 0, 0, 0]])
    return Gains(SizePlan(np.array([4]), np.array([1]), 8), worth, None if stands_for is None else np.array(stands_for))


def test_sizes_within_reach_are_half_as_large_again_and_one_more_at_least() -> None:
    found = gains()
    assert found.least.tolist() == [2, 1]
    assert found.most.tolist() == [6, 2]
    assert found.within(torch.tensor([[1, 3, 9], [0, 2, 3]])).tolist() == [[2, 3, 6], [1, 2, 2]]


def test_gains_are_what_numbers_are_worth_less_what_they_cost_over_the_size() -> None:
    """At a price of 2: the user's third and fourth number are worth 2 and ½ prices, the next two 1½ and ½."""
    found = gains()
    sizes = torch.tensor([[2, 3, 4, 5, 6], [1, 1, 1, 2, 2]])
    expected = [[(-1 + 0.5) / 4, 0.5 / 4, 0, 0.5 / 4, 0], [0, 0, 0, 1.5, 1.5]]
    torch.testing.assert_close(found.of(sizes, 2.0), torch.tensor(expected))
    priced = found.of(sizes, torch.tensor([[2.0], [5.0]]))
    torch.testing.assert_close(priced, torch.tensor([expected[0], [0.0, 0, 0, 0, 0]]))
    assert found.of(torch.tensor([[4], [2]]), 0.5)[1].item() == pytest.approx(7), "8 prices at most"


def test_parts_are_the_mean_worth_of_both_halves_on_either_side() -> None:
    torch.testing.assert_close(gains().parts(2.0)[0], torch.tensor([2.0, 0.5, 1.5, 0.5]))
    assert gains().parts(2.0)[1].tolist() == [1, 1, 2.5, 1], "where nothing is in reach, as if it were worth its price"


def test_parts_of_numbers_of_different_bits_are_worth_over_cost() -> None:
    """Numbers of 8, 6, 4 and 2 bits cost 4, 3 and 2 prices and one."""
    plan = SizePlan(np.array([3]), np.array([1]), 4, Taper((8, 6, 4, 2)))
    parts = Gains(plan, torch.full((2, 4), 2.0)).parts(1.0)
    torch.testing.assert_close(parts, torch.tensor([[1.0, 2 / 2, 2 / 1, 1.0], [1.0, 1.0, 2 / 3, 1.0]]))


def test_the_best_size_within_reach() -> None:
    assert gains().best(2.0).tolist() == [3, 2]
    assert gains().best(0.5).tolist() == [6, 2]
    assert gains().best(20.0).tolist() == [2, 1]


def test_actions_are_shares_of_what_is_within_reach() -> None:
    found, sizes = gains(), torch.tensor([[2.0, 3, 4, 5, 6], [1.0, 1, 1, 1.5, 2]])
    actions = torch.tensor([[-1.0, -0.5, 0, 0.5, 1], [0.0, 0, 0, 0.5, 1]])
    torch.testing.assert_close(found.actions(sizes), actions)
    torch.testing.assert_close(found.sizes(actions), sizes)
    assert found.sizes(torch.tensor([[0.0], [-1.0]])).tolist() == [[4.0], [1.0]], "one number stays"


def test_a_row_that_stands_for_many_pays_for_many() -> None:
    found = gains([2.0, 1.0])
    torch.testing.assert_close(
        found.of(torch.tensor([[3], [2]]), 1.0),
        gains().of(torch.tensor([[3], [2]]), 2.0) * torch.tensor([[1.0], [4 / 1.5]]),
    )
    assert found.cost(torch.tensor([3, 2])) == 8


def test_numbers_of_more_bits_cost_more() -> None:
    plan = SizePlan(np.array([2]), np.array([1]), 4, Taper((4, 2, 1, 1)))
    found = Gains(plan, torch.tensor([[9.0, 9.0, 1.5, 0.0], [9.0, 1.5, 0.0, 0.0]]))
    assert found.cost(torch.tensor([3, 2])) == 7 + 6
    assert found.best(1.0).tolist() == [3, 1], "a bit for 1.5 pays, two do not"


@given(seed=st.integers(0, 999), allowed=st.floats(0.5, 1.4))
def test_best_sizes_fill_a_budget_at_its_price(seed: int, allowed: float) -> None:
    rng = np.random.default_rng(seed)
    plan = SizePlan(rng.integers(1, 9, 30), rng.integers(1, 9, 20), 12)
    found = Gains(plan, torch.from_numpy(rng.exponential(size=(50, 12))).float())
    wanted = np.clip(allowed * plan.numbers, int(found.least.sum()) + 1, int(found.most.sum()) - 1)
    price = found.price(wanted)
    assert found.best(price * 1.001).sum() <= wanted <= found.best(price * 0.999).sum()


def test_a_price_is_found_where_the_budget_is_filled() -> None:
    assert filling_price(lambda price: 100 / price, 20.0, 0.01, 100.0) == pytest.approx(5, rel=1e-4)
    assert filling_price(lambda price: 1000.0, 20.0, 0.01, 100.0) == pytest.approx(100, rel=1e-4), (
        "the highest there is"
    )
