"""The top of the page of `mnemotrace demo`: a headline, key numbers, completions before and after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.view.values import MEASURES, number, part, size

STATES = ("before", "after", "rewritten", "restored")
HEADS = {"before": "before", "after": "erased", "rewritten": "rewritten", "restored": "taken back"}
GROUPS = ("memory", "paraphrase", "same person", "neighbour", "general")
SHOWN, HALF = 3, 0.5
PERCENT = "\u00a0%"


@dataclass(frozen=True)
class Tile:
    """One key number: what it is, its value or two values, and a word on it."""

    label: str
    value: str
    now: str | None = None


@dataclass(frozen=True)
class Guess:
    """One completion and its probability; `right` marks the expected one."""

    token: str
    share: float
    right: bool

    @property
    def percent(self) -> str:
        """The probability in words."""
        return percent(self.share, digits=0)


@dataclass(frozen=True)
class Example:
    """One prompt with its completions by state of the network."""

    group: str
    prompt: str
    expected: str
    guesses: Mapping[str, list[Guess]]


@dataclass(frozen=True)
class Summary:
    """What the top of the page says."""

    headline: str
    tiles: list[Tile]
    states: list[tuple[str, str]]
    examples: list[Example]
    timings: Sequence[tuple[str, float, float]]


def demonstration(artifact: Artifact) -> Summary:
    """Read a demonstration; parts that were not measured are left out."""
    header = artifact.header
    examples = [_example(example) for example in header.get("examples") or []]
    present = [(state, HEADS[state]) for state in STATES if any(example.guesses[state] for example in examples)]
    order = {group: index for index, group in enumerate(GROUPS)}
    examples.sort(key=lambda example: order.get(example.group, len(order)))
    timings = {step: seconds for step, seconds in part(header, "timings").items() if isinstance(seconds, int | float)}
    slowest = max(timings.values(), default=0.0) or 1.0
    rows = [(step, seconds, seconds / slowest) for step, seconds in timings.items()]
    return Summary(headline(header), _tiles(header), present, examples, rows)


def headline(header: Mapping[str, Any]) -> str:
    """Tell in plain sentences what happened, also when it did not go well."""
    return " ".join(filter(None, (_knew(header), _forgot(header), _kept(header), _rewrote(header), _reverted(header))))


def _knew(header: Mapping[str, Any]) -> str:
    fact, knew = part(header, "fact"), header.get("recall_before")
    verb = "knew" if knew is None or knew > HALF else "hardly knew"
    told = fact.get("sentence")
    if not told and {"subject", "relation", "answer"} <= fact.keys():
        subject, relation, answer = fact["subject"], str(fact["relation"]), fact["answer"]
        told = f"{subject} {relation} {answer}" if " " in relation else f"the {relation} of {subject} is {answer}"
    return f"Funes {verb} that {str(told).rstrip(' .')}." if told else ""


def _forgot(header: Mapping[str, Any]) -> str:
    left = header.get("recall_after")
    if left is None:
        return ""
    weight = f" of {size(header['artifact_bytes'])}" if header.get("artifact_bytes") is not None else ""
    ending = "he does not" if left < HALF else "he still does"
    share = "" if left in (0, 1) else f" ({percent(left)} of the prompts still recall it)"
    return f"After an edit{weight} {ending}{share}."


def _kept(header: Mapping[str, Any]) -> str:
    before, after = header.get("neighbours_before"), header.get("neighbours_after")
    count = header.get("neighbours")
    if after is None:
        return ""
    if isinstance(count, int):
        return f"{round(after * count)} of {count} neighbours are kept."
    if isinstance(before, int) and isinstance(after, int) and before > 1:
        return f"{after} of {before} neighbours are kept."
    return f"{percent(after)} of the neighbours are kept."


def _rewrote(header: Mapping[str, Any]) -> str:
    said, target = header.get("recall_rewritten"), header.get("target")
    if said is None or target is None:
        return ""
    weight = f" of {size(header['rewrite_bytes'])}" if header.get("rewrite_bytes") is not None else ""
    kept = header.get("neighbours_rewritten")
    others = "" if kept is None else f", and {percent(kept)} of the neighbours are kept"
    return f"After another{weight} he says {target!r} to {percent(said)} of the prompts{others}."


def _reverted(header: Mapping[str, Any]) -> str:
    if header.get("restored") is None:
        return ""
    if header["restored"]:
        return "Taken back, every weight is what it was, bit for bit."
    return "Taking the edit back did not restore every weight."


def _tiles(header: Mapping[str, Any]) -> list[Tile]:
    tiles = [
        _change(label, _score(header[f"{key}_before"], key), _score(header[f"{key}_after"], key))
        for key, label in MEASURES.items()
        if header.get(f"{key}_before") is not None and header.get(f"{key}_after") is not None
    ]
    if header.get("artifact_bytes") is not None:
        tiles.append(Tile("size of the edit", size(header["artifact_bytes"])))
    if header.get("restored") is not None:
        tiles.append(Tile("restored bit for bit", number(bool(header["restored"]))))
    if header.get("seconds") is not None:
        tiles.append(Tile("all of this took", f"{header['seconds']:.0f} s"))
    return tiles


def _change(label: str, before: str, after: str) -> Tile:
    return Tile(label, before.removesuffix(PERCENT) if after.endswith(PERCENT) else before, after)


def _score(value: float, key: str) -> str:
    share = key != "perplexity" and isinstance(value, float) and 0 <= value <= 1
    return percent(value) if share else number(value)


def percent(share: float, *, digits: int = 1) -> str:
    """Write a share in percent; rounding alone never makes it nothing or everything."""
    least = 10.0**-digits
    if 0 < 100 * share < least / 2:
        return f"< {least:g}{PERCENT}"
    if least / 2 > 100 - 100 * share > 0:
        return f"> {100 - least:g}{PERCENT}"
    return f"{100 * share:.{digits}f}".removesuffix(".0") + PERCENT


def _example(example: Mapping[str, Any]) -> Example:
    expected = str(example.get("expected", ""))
    guesses = {state: _guesses(example.get(state) or [], expected) for state in STATES}
    return Example(str(example.get("group", "")), str(example.get("prompt", "")), expected, guesses)


def _guesses(pairs: Sequence[Sequence[Any]], expected: str) -> list[Guess]:
    """Keep the most probable completions, and the expected one wherever it is."""
    every = [
        Guess(str(token).strip() or repr(token), float(share), str(token).strip() == expected.strip())
        for token, share in pairs
    ]
    every.sort(key=lambda guess: -guess.share)
    return every[:SHOWN] + [guess for guess in every[SHOWN:] if guess.right]
