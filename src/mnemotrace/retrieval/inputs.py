"""What goes into a network for a recall, and what comes out: tensors, mappings by name, blank images.

Cost: none beside the checks of finite numbers.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mnemotrace.adapters.outputs import home_of
from mnemotrace.core.episode import EpisodicTrace, MeanTrace
from mnemotrace.core.linalg import require_finite

Images = Tensor | Mapping[str, Any]
Forward = Callable[[nn.Module, Any], Any]


def call(model: nn.Module, x: Images, forward: Forward | None) -> Any:
    """Run a network on inputs."""
    if forward is not None:
        return forward(model, x)
    return model(**x) if isinstance(x, Mapping) else model(x)


def output_of(output: Any) -> Tensor:
    """Return the tensor of an output: itself, `.logits`, or the first of a tuple or mapping."""
    if isinstance(output, Tensor):
        return output
    logits = getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    parts = list(output.values()) if isinstance(output, Mapping) else output
    for part in parts if isinstance(parts, (tuple, list)) else ():
        if isinstance(part, Tensor):
            return part
    raise TypeError(
        f"got a {type(output).__name__} as output of the network; expected a tensor, `.logits`, or a tuple or mapping "
        "with a tensor; choose one with forward=lambda model, x: ..."
    )


def input_of(x: Any) -> tuple[str, Tensor]:
    """Return the input that is recalled, and its name where inputs are given by name."""
    named = x if isinstance(x, Mapping) else {"": x}
    for name, tensor in named.items():
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and "mask" not in name:
            if tensor.ndim < 2 or len(tensor) == 0:  # noqa: PLR2004
                raise ValueError(
                    f"got an input of shape {tuple(tensor.shape)}; expected (b, ...) with b >= 1 samples first, as "
                    "images (b, c, h, w)"
                )
            require_finite(tensor, "the input")
            return name, tensor
    whole = [t for t in named.values() if isinstance(t, Tensor)]
    what = f"tokens ({whole[0].dtype})" if whole else f"a {type(x).__name__}"
    raise TypeError(
        f"got {what} as input; expected floating-point images (b, ...), or a mapping with them; from tokens a recall "
        "ends in their embeddings: pass {'inputs_embeds': model.get_input_embeddings()(tokens)}"
    )


def replaced(x: Images, name: str, tensor: Tensor) -> Images:
    """Return inputs with another tensor in the place of the one that is recalled."""
    return {**x, name: tensor} if isinstance(x, Mapping) else tensor


def what_runs(model: nn.Module, trace: Any, x: Images | None) -> Images:
    """Return what the network runs on: the images of the trace, else `x`, else zeros."""
    if trace is None:
        if x is None:
            raise ValueError(
                "got neither trace nor x; expected images as trace=, or for rules that need no trace x= with the shape "
                "of what to recall, such as torch.zeros(1, 3, 224, 224)"
            )
        return x
    if not isinstance(trace, EpisodicTrace):
        if isinstance(trace, MeanTrace):
            raise TypeError("got a MeanTrace; expected the trace of classes: pass trace=mean.trace(classes)")
        return trace
    if x is not None:
        _, image = input_of(x)
        if len(image) != len(trace) or tuple(image.shape[1:]) != trace.input_shape:
            raise ValueError(
                f"got x of shape {tuple(image.shape)} and a trace of {len(trace)} samples of {trace.input_shape}; "
                "expected as many samples of the same size; take rows of the trace as trace[rows]"
            )
        return x
    device, own = home_of(model)
    dtype = getattr(torch, trace.manifest.get("dtype", ""), own)
    blank = torch.zeros(len(trace), *trace.input_shape, dtype=dtype, device=device)
    name = trace.manifest.get("input", "")
    return {name: blank} if name else blank
