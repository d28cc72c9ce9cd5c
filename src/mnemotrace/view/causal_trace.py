"""What a causal trace says: a heat map of token by layer for one fact, and of groups of tokens for several."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import drawing
from mnemotrace.view.figure import Figure
from mnemotrace.view.values import NONE, finite, interval, number, part

Rows = list[tuple[str, ...]]
Cells = dict[tuple[str, str], float]
KINDS = {
    "state": "state",
    "mlp": "MLP",
    "attention": "attention",
    "state_without_mlp": "state (MLP severed)",
    "state_without_attention": "state (attention severed)",
}
COLUMNS = ("put back", "tokens", "facts", "layer", "effect", "95 % interval", "another subject's")
FAINT, DUST = 1e-2, 1e-6  # shares of the largest effect: below the first drawn as nothing, below the second rounding


@dataclass(frozen=True)
class Peak:
    """The largest effect of one kind in one group of tokens."""

    kind: str
    group: str
    facts: int | None
    layer: int
    value: float
    bounds: tuple[float, ...]
    control: float | None


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say how many facts there are and were left out, what was put back, and how likely the answer was and became."""
    records = _records(artifact)
    clean = [math.exp(value) for record in records if (value := finite(record.get("clean"))) is not None]
    low = [value for index in range(len(records)) if (value := _corrupted(artifact, index)) is not None]
    unknown = [("left out, not known", number(len(_unknown(artifact))))] if _unknown(artifact) else []
    return [
        ("facts", number(len(records))),
        *unknown,
        ("put back", ", ".join(map(_word, _kinds(artifact))) or NONE),
        ("probability of the answer", f"{number(_mean(clean))}, corrupted {number(_mean(low))}"),
    ]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the largest effect of each kind in each group of tokens; one fact has no interval."""
    found = _peaks(artifact)
    dust = DUST * max((abs(peak.value) for peak in found), default=0.0)

    def swept(value: float | None) -> float | None:
        return value if value is None or abs(value) > dust else 0

    rows: Rows = [
        (p.kind, p.group, number(p.facts), number(p.layer), number(swept(p.value)),
         interval([swept(end) for end in p.bounds]), number(swept(p.control)))
        for p in found
    ]  # fmt: skip
    known = [i for i in range(len(COLUMNS)) if not rows or any(row[i] != NONE for row in rows)]
    return tuple(COLUMNS[i] for i in known), [tuple(row[i] for i in known) for row in rows]


def remarks(artifact: Artifact) -> list[str]:
    """Say where putting back does most, by kind, what another subject gives there, and which facts were left out."""
    best: dict[str, Peak] = {}
    for peak in _peaks(artifact):
        if peak.kind not in best or peak.value > best[peak.kind].value:
            best[peak.kind] = peak
    told = [
        f"Putting back the {one.kind} does most at the {one.group}, layer {one.layer}: {number(one.value)}"
        + ("." if one.control is None else f"; what another subject gives there does {number(one.control)}.")
        for one in best.values()
    ]
    unknown = _unknown(artifact)
    return [*told, *([f"Left out, for the network does not know them: {'; '.join(unknown)}."] if unknown else [])]


def figure(artifact: Artifact) -> Figure | None:
    """Draw one fact by token, several by group of tokens; a panel a kind."""
    records = _records(artifact)
    alone = len(records) == 1
    names, maps = _of_one(artifact, records[0]) if alone else _of_groups(artifact)
    maps = {title: cells for title, cells in maps.items() if cells}
    if not maps:
        return None
    layers = sorted({int(layer) for cells in maps.values() for _, layer in cells})
    shown = [name for name in names if any((name, str(layer)) in cells for cells in maps.values() for layer in layers)]
    rows = tuple(
        (title, who, int(layer), value) for title, cells in maps.items() for (who, layer), value in cells.items()
    )
    best = max(rows, key=lambda row: row[3])
    clear = {title: _clear(cells) for title, cells in maps.items()}
    what = f"“{records[0].get('prompt', '')}”" if alone else f"{len(records)} facts"
    return Figure(
        name="causal_trace",
        title=f"What brings the answer to {what} back",
        label=f"Effect by {'token' if alone else 'group of tokens'} and layer; the largest is of the {best[0]} at "
        f"{best[1]}, layer {best[2]}: {number(best[3])}. Cells that are only framed are negative.",
        columns=("put back", "tokens", "layer", "effect"),
        rows=rows,
        paint=lambda width: drawing.heat_maps(width, shown, [str(layer) for layer in layers], clear),
    )


def _records(artifact: Artifact) -> list[Mapping[str, Any]]:
    return [record for record in artifact.header.get("records") or [] if isinstance(record, Mapping)]


def _kinds(artifact: Artifact) -> list[str]:
    return list(artifact.header.get("kinds") or [])


def _unknown(artifact: Artifact) -> list[str]:
    return list(part(artifact.header, "manifest").get("unknown") or [])


def _word(kind: str) -> str:
    return KINDS.get(kind, kind)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _corrupted(artifact: Artifact, index: int) -> float | None:
    """Give the answer's mean probability under noise."""
    values = artifact.tensors.get(f"{index}.corrupted")
    return None if values is None else finite(float(values.double().exp().mean()))


