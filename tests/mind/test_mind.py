"""A mind lives, sleeps, recalls, is told otherwise, and goes on bit for bit after a file; lesions show in what it can.

Each lesion is held against the intact mind, which lives the same days.
"""

import copy
import json
from pathlib import Path

import pytest
import torch

from mnemotrace.core.artifact import read, write
from mnemotrace.mind.event import Event
from mnemotrace.mind.mind import Mind
from mnemotrace.mind.remembered import CRITERION
from mnemotrace.mind.simulating import perceived
from tests.mind.minds import WORLD, events, lived, quiet

GIST, DETAIL = WORLD.names("gist"), WORLD.names("detail")
CAUSES = {"wind": ("still", "blowing"), "neighbour": ("away", "flying"), "letters": ("there", "gone")}


def _gist(event: Event) -> dict[str, str]:
    return {name: event.attributes[name] for name in GIST}


def _right(mind: Mind, day: list[Event], asked: tuple[str, ...], mode: str | None = None) -> float:
    """Share of details, or of deeds, that are asserted rightly."""
    right = 0
    for event in day:
        cue = {n: v for n, v in event.attributes.items() if n in GIST and n not in asked}
        found = mind.recall(cue, mode=mode).asserted  # pyright: ignore[reportArgumentType]
        right += sum(name in found and found[name].value == event.attributes[name] for name in asked)
    return right / (len(day) * len(asked))


@pytest.fixture(scope="module")
def minds() -> dict[str, Mind]:
    """Four days of each mind; H. M. loses the hippocampus on the morning of the fourth."""
    made = {
        name: Mind(WORLD, lesion=quiet(name), seed=3) for name in ("intact", "funes", "shereshevskii", "aphantasia")
    }
    made["hm"] = Mind(WORLD, lesion=quiet("hm", hippocampus_until=4.0), seed=3)
    return {name: lived(mind, events(4)) for name, mind in made.items()}


def test_a_fresh_mind_recalls_an_event_whole_and_says_that_it_was_there() -> None:
    mind, day = Mind(WORLD, seed=1), events(1)[0]
    handles = [mind.experience(event) for event in day]
    found = mind.recall({"who": "Ben", "place": "market"})
    assert found.handle == handles[1] and found.mode == "simulate" and not found.open
    assert {name: a.value for name, a in found.asserted.items()} == {
        name: day[1].attributes[name] for name in ("deed", *DETAIL)
    }
    assert all(a.source == "episode" and a.confidence > CRITERION for a in found.asserted.values())
    assert found.sampler_calls == 1 and found.evaluations > 1


def test_a_cue_that_no_event_fits_finds_none() -> None:
    mind = lived(Mind(WORLD, lesion=quiet(replay=0)), events(1))
    assert mind.cortex is None
    found = mind.recall({"who": "Ana", "place": "garden"})
    assert found.handle is None and not found.asserted and set(found.open) == {"deed", *DETAIL}


def test_graph_recall_calls_no_sampler_and_asserts_gist_only(minds: dict[str, Mind]) -> None:
    before = minds["intact"]._generator.get_state()
    for event in (event for day in events(4) for event in day):
        found = minds["intact"].recall(
            {"who": event.attributes["who"], "place": event.attributes["place"]}, mode="graph"
        )
        assert found.sampler_calls == found.evaluations == 0 and found.handle is not None
        assert set(found.asserted) <= set(GIST) and set(found.open) >= set(DETAIL)
        assert found.asserted["deed"].source == "graph" and found.asserted["deed"].value == event.attributes["deed"]
    assert torch.equal(before, minds["intact"]._generator.get_state())


def test_a_detail_that_has_faded_finds_no_event_by_its_links_either() -> None:
    mind = lived(Mind(WORLD, lesion=quiet(replay=0, detail_fading=0.9)), events(1), last_night=False)
    cue = {"who": "Ana", "smell": "tar"}
    assert mind.recall(cue, mode="graph").handle == 0
    mind.sleep()
    assert mind.recall(cue, mode="graph").handle is None


def test_the_graph_infers_what_usually_is_where_no_event_fits() -> None:
    first, second, third = events(3)
    mind = lived(Mind(WORLD, lesion=quiet(replay=0)), [first, second, third[1:]])
    found = mind.recall({"who": "Ana", "place": third[0].attributes["place"]}, mode="graph")
    assert found.handle is None and found.asserted["deed"].value == third[0].attributes["deed"]


