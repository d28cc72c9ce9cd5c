"""Measurements of several memories that are read side by side: a line or a bar each, in one section."""

from collections.abc import Mapping, Sequence
from typing import Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.view.values import number, part

TOGETHER = ("capacity", "census")


def grouped(artifacts: Sequence[Artifact]) -> list[Artifact]:
    """Merge the artifacts of each kind that is read side by side, where the first of them stands."""
    found: dict[object, list[Artifact]] = {}
    for place, artifact in enumerate(artifacts):
        found.setdefault(artifact.kind if artifact.kind in TOGETHER else place, []).append(artifact)
    return [_merged(group) for group in found.values()]


def headers(artifact: Artifact) -> list[Mapping[str, Any]]:
    """Return the headers of all that were merged, or the one."""
    return list(artifact.header.get("files") or [artifact.header])


def names(artifact: Artifact) -> list[str]:
    """Name what was measured: as `memory` of its manifest says, or by a number; no name twice."""
    found: list[str] = []
    for index, header in enumerate(headers(artifact), 1):
        alone = "the memory" if len(headers(artifact)) == 1 else f"memory {index}"
        name = str(part(header, "manifest").get("memory") or alone)
        found.append(f"{name} ({index})" if name in found else name)
    return found


def _merged(group: Sequence[Artifact]) -> Artifact:
    if len(group) == 1:
        return group[0]
    manifests = [part(artifact.header, "manifest") for artifact in group]
    manifest = {key: _said([one[key] for one in manifests if key in one]) for each in manifests for key in each}
    return Artifact(group[0].kind, {"files": [dict(artifact.header) for artifact in group], "manifest": manifest})


def _said(values: Sequence[Any]) -> Any:
    """Return what all say, or what each says."""
    return values[0] if all(value == values[0] for value in values) else "; ".join(map(number, values))
