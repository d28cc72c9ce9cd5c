"""Add rows into second moments in place: many rows at a time, the upper triangle only.

Wide layers are bound by memory traffic when a few hundred rows are folded in at once, so rows wait in a buffer of at
least `ROWS`. Products are formed in the accumulator's type; the sum of rows is float64 always.
"""

import torch
from torch import Tensor

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.stats.moments import Moments

ROWS = 2048
STRIP = 384


class Accumulator:
    """A running sum for one set of maps that read the same tensors."""

    def __init__(self, dtype: torch.dtype) -> None:
        """Start empty.

        Args:
            dtype: of the sum of outer products; rows of a wider type widen it.
        """
        self.dtype = dtype
        self.n = 0
        self.first: Tensor | None = None
        self.second: Tensor | None = None
        self.buffer: list[Tensor] = []

    def add(self, rows: Tensor, where: str) -> None:
        """Take `(n, d)` rows, which the caller must not change afterwards.

        Raises:
            NonFiniteError: NaN or infinity among them.
            ValueError: the width changed.
        """
        if len(rows) == 0:
            return
        sums = rows.sum(0, dtype=torch.float64)
        if not bool(torch.isfinite(sums).all()):
            bad = int((~torch.isfinite(rows)).any(1).sum())
            raise NonFiniteError(
                f"got {bad} of {len(rows)} rows with NaN or infinity at {where}; expected finite activations; look for "
                "overflow in half precision or a diverged model"
            )
        if self.first is not None and len(self.first) != len(sums):
            raise ValueError(f"got rows of width {len(sums)} at {where}; expected {len(self.first)} as before")
        self.first = sums if self.first is None else self.first + sums
        self.n += len(rows)
        self.buffer.append(rows)
        waiting = sum(len(part) for part in self.buffer)
        if waiting >= max(ROWS, 0 if self.second is not None else len(sums)):
            self.flush()

    def flush(self) -> None:
        """Fold the waiting rows into the sum."""
        if not self.buffer:
            return
        rows = self.buffer[0] if len(self.buffer) == 1 else torch.cat(self.buffer)
        rows = rows.to(torch.promote_types(rows.dtype, self.dtype))
        d = rows.shape[1]
        if self.second is None:
            self.second = rows.new_zeros(d, d)
        add_gram(self.second, rows)
        self.buffer = []

    def moments(self) -> Moments:
        """Return what has been seen; the accumulator can go on afterwards only through a new one."""
        if self.first is None:
            raise AssertionError("no rows were added")
        if self.second is None and self.n < len(self.first):
            return Moments(self.n, self.first, rows=torch.cat(self.buffer))
        self.flush()
        second = self.second
        if second is None:
            raise AssertionError("rows were flushed")
        second = second.triu()
        return Moments(self.n, self.first, second=second + second.triu(1).T)


def add_gram(total: Tensor, rows: Tensor) -> None:
    """Add `rows.T @ rows` to the upper triangle of `total`, in place, strip by strip; about n d^2 / 2 products."""
    d = len(total)
    for start in range(0, d, STRIP):
        strip = slice(start, min(start + STRIP, d))
        total[strip, start:].addmm_(rows[:, strip].T, rows[:, start:])