def test_detail_fades_before_gist_and_not_in_those_who_forget_nothing() -> None:
    kept: dict[str, list[int]] = {}
    for name in ("intact", "funes", "shereshevskii"):
        mind = lived(Mind(WORLD, lesion=quiet(name, replay=0), seed=3), events(1))
        mind.sleep(5)
        kept[name] = [
            sum(mind.explain(h).fate[n] == "kept" for h in range(4) for n in names) for names in (GIST, DETAIL)
        ]
        assert mind.forget(0) is (name == "intact") and mind.log[-1]["gone"] is (name == "intact")
    assert kept["intact"][0] == 12 and kept["intact"][1] <= 3
    assert kept["funes"] == kept["shereshevskii"] == [12, 8]


def test_a_redundant_code_recalls_from_worse_cues(minds: dict[str, Mind]) -> None:
    def rate(name: str) -> float:
        """Share of cues with errors as large as the code itself that find their own event."""
        mind, generator = minds[name], torch.Generator().manual_seed(0)
        memory, right = mind.hippocampus.memory, 0.0
        assert memory is not None
        for row, event in enumerate(event for day in events(4) for event in day):
            cues = [perceived(mind.code, event.attributes, 1.0, generator) for _ in range(20)]
            found = memory.posterior(torch.stack([cue.pattern for cue in cues]), sigma=cues[0].sigma).argmax(1)
            right += float((found == row).float().mean()) / 16
        return right

    assert rate("shereshevskii") > rate("funes") + 0.1


def test_without_a_hippocampus_nothing_new_stays_and_loss_is_graded(minds: dict[str, Mind]) -> None:
    hm, days = minds["hm"], events(4)
    strengths = [hm.knowledge.strength(handle) for handle in range(0, 12, 4)]
    assert hm.operated and strengths == sorted(strengths, reverse=True) and strengths[0] > strengths[2] + 0.2
    assert len(hm.traces) == 12 and hm.recall({"who": "Dario", "place": "harbour"}, mode="graph").handle != 12
    assert _right(hm, days[0], ("deed",), "graph") == 1.0
    assert not any(found.source == "episode" for found in hm.recall(_gist(days[0][0])).asserted.values())
    assert hm.experience(Event("new", 9.0, days[0][0].attributes)) is None
    assert hm.explain(0).fate["smell"] == "lost" and "the hippocampus was lost" in hm.explain(0).text()


def test_who_does_not_simulate_says_so(minds: dict[str, Mind]) -> None:
    mind = minds["aphantasia"]
    assert mind.recall({"who": "Ana", "place": "harbour"}).mode == "graph"
    with pytest.raises(
        ValueError, match="got mode='simulate' for a mind called 'aphantasia'; expected 'graph'; it does"
    ):
        mind.recall({"who": "Ana"}, mode="simulate")


def test_a_telling_changes_what_was_left_of_a_memory_and_nothing_else() -> None:
    mind = lived(Mind(WORLD, lesion=quiet(replay=0)), events(3))
    others = {handle: mind.hippocampus.pattern(handle).clone() for handle in range(1, 12)}
    said = events(1)[0][0].attributes
    told = dict(said) | {"smell": "smoke"}
    assert said["smell"] == "tar"
    handle = mind.experience(Event("told", 5.0, told, about="day 1 event 0"))
    entry = mind.log[-1]
    assert handle == 0 and entry["regime"] == "updated" and entry["changed"]["smell"][1] == "smoke"
    found = mind.explain(0)
    assert found.lived["smell"] == "tar" and found.now["smell"].value == "smoke" and found.fate["smell"] == "changed"
    assert any("changed it" in line for line in found.history)
    assert all(torch.equal(mind.hippocampus.pattern(h), row) for h, row in others.items())


def test_a_telling_that_contradicts_a_fresh_memory_is_stored_beside_it() -> None:
    mind, day = Mind(WORLD, lesion=quiet(gist_noise=0.0, detail_noise=0.0)), events(1)[0]
    for event in day:
        mind.experience(event)
    before = mind.hippocampus.pattern(0).clone()
    other = {"who": "Ana", "place": "garden", "deed": "selling", "smell": "smoke", "sound": "radio"}
    assert mind.experience(Event("denied", 1.9, other, about="day 1 event 0")) == 4
    assert mind.log[-1]["regime"] == "stored" and torch.equal(mind.hippocampus.pattern(0), before)
    assert mind.experience(Event("later", 1.95, other)) == 5


