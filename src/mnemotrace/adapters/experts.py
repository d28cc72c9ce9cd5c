"""Fused experts of mixture-of-experts models as sites, and what each expert reads.

A layer keeps all its experts in two three-dimensional parameters: `gate_up_proj` (or `up_proj`) and `down_proj`,
stored `(E, o, d)` or `(E, d, o)`, some with biases `(E, o)`. A site is one expert's slice: `NAME.down_proj[3]`. Which
way round they are stored is declared by the module (`is_transposed`) or follows from how the two shapes fit.

Fused kernels hide what an expert reads. Inside the block the experts therefore run in their own plain loop
(`experts_implementation` "eager"), and every matrix product is watched: when its right operand lies in the memory of
an expert's slice, its left operand is what this expert reads. The routing indices, which the module is called with,
say whose rows these are. After each call what was seen is compared with the routing, so that an implementation that
cannot be followed is an error and never an expert without data.

Cost: the plain loop, a few microseconds for each torch function, one comparison of the rows with the tokens.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.overrides import TorchFunctionMode

from mnemotrace.adapters.rows import Last, Receive, Tokens
from mnemotrace.core.site import Site

_FACTORS = {"gate_up_proj": 2, "up_proj": 1}
_PRODUCTS = {"linear", "matmul", "__matmul__", "mm", "bmm", "addmm", "baddbmm"}
_CASTS = {"float", "double", "half", "bfloat16", "to", "type", "type_as"}
_Key = tuple[str, Any]


def expert_sites(name: str, module: nn.Module) -> Iterator[Site]:
    """List one site for each expert and each three-dimensional parameter of a module."""
    pair = _pair(module)
    transposed = _is_transposed(module, pair)
    if transposed is None or expert_refusal(module):
        return
    prefix = f"{name}." if name else ""
    parameters = dict(module.named_parameters(recurse=False))
    count = min(len(parameter) for parameter in pair.values())
    for leaf, parameter in pair.items():
        d, o = parameter.shape[1:] if transposed else parameter.shape[:0:-1]
        bias = f"{prefix}{leaf}_bias" if f"{leaf}_bias" in parameters else None
        for expert in range(count):
            label = f"{prefix}{leaf}[{expert}]"
            yield Site(label, prefix + leaf, o, d, bias, name, "expert", expert, transposed)


def expert_refusal(module: nn.Module) -> str | None:
    """Say why a module with stacked matrices is no site, None when it is one or has none."""
    if any(is_parametrized(module, leaf) for leaf in (*_FACTORS, "down_proj")):
        return "its experts are computed by a parametrisation, so an edit would be lost; merge the adapter first"
    count = getattr(module, "num_experts", None)
    stacked = {
        name: parameter
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim >= 3 and ("_proj" in name or len(parameter) == count)
    }
    pair = _pair(module)
    for name, parameter in stacked.items():
        if not parameter.is_floating_point() or parameter.element_size() == 1:
            return f"its {name} is stored as {parameter.dtype}; load the model unquantised"
        if name not in pair:
            return f"its {name} {tuple(parameter.shape)} stacks matrices in a layout that is not known"
    if pair and _is_transposed(module, pair) is None:
        shapes = ", ".join(f"{leaf} {tuple(parameter.shape)}" for leaf, parameter in pair.items())
        return (
            f"its shapes ({shapes}) do not tell inputs from outputs; set its attribute `is_transposed` to True or False"
        )
    return None


def _pair(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the two parameters of fused experts, or nothing."""
    own = {name: value for name, value in module.named_parameters(recurse=False) if value.ndim == 3}
    ups = [leaf for leaf in _FACTORS if leaf in own]
    return {leaf: own[leaf] for leaf in (ups[0], "down_proj")} if len(ups) == 1 and "down_proj" in own else {}


def _is_transposed(module: nn.Module, pair: Mapping[str, nn.Parameter]) -> bool | None:
    """Tell whether experts are stored `(d, o)`; None when there are none or nothing decides."""
    if not pair:
        return None
    declared = getattr(module, "is_transposed", None)
    if isinstance(declared, bool):
        return declared
    (leaf, up), (_, down) = pair.items()
    factor = _FACTORS[leaf]
    plain = (factor * down.shape[2], down.shape[1]) == up.shape[1:]
    flipped = (down.shape[2], factor * down.shape[1]) == up.shape[1:]
    return None if plain == flipped else flipped


