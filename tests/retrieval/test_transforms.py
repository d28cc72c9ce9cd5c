"""Transforms keep the size, move what they say, and follow their generator."""

import pytest
import torch

from mnemotrace.retrieval.transforms import Jitter, Rotate, Scale, robust


@pytest.mark.parametrize("shape", [(1, 12, 14), (3, 16, 16), (2, 40)])
def test_the_default_set_keeps_shapes_and_is_reproducible(shape: tuple[int, ...]) -> None:
    x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    for transform in robust(shape):
        once, again = (transform(x, torch.Generator().manual_seed(7)) for _ in range(2))
        assert once.shape == x.shape
        assert torch.equal(once, again)
        assert not torch.equal(once, transform(x, torch.Generator().manual_seed(8)))


def test_jitter_shifts_by_whole_pixels_and_repeats_the_border() -> None:
    x = torch.arange(8.0).view(1, 1, 8)
    seen = {tuple(Jitter(1)(x, torch.Generator().manual_seed(seed))[0, 0].tolist()) for seed in range(20)}
    assert seen == {(0, 0, 1, 2, 3, 4, 5, 6), (0, 1, 2, 3, 4, 5, 6, 7), (1, 2, 3, 4, 5, 6, 7, 7)}


def test_scaling_by_one_and_turning_by_nothing_change_nothing(generator: torch.Generator) -> None:
    x = torch.rand(2, 3, 9, 11, generator=generator, dtype=torch.float64)
    assert torch.allclose(Scale(1, 1)(x, generator), x, atol=1e-6)
    assert torch.allclose(Rotate(0)(x, generator), x, atol=1e-6)
    assert torch.allclose(Scale(1, 1)(x[:, :, 0], generator), x[:, :, 0], atol=1e-6)


def test_a_larger_scale_enlarges() -> None:
    x = torch.zeros(1, 1, 21, 21)
    x[..., 8:13, 8:13] = 1
    assert float(Scale(2, 2)(x, torch.Generator()).sum()) == pytest.approx(100, rel=0.05)
    assert float(Scale(2, 2)(x[:, :, 10], torch.Generator()).sum()) == pytest.approx(10, rel=0.05)


def test_a_quarter_turn_of_a_picture_that_is_not_square_keeps_angles() -> None:
    x = torch.zeros(1, 1, 21, 31)
    x[..., 10, 12:19] = 1  # a bar of 7 across
    turn = Rotate(90.0)
    seed = next(s for s in range(200) if abs(float(torch.rand(1, generator=torch.Generator().manual_seed(s)))) > 0.995)
    y = turn(x, torch.Generator().manual_seed(seed))
    assert float(y[0, 0, 7:14, 15].sum()) == pytest.approx(7, rel=0.1)
    assert float(y.sum()) == pytest.approx(7, rel=0.1)


def test_signals_cannot_be_turned(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="got 1 axes behind the channels for Rotate; expected pictures"):
        Rotate(5)(torch.zeros(1, 2, 9), generator)
