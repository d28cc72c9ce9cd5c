"""Networks for comparison: the same architecture untrained, and the same weights in another order.

What a recall shows with an untrained twin is due to the architecture and to the trace, not to learning. What it shows
with shuffled weights, which keep every layer's distribution of weights, is due to the trace alone. Cost: a copy.
"""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn


def untrained_twin(model: nn.Module, *, generator: torch.Generator) -> nn.Module:
    """Return a copy whose modules drew their first weights anew, by their own `reset_parameters`.

    Args:
        model: the network; it is not changed.
        generator: of a seed; modules draw from torch's global state, which is put back afterwards.

    Raises:
        ValueError: a module has parameters and no `reset_parameters`, so that it would stay as trained.
    """
    twin = deepcopy(model)
    trained = [name or type(module).__name__ for name, module in twin.named_modules() if _keeps(module)]
    if trained:
        raise ValueError(
            f"got parameters without reset_parameters in {', '.join(trained[:5])}; expected modules that can draw "
            "their first weights anew; build the network afresh and give it as untrained="
        )
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in twin.modules():
            reset = _reset(module)
            if reset is not None:
                reset()
    return twin


def shuffled_weights(model: nn.Module, *, generator: torch.Generator) -> nn.Module:
    """Return a copy in which the entries of each matrix or kernel stand in random order; biases and norms stay.

    Args:
        model: the network; it is not changed.
        generator: of the order.
    """
    twin = deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.ndim > 1:
                parameter.copy_(_shuffled(parameter, generator))
    return twin


def _shuffled(values: Tensor, generator: torch.Generator) -> Tensor:
    order = torch.randperm(values.numel(), generator=generator, device=generator.device).to(values.device)
    return values.flatten()[order].view(values.shape)


def _reset(module: nn.Module) -> Callable[[], object] | None:
    return getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)


def _keeps(module: nn.Module) -> bool:
    return _reset(module) is None and next(module.parameters(recurse=False), None) is not None
