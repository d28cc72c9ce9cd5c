"""What a stored trace, or a store of them, says: how many bits, and where they are."""

from collections.abc import Mapping
from typing import Any

from mnemotrace.core.artifact import Artifact, within
from mnemotrace.core.entry import KINDS, unpacked
from mnemotrace.view.recollection import bits, count
from mnemotrace.view.values import NONE, number, part

Rows = list[tuple[str, ...]]
COLUMNS = ("operation", "kind", "module", "values", "cells", "kept", "bits")


def trace_summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say how many samples a trace has, of which shape, and its bits."""
    header = artifact.header
    return [
        ("samples", number(header.get("b"))),
        ("input shape", " × ".join(map(str, header.get("input_shape") or [NONE]))),
        ("entries", number(len(header.get("entries") or []))),
        *bits(_by_kind(artifact)),
    ]


def trace_table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the entries in the order in which they ran: what each let through, and its bits a sample."""
    rows: Rows = []
    for i, head in enumerate(artifact.header.get("entries") or []):
        seen = _entry(artifact, i, head)
        values = NONE if seen is None else number(seen.units)
        share = None if seen is None or seen.kept is None else float(seen.kept.float().mean())
        rows.append(
            (str(head.get("operation", NONE)), str(head.get("kind", NONE)), str(head.get("module") or NONE), values,
             number(head.get("cells") or None), "all" if share is None else number(share),
             NONE if seen is None else count(seen.bits()))
        )  # fmt: skip
    return COLUMNS, rows


def store_summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say how many episodes are stored, how wide a pointer is, and how many bits one of them takes."""
    trace, pointers = _trace(artifact), _pointers(artifact)
    found = [("episodes", number(len(pointers) if pointers is not None else trace.header.get("b")))]
    found += [] if pointers is None else [("width of a pointer", number(pointers.shape[-1]))]
    beta = part(artifact.header, "memory").get("beta")
    found += [] if beta is None else [("beta", "from the pointers" if beta == "auto" else number(beta))]
    return [*found, ("input shape", trace_summary(trace)[1][1])]


def store_table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out what one episode takes, and all of them: its pointer, and its trace by kind."""
    trace, pointers = _trace(artifact), _pointers(artifact)
    held = {kind: value for kind, value in _by_kind(trace).items() if kind != "total"}
    if pointers is not None:
        held = {"pointer": 8.0 * pointers.element_size() * pointers.shape[-1], **held}
    n = len(pointers) if pointers is not None else trace.header.get("b") or 0
    rows: Rows = [
        (kind, count(value), count(value * n)) for kind, value in [*held.items(), ("total", sum(held.values()))]
    ]
    return ("what", "bits an episode", "bits in all"), rows


def _trace(artifact: Artifact) -> Artifact:
    tensors = within(artifact.tensors, "trace.")
    return Artifact("episodic_trace", dict(part(artifact.header, "trace")), tensors)


def _pointers(artifact: Artifact) -> Any:
    found = artifact.tensors.get("memory.values")
    return found if found is not None and found.ndim == 2 else None  # noqa: PLR2004


def _by_kind(artifact: Artifact) -> dict[str, float]:
    heads = artifact.header.get("entries") or []
    seen = [entry for i, head in enumerate(heads) if (entry := _entry(artifact, i, head)) is not None]
    found = {kind: float(sum(entry.bits() for entry in seen if entry.kind == kind)) for kind in KINDS}
    found = {kind: value for kind, value in found.items() if value}
    return found | {"total": sum(found.values())} if seen else {}


def _entry(artifact: Artifact, i: int, head: Mapping[str, Any]) -> Any:
    needed = [f"{i}.values"] + ([f"{i}.kept"] if head.get("kept") is not None else [])
    known = all(name in artifact.tensors for name in needed)
    return unpacked(head, artifact.tensors, i) if known else None
