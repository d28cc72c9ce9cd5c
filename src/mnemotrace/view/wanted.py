"""What units want to see, on the page: a sheet of pictures, the climb, and the data that excite them beside."""

from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import charts, visualisation
from mnemotrace.view.charts import Line
from mnemotrace.view.figure import CONTROL, Figure
from mnemotrace.view.values import NONE, finite, number

Rows = list[tuple[str, ...]]
MOST_LINES, MOST_UNITS, SPOTS = 6, 100, 60


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say what was climbed, with how many pictures, and where they stand among the data."""
    images = artifact.tensors.get("images")
    shape = NONE if images is None else f"{len(images)} of {' × '.join(map(str, images.shape[1:]))}"
    found = [("objective", str(artifact.header.get("objective", NONE))), ("pictures", shape)]
    data = artifact.tensors.get("dataset")
    return found + ([] if data is None or not len(data) else [("best of the data", number(finite(float(data[-1]))))])


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the pictures: activation, the share of data below it, and where the climb began and ended."""
    tensors, rows = artifact.tensors, Rows()
    for i in range(_count(artifact)):
        curve = tensors.get("curve")
        ends = (None, None) if curve is None or not len(curve) else (curve[0, i].item(), curve[-1, i].item())
        values = [_at(tensors.get(name), i) for name in ("activation", "percentile")]
        rows.append(tuple(map(number, (i, *values, *map(finite, ends)))))
    return ("picture", "activation", "per cent of data below", "at the first step", "at the last"), rows


def remarks(artifact: Artifact) -> list[str]:
    """Say where the pictures stand among the data."""
    shares = artifact.tensors.get("percentile")
    if shares is None:
        return ["No data stand beside: without them an activation is a number without a measure."]
    above = int((shares >= 100).sum())
    return [f"{above} of {len(shares)} pictures excite the unit more than any of the data."]


def sheet(artifact: Artifact) -> Figure | None:
    """Draw the pictures with their activations."""
    needed = all(name in artifact.tensors for name in ("images", "activation"))
    known = "bounds" in artifact.header and "objective" in artifact.header
    if not needed or not known or not artifact.tensors["images"].numel():
        return None
    return visualisation.sheet([artifact])


def climb(artifact: Artifact) -> Figure | None:
    """Draw the activation over the steps, a line a picture; the best of the data is dashed."""
    curve = artifact.tensors.get("curve")
    if curve is None or curve.ndim != 2 or not curve.numel():  # noqa: PLR2004
        return None
    drawn = [
        Line(f"picture {i}", _spots(curve[:, i]), charts.look(i)[0]) for i in range(min(MOST_LINES, curve.shape[1]))
    ]
    drawn = [one for one in drawn if one.spots]
    if not drawn:
        return None
    rows = tuple((one.name, int(x), y) for one in drawn for x, y in one.spots)
    data = artifact.tensors.get("dataset")
    best = None if data is None or not len(data) else finite(float(data[-1]))
    if best is not None:
        ends = [(spot[0], best) for spot in (drawn[0].spots[0], drawn[0].spots[-1])]
        drawn.append(Line("the best of the data", ends, CONTROL, style="--"))
    return Figure(
        name="climb",
        title="Activation on transformed pictures, step by step",
        label=f"Activation climbs from {number(drawn[0].spots[0][1])} to {number(drawn[0].spots[-1][1])} in "
        f"{number(len(curve))} steps.",
        columns=("line", "step", "activation"),
        rows=rows,
        paint=lambda width: charts.lines(width, drawn, x="steps", y="activation"),
    )


def examples_summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say of which site, units and examples the top is."""
    header, values = artifact.header, artifact.tensors.get("values")
    return [
        ("site", str(header.get("site") or "the output")),
        ("units", number(len(header.get("units") or []))),
        ("examples seen", number(header.get("count"))),
        ("kept a group", NONE if values is None else number(values.shape[-1])),
    ]


def examples_table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out for each unit the largest value and which example gave it, and the mean of the other groups."""
    values, index = artifact.tensors.get("values"), artifact.tensors.get("index")
    quantiles = [f"around quantile {number(q)}" for q in artifact.header.get("quantiles") or []]
    columns = ("unit", "largest", "its example", "mean of the top", *quantiles, "median")
    if values is None or index is None:
        return columns, []
    rows: Rows = []
    for u, unit in enumerate((artifact.header.get("units") or [])[:MOST_UNITS]):
        means = [finite(float(group.double().mean())) for group in values[:, u]]
        middle = _quantile(artifact.tensors.get("sample"), u)
        rows.append(tuple(map(number, (unit, finite(float(values[0, u, 0])), int(index[0, u, 0]), *means, middle))))
    return columns, rows


def quantiles(artifact: Artifact) -> Figure | None:
    """Draw the values of a few units over the share of examples that excite them less."""
    sample, units = artifact.tensors.get("sample"), list(artifact.header.get("units") or [])
    if sample is None or sample.ndim != 2 or sample.shape[1] < 2:  # noqa: PLR2004
        return None
    drawn = [Line(f"unit {unit}", _ranked(sample[u]), charts.look(u)[0]) for u, unit in enumerate(units[:MOST_LINES])]
    drawn = [one for one in drawn if one.spots]
    if not drawn:
        return None
    return Figure(
        name="quantiles",
        title="How the values of units are spread over examples",
        label="; ".join(f"{one.name}: up to {number(one.spots[-1][1])}" for one in drawn),
        columns=("unit", "per cent of examples below", "value"),
        rows=tuple((one.name, x, y) for one in drawn for x, y in one.spots),
        paint=lambda width: charts.lines(width, drawn, x="per cent of examples below", y="value"),
    )


def _count(artifact: Artifact) -> int:
    activation = artifact.tensors.get("activation")
    return 0 if activation is None else len(activation)


def _at(values: Tensor | None, index: int) -> float | None:
    return None if values is None else finite(values[index].item())


def _spots(values: Tensor) -> list[charts.Spot]:
    return [(float(i), y) for i, value in enumerate(values.tolist()) if (y := finite(value)) is not None]


def _ranked(values: Tensor) -> list[charts.Spot]:
    """Return a few of the rising values with their rank in per cent, both ends included."""
    last = len(values) - 1
    places = sorted({round(i * last / (SPOTS - 1)) for i in range(SPOTS)})
    spots = [(round(100 * place / last, 1), finite(float(values[place]))) for place in places]
    return [(x, y) for x, y in spots if y is not None]


def _quantile(sample: Tensor | None, unit: int) -> float | None:
    return None if sample is None or not sample.shape[-1] else finite(float(sample[unit].double().quantile(0.5)))
