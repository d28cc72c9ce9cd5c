"""What comes to mind is what ACT-R says; what is told counts events; what is inferred follows the associations."""

import pytest
import torch

from mnemotrace.mind.knowing import foremost, told
from mnemotrace.mind.knowledge import Knowledge
from mnemotrace.mind.trace import Trace
from mnemotrace.retrieval.base_level import base_level
from tests.mind.minds import WORLD, events


def _trace(time: float = 1.0, arousal: float = 0.0, *, said: dict[str, str] | None = None) -> Trace:
    said = said or {}
    return Trace("e", time, said, dict(said), 0.0, arousal)


def test_what_comes_to_mind_has_the_highest_base_level_plus_arousal() -> None:
    draws = torch.rand(40, 2, generator=torch.Generator().manual_seed(0)).tolist()
    traces = {h: _trace(10 * time, arousal) for h, (time, arousal) in enumerate(draws)}
    scores = base_level([(t.time,) for t in traces.values()], 10.0) + torch.tensor([t.arousal for t in traces.values()])
    for few in (range(40), range(10, 20), range(5)):
        some = {h: traces[h] for h in few}
        assert foremost(some, dict.fromkeys(some, 1.0), 10.0) == max(few, key=lambda h: float(scores[h]))


def test_recent_and_moving_events_come_to_mind_and_faint_links_hold_them_back() -> None:
    traces = {0: _trace(1.0), 1: _trace(9.0), 2: _trace(9.0, 0.9)}
    even = dict.fromkeys(traces, 1.0)
    assert foremost({0: traces[0], 1: traces[1]}, even, 10.0) == 1 and foremost(traces, even, 10.0) == 2
    assert foremost(traces, {0: 1.0, 1: 0.02, 2: 0.02}, 10.0) == 0


def test_events_say_what_most_of_them_say_and_faint_ones_say_it_faintly() -> None:
    traces = {
        0: _trace(said={"deed": "mending"}),
        1: _trace(said={"deed": "mending"}),
        2: _trace(said={"deed": "selling"}),
        3: _trace(said={"who": "Ana"}),
    }
    assert told(traces, dict.fromkeys(traces, 1.0), ["deed"]) == {"deed": {"mending": 0.5, "selling": 0.25}}
    assert told({0: traces[0]}, {0: 0.3}, ["deed"]) == {"deed": {"mending": pytest.approx(0.3)}}


def test_inference_is_that_of_counted_events() -> None:
    knowledge = Knowledge(WORLD, 100.0)
    said = [event.attributes for day in events(3) for event in day]
    for handle, attributes in enumerate(said):
        knowledge.note(handle, _trace(said=dict(attributes)))
    cue = {"who": "Ana", "place": "market"}
    found = knowledge.inferred(cue, ["deed"])["deed"]
    values = WORLD.attributes["deed"].values
    base = {v: sum(a["deed"] == v for a in said) / len(said) for v in values}
    score = dict(base)
    for name, value in cue.items():
        among = [a["deed"] for a in said if a[name] == value]
        for v in values:
            score[v] *= (among.count(v) + base[v]) / (len(among) + 1) / base[v]
    assert found == pytest.approx({v: score[v] / sum(score.values()) for v in values})
    assert knowledge.inferred({"who": "Nobody"}, ["deed"]) == {}
