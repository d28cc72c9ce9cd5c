"""Projections of `nn.MultiheadAttention` as sites, and what they read.

The module keeps queries, keys and values in one packed `in_proj_weight` of `(3 e, e)`, or in three matrices when the
widths of keys and values differ; both become the sites `NAME.in_proj[q]`, `[k]` and `[v]`. Its output projection is a
linear module, listed by `linear.py`, that torch never calls: everything happens inside one function,
`torch.nn.functional.multi_head_attention_forward`.

Recording therefore watches that function and recognises a projection by its weight. The heads that `out_proj` reads
exist nowhere outside; with the identity in place of the output projection the function returns exactly them, and the
projection is applied afterwards.

Cost: one product of the heads with an identity `(e, e)` a call. The fused path for inference must be off (`record`
sees to it), for it does the same without the function.
"""

import inspect
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mnemotrace.adapters.rows import Last, Receive, first_tensor
from mnemotrace.core.site import Site

_READS = {"q": "query", "k": "key", "v": "value"}
_SIGNATURE = inspect.signature(functional.multi_head_attention_forward)


def attention_sites(name: str, module: nn.MultiheadAttention) -> Iterator[Site]:
    """List the input projections of an attention module; its output projection is a linear module of its own."""
    prefix = f"{name}." if name else ""
    e = module.embed_dim
    bias = None if module.in_proj_bias is None else f"{prefix}in_proj_bias"
    for i, letter in enumerate(_READS):
        label, rows = f"{prefix}in_proj[{letter}]", (i * e, (i + 1) * e)
        if module.in_proj_weight is not None:
            yield Site(label, f"{prefix}in_proj_weight", e, e, bias, name, "attention", rows)
        else:
            weight = f"{letter}_proj_weight"
            d = getattr(module, weight).shape[1]
            yield Site(label, prefix + weight, e, d, bias, name, "attention", bias_part=rows if bias else None)


@contextmanager
def record_attention(model: nn.Module, sites: Sequence[Site], receive: Receive) -> Generator[None, None, None]:
    """Record what the projections read.

    Args:
        model: the network.
        sites: of kind `attention`.
        receive: gets the query, key or value for an input projection (one tensor object in self-attention) and the
            concatenated heads for an output projection, always with the batch second unless there is none.
    """
    watched = []
    with ExitStack() as stack:
        for site in sites:
            holder, reads = _role(site)
            watched.append(_Watched(site, model.get_parameter(site.weight), holder, reads))
            if reads is None:
                module = model.get_submodule(site.module)
                stack.callback(module.register_forward_pre_hook(_reader(site, receive), with_kwargs=True).remove)
        stack.enter_context(_Watch(watched, receive))
        yield


class _Watched(NamedTuple):
    """A site, its weight, and the arguments of the attention function that carry the weight and the input."""

    site: Site
    weight: Tensor
    holder: str
    reads: str | None


def _role(site: Site) -> tuple[str, str | None]:
    """Name the argument that holds a site's weight and the one that it reads, None for the heads."""
    leaf = site.weight.rpartition(".")[2]
    if leaf == "in_proj_weight" or leaf in {f"{letter}_proj_weight" for letter in _READS}:
        return leaf, _READS[site.name[-2]]
    return "out_proj_weight", None


def _reader(site: Site, receive: Receive) -> Callable[..., None]:
    """Serve attention modules that do call their output projection."""

    def hook(_: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        receive(site, first_tensor(args, kwargs, site.name), Last())

    return hook


class _Watch(TorchFunctionMode):
    """Sees every call of the attention function inside the block."""

    def __init__(self, watched: Sequence[_Watched], receive: Receive) -> None:
        super().__init__()
        self.watched = watched
        self.receive = receive

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not functional.multi_head_attention_forward:
            return func(*args, **(kwargs or {}))
        call = _SIGNATURE.bind(*args, **(kwargs or {}))
        given = call.arguments
        mine = [entry for entry in self.watched if given.get(entry.holder) is entry.weight]
        unfold = Last(swap=given["query"].ndim == 3)
        for entry in mine:
            if entry.reads is not None:
                self.receive(entry.site, given[entry.reads], unfold)
        outputs = [entry.site for entry in mine if entry.reads is None]
        if not outputs:
            return func(*args, **(kwargs or {}))
        weight, bias = given["out_proj_weight"], given["out_proj_bias"]
        given["out_proj_weight"] = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        given["out_proj_bias"] = None
        heads, attention = func(*call.args, **call.kwargs)
        for site in outputs:
            self.receive(site, heads, unfold)
        return functional.linear(heads, weight, bias), attention
