r"""How like an image is to the one it should recall, and to those that it should not.

Four measures, each of a recalled image with every original, so that "like its own" always stands beside "like others":

* correlation over all values of an image, channels included;
* high-pass correlation: the same after a Gaussian blur (:math:`\sigma` of 8 pixels in 224, scaled to the shorter side)
  is taken away, so that light and dark halves count for nothing;
* edge correlation, of the squared gradient summed over channels: line drawings, whatever their contrast;
* structural similarity on images scaled to [0, 1] each,

.. math:: \frac{(2\mu_x\mu_y + C_1)(2\sigma_{xy} + C_2)}{(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)},
   \qquad C_1 = 0.01^2,\; C_2 = 0.03^2,

  in 7 x 7 Gaussian windows of :math:`\sigma = 1.5` that lie wholly inside, averaged over places and channels.

An image without contrast has correlation 0 with everything. A recall is identified when its own original is the nearest
by correlation; where several are equally near, as after a prototype, the share that a guess among them would have.

Reference: Wang et al. 2004 (structural similarity). Cost: O(b n c h w) for `b` recalls beside `n` originals.
"""

# torch.nn.functional's convolutions have no types of their own
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from mnemotrace.core.linalg import require_finite
from mnemotrace.evaluation.capacity import Rate, wilson

WINDOW, SPREAD = 7, 1.5
_C1, _C2 = 0.01**2, 0.03**2
_BLUR, _SIDE = 8.0, 224
_CHUNK = 2_000_000


@dataclass(frozen=True)
class Means:
    """A measure, averaged over recalls; for each first over the originals it is compared with.

    Attributes:
        own: each recall with its own original.
        same: with the other originals of its class; NaN where no class has two.
        different: with originals of other classes; NaN where there is one class.
    """

    own: float
    same: float
    different: float


@dataclass(frozen=True)
class Likeness:
    """Recalled images beside originals.

    Attributes:
        correlation: over all values, in [-1, 1].
        high_pass: the same without what is slower than 8 pixels in 224.
        edges: of the squared gradient.
        structure: structural similarity, in [-1, 1].
        identified: share whose own original is the nearest of all, with its 95 % interval.
        in_class: the same among the originals of its own class.
        chance: what a guess among all would have.
        chance_in_class: what a guess among its own class would have.
        count: recalled images.
    """

    correlation: Means
    high_pass: Means
    edges: Means
    structure: Means
    identified: Rate
    in_class: Rate
    chance: float
    chance_in_class: float
    count: int


def likeness(
    found: Float[Tensor, "b c h w"],
    originals: Float[Tensor, "n c h w"],
    *,
    labels: Int[Tensor, " n"],
    own: Int[Tensor, " b"] | None = None,
) -> Likeness:
    """Compare recalled images with all originals.

    Args:
        found: recalled images.
        originals: in the same space and of the same size.
        labels: class of each original.
        own: which original each recall belongs to; None where they come in the same order.

    Returns:
        Likeness. Means over "same" and "different" leave a recall's own original out.

    Raises:
        ValueError: shapes that do not fit, labels or rows that are not one each, or images smaller than a window.
        NonFiniteError: NaN or infinity in the images.
    """
    rows = _checked(found, originals, labels, own)
    same = labels[rows][:, None] == labels[None, :]
    itself = torch.zeros_like(same)
    itself[torch.arange(len(rows), device=rows.device), rows] = True
    pairs = correlations(found, originals)

    def means(values: Tensor) -> Means:
        return Means(*(_mean(values.double(), part) for part in (itself, same & ~itself, ~same)))

    return Likeness(
        correlation=means(pairs),
        high_pass=means(correlations(high_pass(found), high_pass(originals))),
        edges=means(correlations(edge_energy(found), edge_energy(originals))),
        structure=means(structural_similarities(found, originals)),
        identified=wilson(identified(pairs, rows), len(rows)),
        in_class=wilson(identified(pairs.masked_fill(~same, -torch.inf), rows), len(rows)),
        chance=1 / len(originals),
        chance_in_class=float((1 / same.sum(1)).mean()),
        count=len(rows),
    )


def correlations(x: Float[Tensor, "b ..."], y: Float[Tensor, "n ..."]) -> Float[Tensor, "b n"]:
    """Return the correlation of each `x` with each `y` over all their values, float64; 0 where one is constant."""
    return _standard(x) @ _standard(y).T


def identified(similarity: Float[Tensor, "b n"], own: Int[Tensor, " b"]) -> float:
    """Return the share of rows that are largest at their own column; ties count as one guess among the tied.

    Args:
        similarity: of each recall with each original; equal within 1e-9 counts as tied.
        own: the column that is right, for each row.
    """
    best = similarity.amax(1, keepdim=True)
    tied = similarity >= best - 1e-9
    right = tied[torch.arange(len(own), device=own.device), own].double()
    return float((right / tied.sum(1)).mean())


