r"""Edit after edit on one network, with guard rails: measure after each, stop and take back the one that went too far.

Three things are watched, each beside the network before the first edit: perplexity of given texts, the norm of the sum
of all changes beside the weight's, :math:`\|\sum_i \Delta_i\|_F / \|W\|_F`, and the growth of the weight's largest
singular value, :math:`\sigma_1(W + \sum_i \Delta_i) / \sigma_1(W)`, the worst site counting. Collapse shows in the
last two before it shows in text.

Each edit is a value, so any one can be left out afterwards: `course.without(i)` is the sum of the others, and a network
with that sum never had the edit in its weights. The later ones were found while it was there, however; find them again
if they must not know of it.

Cost beside the edits' own: one pass over the texts and one singular value decomposition a site and step.
"""

# torch.linalg has no types of its own
# pyright: reportUnknownMemberType=false

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mnemotrace.adapters.examples import Example, batches
from mnemotrace.adapters.facts import Fact
from mnemotrace.adapters.linear import weight_of
from mnemotrace.adapters.scores import perplexity, recall
from mnemotrace.core.applying import applied
from mnemotrace.core.edit import Edit
from mnemotrace.core.errors import NumericalWarning
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.progress import Progress, silent

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Method = Callable[[Sequence[Fact], Sequence[Edit]], Edit]
"""From the next facts and the edits so far, which are in the model, to the next edit."""


@dataclass(frozen=True)
class Guard:
    """How far a sequence of edits may go; None does not watch.

    Attributes:
        perplexity: largest ratio to the perplexity before the first edit, above 1.
        norm: largest norm of the sum of all changes, in units of the weight's.
        spectral: largest ratio of a weight's largest singular value to what it was, above 1.

    Raises:
        ValueError: a bound that is passed before anything is edited.
    """

    perplexity: float | None = 1.1
    norm: float | None = 0.5
    spectral: float | None = 1.5

    def __post_init__(self) -> None:
        """Check the bounds."""
        least = {"perplexity": 1.0, "norm": 0.0, "spectral": 1.0}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and not value > bound:
                raise ValueError(f"got {name}={value}; expected more than {bound:g}, or None to leave it unwatched")


@dataclass(frozen=True)
class Step:
    """What was measured after an edit.

    Attributes:
        facts: written so far, this edit's included.
        retained: share of these whose prompt gives the target; None where it was not asked.
        perplexity: ratio to before the first edit; None without texts.
        norm: of the sum of all changes, in units of the weight's, at the worst site.
        spectral: growth of the largest singular value, at the worst site.
    """

    facts: int
    retained: float | None
    perplexity: float | None
    norm: float
    spectral: float


@dataclass(frozen=True, eq=False)
class Course:
    """How a sequence went.

    Attributes:
        edits: in order; without the one that a guard took back.
        steps: one an edit, and one more when a guard stopped it.
        stopped: which guard, and why; None when all were made.
    """

    edits: tuple[Edit, ...]
    steps: tuple[Step, ...]
    stopped: str | None = None

    def total(self) -> Edit:
        """Add up all edits.

        Raises:
            ValueError: there is none.
        """
        return _summed(self.edits)

    def without(self, *indices: int) -> Edit:
        """Add up all edits but some, which undoes these.

        Raises:
            ValueError: no such edit, or none is left.
        """
        wrong = [i for i in indices if not 0 <= i < len(self.edits)]
        if wrong:
            raise ValueError(f"got edit {wrong[0]} of a sequence of {len(self.edits)}; expected 0 to that less one")
        return _summed([edit for i, edit in enumerate(self.edits) if i not in indices])


