"""The page's sections: for each artifact its words, figures, tables and what the numbers say in a sentence."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import (
    capacity,
    causal_trace,
    census,
    comparison,
    concepts,
    consolidation,
    mask,
    memory,
    naming,
    recall,
    recollection,
    recollection_evidence,
    reconstruction,
    suggestion,
    verdict,
    wanted,
)
from mnemotrace.view.figure import Figure
from mnemotrace.view.figures import figures_of
from mnemotrace.view.tables import Rows, behaviour, summary, table, written
from mnemotrace.view.together import grouped
from mnemotrace.view.values import (
    finite,
    marked,
    number,
    ordered_criteria,
    part,
    points,
    provenance,
    setting,
    strongest,
    worst,
)
from mnemotrace.view.words import MEMORIES, OTHER, WORDS

LONG = 30


@dataclass(frozen=True)
class Numbers:
    """A captioned table, folded away where a figure shows the same or where it is long."""

    caption: str
    headings: tuple[str, ...]
    rows: Rows
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """One section of the page: in words what it shows and what it does not prove, then the evidence."""

    anchor: str
    title: str
    shows: str
    caveat: str
    figures: list[Figure]
    remarks: list[str]
    terms: list[tuple[str, str]]
    numbers: list[Numbers]
    made: list[tuple[str, str]]


def sections(artifacts: Iterable[Artifact], *, drawn: bool = True) -> list[Section]:
    """Make a section of every artifact except a demonstration, in the order of the page.

    Args:
        artifacts: in any order; of one kind they keep theirs and are counted, or share a section where they compare.
        drawn: whether figures will be seen, so that their numbers may be folded away.
    """
    rank = {kind: index for index, kind in enumerate(WORDS)}
    ordered = sorted((a for a in artifacts if a.kind != "demo"), key=lambda a: rank.get(a.kind, len(rank)))
    count: dict[str, int] = {}
    found: list[Section] = []
    for position, artifact in enumerate(grouped(ordered), 1):
        count[artifact.kind] = count.get(artifact.kind, 0) + 1
        title, shows, caveat = WORDS.get(artifact.kind, (artifact.kind.replace("_", " ").capitalize(), *OTHER))
        found.append(
            Section(
                anchor=f"section-{position}",
                title=title if count[artifact.kind] == 1 else f"{title} ({count[artifact.kind]})",
                shows=shows,
                caveat=caveat,
                figures=figures_of(artifact),
                remarks=_REMARKS.get(artifact.kind, lambda _: [])(artifact),
                terms=_terms(artifact),
                numbers=_numbers(artifact, drawn),
                made=_made(artifact),
            )
        )
    return found


def _made(artifact: Artifact) -> list[tuple[str, str]]:
    told = artifact.kind in WORDS and (artifact.kind not in MEMORIES or part(artifact.header, "manifest"))
    return provenance(artifact) if told else []


def _terms(artifact: Artifact) -> list[tuple[str, str]]:
    if artifact.kind in MEMORIES:
        return memory.summary(artifact)
    if artifact.kind in _SUMMARISED:
        made = {name for name, _ in provenance(artifact)}
        return [(name, value) for name, value in summary(artifact)[1:] if name not in made]
    return [(name, str(seen["meaning"])) for name, seen in ordered_criteria(artifact) if seen.get("meaning")]


def _numbers(artifact: Artifact, drawn: bool) -> list[Numbers]:
    headings, rows = table(artifact)
    if artifact.kind == "criteria":  # the meanings are told apart, they would make the table too wide for a phone
        headings, rows = headings[:-1], [row[:-1] for row in rows]
    found = [Numbers(_CAPTIONS.get(artifact.kind, "Header"), headings, rows, drawn and artifact.kind in _FOLDED)]
    if artifact.kind == "criteria":
        found.append(Numbers("The scores that the criteria come from", *behaviour(artifact)))
    if artifact.kind == "edit":
        found.append(Numbers("Facts that were written", *written(artifact)))
    if artifact.kind == "comparison":
        found.append(Numbers("The four criteria, of random edits in brackets", *comparison.evidence(artifact)))
    for figure in figures_of(artifact):
        if figure.name in _EXTRA:
            cells = [tuple(number(value) for value in row) for row in figure.rows]
            found.append(Numbers(_EXTRA[figure.name], figure.columns, cells, drawn))
    return [replace(one, folded=one.folded or len(one.rows) > LONG) for one in found if one.rows]


def _engram(artifact: Artifact) -> list[str]:
    largest, count = strongest(artifact), len(part(artifact.header, "evidence"))
    if largest is None:
        return []
    return [f"Of {count} sites the trace is largest at {largest[0]}: {number(largest[1])} of the weight's norm."]


def _criteria(artifact: Artifact) -> list[str]:
    apart: list[str] = []
    within: list[str] = []
    for name, seen in ordered_criteria(artifact):
        mine, random = seen.get("interval"), seen.get("control_interval")
        if mine and random:
            (apart if mine[0] > random[1] or mine[1] < random[0] else within).append(name)
    told = [f"Apart from the random control: {', '.join(apart)}."] if apart else []
    told += [f"Not apart from it, the intervals overlap: {', '.join(within)}."] if within else []
    return [*told, *(f"No {name}: {why}." for name, why in part(artifact.header, "absent").items())]


def _calibration(artifact: Artifact) -> list[str]:
    tried, goal = points(artifact), artifact.header.get("goal")
    told: list[str] = []
    for name, word in (("chosen", "Chosen"), ("published", "As published")):
        index = marked(artifact, name)
        if index is not None:
            lost, loss = worst(tried[index])
            left = number(tried[index].get("target")) + ("" if goal is None else f" (goal {number(goal)})")
            told.append(
                f"{word}: {setting(tried[index])}. Left of the memory {left}, worst loss {number(loss)} ({lost})."
            )
    if tried and marked(artifact, "chosen") is None:
        told.insert(0, f"None of the {len(tried)} edits that were tried met the goal within the budget.")
    return told


def _depth(artifact: Artifact) -> list[str]:
    told = [
        "A memory is hidden when a reader still finds it, or when it comes back faster than in a network that never "
        "knew; it is gone when the edited network does no better than that one."
    ]
    probed = part(artifact.header, "probe")
    every = [[finite(part(probed, site).get(key)) for key in ("before", "after", "naive")] for site in probed]
    known = [scores for scores in every if None not in scores]
    near = sum(abs(after - before) < abs(after - naive) for before, after, naive in known)  # type: ignore[operator]
    if known:
        told.append(
            f"At {near} of {len(known)} sites the probe is nearer to the untouched network than to one that never knew."
        )
    curves = part(artifact.header, "relearning")
    back = [_reached(curves, key) for key in ("after", "naive") if curves.get(key)]
    if len(back) == 2:
        told.append(f"Back at nine tenths of the old score: {back[0]} after the edit, {back[1]} from never knowing.")
    return told


def _reached(curves: Mapping[str, Any], key: str) -> str:
    """Say after how many steps a curve is back at nine tenths of what the untouched network scores."""
    level = 0.9 * (curves.get("before") or [1.0])[0]
    steps = curves.get("steps") or []
    for step, value in zip(steps, curves[key], strict=False):
        if value is not None and value >= level:
            return f"{number(step)} {'step' if step == 1 else 'steps'}"
    return f"not within {number(steps[-1])} steps" if steps else "not measured"


_REMARKS: dict[str, Callable[[Artifact], list[str]]] = {
    "engram": _engram,
    "criteria": _criteria,
    "calibration": _calibration,
    "depth": _depth,
    "mask": mask.remarks,
    "causal_trace": causal_trace.remarks,
    "suggestion": suggestion.remarks,
    "verdict": verdict.remarks,
    "comparison": comparison.remarks,
    "capacity": capacity.remarks,
    "census": census.remarks,
    "consolidation": consolidation.remarks,
    "recall": recall.remarks,
    "reconstruction": reconstruction.remarks,
    "recollection": recollection.remarks,
    "recollection_evidence": recollection_evidence.remarks,
    "visualisation": wanted.remarks,
    "naming_evidence": naming.remarks,
    **{kind: of.remarks for kind, of in concepts.KINDS.items()},
    **dict.fromkeys(MEMORIES, memory.remarks),
}
_CAPTIONS = {
    "engram": "Evidence by site",
    "criteria": "The criteria",
    "calibration": "The frontier",
    "edit": "What changes",
    "depth": "Probe accuracy by site",
    "mask": "Entries by parameter",
    "causal_trace": "Largest effects",
    "suggestion": "Scores by layer",
    "verdict": "Every measure",
    "direction": "Directions",
    "comparison": "Answers by probability / teacher-forced / by itself, and costs",
    "statistics": "What was collected",
    "capacity": "Recall by number of patterns",
    "census": "Shares of what was generated",
    "consolidation": "Episodes that were replayed most",
    "recall": "Cues",
    "reconstruction": "Cues",
    "recollection": "Pictures",
    "recollection_evidence": "Every measure: own / same class / different class",
    "episodic_trace": "Entries",
    "episodes": "Bits",
    "visualisation": "Pictures",
    "top_examples": "Values by unit",
    "namer": "Names",
    "naming_evidence": "Every method",
    "spiking_hierarchy": "Layers",
    **{kind: of.caption for kind, of in concepts.KINDS.items()},
    **dict.fromkeys(MEMORIES, "What is stored"),
    "mixture": "Parts",
}
_EXTRA = {
    "frontier": "Every edit that was tried",
    "relearning": "Scores while relearning",
    "reconstruction": "Every feature",
    "loss": "Losses",
}
_SUMMARISED = (
    "recollection", "recollection_evidence", "episodic_trace", "episodes", "visualisation", "top_examples", "namer",
    "naming_evidence", "spiking_hierarchy", *concepts.KINDS,
)  # fmt: skip
_FOLDED = (
    "engram",
    "depth",
    "capacity",
    "consolidation",
    "naming_evidence",
    *(kind for kind in MEMORIES if kind != "mixture"),
    *(kind for kind, of in concepts.KINDS.items() if of.folded),
)
