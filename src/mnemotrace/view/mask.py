"""What a mask says: how many entries of which parameters, and how much of the skill they carry beside controls."""

import re
from math import prod
from typing import Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.core.site import layer_of
from mnemotrace.view import drawing
from mnemotrace.view.figure import Figure
from mnemotrace.view.values import finite, number, part, size

Rows = list[tuple[str, ...]]
MOST = 40
CONTROLS = {"random": "random entries", "movers": "the largest movers", "learned": "the learned mask"}
COLUMNS = ("parameter", "entries", "of", "share", "norm of the change", "size")


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say in a few values how large the region is and what it carries."""
    count, total = sum(counts(artifact).values()), finite(artifact.header.get("total")) or 0
    found = [("entries", f"{number(count)} of {number(total)}, {number(count / total if total else None)}")]
    evidence = part(part(artifact.header, "manifest"), "evidence")
    return [*found, *((f"score, {CONTROLS.get(name, name)}", number(value)) for name, value in evidence.items())]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the region by parameter."""
    rows: Rows = []
    for name, count in counts(artifact).items():
        whole, values = _size(artifact, name), artifact.tensors[f"{name}.values"]
        stored = size(values.nbytes + artifact.tensors[f"{name}.indices"].nbytes)
        rows.append(
            (name, number(count), number(whole), number(count / whole), number(float(values.double().norm())), stored)
        )
    return COLUMNS, rows


def remarks(artifact: Artifact) -> list[str]:
    """Say what share of the gain from fine-tuning each mask of this size carries."""
    evidence = part(part(artifact.header, "manifest"), "evidence")
    base, tuned = finite(evidence.get("base")), finite(evidence.get("tuned"))
    if base is None or tuned is None or base == tuned:
        return []
    shares = {
        word: (value - base) / (tuned - base)
        for name, word in CONTROLS.items()
        if (value := finite(evidence.get(name))) is not None
    }
    return ["Of what fine-tuning gained: " + ", ".join(f"{word} {share:.0%}" for word, share in shares.items()) + "."]


def figure(artifact: Artifact) -> Figure | None:
    """Show where the entries are: the share of each parameter's entries, over layers or as bars without layers."""
    found = counts(artifact)
    rows = tuple((name, count, count / _size(artifact, name)) for name, count in found.items())
    if not rows:
        return None
    densest = max(rows, key=lambda row: row[2])
    return Figure(
        name="mask",
        title="Where the entries of the mask are",
        label=f"{number(sum(found.values()))} entries in {len(rows)} parameters; "
        f"densest at {densest[0]}, {number(densest[2])} of its entries.",
        columns=("parameter", "entries", "share"),
        rows=rows,
        paint=lambda width: _drawn(width, rows),
    )


def counts(artifact: Artifact) -> dict[str, int]:
    """Count the entries of the mask by parameter."""
    return {name: len(artifact.tensors[f"{name}.indices"]) for name in part(artifact.header, "parameters")}


def _size(artifact: Artifact, name: str) -> int:
    return prod(part(artifact.header, "parameters")[name]["shape"])


def _drawn(width: int, rows: tuple[tuple[str, int, float], ...]) -> Any:
    title = "share of a parameter's entries"
    layers = sorted({layer for name, *_ in rows if (layer := layer_of(name)) is not None})
    if not layers:
        shown = sorted(rows, key=lambda row: -row[2])[:MOST]
        return drawing.bars(width, [row[0] for row in shown], {title: [row[2] for row in shown]})
    cells = {(_kind(name), str(layer_of(name))): share for name, _, share in rows if layer_of(name) is not None}
    return drawing.heat_maps(width, list(dict.fromkeys(kind for kind, _ in cells)), [*map(str, layers)], {title: cells})


def _kind(name: str) -> str:
    """Return what follows the layer's index in the name of a parameter."""
    return re.split(r"(?:^|\.)\d+\.", name, maxsplit=1)[-1]