def in_sequence(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    parts: Sequence[Sequence[Fact]],
    method: Method,
    *,
    guard: Guard | None = None,
    texts: Sequence[Example] = (),
    every: int = 1,
    progress: Progress | None = None,
) -> Course:
    """Edit in sequence.

    Args:
        model: a causal language model; it has each edit while the next is found, and is left as it was, bit for bit.
        tokenizer: of the model.
        parts: the facts of each edit, with targets.
        method: makes an edit of facts, for the model with the earlier edits in it:
            `lambda facts, previous: mt.alphaedit(model, tokenizer, facts, previous=previous, ...)`.
        guard: where to stop; None goes on to the end.
        texts: whose perplexity is measured; needed when the guard watches it.
        every: after how many edits all facts so far are asked for; after the last one always.
        progress: called after each edit.

    Returns:
        The edits and what was measured. Stopping is no error.

    Raises:
        ValueError: nothing to edit, `every` below 1, or a guard of perplexity without texts.

    Warns:
        NumericalWarning: a guard stopped the sequence.
    """
    if not parts or every < 1:
        raise ValueError(f"got {len(parts)} parts and every={every}; expected at least one of each")
    if guard is not None and guard.perplexity is not None and not texts:
        raise ValueError("got a guard of perplexity and no texts; expected some, or perplexity=None")
    ready = batches(tokenizer, texts, batch_size=64) if texts else []
    before = perplexity(model, ready) if ready else None
    edits: list[Edit] = []
    steps: list[Step] = []
    written: dict[str, Fact] = {}
    with ExitStack() as stack:
        for done, facts in enumerate(parts, 1):
            edit = method(facts, tuple(edits))
            written |= {fact.prompt: fact for fact in facts}
            total = _summed([*edits, edit])
            norm, spectral = _growth(model, total, edits)
            with applied(model, edit):
                ratio = None if before is None else perplexity(model, ready) / before
                asked = done % every == 0 or done == len(parts)
                kept = retained(model, tokenizer, list(written.values())) if asked else None
            steps.append(Step(len(written), kept, ratio, norm, spectral))
            reason = _passed(guard, steps[-1])
            if reason is not None:
                warnings.warn(f"edit {done} of {len(parts)} was taken back: {reason}", NumericalWarning, stacklevel=2)
                return Course(tuple(edits), tuple(steps), reason)
            edits.append(edit)
            stack.enter_context(applied(model, edit))
            (progress or silent)(done, len(parts), "edits")
    return Course(tuple(edits), tuple(steps))


def retained(model: nn.Module, tokenizer: "PreTrainedTokenizerBase", facts: Sequence[Fact]) -> float:
    """Return the share of facts whose prompt gives the target."""
    asked = batches(tokenizer, [fact.asked(str(fact.target)) for fact in facts], batch_size=64)
    return float(recall(model, asked).mean())


def _growth(model: nn.Module, total: Edit, earlier: Sequence[Edit]) -> tuple[float, float]:
    """Return the norm of all changes and the growth of the largest singular value, at the worst site."""
    norms, growths = [0.0], [1.0]
    inside = [c for edit in earlier for c in edit.changes if isinstance(c, LowRank)]
    for change in total.changes:
        if not isinstance(change, LowRank):
            continue
        weight = weight_of(model, change.site, dtype=torch.float64)[:, : change.site.d]
        for old in inside:  # the model has them already
            if old.site.name == change.site.name:
                weight = weight - old.weight().to(weight)
        new = weight + change.weight().to(weight)
        norms.append(float((new - weight).norm() / weight.norm()))
        first, last = (float(torch.linalg.matrix_norm(w, 2)) for w in (weight, new))
        growths.append(last / first)
    return max(norms), max(growths)


def _passed(guard: Guard | None, step: Step) -> str | None:
    """Say which bound a step passed."""
    names: dict[str, Any] = {"perplexity": step.perplexity, "norm": step.norm, "spectral": step.spectral}
    for name, value in names.items():
        bound = getattr(guard, name, None)
        if bound is not None and not value <= bound:
            return f"{name} {value:.3g} above {bound:g}"
    return None


def _summed(edits: Sequence[Edit]) -> Edit:
    if not edits:
        raise ValueError("got no edit to add up; expected at least one; all were taken back or left out")
    return reduce(add, edits)
