"""What is noted of a memory beside its pattern."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Trace:
    """A note; it changes as the memory does.

    Attributes:
        event: id of the event.
        time: in days.
        lived: what was perceived then; never rewritten.
        known: what it is known to have been about now, after tellings.
        valence: how good it was.
        arousal: how moving.
        replays: how often nights have replayed it.
        belief: its number among the memories that the beliefs may reinterpret; None where nothing was explained.
    """

    event: str
    time: float
    lived: dict[str, str]
    known: dict[str, str]
    valence: float
    arousal: float
    replays: int = 0
    belief: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values; `Trace(**values)` is the same again."""
        return asdict(self)
