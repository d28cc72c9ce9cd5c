"""What a census says: how much of what a memory generates was stored, is a false attractor, or is new."""

from collections.abc import Mapping
from typing import Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import charts
from mnemotrace.view.figure import ALARM, SECOND, TRACE, Figure
from mnemotrace.view.together import headers, names
from mnemotrace.view.values import finite, interval, number, part

Rows = list[tuple[str, ...]]
CLASSES = {"memorised": TRACE, "spurious": ALARM, "generalised": SECOND}
COLUMNS = ("memory", "class", "share", "95 % interval", "generated")
INDEX = (
    "The Funes index is how much lower the error on episodes is than on others of their world, in units of the best "
    "possible: 0 is who knows the world and no episode."
)


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say the three shares of each memory, and the Funes index where it was noted."""
    found: list[tuple[str, str]] = []
    for name, header in _each(artifact):
        found += [(f"{name}, {key}", number(_share(header, key))) for key in CLASSES]
        index = _funes(header)
        found += [] if index is None else [(f"{name}, Funes index", number(index))]
    return found


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the classes of each memory with their intervals, and the chance of passing for memorised."""
    rows: Rows = [
        (
            name,
            word,
            number(_share(header, key)),
            _interval(part(header, key)),
            number(header.get("count") if key in CLASSES else None),
        )  # how many were fresh is not kept
        for name, header in _each(artifact)
        for key, word in [*((key, key) for key in CLASSES), ("chance", "memorised, by chance")]
        if part(header, key)
    ]
    return COLUMNS, rows


def remarks(artifact: Artifact) -> list[str]:
    """Say what most of it is, whether memorised is more than chance, and what the Funes index means."""
    told: list[str] = []
    for name, header in _each(artifact):
        shares = {key: share for key in CLASSES if (share := _share(header, key)) is not None}
        chance, index = _share(header, "chance"), _funes(header)
        if shares:
            most = max(shares, key=lambda key: shares[key])
            beside = "" if chance is None else f"; fresh patterns pass for memorised with {number(chance)}"
            beside += "" if index is None else f"; Funes index {number(index)}"
            told.append(f"{name[:1].upper()}{name[1:]}: most of it is {most}, {number(shares[most])}{beside}.")
    return [*told, INDEX] if any(_funes(header) is not None for header in headers(artifact)) else told


def figure(artifact: Artifact) -> Figure | None:
    """Draw a bar a memory, made of its three shares."""
    rows: list[tuple[Any, ...]] = [
        (name, *(_share(header, key) for key in (*CLASSES, "chance")), _funes(header))
        for name, header in _each(artifact)
        if all(_share(header, key) is not None for key in CLASSES)
    ]
    if not rows:
        return None
    parts = {key: (colour, [row[i] for row in rows]) for i, (key, colour) in enumerate(CLASSES.items(), 1)}
    told = (
        f"{row[0]}: " + ", ".join(f"{number(v)} {k}" for k, v in zip(CLASSES, row[1:4], strict=True)) for row in rows
    )
    return Figure(
        name="census",
        title="What is generated from noise",
        label="; ".join(told),
        columns=("memory", *CLASSES, "memorised by chance", "Funes index"),
        rows=tuple(rows),
        paint=lambda width: charts.stacked(width, [str(row[0]) for row in rows], parts),
    )


def _each(artifact: Artifact) -> list[tuple[str, Mapping[str, Any]]]:
    return list(zip(names(artifact), headers(artifact), strict=True))


def _share(header: Mapping[str, Any], key: str) -> float | None:
    return finite(part(header, key).get("value"))


def _interval(rate: Mapping[str, Any]) -> str:
    low, high = finite(rate.get("low")), finite(rate.get("high"))
    return interval(None if low is None or high is None else (low, high))


def _funes(header: Mapping[str, Any]) -> float | None:
    return finite(part(header, "manifest").get("funes_index"))
