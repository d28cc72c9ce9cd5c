"""Add rows into second moments in place: a few hundred rows at a time, the upper triangle only.

Wide layers are bound by memory traffic when few rows are folded in at once, so rows wait until there are `ROWS`; with
a triangular sum in place, more rows at a time win nothing (3,072 wide: 8 x 256 rows take as long as 2,048). Strips of
`STRIP` columns leave little below the diagonal and still fill a matrix product. Products, and sums within a batch, are
formed in the accumulator's type; sums of rows over batches are float64. Maps narrower than `NARROW` are summed in
float64 always: it costs nothing there, and small matrix products add so naively that their error (3e-4 after 50,000
equal rows) exceeds the cut below which eigenvalues are dropped.
"""

import torch
from torch import Tensor

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.stats.moments import Moments

ROWS = 512
STRIP = 192
NARROW = 64


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
        self.waiting = 0

    def add(self, rows: Tensor, where: str) -> None:
        """Take `(n, d)` rows, which the caller must not change afterwards.

        Raises:
            NonFiniteError: NaN or infinity among them.
            ValueError: the width changed.
        """
        if len(rows) == 0:
            return
        sums = rows.sum(0, dtype=torch.promote_types(rows.dtype, self.dtype)).double()
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
        self.waiting += len(rows)
        if self.waiting >= max(ROWS, 0 if self.second is not None else len(sums)):
            self.flush()

    def flush(self) -> None:
        """Fold the waiting rows into the sum."""
        if not self.buffer:
            return
        rows = self.buffer[0] if len(self.buffer) == 1 else torch.cat(self.buffer)
        d = rows.shape[1]
        rows = rows.to(torch.promote_types(rows.dtype, self.dtype if d >= NARROW else torch.float64))
        if self.second is None:
            self.second = rows.new_zeros(d, d)
        add_gram(self.second, rows)
        self.buffer, self.waiting = [], 0

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
        mirror(second)
        return Moments(self.n, self.first, second=second)


def add_gram(total: Tensor, rows: Tensor) -> None:
    """Add `rows.T @ rows` to the upper triangle of `total`, in place, strip by strip; about n d^2 / 2 products."""
    d = len(total)
    for start in range(0, d, STRIP):
        strip = slice(start, min(start + STRIP, d))
        total[strip, start:].addmm_(rows[:, strip].T, rows[:, start:])


def mirror(total: Tensor) -> None:
    """Copy the upper triangle of `total` onto the lower one, in place."""
    d = len(total)
    for start in range(0, d, STRIP):
        end = min(start + STRIP, d)
        corner = total[start:end, start:end].triu()
        total[start:end, start:end] = corner + corner.triu(1).T
        total[end:, start:end] = total[start:end, end:].T
