r"""Geometry of features: which of them share a subspace, and the polytope that they form there.

Two features see each other where their cosine is beyond a tolerance; those connected by seeing share a subspace, of
the dimension that their rows span. A regular arrangement is recognised by its angles, and has a closed form:

* orthogonal: a feature that sees no other, :math:`D = 1`;
* antipodal pair: cosine -1, :math:`D = 1/2`;
* simplex of `k` (triangle, tetrahedron): all cosines :math:`-1/(k - 1)`, :math:`D = (k - 1)/k`;
* polygon of `k` (pentagon and more): gaps of `360 / k` degrees in a plane, :math:`D = 2/k`;
* square antiprism: 8 in three dimensions, :math:`D = 3/8`.

All of these are tight frames of equal lengths, for which :math:`D_i` = dimensions / features. A square, a cross and an
octahedron are pairs that do not see each other, and so they are found as pairs.

Reference: Elhage et al. 2022, Toy Models of Superposition, section 5. Cost: O(f^2 m), memory `f x f`, at most
`MOST` features.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.localisation.superposition import checked, feature_dimensionality

MOST = 4096
_SIMPLICES = {2: "antipodal pair", 3: "triangle", 4: "tetrahedron"}
_POLYGONS = {3: "triangle", 5: "pentagon", 6: "hexagon", 7: "heptagon", 8: "octagon"}


@dataclass(frozen=True)
class Cluster:
    """Features that share a subspace.

    Attributes:
        features: their rows.
        dimensions: of the subspace.
        polytope: `orthogonal`, `antipodal pair`, `triangle`, `tetrahedron`, `simplex of 5`, `pentagon`, ..., `square
            antiprism`, or `irregular`.
        dimensionality: their mean.
        gaps: angles from each to the next around a plane, in degrees, sorted; empty unless there are two dimensions.
    """

    features: tuple[int, ...]
    dimensions: int
    polytope: str
    dimensionality: float
    gaps: tuple[float, ...] = ()


def geometry(
    w: Float[Tensor, "f m"], *, least: float = 0.5, tolerance: float = 0.15
) -> tuple[tuple[Cluster, ...], tuple[int, ...]]:
    """Find the clusters of features that share a subspace and name their polytopes.

    Args:
        w: a feature a row.
        least: a feature is represented if it is longer than this share of the longest.
        tolerance: of cosines and of relative singular values; 0.15 is what training leaves of noise in toy models.

    Returns:
        The clusters, largest first, and the rows of the features that are not represented.

    Raises:
        ValueError: not a matrix, only zeros, more than `MOST` features, or settings outside (0, 1).
        NonFiniteError: NaN or infinity.
    """
    w = checked(w)
    norm = w.norm(dim=1)
    if not (0 < least < 1 and 0 < tolerance < 1) or len(w) > MOST or float(norm.max()) == 0:
        raise ValueError(
            f"got {len(w)} features, the longest {float(norm.max()):g}, least={least}, tolerance={tolerance}; expected "
            f"at most {MOST}, one that is not zero, and settings between 0 and 1; choose fewer features"
        )
    shown = (norm > least * norm.max()).nonzero()[:, 0]
    sees = _cosines(w[shown]).abs() > tolerance
    dimensionality = feature_dimensionality(w)
    clusters = [
        _cluster(w, shown[rows], float(dimensionality[shown[rows]].mean()), tolerance) for rows in _components(sees)
    ]
    absent = (norm <= least * norm.max()).nonzero()[:, 0].tolist()
    return tuple(sorted(clusters, key=lambda one: (-len(one.features), one.features))), tuple(absent)


def angle_gaps(w: Float[Tensor, "f 2"]) -> Float[Tensor, " f"]:
    """Return the angles between neighbours around a plane, in degrees, sorted; they sum to 360."""
    w = checked(w)
    if w.shape[1] != 2:
        raise ValueError(f"got directions {tuple(w.shape)}; expected two dimensions; project them first")
    around = torch.rad2deg(torch.atan2(w[:, 1], w[:, 0])).sort().values
    return torch.cat([around[1:], around[:1] + 360]).sub(around).sort().values


def _components(sees: Tensor) -> list[Tensor]:
    """Split features into sets that see each other directly or through others."""
    left, found = torch.ones(len(sees), dtype=torch.bool), list[Tensor]()
    while bool(left.any()):
        inside = torch.zeros_like(left)
        inside[left.nonzero()[0, 0]] = True
        reach = inside
        while bool(reach.any()):
            reach = sees[reach].any(0) & ~inside
            inside = inside | reach
        found.append(inside.nonzero()[:, 0])
        left &= ~inside
    return found


def _cluster(w: Tensor, rows: Tensor, dimensionality: float, tolerance: float) -> Cluster:
    unit = torch.nn.functional.normalize(w[rows], dim=1)
    _, values, axes = torch.linalg.svd(unit, full_matrices=False)
    dimensions = int((values > tolerance * values[0]).sum())
    plane = angle_gaps(unit @ axes[:2].T) if dimensions == 2 else torch.empty(0)
    polytope = _polytope(unit, dimensions, plane, tolerance)
    return Cluster(tuple(rows.tolist()), dimensions, polytope, dimensionality, tuple(plane.tolist()))


def _polytope(unit: Tensor, dimensions: int, gaps: Tensor, tolerance: float) -> str:
    count = len(unit)
    if count == 1:
        return "orthogonal"
    others = _cosines(unit)[~torch.eye(count, dtype=torch.bool)]
    if dimensions == count - 1 and bool((others + 1 / dimensions).abs().max() < tolerance):
        return _SIMPLICES.get(count, f"simplex of {count}")
    if dimensions == 2 and bool((gaps * count / 360 - 1).abs().max() < tolerance):
        return _POLYGONS.get(count, f"polygon of {count}")
    if (count, dimensions) == (8, 3) and _is_antiprism(unit, tolerance):
        return "square antiprism"
    return "irregular"


def _is_antiprism(unit: Tensor, tolerance: float) -> bool:
    """Compare the sorted cosines with those of the antiprism whose frame is tight: heights of 1 / sqrt(3)."""
    turn = torch.arange(8, dtype=torch.float64) * torch.pi / 4
    height = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(4) / 3**0.5
    ideal = torch.stack([(2 / 3) ** 0.5 * turn.cos(), (2 / 3) ** 0.5 * turn.sin(), height], 1)
    found, wanted = (_cosines(one).sort(1).values for one in (unit, ideal))
    return bool((found - wanted).abs().max() < tolerance)


def _cosines(w: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize(w, dim=1)
    return unit @ unit.T
