"""Planted groups are proposed whole, strangers belong to none, and without structure nothing is claimed."""

from typing import Any

import pytest
import torch

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.localisation.agreement import adjusted_rand, contingency
from mnemotrace.localisation.partitions import Partition, propose


def planted(n: int = 160, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Four groups seen by twelve units."""
    labels = torch.arange(n) % 4
    corners = 3 * torch.randn(4, 12, generator=torch.Generator().manual_seed(7))
    noise = torch.randn(n, 12, generator=torch.Generator().manual_seed(seed))
    return corners[labels] + noise, labels


@pytest.fixture(scope="module")
def found() -> Partition:
    return propose(planted()[0], count=range(3, 6), method="agglomerative")


def test_planted_groups_are_found_with_their_number(found: Partition) -> None:
    assert [one.count for one in found.tried] == [3, 4, 5]
    assert len(found.centres) == 4
    assert found.whitening.rank == 3
    assert found.structured
    assert found.agreement > 0.98
    assert float(found.stability.min()) > 0.95
    kept = found.assigned >= 0
    assert float(kept.double().mean()) > 0.9
    assert adjusted_rand(contingency(found.assigned[kept], planted()[1][kept])) == 1.0


def test_new_examples_join_the_groups_and_strangers_do_not(found: Partition) -> None:
    x, labels = planted(seed=1)
    joined = found.assign(x)
    kept = joined >= 0
    assert float(kept.double().mean()) > 0.85
    assert adjusted_rand(contingency(joined[kept], labels[kept])) == 1.0
    strangers = x[:8] + 40 * (x[1:9] - x[:8])
    assert found.assign(strangers).tolist() == [-1] * 8


def test_proposals_share_no_row_and_leave_out_noise(found: Partition) -> None:
    proposals = found.proposals()
    rows = torch.cat([one.target for one in proposals])
    assert sorted(rows.tolist()) == (found.assigned >= 0).nonzero()[:, 0].tolist()
    for k, one in enumerate(proposals):
        assert one.name == str(k)
        assert not set(one.target.tolist()) & set(one.reference.tolist())
        assert len(one.target) + len(one.reference) == len(rows)
        assert (one.score, one.stability) == (float(found.scores[k]), float(found.stability[k]))


def test_one_gaussian_has_no_structure() -> None:
    x = torch.randn(160, 12, generator=torch.Generator().manual_seed(3))
    nothing = propose(x, count=4)
    assert not nothing.structured
    assert nothing.tried == ()


def test_the_same_seed_gives_the_same_partition() -> None:
    x = planted(64)[0]
    options: dict[str, Any] = {"count": 2, "method": "agglomerative"}
    first, second = (propose(x, generator=torch.Generator().manual_seed(5), **options) for _ in range(2))
    assert torch.equal(first.assigned, second.assigned)
    assert (first.agreement, first.null) == (second.agreement, second.null)


@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        (torch.rand(15, 3), {}, ValueError, "got 15 examples; expected at least 16, for two groups of 8"),
        (torch.rand(30, 3), {"count": 4}, ValueError, "got 30 examples for 4 groups; expected at least 32, 8 a group"),
        (
            torch.rand(30, 3),
            {"count": 1},
            ValueError,
            "got count=1; expected numbers of groups of at least 2; one group",
        ),
        (torch.rand(30, 3), {"count": []}, ValueError, r"got count=\[\]"),
        (
            torch.rand(30, 3),
            {"method": "spectral"},
            ValueError,
            "got method='spectral'; expected one of kmeans, mixture",
        ),
        (torch.ones(30, 3), {}, ValueError, "got 3 units that are constant over 30 examples"),
        (torch.full((30, 3), torch.nan), {}, NonFiniteError, "got 90 non-finite"),
    ],
)
def test_mistakes_are_named(x: torch.Tensor, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        propose(x, **options)
