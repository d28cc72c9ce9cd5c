r"""Rows to train a dictionary on: endless shuffled batches from any source, and the scale that makes networks alike.

The centre is the geometric median of a batch, the point with the least summed distance to its rows, by Weiszfeld's
iteration; the scale the median length of centred rows over :math:`\sqrt d`. Both hold where a few rows are thousands of
times as long as the others, as at the first token of language models. Cost: 30 passes over one batch.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.linalg import require_finite
from mnemotrace.localisation.dictionary_step import Parameters
from mnemotrace.stats.activations import Point

Rows = Tensor | Point | Iterable[Tensor]
Pair = tuple[Tensor, Tensor]
_ROUNDS, _ALIKE = 30, 1e-6


@dataclass(frozen=True, eq=False)
class Scaling:
    """Where activations are centred, and by what they are divided; targets by their own."""

    centre: Float[Tensor, " d"]
    size: float
    target_centre: Float[Tensor, " d_out"]
    target_size: float

    @classmethod
    def of(cls, x: Float[Tensor, "n d"], y: Float[Tensor, "n d_out"]) -> "Scaling":
        """Measure a batch.

        Raises:
            ValueError: rows that are all the same.
        """
        return cls(*_centre_and_size(x), *_centre_and_size(y))

    def apply(self, x: Tensor, y: Tensor) -> Pair:
        """Centre and divide rows and targets."""
        return (x - self.centre) / self.size, (y - self.target_centre) / self.target_size

    def folded(self, now: Parameters) -> dict[str, Tensor]:
        """Give what a `Dictionary` holds for activations as they are: a latent counts in units of the target."""
        return {
            "encoder": now.encoder * (self.target_size / self.size),
            "encoder_bias": now.encoder_bias * self.target_size,
            "decoder": now.decoder,
            "bias": self.centre,
            "output_bias": now.output_bias * self.target_size + self.target_centre,
        } | ({} if now.threshold is None else {"threshold": now.threshold * self.target_size})


def _centre_and_size(rows: Tensor) -> tuple[Tensor, float]:
    centre = rows.mean(0)
    for _ in range(_ROUNDS):
        weight = 1 / (rows - centre).norm(dim=1).clamp_min(torch.finfo(rows.dtype).tiny ** 0.5)
        centre = (weight / weight.sum()) @ rows
    squares = (rows - centre).square().mean(1)
    size = float(squares.median().sqrt()) or float(squares.mean().sqrt())
    if size <= _ALIKE * float(centre.square().mean().sqrt()):
        raise ValueError(
            f"got {len(rows)} activations that are all the same; expected some that differ; check the site"
        )
    return centre, size


def batches_of(
    rows: Rows, target: Tensor | Point | None, size: int, generator: torch.Generator, device: torch.device | None
) -> Iterator[Pair]:
    """Give batches of rows and of what they should become, float32, without end.

    Raises:
        ValueError: no batch, other widths than before, or targets that do not line up.
        NonFiniteError: NaN or infinity.
    """
    _require_alike(rows, target)
    found, width = True, None
    while found:
        found = False
        for x, y in _once(rows, target, size, generator):
            if x.ndim != 2 or width not in (None, x.shape[1]) or not len(x):  # noqa: PLR2004
                raise ValueError(
                    f"got activations {tuple(x.shape)}; expected (n, {width or 'd'}); flatten positions into rows"
                )
            require_finite(x, "activations")
            require_finite(y, "targets")
            found, width = True, x.shape[1]
            moved = x.detach().to(device or x.device, torch.float32)
            yield moved, moved if y is x else y.detach().to(moved)
    raise ValueError("got no further batch; expected batches that can be read again; give a list, a tensor or a cache")


def _once(rows: Rows, target: Tensor | Point | None, size: int, generator: torch.Generator) -> Iterator[Pair]:
    if isinstance(rows, Point):
        beside = (target.name,) if isinstance(target, Point) else ()
        for parts in rows.batches(size, beside=beside, generator=generator):
            if len(parts[0]) >= min(size, len(rows)):
                yield parts[0], parts[-1]
    elif isinstance(rows, Tensor):
        for chosen in torch.randperm(len(rows), generator=generator).split(size):
            if len(chosen) >= min(size, len(rows)):
                x = rows[chosen]
                yield x, target[chosen] if isinstance(target, Tensor) else x
    else:
        yield from ((x, x) for x in rows)


def _require_alike(rows: Rows, target: Tensor | Point | None) -> None:
    if target is None:
        return
    one_cache = isinstance(rows, Point) and isinstance(target, Point) and rows.cache is target.cache
    if not one_cache and not (isinstance(rows, Tensor) and isinstance(target, Tensor) and len(rows) == len(target)):
        raise ValueError(
            f"got activations as {_said(rows)} and target as {_said(target)}; expected two tensors of as many rows, or "
            "two points of one open cache"
        )


def _said(rows: Rows | None) -> str:
    return f"a tensor of {tuple(rows.shape)}" if isinstance(rows, Tensor) else type(rows).__name__
