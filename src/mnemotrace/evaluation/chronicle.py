"""Chronicle: the lives of concepts in a network while it trains - when each formed, how it drifted, what overwrote it.

`Chronicler` is a callback: called between optimiser steps, it extracts the engram of every concept that it watches
from the network as it is then, and measures it beside controls (`chronicler`). A `Chronicle` is what it wrote down.

For a concept at one time:

* `score`: what the network makes of it, on held-out examples;
* `necessity`: how much of that score goes when the engram is erased; `random`: the same for random traces of equal
  spectrum; `spared`: what erasing costs the other concepts;
* `norm`: size of the engram over the weights';
* `agreement`: cosine between the engrams of two halves of the stimuli, at one time: what drift can be told from;
* `overlap[s, t]`: cosine between the engrams of times s and t. Drift is one minus it, as far as it is below agreement.

A concept is *formed* at the first time at which its score has passed half way from its first to its highest value,
*overwritten* when it falls below that half again, and *formed again* when it returns; a concept whose score never rises
by `LEAST` has no life. An engram is *proved* at a time when its necessity exceeds every random trace's, which happens
by chance at one time in `random + 1`.

Cost: none beyond the numbers. Reference for the engram: AI Engram (arXiv 2606.14997), which leaves following engrams
during training to future work.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mnemotrace.core.artifact import Artifact

MEASURES = ("score", "necessity", "random", "spared", "norm", "agreement")
LEAST = 0.1


@dataclass(frozen=True)
class Event:
    """Something that happened to a concept: `formed`, `overwritten` or `formed again`, at a step of the training."""

    concept: str
    what: str
    step: int


@dataclass(frozen=True, eq=False)
class Chronicle:
    """What was measured of each concept's engram at each time.

    Attributes:
        concepts: names.
        steps: of the training, at which was measured, rising.
        score: `(concepts, times)`, mean of the held-out scores.
        necessity: `(concepts, times)`, by how much that falls when the engram is erased.
        random: `(concepts, times)`, by how much it falls at most when one of the random traces is taken away.
        spared: `(concepts, times)`, by how much the mean score of the other concepts falls with the engram's erasure.
        norm: `(concepts, times)`, of the engram over that of the weights.
        agreement: `(concepts, times)`, cosine between engrams of two halves of the stimuli.
        overlap: `(concepts, times, times)`, cosine between engrams of two times.
        manifest: provenance.

    Raises:
        ValueError: tensors of other shapes.
    """

    concepts: tuple[str, ...]
    steps: tuple[int, ...]
    score: Tensor
    necessity: Tensor
    random: Tensor
    spared: Tensor
    norm: Tensor
    agreement: Tensor
    overlap: Tensor
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "chronicle"

    def __post_init__(self) -> None:
        """Check the shapes once."""
        shape = len(self.concepts), len(self.steps)
        for name in MEASURES:
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"got {name} of shape {tuple(getattr(self, name).shape)}; expected {shape}")
        if tuple(self.overlap.shape) != (*shape, shape[1]):
            raise ValueError(f"got overlap of shape {tuple(self.overlap.shape)}; expected {(*shape, shape[1])}")

    def events(self) -> list[Event]:
        """List what happened, concept by concept, in the order of time."""
        found: list[Event] = []
        for concept, score in zip(self.concepts, self.score.tolist(), strict=True):
            found += [Event(concept, what, self.steps[t]) for t, what in turns(score)]
        return found

    @property
    def proved(self) -> Tensor:
        """Whether erasing the engram cost more than any random trace did, `(concepts, times)` bool."""
        return self.necessity > self.random

    @property
    def drift(self) -> Tensor:
        """One minus the overlap with the time before, `(concepts, times - 1)`."""
        return 1 - self.overlap.diagonal(offset=1, dim1=1, dim2=2)

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        header = {"concepts": list(self.concepts), "steps": list(self.steps), "manifest": dict(self.manifest)}
        return Artifact(self.kind, header, {name: getattr(self, name) for name in (*MEASURES, "overlap")})

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Chronicle":
        """Rebuild from an artifact."""
        header = artifact.header
        return cls(tuple(header["concepts"]), tuple(header["steps"]), **artifact.tensors, manifest=header["manifest"])


def turns(score: list[float]) -> list[tuple[int, str]]:
    """Return the times at which a score crosses half way from its first to its highest value, and what that means.

    Args:
        score: at each time.

    Returns:
        Pairs of a time and `formed`, `overwritten` or `formed again`; none when it never rises by `LEAST`.
    """
    series = torch.tensor(score, dtype=torch.float64)
    if not len(series) or float(series.max() - series[0]) < LEAST:
        return []
    known = [bool(value) for value in series >= (series[0] + series.max()) / 2]
    found: list[tuple[int, str]] = []
    for t in range(1, len(known)):
        if known[t] and not known[t - 1]:
            found.append((t, "formed again" if found else "formed"))
        elif known[t - 1] and not known[t]:
            found.append((t, "overwritten"))
    return found
