"""A small world and events in it, for tests of minds."""

from dataclasses import replace

from mnemotrace.mind.event import Event
from mnemotrace.mind.lesion import Lesion, lesion
from mnemotrace.mind.mind import Mind
from mnemotrace.mind.world import Attribute, World

WORLD = World(
    [
        Attribute("who", ("Ana", "Ben", "Carla", "Dario")),
        Attribute("place", ("harbour", "market", "garden")),
        Attribute("deed", ("mending", "selling", "digging")),
        Attribute("smell", ("tar", "bread", "roses", "smoke"), "detail"),
        Attribute("sound", ("gulls", "bell", "rain", "radio"), "detail"),
    ]
)
DEEDS = {"harbour": "mending", "market": "selling", "garden": "digging"}


def quiet(name: str = "intact", **changes: object) -> Lesion:
    """Return a mind by name with short nights, for speed."""
    known: dict[str, object] = {"replay": 2, "slowness": 25.0} | changes
    return replace(lesion(name), **known)  # pyright: ignore[reportArgumentType]


def events(days: int = 3, first: int = 1) -> list[list[Event]]:
    """Return some days of four events each; deeds follow places, details follow nothing, every pair is new."""
    who, places = WORLD.attributes["who"].values, WORLD.attributes["place"].values
    smells, sounds = WORLD.attributes["smell"].values, WORLD.attributes["sound"].values
    found: list[list[Event]] = []
    for day in range(days):
        today: list[Event] = []
        for i in range(4):
            place = places[(i + day) % 3]
            said = {"who": who[i], "place": place, "deed": DEEDS[place]}
            said |= {"smell": smells[(2 * i + day) % 4], "sound": sounds[(i + 2 * day) % 4]}
            today.append(Event(f"day {day + first} event {i}", day + first + 0.2 * i, said, arousal=0.1 * i))
        found.append(today)
    return found


def lived(mind: Mind, days: list[list[Event]], *, last_night: bool = True) -> Mind:
    """Let a mind live some days, with a night after each."""
    for index, day in enumerate(days):
        for event in day:
            mind.experience(event)
        if last_night or index + 1 < len(days):
            mind.sleep()
    return mind
