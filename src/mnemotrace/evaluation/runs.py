"""Scores of memories and of what must be kept, under one edit after another; the model is given back after each."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mnemotrace.core.applying import applied
from mnemotrace.core.edit import Edit
from mnemotrace.core.errors import MnemotraceError
from mnemotrace.core.progress import Progress

Score = Callable[[nn.Module, Any], Tensor]


class NotWrittenError(MnemotraceError, ValueError):
    """An edit that should write a memory does not, so that there is nothing to have criteria of."""


@dataclass(frozen=True, eq=False)
class Case:
    """One trace with the data that it is judged by.

    Attributes:
        trace: what the network with the memory has and the one without it lacks.
        target: what the score takes, of the memory.
        control: the same, of what must be kept.
    """

    trace: Edit
    target: Any
    control: Any


class Runs:
    """Scores of target and control data under one edit after another, over all cases."""

    def __init__(self, model: nn.Module, score: Score, cases: Sequence[Case], report: Progress, total: int) -> None:
        """Take what is to be scored; nothing runs yet."""
        self.model, self.score, self.cases, self.report, self.total = model, score, cases, report, total
        self.scores: dict[str, dict[str, Tensor]] = {"target": {}, "control": {}}
        self.done = 0

    def measure(self, name: str, edits: Iterable[Edit | None]) -> None:
        """Score every case under an edit of its own, and keep the scores of all under a name."""
        found: dict[str, list[Tensor]] = {side: [] for side in self.scores}
        for case, edit in zip(self.cases, edits, strict=True):
            with nullcontext() if edit is None else applied(self.model, edit):
                for side, data in (("target", case.target), ("control", case.control)):
                    found[side].append(self._score(data, name, side))
                    self.done += 1
                    self.report(self.done, self.total, "scores")
        for side, parts in found.items():
            self.scores[side][name] = torch.cat(parts)

    def _score(self, data: Any, name: str, side: str) -> Tensor:
        scores = scores_of(self.score(self.model, data), side)
        if not bool(torch.isfinite(scores).all()):
            raise ValueError(f"got non-finite scores of {side} ({name}); expected finite numbers; bound the score")
        return scores

    def average(self, name: str, draws: int) -> None:
        """Replace the scores `name0`, `name1`, ... by their mean `name`."""
        for by in self.scores.values():
            by[name] = torch.stack([by.pop(f"{name}{i}") for i in range(draws)]).mean(0)

    def require_above(self, chance: float, side: str) -> None:
        """Refuse data that the untouched network scores no better on than a guesser."""
        base = float(self.scores[side]["untouched"].mean())
        if base <= chance:
            raise ValueError(
                f"got a {side} score of {base:.3f} before any edit, at or below chance ({chance}); expected a "
                "memory that the network has; check the data and the score"
            )

    def require_written(self, chance: float) -> None:
        """Refuse edits with which the network scores no better than a guesser."""
        base = float(self.scores["target"]["written"].mean())
        if base <= chance:
            raise NotWrittenError(
                f"got a target score of {base:.3f} with the edit, at or below chance ({chance}); expected an edit that "
                "writes the memory; check that it was made for this network, or leave `writes` out if it erases"
            )

    def table(self, side: str, *names: str) -> Tensor:
        """Return the scores of one side under these names as columns."""
        return torch.stack([self.scores[side][name] for name in names], 1)


def scores_of(scores: Any, what: str) -> Tensor:
    """Return what a score gave, `(n,)` in float64 on the CPU.

    Raises:
        ValueError: no number for each example.
    """
    scores = torch.as_tensor(scores).detach().double().cpu()
    if scores.ndim != 1 or len(scores) == 0:
        raise ValueError(f"got scores of shape {tuple(scores.shape)} for {what}; expected (n,), one an example")
    return scores
