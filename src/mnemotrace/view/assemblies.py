"""Assemblies on the page: which concepts share neurons, beside what they would share by chance."""

import torch
from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import matrix
from mnemotrace.view.figure import Figure
from mnemotrace.view.values import number, part

Rows = list[tuple[str, ...]]
COLUMNS = ("concept", "shares most with", "overlap", "by chance", "above chance, of the others")
MOST = 30
SIGMAS = 3.0


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say how many concepts and neurons there are, and how far concepts overlap."""
    header, overlap = artifact.header, _overlaps(artifact)
    found = [("rule", number(header.get("rule"))), ("made from", number(part(header, "manifest").get("method")))]
    if overlap is None:
        return found
    (p, neurons), size = artifact.tensors["members"].shape, _size(artifact)
    apart = overlap[~torch.eye(p, dtype=torch.bool)]
    told = f"{number(float(apart.mean()))}; by chance {number(size / neurons)}" if p > 1 else "one concept only"
    return [("concepts", number(p)), ("neurons", f"{neurons}, {size} a concept"), *found, ("mean overlap", told)]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out each concept with the one it shares most with, largest overlap first."""
    overlap, names = _overlaps(artifact), _names(artifact)
    if overlap is None or len(names) < 2:  # noqa: PLR2004
        return COLUMNS, []
    apart = overlap.clone().fill_diagonal_(-1)
    most, partner = apart.max(1)
    chance, bound = _chance(artifact)
    order = most.argsort(descending=True, stable=True).tolist()[:MOST]
    return COLUMNS, [
        (
            names[i],
            names[int(partner[i])],
            number(float(most[i])),
            number(chance),
            number(int((apart[i] > bound).sum())),
        )
        for i in order
    ]


def figure(artifact: Artifact) -> Figure | None:
    """Draw the overlaps of the concepts that share most, each pair's own on no diagonal."""
    overlap, names = _overlaps(artifact), _names(artifact)
    if overlap is None or len(names) < 2:  # noqa: PLR2004
        return None
    most = overlap.clone().fill_diagonal_(-1).amax(1).argsort(descending=True, stable=True)[:MOST].sort().values
    shown = [names[i] for i in most.tolist()]
    values: list[list[float | None]] = [list(row) for row in overlap[most][:, most].tolist()]
    for i in range(len(shown)):
        values[i][i] = None
    return Figure(
        name="assemblies",
        title="How far concepts share neurons",
        label="; ".join(f"{term}: {value}" for term, value in summary(artifact)),
        columns=("row", "column", "overlap"),
        rows=tuple((a, b, values[i][j]) for i, a in enumerate(shown) for j, b in enumerate(shown) if i != j),
        paint=lambda width: matrix.matrices(width, shown, {"share of neurons in common": values}),
    )


def _overlaps(artifact: Artifact) -> Tensor | None:
    members = artifact.tensors.get("members")
    return None if members is None else members.double() @ members.double().T / _size(artifact)


def _size(artifact: Artifact) -> int:
    return int(artifact.tensors["members"][0].sum())


def _chance(artifact: Artifact) -> tuple[float, float]:
    """Give the chance overlap, and three deviations above it."""
    neurons, size = artifact.tensors["members"].shape[1], _size(artifact)
    a = size / neurons
    return a, a + SIGMAS * (a * (1 - a) ** 2 / size) ** 0.5


def _names(artifact: Artifact) -> list[str]:
    return list(map(str, artifact.header.get("names") or []))
