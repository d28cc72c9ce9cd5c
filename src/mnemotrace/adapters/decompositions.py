r"""What operations let through, as numbers: slopes of gates, cells of pooling windows, attention patterns, scales.

* gate: :math:`y = m(x)\,x` or a slope; `GATES` gives :math:`m` for each activation function. Of GELU and SiLU it is the
  factor :math:`\Phi(x)`, :math:`\sigma(x)` and not the slope, so that :math:`m x` is exactly the output.
* switch: the place of the maximum in its window. A window starts at `i * stride - padding`; cells are `dilation` apart.
* pattern: :math:`P = \mathrm{softmax}(Q K^T s + M)`, computed beside a fused kernel that hides it.
* scale: :math:`1/\sqrt{\mathrm{var} + \epsilon}` of a normalisation.

Cost: elementwise, but the pattern beside a fused kernel, which takes the product :math:`Q K^T` once more.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of a pooling operation over the last axes.

    Attributes:
        size: input lengths.
        starts: of the windows, one `(o,)` tensor an axis; below 0 in the padding.
        lengths: cells of a window along each axis.
        dilation: step between cells.
    """

    size: tuple[int, ...]
    starts: tuple[Tensor, ...]
    lengths: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def out(self) -> tuple[int, ...]:
        """Output lengths."""
        return tuple(len(start) for start in self.starts)

    @property
    def cells(self) -> int:
        """Cells of a window."""
        return math.prod(self.lengths)

    @cached_property
    def overlap(self) -> bool:
        """Whether a cell may belong to two windows."""
        ends = [(n - 1) * d + 1 for n, d in zip(self.lengths, self.dilation, strict=True)]
        steps = [start.diff() for start in self.starts]
        return any(len(step) and int(step.min()) < end for step, end in zip(steps, ends, strict=True))

    def cell_of(self, index: Tensor) -> Tensor:
        """Turn indices into the flattened input, `(..., *out)`, into cells of their windows."""
        cell, rest = torch.zeros_like(index), index
        weight = 1
        for axis in reversed(range(len(self.size))):
            place = rest % self.size[axis]
            rest = rest // self.size[axis]
            offset = (place - self._along(self.starts[axis], axis)) // self.dilation[axis]
            cell = cell + offset * weight
            weight *= self.lengths[axis]
        return cell.to(self.dtype)

    def index_of(self, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Turn cells `(..., *out)` into indices into the flattened input, and whether the cell lies inside it."""
        rest = cell.long()
        index, inside = torch.zeros_like(rest), torch.ones_like(rest, dtype=torch.bool)
        weight = 1
        for axis in reversed(range(len(self.size))):
            place = self._along(self.starts[axis], axis) + rest % self.lengths[axis] * self.dilation[axis]
            rest = rest // self.lengths[axis]
            inside &= (place >= 0) & (place < self.size[axis])
            index = index + place.clamp(0, self.size[axis] - 1) * weight
            weight *= self.size[axis]
        return index, inside

    @property
    def dtype(self) -> torch.dtype:
        """Smallest type that holds a cell."""
        return torch.uint8 if self.cells <= 2**8 else torch.int16 if self.cells <= 2**15 else torch.int32

    @cached_property
    def last(self) -> tuple[Tensor, ...]:
        """For each axis and input place, the last window that covers it; -1 where none does."""
        found: list[Tensor] = []
        for axis, n in enumerate(self.size):
            steps = torch.arange(self.lengths[axis], device=self.starts[axis].device) * self.dilation[axis]
            places = self.starts[axis][:, None] + steps
            windows = torch.arange(len(places), device=places.device)[:, None].expand_as(places)
            inside = (places >= 0) & (places < n)
            table = torch.full((n,), -1, device=places.device)
            found.append(table.scatter_reduce_(0, places[inside], windows[inside], "amax"))
        return tuple(found)

    def _along(self, values: Tensor, axis: int) -> Tensor:
        return values.view(-1, *[1] * (len(self.size) - 1 - axis))


def sliding(  # noqa: PLR0917
    x: Tensor, out: tuple[int, ...], kernel: Any, stride: Any, padding: Any, dilation: Any
) -> Windows:
    """Return the windows of a max pool with a kernel."""
    n = len(out)
    kernel, padding, dilation = _each(kernel, n), _each(padding, n), _each(dilation, n)
    stride = kernel if stride is None or stride == [] else _each(stride, n)
    starts = tuple(torch.arange(o, device=x.device) * s - p for o, s, p in zip(out, stride, padding, strict=True))
    return Windows(tuple(x.shape[-n:]), starts, kernel, dilation)


def adaptive(x: Tensor, out: tuple[int, ...]) -> Windows:
    """Return the windows of an adaptive max pool; those that are shorter than the longest end outside themselves."""
    size = tuple(x.shape[-len(out) :])
    starts, lengths = [], []
    for n, o in zip(size, out, strict=True):
        i = torch.arange(o, device=x.device)
        starts.append(i * n // o)
        lengths.append(int((((i + 1) * n + o - 1) // o - starts[-1]).max()))
    return Windows(size, tuple(starts), tuple(lengths), (1,) * len(out))


def _each(value: Any, n: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return tuple(int(v) for v in (values * n if len(values) == 1 else values))


def _gelu(x: Tensor, approximate: str = "none") -> Tensor:
    if approximate == "tanh":
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def _inside(x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    open_ = torch.ones_like(x, dtype=torch.bool)
    return open_ if low is None and high is None else _above(x, low) & _below(x, high)


def _above(x: Tensor, low: Any) -> Tensor:
    return torch.ones_like(x, dtype=torch.bool) if low is None else x > low


def _below(x: Tensor, high: Any) -> Tensor:
    return torch.ones_like(x, dtype=torch.bool) if high is None else x < high


def _elu(x: Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Tensor:
    return torch.where(x > 0, torch.full_like(x, scale), alpha * scale * input_scale * torch.exp(x * input_scale))


def _prelu(x: Tensor, weight: Tensor) -> Tensor:
    slope = weight.view(1, -1, *[1] * (x.ndim - 2)) if weight.numel() > 1 else weight
    return torch.where(x > 0, torch.ones_like(x), slope)


def _leaky(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    return torch.where(x > 0, torch.ones_like(x), torch.full_like(x, negative_slope))


def _rrelu(x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, *_: Any, **__: Any) -> Tensor:
    return _leaky(x, (lower + upper) / 2)


# named as torch passes it the name of the operation, without a trailing underscore
GATES: dict[str, Callable[..., Tensor]] = {
    "relu": lambda x: x > 0,
    "clamp": lambda x, min=None, max=None: _inside(x, min, max),
    "clip": lambda x, min=None, max=None: _inside(x, min, max),
    "clamp_min": lambda x, min: x > min,
    "clamp_max": lambda x, max: x < max,
    "threshold": lambda x, threshold, value: x > threshold,
    "relu6": lambda x: (x > 0) & (x < 6),
    "hardtanh": lambda x, min_val=-1.0, max_val=1.0: (x > min_val) & (x < max_val),
    "leaky_relu": _leaky,
    "rrelu": _rrelu,
    "prelu": _prelu,
    "elu": _elu,
    "celu": lambda x, alpha=1.0: _elu(x, alpha, 1.0, 1 / alpha),
    "selu": lambda x: _elu(x, 1.6732632423543772, 1.0507009873554805),
    "gelu": _gelu,
    "silu": torch.sigmoid,
    "mish": lambda x: torch.tanh(functional.softplus(x)),
    "hardswish": lambda x: (x + 3).clamp(0, 6) / 6,
    "softplus": lambda x, beta=1.0, threshold=20.0: torch.sigmoid(beta * x),
    "sigmoid": lambda x: torch.sigmoid(x) * (1 - torch.sigmoid(x)),
    "tanh": lambda x: 1 - torch.tanh(x) ** 2,
    "hardsigmoid": lambda x: ((x > -3) & (x < 3)).to(x.dtype) / 6,
}
SOFT = frozenset({"gelu", "silu", "mish", "hardswish"})  # the factor of x and not the slope


def pattern_of(query: Tensor, key: Tensor, mask: Tensor | None, causal: bool, scale: float | None) -> Tensor:
    """Return the attention pattern `(..., t, s)` that a fused kernel uses."""
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -math.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return torch.softmax(scores, -1)


def scale_of(groups: Tensor, eps: float, centred: bool) -> Tensor:
    """Return `1 / sqrt(variance + eps)` over the last axis, `(..., 1)`; about 0 if not centred."""
    spread = groups.var(-1, unbiased=False, keepdim=True) if centred else groups.square().mean(-1, keepdim=True)
    return torch.rsqrt(spread + eps)
