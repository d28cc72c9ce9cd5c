"""What a mind gives back when it is asked: what it asserts, where from, what it leaves open, what that cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Source = Literal["episode", "schema", "graph"]
Mode = Literal["simulate", "graph"]
CRITERION = 0.5


@dataclass(frozen=True)
class Asserted:
    """One thing that is asserted.

    Attributes:
        value: of the attribute.
        confidence: above the criterion, which is even odds, up to 1.
        source: `episode`, a trace of the hippocampus; `schema`, the cortex filled it in; `graph`, a link.
    """

    value: str
    confidence: float
    source: Source


@dataclass(frozen=True)
class Remembered:
    """What a recall gave.

    Attributes:
        asserted: by attribute, above the criterion of confidence; never what the cue said itself.
        open: attributes of which nothing is asserted.
        handle: of the memory that the cue found; None where none fits it.
        mode: `simulate` settles a state and samples; `graph` follows links.
        evaluations: states that were denoised.
        sampler_calls: times a sampler ran.
        compared: traces that the cue was compared with.
    """

    asserted: Mapping[str, Asserted]
    open: tuple[str, ...]
    handle: int | None
    mode: Mode
    evaluations: int
    sampler_calls: int
    compared: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as a log holds them."""
        return {
            "asserted": {name: [a.value, a.confidence, a.source] for name, a in self.asserted.items()},
            "open": list(self.open),
            "handle": self.handle,
            "mode": self.mode,
            "evaluations": self.evaluations,
            "sampler_calls": self.sampler_calls,
            "compared": self.compared,
        }
