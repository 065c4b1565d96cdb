from typing import Literal

import pytest
import torch

from ciess.errors import InputError
from ciess.methods.ciess.noise import Noise, NoiseSource


def source(settings: Noise, entities: int = 20_000) -> NoiseSource:
    return NoiseSource(settings, entities, torch.Generator().manual_seed(0))


def test_gaussian_noise_has_its_deviation() -> None:
    drawn = source(Noise(scale=6)).draw()
    assert float(drawn.std()) == pytest.approx(6, rel=0.02)
    assert float(drawn.mean()) == pytest.approx(0, abs=0.15)


def test_uniform_noise_fills_its_range() -> None:
    drawn = source(Noise("uniform", 11)).draw()
    assert float(drawn.max()) == pytest.approx(11, rel=0.01)
    assert float(drawn.min()) == pytest.approx(-11, rel=0.01)
    assert float(drawn.std()) == pytest.approx(11 / 3**0.5, rel=0.02)


def test_ornstein_uhlenbeck_noise_follows_its_recursion_and_returns() -> None:
    """x′ = x − 0.15 · 0.01 · x + 40 · √0.01 · N(0, 1)."""
    ou, numbers, expected = source(Noise("ou", 40), 3), torch.Generator().manual_seed(0), torch.zeros(3)
    for _ in range(50):
        expected = expected * (1 - 0.0015) + 4 * torch.randn(3, generator=numbers)
        torch.testing.assert_close(ou.draw(), expected)
    ou.reset()
    # An episode starts at 0.
    torch.testing.assert_close(ou.draw(), 4 * torch.randn(3, generator=numbers))


def test_shared_noise_is_one_draw_for_all_and_none_is_none() -> None:
    for kind in ("gaussian", "uniform", "ou"):
        shared = source(Noise(kind, shared=True), 10).draw()  # type: ignore[arg-type]
        assert shared.shape == (10,)
        assert len(set(shared.tolist())) == 1
        assert len(set(source(Noise(kind), 10).draw().tolist())) == 10  # type: ignore[arg-type]
    assert source(Noise("none"), 10).draw().tolist() == [0.0] * 10


def test_an_unknown_kind_is_refused_and_the_nearest_named() -> None:
    with pytest.raises(InputError, match=r"kind is 'guassian'.*did you mean 'gaussian'"):
        Noise("guassian")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="scale is -1"):
        Noise(scale=-1.0)


@pytest.mark.parametrize(("kind", "scale"), [("gaussian", 6), ("uniform", 11), ("ou", 40), ("none", 0)])
def test_without_a_scale_noise_is_the_authors(kind: Literal["gaussian", "uniform", "ou", "none"], scale: float) -> None:
    assert Noise(kind).effective_scale == scale
    assert Noise(kind, 0.3).effective_scale == 0.3
