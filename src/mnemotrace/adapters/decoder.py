"""Where a causal language model keeps its blocks, attention and MLPs, found by what they do and not by their names.

A few tokens are run through the network and every call is watched. The blocks are the list of modules that hand hidden
states on. Inside a block, attention is what gives the last position another output when only the first position's
input is changed; the MLP is what else carries matrices and gives the width of the hidden states back. No table of
architectures is kept, so a new layout needs no new code as long as it works this way.

Cost: a handful of forward passes over eight tokens, once a model.
"""

import operator
from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from mnemotrace.adapters.hooks import evaluating
from mnemotrace.core.linalg import require_finite

PROBE = 8


@dataclass(frozen=True, eq=False)
class Decoder:
    """The parts of a causal language model, as names of modules.

    Attributes:
        embedding: turns token ids into vectors.
        blocks: one a layer, in order; each adds to the hidden states `(b, t, d)`.
        attention: one a layer: the module whose output attention adds, its last linear map where it has one.
        mlp: one a layer: the module whose output the MLP adds, its last linear map where it has one.
        down: one a layer: the MLP's last linear map, where facts are stored; None where experts share the work.
        d: width of the hidden states.
        outputs: one a layer: how many values the block returns in a tuple; 0 when it returns hidden states alone.
    """

    _model: "ref[nn.Module]"
    embedding: str
    blocks: tuple[str, ...]
    attention: tuple[str, ...]
    mlp: tuple[str, ...]
    down: tuple[str | None, ...]
    d: int
    outputs: tuple[int, ...]

    @property
    def model(self) -> nn.Module:
        """The network; it is not kept alive by this description of it."""
        model = self._model()
        if model is None:
            raise ReferenceError("got the description of a model that is gone; expected it alive; keep a reference")
        return model

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def block(self, layer: int) -> nn.Module:
        """Return one block.

        Raises:
            ValueError: no such layer.
        """
        return self.model.get_submodule(self.blocks[self.checked(layer)])

    def checked(self, layer: int) -> int:
        """Return a layer's index, counted from the end when it is negative.

        Raises:
            ValueError: no such layer.
            TypeError: not a whole number.
        """
        try:
            layer = operator.index(layer)
        except TypeError:
            raise TypeError(f"got layer {layer!r}; expected a whole number, 0 to {self.layers - 1}") from None
        if not -self.layers <= layer < self.layers:
            raise ValueError(
                f"got layer {layer} of a {type(self.model).__name__} with {self.layers} layers; expected 0 to "
                f"{self.layers - 1}"
            )
        return layer % self.layers

    def down_of(self, layer: int) -> str:
        """Return the name of the MLP's last linear map at a layer.

        Raises:
            ValueError: no such layer, or experts share its work.
        """
        name = self.down[self.checked(layer)]
        if name is None:
            raise ValueError(
                f"got layer {layer}, whose MLP {self.mlp[layer]} has no last linear map of its own (experts share the "
                "work); expected a dense MLP; choose another layer, or edit an expert through mt.sites and mt.erase"
            )
        return name


@dataclass(eq=False)
class _Call:
    """One call of a module: what it was given and what it gave."""

    name: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any
    result: Tensor | None

    @property
    def source(self) -> Tensor | None:
        return first_of((*self.args, *self.kwargs.values()))


_KNOWN: MutableMapping[nn.Module, Decoder] = WeakKeyDictionary()


def decoder(model: nn.Module) -> Decoder:
    """Find the parts of a causal language model.

    Args:
        model: of Hugging Face transformers, or one that takes `input_ids`, has `get_input_embeddings` and gives
            `logits`. It is left as it was.

    Raises:
        TypeError: no token embedding, no list of blocks, or a block whose parts cannot be told apart.
        NonFiniteError: hidden states are NaN or infinite.
    """
    known = _KNOWN.get(model)
    if known is None:
        with evaluating(model):
            known = _KNOWN[model] = _find(model)
    return known


def _find(model: nn.Module) -> Decoder:
    embedding = _embedding(model)
    ids = torch.arange(PROBE, device=embedding.weight.device)[None] % embedding.num_embeddings
    calls = watch(model, lambda: model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False))
    blocks = _blocks(model, calls)
    _require_causal(model, ids, blocks)
    parts = [_parts(call) for call in blocks]
    names = {module: name for name, module in model.named_modules()}
    hidden = blocks[0].source
    if hidden is None:
        raise AssertionError("blocks were chosen by their tensors")
    return Decoder(
        ref(model),
        names[embedding],
        tuple(call.name for call in blocks),
        tuple(names[attention] for attention, _, _ in parts),
        tuple(names[mlp] for _, mlp, _ in parts),
        tuple(None if down is None else names[down] for _, _, down in parts),
        hidden.shape[-1],
        tuple(len(call.output) if isinstance(call.output, tuple) else 0 for call in blocks),
    )


def _embedding(model: nn.Module) -> Any:
    get = getattr(model, "get_input_embeddings", None)
    embedding = get() if callable(get) else None
    if getattr(embedding, "num_embeddings", None) is None:
        raise TypeError(
            f"got a {type(model).__name__} without a token embedding; expected a causal language model of transformers"
        )
    return embedding


def watch(model: nn.Module, run: Any) -> list[_Call]:
    """Run something and list every call of a module inside `model`, in the order in which they return."""
    calls: list[_Call] = []
    with ExitStack() as stack:
        for name, module in model.named_modules():
            hook = _listener(name, calls)
            stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        with torch.no_grad():
            run()
    return calls


def _listener(name: str, calls: list[_Call]) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        result = first_of(output)
        # a copy, for some blocks add to what a part gave in place
        calls.append(_Call(name, module, args, kwargs, output, None if result is None else result.clone()))

    return hook