@contextmanager
def record_experts(model: nn.Module, sites: Sequence[Site], receive: Receive) -> Generator[None, None, None]:
    """Record what the experts read; experts that get no token record nothing.

    Args:
        model: the network.
        sites: of kind `expert`.
        receive: gets the rows of one expert, and as its last argument whose tokens they are.

    Raises:
        TypeError: from the forward pass, when the experts cannot be followed.
    """
    wanted: dict[str, dict[_Key, Site]] = {}
    for site in sites:
        for name in (site.module, *site.readers):
            wanted.setdefault(name, {})[site.weight.rpartition(".")[2], site.part] = site
    modules = {name: model.get_submodule(name) for name in wanted}
    watch = _Watch()
    with ExitStack() as stack:
        stack.enter_context(_eager(modules.values()))
        for name, module in modules.items():
            opener = watch.opener(wanted[name], receive)
            stack.callback(module.register_forward_pre_hook(opener, with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(watch.close).remove)
        stack.enter_context(watch)
        yield


@contextmanager
def _eager(modules: Iterable[nn.Module]) -> Generator[None, None, None]:
    """Let experts run in their plain loop; the setter's empty key spares the configurations inside this one."""
    configs: dict[int, Any] = {id(config): config for config in (getattr(m, "config", None) for m in modules)}
    before = [(c, c._experts_implementation) for c in configs.values() if hasattr(c, "_experts_implementation")]
    try:
        for config, _ in before:
            config._experts_implementation = {"": "eager"}
        yield
    finally:
        for config, implementation in before:
            config._experts_implementation = {"": implementation}


class _Watch(TorchFunctionMode):
    """Shows every matrix product to the experts module that is running."""

    def __init__(self) -> None:
        super().__init__()
        self.call: _Call | None = None

    def opener(self, sites: Mapping[_Key, Site], receive: Receive) -> Callable[..., None]:
        """Return the hook that starts a call."""

        def hook(module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
            self.call = _Call(module, sites, receive, (*args, *kwargs.values()))

        return hook

    def close(self, *_: object) -> None:
        """End a call and check it."""
        call, self.call = self.call, None
        if call is not None:
            call.check()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if self.call is not None and name in _PRODUCTS:
            self.call.product([x for x in (*args, *(kwargs or {}).values()) if isinstance(x, Tensor)])
        result = func(*args, **(kwargs or {}))
        if self.call is not None and name in _CASTS:
            self.call.cast(args[0], result)
        return result


class _Call:
    """One call of an experts module: its routing, and which experts have been seen."""

    def __init__(
        self, module: nn.Module, sites: Mapping[_Key, Site], receive: Receive, given: Sequence[object]
    ) -> None:
        tensors = [x for x in given if isinstance(x, Tensor)]
        indices = [x for x in tensors if not x.is_floating_point() and x.dtype != torch.bool]
        self.sites, self.receive = sites, receive
        self.hidden = tensors[0].reshape(-1, tensors[0].shape[-1])
        self.routing = indices[0].reshape(-1, indices[0].shape[-1]) if indices else None
        self.regions: dict[str, tuple[str, Tensor, int]] = {
            leaf: (leaf, parameter, 0) for leaf, parameter in _pair(module).items()
        }
        self.seen: set[_Key] = set()

    def product(self, operands: Sequence[Tensor]) -> None:
        """Record the left operand when the right one is made of expert weights."""
        for left, right in zip(operands, operands[1:], strict=False):
            leaf, experts = self._locate(right)
            each = left if left.ndim == right.ndim == 3 and len(left) == len(right) else [left] * len(experts)
            for expert, source in zip(experts, each, strict=True):
                if (leaf, expert) in self.sites:
                    self._record(leaf, expert, source.reshape(-1, source.shape[-1]), right.ndim == 3)

    def cast(self, before: Tensor, after: object) -> None:
        """Remember expert weights that were changed to another type; the latest of a parameter will do."""
        leaf, experts = self._locate(before)
        if experts and isinstance(after, Tensor):
            self.regions[f"{leaf} cast"] = (leaf, after, experts[0])

    def check(self) -> None:
        """Raise when an expert got tokens and was not seen."""
        routed = None if self.routing is None else set(self.routing.unique().tolist())
        missed = [
            site.name
            for key, site in self.sites.items()
            if key not in self.seen and (routed is None or key[1] in routed)
        ]
        if missed:
            raise TypeError(
                f"got no matrix product with {missed[0]} and {len(missed) - 1} more, though tokens were routed there; "
                "expected an implementation with plain products; leave these experts out of the selection"
            )

    def _locate(self, tensor: Tensor) -> tuple[str, range]:
        """Find the parameter and the experts that a tensor shows, by its place in memory."""
        for leaf, base, first in self.regions.values():
            count = len(base) if base.ndim == 3 else 1
            size = base.numel() // count * base.element_size()
            offset = tensor.data_ptr() - base.data_ptr()
            if 0 <= offset < count * size and tensor.device == base.device:
                start = first + offset // size
                return leaf, range(start, start + (len(tensor) if tensor.ndim == 3 else 1))
        return "", range(0)

    def _record(self, leaf: str, expert: int, rows: Tensor, dense: bool) -> None:
        """Hand on the rows of one expert; `dense` when all experts read all tokens at once."""
        site = self.sites[leaf, expert]
        if self.routing is not None:
            index, total = self.routing.T.eq(expert).nonzero()[:, 1], len(self.hidden)
        else:
            # Without a bias a row of zeros is a token that was routed elsewhere: it gives and counts nothing.
            index, total = (rows.any(1) if site.bias is None else rows.new_ones(len(rows))).nonzero()[:, 0], len(rows)
        if dense and len(index) < len(rows):
            rows = rows[index]
        known = dense or self.routing is not None
        reads_hidden = leaf != "down_proj" and self.routing is not None
        if not known or len(index) != len(rows) or (reads_hidden and not _same(self.hidden[index], rows)):
            raise TypeError(
                f"got {len(rows)} rows at {site.name} that are not the tokens routed there, in order; "
                "expected experts that loop as those of transformers do; leave them out of the selection"
            )
        self.seen.add((leaf, expert))
        self.receive(site, rows, Last(), Tokens(index, total))


def _same(tokens: Tensor, rows: Tensor) -> bool:
    return torch.allclose(tokens.to(rows.dtype), rows, rtol=0, atol=0, equal_nan=True)
