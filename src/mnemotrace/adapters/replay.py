r"""Run a part of a causal language model again, exactly: some columns of a batch, from some block on.

A column's hidden states depend only on columns before it. So once a batch has been run (`keep`), a change that begins
at column `s` and block `l` needs only blocks `l..` over columns `s..`, with the kept keys and values of the columns
before. The numbers are those of a full forward pass up to the rounding of another order of summation. The network
itself builds masks and position embeddings and runs its own head, so nothing here knows an architecture.

Cost: `(T - s) / T * (L - l) / L` of a forward pass a row. Memory: hidden states of all blocks and the keys and values
of the kept rows.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from mnemotrace.adapters.decoder import PROBE, Decoder, first_of
from mnemotrace.adapters.hooks import evaluating
from mnemotrace.core.linalg import require_finite

TOLERANCE = 1e-2  # a wrong mask or position is off by far more; half precision by less
_CHECKED: "WeakSet[Decoder]" = WeakSet()


class _Hidden:
    """Stands for the hidden states in a block's arguments."""


class _Cache:
    """Stands for keys and values in a block's arguments."""


@dataclass(frozen=True, eq=False)
class Kept:
    """A batch that was run once.

    Attributes:
        decoder: of the network.
        input_ids: `(b, t)`.
        attention_mask: `(b, t)`, 1 where there is a token; None where there is no padding.
        hidden: `(b, t, d)` before each block, and after the last one: one more than there are blocks.
        keys_values: keys and values by layer, each `(b, heads, t, width)`.
    """

    decoder: Decoder
    input_ids: Tensor
    attention_mask: Tensor | None
    hidden: tuple[Tensor, ...]
    keys_values: tuple[tuple[Tensor, Tensor], ...]

    def suffix(self, start: int) -> "Suffix":
        """Prepare to run columns `start..` again.

        Raises:
            ValueError: no such column.
        """
        if not 0 <= start < self.input_ids.shape[1]:
            raise ValueError(f"got start={start}; expected a column of {self.input_ids.shape[1]}")
        calls: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        cache = _filled(self.keys_values, start)

        def note(layer: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
            hidden = first_of((*args, *kwargs.values()))
            if hidden is None:
                raise AssertionError("blocks were chosen by their tensors")
            stand = lambda v: _Hidden if v is hidden else _Cache if v is cache else v  # noqa: E731
            calls[layer] = tuple(map(stand, args)), {name: stand(value) for name, value in kwargs.items()}
            return hidden

        inputs = _inputs(self.decoder, self.input_ids, self.attention_mask, start)
        with evaluating(self.decoder.model), replaced_blocks(self.decoder, note), replaced_head(self.decoder):
            self.decoder.model(**inputs, past_key_values=cache)
        return Suffix(self, start, calls)


@dataclass(frozen=True, eq=False)
class Suffix:
    """Columns `start..` of a kept batch, ready to be run again.

    Attributes:
        kept: the batch.
        start: first column.
    """

    kept: Kept
    start: int
    _calls: Mapping[int, tuple[tuple[Any, ...], dict[str, Any]]]

    def hidden(self, layer: int) -> Tensor:
        """Return `(b, t - start, d)`: what block `layer` was given; for one past the last block, what that one gave."""
        return self.kept.hidden[layer][:, self.start :]

    def blocks(self, hidden: Tensor, first: int, last: int | None = None, *, rows: Tensor | None = None) -> Tensor:
        """Run blocks `first` up to, not including, `last`; gradients flow if they are on.

        Args:
            hidden: `(n, t - start, d)` before block `first`.
            first: first block.
            last: one past the last block; None for all.
            rows: `(n,)` int64, which kept row each row goes on from; None when they are the kept rows in order.
                Forward hooks of modules (`adapters.hooks.patch`) act as in a normal pass.

        Returns:
            `(n, t - start, d)` after the last of these blocks.
        """
        for layer in range(first, self.kept.decoder.layers if last is None else last):
            hidden = self._block(layer, hidden, self._prefix(layer, rows), rows)
        return hidden

    def last_block(self, hidden: Tensor, tail: "Suffix", *, rows: Tensor | None = None) -> Tensor:
        """Run the last block for the columns of a later suffix only: of those before, it needs keys and values alone.

        Args:
            hidden: `(n, t - start, d)` before the last block.
            tail: of the same batch, not beginning before this one.
            rows: as in `blocks`.

        Returns:
            `(n, t - tail.start, d)` after the last block.
        """
        layer, ahead = self.kept.decoder.layers - 1, tail.start - self.start
        if not ahead:
            return self.blocks(hidden, layer, rows=rows)
        prefix = self._prefix(layer, rows, stop=True)
        with suppress(_Enough):
            self._block(layer, hidden, prefix, rows)
        keys, values = (tensor[:, :, : tail.start] for tensor in prefix.seen)
        return tail._block(layer, hidden[:, ahead:], _Prefix(keys, values), rows)

    def _prefix(self, layer: int, rows: Tensor | None, *, stop: bool = False) -> "_Prefix":
        kept = (tensor[:, :, : self.start] for tensor in self.kept.keys_values[layer])
        keys, values = (tensor if rows is None else tensor[rows] for tensor in kept)
        return _Prefix(keys, values, stop=stop)

    def _block(self, layer: int, hidden: Tensor, prefix: "_Prefix", rows: Tensor | None) -> Tensor:
        args, kwargs = self._calls[layer]
        fill = self._filler(hidden, prefix, rows)
        output = self.kept.decoder.block(layer)(*map(fill, args), **{k: fill(v) for k, v in kwargs.items()})
        found = first_of(output)
        if found is None:
            raise AssertionError("blocks were chosen by their tensors")
        return found

    def _filler(self, hidden: Tensor, prefix: "_Prefix", rows: Tensor | None) -> Callable[[Any], Any]:
        def fill(value: Any) -> Any:
            if value is _Hidden:
                return hidden
            if value is _Cache:
                return prefix
            if isinstance(value, tuple):
                return tuple(map(fill, value))
            return _rows_of(value, rows, len(self.kept.input_ids)) if isinstance(value, Tensor) else value

        return fill


def keep(decoder: Decoder, input_ids: Tensor, attention_mask: Tensor | None = None) -> Kept:
    """Run a batch once and keep what running parts of it again needs.

    Args:
        decoder: of the network, from `decoder(model)`.
        input_ids: `(b, t)`.
        attention_mask: `(b, t)`, 1 where there is a token; padding may be on either side.

    Raises:
        TypeError: the network cannot be replayed: it keeps more of the past than keys and values.
        NonFiniteError: a hidden state is NaN or infinite.
    """
    _require_replay(decoder)
    return _keep(decoder, input_ids, attention_mask)


def _require_replay(decoder: Decoder) -> None:
    """Compare a replayed part with the whole on a few tokens, once a network."""
    if decoder in _CHECKED:
        return
    embedding: Any = decoder.model.get_submodule(decoder.embedding)
    device = next(decoder.model.parameters()).device
    ids = torch.arange(2 * PROBE, device=device).view(2, PROBE).flip(1) % embedding.num_embeddings
    reason = "its blocks hand on more than hidden states, keys and values"
    try:
        kept = _keep(decoder, ids, None)
        suffix, rows = kept.suffix(PROBE // 2 - 1), torch.tensor([1, 0, 1], device=device)
        with evaluating(decoder.model):
            again = suffix.blocks(suffix.hidden(1)[rows], 1, rows=rows)
            read = logits(decoder, kept.hidden[-1])
            whole = decoder.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    except (TypeError, AttributeError, IndexError, RuntimeError, NotImplementedError) as error:
        raise TypeError(_no_replay(decoder, f"{reason} ({error})")) from error
    for mine, theirs in ((again, suffix.hidden(decoder.layers)[rows]), (read, whole)):
        require_finite(theirs, "what the network gives for a few tokens; look for NaN in the weights")
        off = float((mine - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30))
        if not off <= TOLERANCE:
            raise TypeError(_no_replay(decoder, f"{reason} (a part run again is off by {off:.1e})"))
    _CHECKED.add(decoder)


def _no_replay(decoder: Decoder, reason: str) -> str:
    return (
        f"got a {type(decoder.model).__name__}, parts of which cannot be run again: {reason}; expected a transformer "
        "whose only memory of earlier tokens is keys and values"
    )


def _keep(decoder: Decoder, input_ids: Tensor, attention_mask: Tensor | None) -> Kept:
    from transformers import DynamicCache

    if attention_mask is not None and bool(attention_mask.all()):
        attention_mask = None
    cache: Any = DynamicCache()
    hidden: list[Tensor] = []
    blocks = [decoder.block(layer) for layer in range(decoder.layers)]
    handles: list[Any] = []

    def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found = first_of((*args, *kwargs.values()))
        if found is not None:
            hidden.append(found)

    def after(_: Any, __: Any, output: Any) -> None:
        found = first_of(output)
        if found is not None:
            hidden.append(found)

    try:
        handles.extend(block.register_forward_pre_hook(before, with_kwargs=True) for block in blocks)
        handles.append(blocks[-1].register_forward_hook(after))
        with evaluating(decoder.model), replaced_head(decoder):
            decoder.model(**_inputs(decoder, input_ids, attention_mask, 0), past_key_values=cache, use_cache=True)
    finally:
        for handle in handles:
            handle.remove()
    require_finite(hidden[-1], "the last hidden states; look for NaN in the weights or the inputs")
    pairs = tuple((entry.keys, entry.values) for entry in cache.layers)
    return Kept(decoder, input_ids, attention_mask, tuple(hidden), pairs)


def logits(decoder: Decoder, hidden: Tensor) -> Tensor:
    """Turn hidden states after the last block into logits `(n, t, v)` as the network does, scaling and caps too."""

    def give(layer: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        return hidden

    ids = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
    with replaced_blocks(decoder, give):
        return decoder.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits


@contextmanager
def replaced_blocks(
    decoder: Decoder, instead: Callable[[int, tuple[Any, ...], dict[str, Any]], Tensor]
) -> Iterator[None]:
    """Call `instead(layer, args, kwargs)` in place of every block; the blocks are back afterwards."""
    own: list[tuple[Any, Any]] = []
    try:
        for layer in range(decoder.layers):
            block = decoder.block(layer)
            own.append((block, block.__dict__.get("forward")))
            block.forward = _stand_in(layer, instead, decoder.outputs[layer])
        yield
    finally:
        for block, forward in own:
            if forward is None:
                del block.forward
            else:
                block.forward = forward


@contextmanager
def replaced_head(decoder: Decoder) -> Iterator[None]:
    """Leave the vocabulary head out inside the block, where nobody reads its logits."""
    get = getattr(decoder.model, "get_output_embeddings", None)
    head: Any = get() if callable(get) else None
    if head is None:
        yield
        return
    own = head.__dict__.get("forward")
    head.forward = lambda hidden, *_, **__: hidden[..., :1]
    try:
        yield
    finally:
        if own is None:
            del head.forward
        else:
            head.forward = own


def _stand_in(layer: int, instead: Callable[..., Tensor], size: int) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        hidden = instead(layer, args, kwargs)
        return (hidden, *(None,) * (size - 1)) if size else hidden

    return forward


class _Enough(BaseException):
    """Leaves a block once its keys and values are known; no `except Exception` on the way catches it."""


class _Prefix:
    """Keys and values of the columns before, put in front of those of the columns that are run again."""

    is_compileable = False

    def __init__(self, keys: Tensor, values: Tensor, *, stop: bool = False) -> None:
        self.seen, self._stop = (keys, values), stop

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Return all columns' keys and values for the rows that are run."""
        own = keys, values
        joined = (torch.cat(pair, -2) if pair[0].shape[-2] else pair[1] for pair in zip(self.seen, own, strict=True))
        first, second = joined
        if self._stop:
            self.seen = first, second
            raise _Enough
        return first, second

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return how many columns are kept."""
        return self.seen[0].shape[-2]


def _filled(keys_values: tuple[tuple[Tensor, Tensor], ...], start: int) -> Any:
    from transformers import DynamicCache

    cache = DynamicCache()
    for layer, (keys, values) in enumerate(keys_values):
        cache.update(keys[:, :, :start], values[:, :, :start], layer)
    return cache


def _rows_of(value: Tensor, rows: Tensor | None, b: int) -> Tensor:
    """Give an argument of a block the rows that are run: those with one row serve all, stacked heads go row by row."""
    if rows is None or value.ndim < 2 or (value.ndim == 2 and value.is_floating_point()):
        return value
    if value.shape[0] == b:
        return value.expand(len(rows), *value.shape[1:]) if b == 1 else value[rows]
    if value.ndim == 3 and value.shape[0] % b == 0:
        return value.unflatten(0, (b, -1))[rows].flatten(0, 1)
    return value


def _inputs(decoder: Decoder, input_ids: Tensor, attention_mask: Tensor | None, start: int) -> dict[str, Tensor]:
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    inputs = {"input_ids": input_ids[:, start:], "attention_mask": mask}
    if attention_mask is not None and "position_ids" in inspect.signature(decoder.model.forward).parameters:
        inputs["position_ids"] = (attention_mask.cumsum(1) - 1).clamp(min=0)[:, start:]
    return inputs
