"""What a hierarchy of spiking layers says: its sizes, how far its weights have come, and its first filters."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import pictures
from mnemotrace.view.figure import Figure
from mnemotrace.view.pictures import Way
from mnemotrace.view.values import NONE, number

Rows = list[tuple[str, ...]]
END, MOST_FILTERS, LARGEST = 0.1, 64, 33


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say which images it reads, in how many steps."""
    header = artifact.header
    return [
        ("image", " × ".join(map(str, header.get("shape") or [NONE]))),
        ("layers", number(len(header.get("layers") or []))),
        ("steps", number(header.get("steps"))),
        ("smallest contrast, grey values", number(header.get("contrast"))),
    ]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the layers; the last column is the share of weights that learning has brought near 0 or 1."""
    rows: Rows = []
    for i, layer in enumerate(artifact.header.get("layers") or []):
        weight, pool = artifact.tensors.get(f"weight_{i}"), layer.get("pool")
        rows.append(
            (number(i), number(layer.get("maps")), _square(layer.get("size")), _threshold(layer, "threshold"),
             _threshold(layer, "learning"), f"{_square(pool)}, stride {layer.get('stride')}" if pool else "none",
             number(_settled(weight)))
        )  # fmt: skip
    return ("layer", "maps", "filters", "threshold", "while learning", "pool", "weights near 0 or 1"), rows


def figure(artifact: Artifact) -> Figure | None:
    """Draw the filters of the first layer, which look at the image itself, if they are few and small."""
    weight = artifact.tensors.get("weight_0")
    if weight is None or weight.ndim != 4 or len(weight) > MOST_FILTERS or weight.shape[-1] > LARGEST:  # noqa: PLR2004
        return None
    drawn = [Way(f"map {i}", one[None], (number(float(one.mean())),)) for i, one in enumerate(weight.detach())]
    return Figure(
        name="filters",
        title="Filters of the first layer, each scaled to its own range: white is strongest",
        label=f"{len(weight)} filters of {weight.shape[-2]} × {weight.shape[-1]}.",
        columns=("map", "mean weight", "lowest", "highest"),
        rows=tuple((i, float(w.mean()), float(w.min()), float(w.max())) for i, w in enumerate(weight)),
        paint=lambda width: pictures.sheet(width, drawn, ("mean",)),
    )


def _settled(weight: Tensor | None) -> float | None:
    return None if weight is None or not weight.numel() else float(((weight < END) | (weight > 1 - END)).float().mean())


def _threshold(layer: Mapping[str, Any], key: str) -> str:
    """Say a threshold; a file writes infinity as 0."""
    return "never spikes" if layer.get(key) == 0 else number(layer.get(key))


def _square(side: Any) -> str:
    return NONE if side is None else f"{side} × {side}"