def high_pass(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Take a Gaussian blur away, of 8 pixels in 224 on the shorter side; edges are continued by mirroring."""
    height, width = images.shape[-2:]
    spread = _BLUR * min(height, width) / _SIDE
    reach = min(int(4 * spread + 0.5), min(height, width) - 1)
    kernel = _gaussian(2 * reach + 1, spread, images)
    padded = F.pad(images, (reach,) * 4, mode="reflect")
    return images - _filtered(padded, kernel)


def edge_energy(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
    """Return the squared length of the gradient (central differences, one-sided at the rim), summed over channels."""
    down, across = torch.gradient(images, dim=(-2, -1))
    return (down.square() + across.square()).sum(1, keepdim=True)


def structural_similarities(x: Float[Tensor, "b c h w"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, "b n"]:
    """Return the structural similarity of each `x` with each `y`, every image scaled to [0, 1] on its own."""
    x, y = _scaled(x), _scaled(y)
    kernel = _gaussian(WINDOW, SPREAD, x)
    mean_x, mean_y = _filtered(x, kernel), _filtered(y, kernel)
    spread_x, spread_y = _filtered(x * x, kernel) - mean_x**2, _filtered(y * y, kernel) - mean_y**2
    rows: list[Tensor] = []
    step = max(1, _CHUNK // y.numel())
    for part in torch.arange(len(x), device=x.device).split(step):
        product = (x[part, None] * y[None]).flatten(0, 1)
        both = mean_x[part, None] * mean_y[None]
        shared = _filtered(product, kernel).view(both.shape) - both
        above = (2 * both + _C1) * (2 * shared + _C2)
        means = mean_x[part, None] ** 2 + mean_y[None] ** 2 + _C1
        rows.append((above / (means * (spread_x[part, None] + spread_y[None] + _C2))).flatten(2).mean(2))
    return torch.cat(rows)


def _checked(found: Tensor, originals: Tensor, labels: Tensor, own: Tensor | None) -> Tensor:
    """Return which original each recall belongs to, after checking that everything fits."""
    if found.ndim != 4 or originals.ndim != 4 or found.shape[1:] != originals.shape[1:]:  # noqa: PLR2004
        raise ValueError(
            f"got recalls of shape {tuple(found.shape)} and originals of shape {tuple(originals.shape)}; expected "
            "(b, c, h, w) and (n, c, h, w) with the same c, h and w; resize or reshape one of them"
        )
    if min(found.shape[-2:]) < WINDOW or not len(found):
        raise ValueError(
            f"got recalls of shape {tuple(found.shape)}; expected at least one image of {WINDOW} x {WINDOW} pixels, "
            "the window of structural similarity"
        )
    rows = torch.arange(len(found), device=found.device) if own is None else own
    fits = labels.shape == (len(originals),) and rows.shape == (len(found),)
    if not fits or not bool(((rows >= 0) & (rows < len(originals))).all()):
        raise ValueError(
            f"got labels of shape {tuple(labels.shape)} and own of shape {tuple(rows.shape)} for {len(found)} recalls "
            f"and {len(originals)} originals; expected one label an original, and for each recall the row of its own"
        )
    require_finite(found, "the recalled images")
    require_finite(originals, "the originals")
    return rows


def _mean(values: Tensor, part: Tensor) -> float:
    """Average over the part of each recall, then over recalls; over pairs at once, large classes would count more.

    So a recall that is one picture for a whole class has exactly the same mean with its own as with others.
    """
    counts = part.sum(1)
    rows = values.masked_fill(~part, 0).sum(1)[counts > 0] / counts[counts > 0]
    return float(rows.mean())


def _standard(x: Tensor) -> Tensor:
    rows = x.flatten(1).double()
    rows = rows - rows.mean(1, keepdim=True)
    norm = rows.norm(dim=1, keepdim=True)
    # rounding leaves a constant image a norm of its last digits, which must not be blown up to a picture
    floor = 1e-12 * x.flatten(1).double().norm(dim=1, keepdim=True)
    return torch.where(norm > floor, rows / norm.clamp_min(torch.finfo(rows.dtype).tiny), 0)


def _scaled(images: Tensor) -> Tensor:
    flat = images.flatten(1)
    low, high = flat.amin(1), flat.amax(1)
    span = torch.where(high > low, high - low, 1)
    return (images - low[:, None, None, None]) / span[:, None, None, None]


def _gaussian(size: int, spread: float, like: Tensor) -> Tensor:
    place = torch.arange(size, dtype=like.dtype, device=like.device) - (size - 1) / 2
    weight = torch.exp(-place.square() / (2 * spread**2))
    return weight / weight.sum()


def _filtered(images: Tensor, kernel: Tensor) -> Tensor:
    """Filter along both axes, where the window lies inside, as two products with banded matrices."""
    down, across = (_banded(kernel, size) for size in images.shape[-2:])
    return down @ (images @ across.T)


def _banded(kernel: Tensor, size: int) -> Tensor:
    rows = kernel.new_zeros(size - len(kernel) + 1, size)
    for offset, weight in enumerate(kernel):
        rows.diagonal(offset).fill_(weight)
    return rows
