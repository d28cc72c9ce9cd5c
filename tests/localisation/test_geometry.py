"""Polytopes are recognised after any rotation, with a little noise, and nothing else is."""

import pytest
import torch
from torch import Tensor

from mnemotrace.localisation.geometry import angle_gaps, geometry


def polygon(k: int) -> Tensor:
    turn = torch.arange(k, dtype=torch.float64) * 2 * torch.pi / k
    return torch.stack([turn.cos(), turn.sin()], 1)


def simplex(k: int) -> Tensor:
    return torch.eye(k, dtype=torch.float64) - 1 / k


def antiprism() -> Tensor:
    turn = torch.arange(8, dtype=torch.float64) * torch.pi / 4
    height = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(4) / 2**0.5
    return torch.stack([turn.cos(), turn.sin(), height], 1)


def shown(w: Tensor, generator: torch.Generator, noise: float = 0.01) -> Tensor:
    """Rotate into more dimensions, shuffle, and add noise."""
    wide = torch.nn.functional.pad(w.double(), (0, 3))
    turn = torch.linalg.qr(torch.randn(wide.shape[1], wide.shape[1], generator=generator, dtype=torch.float64))[0]
    order = torch.randperm(len(w), generator=generator)
    mixed = wide[order] @ turn
    return mixed + noise * mixed.norm(dim=1).mean() * torch.randn(mixed.shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("w", "polytope", "dimensions"),
    [
        (torch.tensor([[1.0], [-1.0]]), "antipodal pair", 1),
        (polygon(3), "triangle", 2),
        (simplex(4), "tetrahedron", 3),
        (simplex(6), "simplex of 6", 5),
        (polygon(5), "pentagon", 2),
        (polygon(7), "heptagon", 2),
        (polygon(9), "polygon of 9", 2),
        (antiprism(), "square antiprism", 3),
    ],
)
def test_a_regular_arrangement_is_named(w: Tensor, polytope: str, dimensions: int, generator: torch.Generator) -> None:
    (cluster, *others), absent = geometry(shown(w, generator))
    assert (cluster.polytope, cluster.dimensions, others, absent) == (polytope, dimensions, [], ())
    assert cluster.dimensionality == pytest.approx(dimensions / len(w), abs=0.02)
    assert len(cluster.gaps) == (len(w) if dimensions == 2 else 0)


def test_frames_that_do_not_see_each_other_are_apart(generator: torch.Generator) -> None:
    w = torch.block_diag(polygon(5), torch.tensor([[1.0], [-1.0]]), torch.eye(1), torch.tensor([[0.2]]))
    clusters, absent = geometry(w)
    assert [c.polytope for c in clusters] == ["pentagon", "antipodal pair", "orthogonal"]
    assert [c.features for c in clusters] == [(0, 1, 2, 3, 4), (5, 6), (7,)] and absent == (8,)
    octahedron = torch.cat([torch.eye(3), -torch.eye(3)])
    assert [c.polytope for c in geometry(shown(octahedron, generator))[0]] == ["antipodal pair"] * 3


@pytest.mark.parametrize("seed", range(4))
def test_random_directions_are_irregular(seed: int) -> None:
    w = torch.randn(12, 3, generator=torch.Generator().manual_seed(seed))
    clusters, _ = geometry(w, least=0.01)
    assert clusters[0].polytope == "irregular"


def test_a_cube_is_no_antiprism_and_uneven_gaps_no_pentagon() -> None:
    cube = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    assert geometry(cube)[0][0].polytope == "irregular"
    turn = torch.deg2rad(torch.tensor([0.0, 40, 150, 220, 290]))
    assert geometry(torch.stack([turn.cos(), turn.sin()], 1))[0][0].polytope == "irregular"


def test_gaps_are_angles_between_neighbours() -> None:
    turn = torch.deg2rad(torch.tensor([350.0, 10, 100], dtype=torch.float64))
    torch.testing.assert_close(
        angle_gaps(torch.stack([turn.cos(), turn.sin()], 1)), torch.tensor([20.0, 90, 250]).double()
    )


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="got 2 features, the longest 0, least=0.5"):
        geometry(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="least=1.5, tolerance=0.15; expected at most 4096"):
        geometry(torch.eye(2), least=1.5)
    with pytest.raises(ValueError, match=r"got directions \(2, 3\); expected two dimensions"):
        angle_gaps(torch.ones(2, 3))
