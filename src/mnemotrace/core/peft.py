"""Write an edit as a LoRA adapter that `peft` loads, without importing `peft`.

A low-rank change `left @ right` of a module's weight is LoRA with `B = left`, `A = right` and scaling 1, which takes
`lora_alpha = r` at every module; the absorbed bias column becomes the bias of `B` (`lora_bias`). The base weights
stay as they are, so nothing is rounded: this is the way to carry an edit for a low-precision model.

LoRA knows whole modules only. A slice of a stored parameter, a tied weight, a sparse or a dense change does not fit
and is refused before anything is written; `mt.merge` writes those into a checkpoint.

Reference: Hu et al. 2021, LoRA, section 4.1; the file layout is that of peft 0.18 and later.
Cost: one copy of the factors.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn

from mnemotrace.core.artifact import library_version
from mnemotrace.core.directory import MARKER, atomic_directory
from mnemotrace.core.edit import Edit
from mnemotrace.core.errors import EditError
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.site import Site

_PREFIX = "base_model.model."


def to_peft(edit: Edit, directory: str | Path, model: nn.Module | None = None, *, overwrite: bool = False) -> Path:
    """Write an edit as a LoRA adapter directory: `peft.PeftModel.from_pretrained(base, directory)`.

    Args:
        edit: low-rank changes of whole linear layers and convolutions.
        directory: where `adapter_config.json`, `adapter_model.safetensors` and `mnemotrace.json` (the edit's
            manifest) go; written whole or not at all.
        model: the network that the edit is for. Needed for convolutions, whose kernel shape an edit does not know;
            where given, its name is noted in the adapter.
        overwrite: replace a directory that mnemotrace wrote before.

    Returns:
        The directory.

    Raises:
        EditError: LoRA cannot carry a change; the reason is given and nothing is written.
        FileExistsError: the directory holds something.
        NonFiniteError: a factor is NaN or infinite.
    """
    changes = _by_module(edit)
    tensors = _tensors(changes, model)
    name = getattr(model, "name_or_path", None) or None
    config = _config(changes, base=name if isinstance(name, str) else None)
    marker = {"kind": "peft", "version": library_version(), "manifest": dict(edit.manifest)}
    with atomic_directory(directory, overwrite=overwrite) as folder:
        (folder / "adapter_config.json").write_text(_json(config), encoding="utf-8")
        (folder / MARKER).write_text(_json(marker), encoding="utf-8")
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return Path(directory)


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, allow_nan=False) + "\n"


def _by_module(edit: Edit) -> dict[str, LowRank]:
    """Return the one change of each module, changes of rank 0 left out."""
    found: dict[str, LowRank] = {}
    for change in edit.changes:
        if not isinstance(change, LowRank):
            kind = type(change).__name__.lower()
            raise _refusal(f"a {kind} change of {change.parameter!r}", "LoRA adds low-rank products only")
        reason = _reason(change.site)
        if reason:
            raise _refusal(f"a change at {change.site.name!r}", reason)
        require_finite(change.left, f"the change of {change.site.name}")
        require_finite(change.right, f"the change of {change.site.name}")
        name = change.site.module
        found[name] = found[name].plus(change) if name in found else change
    found = {name: change for name, change in found.items() if change.rank}
    if not found:
        raise EditError("got an edit without changes; expected at least one of rank 1 or more; nothing would be stored")
    return found


def _refusal(what: str, reason: str) -> EditError:
    return EditError(
        f"got {what}; expected low-rank changes of whole modules; {reason}; write a checkpoint with mt.merge instead"
    )


def _reason(site: Site) -> str | None:
    """Say why LoRA cannot carry a change at a site, None when it can."""
    if site.tied:
        return f"its weight is also {', '.join(site.tied)}, which an adapter of one module leaves unchanged"
    if site.kind not in ("linear", "convolution"):
        return f"the weights of its kind ({site.kind}) are read by the module around them, past any adapter"
    if site.part is not None or site.bias_part is not None:
        return "it is a slice of a stored parameter, and an adapter belongs to a whole module"
    if not site.module or site.weight != f"{site.module}.weight":
        return "an adapter wraps a named module inside the network, and this is none"
    return None


def _tensors(changes: Mapping[str, LowRank], model: nn.Module | None) -> dict[str, Tensor]:
    with_bias = any(change.has_bias for change in changes.values())
    tensors: dict[str, Tensor] = {}
    for name, change in changes.items():
        kernel = _kernel(change.site, model)
        first = change.right[:, : change.site.d].reshape(change.rank, -1, *kernel)
        second = change.left.reshape(change.site.o, change.rank, *(1 for _ in kernel))
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = _stored(first)
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = _stored(second)
        if with_bias:
            bias = change.bias()
            bias = torch.zeros(change.site.o) if bias is None else bias
            tensors[f"{_PREFIX}{name}.lora_B.bias"] = _stored(bias)
    return tensors


def _stored(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32).contiguous().clone()


def _kernel(site: Site, model: nn.Module | None) -> tuple[int, ...]:
    """Return the kernel's shape, empty for a linear layer, after checking that peft repeats this convolution."""
    if site.kind != "convolution":
        return ()
    if model is None:
        raise EditError(
            f"got a change of the convolution {site.name!r} and no model; expected the network, which knows the "
            "kernel's shape; call edit.to_peft(directory, model)"
        )
    module: Any = model.get_submodule(site.module)
    if set(module.dilation) != {1} or module.padding_mode != "zeros":
        raise _refusal(
            f"a change of the convolution {site.name!r}, dilation {module.dilation}, padding {module.padding_mode!r}",
            "peft adds a convolution without dilation, padded with zeros",
        )
    return tuple(module.kernel_size)


def _config(changes: Mapping[str, LowRank], base: str | None) -> dict[str, Any]:
    """Describe the adapter; names are regular expressions that match one module each."""
    ranks = {name: change.rank for name, change in changes.items()}
    usual = Counter(ranks.values()).most_common(1)[0][0]
    others = {f"^{re.escape(name)}": rank for name, rank in ranks.items() if rank != usual}
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": "|".join(re.escape(name) for name in ranks),
        "lora_dropout": 0.0,
        "lora_bias": any(change.has_bias for change in changes.values()),
        "fan_in_fan_out": any(change.site.transposed for change in changes.values()),
        "bias": "none",
    }
