"""What an artifact says in rows: used by the page and by `mnemotrace show`. Every cell is a string."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import (
    capacity,
    causal_trace,
    census,
    comparison,
    concepts,
    consolidation,
    direction,
    episodes,
    mask,
    memory,
    naming,
    recall,
    recollection,
    recollection_evidence,
    reconstruction,
    spiking,
    suggestion,
    verdict,
    wanted,
)
from mnemotrace.view.values import (
    MEASURES,
    NONE,
    interval,
    marked,
    number,
    ordered_criteria,
    part,
    points,
    provenance,
    setting,
    size,
    strongest,
    worst,
)
from mnemotrace.view.words import MEMORIES

Rows = list[tuple[str, ...]]
Table = tuple[tuple[str, ...], Rows]
STATES = ("before", "after", "rewritten")
EVIDENCE = ("rank", "relative_norm", "leak", "miss", "reinstatement", "leverage", "condition")
NETWORKS = {
    "untouched": "untouched",
    "erased": "trace taken out",
    "written": "trace put in",
    "control_erased": "random trace taken out",
    "control_written": "random trace put in",
    "null": "without the memory",
    "alone": "without it, trace put in",
    "control_alone": "without it, random trace put in",
}


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Describe an artifact in a few labelled values: what it is, what it holds, where it comes from."""
    return [("kind", artifact.kind), *_SUMMARIES.get(artifact.kind, lambda _: [])(artifact), *provenance(artifact)]


def table(artifact: Artifact) -> Table:
    """Lay out the main numbers of an artifact.

    Returns:
        headings: one per column.
        rows: as many cells each; an unknown kind gives its header as key and value.
    """
    return _TABLES.get(artifact.kind, _keys_and_values)(artifact)


def behaviour(artifact: Artifact) -> Table:
    """Lay out the scores that criteria come from: a row per network, a column per group of prompts."""
    scores = part(artifact.header, "behaviour")
    groups = {"target": "the memory", "control": "what must stay"}
    shown = [state for state in NETWORKS if any(state in part(scores, group) for group in scores)]
    rows: Rows = [(NETWORKS[state], *(number(part(scores, group).get(state)) for group in scores)) for state in shown]
    return ("network", *(groups.get(group, group) for group in scores)), rows


def _engram(artifact: Artifact) -> Table:
    sites, evidence = part(artifact.header, "sites"), part(artifact.header, "evidence")
    rows: Rows = []
    for name in dict.fromkeys([*sites, *evidence]):
        values = part(evidence, name)
        seen = f"{number(values.get('target_rows'))} / {number(values.get('reference_rows'))}"
        rows.append((name, _shape(part(sites, name)), *(number(values.get(key)) for key in EVIDENCE), seen))
    return ("site", "shape", *(key.replace("_", " ") for key in EVIDENCE), "rows: memory / kept"), rows


def _shape(site: Mapping[str, Any]) -> str:
    return f"{site['o']} × {site['d']}" if "o" in site and "d" in site else NONE


def _edit(artifact: Artifact) -> Table:
    rows: Rows = []
    for key, site in part(artifact.header, "sites").items():
        factors = _tensors(artifact, key, "left", "right")
        touched = [text for text in (site.get("weight", key), site.get("bias")) if text]
        rank = factors[0].shape[1] if factors else None
        rows.append((", ".join(touched), "low rank", _shape(site), number(rank), *_weight(factors)))
    for key, entry in part(artifact.header, "parameters").items():
        stored = _tensors(artifact, key, "values", "indices")
        form = "sparse" if f"{key}.indices" in artifact.tensors else "dense"
        shape = " × ".join(str(length) for length in entry.get("shape") or [NONE])
        rows.append((entry.get("parameter", key), form, shape, NONE, *_weight(stored)))
    return ("parameter", "form", "shape", "rank", "numbers", "size"), rows


