"""See every operation of an unmodified network, and let a listener replace what goes backwards.

A `TorchFunctionMode` is told of each call into torch, whether it comes from a module, a function or a tensor method,
and of what happens in place; so a shared or functional ReLU is no special case. Operations that let something
through (gates, pools, attention, normalisations) are handed to a listener as `Seen`; inputs of linear maps,
convolutions and pools pass through its `tap`; whatever is neither linear nor known is named to it.

Composite functions of torch that are written in Python (`multi_head_attention_forward`, most of `nn.functional`) hide
what they do from a mode, since they dispatch as one call. Their own code is run once more with that dispatch switched
off, in a copy of the function, so that the mode sees the operations inside and the numbers stay bit-equal.

Cost: some microseconds an operation; a max pool also computes its indices.
"""

import types
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mnemotrace.adapters.decompositions import GATES
from mnemotrace.adapters.handlers import POOLS, SPECIAL, see_gate
from mnemotrace.adapters.hooks import unfused
from mnemotrace.adapters.seen import Listener, Seen, floating, tensors_of


@contextmanager
def watched(model: nn.Module, listener: Listener) -> Generator[None, None, None]:
    """Tell a listener of all operations of a network inside the block; afterwards nothing is left on the network."""
    mode = _Operations(listener)
    with unfused(), ExitStack() as stack:
        for name, module in model.named_modules():
            enter = module.register_forward_pre_hook(lambda *_, name=name: mode.modules.append(name))
            leave = module.register_forward_hook(mode.leave, always_call=True)
            stack.callback(enter.remove)
            stack.callback(leave.remove)
        with mode:
            yield


class _Operations(TorchFunctionMode):
    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self.listener = listener
        self.modules: list[str] = [""]
        self.open: list[Any] = []

    def leave(self, *_: Any) -> None:
        self.modules.pop()

    def __torch_function__(self, func: Any, _: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        name = getattr(func, "__name__", "")
        kwargs = kwargs or {}
        if name == "__get__":
            return func(*args, **kwargs)
        bare = name if name.startswith("__") else name.rstrip("_")
        if bare in POOLS:
            return POOLS[bare](self, func, bare, *args, **kwargs)
        if isinstance(func, types.FunctionType) and func.__module__ in _PYTHON and func not in self.open:
            return self._open(func, args, kwargs)
        if bare in GATES and floating(args, kwargs):
            return see_gate(self, func, name, *args, **kwargs)
        if bare in SPECIAL and floating(args, kwargs):
            return SPECIAL[bare](self, func, bare, *args, **kwargs)
        if bare in _TAPPED:
            args, kwargs = self._tapped(bare, args, kwargs)
        out = func(*args, **kwargs)
        if bare not in _LINEAR and not (bare in _BILINEAR and _one_sided(bare, args, kwargs)):
            for y in tensors_of(out):
                if y.requires_grad:
                    self.listener.unruled(y, bare)
        return out

    def _open(self, func: types.FunctionType, args: Any, kwargs: dict[str, Any]) -> Any:
        # a method in Python that calls its namesake in C is dispatched under the same name, and must not open again
        self.open.append(func)
        try:
            with self:
                return _opened(func)(*args, **kwargs)
        finally:
            self.open.pop()

    def see(self, **parts: Any) -> Tensor:
        return self.listener.see(Seen(module=self.modules[-1], **parts))

    def _tapped(self, name: str, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        place = 1 if name == "addmm" else 0
        if name == "matmul" and not (len(args) > 1 and isinstance(args[1], nn.Parameter)):
            return args, kwargs
        if len(args) > place:
            return (*args[:place], self.listener.tap(args[place], name), *args[place + 1 :]), kwargs
        key = "mat1" if place else "input"
        return args, {**kwargs, key: self.listener.tap(kwargs[key], name)} if key in kwargs else kwargs


_PYTHON = frozenset({"torch.nn.functional", "torch.functional", "torch._tensor"})
_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "conv_tbc")
_AVERAGES = ("avg_pool1d", "avg_pool2d", "avg_pool3d")
_AVERAGES = (*_AVERAGES, *(f"adaptive_{name}" for name in _AVERAGES))
_TAPPED = frozenset({"linear", "addmm", "matmul", *_CONVOLUTIONS, *_AVERAGES})
# linear while only one operand carries the signal
_PRODUCTS = """
    mul multiply div divide true_divide matmul mm bmm addmm baddbmm addbmm einsum dot mv outer tensordot
    bilinear addcmul
"""
# as linear as a sum: the true gradient is the reversal
_SUMS = """
    linear add sub subtract rsub neg negative positive sum mean cat concat concatenate stack hstack vstack dstack view
    view_as reshape reshape_as flatten unflatten permute transpose t swapaxes swapdims movedim moveaxis contiguous clone
    to type float double half bfloat16 type_as cpu cuda expand expand_as broadcast_to repeat repeat_interleave tile
    squeeze unsqueeze split split_with_sizes chunk tensor_split unsafe_split unsafe_chunk unbind narrow select
    index_select gather take take_along_dim masked_select masked_fill masked_scatter where index index_put index_add
    index_copy scatter scatter_add slice_scatter select_scatter flip fliplr flipud rot90 roll tril triu diagonal diag
    cumsum pad constant_pad_nd im2col col2im unfold fold pixel_shuffle pixel_unshuffle channel_shuffle embedding detach
    alias as_strided lerp copy fill zero zeros_like ones_like empty_like full_like new_zeros new_ones requires_grad_
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d
    upsample_trilinear3d _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_bilinear2d_aa grid_sampler
    max_unpool2d max_unpool3d stft real imag view_as_real view_as_complex __getitem__ __setitem__ register_hook
    retain_grad nan_to_num
"""
_BILINEAR = frozenset(_PRODUCTS.split())
_LINEAR = frozenset(_SUMS.split()) | {*_CONVOLUTIONS, *_AVERAGES}


@cache
def _opened(func: types.FunctionType) -> Callable[..., Any]:
    """Return a function of torch that runs its own code although a mode is active."""
    closed = {name: (lambda *_: False) for name in func.__globals__ if name.startswith("has_torch_function")}
    opened = types.FunctionType(
        func.__code__, {**func.__globals__, **closed}, func.__name__, func.__defaults__, func.__closure__
    )
    opened.__kwdefaults__ = func.__kwdefaults__
    return opened


def _one_sided(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
    parts = list(tensors_of([*args, *kwargs.values()]))
    divides = name in ("div", "divide", "true_divide", "__truediv__")
    if divides and len(parts) > 1 and parts[1].requires_grad:
        return False
    return sum(part.requires_grad and not part.is_leaf for part in parts) <= 1
