"""Stories: a drawn life follows its law, the law is the world's, and what cannot be told is refused."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from mnemotrace.mind.event import Event
from mnemotrace.mind.story import PLACES, Rule, Story
from mnemotrace.mind.world import Attribute, World


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


WORLD = World(
    [Attribute("who", ("Ana", "Ben")), Attribute("place", ("sea", "town")), Attribute("deed", ("a", "b", "c"))]
)
RULE = Rule("deed", "place", {"sea": "a", "town": "b"}, 0.6)


def event(name: str, time: float, *said: str, **more: object) -> Event:
    return Event(name, time, dict(zip(WORLD.names(), said, strict=True)), **more)  # pyright: ignore


def tiny(**more: object) -> Story:
    events = (event("one", 1.1, "Ana", "sea", "a"), event("two", 1.2, "Ben", "town", "b"))
    return Story("tiny", WORLD, events, rules=(RULE,), **more)  # pyright: ignore


def test_a_drawn_story_has_forty_events_of_six_attributes_and_is_the_same_for_the_same_seed() -> None:
    one, same, other = (Story.draw(seeded(seed)) for seed in (3, 3, 4))
    assert len(one.events) == 40 and len(one.world.attributes) == 6 and len(one.world.names("gist")) == 3
    assert one.events == same.events and one.events != other.events


def test_a_drawn_story_follows_its_rule_as_often_as_it_says_and_misses_details_as_often() -> None:
    story = Story.draw(seeded(), days=100, a_day=10, strength=0.7, seen=0.6)
    rule = story.rules[0]
    usual = [rule.usually[e.attributes["place"]] == e.attributes["deed"] for e in story.events]
    assert sum(usual) / len(usual) == pytest.approx(0.7, abs=0.05)
    seen = [name in e.attributes for e in story.events for name in story.world.names("detail")]
    assert sum(seen) / len(seen) == pytest.approx(0.6, abs=0.03)
    assert all(set(story.world.names("gist")) <= e.attributes.keys() for e in story.events)


def test_what_is_expected_is_what_a_long_life_counts() -> None:
    story = Story.draw(seeded(1), days=150, a_day=10, strength=0.6)
    deed = story.rules[0].usually["garden"]
    lived = Counter(e.attributes["place"] for e in story.events if e.attributes["deed"] == deed)
    law = story.expected({"deed": deed}, "place")
    assert sum(law.values()) == pytest.approx(1)
    assert all(lived[place] / lived.total() == pytest.approx(law[place], abs=0.07) for place in PLACES)


def test_what_is_expected_is_a_rule_where_the_rule_says_it_and_chance_where_none_does() -> None:
    law = tiny().expected({"who": "Ana", "place": "sea"}, "deed")
    assert law == pytest.approx({"a": 0.6, "b": 0.2, "c": 0.2})
    assert tiny().expected({"who": "Ana"}, "place") == pytest.approx({"sea": 0.5, "town": 0.5})
    assert tiny().expected({"deed": "a"}, "place") == pytest.approx({"sea": 0.75, "town": 0.25})


def test_unseen_cues_hold_values_that_were_lived_but_never_together() -> None:
    assert tiny().unseen() == [
        ({"who": "Ana", "place": "town"}, "deed"),
        ({"who": "Ben", "place": "sea"}, "deed"),
    ]
    story = Story.draw(seeded(2))
    lived = {(e.attributes["who"], e.attributes["place"]) for e in story.events}
    assert story.unseen() and not {(c["who"], c["place"]) for c, _ in story.unseen()} & lived


def test_a_life_goes_through_events_and_nights_in_order_and_without_nights_when_sleepless() -> None:
    story = Story.draw(seeded(), days=2, a_day=2)
    kinds = ["night" if isinstance(step, float) else "event" for step in story.steps()]
    assert kinds == ["event", "event", "night"] * 2
    assert [step.id for step in story.sleepless().steps() if isinstance(step, Event)] == [e.id for e in story.events]
    assert not story.sleepless().nights
    morning = [step if isinstance(step, float) else step.id for step in tiny(nights=(1.2,)).steps()]
    assert morning == ["one", 1.2, "two"], "a night that ends when an event begins comes first"


def test_an_operation_that_nobody_dates_falls_halfway() -> None:
    assert tiny().operated_at == pytest.approx(1.15)
    assert tiny(operation=1.2).operated_at == 1.2


def test_the_shipped_story_is_some_forty_events_with_a_mistake_that_later_trials_can_tell() -> None:
    story = Story.shipped()
    assert 35 <= len(story.events) <= 48 and len(story.nights) == 9 and story.operation
    seen = [e.evidence for e in story.events if e.evidence and not e.do]
    tried = [e.evidence for e in story.events if e.do]
    together = {(row["wind"] == "blowing", row["neighbour"] == "flying", row["letters"] == "gone") for row in seen}
    assert together == {(False, False, False), (True, True, True)}, "watching tells nothing apart"
    assert all((row["wind"] == "blowing") == (row["letters"] == "gone") for row in tried)
    assert any((row["neighbour"] == "flying") != (row["letters"] == "gone") for row in tried)
    assert any(e.explains == {"letters": ("neighbour",)} for e in story.events)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ((), "without events; expected at least one"),
        ((event("one", 1, "Ana", "sea", "a"), event("one", 2, "Ana", "sea", "a")), "two events 'one'.*rename one"),
        ((event("one", 2, "Ana", "sea", "a"), event("two", 1, "Ana", "sea", "a")), "'two' at 1 after 'one' at 2"),
        ((event("one", 1, "Ana", "sea", "a", about="zero"),), "about 'zero'; expected the id of an earlier event"),
        ((event("one", 1, "Ana", "sea", "q"),), "deed='q'; expected one of a, b, c"),
        ((event("one", 1, "Ana", "sea", "a", evidence={"wind": "on"}),), "evidence of 'wind'.*list them under"),
    ],
)
def test_events_that_cannot_be_told_are_refused(events: tuple[Event, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Story("wrong", WORLD, events)


def test_a_state_that_no_variable_has_is_refused() -> None:
    told = event("one", 1, "Ana", "sea", "a", evidence={"wind": "sideways"})
    with pytest.raises(ValueError, match="wind='sideways' in event 'one'; expected one of still, blowing"):
        Story("wrong", WORLD, (told,), variables={"wind": ("still", "blowing")})


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (replace(RULE, given="deed"), "expected two different gist attributes"),
        (replace(RULE, attribute="mood"), "rule of 'mood'"),
        (replace(RULE, usually={"sea": "a"}), "nothing known for place town; expected one of a, b, c"),
        (replace(RULE, strength=0.2), "strength 0.2.*from 0.33, which is chance, to 1"),
    ],
)
def test_rules_that_say_nothing_are_refused(rule: Rule, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(tiny(), rules=(rule,))


def test_what_can_never_happen_and_what_is_no_gist_has_no_law() -> None:
    certain = replace(tiny(), rules=(replace(RULE, strength=1.0),))
    with pytest.raises(ValueError, match="rules forbid"):
        certain.expected({"place": "sea", "deed": "b"}, "who")
    with pytest.raises(ValueError, match="expected gist: who, place, deed"):
        tiny().expected({"smell": "tar"}, "deed")
