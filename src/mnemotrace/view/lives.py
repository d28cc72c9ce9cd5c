"""Lives on the page: what each mind recalls of the same stories, beside chance and the best that is possible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import canvas
from mnemotrace.view.canvas import SMALL, handle, legend
from mnemotrace.view.figure import CONTROL, INK, MUTED, SECOND, SERIES, TRACE, Figure
from mnemotrace.view.values import number, part

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet
    from torch import Tensor

Rows = list[tuple[str, ...]]
PANELS = {
    "gist": "gist",
    "detail": "detail",
    "weak": "gist, from bad cues",
    "general": "days never lived",
    "confabulation": "asserted, and not so",
    "invention": "asserted, and never perceived",
}
PHASES = {"old": "long before the operation", "recent": "up to a day before it", "new": "after it"}
LINE, HEAD, GAP, COLUMNS = 22, 30, 20, 3
HEADINGS = ("mind", *PANELS.values(), "long before", "day before", "after", "states denoised")


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say which minds lived what, and how often."""
    manifest, values = part(artifact.header, "manifest"), _values(artifact)
    seeds = next((value.shape[-1] for value in values.values()), None)
    return [
        ("story", number(manifest.get("story"))),
        ("minds", number(_minds(artifact))),
        ("lives each", number(seeds)),
    ]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the means of each mind after the last night, then chance and ceiling."""
    values, names = _values(artifact), [*PANELS, *PHASES, "evaluations"]
    rows: Rows = [
        (mind, *(number(_mean(values, name, i)) for name in names)) for i, mind in enumerate(_minds(artifact))
    ]
    if not rows:
        return HEADINGS, []
    for beside in ("chance", "ceiling"):
        rows.append((beside, *(number(_mean(values, f"{name}, {beside}", 0)) for name in names)))
    return HEADINGS, rows


def figure(artifact: Artifact) -> Figure | None:
    """Draw a panel a measure: a spot a mind, with its spread over seeds, chance and ceiling."""
    values, minds = _values(artifact), _minds(artifact)
    panels = {**PANELS, **PHASES} if "old" in values else PANELS
    rows: list[tuple[Any, ...]] = []
    for name in panels:
        for i, mind in enumerate(minds):
            spread = _spread(values, name, i)
            if spread is not None:
                beside = tuple(_mean(values, f"{name}, {word}", i) for word in ("chance", "ceiling"))
                rows.append((panels[name], mind, *spread, *beside))
    if not rows:
        return None
    told = "; ".join(f"{row[0]}, {row[1]}: {number(row[2])}" for row in rows)
    return Figure(
        name="lives",
        title="What each mind makes of the same stories; bars are the middle 95 % of lives",
        label=told,
        columns=("measure", "mind", "mean", "low", "high", "chance", "ceiling"),
        rows=tuple(rows),
        paint=lambda width: _paint(width, minds, rows),
    )


def _paint(width: int, minds: list[str], rows: list[tuple[Any, ...]]) -> Sheet:
    titles = list(dict.fromkeys(row[0] for row in rows))
    label, columns = canvas.label_room(minds, width), COLUMNS if width >= canvas.ROOMY else 1
    each = (width - label - GAP * (columns - 1) - 14) / columns
    tall, lines = LINE * len(minds), -(-len(titles) // columns)
    entries = [
        handle("mind", TRACE, "o", 6),
        handle("chance", CONTROL, "", 6, ":"),
        handle("ceiling", SECOND, "", 6, "--"),
    ]
    top = canvas.legend_height(len(entries), 3) + 8
    paper = canvas.sheet(width, top + lines * (HEAD + tall + 26))
    axes = None
    for index, title in enumerate(titles):
        left = label + (index % columns) * (each + GAP)
        axes = canvas.panel(paper, left, top + HEAD + (index // columns) * (HEAD + tall + 26), each, tall)
        canvas.rows(axes, minds if index % columns == 0 else [""] * len(minds), label)
        _panel(axes, title, minds, [row for row in rows if row[0] == title])
        if index == 0:
            legend(axes, entries, 3, gap=HEAD)
    return paper


def _panel(axes: Axes, title: str, minds: list[str], rows: list[tuple[Any, ...]]) -> None:
    axes.set_title(title, loc="left", fontsize=SMALL + 1, color=INK, pad=6)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"], color=MUTED)
    axes.axvline(0, color=MUTED, linewidth=0.6)
    for _, mind, mean, low, high, chance, ceiling in rows:
        place = minds.index(mind)
        colour = SERIES[place % len(SERIES)]
        axes.hlines(place, low, high, color=colour, linewidth=1.4)
        axes.plot([mean], [place], "o", color=colour, markersize=6, clip_on=False)
        for value, other, style in ((chance, CONTROL, ":"), (ceiling, SECOND, "--")):
            if value is not None:
                axes.vlines(value, place - 0.5, place + 0.5, color=other, linewidth=1.4, linestyle=style)


def _minds(artifact: Artifact) -> list[str]:
    return [str(name) for name in artifact.header.get("lesions", [])]


def _values(artifact: Artifact) -> dict[str, Tensor]:
    stacked = artifact.tensors.get("values")
    names = artifact.header.get("measures", [])
    return {} if stacked is None else dict(zip(names, stacked, strict=True))


def _spread(values: dict[str, Tensor], name: str, mind: int) -> tuple[float, float, float] | None:
    """Return mean and middle 95 % over seeds, after the last night; None where nothing could be measured."""
    found = values[name][1, mind] if name in values else None
    found = None if found is None else found[found.isfinite()]
    if found is None or not len(found):
        return None
    return float(found.mean()), float(found.quantile(0.025)), float(found.quantile(0.975))


def _mean(values: dict[str, Tensor], name: str, mind: int) -> float | None:
    found = _spread(values, name, mind)
    return None if found is None else found[0]
