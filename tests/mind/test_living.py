"""Lives: minds of one seed live the same story and are asked the same, on a copy; differences come with intervals."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from mnemotrace.mind.lesion import lesion
from mnemotrace.mind.living import LESIONS, Life, Lives, ask, bootstrap, live, lives, questions
from mnemotrace.mind.story import Story


def drawn(seed: int = 0, days: int = 2, a_day: int = 2) -> Story:
    return Story.draw(torch.Generator().manual_seed(seed), days=days, a_day=a_day, seen=0.5)


BRIEF = replace(lesion("intact"), replay=2)


@pytest.fixture(scope="module")
def life() -> Life:
    return live(drawn(seed=1), BRIEF)


def test_each_event_is_asked_for_gist_and_every_second_for_detail_and_no_cue_says_what_it_asks() -> None:
    story = Story.draw(torch.Generator().manual_seed(0))
    sheets = questions(story)
    assert [len(sheets[name]) for name in ("gist", "detail", "weak")] == [40, 20, 20]
    assert all(len(q.cue) == 2 and len(q.asked) == 1 for q in sheets["gist"])
    assert {q.asked for q in sheets["gist"]} == {("who",), ("place",), ("deed",)}
    assert all(q.cue.items() <= q.event.items() for sheet in sheets.values() for q in sheet)
    assert all(not set(q.asked) & set(q.cue) for sheet in sheets.values() for q in sheet)


def test_what_is_told_again_is_not_asked_as_another_event() -> None:
    story = Story.shipped()
    retold = next(event for event in story.events if event.about)
    assert all(q.time != retold.time for sheet in questions(story).values() for q in sheet)


def test_measures_stand_beside_chance_and_ceiling(life: Life) -> None:
    for name in ("gist", "detail", "weak", "general"):
        assert 0 <= life.after[name] <= 1
        assert 0 <= life.after[f"{name}, chance"] <= 1 and 0 < life.after[f"{name}, ceiling"] <= 1
    assert life.before.keys() == life.after.keys()


def test_being_asked_changes_no_mind_and_the_same_seed_lives_the_same_life(life: Life) -> None:
    state = life.mind.pack()
    again = {k: v for k, v in ask(life.mind, life.story).items() if k != "milliseconds"}
    assert again == pytest.approx({k: life.after[k] for k in again}, nan_ok=True)
    now = life.mind.pack()
    assert now.header == state.header and all(torch.equal(t, now.tensors[k]) for k, t in state.tensors.items())
    other = live(life.story, BRIEF)
    assert other.mind.pack().header == state.header


def test_following_links_calls_no_sampler_and_asserts_nothing_that_was_not_perceived(life: Life) -> None:
    linked = ask(life.mind, life.story, mode="graph")
    assert any(set(q.asked) - q.event.keys() for q in questions(life.story)["detail"]), "nothing went unperceived"
    assert linked["sampler calls"] == linked["evaluations"] == linked["invention"] == 0
    assert life.after["sampler calls"] > 0 and life.after["evaluations"] > 0


def test_a_story_without_nights_is_asked_once(life: Life) -> None:
    awake = live(life.story.sleepless(), BRIEF)
    assert awake.before is awake.after and awake.mind.cortex is None


def test_who_loses_the_hippocampus_loses_it_at_the_operation_of_the_story() -> None:
    story = replace(drawn(days=1), operation=0.5)
    kept = [live(story.sleepless(), "hm").mind, live(replace(story, operation=0.99).sleepless(), "hm").mind]
    assert kept[0].operated and not kept[1].operated
    assert 0 < len(kept[0].traces) < len(kept[1].traces) == len(story.events)


def test_lives_of_several_minds_are_gathered_by_measure_mind_and_seed(life: Life) -> None:
    two = Lives.gather({"intact": [life, life], "funes": [life, life]}, seeds=[0, 0])
    assert two.values["gist"].shape == (2, 2, 2)
    assert two.mean("gist", "funes")[0] == pytest.approx(life.after["gist"])
    assert two.difference("gist", "funes") == (0, 0, 0)
    assert two.of("gist", "funes", stage=0).tolist() == [life.before["gist"]] * 2
    with pytest.raises(ValueError, match="got 'gist' of 'hm'; expected a measure .* and a mind .intact, funes"):
        two.of("gist", "hm")
    with pytest.raises(ValueError, match="got 'taste' of 'intact'"):
        two.mean("taste", "intact")


def test_lives_draw_another_story_for_each_seed_and_report_progress() -> None:
    told: list[tuple[int, int | None, str]] = []
    story = drawn(days=1, a_day=3).sleepless()
    found = lives(story, ("intact", "aphantasia"), (3, 4), progress=lambda *step: told.append(step))
    assert [step[0] for step in told] == [1, 2, 3, 4] and told[-1] == (4, 4, "aphantasia")
    assert found.manifest["seeds"] == [3, 4] and found.lesions == ("intact", "aphantasia")
    packed = Lives.unpack(found.pack())
    assert all(torch.equal(v.nan_to_num(7), packed.values[k].nan_to_num(7)) for k, v in found.values.items())
    assert len(LESIONS) == 5


def test_minds_that_are_not_there_and_lives_of_nobody_are_refused_before_anything_is_lived() -> None:
    with pytest.raises(ValueError, match="got lesion 'ireneo'; expected one of intact, funes"):
        lives(None, ("intact", "ireneo"))
    with pytest.raises(ValueError, match="expected each mind once, and a seed"):
        lives(None, ("hm", "hm"))
    with pytest.raises(ValueError, match="got minds .* and 0 seeds"):
        lives(None, ("hm",), 0)


def test_an_interval_holds_the_mean_narrows_with_lives_and_leaves_out_what_was_not_measured() -> None:
    values = torch.rand(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean, low, high = bootstrap(values)
    assert low < mean < high and high - low == pytest.approx(2 * 1.96 * float(values.std()) / 20, rel=0.15)
    assert bootstrap(torch.tensor([0.5, torch.nan, 0.5])) == (0.5, 0.5, 0.5)
    assert all(math.isnan(end) for end in bootstrap(torch.tensor([torch.nan])))
    assert bootstrap(values) == bootstrap(copy.deepcopy(values))
