"""What memories of states in {-1, 1} share: the check of patterns, the order of updates, the sign that may stay."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mnemotrace.core.memory import states_of


def require_binary(patterns: Any) -> Tensor:
    """Return patterns `(n, d)` after checking that all entries are -1 or 1.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: another shape, or other entries.
        NonFiniteError: NaN or infinity.
    """
    if not isinstance(patterns, Tensor) or patterns.ndim != 2 or patterns.shape[1] == 0:
        shape = tuple(patterns.shape) if isinstance(patterns, Tensor) else type(patterns).__name__
        raise ValueError(f"got patterns {shape}; expected a tensor of shape (n, d), one pattern a row")
    rows = states_of(patterns, patterns.shape[1], "patterns")
    others = rows.abs() != 1
    if bool(others.any()):
        raise ValueError(
            f"got patterns with {int(others.sum())} of {others.numel()} entries other than -1 and 1, such as "
            f"{float(rows[others][0]):.3g}; expected two values only; take .sign(), or ModernHopfield for real ones"
        )
    return rows


def order_of(d: int, known: Tensor | None, generator: torch.Generator | None) -> Sequence[int]:
    """Return the features to be updated, one after another; those that are known in every state are left out."""
    places = torch.arange(d) if generator is None else torch.randperm(d, generator=generator, device=generator.device)
    if known is not None:
        places = places[~known.all(0)[places.to(known.device)].to(places.device)]
    return places.tolist()


def sign_or_keep(field: Tensor, x: Tensor, slack: Tensor) -> Tensor:
    """Return the sign of a field, and the state as it is where the field is zero up to rounding."""
    return torch.where(field.abs() <= slack, x, field.sign())
