"""Groups that are there are found by every method, and their number by how well halves agree."""

import pytest
import torch

from mnemotrace.localisation.clustering import (
    METHODS,
    Tried,
    best,
    centroids,
    halves,
    nearest,
    nulls,
    overlaps,
    rand,
    silhouettes,
)


def planted(n: int = 120, spread: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 3
    corners = torch.tensor([[2.0, 0.0], [-1.0, 2.0], [-1.0, -2.0]]).double()
    return corners[labels] + spread * torch.randn(n, 2, generator=g).double(), labels


@pytest.mark.parametrize("method", METHODS)
def test_planted_centres_are_found(method: str) -> None:
    z, labels = planted()
    centres = centroids(z, 3, method=method, seed=0)
    means = torch.stack([z[labels == one].mean(0) for one in range(3)])
    assert torch.allclose(torch.cdist(means, centres).amin(1), torch.zeros(3).double(), atol=1e-9)


def test_silhouettes_are_those_of_the_formula() -> None:
    z, _ = planted()
    groups, distances = nearest(z, torch.tensor([[2.0, 0.0], [-1.0, 2.0], [-1.0, -2.0]]).double())
    for row in range(0, len(z), 17):
        a, b = sorted(distances[row].tolist())[:2]
        assert float(silhouettes(distances)[row]) == pytest.approx((b - a) / b)
        assert int(groups[row]) == int(distances[row].argmin())


def test_halves_agree_where_there_are_groups_and_not_on_a_gaussian(generator: torch.Generator) -> None:
    z, _ = planted()
    (pair,) = halves(z, 3, 1, method="kmeans", generator=generator)
    assert rand(pair) == 1.0
    wide = torch.zeros(120, 8).double()
    assert max(nulls(wide, 3, 2, method="kmeans", generator=generator)) < 0.7


def test_of_equally_stable_numbers_the_one_that_stands_apart_best_is_chosen() -> None:
    tried = [Tried(2, 0.95, 0.6, 0.3), Tried(3, 0.94, 0.2, 0.4), Tried(4, 0.93, 0.2, 0.5), Tried(5, 0.6, 0.1, 0.9)]
    assert best(tried).count == 4
    assert best(tried[:1]).count == 2


def test_overlap_is_the_jaccard_index_with_the_group_most_alike() -> None:
    first, second = torch.tensor([0, 0, 0, 0, 1, 1, 2]), torch.tensor([1, 1, 1, 0, 0, 0, 2])
    assert overlaps(first, second, 3).tolist() == pytest.approx([3 / 4, 2 / 3, 1.0])


def test_too_few_different_rows_are_told() -> None:
    with pytest.raises(ValueError, match=r"got 12 examples that make 2 groups; expected 3; give more examples"):
        centroids(torch.eye(2).repeat(6, 1).double(), 3, method="kmeans", seed=0)
