"""What a sparse probe says: how well few units tell a label, beside all units and random labels, and which they are."""

from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import charts
from mnemotrace.view.charts import Line
from mnemotrace.view.figure import ALARM, CONTROL, SECOND, TRACE, Figure
from mnemotrace.view.values import NONE, finite, interval, number

Rows = list[tuple[str, ...]]
MOST = 60
COLUMNS = ("class", "unit", "weight on raw activations", "chosen on half the families")
_TWO = 2


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say how well it tells, from how many units, and what that is to be compared with."""
    header, support = artifact.header, artifact.tensors.get("support")
    control, capacity = (_mean(header.get(name)) for name in ("control", "capacity"))
    accuracy = finite(header.get("accuracy"))
    used = NONE if support is None else f"{number(support.sum(1).tolist())} of {support.shape[1]}"
    selectivity = None if accuracy is None or control is None else accuracy - control
    return [
        ("accuracy on unseen families", f"{number(accuracy)} ({interval(header.get('interval'))})"),
        ("all units", number(header.get("dense"))),
        ("random labels, as many units", f"{number(control)}; on what they were fitted to {number(capacity)}"),
        ("selectivity", number(selectivity)),
        ("most frequent label", number(header.get("chance"))),
        ("units used", used),
    ]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the units that are used, by class, largest share of the halves first, then largest weight."""
    support, directions = artifact.tensors.get("support"), artifact.tensors.get("directions")
    if support is None or directions is None:
        return COLUMNS, []
    often, rows = artifact.tensors.get("frequency"), Rows()
    for c, (label, used) in enumerate(zip(_labels(artifact, len(support)), support, strict=False)):
        known = None if often is None or not often.numel() else often[c]
        for unit in _ordered(used, directions[c], known):
            share = None if known is None else round(float(known[unit]), 2)
            rows.append((label, str(unit), number(finite(float(directions[c, unit]))), number(share)))
    return COLUMNS, rows[:MOST]


def figure(artifact: Artifact) -> Figure | None:
    """Draw accuracy over the number of units a class, beside all units, random labels and the frequent label."""
    spots = [(float(k), y) for k, value in artifact.header.get("curve") or () if (y := finite(value)) is not None]
    if len(spots) < _TWO:
        return None
    levels = {
        "all units": (finite(artifact.header.get("dense")), SECOND, "--"),
        "random labels": (_mean(artifact.header.get("control")), ALARM, ":"),
        "most frequent label": (finite(artifact.header.get("chance")), CONTROL, ":"),
    }
    drawn = [Line("k strongest units", spots, TRACE, "o")]
    for name, (value, colour, style) in levels.items():
        if value is not None:
            drawn.append(Line(name, [(spots[0][0], value), (spots[-1][0], value)], colour, style=style))
    best = max(spots, key=lambda spot: spot[1])
    return Figure(
        name="probe",
        title="How few units are enough",
        label=f"The best accuracy, {number(best[1])}, is reached with {number(int(best[0]))} units; "
        f"all units reach {number(levels['all units'][0])}, random labels {number(levels['random labels'][0])}.",
        columns=("line", "units a class", "accuracy"),
        rows=tuple((line.name, int(x), y) for line in drawn for x, y in line.spots),
        paint=lambda width: charts.lines(width, drawn, x="units a class", y="accuracy on unseen families"),
    )


def _labels(artifact: Artifact, count: int) -> list[str]:
    """Name the rows: of two labels there is one, the second against the first."""
    classes = [str(label) for label in artifact.header.get("classes") or range(count)]
    return [f"{classes[1]} against {classes[0]}"] if count == 1 and len(classes) == _TWO else classes


def _ordered(used: Tensor, weights: Tensor, often: Tensor | None) -> list[int]:
    units = used.nonzero()[:, 0].tolist()
    return sorted(units, key=lambda unit: (0 if often is None else -float(often[unit]), -abs(float(weights[unit]))))


def _mean(values: object) -> float | None:
    known = [y for value in values if (y := finite(value)) is not None] if isinstance(values, list | tuple) else []
    return sum(known) / len(known) if known else None