def _averages(artifact: Artifact, what: str = "restored") -> Mapping[str, Any]:
    return part(part(artifact.header, "averages"), what)


def _at(average: Mapping[str, Any], name: str, *place: int) -> float | None:
    """Give one number of an average; None where there is none."""
    found = average.get(name)
    for index in place:
        if not isinstance(found, Sequence) or index >= len(found):
            return None
        found = found[index]
    return finite(found)


def _effects(artifact: Artifact, average: Mapping[str, Any]) -> list[tuple[int, str, list[float | None]]]:
    """List index, name and effects by layer of each group; nothing where names and effects do not belong together."""
    groups, effects = artifact.header.get("groups") or [], average.get("effect") or []
    if len(groups) != len(effects):
        return []
    return [
        (index, str(group), [_at(average, "effect", index, layer) for layer in range(len(effects[index]))])
        for index, group in enumerate(groups)
    ]


def _peaks(artifact: Artifact) -> list[Peak]:
    found: list[Peak] = []
    for kind, average in _averages(artifact).items():
        control = part(_averages(artifact, "control"), kind)
        for index, group, effects in _effects(artifact, average):
            known = [(value, layer) for layer, value in enumerate(effects) if value is not None]
            if known:
                value, layer = max(known)
                facts = _at(average, "facts", index)
                ends = [_at(average, end, index, layer) for end in ("low", "high")]
                bounds = () if facts == 1 else tuple(end for end in ends if end is not None)
                other = _at(control, "effect", index, layer)
                found.append(
                    Peak(_word(kind), group, facts if facts is None else int(facts), layer, value, bounds, other)
                )
    return found


def _of_one(artifact: Artifact, record: Mapping[str, Any]) -> tuple[list[str], dict[str, Cells]]:
    begin, end = record.get("subject_range") or (0, 0)
    names = [
        f"{index} {_readable(str(token))}{' *' if begin <= index < end else ''}"
        for index, token in enumerate(record.get("tokens") or [])
    ]
    low, maps = _corrupted(artifact, 0), dict[str, Cells]()
    for kind in _kinds(artifact):
        restored = artifact.tensors.get(f"0.restored.{kind}")
        if restored is not None and low is not None and restored.shape[1] == len(names):
            maps[_word(kind)] = _cells(names, (restored.double().exp().mean(0) - low).tolist())
    return names, maps


def _readable(token: str) -> str:
    """Write a token without its spaces; what cannot be seen is written as in a program."""
    text = " ".join(token.split())
    return text if text and text.isprintable() else repr(token)


def _of_groups(artifact: Artifact) -> tuple[list[str], dict[str, Cells]]:
    names = list(map(str, artifact.header.get("groups") or []))
    found = {_word(kind): _effects(artifact, average) for kind, average in _averages(artifact).items()}
    return names, {title: _cells(names, [effects for *_, effects in rows]) for title, rows in found.items() if rows}


def _cells(names: Sequence[str], effects: Sequence[Sequence[float | None]]) -> Cells:
    return {
        (name, str(layer)): value
        for name, values in zip(names, effects, strict=True)
        for layer, value in enumerate(values)
        if value is not None and math.isfinite(value)
    }


def _clear(cells: Cells) -> Cells:
    """Make zero of what is no more than a hundredth of the largest effect, so that the cells can be read."""
    least = FAINT * max(map(abs, cells.values()))
    return {place: value if abs(value) > least else 0.0 for place, value in cells.items()}
