"""An event is plain values that fit together."""

import json

import pytest

from mnemotrace.mind.event import Event


def test_json_gives_the_event_back() -> None:
    event = Event("loss", 2.0, {"who": "Ana"}, -0.5, 0.8, {"wind": "blowing", "letters": "gone"}, ("wind",),
                  {"letters": ("wind",)}, "first loss", "So it was the wind.")  # fmt: skip
    assert Event.from_json(json.loads(json.dumps(event.to_json()))) == event


def test_mistakes_are_told() -> None:
    with pytest.raises(ValueError, match="with 0 attributes; expected an id and one"):
        Event("a", 1.0, {})
    with pytest.raises(ValueError, match="expected a finite time in days"):
        Event("a", float("nan"), {"who": "Ana"})
    with pytest.raises(ValueError, match="arousal=2"):
        Event("a", 1.0, {"who": "Ana"}, arousal=2)
    with pytest.raises(ValueError, match="got event 'a' about itself"):
        Event("a", 1.0, {"who": "Ana"}, about="a")
    with pytest.raises(ValueError, match="sets or explains letters, of which its evidence says nothing"):
        Event("a", 1.0, {"who": "Ana"}, evidence={"wind": "still"}, explains={"letters": ("wind",)})
    with pytest.raises(ValueError, match="got causes wind of wind in event 'a'; expected others, each once"):
        Event("a", 1.0, {"who": "Ana"}, evidence={"wind": "still"}, explains={"wind": ("wind",)})
