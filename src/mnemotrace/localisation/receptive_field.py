"""Receptive fields: which part of the input one position of a module's output can depend on.

The model runs once, unmodified, on an input of ones, with every operation replaced by one that has the same reach and
whose gradient cannot vanish: convolutions and linear maps by means over what they read, max-pooling by mean-pooling,
activations by the identity, normalisations and attention by adding the mean over what they join. The gradient of a
position with respect to the input is then above 0 on its receptive field and 0 elsewhere. That holds for any graph of
them, with padding, stride, dilation, groups, branches and residuals, and for operations that are not in the list as
long as their own gradient does not vanish.

Where output and input have the same number of spatial axes, a field is a box, found an axis at a time. Everything is
float64, in which the gradient at a field's rim survives hundreds of layers.

Cost: one forward pass of one example, and a backward pass for every index along every axis that is asked for; for each
position where the axes differ.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mnemotrace.adapters.hooks import forward
from mnemotrace.adapters.outputs import ACTIVATIONS, differentiable, module_of, reading, units_first

Rule = Callable[..., Any]
Arguments = tuple[Any, ...]


def receptive_fields(
    model: nn.Module,
    example: Tensor,
    site: str | None,
    locations: Int[Tensor, "m p"],
    *,
    axis: int | None = None,
) -> Int[Tensor, "m q 2"]:
    """Find the boxes of the input on which positions of a module's output can depend.

    Args:
        model: the network; left as it was.
        example: one input, `(1, c, *s)`, floating point; only its shape counts. `(1, t, d)` where the output is
            `(b, t, units)`.
        site: name of a module; None for the network's output.
        locations: an index for each spatial axis of the output, `(m, 0)` where it has none.
        axis: of the units; see `mnemotrace.adapters.outputs.units_first`.

    Returns:
        First index and one past the last along each of the `q` spatial axes of the input.

    Raises:
        SelectionError: no such module.
        TypeError: no floating-point tensor.
        ValueError: a location outside the output, or an output that does not depend on the input.
    """
    if not isinstance(example, Tensor) or not example.is_floating_point():
        what = f"a tensor of {example.dtype}" if isinstance(example, Tensor) else f"a {type(example).__name__}"
        raise TypeError(f"got {what}; expected one floating-point input (1, c, ...); token ids have no receptive field")
    name = site or ""
    with differentiable(model), reading(model, {name: False}) as seen:
        x = torch.ones_like(example[:1], dtype=torch.float64).requires_grad_()
        with _Reach():
            forward(model, x)
        output = seen[name]
        response = units_first(output, axis=axis, module=module_of(model, site)).sum(1)[0]
        _require_inside(locations, response, name)
        by_axis = response.ndim == x.ndim - 2
        find = _boxes_by_axis if by_axis else _boxes_by_location
        tokens = x.ndim == output.ndim == 3 and response.shape[0] == output.shape[1]
        return find(response, _Input(x, -1 if tokens else 1, name), locations)


@dataclass(frozen=True, eq=False)
class _Input:
    """The input of ones, which of its axes are channels, and where the output comes from."""

    x: Tensor
    channels: int
    site: str

    def extent(self, response: Tensor) -> list[tuple[int, int]]:
        """Return the smallest box that holds the gradient, an entry for each spatial axis."""
        slope = torch.zeros_like(self.x)
        if response.requires_grad:
            (slope,) = torch.autograd.grad(
                response, self.x, retain_graph=True, allow_unused=True, materialize_grads=True
            )
        reached = slope.movedim(self.channels, 1)[0].ne(0).any(0)
        if not bool(reached.any()):
            raise ValueError(
                f"got {self.site or 'the output'}, which does not depend on the input; expected a module behind it "
                "that is not detached; choose another"
            )
        ends: list[tuple[int, int]] = []
        for axis in range(reached.ndim):
            others = [a for a in range(reached.ndim) if a != axis]
            along = (reached.sum(others) if others else reached).nonzero().flatten()
            ends.append((int(along[0]), int(along[-1]) + 1))
        return ends


def _boxes_by_axis(response: Tensor, given: _Input, locations: Tensor) -> Tensor:
    boxes = torch.empty(len(locations), response.ndim, 2, dtype=torch.long)
    for axis in range(response.ndim):
        indices, place = locations[:, axis].unique(return_inverse=True)
        ends = [given.extent(response.select(axis, int(i)).sum())[axis] for i in indices]
        boxes[:, axis] = torch.tensor(ends, dtype=torch.long).view(-1, 2)[place]
    return boxes


def _boxes_by_location(response: Tensor, given: _Input, locations: Tensor) -> Tensor:
    if locations.shape[1] == 0:
        return torch.tensor(given.extent(response)).expand(len(locations), -1, -1).clone()
    wanted, place = locations.unique(dim=0, return_inverse=True)
    return torch.tensor([given.extent(response[tuple(map(int, at))]) for at in wanted])[place]


def _require_inside(locations: Tensor, response: Tensor, site: str) -> None:
    sides = torch.tensor(response.shape, dtype=torch.long)
    fits = locations.ndim == 2 and locations.shape[1] == len(sides)
    if not fits or not bool(((locations >= 0) & (locations < sides)).all()):
        raise ValueError(
            f"got locations of shape {tuple(locations.shape)} for positions {tuple(response.shape)} of "
            f"{site or 'the output'}; expected (m, {len(sides)}) indices within them"
        )


class _Reach(TorchFunctionMode):
    """Replaces operations by ones of the same reach whose gradient cannot vanish."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "").rstrip("_")
        first = args[0] if args else kwargs.get("input")
        if not isinstance(first, Tensor):
            return func(*args, **kwargs)
        rule = _RULES.get(name)
        if rule is None and (name.startswith("conv") or "max_pool" in name):
            rule = _averaged if name.startswith("conv") else _pooled
        return func(*args, **kwargs) if rule is None else rule(func, args, kwargs)


