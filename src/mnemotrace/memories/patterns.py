"""A store of patterns that can be edited: rows with weights, each under a handle that stays its own.

A weight says how much a pattern counts beside the others, as if it had been stored that many times; it enters a memory
as the logarithm. Removing a pattern leaves the store as if it had never been there. Rows may be memory-mapped: they are
only ever read.

Cost: adding and removing copy the rows, O(n d).
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemotrace.core.memory import states_of


class Patterns(nn.Module):
    """Rows `(n, d)` with weights and handles.

    Attributes:
        values: `(n, d)`, floating point.
        weights: `(n,)`, above 0.
        handles: `(n,)`, one a row, never given twice.
    """

    values: Tensor
    weights: Tensor
    handles: Tensor
    following: Tensor

    def __init__(self, values: Float[Tensor, "n d"], *, weights: Float[Tensor, " n"] | None = None) -> None:
        """Store rows.

        Args:
            values: one pattern a row; kept as given, not copied.
            weights: of the rows; None counts each once.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: no row, another shape, or a weight that is not above 0.
            NonFiniteError: NaN or infinity.
        """
        super().__init__()
        if not isinstance(values, Tensor) or values.ndim != 2 or values.shape[1] == 0:
            shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(f"got patterns {shape}; expected a tensor of shape (n, d), one pattern a row")
        rows = states_of(values, values.shape[1], "patterns")
        self.register_buffer("values", rows.detach())
        self.register_buffer("weights", _weights(weights, rows))
        self.register_buffer("handles", torch.arange(len(rows)))
        self.register_buffer("following", torch.tensor(len(rows)))

    def __len__(self) -> int:
        """Count patterns."""
        return len(self.values)

    @property
    def d(self) -> int:
        """Number of features."""
        return self.values.shape[1]

    def add(self, values: Float[Tensor, "*m d"], *, weight: Any = 1.0) -> list[int]:
        """Store further rows; returns their handles.

        Args:
            values: `(d,)` or `(m, d)`.
            weight: of each, a number or `(m,)`.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another width, or a weight that is not above 0.
            NonFiniteError: NaN or infinity.
        """
        rows = states_of(values, self.d, "patterns").detach().to(self.values)
        weights = _weights(torch.as_tensor(weight, dtype=self.weights.dtype).expand(len(rows)), rows)
        begin = int(self.following)
        handles = torch.arange(begin, begin + len(rows), device=self.handles.device)
        self.values = torch.cat([self.values, rows])
        self.weights = torch.cat([self.weights, weights.to(self.weights)])
        self.handles = torch.cat([self.handles, handles])
        self.following = self.following + len(rows)
        return handles.tolist()

    def remove(self, handles: int | Sequence[int]) -> None:
        """Forget rows, as if they had never been stored.

        Raises:
            KeyError: a handle that is not here.
            ValueError: nothing would be left.
        """
        gone = self.rows(handles)
        kept = torch.ones(len(self), dtype=torch.bool, device=self.handles.device)
        kept[gone] = False
        if not bool(kept.any()):
            raise ValueError(f"got all {len(self)} handles to remove; expected to keep at least one pattern")
        self.values, self.weights, self.handles = self.values[kept], self.weights[kept], self.handles[kept]

    def reweight(self, handles: int | Sequence[int], weight: Any) -> None:
        """Let rows count more or less.

        Raises:
            KeyError: a handle that is not here.
            ValueError: a weight that is not above 0.
        """
        rows = self.rows(handles)
        weights = self.weights.clone()
        weights[rows] = torch.as_tensor(weight, dtype=weights.dtype, device=weights.device)
        self.weights = _weights(weights, self.values)

    def rows(self, handles: int | Sequence[int]) -> Tensor:
        """Return the positions of handles.

        Raises:
            KeyError: a handle that is not here.
        """
        wanted = [handles] if isinstance(handles, int) else list(handles)
        places = {handle: row for row, handle in enumerate(self.handles.tolist())}
        missing = [handle for handle in wanted if handle not in places]
        if missing:
            raise KeyError(f"handle {missing[0]}, which is not among the {len(self)} stored patterns")
        return torch.tensor([places[handle] for handle in wanted], dtype=torch.long, device=self.handles.device)


def _weights(weights: Tensor | None, rows: Tensor) -> Tensor:
    if weights is None:
        return torch.ones(len(rows), dtype=rows.dtype, device=rows.device)
    if weights.shape != (len(rows),) or not bool(((weights > 0) & weights.isfinite()).all()):
        raise ValueError(
            f"got weights of shape {tuple(weights.shape)}, from {float(weights.min()) if weights.numel() else 0:.3g}; "
            f"expected ({len(rows)},), finite and above 0; remove a pattern that should not count"
        )
    return weights.detach().to(rows.dtype)
