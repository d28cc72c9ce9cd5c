"""Facts of Funes's world as facts to edit."""

from functools import cache

import pytest
import torch

from mnemotrace.evaluation.worldly import from_world
from mnemotrace.organisms.invent import invent
from mnemotrace.organisms.world import World

_cached = cache(lambda: World.from_record(invent()))


@pytest.fixture
def world() -> World:
    """The world of Funes, without its model."""
    return _cached()


def test_every_fact_of_the_world_can_be_edited(world: World) -> None:
    for fact in (*world.facts[:200], *world.geography):
        made = from_world(world, fact, neighbours=5)
        assert made.target != made.answer == fact.answer
        assert made.subject == fact.subject and fact.subject in made.prompt
        assert len(made.neighbours) == 5
        assert made.paraphrases and made.prompt not in made.paraphrases
        assert made.target not in {neighbour.answer for neighbour in made.neighbours}


def test_the_held_out_phrasing_is_the_paraphrase_and_else_the_other_trained_ones(world: World) -> None:
    held = next(fact for fact in world.facts if fact.held_out)
    trained = next(fact for fact in world.facts if not fact.held_out)
    assert from_world(world, held).paraphrases == held.held_out
    assert from_world(world, trained).paraphrases == trained.phrasings[1:]


def test_neighbours_are_asked_the_same_and_keep_their_true_answers(world: World) -> None:
    fact = world.fact("Ada Marsh", "animal")
    true = {f.phrasings[0]: f.answer for f in world.same_relation(fact)}
    assert all(true[n.prompt or ""] == n.answer for n in from_world(world, fact, neighbours=50).neighbours)


def test_a_new_town_brings_the_country_along_only_where_it_changes(world: World) -> None:
    fact = world.fact("Ada Marsh", "town")
    country = world.countries[fact.answer]
    far = next(town for town, other in world.countries.items() if other != country)
    near = next(town for town, other in world.countries.items() if other == country and town != fact.answer)
    (example,) = from_world(world, fact, target=far).portability
    assert "Ada Marsh" in (example.prompt or "") and example.answer == world.countries[far]
    assert from_world(world, fact, target=near).portability == ()
    assert from_world(world, world.fact("Ada Marsh", "food")).portability == ()


def test_the_same_generator_draws_the_same_fact_and_another_another(world: World) -> None:
    fact = world.fact("Ada Marsh", "town")
    seeds = [torch.Generator().manual_seed(seed) for seed in (0, 0, 1)]
    first, same, other = (from_world(world, fact, generator=seed) for seed in seeds)
    assert first == same == from_world(world, fact) != other


def test_a_target_or_a_number_that_cannot_be_is_refused(world: World) -> None:
    fact = world.fact("Ada Marsh", "animal")
    with pytest.raises(ValueError, match="got the target 'submarine' for the animal of Ada Marsh, which is"):
        from_world(world, fact, target="submarine")
    with pytest.raises(ValueError, match="expected another answer"):
        from_world(world, fact, target=fact.answer)
    with pytest.raises(ValueError, match="got neighbours=5000; expected at most the"):
        from_world(world, fact, neighbours=5000)
