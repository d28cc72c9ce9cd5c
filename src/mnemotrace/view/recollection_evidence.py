"""What the evidence of a recall says: every way of recalling with its pictures, and beside it how alike they are."""

from collections.abc import Mapping, Sequence
from typing import Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import pictures
from mnemotrace.view.figure import Figure
from mnemotrace.view.pictures import SCALED, Way
from mnemotrace.view.recollection import IGNORED, bits, ignored, short, told_rules
from mnemotrace.view.values import NONE, finite, interval, number, part

Rows = list[tuple[str, ...]]
MEASURES = {"correlation": "correlation", "high_pass": "high-pass", "edges": "edges", "structure": "SSIM"}
OF = ("own", "same", "different")
HEADINGS = ("own", "same", "different", "identified")
OWN, BELOW = "own", ": original"
NAMES = {"original": "the image", "own": "recalled", "donor, other class: original": "donor, its image"}


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say how many images were recalled, how, by how many bits, and whether the source matters."""
    header, cued = artifact.header, part(part(part(artifact.header, "rows"), OWN), "cued")
    alike = part(header, "sensitivity")
    return [
        ("images", number(cued.get("count"))),
        ("rules", told_rules(part(part(header, "manifest"), "rules"))),
        *bits(part(header, "bits")),
        ("correlation with the picture from no source", number(finite(alike.get("zero")))),
        ("and from a wrong source", number(finite(alike.get("wrong")))),
        ("identified by guessing", number(finite(cued.get("chance")))),
        ("the same in its class", number(finite(cued.get("chance_in_class")))),
    ]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out every measure of every way: with its own original / with others of the class / of other classes."""
    rows: Rows = []
    for name, row in part(artifact.header, "rows").items():
        for told, found in ((name, part(row, "cued")), (f"{name}, with the donor", part(row, "donor"))):
            if found:
                rows.append((told, *_cells(found), str(row.get("note") or NONE)))
    columns = ("way", *MEASURES.values(), "identified", "its interval", "in class", "its interval", "note")
    return columns, rows


def remarks(artifact: Artifact) -> list[str]:
    """Say whether the source is ignored, what the donor's trace does, and how the recall stands to the ceiling."""
    rows, zero = part(artifact.header, "rows"), finite(part(artifact.header, "sensitivity").get("zero"))
    told = [ignored(zero)] if zero is not None and zero >= IGNORED else []
    own = _identified(part(rows, OWN), "cued")
    for name, row in rows.items():
        cue, donor = _identified(row, "cued"), _identified(row, "donor")
        if cue is not None and donor is not None:
            told.append(
                f"With the trace of another image ({name.removeprefix('donor, ')}) the donor is identified in "
                f"{short(donor)} of recalls, the cued image in {short(cue)}."
            )
    bare = _identified(part(rows, "no trace"), "cued")
    if own is not None and bare is not None:
        told.append(
            f"Identified: {short(own)} with the trace, {short(bare)} without any; a guess has "
            f"{number(finite(part(part(rows, OWN), 'cued').get('chance')))}."
        )
    return told


def figure(artifact: Artifact) -> Figure | None:
    """Draw a row of pictures a way, the originals on top, with likeness and identification beside."""
    rows, names = part(artifact.header, "rows"), list(artifact.header.get("images") or [])
    found = {n: artifact.tensors.get(f"image.{i}") for i, n in enumerate(names)}
    found = dict(sorted(found.items(), key=lambda entry: _place(entry[0], names)))
    ways = [
        Way(str(NAMES.get(name, name)), images, _beside(part(rows, name)))
        for name, images in found.items()
        if images is not None and images.ndim > 1 and images.numel()
    ]
    if not ways:
        return None
    told = [f"{way.name}: own {way.numbers[0]}, identified {way.numbers[-1]}" for way in ways if any(way.numbers)]
    return Figure(
        name="evidence",
        title="Correlation with its own image, with others of the same and of different classes, and the share "
        f"identified; {SCALED}",
        label="; ".join(told) or "Pictures of each way of recalling",
        columns=("way", *HEADINGS),
        rows=tuple((name, *_numbers(part(rows, name))) for name in rows),
        paint=lambda width: pictures.sheet(width, ways, HEADINGS),
    )


def _place(name: str, names: Sequence[str]) -> float:
    """Put a donor's own image right below the row that its trace was used in."""
    row = name.removesuffix(BELOW)
    return names.index(row) + 0.5 if row != name and row in names else names.index(name)


def _numbers(row: Mapping[str, Any]) -> tuple[float | None, ...]:
    seen = part(part(row, "cued"), "correlation")
    return (*(finite(seen.get(of)) for of in OF), _identified(row, "cued"))


def _beside(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(short(value) for value in _numbers(row))


def _identified(row: Mapping[str, Any], which: str) -> float | None:
    return finite(part(part(row, which), "identified").get("value"))


def _cells(found: Mapping[str, Any]) -> list[str]:
    cells = [" / ".join(short(finite(part(found, m).get(of))) or NONE for of in OF) for m in MEASURES]
    for rate in ("identified", "in_class"):
        seen = part(found, rate)
        known = finite(seen.get("low")) is not None and finite(seen.get("high")) is not None
        ends = interval([seen["low"], seen["high"]]) if known else NONE
        cells += [short(finite(seen.get("value"))) or NONE, ends]
    return cells
