"""What a recollection says: the pictures beside those from no source and from a wrong one, and whether they differ."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import pictures
from mnemotrace.view.figure import Figure
from mnemotrace.view.pictures import SCALED, Way
from mnemotrace.view.values import NONE, finite, number, part

Rows = list[tuple[str, ...]]
IGNORED, LONG = 0.999, 60
WAYS = {"images": "recalled", "control.zero": "from no source", "control.wrong": "from a wrong source"}
COLUMNS = ("pictures", "how many", "lowest", "highest", "correlation with the recalled")


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say what was recalled, from what, how, by how many bits of trace, and whether the source matters."""
    header, images = artifact.header, artifact.tensors.get("images")
    shape = NONE if images is None else f"{len(images)} of {' × '.join(map(str, images.shape[1:]))}"
    alike = part(header, "sensitivity")
    return [
        ("pictures", shape),
        ("source", str(header.get("source", NONE))),
        ("rules", told_rules(part(header, "rules"))),
        *bits(part(header, "bits")),
        *((f"correlation with that {WAYS.get(f'control.{name}', name)}", number(alike[name])) for name in alike),
    ]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the range of the pictures of each way, and how alike they are to the recalled."""
    alike = part(artifact.header, "sensitivity")
    rows: Rows = []
    for name, images in _images(artifact).items():
        values = images.float()[images.isfinite()]
        ends = (float(values.min()), float(values.max())) if values.numel() else (None, None)
        rows.append((name, number(len(images)), *map(number, ends), number(_likeness(name, alike))))
    return COLUMNS, rows


def remarks(artifact: Artifact) -> list[str]:
    """Say whether the picture needs its source, and what went back without a rule."""
    alike, told = part(artifact.header, "sensitivity"), list[str]()
    zero, wrong = finite(alike.get("zero")), finite(alike.get("wrong"))
    if zero is not None and zero >= IGNORED:
        told.append(ignored(zero))
    elif zero is not None:
        told.append(f"The source matters: without one the picture correlates {number(zero)} with the recalled.")
    if wrong is not None and (zero is None or zero < IGNORED):
        told.append(f"From a wrong source it correlates {number(wrong)}.")
    if not alike and artifact.tensors.get("images") is not None:
        told.append("There are no controls: recall with controls=True to see whether the source matters.")
    free = artifact.header.get("unreversed") or []
    if free:
        told.append(f"Without a rule, and gone back by their true gradient: {', '.join(map(str, free))}.")
    return told


def figure(artifact: Artifact) -> Figure | None:
    """Draw the recalled pictures with their controls."""
    return sheet(artifact)


def sheet(artifact: Artifact, *, beside: Mapping[str, Tensor] | None = None) -> Figure | None:
    """Draw the recalled pictures, the same from no source and from a wrong one, and what stands beside.

    Args:
        artifact: of kind "recollection".
        beside: further pictures of the same shape by name, such as the images; drawn first.
    """
    alike = part(artifact.header, "sensitivity")
    every = {**(beside or {}), **_images(artifact)}
    ways = [Way(n, i, (short(_likeness(n, alike)) if n != "recalled" else "",)) for n, i in every.items() if len(i)]
    if not ways or not _images(artifact):
        return None
    source = str(artifact.header.get("source", "an unknown source"))
    source = source if len(source) <= LONG else f"{source[:LONG]}…"
    count = max(len(way.images) for way in ways)
    more = f"; the first {pictures.WIDE_MOST} of {count}" if count > pictures.WIDE_MOST else ""
    return Figure(
        name="recollection",
        title=f"Recalled from {source}, beside its controls; r is the correlation with the recalled; {SCALED}{more}",
        label=f"Pictures recalled from {source}; "
        + "; ".join(f"{way.name}, correlation {way.numbers[0]}" for way in ways if way.numbers[0]),
        columns=COLUMNS,
        rows=tuple(table(artifact)[1]),
        paint=lambda width: pictures.sheet(width, ways, ("r",)),
    )


def ignored(correlation: float) -> str:
    """Say that a recall does not depend on its source."""
    return (
        f"The source is ignored: from no source at all comes the same picture (correlation {correlation:.4f}). What it "
        "shows is owed to the trace and the weights, not to what was recalled."
    )


def told_rules(rules: Mapping[str, Any]) -> str:
    """Say rules in a line; those that change nothing are left out."""
    said = [f"{name} {value}" for name, value in rules.items() if value not in (None, False, True)]
    said += [name for name, value in rules.items() if value is True and name != "frozen"]
    said += ["true gradients"] if rules.get("frozen") is False else []
    return ", ".join(said) or NONE


def bits(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Say the bits of a sample's trace by kind, the total last."""
    return [("bits of a trace" if kind == "total" else f"bits, {kind}", count(value)) for kind, value in found.items()]


def count(value: object) -> str:
    """Format bits as a whole number."""
    known = finite(value)
    return NONE if known is None else f"{round(known):,}"


def short(value: float | None) -> str:
    """Format a correlation or a share with two digits; nothing for none."""
    return "" if value is None else f"{value:.2f}"


def _images(artifact: Artifact) -> dict[str, Tensor]:
    known = [name for name in WAYS if name in artifact.tensors]
    known += [name for name in artifact.tensors if name.startswith("control.") and name not in WAYS]
    found = {WAYS.get(name, name.removeprefix("control.")): artifact.tensors[name] for name in known}
    return {name: images for name, images in found.items() if images.ndim > 1 and torch.numel(images)}


def _likeness(name: str, alike: Mapping[str, Any]) -> float | None:
    key = next((tensor.removeprefix("control.") for tensor, way in WAYS.items() if way == name), name)
    return finite(alike.get(key))
