"""A latent that follows a group of examples is proposed; one that is on at random is not."""

from typing import Any

import pytest
import torch

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.localisation.active_latents import ActiveLatents, propose_latents
from mnemotrace.localisation.code import Code
from tests.localisation.test_partitions import planted

X, LABELS = planted()


def codes() -> torch.Tensor:
    """Latents 0 to 3 follow the groups, 4 doubles 0, 5 is on at random, 6 always, 7 never."""
    g = torch.Generator().manual_seed(2)
    groups = (LABELS[:, None] == torch.arange(4)).float() * (1 + torch.rand(160, 4, generator=g))
    double = groups[:, :1] * (torch.rand(160, 1, generator=g) > 0.1)
    some = (torch.rand(160, 1, generator=g) > 0.7).float()
    return torch.cat([groups, double, some, torch.ones(160, 1), torch.zeros(160, 1)], 1)


@pytest.fixture(scope="module")
def found() -> ActiveLatents:
    return propose_latents(codes(), X)


def test_latents_that_follow_groups_are_proposed_once(found: ActiveLatents) -> None:
    assert sorted(found.latents.tolist()) == [0, 1, 2, 3]
    assert float(found.stability.min()) > 0.95 > found.null
    assert float(found.scores.min()) > 0.2
    assert torch.equal(found.members, (LABELS[:, None] == found.latents))
    one = found.proposals()[0]
    assert one.name == f"latent {int(found.latents[0])}"
    assert len(one.target) + len(one.reference) == 160


def test_sparse_codes_are_the_same(found: ActiveLatents) -> None:
    values, indices = codes().topk(3)
    for other in (codes().to_sparse(), Code(values, indices, 8)):
        assert torch.equal(propose_latents(other, X, count=4).latents, found.latents)
    assert torch.equal(found.assign(codes()[:9].to_sparse()), found.members[:9])


def test_latents_that_are_on_at_random_are_below_the_null_but_for_the_best() -> None:
    on = (torch.rand(160, 6, generator=torch.Generator().manual_seed(4)) > 0.7).float()
    nothing = propose_latents(on, X)
    assert len(nothing.latents) <= 2
    assert float(nothing.stability.max()) < 0.5


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        (codes()[:50], {}, ValueError, "got codes of 50 examples and responses of 160; expected the same"),
        (codes()[:, 6:], {}, ValueError, "got 2 latents, none of which is on for 8 to 80 of 160 examples"),
        (codes()[:, 0], {}, ValueError, r"got codes \(160,\); expected \(n, latents\)"),
        (codes() * torch.nan, {}, NonFiniteError, "non-finite .* in codes"),
        (codes(), {"count": 0}, ValueError, "got count=0; expected at least one latent"),
    ],
)
def test_mistakes_are_named(given: torch.Tensor, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        propose_latents(given, X, **options)


def test_codes_over_fewer_latents_are_refused(found: ActiveLatents) -> None:
    with pytest.raises(ValueError, match="got codes over 2 latents; expected more than 3"):
        found.assign(codes()[:, :2])
