"""A sequence keeps earlier edits, stops where a guard says so, and gives up any single one of its edits."""

import pytest
import torch

import mnemotrace as mt
from mnemotrace.adapters.examples import Example
from mnemotrace.core.errors import NumericalWarning
from mnemotrace.core.lowrank import LowRank
from mnemotrace.modification.sequence import Course, Guard, in_sequence, retained


def texts(bench):
    """What neighbours of the edited facts are known for, as texts."""
    return [Example(text=example.joined) for fact in bench.facts for example in fact.neighbours]


def alphaedit(bench, layers=(3,)):
    """The method, on this network."""
    options = {"layers": layers, "statistics": bench.statistics, "lookup": "prompt", "contexts": (), "steps": 12}
    return lambda facts, previous: mt.alphaedit(bench.model, bench.tokenizer, facts, previous=previous, **options)


def loud(bench, size):
    """A method that adds a random change of a given relative norm, and says which facts it should have written."""

    def method(facts, previous):
        site = mt.sites(bench.model, ["h.3.mlp.c_proj"])["transformer.h.3.mlp.c_proj"]
        generator = torch.Generator().manual_seed(len(previous))
        left, right = (torch.randn(*shape, generator=generator) for shape in ((site.o, 4), (4, site.d)))
        weight = bench.original[site.weight].norm()
        return mt.Edit((LowRank(site, left * (size * weight / (left @ right).norm()), right),), {"method": "random"})

    return method


@pytest.fixture(scope="module")
def course(bench) -> Course:
    """Three edits of two facts each."""
    parts = [bench.facts[i : i + 2] for i in (0, 2, 4)]
    return in_sequence(bench.model, bench.tokenizer, parts, alphaedit(bench), texts=texts(bench))


def test_all_facts_are_kept_and_the_model_is_as_it_was(bench, course) -> None:
    assert [step.facts for step in course.steps] == [2, 4, 6]
    assert course.steps[-1].retained == 1.0
    assert all(step.perplexity < 1.1 for step in course.steps)
    assert course.stopped is None
    assert bench.untouched()
    assert not any(map(bench.says, bench.facts))
    with mt.applied(bench.model, course.total()):
        assert retained(bench.model, bench.tokenizer, bench.facts) == 1.0
    assert bench.untouched()


def test_leaving_an_edit_out_is_applying_the_others(bench, course) -> None:
    site = course.edits[0].changes[0].site
    for i in range(3):
        others = [edit for j, edit in enumerate(course.edits) if j != i]
        with mt.applied(bench.model, course.without(i)):
            left = bench.model.get_parameter(site.weight).clone()
            said = [bench.says(fact) for fact in bench.facts]
        with mt.applied(bench.model, others[0] + others[1]):
            assert torch.equal(bench.model.get_parameter(site.weight), left)
        with mt.applied(bench.model, course.total() - course.edits[i]):
            torch.testing.assert_close(bench.model.get_parameter(site.weight), left, rtol=0, atol=1e-5)
        assert not any(said[2 * i : 2 * i + 2])
        assert sum(said) >= 3


def test_the_edits_are_those_that_the_method_makes_with_the_earlier_ones_in_the_model(bench, course) -> None:
    with mt.applied(bench.model, course.edits[0]):
        again = alphaedit(bench)(bench.facts[2:4], course.edits[:1])
    torch.testing.assert_close(again.changes[0].dense(), course.edits[1].changes[0].dense(), rtol=1e-4, atol=1e-6)
    assert again.manifest["earlier"] == 2
    assert [edit.manifest["earlier"] for edit in course.edits] == [0, 2, 4]


@pytest.mark.parametrize(
    ("guard", "size", "reason"),
    [
        (Guard(perplexity=1.2, norm=None, spectral=None), 20.0, "perplexity .* above 1.2"),
        (Guard(perplexity=None, norm=1.5, spectral=None), 1.0, "norm .* above 1.5"),
        (Guard(perplexity=None, norm=None, spectral=1.2), 1.0, "spectral .* above 1.2"),
    ],
)
def test_a_guard_stops_and_takes_the_edit_back(bench, guard, size, reason) -> None:
    parts = [[fact] for fact in bench.facts[:4]]
    with pytest.warns(NumericalWarning, match=f"was taken back: {reason}"):
        found = in_sequence(bench.model, bench.tokenizer, parts, loud(bench, size), guard=guard, texts=texts(bench))
    assert found.stopped is not None
    assert len(found.steps) == len(found.edits) + 1 <= 4
    assert bench.untouched()


def test_without_a_guard_it_goes_on(bench) -> None:
    parts = [[fact] for fact in bench.facts[:3]]
    found = in_sequence(bench.model, bench.tokenizer, parts, loud(bench, 1.0), every=2)
    assert len(found.edits) == 3
    assert [step.retained is None for step in found.steps] == [True, False, False]
    assert found.steps[0].perplexity is None
    assert [step.norm for step in found.steps] == pytest.approx([1, 2**0.5, 3**0.5], rel=0.1)
    assert found.steps[0].spectral > 1


def test_an_error_of_the_method_leaves_the_model_as_it_was(bench) -> None:
    def failing(facts, previous):
        if previous:
            raise RuntimeError("no luck")
        return loud(bench, 0.1)(facts, previous)

    with pytest.raises(RuntimeError, match="no luck"):
        in_sequence(bench.model, bench.tokenizer, [[fact] for fact in bench.facts[:3]], failing)
    assert bench.untouched()


def test_bad_input_is_refused(bench, course) -> None:
    parts = [bench.facts[:1]]
    with pytest.raises(ValueError, match=r"got 0 parts and every=1; expected at least one"):
        in_sequence(bench.model, bench.tokenizer, [], loud(bench, 1.0))
    with pytest.raises(ValueError, match="got 1 parts and every=0"):
        in_sequence(bench.model, bench.tokenizer, parts, loud(bench, 1.0), every=0)
    with pytest.raises(ValueError, match="got a guard of perplexity and no texts; expected some"):
        in_sequence(bench.model, bench.tokenizer, parts, loud(bench, 1.0), guard=Guard())
    for name, value in (("perplexity", 1.0), ("norm", 0.0), ("spectral", 0.5)):
        with pytest.raises(ValueError, match=f"got {name}={value}; expected more than"):
            Guard(**{name: value})
    with pytest.raises(ValueError, match="got edit 7 of a sequence of 3"):
        course.without(7)
    with pytest.raises(ValueError, match="got no edit to add up"):
        course.without(0, 1, 2)
