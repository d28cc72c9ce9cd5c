"""One mind on the page: what is left of each memory, how surely, and what happened to those that changed."""

from collections.abc import Mapping, Sequence
from typing import Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import canvas, matrix
from mnemotrace.view.figure import INK, Figure
from mnemotrace.view.values import NONE, number, part

Rows = list[tuple[str, ...]]
COLUMNS = ("memory", "day", "gist now", "detail now", "no more, or otherwise", "replays")
MOST, SIDE = 60, 22


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say which mind it is, how long it lived, and how much of that is left."""
    header, lesion = artifact.header, part(artifact.header, "lesion")
    acts = [str(entry.get("act")) for entry in _log(artifact)]
    cells = [cell for memory in _memories(artifact) for cell in memory["cells"]]
    lived = [cell for cell in cells if cell["lived"] is not None]
    kept = sum(cell["now"] == cell["lived"] for cell in lived)
    share = f"{kept} of {len(lived)} values that were perceived" if lived else NONE
    return [
        ("mind", number(lesion.get("name"))),
        ("days", number(header.get("now"))),
        ("memories", number(len(_memories(artifact)))),
        ("nights", number(acts.count("night"))),
        ("recalls", number(acts.count("recall"))),
        ("hippocampus", "lost" if header.get("operated") else "there"),
        ("still as lived", share),
    ]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out each memory: what is left of it, and what is not."""
    found: Rows = []
    for memory in _memories(artifact):
        cells = memory["cells"]
        lost = [_fate(cell) for cell in cells if cell["lived"] is not None and cell["now"] != cell["lived"]]
        now = {
            role: ", ".join(c["now"] for c in cells if c["role"] == role and c["now"]) for role in ("gist", "detail")
        }
        words = (memory["event"], number(memory["time"]), now["gist"] or NONE, now["detail"] or NONE)
        found.append((*words, "; ".join(lost) or NONE, number(memory["replays"])))
    return COLUMNS, found


def figure(artifact: Artifact) -> Figure | None:
    """Draw how surely each attribute of each memory can be told; what is told otherwise than lived is below zero."""
    memories, names = _memories(artifact)[:MOST], [str(a.get("name")) for a in _world(artifact)]
    if not memories or not names:
        return None
    values = [[_shade(cell) for cell in memory["cells"]] for memory in memories]
    return Figure(
        name="mind",
        title="What is left of each memory: darker is surer, another colour is otherwise than lived",
        label="; ".join(f"{term}: {value}" for term, value in summary(artifact)),
        columns=("memory", "attribute", "lived", "now", "confidence"),
        rows=tuple(
            (memory["event"], cell["name"], cell["lived"] or NONE, cell["now"] or NONE, cell["confidence"])
            for memory in memories
            for cell in memory["cells"]
        ),
        paint=lambda width: _paint(width, [memory["event"] for memory in memories], names, values),
    )


def remarks(artifact: Artifact) -> list[str]:
    """Tell what changed memories: tellings, revised explanations, and a loss of the hippocampus."""
    found: list[str] = []
    events = {memory["handle"]: memory["event"] for memory in _memories(artifact)}
    for entry in _log(artifact):
        act, day = entry.get("act"), f"Day {number(entry.get('time'))}: "
        if act == "operation":
            found.append(day + "the hippocampus was lost; what nights had given to the cortex stayed.")
        elif act == "retell":
            about = events.get(str(entry.get("about")), "a memory")
            changed = "; ".join(f"{n}: {a or 'open'} to {b or 'open'}" for n, (a, b) in part(entry, "changed").items())
            found.append(
                day + f"{about} was told again and {entry.get('regime')}" + (f" ({changed})." if changed else ".")
            )
        elif act == "understand" and entry.get("revised"):
            names = ", ".join(events.get(str(handle), "a memory") for handle in entry["revised"])
            found.append(day + f"after {entry.get('note') or 'new evidence'}, these are understood otherwise: {names}.")
    return found


def _memories(artifact: Artifact) -> list[dict[str, Any]]:
    """Return memories with a cell for each attribute of the world, in the order in which they were lived."""
    found: list[dict[str, Any]] = []
    for handle, trace in part(artifact.header, "traces").items():
        lived, left = part(trace, "lived"), part(part(artifact.header, "left"), handle)
        cells = [_cell(a, lived, left) for a in _world(artifact)]
        found.append({"handle": handle, "event": str(trace.get("event")), "time": trace.get("time"),
                      "replays": trace.get("replays"), "cells": cells})  # fmt: skip
    return found


def _cell(attribute: Mapping[str, Any], lived: Mapping[str, Any], left: Mapping[str, Any]) -> dict[str, Any]:
    name, role = str(attribute.get("name")), str(attribute.get("role"))
    now, confidence, _ = left.get(name) or (None, None, None)
    return {"name": name, "role": role, "lived": lived.get(name), "now": now, "confidence": confidence}


def _fate(cell: Mapping[str, Any]) -> str:
    return f"{cell['name']} {cell['lived']}" + (f" is now {cell['now']}" if cell["now"] else " is gone")


def _shade(cell: Mapping[str, Any]) -> float | None:
    if cell["now"] is None:
        return None
    return -cell["confidence"] if cell["now"] != cell["lived"] else cell["confidence"]


def _world(artifact: Artifact) -> list[Mapping[str, Any]]:
    return list(artifact.header.get("world") or [])


def _log(artifact: Artifact) -> list[Mapping[str, Any]]:
    return list(artifact.header.get("log") or [])


def _paint(width: int, events: Sequence[str], names: Sequence[str], values: Sequence[Sequence[float | None]]) -> Any:
    """Draw one row a memory and one column an attribute."""
    room = canvas.label_room(events, width)
    foot = 0.75 * canvas.label_room(names, width) + 24
    paper = canvas.sheet(width, SIDE * len(events) + foot + 8)
    across = min(width - room - 14, 3 * SIDE * len(names))
    axes = canvas.panel(paper, room, 8, across, SIDE * len(events))
    canvas.rows(axes, events, room)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xticks(range(len(names)), list(names), rotation=90, color=INK)
    matrix.shade(axes, values, written=True)
    return paper