def written(artifact: Artifact) -> Table:
    """Lay out the facts that an edit wrote, with the probability of the new answer where its values were sought."""
    facts = part(artifact.header, "manifest").get("facts") or []
    rows: Rows = [
        (
            *(str(fact.get(key, NONE)) for key in ("prompt", "target")),
            *(number(fact.get(k)) for k in ("before", "after")),
        )
        for fact in facts
        if isinstance(fact, Mapping)
    ]
    return ("prompt", "new answer", "probability before", "as sought"), rows


def _tensors(artifact: Artifact, key: str, *ends: str) -> list[Tensor]:
    return [artifact.tensors[f"{key}.{end}"] for end in ends if f"{key}.{end}" in artifact.tensors]


def _weight(tensors: list[Tensor]) -> tuple[str, str]:
    return number(sum(tensor.numel() for tensor in tensors)), size(sum(tensor.nbytes for tensor in tensors))


def _criteria(artifact: Artifact) -> Table:
    rows: Rows = [
        (
            name,
            number(values.get("value")),
            interval(values.get("interval")),
            number(values.get("control")),
            interval(values.get("control_interval")),
            number(values.get("meaning")),
        )
        for name, values in ordered_criteria(artifact)
    ]
    return ("criterion", "value", "interval", "control", "its interval", "meaning"), rows


def _calibration(artifact: Artifact) -> Table:
    """Lay out the frontier from the least that is left of the memory, below the untouched network."""
    untouched, names = part(artifact.header, "untouched"), {}
    notes = {marked(artifact, name): name for name in ("published", "chosen")}
    for point in points(artifact):
        names |= dict.fromkeys(part(point, "kept"))
    rows: Rows = []
    if untouched:
        kept = (number(part(untouched, "kept").get(name)) for name in names)
        rows.append(("none", NONE, NONE, number(untouched.get("target")), *kept, NONE, NONE, "untouched"))
    shown = [(i, point) for i, point in enumerate(points(artifact)) if point.get("frontier") or i in notes]
    for index, point in sorted(shown, key=lambda entry: (entry[1].get("target") or 0.0, entry[0])):
        settings = (number(point.get(key)) for key in ("sites", "strength", "selectivity", "target"))
        kept = (number(part(point, "kept").get(name)) for name in names)
        rows.append((*settings, *kept, number(worst(point)[1]), number(point.get("within")), notes.get(index, "")))
    return ("sites", "strength", "selectivity", "memory left", *names, "worst loss", "in budget", "note"), rows


def _depth(artifact: Artifact) -> Table:
    probe, keys = part(artifact.header, "probe"), ("before", "after", "naive")
    rows: Rows = [(site, *(number(part(probe, site).get(key)) for key in keys)) for site in probe]
    return ("site", "before", "after", "never knew"), rows


def _statistics(artifact: Artifact) -> Table:
    rows: Rows = [
        (site, number(values.get("n")), number(values.get("d")), "rows" if values.get("rows") else "second moments")
        for site, values in part(artifact.header, "sites").items()
    ]
    return ("site", "rows seen", "width", "stored as"), rows


def _demo(artifact: Artifact) -> Table:
    header = artifact.header
    states = [state for state in STATES if any(f"{key}_{state}" in header for key in MEASURES)]
    rows: Rows = [
        (label, *(number(header.get(f"{key}_{state}")) for state in states))
        for key, label in MEASURES.items()
        if any(f"{key}_{state}" in header for state in states)
    ]
    return ("what is asked", *states), rows


def _keys_and_values(artifact: Artifact) -> Table:
    return ("key", "value"), list(_flat(artifact.header))


def _flat(values: object, path: str = "", limit: int = 300) -> Iterable[tuple[str, str]]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        text = number(values)
        yield path, text if len(text) <= limit else f"{text[: limit - 1]}…"


def _of_engram(artifact: Artifact) -> list[tuple[str, str]]:
    found = [("sites", number(len(part(artifact.header, "sites"))))]
    largest = strongest(artifact)
    return [*found, ("largest at", f"{largest[0]}, {number(largest[1])} of the weight's norm")] if largest else found


