"""Whitened responses have the identity as covariance, and as many dimensions as units go together in."""

import pytest
import torch

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.localisation.whitening import whitening


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _responses(n: int = 200, rank: int = 3, units: int = 12) -> torch.Tensor:
    g = seeded(0)
    hidden = torch.randn(n, rank, generator=g) @ torch.randn(rank, units, generator=g)
    return (hidden + 0.3 * torch.randn(n, units, generator=g)) * torch.logspace(-3, 3, units) + 5


def test_the_covariance_is_the_identity_whatever_the_scale_of_units() -> None:
    x = _responses()
    white = whitening(x, rank=5, generator=seeded(0))
    assert white.rank == 5
    assert torch.allclose(torch.cov(white(x).T), torch.eye(5).double(), atol=1e-9)
    other = whitening(x * 7 - 3, rank=5, generator=seeded(0))
    assert torch.allclose(other(x * 7 - 3).abs(), white(x).abs(), atol=1e-3)


def test_the_rank_is_that_of_what_goes_together() -> None:
    white = whitening(_responses(rank=3), generator=seeded(0))
    assert white.rank == 3
    assert 0.8 < white.variance < 1
    alone = whitening(torch.randn(400, 12, generator=seeded(1)), generator=seeded(0))
    assert alone.rank <= 2  # nothing goes together; one is the least


def test_silent_units_are_left_out() -> None:
    x = _responses()
    padded = torch.cat([x, torch.full((200, 2), 4.0)], 1)
    white = whitening(padded, rank=4, generator=seeded(0))
    assert not white.map[-2:].any()
    assert torch.allclose(white(padded).abs(), whitening(x, rank=4, generator=seeded(0))(x).abs(), atol=1e-9)


@pytest.mark.parametrize(
    ("x", "rank", "error", "message"),
    [
        (torch.ones(20, 3), None, ValueError, "got 3 units that are constant over 20 examples; .* choose another site"),
        (torch.ones(1, 3), None, ValueError, r"got responses \(1, 3\); expected \(n, units\) of at least 2 examples"),
        (torch.rand(9), None, ValueError, r"got responses \(9,\)"),
        (torch.rand(20, 3).fill_(float("nan")), None, NonFiniteError, "got 60 non-finite of 60 entries in responses"),
        (torch.eye(3).repeat(5, 1), 4, ValueError, "got rank=4; expected 1 to 2, in as many dimensions"),
        (torch.eye(3).repeat(5, 1), 0, ValueError, "got rank=0"),
    ],
)
def test_mistakes_are_named(x: torch.Tensor, rank: int | None, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        whitening(x, rank=rank, generator=seeded(0))


def test_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got responses \(4, 5\); expected \(n, 12\), the same units"):
        whitening(_responses(), generator=seeded(0))(torch.rand(4, 5))
