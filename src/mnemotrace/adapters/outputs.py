"""What a module gives, and what went into the activation that made it, without touching the network.

A site is a module's name; "" or None is the network itself, hence its output. What is read stays part of the graph,
so gradients flow through it, and later operations in place do not change it: the network goes on with a copy. A site
that ends in an activation (a ReLU, a softmax; as a module, a function, or in place; concatenations of them too) can be
read before it, since a closed ReLU has no gradient to follow.

Cost: one copy of what is read, and of the inputs of activations when asked for what is before them.
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mnemotrace.adapters.hooks import evaluating
from mnemotrace.core.errors import SelectionError
from mnemotrace.core.site import select_names

GATES = {"relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "hardswish", "mish", "softplus",
         "threshold", "hardtanh"}  # fmt: skip
ACTIVATIONS = GATES | {"sigmoid", "tanh", "hardsigmoid", "softmax", "log_softmax"}
_CHANNELS_FIRST = (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d,
                   nn.AdaptiveMaxPool1d, nn.InstanceNorm1d, nn.GroupNorm)  # fmt: skip


def module_of(model: nn.Module, site: str | None) -> nn.Module:
    """Return the module of a site.

    Raises:
        SelectionError: none of that name; the message lists what exists.
    """
    modules = dict(model.named_modules())
    if (site or "") in modules:
        return modules[site or ""]
    try:
        select_names([name for name in modules if name], [str(site)])
        found = [name for name in modules if name.endswith(f".{site}")]
        advice = f"names must be whole; did you mean {', '.join(found)}?"
    except SelectionError as error:
        advice = str(error).rpartition("; ")[2]
    raise SelectionError(f"got site={site!r}, which is no module; expected the name of one, or None; {advice}")


class Activations(TorchFunctionMode):
    """Remembers what went into activations; with `leak`, gradients pass closed gates as if they were open."""

    def __init__(self, *, leak: bool = False) -> None:
        super().__init__()
        self.leak = leak
        self.known: dict[int, tuple[Tensor, Tensor]] = {}

    def before(self, output: Tensor) -> Tensor | None:
        """Return the input of the activation that made a tensor; None where none did."""
        return self.known[id(output)][1] if id(output) in self.known else None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "").rstrip("_")
        if name in ("cat", "concat", "concatenate"):
            return self._joined(func, args, kwargs)
        first = args[0] if args else kwargs.get("input")
        if name not in ACTIVATIONS or not isinstance(first, Tensor):
            return func(*args, **kwargs)
        before = first.clone()
        output = func(*args, **kwargs)
        if self.leak and name in GATES:
            output = before + (output - before).detach()
        self.known[id(output)] = (output, before)
        return output

    def _joined(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = func(*args, **kwargs)
        parts = list(args[0] if args else kwargs["tensors"])
        before = [self.before(part) for part in parts]
        if any(part is not None for part in before):
            mixed = [part if own is None else own for part, own in zip(parts, before, strict=True)]
            self.known[id(output)] = (
                output,
                func(mixed, *args[1:], **{k: v for k, v in kwargs.items() if k != "tensors"}),
            )
        return output


class _Seen(dict[str, Tensor]):
    """What was read; a site that did not run is an error that says so."""

    def __missing__(self, name: str) -> Tensor:
        raise SelectionError(
            f"got site={name!r}, which did not run in the forward pass; expected a module that the network calls; "
            "choose one around it"
        )


@contextmanager
def reading(
    model: nn.Module, sites: Mapping[str, bool], *, leak: bool = False
) -> Generator[dict[str, Tensor], None, None]:
    """Collect what modules give while the block runs; a module that runs twice leaves its last output.

    Args:
        model: the network.
        sites: names of modules, "" for the network itself; True to read before the activation, if one is last.
        leak: let gradients pass closed gates.

    Raises:
        SelectionError: no such module.
        TypeError: a module gave no tensor.
    """
    seen = _Seen()
    modules = {name: module_of(model, name) for name in sites}
    with ExitStack() as stack:
        mode = Activations(leak=leak) if leak or any(sites.values()) else None
        if mode is not None:
            stack.enter_context(mode)
        for name, module in modules.items():
            handle = module.register_forward_hook(_keeper(name, seen, mode, sites[name]))
            stack.callback(handle.remove)
        yield seen


def _keeper(name: str, seen: dict[str, Tensor], mode: Activations | None, early: bool) -> Callable[..., Any]:
    def hook(_module: nn.Module, _args: object, output: Any) -> Any:
        tensor = tensor_of(output, name)
        before = None if mode is None else mode.before(tensor)
        seen[name] = before if early and before is not None else tensor
        if not isinstance(output, Tensor):
            return None
        copy = output.clone()
        if mode is not None and before is not None:
            mode.known[id(copy)] = (copy, before)
        return copy

    return hook


def tensor_of(output: Any, name: str = "") -> Tensor:
    """Return the first floating-point tensor of what a module gave: itself, of a tuple, or of a mapping.

    Raises:
        TypeError: there is none.
    """
    values = (
        output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else [output]
    )
    for value in values:
        if isinstance(value, Tensor) and value.is_floating_point():
            return value
    raise TypeError(
        f"got {type(output).__name__} from {name or 'the network'}; expected a floating-point tensor, or a tuple or "
        "mapping that holds one; choose a module inside"
    )


def units_first(output: Tensor, *, axis: int | None = None, module: nn.Module | None = None) -> Tensor:
    """Bring what a module gave to `(b, units, *positions)`.

    Args:
        output: `(b, d)`, `(b, t, d)`, `(b, c, t)` or `(b, c, h, w)`.
        axis: of the units. None takes 1 for `(b, d)` and `(b, c, h, w)`; of three axes the last, `(b, t, d)`, unless
            the module is a convolution, pool or normalisation over `(b, c, t)`.
        module: where it comes from.

    Raises:
        ValueError: fewer than two axes, or an axis that is not there.
    """
    if output.ndim < 2 or (axis is not None and not (1 <= axis < output.ndim or 1 - output.ndim <= axis < 0)):
        raise ValueError(
            f"got an output of shape {tuple(output.shape)} with axis={axis}; expected (b, units), (b, t, units) or "
            "(b, units, h, w), and an axis behind the batch; choose another module or axis"
        )
    if axis is None:
        axis = -1 if output.ndim == 3 and not isinstance(module, _CHANNELS_FIRST) else 1
    return output.movedim(axis, 1)


def require_units(units: Iterable[int], width: int, site: str | None) -> None:
    """Raise when a unit is not among those of a site.

    Raises:
        ValueError: with the first that is not.
    """
    for unit in units:
        if not 0 <= unit < width:
            raise ValueError(
                f"got unit {unit} of {site or 'the output'}; expected 0 to {width - 1}; axis= says which axis the "
                "units lie on"
            )


@contextmanager
def differentiable(model: nn.Module) -> Generator[None, None, None]:
    """Evaluate with gradients of inputs; training flags come back, and parameters get no gradients of their own."""
    with evaluating(model), torch.enable_grad():
        yield


def home_of(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return device and floating-point type of a network; the default ones where it has no parameters."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.get_default_dtype()
