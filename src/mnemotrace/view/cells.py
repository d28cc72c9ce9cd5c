"""Concept cells on the page: which units answer to which concept, and how many would without training or rotated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import canvas, charts
from mnemotrace.view.charts import Line
from mnemotrace.view.figure import ALARM, CONTROL, MUTED, SECOND, TRACE, Figure
from mnemotrace.view.values import number, part

Rows = list[tuple[str, ...]]
_READ = ("auroc", "preferred", "held", "beside", "deviations", "sparseness", "shuffled", "untrained")
MOST, ROW, WIDEST_CELL, GAP = 24, 16, 40, 34
COLUMNS = ("site", "unit", "concept", "AUROC, held out", "in the worst view", "deviations", "sparseness", "also tells")
BOUNDS = tuple(0.5 + i / 100 for i in range(51))


@dataclass(frozen=True, eq=False)
class _Cell:
    site: str
    unit: int
    concept: int
    score: float
    auroc: Tensor
    held: Tensor
    deviations: float
    sparseness: float
    partners: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.site or 'output'}, {self.unit}"

    def told(self, names: Sequence[str], *, site: bool) -> str:
        return f"{names[self.concept]} · {self.name if site else f'unit {self.unit}'}"


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say what was looked for, in what, and how many units there are beside how many cells."""
    header, counts = artifact.header, part(artifact.header, "counts")
    totals = {key: sum(int(part(counts, site).get(key, 0)) for site in counts) for key in ("units", "cell", "strict")}
    found = {cell.concept for cell in _cells(artifact)}
    views = header.get("strata") or []
    return [
        ("sites", number([site or "the output" for site in counts])),
        ("cells", f"{number(totals['cell'])} of {number(totals['units'])} units, {number(totals['strict'])} strict"),
        ("concepts with a cell", f"{len(found)} of {len(header.get('names') or [])}"),
        ("views", number(list(views)) if len(views) <= MOST else number(len(views))),
        ("a cell's AUROC", f"{number(header.get('auroc'))}, in each view {number(header.get('invariance'))}"),
    ]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the cells, best first."""
    names = artifact.header.get("names") or []
    return COLUMNS, [
        (cell.site or "output", str(cell.unit), str(names[cell.concept]),
         *map(number, (cell.score, float(cell.held.min()), cell.deviations, cell.sparseness)),
         ", ".join(str(names[one]) for one in cell.partners))
        for cell in _cells(artifact)
    ]  # fmt: skip


def remarks(artifact: Artifact) -> list[str]:
    """Set the units that tell a concept beside those of an untrained network and of a rotated layer."""
    counts = part(artifact.header, "counts")
    found: list[str] = []
    for site in counts:
        one = part(counts, site)
        said = (
            f"{site or 'The output'}: {number(one.get('selective'))} of {number(one.get('units'))} units tell a concept"
        )
        beside = {
            "an untrained network's": "untrained selective",
            "random directions of the layer": "rotated selective",
        }
        told = [f"{number(one[key])} of {name}" for name, key in beside.items() if key in one]
        found.append(f"{said}, {' and '.join(told)}." if told else f"{said}; no network stands beside.")
    return found


def figure(artifact: Artifact) -> Figure | None:
    """Draw the best cells of each concept: AUROC for every concept, and for their own in every view."""
    names, strata = artifact.header.get("names") or [], artifact.header.get("strata") or []
    shown = _spread(_cells(artifact))
    if not shown:
        return None
    rows = tuple((c.site, c.unit, names[c.concept], *c.auroc.tolist(), *c.held.tolist()) for c in shown)
    best = max(shown, key=lambda cell: cell.score)
    return Figure(
        name="cells",
        title="Concept cells, and what else they answer to",
        label=f"{len(shown)} cells; the best, {best.name}, tells {names[best.concept]}, AUROC {number(best.score)}.",
        columns=("site", "unit", "concept", *map(str, names), *map(str, strata)),
        rows=rows,
        paint=lambda width: _painted(width, shown, names, strata),
    )


def nulls(artifact: Artifact) -> Figure | None:
    """Draw how many units reach each AUROC: of the network, untrained, rotated; the best of shuffled labels upright."""
    drawn: list[Line] = []
    for what, name, colour, style in (
        ("score", "the network's units", TRACE, "-"), ("rotated", "random directions", SECOND, "--"),
        ("untrained", "untrained network", CONTROL, "--"),
    ):  # fmt: skip
        values = _scores(artifact, what)
        if values is not None and len(values):
            spots = [(bound, int((values >= bound).sum())) for bound in BOUNDS]
            drawn.append(Line(name, [(x, float(y)) for x, y in spots], colour, style=style))
    if not drawn:
        return None
    rows = tuple((line.name, x, int(y)) for line in drawn for x, y in line.spots)
    shuffled = _scores(artifact, "shuffled")
    if shuffled is not None and len(shuffled):
        best = float(shuffled.max())
        drawn.append(Line("best of shuffled labels", [(best, 0.0), (best, drawn[0].spots[0][1])], ALARM, style=":"))
    return Figure(
        name="cells-nulls",
        title="How many units tell a concept on stimuli that did not choose it",
        label="; ".join(f"{one.name}: {one.spots[40][1]:.0f} reach 0.9" for one in drawn if len(one.spots) > 40),  # noqa: PLR2004
        columns=("of", "AUROC at least", "units"),
        rows=rows,
        paint=lambda width: charts.lines(width, drawn, x="AUROC, held out, at least", y="units"),
    )


def _cells(artifact: Artifact) -> list[_Cell]:
    """List the cells, best first: selective, invariant, above shuffled labels and above the untrained network."""
    header, found = artifact.header, []
    for i, site in enumerate(header.get("sites") or []):
        tensors: dict[str, Any] = {what: artifact.tensors.get(f"{i}.{what}") for what in _READ}
        if any(tensors[what] is None for what in ("auroc", "preferred", "held")):
            continue
        scores, held = _own(tensors["auroc"], tensors["preferred"]), tensors["held"]
        nulls = [tensors[what] for what in ("shuffled", "untrained")]
        bar = max((float(null.max()) for null in nulls if null is not None and len(null)), default=0.0)
        met = (scores >= header["auroc"]) & (held.amin(1) >= header["invariance"]) & (scores > bar)
        found += [_cell(site["name"], unit, scores, tensors, header) for unit in met.nonzero()[:, 0].tolist()]
    return sorted(found, key=lambda cell: -cell.score)


def _cell(site: str, unit: int, scores: Tensor, tensors: Mapping[str, Any], header: Mapping[str, Any]) -> _Cell:
    concept, beside = int(tensors["preferred"][unit]), tensors["beside"]
    told = [] if beside is None else (beside[unit] >= header["auroc"]).nonzero()[:, 0].tolist()
    return _Cell(
        site=site,
        unit=unit,
        concept=concept,
        score=float(scores[unit]),
        auroc=tensors["auroc"][unit],
        held=tensors["held"][unit],
        deviations=float("nan") if tensors["deviations"] is None else float(tensors["deviations"][unit, concept]),
        sparseness=float("nan") if tensors["sparseness"] is None else float(tensors["sparseness"][unit]),
        partners=tuple(one for one in told if one != concept),
    )


def _own(auroc: Any, preferred: Any) -> Tensor:
    return auroc.gather(1, preferred[:, None])[:, 0]


def _scores(artifact: Artifact, what: str) -> Tensor | None:
    found = []
    for i in range(len(artifact.header.get("sites") or [])):
        auroc, preferred = (artifact.tensors.get(f"{i}.{name}") for name in ("auroc", "preferred"))
        own = None if auroc is None or preferred is None else _own(auroc, preferred)
        values = own if what == "score" else artifact.tensors.get(f"{i}.{what}")
        found += [] if values is None else [values]
    return torch.cat(found) if found else None


def _spread(cells: Sequence[_Cell]) -> list[_Cell]:
    """Take the best of each concept first, then the second best, up to a page; in the order of the concepts."""
    rank: dict[int, int] = {}
    order: list[tuple[int, _Cell]] = []
    for cell in cells:
        rank[cell.concept] = rank.get(cell.concept, -1) + 1
        order.append((rank[cell.concept], cell))
    kept = [cell for _, cell in sorted(order, key=lambda entry: entry[0])[:MOST]]
    return sorted(kept, key=lambda cell: (cell.concept, -cell.score))


def _painted(width: int, cells: Sequence[_Cell], names: Sequence[str], strata: Sequence[str]) -> Any:
    several = len({cell.site for cell in cells}) > 1
    labels = [cell.told(names, site=several) for cell in cells]
    label = canvas.label_room(labels, width)
    step = min(WIDEST_CELL, (width - label - GAP) / (len(names) + len(strata)))
    head = 8 + canvas.LETTER * min(18, max(len(str(name)) for name in (*names, *strata)))
    paper = canvas.sheet(width, head + ROW * len(cells) + 40)
    left = label
    for columns, values, said in (
        (names, torch.stack([cell.auroc for cell in cells]), "AUROC for each concept: red above 0.5, blue below"),
        (strata, torch.stack([cell.held for cell in cells]), "for its own"),
    ):
        axes = canvas.panel(paper, left, head, step * len(columns), ROW * len(cells))
        axes.imshow(values.numpy(), cmap="RdBu_r", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        canvas.rows(axes, labels if left == label else [""] * len(cells), label)
        axes.set_xticks(range(len(columns)), [canvas.fit(str(name), 18 * canvas.LETTER) for name in columns],
                        rotation=90, fontsize=min(canvas.SMALL, 0.85 * step))  # fmt: skip
        axes.xaxis.tick_top()
        axes.tick_params(axis="x", pad=2, length=0)
        axes.set_xlabel(said, fontsize=canvas.SMALL, color=MUTED, loc="left", labelpad=6)
        axes.xaxis.set_label_position("bottom")
        left += step * len(columns) + GAP
    return paper
