"""Events: what is the case at a time, how it feels, and what it says about causes.

An event is plain values, so a story is a list of them and a log can hold them. What an event says of the world's
attributes is perceived and remembered; what it says of causal variables (`evidence`) goes to the beliefs; `explains` is
the reading that the one who lives it gives it at the time, and which may be revised later.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes:
        id: its name in the story.
        time: in days; a night lies between a day and the next.
        attributes: the value of each attribute that it says, at least one.
        valence: from -1, bad, to 1, good.
        arousal: from 0, calm, to 1; what moves is encoded more precisely and replayed more often.
        evidence: the state of each causal variable that it shows.
        do: causal variables that were set from outside.
        explains: by effect, the causes that it was put down to.
        about: id of an earlier event that this one tells again: that memory is retrieved and can change.
        note: a sentence for the reader.
    """

    id: str
    time: float
    attributes: Mapping[str, str]
    valence: float = 0.0
    arousal: float = 0.0
    evidence: Mapping[str, str] = field(default_factory=dict[str, str])
    do: tuple[str, ...] = ()
    explains: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    about: str | None = None
    note: str = ""

    def __post_init__(self) -> None:
        """Check ranges, and that explanations and interventions speak of what was seen."""
        if not self.id or not self.attributes:
            raise ValueError(f"got event {self.id!r} with {len(self.attributes)} attributes; expected an id and one")
        if not math.isfinite(self.time) or not -1 <= self.valence <= 1 or not 0 <= self.arousal <= 1:
            raise ValueError(
                f"got time={self.time}, valence={self.valence}, arousal={self.arousal} of event {self.id!r}; expected "
                "a finite time in days, a valence from -1 to 1 and an arousal from 0 to 1"
            )
        if self.about == self.id:
            raise ValueError(f"got event {self.id!r} about itself; expected the id of an earlier event, or None")
        object.__setattr__(self, "do", tuple(self.do))
        object.__setattr__(self, "explains", {e: tuple(causes) for e, causes in self.explains.items()})
        for effect, causes in self.explains.items():
            if effect in causes or len(set(causes)) < len(causes):
                raise ValueError(
                    f"got causes {', '.join(causes)} of {effect} in event {self.id!r}; expected others, each once"
                )
        spoken = {*self.do, *self.explains, *(cause for causes in self.explains.values() for cause in causes)}
        unseen = sorted(spoken - self.evidence.keys())
        if unseen:
            raise ValueError(
                f"got event {self.id!r} that sets or explains {', '.join(unseen)}, of which its evidence says nothing; "
                "expected the state of each variable under evidence"
            )

    def to_json(self) -> dict[str, Any]:
        """Return plain values from which `from_json` makes the same event."""
        return {
            "id": self.id,
            "time": self.time,
            "attributes": dict(self.attributes),
            "valence": self.valence,
            "arousal": self.arousal,
            "evidence": dict(self.evidence),
            "do": list(self.do),
            "explains": {effect: list(causes) for effect, causes in self.explains.items()},
            "about": self.about,
            "note": self.note,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Event":
        """Make an event from plain values."""
        return cls(**found)
