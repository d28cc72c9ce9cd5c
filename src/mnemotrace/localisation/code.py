"""Code: what a dictionary says of activations, a few latents a row, kept as values and indices.

A code of `k` latents of `m` costs `12 k` bytes a row instead of `4 m`, and its decoding costs `k d` multiplications
instead of `m d`. A value of zero says nothing: rows that use fewer latents than others are filled up with zeros, at any
index, so counting is counting values that are not zero.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Code:
    """Sparse rows over `width` latents.

    Attributes:
        values: `(n, k)`, how strongly each named latent is on; 0 is a filling.
        indices: `(n, k)` int64, which latents; of one row all different, save for fillings.
        width: how many latents there are, `m`.

    Raises:
        ValueError: shapes that differ, or an index that no latent has.
        TypeError: indices that are no integers.
    """

    values: Float[Tensor, "n k"]
    indices: Int[Tensor, "n k"]
    width: int

    def __post_init__(self) -> None:
        """Check once, so that nothing later has to."""
        if self.indices.dtype != torch.int64:
            raise TypeError(f"got indices of {self.indices.dtype}; expected torch.int64; use indices.long()")
        if self.values.ndim != 2 or self.values.shape != self.indices.shape:  # noqa: PLR2004
            raise ValueError(
                f"got values {tuple(self.values.shape)} and indices {tuple(self.indices.shape)}; expected (n, k) twice"
            )
        if self.indices.numel() and not 0 <= int(self.indices.min()) <= int(self.indices.max()) < self.width:
            raise ValueError(
                f"got indices from {int(self.indices.min())} to {int(self.indices.max())}; expected 0 to "
                f"{self.width - 1}"
            )

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.values)

    @property
    def active(self) -> Int[Tensor, " n"]:
        """How many latents are on in each row."""
        return (self.values != 0).sum(1)

    @property
    def l0(self) -> float:
        """How many latents are on, the mean over rows; 0 without rows."""
        return float(self.active.double().mean()) if len(self) else 0.0

    def counts(self) -> Int[Tensor, " m"]:
        """Count in how many rows each latent is on."""
        return torch.bincount(self.indices[self.values != 0], minlength=self.width)

    def dense(self) -> Float[Tensor, "n m"]:
        """Write out all latents; `n x m` numbers."""
        return self.values.new_zeros(len(self), self.width).scatter_add_(1, self.indices, self.values)

    def to(self, *args: Any) -> "Code":
        """Move, or cast the values, as `Tensor.to` does."""
        values = self.values.to(*args)
        return replace(self, values=values, indices=self.indices.to(values.device))

    @classmethod
    def of(cls, dense: Float[Tensor, "n m"]) -> "Code":
        """Keep what is not zero of dense rows; as wide as the fullest row."""
        row, column = dense.nonzero(as_tuple=True)
        count = torch.bincount(row, minlength=len(dense))
        place = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
        shape = (len(dense), int(count.max()) if len(dense) else 0)
        values, indices = dense.new_zeros(shape), torch.zeros(shape, dtype=torch.long, device=dense.device)
        values[row, place], indices[row, place] = dense[row, column], column
        return cls(values, indices, dense.shape[1])


def decoded(code: Code, decoder: Float[Tensor, "m d"]) -> Float[Tensor, "n d"]:
    """Sum the rows of a decoder that a code names, weighted by its values; never `n x m`."""
    if not code.values.shape[1]:
        return decoder.new_zeros(len(code), decoder.shape[1])
    return nn.functional.embedding_bag(code.indices, decoder, mode="sum", per_sample_weights=code.values)
