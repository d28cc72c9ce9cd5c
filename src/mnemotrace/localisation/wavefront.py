r"""Every restoration at one token in one pass over the blocks: a batch that grows and splits as it goes.

A restoration puts the clean value back at one token: the state after a block, or what attention or the MLP gives in
some blocks in a row. Before its first block it is the corrupted run, and tokens before it never change. So all
restorations at one token ride in one batch over the columns from that token on. A restoration joins the batch where
it begins; those that begin together are one run until the first of them ends. The numbers are those of one forward
pass a restoration, up to the rounding of another order of summation.

Cost: for states `L (L - 1) / 2` blocks over `T - t` columns, against `L^2` blocks over `T` columns. Memory: hidden
states of at most `L` restorations times draws, `T - t` columns each, and the inside of one block for `max_rows` rows.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.adapters.hooks import patch
from mnemotrace.adapters.replay import Suffix


class Span(NamedTuple):
    """Blocks `start` up to, not including, `end` in which a module's output is put back; none for a state alone."""

    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Restored:
    """What restorations at one token put there.

    Attributes:
        states: `(L + 1, d)`: what the token's state is where a restoration begins; None leaves it corrupted.
        modules: names, one a layer, of the modules whose outputs are put back within spans.
        values: `(L, 1 or draws, d)`: what these modules give there.
    """

    states: Tensor | None = None
    modules: Sequence[str] = ()
    values: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Place:
    """Corrupted runs, from the token on where something is put back.

    Attributes:
        suffix: columns from that token on, one row a draw of noise.
        tail: of the same runs, the columns that are wanted.
        max_rows: rows that go through a block at once.
    """

    suffix: Suffix
    tail: Suffix
    max_rows: int

    @property
    def draws(self) -> int:
        """Rows of a run."""
        return len(self.suffix.kept.input_ids)

    @property
    def layers(self) -> int:
        """Blocks of the network."""
        return self.suffix.kept.decoder.layers


def wavefront(
    place: Place, spans: Sequence[Span], restored: Restored
) -> tuple[list[list[int]], Float[Tensor, "n t d"]]:
    """Run restorations at one token.

    Args:
        place: the corrupted runs and the token.
        spans: one a restoration; it begins before block `start`.
        restored: what is put back.

    Returns:
        runs: indices of the restorations that each run stands for.
        hidden: after the last block, at the columns of the tail, `draws` rows a run.
    """
    runs: list[list[int]] = []
    hidden = place.suffix.hidden(0)[:0]
    for layer in range(place.layers + 1):
        born = [index for index, span in enumerate(spans) if span.start == layer]
        if born:
            runs.append(born)
            begun = _begun(place, restored.states, layer)
            hidden = torch.cat([hidden.to(begun.device), begun]) if len(runs) > 1 else begun
        runs, hidden = _split(runs, hidden, spans, layer)
        if runs and layer < place.layers:
            active = torch.tensor([spans[run[0]].end > layer for run in runs], device=hidden.device)
            hidden = _block(place, hidden, layer, active.repeat_interleave(place.draws), restored)
    return runs, hidden


def _begun(place: Place, states: Tensor | None, layer: int) -> Tensor:
    hidden = place.suffix.hidden(layer)
    if states is not None:
        hidden = hidden.clone()
        hidden[:, 0] = states[layer]
    return hidden if layer < place.layers else hidden[:, place.tail.start - place.suffix.start :]


def _split(runs: list[list[int]], hidden: Tensor, spans: Sequence[Span], layer: int) -> tuple[list[list[int]], Tensor]:
    """Let restorations that end here go their own way, as copies of the run that they were part of."""
    parted = [[entry for entry in run if spans[entry].end == layer] for run in runs]
    leaving = [index for index, over in enumerate(parted) if 0 < len(over) < len(runs[index])]
    if not leaving:
        return runs, hidden
    stay = [[e for e in run if e not in parted[i]] if i in leaving else run for i, run in enumerate(runs)]
    copies = hidden.unflatten(0, (len(runs), -1))[leaving].flatten(0, 1)
    return stay + [parted[index] for index in leaving], torch.cat([hidden, copies])


def _block(place: Place, hidden: Tensor, layer: int, active: Tensor, restored: Restored) -> Tensor:
    rows = torch.arange(place.draws, device=hidden.device).repeat(len(hidden) // place.draws)
    parts: list[Tensor] = []
    for part, chosen, on in zip(*(each.split(place.max_rows) for each in (hidden, rows, active)), strict=True):
        if layer == place.layers - 1 and place.tail.start > place.suffix.start:
            # in the last block, what one token gives reaches no other one
            parts.append(place.suffix.last_block(part, place.tail, rows=chosen))
        else:
            with _putting(place, restored, layer, on, chosen):
                parts.append(place.suffix.blocks(part, layer, layer + 1, rows=chosen))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


@contextmanager
def _putting(place: Place, restored: Restored, layer: int, active: Tensor, rows: Tensor) -> Iterator[None]:
    """Overwrite what a module gives at the first column, in the rows that are within their span."""
    if restored.values is None or not active.any():
        yield
        return
    values = restored.values[layer].expand(place.draws, -1)[rows[active]]

    def put(output: Tensor) -> Tensor:
        output = output.clone()
        output.view(len(rows), -1, output.shape[-1])[active, 0] = values.to(output)
        return output

    with patch(place.suffix.kept.decoder.model, {restored.modules[layer]: on_first(put)}):
        yield


def on_first(change: Callable[[Tensor], Tensor]) -> Callable[[Any], Any]:
    """Apply a change to a module's output, or to the first entry of a tuple of outputs."""
    return lambda output: (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)
