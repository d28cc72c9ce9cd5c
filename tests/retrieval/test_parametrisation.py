"""Pictures and free numbers turn into each other, and colours and frequencies are as promised."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.retrieval.parametrisation import canvas

SHAPES = [(1, 7, 9), (3, 8, 6), (5, 4, 4), (2, 17), (1, 10)]


@given(seed=st.integers(0, 2**31), shape=st.sampled_from(SHAPES), fourier=st.booleans(), bounded=st.booleans())
def test_unpainting_undoes_painting(seed: int, shape: tuple[int, ...], fourier: bool, bounded: bool) -> None:
    surface = canvas(shape, parametrisation="fourier" if fourier else "pixel", bounds=(-2.0, 3.0) if bounded else None)
    numbers = surface.draw(2, torch.Generator().manual_seed(seed)).double()
    pictures = surface.paint(numbers)
    assert pictures.shape == (2, *shape)
    assert torch.allclose(surface.paint(surface.unpaint(pictures)), pictures, atol=1e-6)


def test_bounds_hold_and_without_them_the_power_is_one(generator: torch.Generator) -> None:
    large = 1000 * canvas((3, 8, 8)).draw(4, generator)
    pictures = canvas((3, 8, 8), bounds=(-1.0, 2.0)).paint(large)
    assert float(pictures.min()) >= -1
    assert float(pictures.max()) <= 2
    free = canvas((3, 8, 8), bounds=None).paint(large)
    assert torch.allclose(free.pow(2).mean((1, 2, 3)), torch.ones(4), atol=1e-5)


def test_power_falls_as_the_inverse_square_of_frequency(generator: torch.Generator) -> None:
    surface = canvas((1, 64, 64), bounds=None)
    power = torch.fft.fft2(surface.paint(surface.draw(200, generator))).abs().pow(2).mean(0)[0]
    ratio = float(power[0, 4] / power[0, 16])
    assert ratio == pytest.approx(16, rel=0.35)
    flat = canvas((1, 64, 64), parametrisation="pixel", bounds=None)
    level = torch.fft.fft2(flat.paint(flat.draw(200, generator))).abs().pow(2).mean(0)[0]
    assert float(level[0, 4] / level[0, 16]) == pytest.approx(1, rel=0.35)


def test_a_given_covariance_is_that_of_the_colours_up_to_a_factor(generator: torch.Generator) -> None:
    root = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    covariance = root @ root.T + 0.1 * torch.eye(4)
    surface = canvas((4, 32, 32), parametrisation="pixel", decorrelate=covariance, bounds=None)
    x = torch.randn(60, 4, 32, 32, generator=generator, dtype=torch.float64)
    found = torch.cov(surface.paint(x).transpose(0, 1).flatten(1))
    assert torch.allclose(found / found.trace(), covariance / covariance.trace(), atol=0.02)


def test_three_channels_are_mixed_by_default_and_others_are_not() -> None:
    assert canvas((3, 4, 4)).mixing is not None
    assert canvas((4, 4, 4)).mixing is None
    assert canvas((3, 4, 4), decorrelate=False).mixing is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"shape": (3,)}, ValueError, r"got shape=\(3,\); expected \(c, h, w\) or \(c, t\)"),
        ({"parametrisation": "wavelet"}, ValueError, "got parametrisation='wavelet'; expected 'fourier' or 'pixel'"),
        ({"bounds": (1.0, 0.0)}, ValueError, r"got bounds=\(1.0, 0.0\); expected a lower and a higher"),
        ({"decorrelate": torch.eye(2)}, ValueError, r"covariance of shape \(2, 2\) for 3 channels; expected \(3, 3\)"),
        ({"decorrelate": torch.ones(3, 3)}, ValueError, "eigenvalue .*; expected all above 0; add a little"),
        ({"decorrelate": torch.full((3, 3), float("nan"))}, NonFiniteError, "in the covariance of colours"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        canvas(**({"shape": (3, 4, 4)} | options))
