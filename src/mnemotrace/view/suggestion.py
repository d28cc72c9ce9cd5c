"""What a suggestion says: how much hangs on the MLPs from each layer on, at either token, and what was chosen."""

from collections.abc import Mapping
from typing import Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import drawing
from mnemotrace.view.drawing import Series
from mnemotrace.view.figure import ALARM, SECOND, TRACE, Figure
from mnemotrace.view.values import NONE, finite, number, part

Rows = list[tuple[str, ...]]
LOOKS = {"subject": ("last token of the subject", SECOND, "s"), "prompt": ("last token of the prompt", TRACE, "o")}


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say which layers and which token were chosen, from how many facts."""
    header = artifact.header
    unknown = part(header, "manifest").get("unknown") or []
    return [
        ("one layer", number(header.get("layer"))),
        ("several layers", number(_chosen(header)) or NONE),
        ("key at the end of", f"the {header['lookup']}" if header.get("lookup") else NONE),
        ("sites", number(header.get("sites")) or NONE),
        ("facts traced", number(header.get("facts"))),
        *([("left out, not known", number(len(unknown)))] if unknown else []),
    ]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out the scores by layer with their standard errors, the chosen layers marked."""
    scores, errors = part(artifact.header, "scores"), part(artifact.header, "errors")
    rows: Rows = []
    for layer in range(_layers(artifact)):
        cells = [_with_error(_at(scores, name, layer), _at(errors, name, layer)) for name in scores]
        rows.append((number(layer), *cells, _note(artifact.header, layer)))
    return ("layer", *(_look(name)[0] for name in scores), "chosen"), rows


def remarks(artifact: Artifact) -> list[str]:
    """Say what was chosen, and whether it is apart from nothing."""
    header, layer = artifact.header, finite(artifact.header.get("layer"))
    name = str(header.get("lookup"))
    score = None if layer is None else _at(part(header, "scores"), name, int(layer))
    error = None if layer is None else _at(part(header, "errors"), name, int(layer))
    if layer is None or score is None:
        return []
    told = f"Most still hangs on the MLPs from layer {int(layer)} on, at the {_look(name)[0]}: "
    weak = score <= 2 * (error or 0.0)
    return [
        f"{told}{_with_error(score, error)} of the answer's probability.",
        *(["That is within two standard errors of nothing: the choice means little."] if weak else []),
    ]


def figure(artifact: Artifact) -> Figure | None:
    """Draw the scores over layers, a curve a token, with the chosen layers marked on theirs."""
    header, layers = artifact.header, range(_layers(artifact))
    scores, errors = part(header, "scores"), part(header, "errors")
    series = [
        Series(
            word, [_at(scores, name, i) for i in layers], colour, marker, errors=[_at(errors, name, i) for i in layers]
        )
        for name in scores
        for word, colour, marker in [_look(name)]
    ]
    if not any(value is not None for one in series for value in one.values):
        return None
    lookup, chosen = str(header.get("lookup")), _chosen(header)
    picked = [_at(scores, lookup, layer) if layer in chosen else None for layer in layers]
    shown = [*series, Series("chosen layers", picked, ALARM, "D", "")] if any(picked) else series
    return Figure(
        name="suggestion",
        title="What hangs on the MLPs from each layer on",
        label=f"Scores over {len(layers)} layers; chosen: {number(chosen) or NONE}, at the end of the {lookup}.",
        columns=("layer", *(f"{one.name}{end}" for one in series for end in ("", ", standard error"))),
        rows=tuple((i, *(value for one in series for value in (one.values[i], one.errors[i]))) for i in layers),
        paint=lambda width: drawing.curves(width, list(layers), shown, None, x="layer", even=True),
    )


def _look(name: str) -> tuple[str, str, str]:
    return LOOKS.get(name, (name, SECOND, "^"))


def _chosen(header: Mapping[str, Any]) -> list[int]:
    return list(header.get("layers") or [])


def _layers(artifact: Artifact) -> int:
    return max((len(values or ()) for values in part(artifact.header, "scores").values()), default=0)


def _at(by_name: Mapping[str, Any], name: str, layer: int) -> float | None:
    values = by_name.get(name) or ()
    return finite(values[layer]) if layer < len(values) else None


def _with_error(score: float | None, error: float | None) -> str:
    return number(score) if error is None else f"{number(score)} ± {number(error)}"


def _note(header: Mapping[str, Any], layer: int) -> str:
    several = "among several" if layer in _chosen(header) else ""
    return "one layer" + (f", {several}" if several else "") if layer == header.get("layer") else several
