"""Features in shared dimensions: how much of one each has, beside random directions, and who hears whom most."""

from collections.abc import Mapping

from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import charts
from mnemotrace.view.charts import Line
from mnemotrace.view.figure import CONTROL, TRACE, Figure
from mnemotrace.view.values import NONE, finite, number

Rows = list[tuple[str, ...]]
COLUMNS = ("feature", "length", "dimensionality", "interference", "nearest other", "cosine")
MOST, SPOTS = 100, 60


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say how many features share how many dimensions, and how that compares with random directions."""
    header, tensors = artifact.header, artifact.tensors
    control = tensors.get("control")
    random = (NONE, NONE) if control is None else tuple(_spread(column) for column in control.T)
    norm = tensors.get("norm")
    return [
        ("features", NONE if norm is None else number(len(norm))),
        ("dimensions", f"{number(header.get('m'))}, of which they span {number(header.get('rank'))}"),
        ("sum of dimensionalities", f"{_mean(tensors, 'dimensionality', total=True)}; random {random[1]}"),
        ("mean interference", f"{_mean(tensors, 'interference')}; random {random[0]}"),
        ("of random directions, in closed form", number(finite(header.get("expected")))),
    ]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the features, those that hear most of others first."""
    names, tensors = list(map(str, artifact.header.get("names") or [])), artifact.tensors
    if any(name not in tensors for name in ("interference", "partner", "cosine", "norm", "dimensionality")):
        return COLUMNS, []
    order = tensors["interference"].argsort(descending=True).tolist()[:MOST]
    rows: Rows = []
    for i in order:
        values = [finite(float(tensors[name][i])) for name in ("norm", "dimensionality", "interference")]
        nearest = names[int(tensors["partner"][i])]
        rows.append((names[i], *map(number, values), nearest, number(finite(float(tensors["cosine"][i])))))
    return COLUMNS, rows


def figure(artifact: Artifact) -> Figure | None:
    """Draw the dimensionalities from the largest down, those of random directions dashed."""
    found, control = (artifact.tensors.get(name) for name in ("dimensionality", "control_dimensionality"))
    if found is None or control is None or len(found) < 2:  # noqa: PLR2004
        return None
    mine, random = _spots(found.sort(descending=True).values), _spots(control)
    told = dict(summary(artifact))
    return Figure(
        name="superposition",
        title="How much of a dimension each feature has to itself",
        label=f"Sum of dimensionalities {told['sum of dimensionalities']}, over {told['dimensions']}.",
        columns=("feature, by rank", "dimensionality", "random directions"),
        rows=tuple((int(x), y, other) for (x, y), (_, other) in zip(mine, random, strict=True)),
        paint=lambda width: charts.lines(
            width,
            [Line("features", mine, TRACE), Line("random directions", random, CONTROL, style="--")],
            x="features, by dimensionality",
            y="dimensionality",
        ),
    )


def _spots(values: Tensor) -> list[charts.Spot]:
    last = len(values) - 1
    places = sorted({round(i * last / (SPOTS - 1)) for i in range(SPOTS)})
    return [(float(place + 1), float(values[place])) for place in places]


def _mean(tensors: Mapping[str, Tensor], name: str, *, total: bool = False) -> str:
    values = tensors.get(name)
    return NONE if values is None else number(finite(float(values.sum() if total else values.mean())))


def _spread(values: Tensor) -> str:
    return f"{number(float(values.mean()))} ({number(float(values.min()))} to {number(float(values.max()))})"