def _opened(_func: Rule, args: Arguments, kwargs: dict[str, Any]) -> Tensor:
    return args[0] if args else kwargs["input"]


def _averaged(func: Rule, args: Arguments, kwargs: dict[str, Any]) -> Tensor:
    """Apply a linear map with all weights equal, and without a bias."""
    given = dict(zip(("input", "weight"), args, strict=False)) | kwargs
    x, weight = given.pop("input"), given.pop("weight")
    given.pop("bias", None)
    even = torch.full_like(weight, 1 / max(1, weight[0].numel()), dtype=x.dtype)
    return func(x, even, None, *args[3:], **given)


def _pooled(func: Rule, args: Arguments, kwargs: dict[str, Any]) -> Any:
    """Pool by the mean."""
    name, x = func.__name__, args[0] if args else kwargs["input"]
    rank = int(name[name.index("pool") + 4])
    if name.startswith("adaptive"):
        size = args[1] if len(args) > 1 else kwargs["output_size"]
        pooled: Tensor = getattr(functional, f"adaptive_avg_pool{rank}d")(x, size)
    else:
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        given = dict(zip(names, args[1:], strict=False)) | {key: kwargs[key] for key in names if key in kwargs}
        pooled = _windows(x, rank, **given)
    wants = kwargs.get("return_indices", False) or name.endswith("with_indices")
    return (pooled, torch.zeros_like(pooled, dtype=torch.long)) if wants else pooled


def _windows(
    x: Tensor,
    rank: int,
    *,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Take means of windows, laid out by max-pooling's own rule for sizes; what lies outside counts as 0."""
    size, spread = _tuple(kernel_size, rank), _tuple(dilation, rank)
    step = _tuple(size if stride in (None, [], ()) else stride, rank)
    reach = tuple(s * (k - 1) + 1 for k, s in zip(size, spread, strict=True))
    sides = [
        _out(n, r, s, p, ceil_mode)
        for n, r, s, p in zip(x.shape[-rank:], reach, step, _tuple(padding, rank), strict=True)
    ]
    for axis in range(rank):
        at = x.ndim - rank + axis
        start = torch.arange(sides[axis], device=x.device) * step[axis] - _tuple(padding, rank)[axis]
        index = start[:, None] + spread[axis] * torch.arange(size[axis], device=x.device)
        inside = (index >= 0) & (index < x.shape[at])
        rows = x.index_select(at, index.clamp(0, x.shape[at] - 1).flatten())
        rows = rows.unflatten(at, index.shape)
        mask = inside.view(*index.shape, *[1] * (x.ndim - at - 1))
        x = (rows * mask).mean(at + 1)
    return x


def _out(n: int, reach: int, step: int, padding: int, ceil: bool) -> int:
    room = n + 2 * padding - reach
    count = -(-room // step) + 1 if ceil else room // step + 1
    return count - 1 if ceil and (count - 1) * step >= n + padding else count


def _joined(func: Rule, args: Arguments, kwargs: dict[str, Any]) -> Tensor:
    """Add the mean over what a normalisation or a softmax joins."""
    x, second = args[0], args[1] if len(args) > 1 else None
    axes: Any = {"group_norm": list(range(1, x.ndim)), "instance_norm": list(range(2, x.ndim))}.get(func.__name__)
    if axes is None and "softmax" in func.__name__:
        axes = kwargs.get("dim", second)
    elif axes is None:
        axes = list(range(-len(second or kwargs["normalized_shape"]), 0))
    return x + x.mean(-1 if axes is None else axes, keepdim=True)


def _attended(_func: Rule, args: Arguments, kwargs: dict[str, Any]) -> Tensor:
    q, k, v = args[:3] if len(args) > 2 else (kwargs["query"], kwargs["key"], kwargs["value"])
    return v.mean(-2, keepdim=True) + k.mean((-2, -1), keepdim=True) + q.mean(-1, keepdim=True)


def _attended_whole(_func: Rule, args: Arguments, _kwargs: dict[str, Any]) -> tuple[Tensor, None]:
    """Stand for `multi_head_attention_forward`, whose tokens are the first axis; it gives no pattern."""
    q, k, v = args[:3]
    return q.mean(-1, keepdim=True) + (v.mean(-1, keepdim=True) + k.mean(-1, keepdim=True)).mean(0) + 0 * q, None


def _tuple(value: Any, rank: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank


_DROPS = {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "batch_norm"}
_JOINS = {"layer_norm", "rms_norm", "group_norm", "instance_norm", "softmax", "log_softmax"}
_RULES: dict[str, Rule] = dict.fromkeys(ACTIVATIONS | _DROPS, _opened)
_RULES |= dict.fromkeys(_JOINS, _joined)
_RULES |= {
    "linear": _averaged,
    "scaled_dot_product_attention": _attended,
    "multi_head_attention_forward": _attended_whole,
}
