r"""Superposition: how many dimensions each feature has to itself, and how much it hears of the others.

Features are directions, the rows of `w (f, m)`: rows of a layer's weight, atoms of a dictionary, probes, columns of a
toy model. With :math:`\hat w_i = w_i / \|w_i\|` and the frame operator :math:`S = \sum_j w_j w_j^\top`:

* interference :math:`\sum_{j \ne i} (\hat w_i \cdot w_j)^2 = \hat w_i^\top S \hat w_i - \|w_i\|^2`;
* dimensionality :math:`D_i = \|w_i\|^2 / \sum_j (\hat w_i \cdot w_j)^2 = \|w_i\|^2 / \hat w_i^\top S \hat w_i`.

:math:`D_i` is at most the leverage :math:`w_i^\top S^+ w_i` (Cauchy-Schwarz), hence :math:`\sum_i D_i \le
\mathrm{rank}(w) \le m`, with equality where every :math:`w_i` is an eigenvector of :math:`S`: where the features fall
into tight frames that do not see each other, such as pairs, pentagons, tetrahedra.

Random directions in `m` dimensions are not orthogonal either: :math:`E (\hat w_i \cdot w_j)^2 = \|w_j\|^2 / m`. So
everything stands beside as many random directions of the same lengths. No arrangement does better on average than a
tight frame: unit rows have a mean interference of at least `f / m - 1`; random ones have `(f - 1) / m`.

Reference: Elhage et al. 2022, Toy Models of Superposition; Benedetto & Fickus 2003 for the bound. Cost: O(f m^2) time
and O(m^2) memory, never `f x f`; partners O(f^2 m) in strips. Float64.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemotrace.core.artifact import Artifact, fingerprint, library_version
from mnemotrace.core.linalg import require_finite

STRIP = 1024
_TENSORS = ("norm", "dimensionality", "interference", "partner", "cosine", "control", "control_dimensionality")


def feature_dimensionality(w: Float[Tensor, "f m"]) -> Float[Tensor, " f"]:
    """Return the share of a dimension that each feature has, in [0, 1]; 0 for a row of zeros.

    Raises:
        ValueError: not a matrix with rows and columns.
        NonFiniteError: NaN or infinity.
    """
    square, heard = _heard(w)
    return torch.where(square > 0, square / heard.clamp_min(torch.finfo(torch.float64).tiny), 0.0)


def interference(w: Float[Tensor, "f m"]) -> Float[Tensor, " f"]:
    """Return how much each feature's direction hears of all others, in squared lengths; 0 for a row of zeros.

    Raises:
        ValueError: not a matrix with rows and columns.
        NonFiniteError: NaN or infinity.
    """
    square, heard = _heard(w)
    return (heard - square).clamp_min(0)


def random_interference(w: Float[Tensor, "f m"]) -> Float[Tensor, " f"]:
    """Return the interference that random directions of the same lengths have on average: the others' squares / m."""
    square = checked(w).square().sum(1)
    return torch.where(square > 0, (square.sum() - square) / w.shape[1], 0.0)


def _heard(w: Tensor) -> tuple[Tensor, Tensor]:
    """Return squared lengths, and all that each direction hears, itself included."""
    w = checked(w)
    square = w.square().sum(1)
    # of unit rows, or the fourth power of a short one would be lost
    unit = w / square.sqrt().clamp_min(torch.finfo(torch.float64).tiny)[:, None]
    return square, ((unit @ (w.T @ w)) * unit).sum(1)


def checked(w: Tensor) -> Float[Tensor, "f m"]:
    """Return directions in float64 on the CPU, or refuse what is no matrix of finite numbers."""
    if w.ndim != 2 or 0 in w.shape or w.is_complex():
        raise ValueError(
            f"got directions {tuple(w.shape)} of {w.dtype}; expected a real (features, dimensions), at least one of "
            "each; flatten what a feature is made of into a row"
        )
    w = w.detach().cpu().double()
    require_finite(w, "directions")
    return w


