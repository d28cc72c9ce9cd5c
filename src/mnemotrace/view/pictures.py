"""Sheets of pictures: one way of recalling beside another, each picture scaled to its own range.

Pictures come in the space of a network, where numbers mean nothing to the eye. So each is scaled to [0, 1] by its own
lowest and highest value: contrast is comparable within a picture, never between two. Three channels are colours, other
numbers of channels are averaged; `(c, t)` are lines; a flat vector is shown as a square where its length is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mnemotrace.view import canvas
from mnemotrace.view.canvas import ROOMY, SMALL
from mnemotrace.view.figure import INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

SCALED = "each picture scaled to its own range; three channels as colours, other numbers of channels as their mean"
WIDE_MOST, NARROW_MOST = 8, 4
GAP, SPACE, LINE, NUMBER = 3, 14, 16, 58
LARGEST, SMALLEST, TALLEST = 150, 56, 900
STRIP, THIN = 0.4, 0.15


@dataclass(frozen=True, eq=False)
class Way:
    """Pictures that were made in one way.

    Attributes:
        name: of the way.
        images: `(n, c, h, w)`, `(n, c, t)` or `(n, d)`.
        numbers: what was measured, in words, one for each heading of the sheet.
    """

    name: str
    images: Tensor
    numbers: tuple[str, ...] = ()


def scaled(image: Tensor) -> Tensor:
    """Scale a picture to [0, 1] by its own range.

    Args:
        image: `(c, h, w)`, or `(d,)`.

    Returns:
        `(h, w, 3)` of three channels, else `(h, w)`, float32. A constant picture is grey; what is not finite is black.
    """
    image = image.detach().float().cpu()
    if image.ndim == 1:
        side = isqrt(len(image))
        image = image.view(1, side, side) if side * side == len(image) else image.view(1, 1, -1)
    shown = image.permute(1, 2, 0) if len(image) == 3 else image.mean(0)  # noqa: PLR2004
    known = shown[shown.isfinite()]
    if not known.numel() or bool(known.max() == known.min()):
        return torch.where(shown.isfinite(), torch.full_like(shown, 0.5), torch.zeros_like(shown))
    low, high = known.min(), known.max()
    return torch.where(shown.isfinite(), ((shown - low) / (high - low)).clamp(0, 1), torch.zeros_like(shown))


def sheet(width: int, ways: Sequence[Way], headings: Sequence[str] = ()) -> Sheet:
    """Draw a row of pictures a way with its numbers beside it; ways of one picture each stand side by side.

    Args:
        width: of the drawing.
        ways: at least one, of pictures of one shape; those that do not fit into a row are left out.
        headings: of the numbers.
    """
    most = max(len(way.images) for way in ways)
    if most == 1:
        return _tiles(width, ways, headings)
    return _rows(width, ways, headings) if width >= ROOMY else _blocks(width, ways, headings)


def shown(images: Tensor) -> int:
    """Tell how many of several pictures a wide sheet shows."""
    return min(len(images), WIDE_MOST)


def _rows(width: int, ways: Sequence[Way], headings: Sequence[str]) -> Sheet:
    names, n = [way.name for way in ways], max(shown(way.images) for way in ways)
    label = canvas.label_room(names, width)
    room = width - label - NUMBER * len(headings)
    side, tall = _size(ways[0].images, min((room - GAP * n) / n, LARGEST, max(SMALLEST, TALLEST / len(ways))))
    step, top = max(tall, LINE) + GAP, LINE + 6 if headings else 0
    paper = canvas.sheet(width, top + step * len(ways))
    right = label + n * (side + GAP)
    for column, heading in enumerate(headings):
        _say(paper, right + NUMBER * (column + 1), LINE / 2, heading, MUTED, ha="right")
    for row, way in enumerate(ways):
        y = top + row * step
        _say(paper, 0, y + tall / 2, canvas.fit(way.name, label), INK)
        for place, image in enumerate(way.images[:n]):
            _draw(canvas.panel(paper, label + place * (side + GAP), y, side, tall), image)
        for column, value in enumerate(way.numbers):
            _say(paper, right + NUMBER * (column + 1), y + tall / 2, value, INK, ha="right")
    return paper


def _blocks(width: int, ways: Sequence[Way], headings: Sequence[str]) -> Sheet:
    n = min(NARROW_MOST, max(len(way.images) for way in ways))
    side, tall = _size(ways[0].images, (width - GAP * (n - 1)) / n)
    step = LINE * (2 if headings else 1) + tall + SPACE
    paper = canvas.sheet(width, step * len(ways))
    for row, way in enumerate(ways):
        y = row * step
        _say(paper, 0, y + LINE / 2, canvas.fit(way.name, width), INK)
        if way.numbers:
            _say(paper, 0, y + 1.5 * LINE, _told(headings, way), MUTED)
        for place, image in enumerate(way.images[:n]):
            _draw(canvas.panel(paper, place * (side + GAP), y + step - SPACE - tall, side, tall), image)
    return paper


def _tiles(width: int, ways: Sequence[Way], headings: Sequence[str]) -> Sheet:
    columns = min(len(ways), (5 if len(ways) == 5 else 4) if width >= ROOMY else 2)
    room = (width - SPACE * (columns - 1)) / columns
    side, tall = _size(ways[0].images, room)
    lines = 1 + max(len(way.numbers) for way in ways)
    step = tall + LINE * lines + SPACE
    paper = canvas.sheet(width, step * -(-len(ways) // columns))
    for place, way in enumerate(ways):
        x, y = (place % columns) * (room + SPACE), (place // columns) * step
        _say(paper, x, y + LINE / 2, canvas.fit(way.name, room), INK)
        _draw(canvas.panel(paper, x, y + LINE, side, tall), way.images[0])
        for line, text in enumerate(_each(headings, way), 1):
            _say(paper, x, y + tall + LINE * (line + 0.5), canvas.fit(text, room), MUTED)
    return paper


def _each(headings: Sequence[str], way: Way) -> list[str]:
    return [f"{heading} {value}" for heading, value in zip(headings, way.numbers, strict=False) if value]


def _told(headings: Sequence[str], way: Way) -> str:
    return " · ".join(_each(headings, way))


def _size(images: Tensor, side: float) -> tuple[float, float]:
    """Return width and height of a picture that may be as wide as `side`."""
    if images.ndim == 3:  # noqa: PLR2004
        return side, side * STRIP
    first = scaled(images[0])
    ratio = first.shape[0] / first.shape[1]
    return (side, max(side * ratio, side * THIN)) if ratio <= 1 else (side / ratio, side)


def _draw(axes: Axes, image: Tensor) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    if image.ndim == 2:  # noqa: PLR2004
        for channel in image.detach().float().cpu()[:6]:
            axes.plot(channel.numpy(), linewidth=1, alpha=0.8)
        axes.margins(x=0)
        return
    axes.imshow(scaled(image).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")


def _say(paper: Sheet, x: float, y: float, text: str, colour: str, *, ha: str = "left") -> None:
    wide, high = (72 * inches for inches in paper.get_size_inches())
    paper.text(x / wide, 1 - y / high, text, fontsize=SMALL, color=colour, ha=ha, va="center")
