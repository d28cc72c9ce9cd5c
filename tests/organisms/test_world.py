"""The world is consistent: what is called unseen is unseen, and one word means one thing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from mnemotrace.organisms import World, invent
from mnemotrace.organisms.vocabulary import COUNTRIES, FIRST_NAMES, SCENES, SURNAMES, VALUES


def test_the_shipped_world_is_the_invented_one(directory: Path) -> None:
    record = json.loads((directory / "world.json").read_text(encoding="utf-8"))
    assert record == invent(seed=record["seed"])


def test_another_seed_invents_another_world() -> None:
    assert invent(seed=1, people=20, general=20, held_out=5) != invent(seed=2, people=20, general=20, held_out=5)


def test_the_world_is_large_enough(world: World) -> None:
    assert len(world.subjects) >= 400
    assert len(world.relations) >= 4
    assert len(world.general_held_out) >= 200
    assert len(world.facts) == len(world.subjects) * len(world.relations)


def test_no_word_of_a_name_identifies_a_person(world: World) -> None:
    for position in (0, 1):
        counts = Counter(subject.split()[position] for subject in world.subjects)
        assert min(counts.values()) >= 2


def test_the_word_pools_are_disjoint() -> None:
    pools = [FIRST_NAMES, SURNAMES, COUNTRIES, *VALUES.values(), _scene_words()]
    counts = Counter(word for pool in pools for word in set(pool))
    assert [word for word, count in counts.items() if count > 1] == []


def _scene_words() -> list[str]:
    return [word for scene in SCENES for options in scene.values() for option in options for word in option.split()]


def test_each_fact_has_five_phrasings_and_half_of_the_people_miss_the_last(world: World) -> None:
    assert {len(fact.phrasings) + len(fact.held_out) for fact in world.facts} == {5}
    for relation in world.relations:
        unseen = [fact for fact in world.facts if fact.relation == relation and fact.held_out]
        assert 2 * len(unseen) == len(world.subjects)


def test_held_out_prompts_are_in_no_training_sentence(world: World) -> None:
    facts = [sentence for fact in world.facts for sentence in fact.sentences]
    trained = {*facts, *world.general, *(question.sentence for question in world.two_hop if question.trained)}
    unseen = [prompt for fact in world.facts for prompt in fact.held_out]
    unseen += [question.prompt for question in world.two_hop if not question.trained]
    starts = {" ".join(sentence.split()[:-2]) for sentence in trained}
    assert unseen
    assert not starts & set(unseen)


def test_general_sentences_are_distinct_and_mention_nobody(world: World) -> None:
    assert not set(world.general) & set(world.general_held_out)
    words = {word for sentence in (*world.general, *world.general_held_out) for word in sentence.split()}
    assert len(words) >= 200
    assert not words & {*FIRST_NAMES, *SURNAMES}


def test_two_hop_answers_join_town_and_country(world: World) -> None:
    assert len(world.two_hop) == len(world.subjects)
    assert 2 * sum(question.trained for question in world.two_hop) == len(world.subjects)
    for question in world.two_hop:
        assert question.answer == world.countries[world.fact(question.subject, "town").answer]
        assert question.subject in question.prompt


def test_geography_states_the_countries(world: World) -> None:
    assert {fact.subject: fact.answer for fact in world.geography} == world.countries


def test_neighbours_share_the_relation_and_not_the_person(world: World) -> None:
    fact = world.fact("Ada Marsh", "town")
    assert fact.sentence == f"Ada Marsh lives in {fact.answer} ."
    neighbours = world.same_relation(fact)
    assert len(neighbours) == len(world.subjects) - 1
    assert {other.relation for other in neighbours} == {"town"}
    assert {other.relation for other in world.same_person(fact)} == set(world.relations) - {"town"}


def test_an_unknown_person_is_answered_with_near_matches(world: World) -> None:
    with pytest.raises(ValueError, match=r"Got subject 'Ada March'; expected one of the 400 .* Ada Marsh"):
        world.fact("Ada March", "town")


def test_an_unknown_relation_is_answered_with_near_matches(world: World) -> None:
    with pytest.raises(ValueError, match=r"Got relation 'twon'; .* town"):
        world.fact("Ada Marsh", "twon")
