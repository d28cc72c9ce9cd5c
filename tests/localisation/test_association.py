"""Shared units count as association only where related concepts share them more than others do."""

import pytest
import torch

from mnemotrace.localisation.association import associations

RELATED = torch.block_diag(*[torch.ones(2, 2)] * 5).bool() & ~torch.eye(10, dtype=torch.bool)


def _told(units: int, shared: float, seed: int, *, within: bool) -> torch.Tensor:
    """Units of one concept each; a share of them takes the related concept too, or a random one."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(10, (units,), generator=generator)
    other = first ^ 1 if within else (first + torch.randint(1, 10, (units,), generator=generator)) % 10
    told = first[:, None] == torch.arange(10)
    more = torch.rand(units, generator=generator) < shared
    return told | (more[:, None] & (other[:, None] == torch.arange(10)))


def test_planted_associations_are_found_and_counted() -> None:
    told = _told(300, 0.2, 0, within=True)
    found = associations(told, RELATED)
    assert found.p <= 0.01
    assert found.unrelated == 0
    first, second = told[:, 0], told[:, 1]
    counted = {(a, b): count for a, b, count in found.shared}
    assert counted[0, 1] == int((first & second).sum())
    assert set(counted) == {(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)}
    assert found.related == pytest.approx(
        sum(
            int((told[:, a] & told[:, a + 1]).sum()) / int((told[:, a] | told[:, a + 1]).sum()) for a in range(0, 10, 2)
        )
        / 5
    )


def test_units_shared_at_random_are_no_association() -> None:
    ps = torch.tensor(
        [associations(_told(200, 0.3, seed, within=False), RELATED, permutations=99).p for seed in range(20)]
    )
    assert float((ps <= 0.05).double().mean()) < 0.2  # binomial: 1 of 20 expected
    assert 0.3 < float(ps.mean()) < 0.7


def test_one_seed_one_p() -> None:
    told = _told(60, 0.3, 1, within=False)
    one, two = (associations(told, RELATED, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert one == two


@pytest.mark.parametrize(
    ("told", "related", "permutations", "error", "message"),
    [
        (torch.rand(5, 10), RELATED, 99, TypeError, "expected bool; compare with a bound first"),
        (torch.ones(5, 9).bool(), RELATED, 99, ValueError, r"got a relation of shape \(10, 10\) for 9 concepts"),
        (torch.ones(5, 10).bool(), RELATED.triu(), 99, ValueError, "expected a symmetric table"),
        (torch.ones(5, 10).bool(), RELATED, 20, ValueError, "permutations=20"),
        (torch.ones(5, 10).bool(), torch.eye(10).bool(), 99, ValueError, "got 0 related pairs of 45"),
    ],
)
def test_mistakes_are_named(
    told: torch.Tensor, related: torch.Tensor, permutations: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        associations(told, related, permutations=permutations)
