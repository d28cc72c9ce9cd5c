"""Judge groups of examples that nobody named: an engram of each, and the four criteria by the network's own word.

Without labels nobody knows the right answer, but it is known what the network said before anything was changed. Its
score of an example is the probability that it gives, under an edit, to what it answered untouched; at the last position
that counts where there are several. A guesser over `c` answers scores `1 / c`. Engrams come from some examples, the
criteria from others.

Cost: a pass over the examples for their statistics; for each group `6 + 4 draws` passes over those that judge.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mnemotrace.adapters.hooks import evaluating, forward
from mnemotrace.adapters.outputs import tensor_of
from mnemotrace.adapters.rows import last_of
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.site import Site
from mnemotrace.core.trace import Engram
from mnemotrace.evaluation.criteria import Criteria, criteria
from mnemotrace.localisation.engram import engram
from mnemotrace.stats.collect import collect, mask_of
from mnemotrace.stats.moments import Statistics

BATCH = 512
LEAST = 8


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs of a network, of which rows can be taken.

    Attributes:
        inputs: `(n, ...)`, or a mapping of such, which the network is called with by keyword.
        last: whether only the last position that counts of each example matters.
    """

    inputs: Tensor | Mapping[str, Tensor]
    last: bool = False

    @classmethod
    def of(cls, inputs: Any, *, last: bool) -> "Examples":
        """Take a tensor, a mapping of tensors, or a list of batches of either; masked batches are padded at the end.

        Raises:
            TypeError: something else.
        """
        batches: list[Any] = [inputs] if isinstance(inputs, (Tensor, Mapping)) else list(inputs)
        if batches and all(isinstance(batch, Tensor) for batch in batches):
            return cls(torch.cat(batches), last)
        if batches and all(isinstance(batch, Mapping) for batch in batches):
            masked = "attention_mask" in batches[0]
            return cls({key: _joined([batch[key] for batch in batches], pad=masked) for key in batches[0]}, last)
        raise TypeError(
            f"got inputs of type {type(batches[0] if batches else inputs).__name__}; expected a tensor (n, ...), a "
            "mapping of such, or a list of batches of either; tuples have no rows to choose: give a mapping"
        )

    def __len__(self) -> int:
        """Count the examples."""
        return len(self.inputs if isinstance(self.inputs, Tensor) else next(iter(self.inputs.values())))

    def take(self, rows: Int[Tensor, " m"]) -> "Examples":
        """Return some of the examples."""
        if isinstance(self.inputs, Tensor):
            return Examples(self.inputs[rows], self.last)
        return Examples({key: tensor[rows] for key, tensor in self.inputs.items()}, self.last)

    def batches(self) -> Iterator[Any]:
        """Yield the examples, some hundreds at a time."""
        for rows in torch.arange(len(self)).split(BATCH):
            yield self.take(rows).inputs

    def mask(self) -> Callable[[Any], Tensor] | None:
        """Return which positions of a batch count: None for those that the network is told to look at."""
        return _last_of if self.last else None


def _joined(parts: Sequence[Tensor], *, pad: bool) -> Tensor:
    longest = max(part.shape[-1] for part in parts)
    return torch.cat([nn.functional.pad(part, (0, longest - part.shape[-1])) if pad else part for part in parts])


def _last_of(batch: Any) -> Tensor:
    """Mark the last position that counts of each example."""
    counted = mask_of(batch, None)
    if counted is None:
        tensor = batch if isinstance(batch, Tensor) else next(iter(batch.values()))
        if tensor.ndim != 2 or tensor.is_floating_point():  # noqa: PLR2004
            raise ValueError(
                f"got inputs {tuple(tensor.shape)} of {tensor.dtype} without an attention_mask; expected token ids "
                '(n, t), of which the last is taken; give a mask, or reduce="max" or "mean"'
            )
        counted = torch.ones_like(tensor, dtype=torch.bool)
    places = torch.arange(counted.shape[1], device=counted.device)
    return places == last_of(counted)[:, None]


