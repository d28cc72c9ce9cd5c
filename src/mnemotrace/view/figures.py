"""The figures of each kind of artifact: which numbers, in which order, in which words. `drawing` paints them."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.site import layer_of
from mnemotrace.view import (
    capacity,
    causal_trace,
    census,
    comparison,
    concepts,
    consolidation,
    direction,
    drawing,
    mask,
    naming,
    recall,
    recollection,
    recollection_evidence,
    reconstruction,
    spiking,
    suggestion,
    training,
    verdict,
    wanted,
)
from mnemotrace.view.drawing import Cloud, Estimate, Series
from mnemotrace.view.figure import ALARM, CONTROL, SECOND, SERIES, TRACE, Figure
from mnemotrace.view.values import finite, marked, number, ordered_criteria, part, points, strongest, worst

MEASURED = {"relative_norm": "size", "leak": "leak", "miss": "miss"}
PROBED = {"before": ("before the edit", TRACE, "o"), "after": ("after the edit", ALARM, "s"),
          "naive": ("never knew", SECOND, "D")}  # fmt: skip
RELEARNED = {"before": ("before the edit", TRACE, "o", "-"), "after": ("after the edit", ALARM, "s", "-"),
             "naive": ("never knew", SECOND, "D", "--"), "random": ("random edit", CONTROL, "^", "--")}  # fmt: skip
MOST = 40
NO_LAYER = "–"


def figures_of(artifact: Artifact) -> list[Figure]:
    """Return the figures that an artifact has numbers for, in reading order; none for an unknown kind."""
    drawn = (make(artifact) for make in _FIGURES.get(artifact.kind, ()))
    return [figure for figure in drawn if figure is not None]


def engram(artifact: Artifact) -> Figure | None:
    """Show the size of a trace, its leak and its miss: over layer and kind of site, or as bars without layers."""
    evidence = part(artifact.header, "evidence")
    rows = tuple((site, *(finite(part(evidence, site).get(key)) for key in MEASURED)) for site in evidence)
    columns = [index for index in range(1, len(MEASURED) + 1) if any(row[index] is not None for row in rows)]
    if not columns:
        return None
    layered = any(layer_of(site) is not None for site in evidence)
    largest = strongest(artifact)
    label = f"Size of the trace, leak and miss at {len(rows)} sites"
    label += f"; the largest is at {largest[0]}, {number(largest[1])} of the weight's norm." if largest else "."
    return Figure(
        name="engram",
        title="The trace by layer and kind of site" if layered else "The trace by site",
        label=label,
        columns=("site", *MEASURED),
        rows=rows,
        paint=_maps(rows, columns) if layered else _bars(rows, columns),
    )


def _bars(rows: Sequence[Any], columns: Sequence[int]) -> Callable[[int], Any]:
    titles, shown = list(MEASURED.values()), sorted(rows, key=lambda row: -(row[1] or 0.0))[:MOST]
    panels = {titles[index - 1]: [row[index] for row in shown] for index in columns}
    return lambda width: drawing.bars(width, [row[0] for row in shown], panels)


def _maps(rows: Sequence[Any], columns: Sequence[int]) -> Callable[[int], Any]:
    titles, kinds = list(MEASURED.values()), kinds_of([row[0] for row in rows])
    indices = {row[0]: layer_of(row[0]) for row in rows}
    layers = [str(layer) for layer in sorted({layer for layer in indices.values() if layer is not None})]
    layers += [NO_LAYER] if None in indices.values() else []
    strength: dict[str, float] = {}
    for row in rows:
        strength[kinds[row[0]]] = max(strength.get(kinds[row[0]], 0.0), row[1] or 0.0)
    kept = sorted(strength, key=lambda kind: -strength[kind])[:MOST]
    places = {site: (kinds[site], NO_LAYER if layer is None else str(layer)) for site, layer in indices.items()}
    maps = {
        titles[index - 1]: {
            places[row[0]]: row[index] for row in rows if row[index] is not None and kinds[row[0]] in kept
        }
        for index in columns
    }
    return lambda width: drawing.heat_maps(width, [kind for kind in strength if kind in kept], layers, maps)


def kinds_of(names: Sequence[str]) -> dict[str, str]:
    """Give each site name without its layer index, and without the stem that all layered sites share."""
    cut = {name: re.split(r"(?:^|\.)\d+(?:\.|(?=\[)|$)", name, maxsplit=1) for name in names}
    shared = len({pieces[0] for pieces in cut.values() if len(pieces) == 2}) == 1
    return {
        name: pieces[-1] if shared and pieces[-1] else ".".join(filter(None, pieces)) or name
        for name, pieces in cut.items()
    }


def without_stem(names: Sequence[str]) -> list[str]:
    """Give site names from the layer index on, where all layered sites share what is before it."""
    stems = {found[1] for name in names if (found := re.match(r"(.*?\.)\d+(?:\.|\[|$)", name))}
    return [name.removeprefix(next(iter(stems))) for name in names] if len(stems) == 1 else list(names)


def criteria(artifact: Artifact) -> Figure | None:
    """Show the criteria as points with intervals, each above its matched random control."""
    estimates = [
        Estimate(
            name,
            value,
            _bounds(seen.get("interval")),
            finite(seen.get("control")),
            _bounds(seen.get("control_interval")),
        )
        for name, seen in ordered_criteria(artifact)
        if (value := finite(seen.get("value"))) is not None
    ]
    if not estimates:
        return None
    rows = tuple(
        (e.name, e.value, *(e.interval or (None, None)), e.control, *(e.control_interval or (None, None)))
        for e in estimates
    )
    return Figure(
        name="criteria",
        title="Each criterion beside random traces",
        label="; ".join(f"{e.name} {number(e.value)}, control {number(e.control)}" for e in estimates),
        columns=("criterion", "value", "low", "high", "control", "control low", "control high"),
        rows=rows,
        paint=lambda width: drawing.forest(width, estimates),
    )


def _bounds(interval: Any) -> tuple[float, ...]:
    known = tuple(value for value in map(finite, interval or ()) if value is not None)
    return known if len(known) == 2 else ()


def frontier(artifact: Artifact) -> Figure | None:
    """Show every calibrated edit: what is left of the memory against the worst loss elsewhere."""
    tried = [point for point in points(artifact) if finite(point.get("target")) is not None]
    if not tried:
        return None
    budgets = own_budgets(artifact)
    spots = [(point["target"], _loss(point, budgets)) for point in tried]
    named = {name: marked(artifact, name) for name in ("published", "chosen")}
    marks = {
        name: (p["target"], _loss(p, budgets))
        for name, at in named.items()
        if at is not None
        for p in [points(artifact)[at]]
    }
    limits = [limit for limit in map(finite, part(artifact.header, "budget").values()) if limit is not None]
    axis = "worst loss elsewhere" + (", as a share of its budget" if budgets else "")
    cloud = Cloud(
        groups=_groups(tried, spots),
        frontier=sorted(spot for spot, point in zip(spots, tried, strict=True) if point.get("frontier")),
        marks=marks,
        allowed=(finite(artifact.header.get("goal")), 1.0 if budgets else min(limits, default=None)),
        y=axis,
    )
    told = "; ".join(f"{name}: {number(x)} left, worst loss {number(y)}" for name, (x, y) in marks.items())
    flags = ("frontier", "within")
    return Figure(
        name="frontier",
        title="What is left of the memory, and what it costs",
        label=f"{len(tried)} edits, {len(cloud.frontier)} of them on the frontier. {told}".strip(),
        columns=("sites", "strength", "selectivity", "memory left", axis, *flags),
        rows=tuple(
            (
                _group(point),
                point.get("strength"),
                point.get("selectivity"),
                *spot,
                *(bool(point.get(key)) for key in flags),
            )
            for point, spot in zip(tried, spots, strict=True)
        ),
        paint=lambda width: drawing.scatter(width, cloud),
    )


def own_budgets(artifact: Artifact) -> Mapping[str, float]:
    """Return the budgets where every loss has its own and they differ, so that only shares of them compare."""
    budgets = {name: value for name, value in part(artifact.header, "budget").items() if finite(value)}
    names = {name for point in points(artifact) for name in part(point, "loss")}
    return budgets if len(set(budgets.values())) > 1 and names <= budgets.keys() else {}


def _loss(point: Mapping[str, Any], budgets: Mapping[str, float]) -> float:
    shares = [
        loss / budgets[name] for name, loss in part(point, "loss").items() if budgets and finite(loss) is not None
    ]
    return max(shares, default=0.0) if budgets else worst(point)[1]


def _group(point: Mapping[str, Any]) -> str:
    return number(point.get("sites"))


def _groups(tried: Sequence[Any], spots: Sequence[tuple[float, float]]) -> dict[str, list[tuple[float, float]]]:
    """Group points by site set; beyond as many sets as there are colours, those least on the frontier become one."""
    merit: dict[str, int] = {}
    for point in tried:
        merit[_group(point)] = merit.get(_group(point), 0) + bool(point.get("frontier"))
    best = sorted(merit, key=lambda name: -merit[name])[: len(SERIES)]
    groups: dict[str, list[tuple[float, float]]] = {name: [] for name in merit if name in best}
    for point, spot in zip(tried, spots, strict=True):
        groups.setdefault(_group(point) if _group(point) in best else "other sites", []).append(spot)
    return groups


def probe(artifact: Artifact) -> Figure | None:
    """Show what a fresh probe reads at each site before the edit, after it, and in a network that never knew."""
    probed = part(artifact.header, "probe")
    every = [
        Series(name, [finite(part(probed, site).get(key)) for site in probed], colour, marker)
        for key, (name, colour, marker) in PROBED.items()
    ]
    series = [one for one in every if any(value is not None for value in one.values)]
    if not series:
        return None
    names, chance = without_stem(list(probed)), finite(artifact.header.get("chance"))
    return Figure(
        name="probe",
        title="What a fresh probe still reads, by site",
        label=f"Accuracy of a fresh probe at {len(names)} sites: {', '.join(one.name for one in series)}.",
        columns=("site", *(one.name for one in series)),
        rows=tuple(zip(probed, *(one.values for one in series), strict=True)),
        paint=lambda width: drawing.dots(width, names, series, chance),
    )


def relearning(artifact: Artifact) -> Figure | None:
    """Show how fast the memory comes back under training, beside networks that never lost or never had it."""
    curves = part(artifact.header, "relearning")
    steps = list(curves.get("steps") or [])
    every = [(look, list(curves.get(key) or [])) for key, look in RELEARNED.items()]
    series = [
        Series(name, [finite(value) for value in values[: len(steps)]] + [None] * (len(steps) - len(values)), *look)
        for (name, *look), values in every
        if values and steps
    ]
    if not series:
        return None
    chance = finite(artifact.header.get("chance"))
    return Figure(
        name="relearning",
        title="How fast the memory comes back",
        label=f"Score of the memory over {number(steps[-1])} steps: {', '.join(one.name for one in series)}.",
        columns=("steps", *(one.name for one in series)),
        rows=tuple(zip(steps, *(one.values for one in series), strict=True)),
        paint=lambda width: drawing.curves(width, steps, series, chance),
    )


_FIGURES: dict[str, tuple[Callable[[Artifact], Figure | None], ...]] = {
    "engram": (engram,),
    "criteria": (criteria,),
    "calibration": (frontier,),
    "depth": (probe, relearning),
    "causal_trace": (causal_trace.figure,),
    "suggestion": (suggestion.figure,),
    "verdict": (verdict.figure, relearning),
    "mask": (mask.figure,),
    "direction": (direction.figure,),
    "comparison": (comparison.writing, comparison.erasing),
    "capacity": (capacity.figure,),
    "census": (census.figure,),
    "consolidation": (consolidation.effective, consolidation.replays, training.figure),
    "denoiser": (training.figure,),
    "recall": (recall.way, recall.posterior),
    "reconstruction": (reconstruction.figure,),
    "recollection": (recollection.figure,),
    "recollection_evidence": (recollection_evidence.figure,),
    "visualisation": (wanted.sheet, wanted.climb),
    "top_examples": (wanted.quantiles,),
    "naming_evidence": (naming.figure,),
    "spiking_hierarchy": (spiking.figure,),
    **{kind: of.figures for kind, of in concepts.KINDS.items()},
}
