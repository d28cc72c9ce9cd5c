"""A discovery on the page: which groups were found, what labels say of them, and their criteria beside controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import canvas
from mnemotrace.view.canvas import SMALL, handle, legend, short
from mnemotrace.view.figure import CONTROL, MUTED, RULE, SECOND, SERIES, TRACE, Figure, save
from mnemotrace.view.values import CRITERIA, NONE, finite, interval, number, part

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

Rows = list[tuple[str, ...]]
LOOKS = {
    "discovered": (TRACE, "o"),
    "labels": (SECOND, "D"),
    "untrained": (SERIES[2], "^"),
    "random": (CONTROL, "s"),
}
COLUMNS = ("concept", "examples", "held out", "stability", "silhouette", *CRITERIA, "passes")
CELL, BAND, LEFT, TOP = 26, 46, 44, 52


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say how many groups there are, whether halves agree on them, and how far labels do."""
    header = artifact.header
    found = _of(artifact, "discovered")
    passed = sum(_passes(one) for one in found) if _structured(header) else 0
    agreed = [
        (f"agreement with labels, {kind}", f"{number(one.get('rand'))} (permuted {_first(one.get('chance'))})")
        for kind, one in part(header, "agreement").items()
    ]
    return [
        ("groups", number(len(found))),
        ("pass", f"{passed} of {len(found)}"),
        ("agreement of halves", f"{number(header.get('stability'))} (without structure {number(header.get('null'))})"),
        *agreed,
    ]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out every group, discovered ones first: size, stability, the criteria with those of random traces."""
    rows: Rows = []
    for one in artifact.header.get("concepts") or ():
        counts = [number(one.get(key)) for key in ("examples", "held_out", "stability", "score")]
        criteria = part(part(one, "criteria"), "criteria")
        told = [_told(part(criteria, name)) for name in CRITERIA]
        passes = str(one.get("reason")) if one.get("reason") else number(_passes(one))
        rows.append((f"{one.get('kind')} {one.get('name')}", *counts, *told, passes))
    return COLUMNS, rows


def remarks(artifact: Artifact) -> list[str]:
    """Say whether there is anything to find, and which control fares as well."""
    header = artifact.header
    if not _structured(header):
        return ["Halves of the examples agree on the groups no better than on one Gaussian: nothing was found."]
    means = {kind: _mean(artifact, kind, "specificity") for kind in LOOKS}
    told = [f"{kind} {number(value)}" for kind, value in means.items() if value is not None]
    missing = [f"No {kind} control: {reason}." for kind, reason in part(header, "absent").items()]
    return [f"Specificity, mean over groups: {', '.join(told)}.", *missing]


def figure(artifact: Artifact) -> Figure | None:
    """Draw groups by classes where labels are known, and the mean criteria of every kind of group."""
    rows = tuple(
        (name, kind, value, _mean(artifact, kind, name, control=True))
        for name in CRITERIA
        for kind in LOOKS
        if (value := _mean(artifact, kind, name)) is not None
    )
    if not rows:
        return None
    agreed = finite(part(part(artifact.header, "agreement"), "discovered").get("rand"))
    labels = "" if agreed is None else f"Adjusted Rand index of groups and labels {number(agreed)}. "
    said = "; ".join(f"{name}, {kind}: {number(value)}" for name, kind, value, _ in rows)
    return Figure(
        name="discovery",
        title="What was found without labels, and how its engrams fare",
        label=f"{labels}{said}.",
        columns=("criterion", "groups", "mean", "mean of random traces"),
        rows=rows,
        paint=lambda width: _painted(artifact, rows, width),
    )


def picture(artifact: Artifact, path: str | Path) -> tuple[Path, Path]:
    """Write the drawing, `.png` or `.svg`, and its numbers as CSV beside it.

    Raises:
        ValueError: nothing was measured, or another ending.
        ImportError: matplotlib is absent.
    """
    drawn = figure(artifact)
    if drawn is None:
        raise ValueError("got a discovery without a criterion; expected at least one group that could be judged")
    return save(drawn, path)


def _painted(artifact: Artifact, rows: Sequence[tuple[Any, ...]], width: int) -> Sheet:
    confusion = artifact.tensors.get("confusion")
    cells = confusion if confusion is not None and confusion.ndim == 2 and confusion.numel() else None  # noqa: PLR2004
    beside = cells is not None and width >= canvas.ROOMY
    across = 0 if cells is None else min(CELL * cells.shape[1], (width // 2 if beside else width) - LEFT - 10)
    down = 0 if cells is None else CELL * cells.shape[0]
    bands = max(BAND * len(CRITERIA), down) if beside else BAND * len(CRITERIA)
    height = max(down, bands) if beside else bands + (down + TOP + 46 if down else 0)
    paper = canvas.sheet(width, height + TOP + 46)
    if cells is not None:
        _matrix(canvas.panel(paper, LEFT, TOP, across, down), cells, artifact.header.get("classes") or [])
    left, top = (LEFT + across + 110, TOP) if beside else (96, TOP + (down + TOP + 46 if down else 0))
    _bands(canvas.panel(paper, left, top, width - left - 12, bands), rows)
    return paper


def _matrix(axes: Axes, cells: Any, classes: Sequence[int]) -> None:
    """Draw shares of each group by class; groups in the order of the class that most of each are of."""
    order = sorted(range(len(cells)), key=lambda i: (int(cells[i].argmax()), -int(cells[i].max())))
    share = (cells[order] / cells[order].sum(1, keepdim=True).clamp_min(1)).numpy()
    axes.imshow(share, cmap=_shades(), vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(cells.shape[1]), [str(one) for one in classes][: cells.shape[1]])
    axes.set_yticks(range(len(order)), [str(i) for i in order])
    axes.set_title("group (rows) by class: examples", loc="left", fontsize=11, pad=8)
    axes.set_xlabel("class", fontsize=SMALL, color=MUTED, loc="right")
    for y, i in enumerate(order):
        for x, count in enumerate(cells[i].tolist()):
            if count and cells.shape[1] <= 12:  # noqa: PLR2004
                axes.text(x, y, str(count), ha="center", va="center", fontsize=8)


def _shades() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("share", ["#ffffff", TRACE + "99"])


def _bands(axes: Axes, rows: Sequence[tuple[Any, ...]]) -> None:
    """Draw a band a criterion: filled marks for the engrams, a hollow one for their random traces."""
    kinds = [kind for kind in LOOKS if any(row[1] == kind for row in rows)]
    canvas.rows(axes, CRITERIA, 96)
    for name, kind, value, control in rows:
        y = CRITERIA.index(name) + 0.17 * (kinds.index(kind) - (len(kinds) - 1) / 2)
        colour, marker = LOOKS[kind]
        if control is not None:
            axes.plot([control, value], [y, y], color=RULE, linewidth=1)
            axes.plot([control], [y], marker=marker, markersize=5, markerfacecolor="none", color=colour, linestyle="")
        axes.plot([value], [y], marker=marker, markersize=7, color=colour, linestyle="", clip_on=False)
        if kind == "discovered":
            axes.annotate(short(value), (value, y), (7, 0), textcoords="offset points", va="center", fontsize=9)
    for band in range(1, len(CRITERIA)):
        axes.axhline(band - 0.5, color=RULE, linewidth=0.6)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.axvline(1, color=RULE, linewidth=0.8)
    axes.spines["bottom"].set_visible(False)
    axes.set_xlabel("mean over groups; hollow: random traces", fontsize=SMALL, color=MUTED, loc="right")
    legend(axes, [handle(kind, *LOOKS[kind], 6) for kind in kinds], 2)


def _of(artifact: Artifact, kind: str) -> list[Mapping[str, Any]]:
    return [one for one in artifact.header.get("concepts") or () if one.get("kind") == kind]


def _mean(artifact: Artifact, kind: str, name: str, *, control: bool = False) -> float | None:
    criteria = [part(part(part(one, "criteria"), "criteria"), name) for one in _of(artifact, kind)]
    values = [finite(one.get("control" if control else "value")) for one in criteria]
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def _passes(concept: Mapping[str, Any]) -> bool:
    criteria = part(part(concept, "criteria"), "criteria")
    return bool(criteria) and all(_above(part(criteria, name)) for name in criteria)


def _above(criterion: Mapping[str, Any]) -> bool:
    mine, theirs = criterion.get("interval") or (), criterion.get("control_interval") or ()
    low, high = finite(mine[0]) if mine else None, finite(theirs[-1]) if theirs else None
    return low is not None and high is not None and low > high


def _structured(header: Mapping[str, Any]) -> bool:
    stability, null = finite(header.get("stability")), finite(header.get("null"))
    return stability is not None and null is not None and stability > null


def _told(criterion: Mapping[str, Any]) -> str:
    if not criterion:
        return NONE
    ends = interval(criterion.get("interval"))
    return f"{number(criterion.get('value'))} ({ends}), random {number(criterion.get('control'))}"


def _first(values: object) -> str:
    return number(values[0]) if isinstance(values, Sequence) and values else NONE
