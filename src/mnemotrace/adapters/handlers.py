"""One function for each family of operations that lets something through: it describes the call as `Seen`.

The output is calculated by the very call that the network made, so its numbers do not change. Cost: a max pool also
computes its indices.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from mnemotrace.adapters.decompositions import GATES, SOFT, Windows, adaptive, pattern_of, scale_of, sliding
from mnemotrace.adapters.seen import Listener, bound, tensors_of


class Watch(Protocol):
    """The mode that calls these functions."""

    listener: Listener

    def see(self, **parts: Any) -> Tensor:
        """Tell the listener and return its output."""
        ...


def see_gate(watch: Watch, func: Any, name: str, *args: Any, **kwargs: Any) -> Tensor:
    """Tell of an activation function, and write in place where it does."""
    x, args, kwargs = _first(args, kwargs)
    inplace = name.endswith("_") or bool(kwargs.get("inplace"))
    bare = name.rstrip("_")
    settings = {k: v for k, v in kwargs.items() if k not in ("inplace", "out")}

    def native() -> Tensor:
        return func(x.clone() if inplace else x, *args, **kwargs)

    with torch.no_grad():
        y = native()
    still = x.detach().clone() if inplace else x.detach()
    found = watch.see(
        name=bare,
        kind="gate",
        x=x,
        y=y,
        shape=tuple(y.shape),
        values=lambda: GATES[bare](still, *args, **settings),
        native=native,
        reverse=torch.mul,
        soft=bare in SOFT,
    )
    return x.copy_(found) if inplace else found


def _softmax(watch: Watch, func: Any, name: str, *args: Any, **kwargs: Any) -> Tensor:
    with torch.no_grad():
        y = func(*args, **kwargs)
    shape = tuple(y.shape)
    kind = "pattern" if name == "softmax" else "scale"
    return watch.see(
        name=name, kind=kind, x=None, y=y, shape=shape, values=lambda: y, native=lambda: func(*args, **kwargs)
    )


def _attention(  # noqa: PLR0917
    watch: Watch,
    func: Any,
    name: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    _refuse_training(name, dropout_p > 0)
    settings = {"attn_mask": attn_mask, "is_causal": is_causal, "scale": scale, "enable_gqa": enable_gqa}
    with torch.no_grad():
        y = func(query, key, value, **settings)
    repeats = query.shape[-3] // key.shape[-3] if enable_gqa else 1
    q, k = query.detach(), key.detach()
    if repeats > 1:
        k = k.repeat_interleave(repeats, -3)

    def reverse(g: Tensor, pattern: Tensor) -> Tensor:
        back = pattern.transpose(-2, -1) @ g
        back = back.unflatten(-3, (-1, repeats)).sum(-3) if repeats > 1 else back
        return back.sum_to_size(value.shape)

    return watch.see(
        name=name,
        kind="pattern",
        x=value,
        y=y,
        shape=(*y.shape[:-1], key.shape[-2]),
        values=lambda: pattern_of(q, k, attn_mask, is_causal, scale),
        native=lambda: func(query, key, value, **settings),
        reverse=reverse,
    )


def _layer_norm(watch: Watch, func: Any, name: str, *args: Any, **kwargs: Any) -> Tensor:
    names = ("shape", "weight", "bias", "eps") if name == "layer_norm" else ("shape", "weight", "eps")
    given = bound(names, args[1:], kwargs)
    n = len(given.get("shape") or kwargs["normalized_shape"])
    eps = given.get("eps")
    weight = given.get("weight")
    return _norm(watch, func, name, args, kwargs, lambda t: t.flatten(-n), weight, eps, centred=name == "layer_norm")


def _group_norm(watch: Watch, func: Any, name: str, *args: Any, **kwargs: Any) -> Tensor:
    given = bound(("num_groups", "weight", "bias", "eps"), args[1:], kwargs)
    x, weight = args[0], given.get("weight")
    weight = None if weight is None else weight.view(-1, *[1] * (x.ndim - 2))
    eps = given.get("eps", 1e-5)
    groups = given["num_groups"]
    return _norm(watch, func, name, args, kwargs, lambda t: t.reshape(len(t), groups, -1), weight, eps)


def _instance_norm(watch: Watch, func: Any, name: str, *args: Any, **kwargs: Any) -> Tensor:
    names = ("weight", "bias", "running_mean", "running_var", "use_input_stats", "momentum", "eps")
    given = bound(names, args[1:], kwargs)
    if not given["use_input_stats"]:
        return func(*args, **kwargs)
    x, weight = args[0], given.get("weight")
    weight = None if weight is None else weight.view(-1, *[1] * (x.ndim - 2))
    return _norm(watch, func, name, args, kwargs, lambda t: t.flatten(2), weight, given["eps"])


def _norm(  # noqa: PLR0917
    watch: Watch,
    func: Any,
    name: str,
    args: Any,
    kwargs: dict[str, Any],
    grouped: Callable[[Tensor], Tensor],
    weight: Tensor | None,
    eps: float | None,
    centred: bool = True,
) -> Tensor:
    x = args[0]
    still = x.detach()
    with torch.no_grad():
        y = func(*args, **kwargs)
    eps = torch.finfo(x.dtype).eps if eps is None else eps

    def reverse(g: Tensor, scale: Tensor) -> Tensor:
        u = grouped(g if weight is None else g * weight.detach())
        return ((u - u.mean(-1, keepdim=True) if centred else u) * scale).reshape(g.shape)

    shape = (*grouped(still).shape[:-1], 1)
    return watch.see(
        name=name,
        kind="scale",
        x=x,
        y=y,
        shape=shape,
        values=lambda: scale_of(grouped(still), eps, centred),
        native=lambda: func(*args, **kwargs),
        reverse=reverse,
    )


def _batch_norm(watch: Watch, func: Any, name: str, *args: Any, **kwargs: Any) -> Tensor:
    given = bound(("weight", "bias", "mean", "var", "training"), args[1:], kwargs)
    _refuse_training(name, bool(given["training"]))
    return func(*args, **kwargs)


def _dropout(watch: Watch, func: Any, name: str, *args: Any, **kwargs: Any) -> Tensor:
    given = bound(("p", "train"), args[1:], kwargs)
    _refuse_training(name, bool(given.get("train", kwargs.get("training"))) and given["p"] > 0)
    return func(*args, **kwargs)


def _max(watch: Watch, func: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    given = bound(("dim", "keepdim"), args[1:], kwargs)
    x, dim = args[0], given.get("dim")
    if isinstance(dim, Tensor) or "other" in kwargs or dim is None or dim in ((), []):
        return _other(watch, func, name, *args, **kwargs)
    dims = sorted(d % x.ndim for d in (dim if isinstance(dim, (tuple, list)) else (dim,)))
    if 0 in dims:
        return _other(watch, func, name, *args, **kwargs)
    with torch.no_grad():
        out = func(*args, **kwargs)
    plane = x.movedim(dims, list(range(-len(dims), 0))).flatten(-len(dims))
    start = torch.zeros(1, dtype=torch.long, device=x.device)
    windows = Windows((plane.shape[-1],), (start,), (plane.shape[-1],), (1,))
    top = plane.detach().max(-1, keepdim=True)
    y = _switch(watch, name, plane, top.values, top.indices, windows, lambda p: p.amax(-1, keepdim=True))
    y = y.reshape((out if name == "amax" else out.values).shape)
    return y if name == "amax" else type(out)((y, out.indices))


def _other(watch: Watch, func: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    out = func(*args, **kwargs)
    for y in tensors_of(out):
        if y.requires_grad:
            watch.listener.unruled(y, name)
    return out


def _max_pool(watch: Watch, func: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    given = bound(names, args, kwargs)
    wants = bool(given.pop("return_indices", False)) or name.endswith("_with_indices")
    x = given.pop("input")
    kernel, stride = given["kernel_size"], given.get("stride")
    given["stride"] = None if stride == [] else stride
    pool = getattr(functional, name.removesuffix("_with_indices"))
    with torch.no_grad():
        y, index = pool(x, **given, return_indices=True)
    n = int(name.split("pool")[1][0])
    out = tuple(y.shape[-n:])
    windows = sliding(x, out, kernel, given["stride"], given.get("padding", 0), given.get("dilation", 1))
    found = _switch(watch, name.removesuffix("_with_indices"), x, y, index, windows, lambda t: pool(t, **given))
    return (found, index) if wants else found


def _adaptive_max_pool(watch: Watch, func: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    given = bound(("input", "output_size", "return_indices"), args, kwargs)
    bare = name.removesuffix("_with_indices")
    wants = name != bare or bool(given.get("return_indices", False))
    pool, x = getattr(functional, bare), given["input"]
    with torch.no_grad():
        y, index = pool(x, given["output_size"], return_indices=True)
    n = int(bare.split("pool")[1][0])
    windows = adaptive(x, tuple(y.shape[-n:]))
    found = _switch(watch, bare, x, y, index, windows, lambda t: pool(t, given["output_size"]))
    return (found, index) if wants else found


def _switch(  # noqa: PLR0917
    watch: Watch,
    name: str,
    x: Tensor,
    y: Tensor,
    index: Tensor,
    windows: Windows,
    native: Callable[[Tensor], Tensor],
) -> Tensor:
    tapped = watch.listener.tap(x, name)
    return watch.see(
        name=name,
        kind="switch",
        x=tapped,
        y=y,
        shape=tuple(y.shape),
        values=lambda: windows.cell_of(index),
        native=lambda: native(tapped),
        windows=windows,
        index=index,
    )


SPECIAL: dict[str, Callable[..., Any]] = {
    "softmax": _softmax,
    "rsqrt": _softmax,
    "sqrt": _softmax,
    "scaled_dot_product_attention": _attention,
    "layer_norm": _layer_norm,
    "rms_norm": _layer_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "batch_norm": _batch_norm,
    "dropout": _dropout,
    "alpha_dropout": _dropout,
    "feature_dropout": _dropout,
    "feature_alpha_dropout": _dropout,
    "max": _max,
    "amax": _max,
}
POOLS: dict[str, Callable[..., Any]] = {
    f"{family}max_pool{n}d{ending}": handler
    for family, handler in (("", _max_pool), ("adaptive_", _adaptive_max_pool))
    for n in (1, 2, 3)
    for ending in ("", "_with_indices")
}


def _refuse_training(name: str, training: bool) -> None:
    if training:
        raise ValueError(
            f"got {name} in training mode; expected a network in evaluation mode, for a recall needs what the network "
            "does every time; call model.eval()"
        )


def _first(args: Any, kwargs: dict[str, Any]) -> tuple[Tensor, Any, dict[str, Any]]:
    if args:
        return args[0], args[1:], kwargs
    return kwargs["input"], (), {name: value for name, value in kwargs.items() if name != "input"}
