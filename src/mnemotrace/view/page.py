"""One self-contained HTML page made from artifacts alone: no model, no network, no script, nothing loaded."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from mnemotrace.core.artifact import Artifact, atomic, library_version
from mnemotrace.view.demo import demonstration
from mnemotrace.view.figure import EXTRA, NARROW, WIDE, Figure, drawable
from mnemotrace.view.sections import Section, sections
from mnemotrace.view.values import NONE, nbytes, number, part, size

TEMPLATES = Path(__file__).parent / "templates"
TITLE = "The life of a memory"


def report(artifacts: Sequence[Artifact], path: str | Path, *, title: str = TITLE) -> Path:
    """Write one HTML file about artifacts; without matplotlib it has their tables and says how to get the figures.

    Args:
        artifacts: of any kinds, in any order; a kind without a drawing is shown as key and value.
        path: where to write; the file appears whole or not at all.
        title: heading of the page and name of the document.

    Returns:
        The path.

    Raises:
        ValueError: there is no artifact.
    """
    path = Path(path)
    text = render(artifacts, title=title)
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def render(artifacts: Sequence[Artifact], *, title: str = TITLE) -> str:
    """Make the page as text; the same artifacts give the same text."""
    if not artifacts:
        raise ValueError(
            "got no artifact; expected at least one to report on; write some first, or check the file names"
        )
    drawn = drawable()
    parts = sections(artifacts, drawn=drawn)
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            demos=[demonstration(artifact) for artifact in artifacts if artifact.kind == "demo"],
            sections=parts,
            drawings=_drawings(parts) if drawn else {},
            extra=None if drawn else EXTRA,
            files=[
                (a.kind, number(len(a.tensors)), size(nbytes(a)) if a.tensors else NONE, _made_by(a)) for a in artifacts
            ],
            deep=any(artifact.kind == "depth" for artifact in artifacts),
            networks=_networks(artifacts),
            commands=_commands(artifacts),
            version=library_version(),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters["breakable"] = _breakable
    return environment


def _drawings(parts: Sequence[Section]) -> dict[Figure, tuple[Markup, Markup]]:
    """Draw each figure twice, for wide and narrow pages: scaling one would make its text unreadable on a phone."""
    return {
        figure: (_draw(figure, WIDE, f"{section.anchor}-w{index}"), _draw(figure, NARROW, f"{section.anchor}-n{index}"))
        for section in parts
        for index, figure in enumerate(section.figures)
    }


def _draw(figure: Figure, width: int, key: str) -> Markup:
    return Markup(figure.svg(width, key))  # noqa: S704 - matplotlib and `Figure.svg` escape every text


def _breakable(text: str) -> Markup:
    """Let a long dotted name break after its dots."""
    return Markup(escape(text).replace(".", Markup(".<wbr>")))  # noqa: S704 - escaped here


def _made_by(artifact: Artifact) -> str:
    manifest = part(artifact.header, "manifest")
    return ", ".join(str(manifest[key]) for key in ("method", "solver") if manifest.get(key))


def _networks(artifacts: Sequence[Artifact]) -> list[tuple[str, str]]:
    """Return the distinct base networks: architecture and weights; more than one is worth a warning."""
    bases = [part(part(artifact.header, "manifest"), "base") for artifact in artifacts]
    found = [(str(base.get("architecture", "?")), str(base.get("weights", "?"))) for base in bases if base]
    return list(dict.fromkeys(found))


def _commands(artifacts: Sequence[Artifact]) -> list[str]:
    found: list[Any] = []
    for artifact in artifacts:
        found.extend(artifact.header.get("commands") or [])
        found.append(part(artifact.header, "manifest").get("command"))
    return list(dict.fromkeys(str(command) for command in found if command))
