r"""Stories: a world, what happens in it day by day, and what usually happens, by which generalising is judged.

A rule says what an attribute usually is, given another: with probability `strength` its usual value, else any of the
others alike. Attributes without a rule are drawn uniformly. So the world's law is known, and

.. math:: p(v \mid \text{cue}) = \frac{\sum_{g \ni v, \text{cue}} p(g)}{\sum_{g \ni \text{cue}} p(g)},

summed over all combinations `g` of gist values, is the chance that an answer about a day that was never lived is right;
its maximum over `v` is the best that any mind can do (the Bayes ceiling).

`Story.read` reads YAML (`mind.reading`), `Story.draw` invents some forty events, `Story.shipped` tells of letters that
vanish. Cost: the law takes one pass over the combinations, 288 in a drawn world.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import torch

from mnemotrace.mind.event import Event
from mnemotrace.mind.world import Attribute, World

SHIPPED = Path(__file__).parent / "data" / "denouement.yaml"
PEOPLE = ("Ana", "Ben", "Carla", "Dario", "Elsa", "Filip", "Greta", "Hugo")
PLACES = ("harbour", "market", "library", "garden", "kitchen", "station")
DEEDS = ("mending", "bargaining", "reading", "digging", "cooking", "waiting")
SOUNDS = ("bell", "gulls", "hammer", "rain", "radio", "whistle", "laughter", "silence", "wind", "engine")
COLOURS = ("red", "blue", "green", "ochre", "white", "black", "violet", "grey", "rose", "silver")
SMELLS = ("tar", "bread", "smoke", "soap", "roses", "paint", "fish", "coffee", "dust", "wax")


@dataclass(frozen=True)
class Rule:
    """What an attribute usually is.

    Attributes:
        attribute: whose value it says.
        given: the attribute that it depends on.
        usually: the usual value for each value of `given`.
        strength: probability of the usual value; the rest is shared by the others alike.
    """

    attribute: str
    given: str
    usually: Mapping[str, str]
    strength: float

    def probability(self, value: str, given: str, values: int) -> float:
        """Return the probability of a value of an attribute that has so many."""
        return self.strength if self.usually[given] == value else (1 - self.strength) / (values - 1)


@dataclass(frozen=True, eq=False)
class Story:
    """What happens.

    Attributes:
        title: for the reader.
        world: what can be the case.
        events: in the order of their times.
        nights: times at which a night ends, in days.
        rules: what usually happens; empty if nobody says.
        variables: causal variables with their states, for the beliefs.
        operation: time of an operation that takes the hippocampus, for the mind that loses it; None is halfway.
        about: what it is about, for the reader.
    """

    title: str
    world: World
    events: tuple[Event, ...]
    nights: tuple[float, ...] = ()
    rules: tuple[Rule, ...] = ()
    variables: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    operation: float | None = None
    about: str = ""

    def __post_init__(self) -> None:
        """Check that events are in order, named once, and speak of the world and its variables."""
        if not self.events:
            raise ValueError("got a story without events; expected at least one; tell what happened")
        earlier: dict[str, float] = {}
        for event in self.events:
            check_event(event, earlier, self.world, self.variables)
            earlier[event.id] = event.time
        for rule in self.rules:
            _check_rule(rule, self.world)

    @classmethod
    def read(cls, path: str | Path) -> "Story":
        """Read a story from YAML; see `mind.reading.read_story`."""
        from mnemotrace.mind.reading import read_story

        return read_story(path)

    @classmethod
    def shipped(cls) -> "Story":
        """Read the story that comes with the package: letters that vanish, and who is thought to take them."""
        return cls.read(SHIPPED)

    @classmethod
    def draw(
        cls, generator: torch.Generator, *, days: int = 5, a_day: int = 8, strength: float = 0.85, seen: float = 0.75
    ) -> "Story":
        """Invent a story in a world of three gist attributes and three details.

        Who and where are drawn alike; what is done there follows a rule; sound, colour and smell follow nothing, and
        each is perceived only sometimes. The operation falls after three quarters of the days.

        Args:
            generator: of every draw.
            days: each followed by a night.
            a_day: events a day.
            strength: of the rule, from chance to 1.
            seen: probability that a detail is perceived.
        """
        world = drawn_world()
        deeds = [DEEDS[i] for i in torch.randperm(len(DEEDS), generator=generator).tolist()]
        rule = Rule("deed", "place", dict(zip(PLACES, deeds, strict=True)), strength)
        events = [
            _event(
                world, rule, seen, time=day + (i + 1) / (a_day + 2), name=f"day {day + 1}, {i + 1}", generator=generator
            )
            for day in range(days)
            for i in range(a_day)
        ]
        nights = tuple(day + 1.0 for day in range(days))
        operation = float(3 * days // 4)
        return cls("A life that was drawn", world, tuple(events), nights, (rule,), operation=operation)

    def sleepless(self) -> "Story":
        """Return the same story without its nights: the control of what sleep does."""
        return replace(self, nights=())

    @property
    def operated_at(self) -> float:
        """The time of the operation, in days."""
        halfway = (self.events[0].time + self.events[-1].time) / 2
        return halfway if self.operation is None else self.operation

    def steps(self) -> Iterator[Event | float]:
        """Go through events and nights (the times at which they end) in order."""
        moments: list[tuple[float, int, Event | float]] = [(event.time, 1, event) for event in self.events]
        moments += [(night, 0, night) for night in self.nights]
        yield from (moment for _, _, moment in sorted(moments, key=lambda m: m[:2]))

    def expected(self, cue: Mapping[str, str], asked: str) -> dict[str, float]:
        """Return the probability of each value of a gist attribute on a day of which only the cue is known.

        Raises:
            ValueError: the cue or the attribute is not of the gist, or the cue cannot happen.
        """
        gist = self.world.names("gist")
        if asked not in gist or not set(cue) <= set(gist):
            raise ValueError(f"got cue {dict(cue)} and attribute {asked!r}; expected gist: {', '.join(gist)}")
        found = dict.fromkeys(self.world.attributes[asked].values, 0.0)
        free = [(cue[name],) if name in cue else self.world.attributes[name].values for name in gist]
        for values in product(*free):
            case = dict(zip(gist, values, strict=True))
            found[case[asked]] += self._weight(case)
        total = sum(found.values())
        if not total:
            raise ValueError(f"got cue {dict(cue)}, which the rules forbid; expected one that can happen")
        return {value: weight / total for value, weight in found.items()}

    def unseen(self) -> list[tuple[dict[str, str], str]]:
        """List cues of values that were all lived, but never together, each with the attribute that a rule says."""
        gist, found = self.world.names("gist"), list[tuple[dict[str, str], str]]()
        for rule in self.rules:
            names = [name for name in gist if name != rule.attribute]
            lived = [tuple(event.attributes.get(name) for name in names) for event in self.events]
            each = [[v for v in self.world.attributes[n].values if any(e[i] == v for e in lived)]
                    for i, n in enumerate(names)]  # fmt: skip
            found += [(dict(zip(names, c, strict=True)), rule.attribute) for c in product(*each) if c not in lived]
        return found

    def _weight(self, case: Mapping[str, str]) -> float:
        weight = 1.0
        for rule in self.rules:
            count = len(self.world.attributes[rule.attribute].values)
            weight *= rule.probability(case[rule.attribute], case[rule.given], count)
        return weight


def drawn_world() -> World:
    """Return the world of drawn stories: six attributes, three of them gist."""
    gist = (("who", PEOPLE), ("place", PLACES), ("deed", DEEDS))
    details = (("sound", SOUNDS), ("colour", COLOURS), ("smell", SMELLS))
    return World([*(Attribute(*a) for a in gist), *(Attribute(*a, role="detail") for a in details)])


def _event(world: World, rule: Rule, seen: float, *, time: float, name: str, generator: torch.Generator) -> Event:
    """Draw one event: who and where alike, the deed by its rule, details that may go unperceived."""

    def uniform() -> float:
        return float(torch.rand((), generator=generator))

    def one_of(values: tuple[str, ...]) -> str:
        return values[int(torch.randint(len(values), (), generator=generator))]

    said = {name: one_of(a.values) for name, a in world.attributes.items() if name != rule.attribute}
    usual = rule.usually[said[rule.given]]
    others = tuple(v for v in world.attributes[rule.attribute].values if v != usual)
    said[rule.attribute] = usual if uniform() < rule.strength else one_of(others)
    said = {n: v for n, v in said.items() if world.attributes[n].role == "gist" or uniform() < seen}
    return Event(name, time, world.check(said), valence=2 * uniform() - 1, arousal=uniform() ** 2)


def check_event(event: Event, earlier: dict[str, float], world: World, variables: Mapping[str, Sequence[str]]) -> None:
    """Check an event against the times of those before it, by id in order, the world and its causal variables.

    Raises:
        ValueError: its id came before, it is too early or about no earlier event, or it speaks of what is not there.
    """
    if event.id in earlier:
        raise ValueError(f"got two events {event.id!r}; expected each id once; rename one")
    last = next(reversed(earlier), None)
    if last is not None and event.time < earlier[last]:
        raise ValueError(
            f"got event {event.id!r} at {event.time} after {last!r} at {earlier[last]}; expected events in the order "
            "of their times"
        )
    if event.about is not None and event.about not in earlier:
        raise ValueError(f"got event {event.id!r} about {event.about!r}; expected the id of an earlier event")
    world.check(event.attributes)
    for name, state in event.evidence.items():
        if name not in variables:
            known = ", ".join(variables) or "none; list them under `variables`"
            raise ValueError(f"got evidence of {name!r} in event {event.id!r}; expected one of {known}")
        if state not in variables[name]:
            raise ValueError(
                f"got {name}={state!r} in event {event.id!r}; expected one of {', '.join(variables[name])}"
            )


def _check_rule(rule: Rule, world: World) -> None:
    gist = world.names("gist")
    if rule.attribute not in gist or rule.given not in gist or rule.attribute == rule.given:
        raise ValueError(
            f"got a rule of {rule.attribute!r} given {rule.given!r}; expected two different gist attributes: "
            f"{', '.join(gist)}"
        )
    given, values = world.attributes[rule.given].values, world.attributes[rule.attribute].values
    missing = [value for value in given if rule.usually.get(value) not in values]
    if missing:
        raise ValueError(
            f"got a rule of {rule.attribute!r} that says nothing known for {rule.given} {', '.join(missing)}; expected "
            f"one of {', '.join(values)} for each"
        )
    if not 1 / len(values) <= rule.strength <= 1:
        raise ValueError(
            f"got strength {rule.strength} of the rule of {rule.attribute!r}; expected from {1 / len(values):.2f}, "
            "which is chance, to 1"
        )
