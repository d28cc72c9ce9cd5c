"""A store of patterns that can be edited: rows with weights, each under a handle that stays its own.

A weight says how much a pattern counts beside the others, as if it had been stored that many times; it enters a memory
as the logarithm. Removing a pattern leaves the store as if it had never been there.

Rows are only ever read, so they may lie in a file: `Patterns.open` maps a numpy file, and what `mt.load` returns is
mapped as well, so a store of any size opens at once and is brought in part by part as it is used.

What a memory calculates from its rows follows every change (`Kept`), so a memory is edited by editing its store:
`memory.patterns.add(rows)`.

Cost: checking reads the rows once; adding and removing copy them into memory, O(n d).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.memory import states_of
from mnemotrace.memories.scores import squared_norms

_PART = 4096

T = TypeVar("T")


class Kept(Generic[T]):
    """What was calculated from tensors, kept until one of them is another one or was written to."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._known: tuple[tuple[Tensor, ...], tuple[int, ...], T] | None = None

    def get(self, calculate: Callable[[], T], *tensors: Tensor) -> T:
        """Return what `calculate` makes of the tensors as they are now."""
        known, versions = self._known, tuple(map(_version_of, tensors))
        if known is None or known[1] != versions or any(a is not b for a, b in zip(known[0], tensors, strict=True)):
            known = self._known = (tensors, versions, calculate())
        return known[2]


class Patterns(nn.Module):
    """Rows `(n, d)` with weights and handles.

    Attributes:
        values: `(n, d)`, floating point; half precision is fine, calculations widen it part by part.
        weights: `(n,)`, above 0, float32 or float64.
        handles: `(n,)`, one a row, never given twice.
    """

    kind = "patterns"

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
        for part in values.split(_PART):
            states_of(part, values.shape[1], "patterns")
        rows = values.detach()
        self._squares: Kept[Tensor] = Kept()
        self._log_weights: Kept[Tensor | None] = Kept()
        self.register_buffer("values", rows)
        self.register_buffer("weights", _weights(weights, rows))
        self.register_buffer("handles", torch.arange(len(rows)))
        self.register_buffer("following", torch.tensor(len(rows)))

    @classmethod
    def open(cls, path: str | Path, *, weights: Float[Tensor, " n"] | None = None) -> "Patterns":
        """Map rows from a file that `numpy.save` wrote; they are read as they are used and never written.

        Args:
            path: of a `.npy` file, `(n, d)`, float16, float32 or float64; it may be larger than the memory, and must
                stay as it is while the store lives.
            weights: of the rows; None counts each once.

        Raises:
            FileNotFoundError: no such file.
            TypeError: no floating-point numbers.
            ValueError: not a numpy file, or rows that `Patterns` does not take.
        """
        advice = "expected a .npy file of rows (n, d); write it by numpy.save"
        try:
            rows = np.load(path, mmap_mode="c", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"got {path} ({error}); {advice}") from error
        if not isinstance(rows, np.ndarray):
            rows.close()
            raise ValueError(f"got {path} with several arrays; {advice}")
        return cls(torch.from_numpy(rows), weights=weights)

    def __len__(self) -> int:
        """Count patterns."""
        return len(self.values)

    @property
    def d(self) -> int:
        """Number of features."""
        return self.values.shape[1]

    @property
    def squares(self) -> Float[Tensor, " n"]:
        """Squared norms of the rows, at least float32; calculated once for as long as the rows stay."""
        return self._squares.get(lambda: squared_norms(self.values), self.values)

    @property
    def log_weights(self) -> Float[Tensor, " n"] | None:
        """Logarithms of the weights, None where all count once; calculated once for as long as the weights stay."""
        return self._log_weights.get(lambda: _logarithms(self.weights), self.weights)

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

    def pack(self) -> Artifact:
        """Turn into an artifact; `mt.save` takes a copy of the rows into memory."""
        return Artifact(self.kind, {}, {name: getattr(self, name) for name in _TENSORS})

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Patterns":
        """Rebuild from an artifact, of a memory too that packed the tensors of its store."""
        tensors = artifact.tensors
        store = cls(tensors["values"], weights=tensors["weights"])
        store.handles, store.following = tensors["handles"], tensors["following"]
        return store


def store_of(patterns: "Patterns | Tensor", weights: Tensor | None) -> Patterns:
    """Return the store of a memory: the one that is given, which is then shared, or a new one of rows.

    Raises:
        ValueError: weights beside a store, or as `Patterns`.
    """
    if not isinstance(patterns, Patterns):
        return Patterns(patterns, weights=weights)
    if weights is not None:
        raise ValueError("got weights beside a store, which has its own; expected one of them; use reweight")
    return patterns


def _version_of(tensor: Tensor) -> int:
    """Return how often a tensor was written to; inference tensors do not count, and cannot be."""
    return 0 if tensor.is_inference() else tensor._version


def _logarithms(weights: Tensor) -> Tensor | None:
    return None if bool((weights == 1).all()) else weights.log()


_TENSORS = ("values", "weights", "handles", "following")


def _weights(weights: Tensor | None, rows: Tensor) -> Tensor:
    kind = torch.promote_types(rows.dtype, torch.float32)
    if weights is None:
        return torch.ones(len(rows), dtype=kind, device=rows.device)
    if weights.shape != (len(rows),) or not bool(((weights > 0) & weights.isfinite()).all()):
        raise ValueError(
            f"got weights of shape {tuple(weights.shape)}, from {float(weights.min()) if weights.numel() else 0:.3g}; "
            f"expected ({len(rows)},), finite and above 0; remove a pattern that should not count"
        )
    return weights.detach().to(rows.device, kind)
