"""One seed, one result, and nothing left behind."""

import pytest
import torch

from ciess.models.seeded import seeded


def gradient(table: torch.Tensor, rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    table = table.clone().requires_grad_()
    (table[rows] * weights).sum().backward()
    assert table.grad is not None
    return table.grad


def test_sums_have_the_same_bits_on_one_thread_and_on_four() -> None:
    draws = torch.Generator().manual_seed(0)
    table, weights = torch.zeros(7, 8), torch.randn(40_000, 8, generator=draws)
    rows = torch.randint(7, (40_000,), generator=draws)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 4, 4, 4, 4):
            torch.set_num_threads(threads)
            with seeded(0):
                found.append(gradient(table, rows, weights))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], each) for each in found[1:])


def test_settings_and_draws_of_the_caller_stay_even_after_an_error() -> None:
    def settings() -> tuple[object, ...]:
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
            torch.initial_seed(),
        )

    def fail() -> None:
        with seeded(5):
            assert settings() == (True, True, False, 5)
            raise RuntimeError("a step that fails")

    torch.use_deterministic_algorithms(False)
    before = settings()
    with pytest.raises(RuntimeError, match="a step that fails"):
        fail()
    assert settings() == before
