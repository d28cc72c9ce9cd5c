"""Beliefs on the page: the posterior narrowing, edges and memories over time, and what each memory says now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import canvas, charts
from mnemotrace.view.canvas import SMALL
from mnemotrace.view.charts import Line
from mnemotrace.view.figure import ALARM, CONTROL, INK, MUTED, TRACE, Figure
from mnemotrace.view.matrix import shade
from mnemotrace.view.values import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Sheet

Rows = list[tuple[str, ...]]
COLUMNS = ("memory", "facts", "told first", "told now", "since act", "support now")
SHOWN, EDGES, TALL = 0.2, 14, 20


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say how many graphs, how much evidence, and how sure."""
    header, values, memories = artifact.header, artifact.tensors.get("values"), _kept(artifact)
    graphs, dead = header.get("graphs") or (None, None)
    told = [m for m in memories if _revised(m)]
    how = "approximate, of sampled graphs" if header.get("approximate") else f"exact, of {number(graphs)} graphs"
    best = _updates(artifact)[-1]["found"]["best"] if _updates(artifact) else []
    return [
        ("posterior", how),
        ("laid aside", number(dead)),
        ("entropy", f"{number(header.get('entropy'))} bits"),
        ("rows of evidence", number(None if values is None else len(values))),
        ("best graph", ", ".join(f"{a} → {b}" for a, b in best) or "no edge"),
        ("memories told anew", f"{len(told)} of {len(memories)}"),
    ]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the memories, as they were told first and as they are told now."""
    return COLUMNS, [
        (
            memory["note"] or f"memory {memory['id']}",
            ", ".join(f"{name} {value}" for name, value in memory["facts"].items()),
            _told(memory["versions"][0]),
            _told(memory["versions"][-1]),
            number(memory["versions"][-1]["time"]),
            number(memory["versions"][-1]["support"]),
        )
        for memory in _kept(artifact)
    ]


def narrowing(artifact: Artifact) -> Figure | None:
    """Draw entropy and gain over updates."""
    updates = _updates(artifact)
    if len(updates) < 2:  # noqa: PLR2004
        return None
    entropy = [(float(u["time"]), float(u["found"]["entropy"])) for u in updates]
    gain = [(float(u["time"]), float(u["found"]["gain"])) for u in updates]
    lines = [Line("entropy of the posterior", entropy, TRACE, "o"), Line("information gained", gain, CONTROL, "s", ":")]
    asked = [(float(u["time"]), float(u["found"]["entropy"])) for u in updates if u["given"]["do"]]
    if asked:
        lines.append(Line("after an experiment", asked, ALARM, "D", ""))
    return Figure(
        name="narrowing",
        title="How the posterior over causal graphs narrows",
        label=f"entropy falls from {entropy[0][1]:.2f} to {entropy[-1][1]:.2f} bits in {len(updates)} updates",
        columns=("act", "entropy in bits", "gain in bits", "set from outside"),
        rows=tuple(
            (u["time"], u["found"]["entropy"], u["found"]["gain"], ", ".join(u["given"]["do"])) for u in updates
        ),
        paint=lambda width: charts.lines(width, lines, x="act", y="bits"),
    )


def resolved(artifact: Artifact) -> Figure | None:
    """Draw how probable each edge was after each update, and when which memory was told anew."""
    updates = _updates(artifact)
    if not updates:
        return None
    names = artifact.header["names"]
    curves = {
        f"{a} → {b}": [float(u["found"]["edges"][i][j]) for u in updates]
        for i, a in enumerate(names)
        for j, b in enumerate(names)
        if i != j
    }
    kept = sorted((n for n, c in curves.items() if max(c) >= SHOWN), key=lambda n: (-curves[n][-1], n))[:EDGES]
    if not kept:
        return None
    memories = _kept(artifact)
    times = [int(u["time"]) for u in updates]
    experiments = [", ".join(u["given"]["do"]) for u in updates]
    return Figure(
        name="plot_resolved",
        title="The plot being resolved: edges, and the memories that rest on them",
        label=f"{len(kept)} edges over {len(updates)} updates; "
        + "; ".join(f"{n} ends at {curves[n][-1]:.2f}" for n in kept[:4]),
        columns=("edge", "act", "probability"),
        rows=tuple((name, t, p) for name in kept for t, p in zip(times, curves[name], strict=True)),
        paint=lambda width: _paint(width, {n: curves[n] for n in kept}, times, experiments, memories),
    )


def remarks(artifact: Artifact) -> list[str]:
    """Tell each revision in a sentence."""
    found: list[str] = []
    for memory in _kept(artifact):
        for before, after in zip(memory["versions"], memory["versions"][1:], strict=False):
            name = memory["note"] or f"memory {memory['id']}"
            how = "by hand" if after["reason"] == "restored" else f"by the evidence of act {after['time']}"
            found.append(f"“{name}” was told as {_told(before)}; {how} it is told as {_told(after)}.")
    return found


def _paint(
    width: int, curves: Mapping[str, Sequence[float]], times: Sequence[int], experiments: Sequence[str], memories: Any
) -> Sheet:
    told = [memory["note"] or f"memory {memory['id']}" for memory in memories]
    room = canvas.label_room([*curves, *told], width)
    top, gap = 44, 46
    tall, low = TALL * len(curves), TALL * len(memories)
    paper = canvas.sheet(width, top + tall + (gap + low if memories else 0) + 40)
    axes = canvas.panel(paper, room, top, width - room - 12, tall)
    canvas.rows(axes, list(curves), room)
    axes.set_xlim(-0.5, len(times) - 0.5)
    axes.set_xticks([])
    shade(axes, [list(c) for c in curves.values()], written=(width - room) / len(times) > 34)  # noqa: PLR2004
    for x, names in enumerate(experiments):
        if names:
            axes.text(x, -0.75, "do", ha="center", va="bottom", fontsize=8, color=ALARM)
    axes.set_title("probability of each edge", loc="left", fontsize=11, pad=25)
    if memories:
        _memories(canvas.panel(paper, room, top + tall + gap, width - room - 12, low), memories, told, times, room)
    else:
        axes.set_xlabel("updates", fontsize=SMALL, color=MUTED, loc="right")
    return paper


def _memories(axes: Any, memories: Any, told: Sequence[str], times: Sequence[int], room: float) -> None:
    canvas.rows(axes, told, room)
    axes.set_xlim(-0.5, len(times) - 0.5)
    axes.set_xticks([])
    axes.set_title("what each memory is put down to", loc="left", fontsize=11, pad=6)
    axes.set_xlabel("updates", fontsize=SMALL, color=MUTED, loc="right")
    for row, memory in enumerate(memories):
        starts = [sum(t < v["time"] for t in times) - 0.5 for v in memory["versions"]]
        for k, version in enumerate(memory["versions"]):
            end = starts[k + 1] if k + 1 < len(starts) else len(times) - 0.5
            colour = ALARM if version["reason"] == "revised" else TRACE
            axes.barh(row, end - starts[k], left=starts[k], height=0.7, color=colour, alpha=0.25, linewidth=0)
            axes.text(starts[k] + 0.08, row, _told(version), va="center", fontsize=8, color=INK, clip_on=True)


def _updates(artifact: Artifact) -> list[Any]:
    return [act for act in artifact.header.get("log") or [] if act["name"] == "observe"]


def _kept(artifact: Artifact) -> list[Any]:
    return list(artifact.header.get("memories") or [])


def _revised(memory: Any) -> bool:
    return memory["versions"][-1]["explains"] != memory["versions"][0]["explains"]


def _told(version: Any) -> str:
    return "; ".join(f"{effect} ← {' + '.join(causes) or 'unknown'}" for effect, causes in version["explains"].items())
