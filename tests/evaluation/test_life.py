"""Who plays which part around a fact: nothing is erased and kept, nothing that judges was collected."""

import pytest
import torch

from mnemotrace.evaluation.cast import Cast, Scale, cast, prompts
from mnemotrace.evaluation.life import bit_equal
from mnemotrace.organisms.funes import funes
from mnemotrace.organisms.world import World


@pytest.fixture(scope="module")
def world() -> World:
    return funes().world


def draw(world: World, seed: int = 0, subject: str = "Olga Lund") -> Cast:
    generator = torch.Generator().manual_seed(seed)
    return cast(world, world.fact(subject, "animal"), generator=generator)


def test_the_same_seed_draws_the_same_cast(world: World) -> None:
    assert draw(world) == draw(world)
    assert draw(world).kept != draw(world, 1).kept


@pytest.mark.parametrize("seed", range(3))
def test_no_prompt_plays_two_parts(world: World, seed: int) -> None:
    parts = draw(world, seed)
    seen: dict[str, str] = {}
    for name, examples in parts.data.items():
        for example in examples:
            text = example.joined
            assert seen.setdefault(text, name) == name, f"{text!r} is in {seen[text]} and in {name}"


@pytest.mark.parametrize("seed", range(3))
def test_people_who_judge_are_not_in_the_reference(world: World, seed: int) -> None:
    parts = draw(world, seed)
    kept = {fact.subject for fact in parts.kept}
    tested = {fact.subject for fact in parts.others}
    groups = [kept, tested, set(parts.neighbours), set(parts.few), {parts.fact.subject}]
    assert sum(map(len, groups)) == len(set().union(*groups))
    assert len(parts.others) == Scale().others
    assert {fact.relation for fact in parts.others} == set(world.relations)


def test_a_fact_whose_every_phrasing_was_trained_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="every phrasing was trained; expected somebody"):
        draw(world, subject="Ada Marsh")


def test_prompts_stop_before_the_answer(world: World) -> None:
    fact = world.fact("Olga Lund", "animal")
    assert [e.joined for e in prompts([fact], slice(0, 1))] == ["Olga Lund keeps a hamster"]
    assert [e.prompt for e in prompts([fact], held_out=True)] == list(fact.held_out)


def test_bits_are_compared_and_not_values() -> None:
    assert bit_equal([torch.tensor([float("nan")])], [torch.tensor([float("nan")])])
    assert not bit_equal([torch.tensor([0.0])], [torch.tensor([-0.0])])
    assert not bit_equal([torch.tensor(1.0)], [torch.tensor(1.0).nextafter(torch.tensor(2.0))])