def _of_criteria(artifact: Artifact) -> list[tuple[str, str]]:
    found = [
        (name, f"{number(values.get('value'))} (control {number(values.get('control'))})")
        for name, values in ordered_criteria(artifact)
    ]
    return [*found, *_fields(artifact, "draws", "chance")]


def _of_calibration(artifact: Artifact) -> list[tuple[str, str]]:
    tried = points(artifact)
    at = {name: marked(artifact, name) for name in ("chosen", "published")}
    found = [(name, NONE if index is None else setting(tried[index])) for name, index in at.items()]
    return [("edits tried", number(len(tried))), *found, *_fields(artifact, "goal")]


def _of_demo(artifact: Artifact) -> list[tuple[str, str]]:
    return [
        *((row[0], " → ".join(row[1:])) for row in _demo(artifact)[1]),
        *_fields(artifact, "restored", "seconds"),
    ]


def _fields(artifact: Artifact, *keys: str) -> list[tuple[str, str]]:
    return [(key, number(artifact.header[key])) for key in keys if key in artifact.header]


def _count(label: str, key: str) -> Callable[[Artifact], list[tuple[str, str]]]:
    return lambda artifact: [(label, number(len(part(artifact.header, key))))]


_RECALLED: dict[str, tuple[Callable[[Artifact], list[tuple[str, str]]], Callable[[Artifact], Table]]] = {
    "recollection": (recollection.summary, recollection.table),
    "recollection_evidence": (recollection_evidence.summary, recollection_evidence.table),
    "episodic_trace": (episodes.trace_summary, episodes.trace_table),
    "episodes": (episodes.store_summary, episodes.store_table),
    "visualisation": (wanted.summary, wanted.table),
    "top_examples": (wanted.examples_summary, wanted.examples_table),
    "namer": (naming.namer_summary, naming.namer_table),
    "naming_evidence": (naming.summary, naming.table),
    "spiking_hierarchy": (spiking.summary, spiking.table),
}
_SUMMARIES: dict[str, Callable[[Artifact], list[tuple[str, str]]]] = {
    "engram": _of_engram,
    "edit": lambda artifact: [("changes", number(len(_edit(artifact)[1])))],
    "criteria": _of_criteria,
    "calibration": _of_calibration,
    "depth": _count("sites probed", "probe"),
    "direction": direction.summary,
    "causal_trace": causal_trace.summary,
    "suggestion": suggestion.summary,
    "verdict": verdict.summary,
    "mask": mask.summary,
    "statistics": _count("sites", "sites"),
    "demo": _of_demo,
    "comparison": comparison.summary,
    "capacity": capacity.summary,
    "census": census.summary,
    "consolidation": consolidation.summary,
    "recall": recall.summary,
    "reconstruction": reconstruction.summary,
    **{kind: pair[0] for kind, pair in _RECALLED.items()},
    **{kind: of.summary for kind, of in concepts.KINDS.items()},
    **dict.fromkeys(MEMORIES, memory.summary),
}
_TABLES: dict[str, Callable[[Artifact], Table]] = {
    "engram": _engram,
    "edit": _edit,
    "criteria": _criteria,
    "calibration": _calibration,
    "depth": _depth,
    "direction": direction.table,
    "causal_trace": causal_trace.table,
    "suggestion": suggestion.table,
    "verdict": verdict.table,
    "mask": mask.table,
    "statistics": _statistics,
    "demo": _demo,
    "comparison": comparison.answers,
    "capacity": capacity.table,
    "census": census.table,
    "consolidation": consolidation.table,
    "recall": recall.table,
    "reconstruction": reconstruction.table,
    **{kind: pair[1] for kind, pair in _RECALLED.items()},
    **{kind: of.table for kind, of in concepts.KINDS.items()},
    **dict.fromkeys(MEMORIES, memory.table),
}
