"""What an eraser in activation space says: the directions that it takes away, strongest first."""

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import drawing
from mnemotrace.view.figure import Figure
from mnemotrace.view.values import finite, number, part

Rows = list[tuple[str, ...]]
MOST = 40
COLUMNS = ("direction", "correlation with the concept", "share of the variance")


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say in a few values what is taken away, from what, and what is left."""
    evidence, left = part(artifact.header, "evidence"), artifact.tensors.get("left")
    found = [] if left is None else [("takes away", f"{left.shape[1]} of {left.shape[0]} dimensions")]
    before, after = (number(evidence.get(f"covariance_{when}")) for when in ("before", "after"))
    return [
        *found,
        ("covariance with the concept", f"{before} → {after}"),
        ("change over the variance", number(evidence.get("change"))),
        ("fitted rows", number(evidence.get("rows"))),
    ]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the directions: how they correlate with the concept, how much of the variance goes with them."""
    return COLUMNS, [(f"{i}", number(c), number(v)) for i, c, v in _directions(artifact)]


def figure(artifact: Artifact) -> Figure | None:
    """Show the directions as bars: what each tells of the concept beside what it costs."""
    rows = tuple(_directions(artifact))
    if not rows:
        return None
    names = [f"{i}" for i, _, _ in rows[:MOST]]
    panels = {COLUMNS[1]: [c for _, c, _ in rows[:MOST]], COLUMNS[2]: [v for _, _, v in rows[:MOST]]}
    strongest = max(c or 0.0 for _, c, _ in rows)
    cost = sum(v or 0.0 for _, _, v in rows)
    return Figure(
        name="direction",
        title="What is taken away",
        label=f"{len(rows)} directions; the strongest correlates {number(strongest)} with the concept; "
        f"together they hold {number(cost)} of the variance.",
        columns=COLUMNS,
        rows=rows,
        paint=lambda width: drawing.bars(width, names, panels),
    )


def _directions(artifact: Artifact) -> list[tuple[int, float | None, float | None]]:
    evidence = part(artifact.header, "evidence")
    pairs = zip(evidence.get("correlation") or (), evidence.get("variance") or (), strict=False)
    return [(i, finite(c), finite(v)) for i, (c, v) in enumerate(pairs, 1)]
