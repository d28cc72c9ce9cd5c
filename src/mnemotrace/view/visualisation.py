"""What units want to see: their pictures on one sheet, and beside it everything that is known about them as JSON."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mnemotrace.core.artifact import Artifact, atomic
from mnemotrace.view import canvas
from mnemotrace.view.figure import INK, MUTED, TRACE, Figure, save
from mnemotrace.view.values import number

Tile = tuple[str, str, Tensor, Any]
GAP, HEAD, FOOT, STRIP = 14, 18, 18, 0.45


def sheet(visualisations: Sequence[Artifact], *, titles: Sequence[str] | None = None, columns: int = 4) -> Figure:
    """Lay out the pictures of visualisations, each with its activation and its percentile in the dataset.

    Args:
        visualisations: artifacts of kind "visualisation"; one with several pictures takes several tiles.
        titles: one a visualisation; None takes the objectives.
        columns: tiles a row.

    Raises:
        ValueError: none, another kind, no column, or titles of another number.
    """
    kinds = [artifact.kind for artifact in visualisations]
    if not kinds or set(kinds) != {"visualisation"} or columns < 1:
        raise ValueError(
            f"got kinds {kinds} and columns={columns}; expected at least one visualisation and one column; "
            "pack them first"
        )
    names = [str(a.header["objective"]) for a in visualisations] if titles is None else list(titles)
    if len(names) != len(kinds):
        raise ValueError(f"got {len(names)} titles for {len(kinds)} visualisations; expected one each")
    tiles = [tile for name, artifact in zip(names, visualisations, strict=True) for tile in _tiles(name, artifact)]
    return Figure(
        name="visualisation",
        title="What units want to see",
        label="; ".join(f"{name}: {told}" for name, told, *_ in tiles),
        columns=("picture", "said"),
        rows=tuple((name, told) for name, told, *_ in tiles),
        paint=lambda width: _painted(tiles, width, min(columns, len(tiles))),
    )


def write_sheet(
    visualisations: Artifact | Sequence[Artifact],
    path: str | Path,
    *,
    titles: Sequence[str] | None = None,
    columns: int = 4,
) -> tuple[Path, Path]:
    """Write a sheet as PNG or SVG, and targets, settings, seeds, activations and percentiles as JSON beside it.

    Args:
        visualisations: one artifact of kind "visualisation", from `.pack()`, or several.
        path: ends in `.png` or `.svg`.
        titles: one a visualisation; None takes the objectives.
        columns: tiles a row.

    Returns:
        The two paths: the picture, the JSON.

    Raises:
        ValueError: no visualisation, or another ending.
        ImportError: matplotlib is absent.
    """
    found = [visualisations] if isinstance(visualisations, Artifact) else list(visualisations)
    figure = sheet(found, titles=titles, columns=columns)
    drawn, _ = save(figure, path)
    told = [_told(artifact) for artifact in found]
    for entry, title in zip(told, titles or [], strict=bool(titles)):
        entry["title"] = title
    beside = Path(path).with_suffix(".json")
    with atomic(beside) as temporary:
        temporary.write_text(json.dumps(told, indent=1, allow_nan=False) + "\n")
    return drawn, beside


def _told(artifact: Artifact) -> dict[str, Any]:
    tensors = {name: artifact.tensors[name] for name in ("activation", "percentile") if name in artifact.tensors}
    curve = artifact.tensors["curve"]
    return {
        "objective": artifact.header["objective"],
        "bounds": artifact.header["bounds"],
        "shape": list(artifact.tensors["images"].shape),
        **{name: tensor.tolist() for name, tensor in tensors.items()},
        "curve": [[round(value, 4) for value in row] for row in curve.tolist()],
        "manifest": dict(artifact.header["manifest"]),
    }


def _tiles(name: str, artifact: Artifact) -> list[Tile]:
    images, activation = artifact.tensors["images"].detach().float().cpu(), artifact.tensors["activation"].tolist()
    percentile = artifact.tensors.get("percentile")
    shares = [None] * len(images) if percentile is None else percentile.tolist()
    return [
        (name, number(value) + ("" if share is None else f"  ·  {_share(share)}"), image, artifact.header["bounds"])
        for image, value, share in zip(images, activation, shares, strict=True)
    ]


def _share(percentile: float) -> str:
    return "above all data" if percentile >= 100 else f"above {math.floor(percentile)} % of data"


def _painted(tiles: Sequence[Tile], width: int, columns: int) -> Any:
    side = (width - GAP * (columns - 1)) / columns
    image = tiles[0][2]
    tall = side * (STRIP if image.ndim == 2 else image.shape[1] / image.shape[2])
    step = HEAD + tall + FOOT + GAP
    rows = -(-len(tiles) // columns)
    paper = canvas.sheet(width, rows * step - GAP)
    for place, (name, told, picture, bounds) in enumerate(tiles):
        left, top = (place % columns) * (side + GAP), (place // columns) * step + HEAD
        axes = canvas.panel(paper, left, top, side, tall)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(canvas.fit(name, side), fontsize=canvas.SMALL + 0.5, color=INK, loc="left", pad=5)
        axes.set_xlabel(told, fontsize=canvas.SMALL - 1, color=MUTED, loc="left", labelpad=4)
        _draw(axes, picture, bounds)
    return paper


def _draw(axes: Any, picture: Tensor, bounds: Any) -> None:
    """Draw a signal as lines, one or three channels as they are, other numbers of channels as their mean."""
    if picture.ndim == 2:
        for channel in picture[:6]:
            axes.plot(channel.numpy(), color=TRACE, linewidth=1, alpha=0.8)
        axes.margins(x=0)
        return
    low, high = bounds or (float(picture.min()), float(picture.max()))
    shown = ((picture - low) / max(high - low, 1e-12)).clamp(0, 1)
    shown = shown.permute(1, 2, 0) if len(shown) == 3 else shown.mean(0)
    axes.imshow(shown.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="bicubic", aspect="auto")