@dataclass(frozen=True, eq=False)
class Superposition:
    """Features in shared dimensions, beside random directions of the same number, lengths and width.

    Attributes:
        norm: `(f,)` lengths.
        dimensionality: `(f,)`, in [0, 1].
        interference: `(f,)`, in squared lengths.
        partner: `(f,)`, the other feature with the largest absolute cosine; itself where there is no other.
        cosine: `(f,)`, its cosine.
        control: `(draws, 2)`, mean interference and sum of dimensionalities of random directions.
        control_dimensionality: `(f,)`, mean over draws of their dimensionalities, sorted, largest first.
        expected: mean interference of random directions, in closed form.
        rank: of the rows: the most that dimensionalities can sum to.
        m: dimensions.
        names: of the features; numbers where none are given.
        manifest: provenance.
    """

    norm: Float[Tensor, " f"]
    dimensionality: Float[Tensor, " f"]
    interference: Float[Tensor, " f"]
    partner: Int[Tensor, " f"]
    cosine: Float[Tensor, " f"]
    control: Float[Tensor, "draws 2"]
    control_dimensionality: Float[Tensor, " f"]
    expected: float
    rank: int
    m: int
    names: tuple[str, ...]
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "superposition"

    @property
    def excess(self) -> float:
        """Mean interference over that of random directions: below 1 is arranged, above 1 crowded; 0 for one feature."""
        return float(self.interference.mean()) / self.expected if self.expected > 0 else 0.0

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        header = {name: getattr(self, name) for name in ("expected", "rank", "m")}
        header |= {"names": list(self.names), "manifest": dict(self.manifest)}
        return Artifact(self.kind, header, {name: getattr(self, name) for name in _TENSORS})

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Superposition":
        """Rebuild from an artifact."""
        header = dict(artifact.header)
        header["names"] = tuple(header["names"])
        return cls(**{name: artifact.tensors[name] for name in _TENSORS}, **header)


def superposition(
    w: Float[Tensor, "f m"],
    *,
    names: Sequence[str] = (),
    draws: int = 20,
    model: nn.Module | None = None,
    generator: torch.Generator | None = None,
) -> Superposition:
    """Measure directions that share dimensions, beside random ones.

    Args:
        w: a feature a row. Take off the mean row first where all features share one, as word embeddings do; else that
            is most of what is measured.
        names: one a row; none for numbers.
        draws: of random directions, at least one.
        model: the network that the rows are from, for the record only.
        generator: source of the random directions; None is one of seed 0.

    Raises:
        ValueError: not a matrix, no row with a length, another number of names, or no draw.
        NonFiniteError: NaN or infinity.
    """
    w = checked(w)
    if draws < 1 or (names and len(names) != len(w)) or not bool(w.any()):
        raise ValueError(
            f"got {len(names)} names for {len(w)} rows, {int(w.any(1).sum())} of them not zero, and draws={draws}; "
            "expected a name a row or none, a row that is not zero, at least one draw"
        )
    source = torch.Generator().manual_seed(0) if generator is None else generator
    seed, norm = source.initial_seed(), w.norm(dim=1)
    control, dimensions = [], torch.zeros(len(w), dtype=torch.float64)
    for _ in range(draws):
        drawn = torch.nn.functional.normalize(torch.randn(w.shape, generator=source, dtype=torch.float64), dim=1)
        found = feature_dimensionality(drawn * norm[:, None])
        dimensions += found.sort(descending=True).values / draws
        control.append((float(interference(drawn * norm[:, None]).mean()), float(found.sum())))
    partner, cosine = partners(w)
    manifest = {"method": "superposition", "draws": draws, "seed": seed, "version": library_version()}
    return Superposition(
        norm=norm,
        dimensionality=feature_dimensionality(w),
        interference=interference(w),
        partner=partner,
        cosine=cosine,
        control=torch.tensor(control, dtype=torch.float64),
        control_dimensionality=dimensions,
        expected=float(random_interference(w).mean()),
        rank=int(torch.linalg.matrix_rank(w)),
        m=w.shape[1],
        names=tuple(names) or tuple(map(str, range(len(w)))),
        manifest=manifest if model is None else manifest | {"base": fingerprint(model)},
    )


def partners(w: Float[Tensor, "f m"]) -> tuple[Int[Tensor, " f"], Float[Tensor, " f"]]:
    """Find for each feature the other one with the largest absolute cosine; itself, with 0, where there is no other."""
    unit = torch.nn.functional.normalize(checked(w), dim=1)
    if len(unit) == 1:
        return torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.float64)
    index, cosine = [], []
    for rows in torch.arange(len(unit)).split(STRIP):
        found = unit[rows] @ unit.T
        best = found.abs().index_put((torch.arange(len(rows)), rows), found.new_tensor(-1.0)).argmax(1)
        index.append(best)
        cosine.append(found.gather(1, best[:, None])[:, 0])
    return torch.cat(index), torch.cat(cosine)
