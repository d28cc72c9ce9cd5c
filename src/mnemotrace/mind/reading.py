"""Reading a story from YAML, with errors that name the line.

A story is a mapping: `title`, `about`, `world` (name: {role, values}), `life` (a list of events and the word `night`),
and, if wanted, `rules` (name: {given, strength, usually}), `variables` (name: [states]) and `operation` (a time in
days). An event is a mapping: `id`, `time`, the attributes by their own names, and any of `valence`, `arousal`,
`evidence`, `do`, `explains`, `about`, `note`. Everything is checked before a story is made: nothing is guessed.

Cost: one pass. Needs pyyaml, which comes with transformers.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnemotrace.mind.event import Event
from mnemotrace.mind.story import Rule, Story, check_event
from mnemotrace.mind.world import Attribute, World

KEYS = ("title", "about", "world", "rules", "variables", "operation", "life")
SAID = ("id", "time", "valence", "arousal", "evidence", "do", "explains", "about", "note")
NIGHT = "night"


def read_story(path: str | Path) -> Story:
    """Read a story.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not YAML, a key twice, a part that is missing, unknown or of another form, an event that speaks of
            what the world does not have, an id twice, or no events; the message says what came, what was expected and,
            if possible, in which line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"got {path}, which is not a file; expected a story in YAML")
    found, lines = _parsed(path)
    try:
        _known(found, KEYS, "a story")
        world = _world(_part(found, "world", dict))
        variables = {str(n): _words(states, f"states of {n}") for n, states in _part(found, "variables", dict).items()}
        rules = tuple(_rule(str(n), entry) for n, entry in _part(found, "rules", dict).items())
        events, nights = _life(_part(found, "life", list), lines, world, variables)
        operation = found.get("operation")
        if operation is not None:
            operation = _number(operation, "operation")
        title, about = str(found.get("title", path.stem)), str(found.get("about", ""))
        return Story(title, world, tuple(events), tuple(nights), rules, variables, operation, about)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def _parsed(path: Path) -> tuple[dict[str, Any], list[int]]:
    """Return what the file holds, and the line of each entry of `life`."""
    try:
        import yaml
    except ImportError as error:
        raise ImportError("got no pyyaml; expected it, because stories are YAML; pip install pyyaml") from error
    text = path.read_text(encoding="utf-8")
    try:
        node, found = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except yaml.YAMLError as error:
        told = " ".join(str(error).split())
        raise ValueError(
            f"{path.name}: got text that is not YAML ({told}); expected a story; mend that line"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"{path.name}: got {type(found).__name__}; expected a mapping with {', '.join(KEYS)}")
    _once(node, path.name)
    life = next((value for key, value in node.value if key.value == "life"), None)
    entries = life.value if isinstance(life, yaml.SequenceNode) else []
    return found, [entry.start_mark.line + 1 for entry in entries]


def _once(node: Any, name: str) -> None:
    """Refuse a key that comes twice, of which YAML would silently keep the last."""
    pairs = node.value if isinstance(node.value, list) else []
    seen: set[str] = set()
    for entry in pairs:
        if not isinstance(entry, tuple):
            _once(entry, name)
            continue
        key, value = entry
        if str(key.value) in seen:
            raise ValueError(f"{name}, line {key.start_mark.line + 1}: got {key.value!r} twice; expected each key once")
        seen.add(str(key.value))
        _once(value, name)


def _known(found: Mapping[Any, Any], keys: Sequence[str], what: str) -> None:
    unknown = [str(key) for key in found if key not in keys]
    if unknown:
        raise ValueError(f"got {', '.join(unknown)} in {what}; expected only {', '.join(keys)}")


def _part(found: Mapping[str, Any], key: str, form: type) -> Any:
    value = found.get(key)
    if value is None:
        return form()
    if not isinstance(value, form):
        told = "a mapping" if form is dict else "a list"
        raise ValueError(f"got {key} as {type(value).__name__}; expected {told}")
    return value


def _words(value: Any, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise ValueError(
            f"got {value!r} as {what}; expected a list of words; put quotes round words that YAML takes for something "
            "else, such as yes, no, on, off and numbers"
        )
    return tuple(value)


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"got {value!r} as {what}; expected a number")
    return float(value)


def _world(entries: Mapping[str, Any]) -> World:
    if not entries:
        raise ValueError("got no world; expected `world:` with a name, a role and values for each attribute")
    attributes: list[Attribute] = []
    for name, entry in entries.items():
        if name in SAID or not isinstance(entry, dict):
            raise ValueError(
                f"got attribute {name!r} as {entry!r}; expected another name than {', '.join(SAID)}, and a "
                "mapping with role and values"
            )
        _known(entry, ("role", "values"), f"attribute {name!r}")
        attributes.append(Attribute(str(name), _words(entry.get("values"), f"values of {name}"), entry.get("role", "")))
    return World(attributes)


def _rule(name: str, entry: Any) -> Rule:
    if not isinstance(entry, dict):
        raise ValueError(f"got {entry!r} as the rule of {name!r}; expected a mapping with given, strength, usually")
    _known(entry, ("given", "strength", "usually"), f"the rule of {name!r}")
    strength = _number(entry.get("strength"), f"strength of the rule of {name!r}")
    return Rule(name, str(entry.get("given")), _part(entry, "usually", dict), strength)


def _life(
    entries: Sequence[Any], lines: Sequence[int], world: World, variables: Mapping[str, tuple[str, ...]]
) -> tuple[list[Event], list[float]]:
    events, nights = list[Event](), list[float]()
    for entry, line in zip(entries, lines, strict=True):
        if entry == NIGHT:
            if not events:
                raise ValueError(f"line {line}: got a night before the first event; expected something to dream of")
            nights.append(math.floor(events[-1].time) + 1.0)  # the next morning
            continue
        try:
            event = _event(entry, world)
            check_event(event, {e.id: e.time for e in events}, world, variables)
        except ValueError as error:
            raise ValueError(f"line {line}: {error}") from error
        events.append(event)
        if nights and event.time < nights[-1]:
            raise ValueError(
                f"line {line}: got event {event.id!r} at {event.time} after a night that ends at {nights[-1]:g}; "
                "expected a later time"
            )
    return events, nights


def _event(entry: Any, world: World) -> Event:
    if not isinstance(entry, dict):
        raise ValueError(f"got {entry!r}; expected an event, which is a mapping with id and time, or the word {NIGHT}")
    unknown = [str(key) for key in entry if key not in SAID and key not in world.attributes]
    if unknown:
        raise ValueError(
            f"got {', '.join(unknown)} in event {entry.get('id')!r}; expected attributes of the world "
            f"({', '.join(world.attributes)}) or {', '.join(SAID)}"
        )
    said = {key: value for key, value in entry.items() if key not in world.attributes}
    numbers = {key: _number(said.pop(key), key) for key in ("time", "valence", "arousal") if key in said}
    if "time" not in numbers or not isinstance(said.get("id"), str):
        raise ValueError(f"got event {entry.get('id')!r} at {entry.get('time')!r}; expected an id in words and a time")
    causes = {e: _words(c, f"causes of {e}") for e, c in _part(said, "explains", dict).items()}
    return Event(
        id=said["id"],
        attributes=world.check({name: entry[name] for name in world.attributes if name in entry}),
        evidence=_part(said, "evidence", dict),
        do=_words(said["do"], "do") if "do" in said else (),
        explains=causes,
        about=said.get("about"),
        note=str(said.get("note", "")),
        **numbers,
    )
