"""What a dictionary costs its network: losses by what stands in for activations, and how often latents are on."""

from math import floor, log10

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import charts, drawing
from mnemotrace.view.figure import TRACE, Figure
from mnemotrace.view.values import NONE, finite, number, part

Rows = list[tuple[str, ...]]
COLUMNS = ("in the place of activations", "loss", "recovered over zeros", "recovered over the mean")
SAID = {
    "clean": "activations as they are",
    "spliced": "their reconstruction",
    "random": "a random dictionary's",
    "mean": "the mean",
    "zero": "zeros",
}
_OFTEN = 0.1


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say where it was measured, what is explained, how sparse it is, and what the network keeps."""
    header, density = artifact.header, artifact.tensors.get("density")
    explained = part(header, "explained")
    found = [
        ("site", str(header.get("site") or "the output")),
        ("explained variance", number(explained.get("dictionary"))),
        ("a random dictionary's", number(explained.get("random dictionary"))),
        ("active latents a position", number(header.get("l0"))),
        ("recovered of the loss", _share(artifact, "zero", "spliced")),
    ]
    if density is None or not len(density):
        return found
    dead, often = (float(share.double().mean()) for share in (density == 0, density > _OFTEN))
    return [*found, ("never on", f"{dead:.1%} of {number(len(density))} latents"), ("on over a tenth", f"{often:.1%}")]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the mean loss of each way, and what it gives back."""
    return COLUMNS, [
        (SAID[way], number(loss), _share(artifact, "zero", way), _share(artifact, "mean", way))
        for way, loss in _losses(artifact).items()
    ]


def losses(artifact: Artifact) -> Figure | None:
    """Draw the mean losses as bars, the least first."""
    found = _losses(artifact)
    if not found:
        return None
    names, values = [SAID[way] for way in found], list(found.values())
    return Figure(
        name="losses",
        title="Loss of the network, by what stands in the place of activations",
        label="; ".join(f"{name}: {number(value)}" for name, value in zip(names, values, strict=True)),
        columns=COLUMNS[:2],
        rows=tuple(zip(names, values, strict=True)),
        paint=lambda width: drawing.bars(width, names, {"loss": values}),
    )


def densities(artifact: Artifact) -> Figure | None:
    """Draw how many latents are on how often, by halves of powers of ten; those never on are told, not drawn."""
    density = artifact.tensors.get("density")
    on = [] if density is None else [value for value in density.flatten().tolist() if value > 0]
    if not on or density is None:
        return None
    steps = [floor(2 * log10(value)) / 2 for value in on]
    places = [min(steps) + i / 2 for i in range(round(2 * (max(steps) - min(steps))) + 1)]
    spots = [(place, float(steps.count(place))) for place in places]
    return Figure(
        name="densities",
        title="How many latents are on how often",
        label=f"{len(density) - len(on)} of {len(density)} latents are never on; the others are on at "
        f"{number(min(on))} to {number(max(on))} of the positions.",
        columns=("logarithm of the share of positions", "latents"),
        rows=tuple(spots),
        paint=lambda width: charts.lines(
            width, [charts.Line("latents", spots, TRACE, "o")], x="logarithm (base 10) of the share of positions",
            y="latents",
        ),
    )  # fmt: skip


def _losses(artifact: Artifact) -> dict[str, float]:
    """Return the mean loss of each known way, the least first."""
    values, ways = artifact.tensors.get("losses"), list(artifact.header.get("ways") or [])
    if values is None or values.ndim != 2 or not len(values) or values.shape[1] != len(ways):  # noqa: PLR2004
        return {}
    means = dict(zip(ways, values.double().mean(0).tolist(), strict=True))
    known = {way: means[way] for way in SAID if way in means and finite(means[way]) is not None}
    return dict(sorted(known.items(), key=lambda entry: entry[1]))


def _share(artifact: Artifact, over: str, way: str) -> str:
    found = part(part(artifact.header, "recovered"), over).get(way)
    if not isinstance(found, list) or len(found) != 3:  # noqa: PLR2004
        return NONE
    return f"{number(found[0])} ({number(found[1])} to {number(found[2])})"
