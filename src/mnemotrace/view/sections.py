"""The page's sections: for each artifact its words, figures, tables and what the numbers say in a sentence."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import causal_trace, comparison, mask, suggestion, verdict
from mnemotrace.view.figure import Figure
from mnemotrace.view.figures import figures_of
from mnemotrace.view.tables import Rows, behaviour, table, written
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

LONG = 30
# kind: heading, what its figure shows, what it does not prove
WORDS = {
    "causal_trace": (
        "Trace",
        "The subject was made unreadable with noise; then one thing of the untouched run was put back, at one token "
        "and layer, and the cell says how much of the answer's probability returned. The subject's tokens have a star.",
        "That the answer is stored where putting back helps: a state may only pass by. Severed maps tell more.",
    ),
    "suggestion": (
        "Choose layers",
        "How much of the answer's probability hangs on the MLPs from a layer on, where the rest of that token's state "
        "is what it was in the untouched run: at the last token of the subject, and of the prompt. Bars are standard "
        "errors over facts.",
        "That an edit there works best: where tracing points and where edits work often differ. Write one and judge "
        "it.",
    ),
    "engram": (
        "Find",
        "Where the memory sits: at each site the size of its trace beside the weight's own, how strongly the trace "
        "also answers to what must be kept (leak), and how much of the memory it fails to reproduce (miss).",
        "That the network uses it: a large trace is a place to look, not a cause. The criteria test that.",
    ),
    "criteria": (
        "Prove",
        "Four tests of the trace by what the network then does, each above random traces of equal size, rank and "
        "spectrum; bars are confidence intervals.",
        "Anything about prompts that were not scored: a phrasing nobody tried may still call the memory up.",
    ),
    "calibration": (
        "Calibrate",
        "Every edit that was tried on held-out data: what it leaves of the memory against the worst it costs "
        "elsewhere. No edit is better in both than those on the line.",
        "That nothing else was lost: only what was measured can be seen here, and the chosen edit was picked on these "
        "data, so expect slightly less on new ones.",
    ),
    "edit": (
        "Edit",
        "What is added to which parameter, and what it takes to store it.",
        "That a small edit has a small effect: apply it and measure.",
    ),
    "verdict": (
        "Judge",
        "What the network says after an edit of facts, beside the untouched one: to the prompts themselves, asked "
        "otherwise, about others, and about what follows; by the probability of the wanted answer, teacher-forced, and "
        "as the network goes on by itself.",
        "Anything about prompts that were not asked. The probability and the teacher-forced reading flatter: they are "
        "given the answer up to each token.",
    ),
    "comparison": (
        "Compare",
        "Every method on the same memories: what the network then answers, by itself, teacher-forced and by "
        "probability, and the four criteria of each method's edit, each beside random edits of the same size. The "
        "first row is the untouched network, the last a random edit as large as the largest method.",
        "That one method is better everywhere: this is one network, one set of memories and one setting a method. To "
        "write and to erase are different questions, so compare within a block only.",
    ),
    "direction": (
        "Erase a concept",
        "The directions in activation space that tell of a concept, how strongly each does, and how much of the "
        "activations' variance goes with it when it is taken away.",
        "That the network has forgotten: no linear reader finds the concept here, another may, and the network can "
        "form it again further on.",
    ),
    "mask": (
        "Graft",
        "The few entries of a fine-tuned network that carry its new skill into the network that it was tuned from: how "
        "many of each parameter, and the score beside random entries and the largest movers of equal number.",
        "That the skill is only there: other entries of the tuned network may carry it too.",
    ),
    "depth": (
        "Depth",
        "Whether the memory is gone or only hidden: what a fresh probe still reads at each site, and how few steps of "
        "training bring the memory back.",
        "Absence: a probe that reads nothing says that this probe reads nothing; another reader might.",
    ),
    "statistics": (
        "Statistics",
        "What was collected, and from how many rows at each site.",
        "Anything about a memory: these are second moments of what the sites received.",
    ),
}
OTHER = (
    "The header of an artifact for which this page has no drawing, as it is.",
    "Anything beyond what its own method does.",
)


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
        artifacts: in any order; of one kind they keep theirs and are counted.
        drawn: whether figures will be seen, so that their numbers may be folded away.
    """
    rank = {kind: index for index, kind in enumerate(WORDS)}
    ordered = sorted((a for a in artifacts if a.kind != "demo"), key=lambda a: rank.get(a.kind, len(rank)))
    count: dict[str, int] = {}
    found: list[Section] = []
    for position, artifact in enumerate(ordered, 1):
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
                terms=[
                    (name, str(seen["meaning"])) for name, seen in ordered_criteria(artifact) if seen.get("meaning")
                ],
                numbers=_numbers(artifact, drawn),
                made=provenance(artifact) if artifact.kind in WORDS else [],
            )
        )
    return found


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
}
_EXTRA = {"frontier": "Every edit that was tried", "relearning": "Scores while relearning"}
_FOLDED = ("engram", "depth")
