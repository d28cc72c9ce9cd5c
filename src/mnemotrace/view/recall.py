"""What a recall says: whether cues came to rest and how, the way there if it was kept, and how sure the answers are."""

from typing import Any

from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import charts
from mnemotrace.view.charts import Line
from mnemotrace.view.figure import CONTROL, SECOND, SERIES, TRACE, Figure
from mnemotrace.view.values import NONE, finite, number

Rows = list[tuple[str, ...]]
MOST_LINES, MOST_BARS, MOST_ROWS, FIRST, SURE = 6, 20, 100, 3, 0.9
COLUMNS = ("cue", "steps", "at rest", "cycle", "energy", "likeliest pattern", "its probability", "patterns in effect")
PLACES = {"likeliest pattern": TRACE, "second": SECOND, "third": SERIES[2], "all others": CONTROL}


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say how many cues came to rest, after how many steps, and what it cost."""
    state, steps = artifact.tensors.get("state"), artifact.tensors.get("steps")
    rest = artifact.tensors.get("converged")
    found = [("cues", NONE), ("features", NONE)]
    if state is not None:
        found = [("cues", number(len(state))), ("features", number(state.shape[-1]))]
    return [
        *found,
        ("at rest", NONE if rest is None else f"{int(rest.sum())} of {len(rest)}"),
        ("steps", NONE if steps is None else _span(steps)),
        ("evaluations of the memory", number(artifact.header.get("evaluations"))),
    ]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the first cues: steps, rest, energy, and the likeliest pattern; only columns that are known."""
    tensors = artifact.tensors
    top = {cue: (where[0], shares[0], effect) for cue, where, shares, effect in _likeliest(artifact, MOST_ROWS)}
    rows: Rows = []
    for cue in range(min(_cues(artifact), MOST_ROWS)):
        values = [_entry(tensors.get(name), cue) for name in ("steps", "converged", "cycle", "energy")]
        rows.append(tuple(map(number, (cue, *values, *top.get(cue, (None,) * 3)))))
    known = [i for i in range(len(COLUMNS)) if not i or any(row[i] != NONE for row in rows)]
    return tuple(COLUMNS[i] for i in known), [tuple(row[i] for i in known) for row in rows]


def remarks(artifact: Artifact) -> list[str]:
    """Say which cues are not at rest, how sure the answers are, and what was not kept."""
    rest, cycle = artifact.tensors.get("converged"), artifact.tensors.get("cycle")
    told: list[str] = []
    if rest is not None and not bool(rest.all()):
        circling = 0 if cycle is None else int((cycle > 0).sum())
        told.append(
            f"{len(rest) - int(rest.sum())} of {len(rest)} cues are not at rest, {circling} of them in a cycle."
        )
    shares = _posterior(artifact)
    if shares is not None:
        sure = int((shares.max(1).values >= SURE).sum())
        told.append(f"The likeliest pattern has a probability of at least {SURE} for {sure} of {len(shares)} cues.")
    if artifact.tensors.get("trajectory") is None and _cues(artifact):
        told.append("The way to rest was not kept; recall with trajectory=True to see it here.")
    return told


def way(artifact: Artifact) -> Figure | None:
    """Draw how far each state on the way is from where it ended: some cues, or the middle and tenths of many."""
    path = artifact.tensors.get("trajectory")
    if path is None or not path.numel():
        return None
    far = (path.double() - path[-1].double()).square().mean(2).sqrt()
    drawn = _by_cue(far) if far.shape[1] <= MOST_LINES else _tenths(far)
    drawn = [one for one in drawn if one.spots]
    if not drawn:
        return None
    first, last = drawn[0].spots[0], drawn[0].spots[-1]
    return Figure(
        name="way",
        title="The way to where it ended",
        label=f"{drawn[0].name}: {number(first[1])} away in a feature at first, {number(last[1])} after "
        f"{number(int(last[0]))} steps.",
        columns=("line", "step", "distance in a feature"),
        rows=tuple((one.name, int(x), y) for one in drawn for x, y in one.spots),
        paint=lambda width: charts.lines(
            width, drawn, x="steps from the cue", y="distance from the end, root mean square a feature"
        ),
    )


def posterior(artifact: Artifact) -> Figure | None:
    """Draw for each cue the probabilities of its three likeliest patterns, and of all others together."""
    found = [row for row in _likeliest(artifact, MOST_BARS) if None not in row[2]]
    if not found:
        return None
    rows = tuple((cue, *shares, max(0.0, 1 - sum(shares))) for cue, _, shares, _ in found)
    names = [f"cue {cue}: pattern {where[0]}" for cue, where, _, _ in found]
    parts = {name: (colour, [row[i] for row in rows]) for i, (name, colour) in enumerate(PLACES.items(), 1)}
    return Figure(
        name="posterior",
        title="How sure each answer is",
        label="; ".join(f"{name}, {number(row[1])}" for name, row in zip(names, rows, strict=True)),
        columns=("cue", *PLACES),
        rows=rows,
        paint=lambda width: charts.stacked(width, names, parts),
    )


def _cues(artifact: Artifact) -> int:
    state = artifact.tensors.get("state")
    return 0 if state is None else len(state)


def _span(steps: Tensor) -> str:
    if not steps.numel():
        return NONE
    low, high = int(steps.min()), int(steps.max())
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def _entry(values: Tensor | None, index: int) -> float | bool | None:
    return None if values is None else finite(values[index].item())


def _posterior(artifact: Artifact) -> Tensor | None:
    """Return the probabilities; None where there are none, or not of any pattern."""
    found = artifact.tensors.get("posterior")
    return None if found is None or not found.numel() else found.double()


def _likeliest(artifact: Artifact, most: int) -> list[tuple[Any, ...]]:
    """List of the first cues the three likeliest patterns, their probabilities, and the patterns in effect."""
    shares = _posterior(artifact)
    if shares is None:
        return []
    rows = shares[:most]
    effect = rows.clamp_min(1e-300).log().mul(rows).sum(1).neg().exp()
    top = rows.topk(min(FIRST, rows.shape[1]), 1)
    missing = FIRST - top.values.shape[1]
    return [
        (cue, where, [finite(value) for value in values] + [0.0] * missing, finite(many))
        for cue, (where, values, many) in enumerate(
            zip(top.indices.tolist(), top.values.tolist(), effect.tolist(), strict=True)
        )
    ]


def _spots(values: Tensor) -> list[charts.Spot]:
    return [(float(i), y) for i, value in enumerate(values.tolist()) if (y := finite(value)) is not None]


def _by_cue(far: Tensor) -> list[Line]:
    return [Line(f"cue {i}", _spots(far[:, i]), *charts.look(i)) for i in range(far.shape[1])]


def _tenths(far: Tensor) -> list[Line]:
    parts = {
        "half of the cues are nearer": (0.5, TRACE, "-"),
        "a tenth are nearer": (0.1, CONTROL, "--"),
        "nine tenths are nearer": (0.9, SECOND, "--"),
    }
    return [Line(name, _spots(far.quantile(q, 1)), c, style=style) for name, (q, c, style) in parts.items()]
