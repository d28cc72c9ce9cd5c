"""Turn what a module read into rows `(n, d)`: one row for each time that the linear map was applied.

A map's rows are the positions of a sequence, the patches of a convolution, the tokens routed to an expert. A mask
chooses among them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from mnemotrace.core.site import Site


class Unfold(Protocol):
    """How a tensor becomes rows; hashable, and equal for maps that read the same tensor the same way."""

    def __call__(self, source: Tensor) -> Tensor:
        """Return `(*leading, d)`, with the batch first."""
        ...


@dataclass(frozen=True, eq=False)
class Tokens:
    """Which token each row belongs to, where a map reads only some tokens, in an order of its own: experts.

    Attributes:
        index: `(n,)`, a position in the flattened `(b, t)` for each row.
        total: `b t`, how many tokens there are.
    """

    index: Tensor
    total: int


class Receive(Protocol):
    """What `record` calls when a site is about to read a tensor."""

    def __call__(self, site: Site, source: Tensor, unfold: Unfold, tokens: Tokens | None = None, /) -> None:
        """Take the site, the tensor as it was given, how it becomes rows, and whose rows they are."""
        ...


@dataclass(frozen=True)
class Last:
    """The last axis is the width: linear layers. `swap` puts the batch first where a module has it second."""

    swap: bool = False

    def __call__(self, source: Tensor) -> Tensor:
        """Return the tensor as it is, or with its first two axes swapped."""
        return source.transpose(0, 1) if self.swap else source


@dataclass(frozen=True)
class Patches:
    """Receptive fields of one group of a convolution, as `(b, positions, c * kernel)`."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[int, ...]
    mode: str
    groups: int
    group: int

    def __call__(self, source: Tensor) -> Tensor:
        """Gather patches; memory of `prod(kernel) / prod(stride)` times the input."""
        spatial = len(self.kernel)
        x = source if source.ndim == spatial + 2 else source[None]
        width = x.shape[1] // self.groups
        x = x[:, self.group * width : (self.group + 1) * width]
        x = functional.pad(x, self.padding, mode="constant" if self.mode == "zeros" else self.mode)
        for axis, (size, step, spread) in enumerate(zip(self.kernel, self.stride, self.dilation, strict=True)):
            x = x.unfold(2 + axis, spread * (size - 1) + 1, step)[..., ::spread]
        positions = range(2, 2 + spatial)
        x = x.permute(0, *positions, 1, *range(2 + spatial, 2 + 2 * spatial))
        return x.flatten(1 + spatial).flatten(1, spatial)


def patches_of(module: Any, group: int = 0) -> Patches:
    """Read a convolution's geometry, including string paddings and padding modes."""
    pad = module._reversed_padding_repeated_twice
    return Patches(
        module.kernel_size, module.stride, module.dilation, tuple(pad), module.padding_mode, module.groups, group
    )


def masked_rows(rows: Tensor, mask: Tensor | None, where: str, tokens: Tokens | None = None) -> Tensor:
    """Flatten `(*leading, d)` to `(n, d)`, keeping the positions where `mask` is true.

    Args:
        rows: with the batch first.
        mask: boolean, of the leading shape or its first axes (`(b,)`, `(b, t)`), or of as many entries as there are
            rows; None keeps all.
        where: a name for the error message.
        tokens: whose rows these are, when they are not all tokens in order; the mask then is `(b,)` or `(b, t)`.

    Raises:
        TypeError: the mask is not boolean.
        ValueError: the mask does not fit.
    """
    flat = rows.reshape(-1, rows.shape[-1])
    if mask is None:
        return flat
    check_mask(mask)
    mask = mask.to(rows.device)
    leading = tuple(rows.shape[:-1])
    if tokens is not None:
        repeats, left = divmod(tokens.total, max(mask.numel(), 1))
        if not left and (repeats <= 1 or mask.ndim == 1):
            return flat[mask.flatten()[tokens.index // max(repeats, 1)]]
        leading = ("b", f"{tokens.total} / b")
    elif leading[: mask.ndim] == tuple(mask.shape):
        return rows[mask].reshape(-1, rows.shape[-1])
    elif len(leading) == 1 and leading[0] == mask.numel():
        return rows[mask.flatten()]
    raise ValueError(
        f"got a mask of shape {tuple(mask.shape)} at {where}, which reads {tuple(rows.shape)}; expected the leading "
        f"axes ({', '.join(map(str, leading))}) or the first of them; build the mask from the same batch"
    )


def check_mask(mask: object) -> None:
    """Raise unless `mask` is a boolean tensor; an integer mask would select rows by number.

    Raises:
        TypeError: with the remedy.
    """
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        what = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"got a mask of {what}; expected a bool tensor; write mask.bool()")


def last_of(mask: Tensor) -> Tensor:
    """Return the last position that counts of each example, `(b,)`, of a mask `(b, t)`; 0 where none does."""
    return (torch.arange(mask.shape[1], device=mask.device) * mask).argmax(1)


def first_tensor(args: Sequence[object], kwargs: dict[str, object], where: str) -> Tensor:
    """Return a module's input whether it was passed by position or by keyword.

    Raises:
        TypeError: the module was called without a tensor.
    """
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            return value
    raise TypeError(f"got a call of {where} without a tensor; expected its input; leave this site out of the selection")
