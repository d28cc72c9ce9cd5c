"""The strongest contrast spikes first, once, in steps of equal numbers; illumination does not matter."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemotrace.memories.coding import contrasts, difference_of_gaussians, rank_bins, trains_of


def _images(n: int = 3, seed: int = 0) -> torch.Tensor:
    return 255 * torch.rand(n, 20, 24, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_filter_sees_no_constant_and_is_round() -> None:
    kernel = difference_of_gaussians()
    assert kernel.shape == (7, 7)
    assert abs(kernel.sum()) <= 1e-14
    assert kernel.max() == kernel[3, 3] == 1
    assert torch.equal(kernel, kernel.T)
    assert torch.equal(kernel, kernel.flip(0))


def test_contrasts_are_the_published_ones() -> None:
    """Outside oracle: scipy's correlation with zeros outside, then threshold and border."""
    ndimage = pytest.importorskip("scipy.ndimage")
    images, kernel = _images(), difference_of_gaussians()
    found = contrasts(images, kernel, threshold=15.0)
    for image, ours in zip(images, found, strict=True):
        wanted = torch.from_numpy(ndimage.correlate(image.numpy(), kernel.numpy(), mode="constant"))
        wanted[wanted < 15] = 0
        wanted[:5], wanted[-5:], wanted[:, :5], wanted[:, -5:] = 0, 0, 0, 0
        assert (ours - wanted).abs().max() <= 1e-11
        assert (wanted > 0).any()


def _slow_bins(strengths: list[float], bins: int) -> list[int]:
    """Rank by rank, as published."""
    order = [i for i in sorted(range(len(strengths)), key=lambda i: -strengths[i]) if strengths[i] > 0]
    steps = [bins + 1] * len(strengths)
    for rank, index in enumerate(order):
        steps[index] = math.ceil(rank / (len(order) / bins))
    return steps


@given(st.lists(st.integers(0, 20), min_size=1, max_size=40), st.integers(1, 9))
def test_bins_are_those_of_a_slow_loop(strengths: list[int], bins: int) -> None:
    found = rank_bins(torch.tensor([strengths], dtype=torch.float64), bins)
    # rank * bins / n and rank / (n / bins) may round to different sides of a whole number
    wanted = torch.tensor(_slow_bins([float(s) for s in strengths], bins))
    exact = all((r * bins) % max(1, sum(s > 0 for s in strengths)) for r in range(1, len(strengths)))
    assert (found[0].long() - wanted).abs().max() <= (0 if exact else 1)


def test_a_bin_holds_as_many_spikes_as_any_other() -> None:
    times = rank_bins(torch.rand(2, 30, 30, generator=torch.Generator().manual_seed(0)) + 0.1, 9)
    counts = torch.stack([(times == step).flatten(1).sum(1) for step in range(11)])
    assert counts[0].tolist() == [1, 1]
    assert counts[1:9].eq(100).all()
    assert counts[9].tolist() == [99, 99]
    assert counts[10].tolist() == [0, 0]


@given(st.floats(0.1, 10))
def test_illumination_does_not_matter(factor: float) -> None:
    strength = torch.rand(1, 50, generator=torch.Generator().manual_seed(3), dtype=torch.float64).round(decimals=2)
    assert torch.equal(rank_bins(strength, 5), rank_bins(factor * strength, 5))


def test_an_empty_image_never_spikes() -> None:
    times = rank_bins(torch.zeros(1, 4, 4), 3)
    assert times.eq(4).all()
    assert not trains_of(times, 4).any()


def test_trains_hold_each_spike_at_its_step() -> None:
    times = torch.tensor([[0, 2, 3, 1]], dtype=torch.uint8)
    assert trains_of(times, 3).int().tolist() == [[[1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]]]


@pytest.mark.parametrize(
    "given_", [{"size": 6}, {"size": 1}, {"narrow": 2.0}, {"narrow": 0.0}, {"narrow": 1.0, "wide": 1.0}]
)
def test_a_wrong_filter_is_refused(given_: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected an odd size of at least 3 and 0 < narrow < wide"):
        difference_of_gaussians(**given_)


def test_no_bin_is_refused() -> None:
    with pytest.raises(ValueError, match="got bins=0; expected at least 1"):
        rank_bins(torch.ones(1, 3), 0)
