"""Evidence about causes: rows of values, and which of them were set from outside.

A value that was set says nothing of what usually causes it, so a row with `do(i)` is left out when node `i` is scored,
and counts for all others (Cooper and Yoo 1999).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mnemotrace.core.linalg import require_finite


@dataclass(frozen=True, eq=False)
class Evidence:
    """Rows of values and of what was set from outside.

    Attributes:
        values: `(n, p)`: states from 0 as integers, or numbers in floating point.
        intervened: `(n, p)`, True where a value was set from outside.

    Raises:
        TypeError: values that are no tensor of numbers, or a mask that is not boolean.
        ValueError: other shapes, or a state below 0.
        NonFiniteError: NaN or infinity.
    """

    values: Int[Tensor, "n p"] | Float[Tensor, "n p"]
    intervened: Bool[Tensor, "n p"]

    def __post_init__(self) -> None:
        """Check shapes and kinds."""
        values, intervened = self.values, self.intervened
        if not isinstance(values, Tensor) or values.dtype == torch.bool or values.is_complex():
            what = values.dtype if isinstance(values, Tensor) else type(values).__name__
            raise TypeError(
                f"got {what} as values; expected a tensor of integers (states) or of floating-point numbers"
            )
        if not isinstance(intervened, Tensor) or intervened.dtype != torch.bool:
            what = intervened.dtype if isinstance(intervened, Tensor) else type(intervened).__name__
            raise TypeError(f"got {what} as intervened; expected a boolean tensor, True where a value was set")
        if values.ndim != 2 or values.shape != intervened.shape:  # noqa: PLR2004
            raise ValueError(
                f"got values {tuple(values.shape)} and intervened {tuple(intervened.shape)}; expected (n, p) for both"
            )
        if values.is_floating_point():
            require_finite(values, "the values")
        elif values.numel() and int(values.min()) < 0:
            raise ValueError(f"got state {int(values.min())}; expected states from 0; leave rows with gaps out")

    @classmethod
    def observed(cls, values: Int[Tensor, "n p"] | Float[Tensor, "n p"], *, do: Sequence[int] = ()) -> Evidence:
        """Take rows in which the same nodes were set from outside; none of them by default.

        Raises:
            TypeError: values that are no tensor of numbers.
            ValueError: a node that is not there, or other shapes.
            NonFiniteError: NaN or infinity.
        """
        intervened = torch.zeros(values.shape if isinstance(values, Tensor) else (), dtype=torch.bool)
        p = intervened.shape[-1] if intervened.ndim else 0
        if any(not 0 <= node < p for node in do):
            raise ValueError(f"got do={list(do)}; expected nodes from 0 to {p - 1}")
        if do:
            intervened[:, list(do)] = True
        return cls(values, intervened)

    @classmethod
    def nothing(cls, p: int, *, continuous: bool = False) -> Evidence:
        """Return no rows of `p` variables."""
        return cls.observed(torch.zeros(0, p, dtype=torch.float64 if continuous else torch.long))

    def __len__(self) -> int:
        """Count rows."""
        return len(self.values)

    @property
    def p(self) -> int:
        """Number of variables."""
        return self.values.shape[1]

    def __add__(self, other: Evidence) -> Evidence:
        """Join the rows of both.

        Raises:
            ValueError: other variables, or states and numbers.
        """
        if self.p != other.p or self.values.is_floating_point() != other.values.is_floating_point():
            raise ValueError(
                f"got {self.p} variables of {self.values.dtype} and {other.p} of {other.values.dtype}; expected the "
                "same variables"
            )
        return Evidence(torch.cat([self.values, other.values]), torch.cat([self.intervened, other.intervened]))

    def __getitem__(self, rows: slice | Tensor) -> Evidence:
        """Keep some rows."""
        return Evidence(self.values[rows], self.intervened[rows])

    def about(self, node: int) -> Tensor:
        """Return the rows in which a node was not set: what its own family is scored on."""
        return self.values[~self.intervened[:, node]]
