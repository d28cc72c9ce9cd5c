"""Record what sites read and patch what modules give, inside context managers that always clean up."""

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mnemotrace.adapters.attention import record_attention
from mnemotrace.adapters.experts import record_experts
from mnemotrace.adapters.rows import Last, Receive, Unfold, first_tensor, patches_of
from mnemotrace.core.site import Site


class _Stop(BaseException):
    """Leaves a forward pass once everything wanted has been read; no `except Exception` on the way catches it."""


@contextmanager
def _left_early(handle: RemovableHandle) -> Generator[None, None, None]:
    """End the block where a hook raises `_Stop`, and take the hook off."""
    try:
        yield
    except _Stop:
        pass
    finally:
        handle.remove()


@contextmanager
def record(model: nn.Module, sites: Mapping[str, Site], receive: Receive) -> Generator[None, None, None]:
    """Call `receive(site, source, unfold)` whenever a site is about to read a tensor.

    Args:
        model: the network.
        sites: which maps to listen to, from `sites(model)`.
        receive: gets the site, the tensor as the module was given it, and how to turn that into rows; from experts
            also which tokens the rows belong to. Maps that read one tensor get the same tensor object.
    """
    with ExitStack() as stack:
        stack.enter_context(unfused())
        for site in sites.values():
            if site.kind in ("linear", "convolution"):
                for name in dict.fromkeys((site.module, *site.readers)):
                    module = model.get_submodule(name)
                    handle = module.register_forward_pre_hook(_reader(site, module, receive), with_kwargs=True)
                    stack.callback(handle.remove)
        for kind, recorder in (("attention", record_attention), ("expert", record_experts)):
            chosen = [site for site in sites.values() if site.kind == kind]
            if chosen:
                stack.enter_context(recorder(model, chosen, receive))
        yield


@contextmanager
def unfused() -> Generator[None, None, None]:
    """Switch off torch's fused attention and encoder layers, which skip modules or hand them nested tensors."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def _reader(site: Site, module: nn.Module, receive: Receive) -> Callable[..., None]:
    if site.kind == "convolution":
        unfold: Unfold = patches_of(module, site.part[0] // site.o if isinstance(site.part, tuple) else 0)
    else:
        unfold = Last()

    def hook(_: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        receive(site, first_tensor(args, kwargs, site.name), unfold)

    return hook


@contextmanager
def patch(model: nn.Module, changes: Mapping[str, Callable[[Tensor], Tensor]]) -> Generator[None, None, None]:
    """Replace the output of modules: `changes[name](output)` is what the network goes on with.

    Raises:
        AttributeError: no module of that name.
    """
    with ExitStack() as stack:
        for name, change in changes.items():
            handle = model.get_submodule(name).register_forward_hook(
                lambda _m, _a, output, change=change: change(output)
            )
            stack.callback(handle.remove)
        yield


@contextmanager
def stop_at(module: nn.Module | None) -> Generator[None, None, None]:
    """Leave the forward pass inside the block when `module` is about to run; None stops nowhere."""
    if module is None:
        yield
        return

    def stop(*_: object) -> None:
        raise _Stop

    with _left_early(module.register_forward_pre_hook(stop)):
        yield


@contextmanager
def stop_after(module: nn.Module, receive: Callable[[Any], None]) -> Generator[None, None, None]:
    """Call `receive(output)` with what `module` gives, and leave the forward pass inside the block there."""

    def stop(_module: nn.Module, _args: object, output: Any) -> None:
        receive(output)
        raise _Stop

    with _left_early(module.register_forward_hook(stop)):
        yield


@contextmanager
def evaluating(model: nn.Module) -> Generator[None, None, None]:
    """Switch off dropout and gradients inside the block and give every module its training flag back."""
    flags = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, flag in flags.items():
            module.training = flag


def forward(model: nn.Module, batch: object) -> object:
    """Call a model on a batch: a mapping by keyword, a tuple or list by position, anything else as one argument."""
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, (tuple, list)) else model(batch)
