"""A semantic graph on the page: how large it is, which concepts lead where, and how far fans differ."""

from __future__ import annotations

from collections import Counter

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import charts
from mnemotrace.view.charts import Line
from mnemotrace.view.figure import TRACE, Figure
from mnemotrace.view.values import number, part

Rows = list[tuple[str, ...]]
COLUMNS = ("node", "kind", "leads to", "uses", "last used", "valence", "arousal")
MOST = 30


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say how many nodes and links there are, and of what sort."""
    header, flags = artifact.header, artifact.tensors.get("flags")
    felt = artifact.tensors.get("felt")
    found = [("nodes", number(len(header.get("nodes") or [])))]
    if flags is not None:
        found += [("links given", number(flags.shape[1])), ("directed", number(int(flags[0].sum())))]
        found.append(("causal", number(int(flags[1].sum()))))
    if felt is not None:
        found.append(("nodes with affect", number(int((felt > 0).sum()))))
    return [*found, ("made from", number(part(header, "manifest").get("method")))]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the nodes that lead to most others."""
    names, fans, tensors = artifact.header.get("nodes") or [], _fans(artifact), artifact.tensors
    if not fans:
        return COLUMNS, []
    order = sorted(range(len(names)), key=lambda i: (-fans[i], i))[:MOST]
    counts = tensors["counts"]
    ends = counts.cumsum(0)
    rows: Rows = []
    for i in order:
        used = tensors["times"][int(ends[i] - counts[i]) : int(ends[i])]
        rows.append((
            names[i], artifact.header["tags"][i] or number(None), number(fans[i]), number(len(used)),
            number(float(used.max()) if len(used) else None), number(float(tensors["valence"][i])),
            number(float(tensors["arousal"][i])),
        ))  # fmt: skip
    return COLUMNS, rows


def figure(artifact: Artifact) -> Figure | None:
    """Draw which share of nodes leads to so many others, or more."""
    fans = _fans(artifact)
    if not any(fans):
        return None
    counts, left, spots = Counter(fans), len(fans), []
    for fan in sorted(counts):
        spots.append((float(fan), left / len(fans)))
        left -= counts[fan]
    spots = [spot for spot in spots if spot[0] > 0]
    middle = sorted(fans)[len(fans) // 2]
    return Figure(
        name="fans",
        title="How many others a node leads to",
        label=f"fans from {min(fans)} to {max(fans)}, half of the nodes at most {middle}",
        columns=("fan", "share of nodes with at least this fan"),
        rows=tuple(spots),
        paint=lambda width: charts.lines(
            width, [Line("nodes", spots, TRACE)], x="fan", y="share with at least so many"
        ),
    )


def _fans(artifact: Artifact) -> list[int]:
    """Count the different nodes that each leads to; causes count as if they were believed."""
    ends, flags = artifact.tensors.get("ends"), artifact.tensors.get("flags")
    if ends is None or flags is None:
        return []
    pairs = set(zip(*ends.tolist(), strict=True))
    pairs |= {(b, a) for (a, b), directed in zip(ends.T.tolist(), flags[0].tolist(), strict=True) if not directed}
    led = Counter(a for a, _ in pairs)
    return [led[i] for i in range(len(artifact.header.get("nodes") or []))]
