"""What a verdict says: each measure of an edit of facts, before and after, in every reading, with its interval."""

from collections.abc import Mapping
from typing import Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.view import drawing
from mnemotrace.view.demo import percent
from mnemotrace.view.drawing import Series
from mnemotrace.view.figure import CONTROL, SECOND, SERIES, TRACE, Figure
from mnemotrace.view.values import finite, interval, number, part

Rows = list[tuple[str, ...]]
PARTS = ("efficacy", "paraphrase", "neighbourhood", "locality", "portability")
READINGS = {"free": "by itself", "forced": "teacher-forced", "probability": "probability"}
OTHERS = {"tokens": "right tokens", "preference": "prefers it", "margin": "margin"}
LOOKS = {"probability": (SECOND, "|"), "forced": (SERIES[2], "D"), "free": (TRACE, "o")}  # the last one on top
ALONE = {"perplexity_ratio": "perplexity, ratio"}


def summary(artifact: Artifact) -> list[tuple[str, str]]:
    """Say what the network now answers by itself, part by part, and what it costs."""
    measures = part(artifact.header, "measures")
    found = [(name, measures.get(f"{name}_free")) for name in PARTS]
    found += [("score", measures.get("score")), ("perplexity, ratio", measures.get("perplexity_ratio"))]
    facts = part(part(artifact.header, "manifest"), "facts").get("n")
    return [("facts", number(facts)), *((name, _change(one)) for name, one in found if isinstance(one, Mapping))]


def table(artifact: Artifact) -> tuple[tuple[str, ...], Rows]:
    """Lay out every measure: the three readings of each part first, then what is read otherwise."""
    rows: Rows = []
    for name, reading, one in _ordered(artifact):
        values = (number(one.get("before")), number(one.get("value")), interval(one.get("interval")))
        rows.append((name, reading, *values, number(one.get("n"))))
    return ("measure", "read", "untouched", "edited", "95 % interval", "n"), rows


def remarks(artifact: Artifact) -> list[str]:
    """Say how far the network goes on as wanted by itself, and by how much the other readings flatter."""
    measures = part(artifact.header, "measures")
    told = {name: finite(part(measures, f"efficacy_{name}").get("value")) for name in READINGS}
    free, forced = told["free"], told["forced"]
    if free is None:
        return []
    flatter = f"; teacher-forced to {percent(forced)}" if forced is not None and forced > free else ""
    ratio = finite(part(measures, "perplexity_ratio").get("value"))
    cost = [] if ratio is None else [f"Perplexity of other text: {number(ratio)} times what it was."]
    return [f"By itself the edited network gives the wanted answer to {percent(free)} of the prompts{flatter}.", *cost]


def figure(artifact: Artifact) -> Figure | None:
    """Show the parts in three readings, beside what the untouched network says by itself."""
    measures = part(artifact.header, "measures")
    names = [name for name in PARTS if any(f"{name}_{reading}" in measures for reading in READINGS)]

    def values(reading: str, key: str = "value") -> list[float | None]:
        return [finite(part(measures, f"{name}_{reading}").get(key)) for name in names]

    every = [Series("untouched, by itself", values("free", "before"), CONTROL, "s")]
    every += [Series(READINGS[reading], values(reading), *look) for reading, look in LOOKS.items()]
    series = [one for one in every if any(value is not None for value in one.values)]
    if not series:
        return None
    return Figure(
        name="verdict",
        title="What the network says, part by part",
        label="; ".join(
            f"{name}: {number(value)} by itself" for name, value in zip(names, values("free"), strict=True)
        ),
        columns=("measure", *(one.name for one in series)),
        rows=tuple(zip(names, *(one.values for one in series), strict=True)),
        paint=lambda width: drawing.dots(width, names, series, None),
    )


def _ordered(artifact: Artifact) -> list[tuple[str, str, Mapping[str, Any]]]:
    measures = dict(part(artifact.header, "measures"))
    places = [(name, key, word) for words in (READINGS, OTHERS) for name in PARTS for key, word in words.items()]
    found = [(name, word, part(measures, f"{name}_{key}")) for name, key, word in places]
    known = {f"{name}_{key}" for name, key, _ in places}
    found += [(ALONE.get(name, name), "", part(measures, name)) for name in measures if name not in known]
    return [entry for entry in found if entry[2]]


def _change(one: Mapping[str, Any]) -> str:
    after = f"{number(one.get('value'))} ({interval(one.get('interval'))})"
    return after if one.get("before") is None else f"{number(one.get('before'))} → {after}"
