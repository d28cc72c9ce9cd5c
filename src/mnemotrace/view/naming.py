"""What a namer knows, and how well names are learnt: accuracy over examples, with the baselines dashed beside."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.intervals import wilson
from mnemotrace.view import charts
from mnemotrace.view.charts import Line
from mnemotrace.view.figure import CONTROL, SERIES, Figure
from mnemotrace.view.values import NONE, finite, interval, number, part

Rows = list[tuple[str, ...]]
Rate = tuple[float, float, float, float]  # mean, ends of the interval, median
PUBLISHED = "SVM as published"
BASELINES = ("nearest prototype, cosine", "nearest prototype, distance", "SVM", PUBLISHED)
RULES = {
    "prototype": "prototype: cosine with the mean example",
    "hebb_logodds": "Hebbian log-odds of what is active",
    "reference": "as published",
    "reference_fixed": "as published, with its depression mended",
    "ridge": "ridge regression",
}
RESAMPLES = 2000
_GREYS = (CONTROL, SERIES[2], SERIES[3], SERIES[4])


def namer_summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say how many names are known, from how many examples, by which rule."""
    header, width = artifact.header, _width(artifact)
    rule, gain = str(header.get("rule", NONE)), part(header, "gain")
    return [
        ("names", number(len(header.get("names") or []))),
        ("examples", number(sum(header.get("examples") or []))),
        ("features", number(width)),
        ("rule", RULES.get(rule, rule)),
        ("gain of novelty", ", ".join(f"{key} {number(value)}" for key, value in gain.items()) or NONE),
        ("background", "taken away" if "background" in artifact.tensors else "none"),
    ]


def namer_table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the names, the examples of each and their weight."""
    names, examples = artifact.header.get("names") or [], artifact.header.get("examples") or []
    weight = artifact.tensors.get("weight")
    weights = [None] * len(names) if weight is None else [finite(value) for value in weight.tolist()]
    rows: Rows = [(str(n), number(e), number(w)) for n, e, w in zip(names, examples, weights, strict=False)]
    return ("name", "examples", "their weight"), rows


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say how much was tested, and what a guess has."""
    header = artifact.header
    names = finite(header.get("names"))
    return [
        ("names", number(header.get("names"))),
        ("examples a name", number(header.get("counts"))),
        ("test examples", number(header.get("tested"))),
        ("accuracy of a guess", number(1 / names if names else None)),
    ]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out every method at every number of examples: mean, interval, median over draws."""
    rows: Rows = [
        (method, number(count), number(mean), interval((low, high)), number(median))
        for method, found in _rates(artifact).items()
        for count, (mean, low, high, median) in found.items()
    ]
    return ("method", "examples a name", "accuracy", "95 % interval", "median"), rows


def remarks(artifact: Artifact) -> list[str]:
    """Say which method is best with the fewest examples, and what is wrong with the protocol."""
    rates, told = _rates(artifact), [str(text) for text in artifact.header.get("warnings") or []]
    mine = {method: found for method, found in rates.items() if method not in BASELINES}
    plain = {method: found for method, found in rates.items() if method in BASELINES and method != PUBLISHED}
    counts = list(next(iter(rates.values()), {}))
    if mine and plain and counts:
        fewest = min(counts)
        (a, best), (b, other) = (_best(group, fewest) for group in (mine, plain))
        apart = "apart from" if best[1] > other[2] or best[2] < other[1] else "not apart from"
        against = f"{apart} the best baseline ({b}, {number(other[0])})"
        told.insert(0, f"With {number(fewest)} a name: {a} {number(best[0])}, {against}.")
    return told


def figure(artifact: Artifact) -> Figure | None:
    """Draw accuracy over the number of examples, with 95 % intervals; baselines are dashed."""
    rates = _rates(artifact)
    if not rates:
        return None
    drawn: list[Line] = []
    for i, (method, found) in enumerate(rates.items()):
        plain = method in BASELINES
        colour, marker = (_GREYS[BASELINES.index(method)], "") if plain else charts.look(i % 2)
        spots = [(float(count), mean) for count, (mean, *_) in found.items()]
        marker = charts.MARKERS[i % len(charts.MARKERS)] if not marker or len(spots) == 1 else marker
        bounds = [(low, high) for _, low, high, _ in found.values()]
        drawn.append(Line(method, spots, colour, marker, "--" if plain else "-", bounds))
    names = finite(artifact.header.get("names"))
    across = [spot[0] for spot in drawn[0].spots]
    if names and len(across) > 1:
        drawn.append(Line("a guess", [(x, 1 / names) for x in (across[0], across[-1])], CONTROL, style=":"))
    return Figure(
        name="few_shot",
        title="Accuracy over examples a name, on the same features; baselines dashed, bars are 95 % intervals",
        label="; ".join(f"{m}: {number(f[min(f)][0])} with {number(min(f))} a name" for m, f in rates.items()),
        columns=("method", "examples a name", "accuracy", "low", "high"),
        rows=tuple((m, count, mean, low, high) for m, f in rates.items() for count, (mean, low, high, _) in f.items()),
        paint=lambda width: charts.lines(width, drawn, x="examples a name", y="accuracy", scale="shares"),
    )


def _best(rates: Mapping[str, Mapping[int, Rate]], count: int) -> tuple[str, Rate]:
    return max(((method, found[count]) for method, found in rates.items()), key=lambda entry: entry[1][0])


def _rates(artifact: Artifact) -> dict[str, dict[int, Rate]]:
    """Return mean, interval and median by method and number of examples."""
    header, found = artifact.header, dict[str, dict[int, Rate]]()
    counts, tested = header.get("counts") or [], finite(header.get("tested"))
    for i, method in enumerate(header.get("methods") or []):
        accuracy = artifact.tensors.get(f"accuracy.{i}")
        if accuracy is None or accuracy.ndim != 2 or not accuracy.numel():  # noqa: PLR2004
            continue
        rates = {c: _rate(row.double(), tested) for c, row in zip(counts, accuracy, strict=False)}
        found[method] = {count: rate for count, rate in rates.items() if finite(rate[0]) is not None}
    return {method: rates for method, rates in found.items() if rates}


def _rate(draws: Tensor, tested: float | None) -> Rate:
    """Return mean, a bootstrapped interval over draws, or Wilson's of a single one, and median."""
    mean, median = float(draws.mean()), float(draws.median())
    if len(draws) == 1:
        low, high = wilson(draws.mean() * (tested or 1), tested or 1)
        return mean, float(low), float(high), median
    source = torch.Generator().manual_seed(0)
    means = draws[torch.randint(len(draws), (RESAMPLES, len(draws)), generator=source)].mean(1)
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=means.dtype)).tolist()
    return mean, low, high, median


def _width(artifact: Artifact) -> Any:
    held: Mapping[str, Tensor] = artifact.tensors
    return next((held[name].shape[-1] for name in ("sums", "background") if name in held), None)
