r"""Rules of a backward recall: what happens to the signal `g` at each operation on its way back to the image.

A linear map or convolution gives :math:`J^T g`; what differs between the published methods is the rest.

| method | ReLU, `m = [x > 0]` | max pool | after each map and pool |
|---|---|---|---|
| recollection (`headline`) | `g` | at the switch; later windows overwrite | `clip(0.1 z + 0.5, 0, 1)` |
| `image` | `g` | the same | `max(z, 0)` |
| deconvnet | `max(g, 0)` | at the switch, adding | |
| gradient | `g m` | the same | |
| guided backpropagation | `max(g, 0) m` | the same | |
| `switch_free` | `g` | the same value in every cell of the window, adding | |

with :math:`z = (g - \mathrm{mean}) / \mathrm{std}` of a sample. After the map comes the normalisation, then the clamp,
then the winner.

Reference: recollection after the notebooks of its authors (see `docs`); Zeiler & Fergus 2014; Simonyan et al. 2014;
Springenberg et al. 2015. Cost: a pass over the signal a rule.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from mnemotrace.adapters.decompositions import Windows

Relu = Literal["none", "relu", "mask", "both"]
Pool = Literal["switch", "switch_add", "nearest", "centre", "random", "distribute", "distribute_sum"]
Normalise = Literal["std", "rescale_std", "channel_std", "minmax", "channel_minmax"]


@dataclass(frozen=True)
class Rules:
    """How a recall runs backwards.

    Attributes:
        relu: at gates: `none` passes, `relu` keeps what is positive, `mask` multiplies with the gate of the trace,
            `both` does both. Gates of GELU and SiLU are their factor of the input, those of sigmoid and tanh the slope.
        pool: at a max pool or a maximum over an axis: to the cell of the switch, where windows overlap the later one
            overwrites (`switch`) or they add (`switch_add`); without a trace to the `nearest` window, to the `centre`
            or a `random` cell, to all cells overwriting (`distribute`) or adding (`distribute_sum`).
        normalise: after each linear map, convolution and pool, over a whole sample: `std`, `rescale_std` or `minmax`
            to [0, 1]; over each channel of a map with `channel_std` and `channel_minmax`.
        clamp: then set to 0 what is negative.
        winner: then keep only the strongest channel of each place, in the signal that a convolution gives.
        frozen: attention patterns, scales of normalisations and factors of GELU and SiLU are taken from the trace and
            held; False takes their true gradient, for which the image is needed.
    """

    relu: Relu = "none"
    pool: Pool = "switch"
    normalise: Normalise | None = None
    clamp: bool = False
    winner: bool = False
    frozen: bool = True

    def __post_init__(self) -> None:
        for name, choices in (("relu", Relu), ("pool", Pool), ("normalise", Normalise)):
            value, allowed = getattr(self, name), get_args(choices) + ((None,) if name == "normalise" else ())
            if value not in allowed:
                raise ValueError(f"got {name}={value!r}; expected one of {', '.join(map(repr, allowed))}")

    @classmethod
    def headline(cls) -> "Rules":
        """Return the published recollection: identity comes from switches, and the source is drowned."""
        return cls(normalise="rescale_std")

    @classmethod
    def image(cls) -> "Rules":
        """Return recollection that looks most like the image: standardised and clamped."""
        return cls(normalise="std", clamp=True)

    @classmethod
    def deconvnet(cls) -> "Rules":
        """Return the deconvolutional network."""
        return cls(relu="relu", pool="switch_add")

    @classmethod
    def gradient(cls) -> "Rules":
        """Return the gradient: equal to `torch.autograd.grad`."""
        return cls(relu="mask", pool="switch_add", frozen=False)

    @classmethod
    def guided(cls) -> "Rules":
        """Return guided backpropagation."""
        return cls(relu="both", pool="switch_add")

    @classmethod
    def switch_free(cls, pool: Pool = "distribute_sum") -> "Rules":
        """Return rules that need no trace of a network of linear maps, ReLU and pools.

        Raises:
            ValueError: a rule that needs switches.
        """
        if pool in ("switch", "switch_add"):
            raise ValueError(
                f"got pool={pool!r}; expected a rule without switches: nearest, centre, random, distribute, "
                "distribute_sum"
            )
        return cls(pool=pool)

    def with_(self, **changes: Any) -> "Rules":
        """Return rules that differ in some attributes."""
        return replace(self, **changes)

    def needs(self, kind: str) -> bool:
        """Whether these rules look at entries of a kind."""
        if kind == "switch":
            return self.pool in ("switch", "switch_add")
        return self.relu in ("mask", "both") if kind == "gate" else self.frozen

    @property
    def taps(self) -> bool:
        """Whether anything happens after a map."""
        return self.normalise is not None or self.clamp or self.winner

    def after(self, g: Tensor, operation: str) -> Tensor:
        """Return the signal after a linear map, convolution or pool: normalised, clamped, the winner kept."""
        g = g if self.normalise is None else normalised(g, self.normalise)
        g = g.clamp_min(0) if self.clamp else g
        if self.winner and operation.startswith("conv"):
            g = g * (g == g.amax(1, keepdim=True))
        return g

    def at_gate(self, g: Tensor, gate: Tensor | None) -> Tensor:
        """Return the signal before a gate."""
        g = g.clamp_min(0) if self.relu in ("relu", "both") else g
        return g if gate is None else g * gate


def normalised(g: Tensor, how: Normalise) -> Tensor:
    """Return a signal normalised sample by sample, `(b, ...)`; a constant one becomes 0, or 0.5 when rescaled."""
    rows = g.flatten(2 if how.startswith("channel_") and g.ndim > 3 else 1)  # noqa: PLR2004
    if how.endswith("minmax"):
        low, high = rows.aminmax(dim=-1, keepdim=True)
        return ((rows - low) / _nonzero(high - low)).view_as(g)
    mean = rows.mean(-1, keepdim=True)
    z = rows - mean
    spread = torch.linalg.vector_norm(z, dim=-1, keepdim=True) / math.sqrt(max(1, z.shape[-1] - 1))
    spread = torch.where(spread > 8 * torch.finfo(g.dtype).eps * mean.abs(), spread, 0.0)  # else rounding is amplified
    # in place: the signal passes here ten times, and each new tensor costs more than the sum
    if how == "rescale_std":
        return z.mul_(0.1 / _nonzero(spread)).add_(0.5).clamp_(0, 1).view_as(g)
    return z.div_(_nonzero(spread)).view_as(g)


def _nonzero(spread: Tensor) -> Tensor:
    return torch.where(spread > 0, spread, torch.ones_like(spread))


def unpool(
    g: Tensor,
    windows: Windows,
    pool: Pool,
    *,
    cells: Tensor | None = None,
    kept: Tensor | None = None,
) -> Tensor:
    """Send a signal back through a max pool.

    Args:
        g: `(..., *out)`.
        windows: of the pool.
        pool: the rule.
        cells: `(..., *out)` switches, or random cells (`draw`), or `(..., *out, cells)` probabilities; None where the
            rule needs none, or where nothing is known: then each cell gets the same share.
        kept: `(..., *out)`, which switches a sparse trace still has; the others give nothing.

    Returns:
        `(..., *size)`.
    """
    n = len(windows.size)
    if pool in ("nearest", "distribute"):
        return _spread(g, windows, pool)
    if cells is not None and not cells.is_floating_point():
        index, inside = windows.index_of(cells)
        known = inside if kept is None else inside & kept
        return placed(g, index, known, windows, overwrite=pool != "switch_add")
    if pool == "centre":
        return placed(g, *windows.index_of(_centre(g, windows)), windows, overwrite=True)
    g = g if kept is None else g * kept
    out = g.new_zeros(*g.shape[:-n], *windows.size)
    for cell in range(windows.cells):
        index, inside = windows.index_of(torch.full(g.shape[-n:], cell, device=g.device))
        share = 1.0 if pool == "distribute_sum" else 1 / windows.cells if cells is None else cells[..., cell].to(g)
        out += placed(g * share, index.expand(g.shape), inside.expand(g.shape), windows, overwrite=False)
    return out


def placed(g: Tensor, index: Tensor, known: Tensor | None, windows: Windows, *, overwrite: bool) -> Tensor:
    """Put values at indices into the flattened input of a pool, where they are known; others stay 0."""
    n = len(windows.size)
    lead = g.shape[:-n]
    flat = (g if known is None or overwrite else g * known).reshape(*lead, -1)
    index = index.reshape(*lead, -1)
    out = g.new_zeros(*lead, math.prod(windows.size))
    if not overwrite or (known is None and not windows.overlap):
        return out.scatter_add_(-1, index, flat).reshape(*lead, *windows.size)
    # scatter_ leaves open who wins; the largest window number does not
    order = torch.arange(flat.shape[-1], device=g.device).expand_as(index)
    if known is not None:
        order = torch.where(known.reshape(index.shape), order, -1)
    owner = torch.full(out.shape, -1, device=g.device).scatter_reduce_(-1, index, order, "amax")
    out = torch.where(owner >= 0, flat.gather(-1, owner.clamp_min(0)), out)
    return out.reshape(*lead, *windows.size)


def _spread(g: Tensor, windows: Windows, pool: Pool) -> Tensor:
    n = len(windows.size)
    for axis in range(n):
        size, out = windows.size[axis], windows.out[axis]
        nearest = torch.arange(size, device=g.device) * out // size
        owner = nearest if pool == "nearest" else windows.last[axis]
        g = g.index_select(axis - n, owner.clamp_min(0))
        covered = (owner >= 0).view(-1, *[1] * (n - 1 - axis))
        g = g if bool(covered.all()) else g * covered
    return g


def _centre(g: Tensor, windows: Windows) -> Tensor:
    cell = 0
    for length in windows.lengths:
        cell = cell * length + length // 2
    return torch.full(g.shape, cell, device=g.device)


def draw(shape: tuple[int, ...], windows: Windows, generator: torch.Generator, device: torch.device) -> Tensor:
    """Draw a cell for each window."""
    return torch.randint(windows.cells, shape, generator=generator, device=generator.device).to(device)
