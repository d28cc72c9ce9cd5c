"""List the linear maps of any network as sites, each seen as `(o, d)`.

Covered: `nn.Linear` and its subclasses, Hugging Face `Conv1D` (stored transposed), `nn.Conv1d/2d/3d` with any
stride, padding, dilation and groups (one site a group, as patches times kernels), `nn.MultiheadAttention`
projections, and the fused-expert parameters of mixture-of-experts models. Not covered, and an error when named:
quantised weights, parametrised weights (`weight_norm`, LoRA-style wrappers), transposed convolutions.

Weights that several modules share are one site. A vocabulary head tied to its embedding is left out unless it is
selected by name, because editing it rewrites the embedding.
"""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from mnemotrace.adapters.attention import attention_sites
from mnemotrace.adapters.experts import expert_refusal, expert_sites
from mnemotrace.core.applying import tied_names
from mnemotrace.core.errors import SelectionError
from mnemotrace.core.site import Selection, Site, select_names

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def sites(model: nn.Module, select: Selection = None, layers: Iterable[int] | None = None) -> dict[str, Site]:
    """List the linear maps of a network by name, in the order of its modules.

    Args:
        model: any network.
        select: None for every map except a head tied to an embedding; a list of name suffixes; or a string taken as
            a regular expression on whole names, as PEFT selects target modules.
        layers: indices of layers to keep.

    Returns:
        Sites by name.

    Raises:
        SelectionError: nothing matches, or what was named cannot be edited, with the reason.
    """
    found, refused = _all_sites(model)
    if select is None:
        found = {name: site for name, site in found.items() if not _tied_to_embedding(model, site)}
        if refused:
            reasons = "; ".join(f"{name}: {why}" for name, why in list(refused.items())[:4])
            warnings.warn(f"{len(refused)} modules are no sites ({reasons})", UserWarning, stacklevel=2)
    names = select_names([*found, *(refused if select is not None else ())], select, layers)
    for name in names:
        if name in refused:
            raise SelectionError(f"got {name!r} in the selection; expected a plain linear map; {refused[name]}")
    return {name: found[name] for name in names}


def _all_sites(model: nn.Module) -> tuple[dict[str, Site], dict[str, str]]:
    """Return every site, with shared weights once, and the modules that cannot be sites with the reason."""
    tied = tied_names(model)
    found: dict[str, Site] = {}
    owner: dict[tuple[int, object], str] = {}
    refused: dict[str, str] = {}
    for module_name, module in model.named_modules():
        reason = _refusal(module)
        if reason:
            refused[module_name or "root"] = reason
            continue
        for site in _sites_of(module_name, module):
            parameter = model.get_parameter(site.weight)
            first = owner.setdefault((id(parameter), site.part), site.name)
            if first != site.name:
                found[first] = replace(found[first], readers=(*found[first].readers, site.module))
                continue
            found[site.name] = replace(site, tied=tied.get(site.weight, ()))
    return found, refused


def _sites_of(name: str, module: nn.Module) -> Iterator[Site]:
    prefix = f"{name}." if name else ""
    if isinstance(module, nn.MultiheadAttention):
        yield from attention_sites(name, module)
    elif isinstance(module, CONVOLUTIONS):
        yield from _convolution_sites(name, module)
    elif _is_transposed_linear(module) or isinstance(module, nn.Linear):
        transposed = not isinstance(module, nn.Linear)
        weight: Any = module.weight
        o, d = weight.shape[::-1] if transposed else weight.shape
        bias = f"{prefix}bias" if module.bias is not None else None
        kind = "attention" if isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear) else "linear"
        yield Site(name or "root", f"{prefix}weight", o, d, bias, name, kind, transposed=transposed)
    else:
        yield from expert_sites(name, module)


def _convolution_sites(name: str, module: Any) -> Iterator[Site]:
    prefix = f"{name}." if name else ""
    o, d = module.weight.shape[0] // module.groups, module.weight[0].numel()
    bias = f"{prefix}bias" if module.bias is not None else None
    for group in range(module.groups):
        several = module.groups > 1
        part = (group * o, (group + 1) * o) if several else None
        label = f"{name or 'root'}[{group}]" if several else name or "root"
        yield Site(label, f"{prefix}weight", o, d, bias, name, "convolution", part)


def _is_transposed_linear(module: nn.Module) -> bool:
    """Recognise the Hugging Face `Conv1D`, which stores `(d, o)`, without importing transformers."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf") and getattr(module.weight, "ndim", 0) == 2


def _refusal(module: nn.Module) -> str | None:
    """Say why a module with a matrix is no site, None when it is one or has none."""
    if isinstance(module, _TRANSPOSED):
        return "a transposed convolution reads no patches; edit the layers around it"
    stacked = expert_refusal(module)
    if stacked:
        return stacked
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.MultiheadAttention):
        weight = module.q_proj_weight if module.in_proj_weight is None else module.in_proj_weight
    if not isinstance(weight, torch.Tensor) or weight.ndim < 2 or isinstance(module, nn.Embedding):
        return None
    own = [name for name, _ in module.named_parameters(recurse=False)]
    if is_parametrized(module) or any(name.endswith(("weight_g", "weight_orig")) for name in own):
        return (
            "its weight is computed by a parametrisation, so an edit would be lost; call first "
            "torch.nn.utils.parametrize.remove_parametrizations(module, 'weight') (or remove_weight_norm, prune.remove)"
        )
    linear_like = isinstance(module, (nn.Linear, *CONVOLUTIONS)) or "Linear" in type(module).__name__
    linear_like = linear_like or _is_transposed_linear(module)
    if linear_like and not (
        isinstance(weight, nn.Parameter) and weight.is_floating_point() and weight.element_size() > 1
    ):
        return f"its weight is stored as {weight.dtype}; load the model unquantised"
    return None


def _tied_to_embedding(model: nn.Module, site: Site) -> bool:
    owners = (model.get_submodule(name.rpartition(".")[0]) for name in site.tied)
    return any(isinstance(owner, (nn.Embedding, nn.EmbeddingBag)) for owner in owners)


def weight_of(model: nn.Module, site: Site, *, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Return a site's weight as `(o, d)`, or `(o, d + 1)` with its bias as the last column.

    Args:
        model: the network that has the site.
        site: the place.
        dtype: cast to this; None keeps the stored one.
    """
    weight = site.view(model.get_parameter(site.weight).detach())
    if site.bias is not None:
        bias = site.bias_view(model.get_parameter(site.bias).detach())
        weight = torch.cat([weight, bias[:, None].to(weight.dtype)], dim=1)
    return weight if dtype is None else weight.to(dtype)
