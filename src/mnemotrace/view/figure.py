"""A figure as a value: the numbers behind it, how to paint them, and SVG that fits the page around it.

matplotlib (extra `plot`) is imported only to paint, through its object interface and inside its own settings, so
nothing global changes. In the page, text and axes take the colour of the surrounding text and series take the page's
`--c-*` variables, hence one drawing serves light and dark; one unit of the drawing is one pixel.
"""

import csv
import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from mnemotrace.core.artifact import atomic

WIDE, NARROW = 720, 328
EXTRA = "pip install 'mnemotrace[plot]'"
INK, MUTED, RULE = "#1d1c1a", "#6a665f", "#cfcbc2"
TRACE, CONTROL, SECOND, ALARM = "#0f6b7a", "#857f76", "#a85a08", "#b0243d"
SERIES = (TRACE, SECOND, "#6d4fa8", "#4b7a1e", "#a3387e", "#2b5fb3")

_VARIABLES = {TRACE: "trace", CONTROL: "control", SECOND: "second", ALARM: "alarm", MUTED: "muted", RULE: "rule"}
_VARIABLES |= dict(zip(SERIES[2:], ("s3", "s4", "s5", "s6"), strict=True))
_COLOURS = {INK: "currentColor"} | {colour: f"var(--c-{name}, {colour})" for colour, name in _VARIABLES.items()}
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mnemotrace",
    "text.usetex": False,
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 11.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@dataclass(frozen=True, eq=False)
class Figure:
    """What a figure shows, without the drawing.

    Attributes:
        name: short identifier, used for file names and anchors.
        title: caption.
        label: what is to be seen, in words, for those who cannot see it.
        columns: headings of the numbers.
        rows: the numbers, one row per mark.
        paint: draws on a width in pixels and returns a matplotlib figure.
    """

    name: str
    title: str
    label: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    paint: Callable[[int], Any]

    def svg(self, width: int = WIDE, key: str = "") -> str:
        """Draw as SVG to be put into HTML.

        Args:
            width: in pixels; the drawing scales, its proportions and relative text size do not.
            key: prefix of the identifiers inside, unique among the drawings of a page; the default is made from
                the name and the width.

        Raises:
            ImportError: matplotlib is absent.
        """
        return _inline(_svg(self, width), self.label, key or f"{self.name}-{width}")

    def csv(self) -> str:
        """Write the numbers as comma-separated values with a heading."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return text.getvalue()


def drawable() -> bool:
    """Say whether matplotlib can be imported."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def save(figure: Figure, path: str | Path, *, width: int = WIDE) -> tuple[Path, Path]:
    """Write a figure, and its numbers as CSV beside it.

    Args:
        figure: what to draw.
        path: ends in `.svg` (transparent) or `.png` (on white, two pixels per unit).
        width: in pixels.

    Returns:
        The two paths: the drawing, the numbers.

    Raises:
        ValueError: another ending.
        ImportError: matplotlib is absent.
    """
    path = Path(path)
    if path.suffix not in (".svg", ".png"):
        raise ValueError(f"got {path.name}; expected a name that ends in .svg or .png; choose one of the two")
    content = _svg(figure, width).encode() if path.suffix == ".svg" else _png(figure, width)
    numbers = path.with_suffix(".csv")
    for target, data in ((path, content), (numbers, figure.csv().encode())):
        with atomic(target) as temporary:
            temporary.write_bytes(data)
    return path, numbers


@contextmanager
def _style() -> Iterator[None]:
    try:
        import matplotlib as mpl
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(f"got no matplotlib; expected it, because figures are drawn with it; {EXTRA}") from error
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the page has its own fonts
        yield


def _svg(figure: Figure, width: int) -> str:
    with _style():
        text = io.StringIO()
        figure.paint(width).savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return text.getvalue()


def _png(figure: Figure, width: int) -> bytes:
    with _style():
        data = io.BytesIO()
        figure.paint(width).savefig(data, format="png", dpi=144, facecolor="white")
    return data.getvalue()


def _inline(svg: str, label: str, key: str) -> str:
    """Keep the drawing only: no prolog, metadata, style or name spaces; colours of the page; private identifiers."""
    body = svg[svg.index("<svg") :]
    for unwanted in (r"<metadata>.*?</metadata>", r"<style.*?</style>", r"<!--.*?-->", r"<defs>\s*</defs>"):
        body = re.sub(unwanted, "", body, flags=re.DOTALL)
    wanted = set(re.findall(r'(?:href="|url\()#([^")]+)', body))
    body = re.sub(r"<[^>]*>", lambda tag: _tag(tag.group(), wanted, key), body)
    body = re.sub(
        r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>", rf'<svg \1 role="img" aria-label="{_safe(label)}">', body, count=1
    )
    return re.sub(r"\s*\n\s*", "\n", body).strip()


def _tag(tag: str, wanted: set[str], key: str) -> str:
    tag = re.sub(r' id="([^"]+)"', lambda found: f' id="{key}-{found[1]}"' if found[1] in wanted else "", tag)
    tag = re.sub(r'(?:xlink:)?href="#', f'href="#{key}-', tag).replace("url(#", f"url(#{key}-")
    tag = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", tag)
    return re.sub(r"#[0-9a-f]{6}\b", lambda colour: _COLOURS.get(colour.group(), colour.group()), tag)


def _safe(text: str) -> str:
    return escape(text).replace("\\", "\\\\")