def answers(model: nn.Module, examples: Examples) -> Float[Tensor, "n c"]:
    """Return the log probabilities of the network's answers, float32; of sequences, at the last position that counts.

    Raises:
        ValueError: an output that is no `(b, c)` and no `(b, t, c)`.
        NonFiniteError: NaN or infinity.
    """
    found: list[Tensor] = []
    with evaluating(model):
        for batch in examples.batches():
            output = tensor_of(forward(model, batch))
            if output.ndim == 3:  # noqa: PLR2004
                output = output[_last_of(batch).to(output.device)]
            if output.ndim != 2:  # noqa: PLR2004
                raise ValueError(
                    f"got an output of shape {tuple(output.shape)}; expected (b, classes) or (b, t, words), scores of "
                    "answers; a network without answers cannot be asked what it would have said"
                )
            require_finite(output, "the output")
            found.append(output.float().log_softmax(1).cpu())
    return torch.cat(found)


def own_word(model: nn.Module, data: tuple[Examples, Int[Tensor, " n"]]) -> Float[Tensor, " n"]:
    """Score examples: the probability that the network gives to an answer, its own before any edit."""
    examples, said = data
    return answers(model, examples).gather(1, said[:, None])[:, 0].exp()


@dataclass(frozen=True, eq=False)
class Bench:
    """All that groups of examples are judged with.

    Attributes:
        model: the network.
        examples: all of them.
        said: `(n,)`, what it answered to each.
        judge: `(n,)`, which examples judge; engrams come from the others.
        chance: score of a guesser.
        sites: maps that engrams are of; None for all.
        solve: selectivity, solver and `rcond` of `mt.engram`.
        judged: strength, draws and resamples of `mt.criteria`.
    """

    model: nn.Module
    examples: Examples
    said: Int[Tensor, " n"]
    judge: Bool[Tensor, " n"]
    chance: float
    sites: Mapping[str, Site] | None
    solve: Mapping[str, Any]
    judged: Mapping[str, Any]

    def engrams(self, members: Bool[Tensor, "n k"], kept: Bool[Tensor, " n"]) -> list[Engram | None]:
        """Extract an engram of each column of members, with the others that are kept as reference.

        Groups that share no example are passed through the network once. None where a group or its reference has
        fewer than eight examples.
        """
        mine = members & ~self.judge[:, None]
        rest = (kept & ~self.judge)[:, None] & ~members
        usable = [k for k in range(mine.shape[1]) if min(int(side[:, k].sum()) for side in (mine, rest)) >= LEAST]
        some = {k: self._statistics(mine[:, k]) for k in usable}
        disjoint = len(usable) == mine.shape[1] and bool((mine.sum(1) <= 1).all())
        found: list[Engram | None] = [None] * mine.shape[1]
        for k in usable:
            others = [some[j] for j in usable if j != k]
            reference = reduce(add, others) if disjoint else self._statistics(rest[:, k])
            found[k] = engram(self.model, target=some[k], reference=reference, **self.solve)
        return found

    def criteria(
        self,
        trace: Engram,
        member: Bool[Tensor, " n"],
        kept: Bool[Tensor, " n"],
        generator: torch.Generator,
    ) -> Criteria | str:
        """Measure the four criteria of an engram on examples that it was not made from; the reason where that fails."""
        target, control = (self._data(side & self.judge) for side in (member, kept & ~member))
        few = min(len(target[0]), len(control[0]))
        if few < LEAST:
            return f"{few} examples to judge by; {LEAST} are needed"
        options = {"score": own_word, "chance": self.chance, "generator": generator, **self.judged}
        try:
            return criteria(self.model, trace, target=target, control=control, **options)
        except ValueError as error:
            return str(error)

    def _data(self, chosen: Tensor) -> tuple[Examples, Tensor]:
        rows = chosen.nonzero()[:, 0]
        return self.examples.take(rows), self.said[rows]

    def _statistics(self, chosen: Tensor) -> Statistics:
        examples = self.examples.take(chosen.nonzero()[:, 0])
        return collect(self.model, examples.batches(), sites=self.sites, mask=examples.mask())
