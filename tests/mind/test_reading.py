"""Reading stories: what is well written is read; what is not is refused, with its line and what was expected."""

from pathlib import Path

import pytest

from mnemotrace.mind.reading import read_story

STORY = """
title: A short one
world:
  who: {role: gist, values: [Ana, Ben]}
  place: {role: gist, values: [sea, town]}
  smell: {role: detail, values: [tar, bread]}
rules:
  place: {given: who, strength: 0.8, usually: {Ana: sea, Ben: town}}
variables: {wind: [still, blowing], letters: [there, gone]}
operation: 2.0
life:
  - {id: one, time: 1.2, who: Ana, place: sea, valence: -0.5, arousal: 1,
     evidence: {wind: blowing, letters: gone}, explains: {letters: [wind]}, note: "gone"}
  - night
  - {id: two, time: 2.5, who: Ben, place: town, smell: tar, evidence: {wind: still, letters: there}, do: [wind]}
  - {id: three, time: 2.6, who: Ana, smell: bread, about: one}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "story.yaml"
    path.write_text(text)
    return path


def test_a_story_is_read_as_it_is_written(tmp_path: Path) -> None:
    story = read_story(write(tmp_path, STORY))
    assert story.title == "A short one" and story.operation == 2.0 and story.nights == (2.0,)
    one, two, three = story.events
    assert one.attributes == {"who": "Ana", "place": "sea"} and (one.valence, one.arousal) == (-0.5, 1.0)
    assert one.explains == {"letters": ("wind",)} and one.note == "gone"
    assert two.do == ("wind",) and two.evidence["letters"] == "there" and three.about == "one"
    assert story.rules[0].strength == 0.8 and story.variables["wind"] == ("still", "blowing")
    assert story.world.names("detail") == ("smell",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "who: Ben, place",
            "whom: Ben, place",
            r"story.yaml: line 15: got whom in event 'two'; expected attributes of",
        ),
        ("place: town, smell", "place: moon, smell", r"line 15: got place='moon'; expected one of sea, town"),
        ("id: two", "id: one", r"line 15: got two events 'one'; expected each id once"),
        ("time: 2.5", "time: soon", r"line 15: got 'soon' as time; expected a number"),
        ("time: 2.5, ", "", r"line 15: got event 'two' at None; expected an id in words and a time"),
        ("time: 2.5", "time: 1.5", r"line 15: got event 'two' at 1.5 after a night that ends at 2; expected a later"),
        ("time: 2.6", "time: 2.4", r"line 16: got event 'three' at 2.4 after 'two' at 2.5"),
        ("about: one", "about: zero", r"line 16: got event 'three' about 'zero'"),
        ("valence: -0.5", "valence: -5", r"line 12: got time=1.2, valence=-5.0"),
        (
            "wind: still, letters",
            "wind: off, letters",
            r"line 15: got wind=False in event 'two'; expected one of still",
        ),
        ("do: [wind]", "do: wind", r"line 15: got 'wind' as do; expected a list of words"),
        ("explains: {letters: [wind]}", "explains: [wind]", r"line 12: got explains as list; expected a mapping"),
        ("  - night", "  - noon", r"line 14: got 'noon'; expected an event.*or the word night"),
        ("[still, blowing]", "[off, on]", r"got \[False, True\] as states of wind.*put quotes round words"),
        ("role: detail", "role: colour", r"got role 'colour' of 'smell'; expected 'gist' or 'detail'"),
        ("values: [tar, bread]", "values: [tar]", r"got attribute 'smell' with values"),
        ("  smell: {role", "  note: {role", r"got attribute 'note'.*expected another name than id, time"),
        ("strength: 0.8", "strength: strong", r"got 'strong' as strength of the rule of 'place'"),
        ("{given: who, ", "{give: who, ", r"got give in the rule of 'place'; expected only given, strength, usually"),
        ("operation: 2.0", "operation: later", r"got 'later' as operation; expected a number"),
        ("operation: 2.0", "surgery: 2.0", r"got surgery in a story; expected only title, about, world"),
        ("operation: 2.0", "title: Again", r"story.yaml, line 10: got 'title' twice; expected each key once"),
        ("time: 1.2, who: Ana", "time: 1.2, who: Ana, who: Ben", r"line 12: got 'who' twice"),
        ("title: A short one", "title: [", r"got text that is not YAML .*line.*expected a story; mend that line"),
    ],
)
def test_what_is_not_a_story_is_refused_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in STORY
    with pytest.raises(ValueError, match=message):
        read_story(write(tmp_path, STORY.replace(old, new, 1)))


def test_a_story_without_events_world_or_mapping_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="story without events; expected at least one; tell what happened"):
        read_story(write(tmp_path, STORY[: STORY.index("  - {id: one")]))
    with pytest.raises(ValueError, match="got no world"):
        read_story(write(tmp_path, "title: nothing"))
    with pytest.raises(ValueError, match="got list; expected a mapping with title"):
        read_story(write(tmp_path, "- one\n- two"))
    with pytest.raises(ValueError, match="line 12: got a night before the first event"):
        read_story(write(tmp_path, STORY.replace("life:\n", "life:\n  - night\n", 1)))
    with pytest.raises(FileNotFoundError, match="which is not a file; expected a story in YAML"):
        read_story(tmp_path / "nowhere.yaml")
