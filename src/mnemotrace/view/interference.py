"""What memories cost each other: overlaps of their engrams, and losses when one is erased, as two heat maps."""

from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import matrix
from mnemotrace.view.figure import Figure
from mnemotrace.view.values import NONE, finite, interval, number, part

Rows = list[tuple[str, ...]]
COLUMNS = ("erased or compared", "with", "cosine", "random, root mean square", "loss", "loss by random engrams")
MOST = 60


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say how far different engrams overlap, and what erasing costs, each beside random engrams."""
    cosine, random = (_off(artifact, name) for name in ("cosine", "random_cosine"))
    found = [
        ("engrams", number(len(artifact.header.get("names") or []))),
        ("sites", number(len(artifact.header.get("sites") or []))),
        ("cosine of different engrams, root mean square", f"{_root(cosine)}; random engrams {_root(random)}"),
    ]
    told = part(artifact.header, "behaviour")
    if not told:
        return found
    for name, title in (("own", "loss of the erased concept"), ("others", "loss of another concept")):
        found.append((title, f"{_estimate(told, name)}; random engrams {_estimate(told, f'control_{name}')}"))
    value, edge, p = (number(finite(told.get(key))) for key in ("correlation", "permuted", "p"))
    return [*found, ("overlap with loss, rank correlation", f"{value}; 95 % of permutations below {edge}; p {p}")]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the ordered pairs of different concepts, those that cost or overlap most first."""
    names, tensors = list(map(str, artifact.header.get("names") or [])), artifact.tensors
    if "cosine" not in tensors:
        return COLUMNS, []
    order = "loss" if "loss" in tensors else "cosine"
    pairs = [(i, j) for i in range(len(names)) for j in range(len(names)) if i != j]
    pairs.sort(key=lambda pair: -abs(_at(tensors[order], *pair) or 0.0))
    shown = ("cosine", "random_cosine", "loss", "control")
    return COLUMNS, [
        (names[i], names[j], *(number(_at(tensors.get(name), i, j)) for name in shown)) for i, j in pairs[:MOST]
    ]


def figure(artifact: Artifact) -> Figure | None:
    """Draw the cosines beside the losses, and beside the losses by random engrams."""
    names, tensors = list(map(str, artifact.header.get("names") or [])), artifact.tensors
    if "cosine" not in tensors or not names:
        return None
    titles = {"cosine": "cosine of engrams", "loss": "loss when the row is erased", "control": "random in its place"}
    panels = {title: _rows(tensors[name]) for name, title in titles.items() if name in tensors}
    pairs = [(i, j) for i in range(len(names)) for j in range(len(names))]
    return Figure(
        name="interference",
        title="How memories overlap, and what erasing one costs the others",
        label="; ".join(f"{term}: {value}" for term, value in summary(artifact)),
        columns=("row", "column", *panels),
        rows=tuple((names[i], names[j], *(rows[i][j] for rows in panels.values())) for i, j in pairs),
        paint=lambda width: matrix.matrices(width, names, panels),
    )


def _rows(values: Tensor) -> list[list[float | None]]:
    return [[finite(value) for value in row] for row in values.tolist()]


def _at(values: Tensor | None, i: int, j: int) -> float | None:
    return None if values is None else finite(float(values[i, j]))


def _off(artifact: Artifact, name: str) -> Tensor | None:
    values = artifact.tensors.get(name)
    return None if values is None else values[values.new_ones(values.shape).fill_diagonal_(0).bool()]


def _root(values: Tensor | None) -> str:
    return NONE if values is None else number(finite(float(values.square().mean().sqrt())))


def _estimate(told: object, name: str) -> str:
    found = part({"found": told}, "found").get(name)
    return NONE if not found else f"{number(found[0])} ({interval(found[1])})"
