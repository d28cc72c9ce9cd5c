"""Values out of headers, and values as words. Headers may lack any part; a missing one is an empty one."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from mnemotrace.core.artifact import Artifact

NONE, THOUSAND, MILLION = "–", 1e3, 1e6
CRITERIA = ("specificity", "reactivation", "sufficiency", "necessity")
MEASURES = {
    "recall": "the memory",
    "paraphrase": "the memory, paraphrased",
    "neighbours": "neighbours",
    "same_person": "same person, other facts",
    "perplexity": "perplexity of other text",
}


def part(header: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return a mapping inside a header, empty when it is missing or something else."""
    found = header.get(key)
    return found if isinstance(found, Mapping) else {}


def finite(value: object) -> float | None:
    """Return a number as it is, and None for anything else, NaN and infinity included."""
    return value if isinstance(value, int | float) and isfinite(value) else None


def number(value: object) -> str:
    """Format one value: three significant digits, thousands apart, a dash for what was not measured."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if THOUSAND <= abs(value) < MILLION else f"{value:.3g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(number(entry) for entry in value)
    return str(value)


def interval(bounds: object) -> str:
    """Format a confidence interval."""
    if not isinstance(bounds, Sequence) or len(bounds) != 2:
        return NONE
    return f"{number(bounds[0])} to {number(bounds[1])}"


def size(count: float) -> str:
    """Format bytes in decimal units."""
    unit, *larger = ("B", "kB", "MB", "GB")
    while count >= 1000 and larger:
        count, unit = count / 1000, larger.pop(0)
    return f"{count:.0f} {unit}" if count >= 100 or unit == "B" else f"{count:.1f} {unit}"


def nbytes(artifact: Artifact) -> int:
    """Count the bytes of an artifact's tensors, one that is shared once."""
    return sum(tensor.nbytes for tensor in {id(tensor): tensor for tensor in artifact.tensors.values()}.values())


def provenance(artifact: Artifact) -> list[tuple[str, str]]:
    """List how an artifact was made and what it weighs."""
    manifest = part(artifact.header, "manifest")
    plain = {
        key: value
        for key, value in manifest.items()
        if isinstance(value, str | int | float) and value != "" and key != "version"
    }
    found = [(key.replace("_", " "), number(value)) for key, value in plain.items()]
    found += [(f"network, {key}", number(value)) for key, value in part(manifest, "base").items()]
    if "version" in manifest:
        found.append(("made by", f"mnemotrace {manifest['version']}"))
    return [*found, ("tensors", size(nbytes(artifact)))] if artifact.tensors else found


def strongest(artifact: Artifact) -> tuple[str, float] | None:
    """Return the site of an engram with the largest relative norm, and that norm."""
    evidence = part(artifact.header, "evidence")
    known = {site: finite(part(evidence, site).get("relative_norm")) for site in evidence}
    return max(
        ((site, norm) for site, norm in known.items() if norm is not None), key=lambda entry: entry[1], default=None
    )


def ordered_criteria(artifact: Artifact) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the criteria in the usual order, unknown ones last."""
    criteria = part(artifact.header, "criteria")
    names = [name for name in CRITERIA if name in criteria] + [name for name in criteria if name not in CRITERIA]
    return [(name, part(criteria, name)) for name in names]


def points(artifact: Artifact) -> list[Mapping[str, Any]]:
    """Return the calibration points."""
    return list(artifact.header.get("points") or [])


def marked(artifact: Artifact, name: str) -> int | None:
    """Return the index of the `chosen` or `published` calibration point, None when there is none."""
    index = artifact.header.get(name)
    return index if isinstance(index, int) and 0 <= index < len(points(artifact)) else None


def worst(point: Mapping[str, Any]) -> tuple[str, float]:
    """Return what lost most at a calibration point, and how much; nothing measured is no loss."""
    losses = {name: value for name, value in part(point, "loss").items() if finite(value) is not None}
    return max(losses.items(), key=lambda entry: entry[1], default=("nothing measured", 0.0))


def setting(point: Mapping[str, Any]) -> str:
    """Say where and how strongly a calibration point acts."""
    strength, selectivity = number(point.get("strength")), number(point.get("selectivity"))
    return f"{number(point.get('sites'))}, strength {strength}, selectivity {selectivity}"
