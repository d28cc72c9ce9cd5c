r"""What latents say of concepts: how few tell one, and how often another latent speaks for those that should.

* Sparse probing: a logistic regression on the `k` latents whose class means differ most (over their deviation), scored
  on rows that chose nothing, both classes weighing the same; beside it `k` latents at random.
* Absorption: a latent that stands for a concept is silent in some cases of it, because another, narrower latent brings
  the concept along in its own direction ("starts with L" is off for "lion", for "lion" holds it).

References: Gurnee et al. 2023 (sparse probing); Chanin et al. 2024 (absorption). Cost: `O(n k^2)` a step of Newton.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from mnemotrace.core.linalg import require_finite

_STEPS, _RIDGE = 25, 1e-3


@dataclass(frozen=True, eq=False)
class SparseProbing:
    """How well few latents tell a concept, on rows that did not choose them.

    Attributes:
        k: how many latents.
        accuracy: balanced accuracy, the mean of the two classes', for each `k`.
        random: the same of `k` latents drawn among those that are on at all.
        latents: the largest `k` of them, best first.
    """

    k: tuple[int, ...]
    accuracy: tuple[float, ...]
    random: tuple[float, ...]
    latents: tuple[int, ...]


def sparse_probing(
    codes: Float[Tensor, "n m"],
    positive: Bool[Tensor, " n"],
    *,
    k: Sequence[int] = (1, 2, 5),
    held_out: Bool[Tensor, " n"] | None = None,
    generator: torch.Generator | None = None,
) -> SparseProbing:
    """Ask how few latents tell a concept from everything else.

    Args:
        codes: latents as units.
        positive: which rows hold the concept.
        k: how many latents, from 1.
        held_out: rows to score on; None draws a third. Give it where rows of one family must stay together.
        generator: of that and of random latents; None is one of seed 0.

    Raises:
        TypeError: labels or rows that are not boolean.
        ValueError: a class without a row on either side, a `k` that cannot be.
        NonFiniteError: NaN or infinity.
    """
    source = torch.Generator().manual_seed(0) if generator is None else generator
    held = halves(len(codes), held_out, generator=source, share=1 / 3)
    _check_probing(codes, positive, held, k)
    x, y = codes.double(), positive
    train, test = ~held, held
    apart = (x[train & y].mean(0) - x[train & ~y].mean(0)).abs() / x[train].std(0).clamp_min(1e-12)
    order = apart.argsort(descending=True, stable=True)
    alive = (x[train] != 0).any(0).nonzero()[:, 0]
    scores: list[tuple[float, float]] = []
    for count in k:
        drawn = alive[torch.randperm(len(alive), generator=source)[:count]]
        scores.append(
            tuple(_balanced(x[train][:, few], y[train], x[test][:, few], y[test]) for few in (order[:count], drawn))  # type: ignore[arg-type]
        )
    return SparseProbing(
        tuple(k), tuple(s[0] for s in scores), tuple(s[1] for s in scores), tuple(order[: max(k)].tolist())
    )


def halves(
    n: int, held_out: Bool[Tensor, " n"] | None, *, generator: torch.Generator | None = None, share: float = 0.5
) -> Bool[Tensor, " n"]:
    """Return which rows are held out: those given, or a random share.

    Raises:
        TypeError: not boolean.
        ValueError: another number of rows.
    """
    if held_out is None:
        source = torch.Generator().manual_seed(0) if generator is None else generator
        return torch.randperm(n, generator=source) < share * n
    if held_out.dtype != torch.bool:
        raise TypeError(f"got held_out of {held_out.dtype}; expected a bool tensor; write held_out.bool()")
    if tuple(held_out.shape) != (n,):
        raise ValueError(f"got held_out of shape {tuple(held_out.shape)} for {n} rows; expected one entry a row")
    return held_out


def _check_probing(codes: Tensor, positive: Tensor, held: Tensor, k: Sequence[int]) -> None:
    require_finite(codes, "codes")
    if positive.dtype != torch.bool:
        raise TypeError(f"got labels of {positive.dtype}; expected a bool tensor; write labels == concept")
    if tuple(positive.shape) != (len(codes),):
        raise ValueError(f"got labels of shape {tuple(positive.shape)} for {len(codes)} rows; expected one a row")
    if not k or not all(0 < count <= codes.shape[1] for count in k):
        raise ValueError(f"got k={tuple(k)}; expected whole numbers from 1 to {codes.shape[1]}")
    counts = [int((part & side).sum()) for part in (positive, ~positive) for side in (held, ~held)]
    if not all(counts):
        raise ValueError(
            f"got {counts[1]} rows with and {counts[3]} without the concept to fit, {counts[0]} and {counts[2]} to "
            "score; expected at least one each; give more rows, or choose held_out"
        )


def _balanced(x: Tensor, y: Tensor, test: Tensor, truth: Tensor) -> float:
    weights = _logistic(x, y)
    says = torch.cat([test, test.new_ones(len(test), 1)], 1) @ weights > 0
    return 0.5 * float(says[truth].double().mean() + (~says[~truth]).double().mean())


def _logistic(x: Tensor, y: Tensor) -> Tensor:
    """Fit a logistic regression by Newton, classes weighing the same; a small ridge on all but the last, a constant."""
    scale = x.std(0).clamp_min(1e-12)
    wide = torch.cat([x / scale, x.new_ones(len(x), 1)], 1)
    target = y.to(x)
    share = target.mean()
    row = torch.where(y, 0.5 / share, 0.5 / (1 - share))[:, None]
    weights, ridge = x.new_zeros(wide.shape[1]), torch.full_like(wide[0], _RIDGE)
    ridge[-1] = 0
    for _ in range(_STEPS):
        p = (wide @ weights).sigmoid()
        slope = wide.T @ (row[:, 0] * (p - target)) / len(x) + ridge * weights
        curve = (wide * row * (p * (1 - p))[:, None]).T @ wide / len(x)
        curve.diagonal().add_(ridge)
        weights = weights - torch.linalg.solve(curve, slope)
    return torch.cat([weights[:-1] / scale, weights[-1:]])


@dataclass(frozen=True, eq=False)
class Absorption:
    """How often another latent speaks for a concept while its own are silent.

    Attributes:
        rate: absorbed cases over all cases of the concept.
        silent: cases in which the concept's own latents are all off, absorbed or not, over all cases.
        absorbers: latents that spoke instead, most often first.
    """

    rate: float
    silent: float
    absorbers: tuple[int, ...]


def absorption(
    codes: Float[Tensor, "n m"],
    decoder: Float[Tensor, "m d"],
    direction: Float[Tensor, " d"],
    own: Sequence[int],
    *,
    share: float = 0.4,
    cosine: float = 0.025,
) -> Absorption:
    r"""Count the cases of a concept that other latents absorbed.

    With :math:`w` the concept's direction of length 1, latent `j` says :math:`s_j = z_j\, d_j \cdot w` of it. A case is
    absorbed when all of the concept's own latents are off, and one other latent, with :math:`\cos(d_j, w)` above
    `cosine`, says at least `share` of all that is said for the concept, :math:`\sum_j \max(s_j, 0)`.

    Args:
        codes: of the cases of the concept only, all rows.
        decoder: directions of latents.
        direction: of the concept, such as a probe's on the activations; of any length above 0.
        own: the concept's latents, such as `sparse_probing(...).latents`.
        share: above 0, at most 1; 0.4 as SAEBench takes it.
        cosine: least likeness of the absorber's direction with the concept's; 0.025 as there.

    Raises:
        ValueError: no case, no latent of its own, or shapes that do not fit.
        NonFiniteError: NaN or infinity.
    """
    if not len(codes) or not own or codes.shape[1] != len(decoder) or decoder.shape[1:] != direction.shape:
        raise ValueError(
            f"got codes {tuple(codes.shape)}, decoder {tuple(decoder.shape)}, direction "
            f"{tuple(direction.shape)}, {len(own)} own latents; expected (n, m), (m, d), (d,), "
            "at least one case and one latent"
        )
    require_finite(codes, "codes")
    alike = normalize(decoder.double(), dim=1) @ normalize(direction.double(), dim=0)
    said = (codes.double() * (decoder.double() @ normalize(direction.double(), dim=0))).clamp_min(0)
    mine = torch.zeros(len(decoder), dtype=torch.bool)
    mine[list(own)] = True
    quiet = (codes[:, mine] == 0).all(1)
    rivals = torch.where(mine | (alike <= cosine), 0.0, said)
    most, which = rivals.max(1)
    absorbed = quiet & (most > 0) & (most >= share * said.sum(1))
    counts = torch.bincount(which[absorbed], minlength=len(decoder))
    order = counts.argsort(descending=True, stable=True)[: int((counts > 0).sum())]
    return Absorption(float(absorbed.double().mean()), float(quiet.double().mean()), tuple(order.tolist()))
