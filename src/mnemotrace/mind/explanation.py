"""Why a memory looks as it does now: what was lived, what nights and tellings did to it, what is left, and from where.

An explanation reads the log and the trace; it asks no sampler, so it changes nothing, not even the next recall.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnemotrace.mind.remembered import Asserted

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Explanation:
    """Why a memory looks as it does.

    Attributes:
        handle: of the memory.
        event: id of the event.
        lived: what was perceived then.
        now: what is left, by attribute; what is not here has faded or was never perceived.
        fate: what became of each attribute of the world, in a word or two: `kept`, `changed`, `faded`, `lost`, `never
            perceived`; `added` for what was told only later.
        history: what happened to it, in order, in plain sentences.
        told: tellings of its explanation, oldest first; empty where nothing was explained.
    """

    handle: int
    event: str
    lived: Mapping[str, str]
    now: Mapping[str, Asserted]
    fate: Mapping[str, str]
    history: tuple[str, ...]
    told: tuple[str, ...]

    def text(self) -> str:
        """Return it as lines of text."""
        lines = [f"memory {self.handle}, of {self.event}:"]
        for name, fate in self.fate.items():
            then, found = self.lived.get(name), self.now.get(name)
            seen = "" if found is None else f", now {found.value} ({found.confidence:.2f}, {found.source})"
            lines.append(f"  {name}: {fate}" + ("" if then is None else f"; lived as {then}") + seen)
        return "\n".join([*lines, *(f"  {line}" for line in (*self.history, *self.told))])


def fate_of(lived: str | None, now: Asserted | None, *, organ: bool) -> str:
    """Say what became of one attribute.

    Args:
        lived: its value then; None where it was not perceived.
        now: what can still be asserted.
        organ: whether there is a trace that could be read.
    """
    if lived is None:
        return "never perceived" if now is None else "added"
    if now is None:
        return "faded" if organ else "lost"
    return "kept" if now.value == lived else "changed"


def history_of(handle: int, log: Sequence[Entry]) -> tuple[str, ...]:
    """Return what a log says of one memory."""
    found = [line for entry in log for line in _told(entry, handle)]
    nights = [entry for entry in log if entry["act"] == "night" and str(handle) in entry["replays"]]
    if nights:
        replays = sum(entry["replays"][str(handle)] for entry in nights)
        found.append(f"replayed {replays} times in {len(nights)} nights, to the cortex")
    return tuple(found)


def _told(entry: Entry, handle: int) -> list[str]:
    """Say what one entry did to a memory; nothing, if it did nothing."""
    day, act = f"day {entry['time']:.1f}: ", entry["act"]
    if act == "experience" and entry["handle"] == handle:
        moved = f", arousal {entry['event']['arousal']:.1f}"
        return [day + f"lived {entry['event']['id']}{moved}"]
    if act == "retell" and handle in (entry["about"], entry["handle"]):
        what = {
            "strengthened": "agreed with it and strengthened it",
            "updated": "changed it",
            "stored": "contradicted it, and was stored beside it" if handle == entry["about"] else "gave rise to it",
        }[entry["regime"]]
        return [day + f"told again in {entry['event']['id']}, which {what} (surprise {entry['surprise']:.1f} nats)"]
    if act == "understand" and handle in entry["revised"]:
        return [day + f"understood otherwise, after evidence of surprise {entry['surprise']:.1f} nats"]
    if act == "operation":
        return [day + "the hippocampus was lost"]
    if act == "forget" and entry["handle"] == handle:
        return [day + ("let go" if entry["gone"] else "could not be forgotten")]
    return []