def test_evidence_revises_explanations_and_leaves_facts() -> None:
    mind = Mind(WORLD, lesion=quiet(replay=0), variables=CAUSES)
    said = {"who": "Ana", "place": "garden", "deed": "digging"}
    gone = {"wind": "blowing", "neighbour": "flying", "letters": "gone"}
    handle = mind.experience(Event("loss", 1.0, said, evidence=gone, explains={"letters": ("neighbour",)}))
    assert handle == 0
    still = {"wind": "still", "neighbour": "away", "letters": "there"}
    mind.understand([gone, still] * 6)
    usual = {"blowing": ("gone", "gone", "gone", "there"), "still": ("there", "there", "there", "gone")}
    tried = [{"wind": w, "neighbour": n, "letters": x} for w in usual for n in CAUSES["neighbour"] for x in usual[w]]
    assert mind.understand(tried * 10, do=("wind", "neighbour")).revised and mind.log[-1]["revised"] == [0]
    told = mind.explain(0).told
    assert told[0].startswith("remembered: letters = gone because neighbour")
    assert told[-1] == "revised: letters = gone because wind = blowing" and mind.explain(0).lived == said


def test_letting_go_leaves_no_trace_and_no_link() -> None:
    mind = lived(Mind(WORLD, lesion=quiet(replay=0)), events(1))
    assert mind.forget(1) and 1 not in mind.traces and "event 1" not in mind.knowledge.graph
    assert mind.recall({"who": "Ben", "place": "market"}, mode="graph").handle is None
    with pytest.raises(KeyError, match="handle 1, which is not among the 3 memories"):
        mind.explain(1)
    for handle in (0, 2, 3):
        mind.forget(handle)
    assert len(mind.hippocampus) == 0 and mind.experience(Event("after", 3.0, {"who": "Ana"})) == 4


@pytest.mark.parametrize("name", ["intact", "shereshevskii", "hm"])
def test_a_mind_goes_on_bit_for_bit_after_a_file(name: str, tmp_path: Path) -> None:
    mind = lived(Mind(WORLD, lesion=quiet(name, replay=1), variables=CAUSES, seed=3), events(3))
    again = Mind.unpack(read(write(mind.pack(), tmp_path / "mind.safetensors"), "mind"))
    copied = copy.deepcopy(mind)
    for one in (mind, again, copied):
        one.recall({"who": "Ana", "place": "harbour"}, noise=0.2)
        one.experience(Event("later", 10.0, events(1)[0][2].attributes, about="day 2 event 2"))
        one.sleep()
        one.recall({"who": "Carla", "smell": "tar"})
    assert mind.log == again.log == copied.log and json.loads(json.dumps(mind.log)) == mind.log
    x = mind.pack()
    for y in (again.pack(), copied.pack()):
        assert x.header == y.header and x.tensors.keys() == y.tensors.keys()
        assert all(torch.equal(x.tensors[key], y.tensors[key]) for key in x.tensors)


def test_same_seed_same_life_and_another_seed_another() -> None:
    logs = [lived(Mind(WORLD, lesion=quiet(), seed=seed), events(1)).pack().tensors for seed in (5, 5, 6)]
    assert torch.equal(logs[0]["cortex.centre"], logs[1]["cortex.centre"])
    assert torch.equal(logs[0]["labile.memory.values"], logs[1]["labile.memory.values"])
    assert not torch.equal(logs[0]["labile.memory.values"], logs[2]["labile.memory.values"])


def test_mistakes_are_told_and_change_nothing() -> None:
    mind = lived(Mind(WORLD, lesion=quiet(replay=0)), events(1))
    before, state = len(mind.log), mind._generator.get_state()
    said = {"who": "Ana"}
    with pytest.raises(ValueError, match="expected no earlier than 2; order the events"):
        mind.experience(Event("early", 1.0, said))
    with pytest.raises(ValueError, match="got attribute 'where'"):
        mind.experience(Event("odd", 3.0, {"where": "x"}))
    with pytest.raises(ValueError, match="with evidence for a mind without beliefs"):
        mind.experience(Event("odd", 3.0, said, evidence={"wind": "still"}))
    with pytest.raises(ValueError, match="got nights=0"):
        mind.sleep(0)
    with pytest.raises(ValueError, match="expected a finite deviation of at least 0"):
        mind.recall(said, noise=-1.0)
    with pytest.raises(ValueError, match="got mode='dream'"):
        mind.recall(said, mode="dream")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="got evidence for a mind without beliefs"):
        mind.understand([{"wind": "still"}])
    assert len(mind.log) == before and mind.now == 2.0 and torch.equal(state, mind._generator.get_state())
    believing = Mind(WORLD, lesion=quiet(), variables=CAUSES)
    with pytest.raises(ValueError, match="."):
        believing.experience(Event("part", 1.0, said, evidence={"wind": "still"}))
    assert not believing.log and not believing.traces