def _blocks(model: nn.Module, calls: list[_Call]) -> list[_Call]:
    """Choose the list of modules that pass `(1, t, d)` on, each called once; the largest of them."""
    by_module: dict[nn.Module, list[_Call]] = {}
    for call in calls:
        by_module.setdefault(call.module, []).append(call)
    lists: list[list[_Call]] = []
    for module in model.modules():
        if not isinstance(module, (nn.ModuleList, nn.Sequential)):
            continue
        found = [by_module.get(entry, []) for entry in module]
        single = [entry[0] for entry in found if len(entry) == 1]
        if found and len(single) == len(found) and all(_passes_on(call) for call in single):
            lists.append(single)
    if not lists:
        raise TypeError(
            f"got a {type(model).__name__}, in which no list of modules hands hidden states on; expected a decoder "
            "whose blocks are in an nn.ModuleList, each used once"
        )
    return max(lists, key=lambda entries: sum(p.numel() for call in entries for p in call.module.parameters()))


def _passes_on(call: _Call) -> bool:
    source, result = call.source, call.result
    return source is not None and result is not None and source.ndim == 3 and source.shape == result.shape


def _require_causal(model: nn.Module, ids: Tensor, blocks: list[_Call]) -> None:
    """Raise when a later token changes an earlier hidden state: an encoder, or a decoder that is run as one."""
    other = ids.clone()
    other[0, -1] = (other[0, -1] + 1) % (int(ids.max()) + 1)
    with watched_outputs(blocks[-1].module) as seen:
        model(input_ids=other, attention_mask=torch.ones_like(ids), use_cache=False)
    before, after = blocks[-1].result, seen[-1]
    require_finite(after, "the hidden states of a few tokens; look for NaN in the weights")
    if before is None or not torch.allclose(before[:, :-1], after[:, :-1], rtol=1e-2, atol=1e-3):
        raise TypeError(
            f"got a {type(model).__name__}, in which later tokens change earlier hidden states; expected a causal "
            "language model"
        )


@contextmanager
def watched_outputs(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect a module's outputs inside the block."""
    seen: list[Tensor] = []

    def hook(_: nn.Module, __: Any, output: Any) -> None:
        tensor = first_of(output)
        if tensor is not None:
            seen.append(tensor)

    handle = module.register_forward_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()


def _parts(block: _Call) -> tuple[nn.Module, nn.Module, nn.Module | None]:
    """Return where attention and MLP give their outputs, and the MLP's last linear map.

    Raises:
        TypeError: there is no such pair.
    """
    source = block.source
    if source is None:
        raise AssertionError("blocks were chosen by their tensors")
    other = source.clone()
    other[:, :-1] = other[:, :-1].flip(-1) + 1
    plain = watch(block.module, lambda: _again(block, source, source))
    moved = watch(block.module, lambda: _again(block, source, other))
    inner = [(a, b) for a, b in zip(plain, moved, strict=True) if a.name and _gives(a, source.shape[-1])]
    attention = _outermost([a for a, b in inner if _mixes(a, b) and _matrices(a.module)])
    mixing = {module for call in attention for module in call.module.modules()}
    rest = _outermost([a for a, _ in inner if a.module not in mixing and _matrices(a.module)])
    rest = [call for call in rest if not any(m in mixing for m in call.module.modules())]
    if not attention or not rest:
        raise TypeError(
            f"got the block {block.name} ({type(block.module).__name__}), in which no "
            f"{'MLP' if attention else 'attention'} was found; expected attention and an MLP that add to the hidden "
            "states"
        )
    mixer, mlp = attention[-1].module, rest[-1].module
    down = _last_linear(mlp, plain, source.shape[-1])
    return _last_linear(mixer, plain, source.shape[-1]) or mixer, down or mlp, down


def _again(block: _Call, source: Tensor, new: Tensor) -> Any:
    args = tuple(new if value is source else value for value in block.args)
    kwargs = {name: new if value is source else value for name, value in block.kwargs.items()}
    return block.module(*args, **kwargs)


def _gives(call: _Call, d: int) -> bool:
    result = call.result
    return result is not None and result.ndim in (2, 3) and result.shape[-1] == d


def _mixes(plain: _Call, moved: _Call) -> bool:
    """Tell whether the last position's output changed although its input did not."""
    inputs, outputs = (plain.source, moved.source), (plain.result, moved.result)
    if any(t is None or t.ndim < 2 for t in (*inputs, *outputs)):
        return False
    (x, y), (u, v) = ([t[..., -1, :] for t in pair if t is not None] for pair in (inputs, outputs))
    return torch.equal(x, y) and not torch.allclose(u, v, rtol=1e-5, atol=0)


def _matrices(module: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in module.parameters())


def _outermost(calls: list[_Call]) -> list[_Call]:
    inside = {m for call in calls for m in call.module.modules() if m is not call.module}
    return [call for call in calls if call.module not in inside]


def _last_linear(part: nn.Module, calls: list[_Call], d: int) -> nn.Module | None:
    """Return the matrix that a part ends with; None where it has stacked matrices, of experts, or ends otherwise."""
    if any(parameter.ndim > 2 for parameter in part.parameters()):
        return None
    own = set(part.modules())
    linear = [c for c in calls if c.module in own and getattr(getattr(c.module, "weight", None), "ndim", 0) == 2]
    return linear[-1].module if linear and _gives(linear[-1], d) else None


def first_of(value: Any) -> Tensor | None:
    """Return the first tensor of floating point among a module's arguments or outputs."""
    if isinstance(value, Tensor):
        return value if value.is_floating_point() else None
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return next((tensor for entry in entries if (tensor := first_of(entry)) is not None), None)
