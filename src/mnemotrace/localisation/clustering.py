r"""Clustering: centroids of groups of rows, by three methods, and how stable a number of groups is.

Rows are cut in two halves; each half is clustered alone, and all rows are given to the nearest centroid of either. The
*stability* of a number of groups is the adjusted Rand index of these two assignments, mean over draws (Lange et al.
2004; Ben-Hur et al. 2002). The same for as many rows of one Gaussian is its *null*: what halves agree on where there
are no groups. Rows are meant to be whitened, so that the Gaussian has their covariance. The *silhouette* is
:math:`(b - a) / \max(a, b)`, with the distances `a` to a row's own centroid and `b` to the next (the simplified
silhouette, Hruschka et al. 2004).

Whoever takes the best of many numbers finds one that is above its null. So the number that was taken is measured again,
with draws of its own, beside the largest of several nulls.

Cost: `2 draws + 2 nulls` clusterings a number of groups. Needs scikit-learn.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemotrace.localisation.agreement import adjusted_rand, contingency

METHODS = ("kmeans", "mixture", "agglomerative")
DRAWS, NULLS, AGAIN = 6, 4, 9
STARTS: Any = 4  # scikit-learn's type is a string
WITHIN = 0.05


@dataclass(frozen=True)
class Tried:
    """A number of groups that was tried.

    Attributes:
        count: of groups.
        stability: adjusted Rand index of the cuts that two halves make, mean over draws.
        null: the same of rows of one Gaussian.
        silhouette: mean over rows.
    """

    count: int
    stability: float
    null: float
    silhouette: float


def centroids(z: Float[Tensor, "n r"], count: int, *, method: str, seed: int) -> Float[Tensor, "k r"]:
    """Cluster rows and return the mean of each group.

    Args:
        z: rows.
        count: of groups.
        method: `kmeans` (best of several starts), `mixture` of Gaussians with full covariances, or `agglomerative`
            with Ward's criterion.
        seed: of the starts.

    Raises:
        ImportError: scikit-learn is missing.
        ValueError: the rows make fewer groups.
    """
    try:
        from sklearn.cluster import AgglomerativeClustering, KMeans
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        raise ImportError(
            "got no scikit-learn; expected it, for examples are clustered with it; pip install 'mnemotrace[probes]'"
        ) from error
    model: Any = {
        "kmeans": lambda: KMeans(count, n_init=STARTS, random_state=seed),
        "mixture": lambda: GaussianMixture(count, reg_covar=1e-3, random_state=seed),
        "agglomerative": lambda: AgglomerativeClustering(count),
    }[method]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # too few different rows: said below, in our words
        found = torch.as_tensor(model.fit_predict(z.numpy()))
    groups = found.unique()
    if len(groups) < count:
        raise ValueError(
            f"got {len(z)} examples that make {len(groups)} groups; expected {count}; give more examples that differ, "
            "or a smaller count"
        )
    return torch.stack([z[found == one].mean(0) for one in groups])


def nearest(z: Float[Tensor, "n r"], centres: Float[Tensor, "k r"]) -> tuple[Int[Tensor, " n"], Float[Tensor, "n k"]]:
    """Return the nearest centre of each row, and the distances to all."""
    distances = torch.cdist(z, centres, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.argmin(1), distances


def silhouettes(distances: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """Return the simplified silhouette of each row from its distances to centres."""
    two = distances.topk(2, dim=1, largest=False).values
    return (two[:, 1] - two[:, 0]) / two[:, 1].clamp_min(1e-300)


def halves(
    z: Float[Tensor, "n r"], count: int, draws: int, *, method: str, generator: torch.Generator
) -> Iterator[tuple[Int[Tensor, " n"], Int[Tensor, " n"]]]:
    """Yield how all rows fall when each half of them is clustered alone, `draws` times."""
    for _ in range(draws):
        order = torch.randperm(len(z), generator=generator)
        sides = order.tensor_split(2)
        first, second = (centroids(z[rows], count, method=method, seed=seed_of(generator)) for rows in sides)
        yield nearest(z, first)[0], nearest(z, second)[0]


def try_count(z: Float[Tensor, "n r"], count: int, *, method: str, generator: torch.Generator) -> Tried:
    """Measure stability, its null and the silhouette of a number of groups."""
    stable = [rand(pair) for pair in halves(z, count, DRAWS, method=method, generator=generator)]
    null = nulls(z, count, NULLS, method=method, generator=generator)
    _, distances = nearest(z, centroids(z, count, method=method, seed=seed_of(generator)))
    return Tried(count, sum(stable) / DRAWS, sum(null) / NULLS, float(silhouettes(distances).mean()))


def nulls(z: Float[Tensor, "n r"], count: int, draws: int, *, method: str, generator: torch.Generator) -> list[float]:
    """Measure how far halves agree on groups of rows of one Gaussian, of the same shape."""
    found: list[float] = []
    for _ in range(draws):
        gaussian = torch.randn(z.shape, generator=generator, dtype=z.dtype, device=generator.device)
        found += [rand(pair) for pair in halves(gaussian, count, 1, method=method, generator=generator)]
    return found


def best(tried: Sequence[Tried]) -> Tried:
    """Choose a number of groups: of those within 0.05 of the largest stability above its null, the best silhouette."""
    above = {one: one.stability - one.null for one in tried}
    close = [one for one in tried if above[one] >= max(above.values()) - WITHIN]
    return max(close, key=lambda one: (one.silhouette, one.count))


def overlaps(first: Int[Tensor, " n"], second: Int[Tensor, " n"], count: int) -> Float[Tensor, " k"]:
    """Return the Jaccard index of each group with the group of the other cut that is most like it (Hennig 2007)."""
    most = int(second.max()) + 1
    both = torch.bincount(first * most + second, minlength=count * most).view(count, most).double()
    either = both.sum(1, keepdim=True) + both.sum(0) - both
    return (both / either.clamp_min(1)).amax(1)


def seed_of(generator: torch.Generator) -> int:
    """Draw a seed for scikit-learn."""
    return int(torch.randint(2**31 - 1, (), generator=generator, device=generator.device))


def rand(pair: tuple[Int[Tensor, " n"], Int[Tensor, " n"]]) -> float:
    """Return the adjusted Rand index of two assignments."""
    return adjusted_rand(contingency(*pair))
