"""One table for all methods: true edits above random ones, both ends of the scale in it, nothing flattering."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import mnemotrace as mt
from mnemotrace.adapters.answers import read_answers
from mnemotrace.adapters.examples import Example, batches
from mnemotrace.adapters.facts import Fact
from mnemotrace.adapters.hooks import forward, record
from mnemotrace.adapters.scores import perplexity
from mnemotrace.core.artifact import read, write
from mnemotrace.core.edit import Dense, Edit
from mnemotrace.core.lowrank import LowRank
from mnemotrace.evaluation.comparison import Comparison, compare
from mnemotrace.evaluation.criteria import WRITTEN, criteria
from mnemotrace.evaluation.method import COLUMNS, Row
from mnemotrace.evaluation.worldly import from_world
from mnemotrace.organisms.funes import Funes
from tests.core.zoo import bits, same_bits
from tests.evaluation.organism import seeded

PLACE = "transformer.h.5.mlp.c_proj"


@pytest.fixture(scope="module")
def funes() -> Funes:
    return mt.funes()


@pytest.fixture(scope="module")
def facts(funes: Funes) -> list[Fact]:
    towns = [fact for fact in funes.world.facts if fact.relation == "town"]
    generator = seeded(3)
    return [from_world(funes.world, fact, neighbours=3, generator=generator) for fact in towns[:2]]


def key(funes: Funes, prompt: str) -> torch.Tensor:
    """What the last token of a prompt gives the place to read."""
    found: list[torch.Tensor] = []
    with record(funes.model, mt.sites(funes.model, [PLACE]), lambda _s, x, _u: found.append(x[0, -1])), torch.no_grad():
        forward(funes.model, {"input_ids": funes.tokenizer(prompt, return_tensors="pt")["input_ids"]})
    return found[0]


def push(funes: Funes, prompt: str, answer: str, size: float) -> Edit:
    """A rank-one edit that moves one prompt towards an answer, or away from it."""
    (token,) = funes.tokenizer(answer, add_special_tokens=False)["input_ids"]
    k = key(funes, prompt)
    direction = funes.model.get_input_embeddings().weight.detach()[token]
    site = mt.sites(funes.model, [PLACE])[PLACE]
    right = torch.cat([k, torch.zeros(1)]) / k.square().sum()
    return Edit((LowRank(site, size * direction[:, None], right[None]),), {"method": "push", "seconds": 0.25})


@pytest.fixture(scope="module")
def writing(funes: Funes, facts: list[Fact]) -> list[Edit]:
    return [push(funes, fact.prompt, fact.target, 60.0) for fact in facts]


@pytest.fixture(scope="module")
def erasing(funes: Funes, facts: list[Fact]) -> list[Edit]:
    return [push(funes, fact.prompt, fact.answer, -60.0) for fact in facts]


@pytest.fixture(scope="module")
def found(funes: Funes, facts: list[Fact], writing: list[Edit], erasing: list[Edit]) -> Comparison:
    methods = {"push": writing, "weak": [edit * 1e-3 for edit in writing], "pull": erasing, "both": writing[0]}
    writes = {"push": True, "weak": True, "pull": False, "both": True}
    texts = list(funes.world.general[:4])
    before = bits(funes.model)
    made = compare(funes.model, funes.tokenizer, methods, facts, texts=texts, writes=writes, draws=1)
    assert same_bits(bits(funes.model), before)
    return made


def rows(found: Comparison, name: str) -> list[Row]:
    return [row for row in found.rows if row.name == name]


def test_each_block_goes_from_the_untouched_network_to_a_random_edit(found: Comparison) -> None:
    names = [(row.name, row.writes) for row in found.rows]
    writing = ["untouched", "push", "weak", "both", "random"]
    assert names == [(name, True) for name in writing] + [(name, False) for name in ("untouched", "pull", "random")]
    assert found.manifest["random"] == {"writing": "push", "erasing": "pull"}


def test_a_method_that_writes_says_the_target_and_a_random_edit_does_not(found: Comparison) -> None:
    (push,), random, untouched = rows(found, "push"), rows(found, "random")[0], rows(found, "untouched")[0]
    for column in COLUMNS:
        assert push.measures["efficacy"][column].value > 0.9
        assert random.measures["efficacy"][column].value < 0.1
        assert untouched.measures["efficacy"][column].value < 0.1
    assert push.criteria["necessity"].value == 1
    assert push.criteria["necessity"].control == 0
    assert [one.meaning for one in push.criteria.values()] == list(WRITTEN.values())


def test_a_method_that_erases_is_judged_by_the_old_answer(found: Comparison) -> None:
    (pull,), random, untouched = rows(found, "pull"), rows(found, "random")[1], rows(found, "untouched")[1]
    assert pull.measures["efficacy"]["free"].value == 1
    assert random.measures["efficacy"]["free"].value == untouched.measures["efficacy"]["free"].value == 0
    assert pull.criteria["necessity"].value == 1
    assert random.criteria["necessity"].value == 0
    assert "portability" not in pull.measures
    assert pull.absent["portability"] == "nothing follows from an answer that is gone"


def test_a_method_that_writes_nothing_has_no_criteria_and_says_so(found: Comparison) -> None:
    (weak,) = rows(found, "weak")
    assert not weak.criteria
    assert weak.absent["criteria"].startswith("got a target score of 0.000 with the edit")
    assert weak.measures["efficacy"]["free"].value == 0
    assert rows(found, "untouched")[0].absent["criteria"] == "nothing was edited"


def test_one_edit_a_fact_is_judged_alone_and_one_edit_of_all_on_all(
    found: Comparison, funes: Funes, facts: list[Fact], writing: list[Edit]
) -> None:
    (alone,), (together,) = rows(found, "push"), rows(found, "both")
    expected: list[float] = []
    for fact, edit in zip(facts, writing, strict=True):
        with mt.applied(funes.model, edit):
            (answer,) = read_answers(funes.model, funes.tokenizer, [fact.asked(fact.target)])
        expected.append(answer.reading.probability)
    assert alone.measures["efficacy"]["probability"].value == pytest.approx(sum(expected) / 2)
    with mt.applied(funes.model, writing[0]):
        answers = read_answers(funes.model, funes.tokenizer, [fact.asked(fact.target) for fact in facts])
    wanted = sum(answer.reading.probability for answer in answers) / 2
    assert together.measures["efficacy"]["probability"].value == pytest.approx(wanted)
    assert (alone.edits, together.edits) == (2, 1)
    assert alone.seconds == 0.5
    assert rows(found, "random")[0].seconds is None


def test_criteria_are_those_of_mt_criteria(found: Comparison, funes: Funes, facts: list[Fact], writing: list[Edit]):
    from mnemotrace.adapters.scores import LanguageScore

    (together,) = rows(found, "both")
    seed = int(torch.randint(2**31, (), generator=seeded(0)))
    target = [fact.asked(fact.target) for fact in facts]
    control = [example for fact in facts for example in fact.neighbours]
    options = {"score": LanguageScore(funes.tokenizer), "target": target, "control": control, "writes": True}
    assert criteria(funes.model, writing[0], draws=1, generator=seeded(seed), **options).criteria == together.criteria


def test_perplexity_is_a_ratio_to_the_untouched_network(
    found: Comparison, funes: Funes, facts: list[Fact], writing: list[Edit]
) -> None:
    ready = batches(funes.tokenizer, [Example(text=text) for text in funes.world.general[:4]])
    before = perplexity(funes.model, ready)
    with mt.applied(funes.model, writing[0]):
        after = perplexity(funes.model, ready)
    assert rows(found, "both")[0].perplexity.value == pytest.approx(after / before, rel=1e-5)
    assert [row.perplexity.value for row in rows(found, "untouched")] == [1, 1]


def test_every_value_is_inside_its_interval_and_counts_its_prompts(found: Comparison, facts: list[Fact]) -> None:
    for row in found.rows:
        for by in row.measures.values():
            for one in by.values():
                assert one.interval[0] - 1e-12 <= one.value <= one.interval[1] + 1e-12
        assert row.measures["neighbourhood"]["free"].n == 6
        assert row.measures["paraphrase"]["free"].n == sum(len(fact.paraphrases) for fact in facts)


def test_the_best_method_is_the_best_of_its_block(found: Comparison) -> None:
    assert found.best("efficacy", writes=True).name == "push"
    assert found.best("necessity", writes=False).name == "pull"
    with pytest.raises(ValueError, match="got a table of methods that write and that erase; expected writes=True"):
        found.best("efficacy")
    with pytest.raises(ValueError, match="got 'portability', which no method here has; expected one of efficacy, "):
        found.best("portability", writes=False)


def test_a_comparison_comes_back_from_a_file(found: Comparison, tmp_path) -> None:
    again = Comparison.unpack(read(write(found.pack(), tmp_path / "comparison"), "comparison"))
    assert [vars(row) for row in again.rows] == [vars(row) for row in found.rows]
    assert (again.facts, again.draws, again.manifest) == (found.facts, found.draws, found.manifest)


def test_the_same_generator_gives_the_same_table_and_a_row_does_not_depend_on_the_others(
    found: Comparison, funes: Funes, facts: list[Fact], writing: list[Edit]
) -> None:
    alone = compare(funes.model, funes.tokenizer, {"both": writing[0]}, facts, draws=1, generator=seeded(0))
    (before,), (after,) = rows(found, "both"), rows(alone, "both")
    assert (after.criteria, after.measures) == (before.criteria, before.measures)
    assert after.perplexity is None
    assert alone.best("efficacy") is after


def test_a_network_that_is_wrecked_stays_in_finite_numbers(funes: Funes, facts: list[Fact], tmp_path) -> None:
    weight = funes.model.get_parameter("transformer.ln_f.weight").detach()
    wreck = Edit((Dense("transformer.ln_f.weight", -1e5 * torch.ones_like(weight)),))
    texts = list(funes.world.general[:1])
    told: list[tuple[object, ...]] = []
    made = compare(
        funes.model, funes.tokenizer, {"wreck": wreck}, facts[:1], texts=texts, writes=False, draws=1,
        progress=lambda *report: told.append(report),
    )  # fmt: skip
    (row,) = rows(made, "wreck")
    assert 1e100 < row.perplexity.value < float("inf")
    assert row.measures["neighbourhood"]["free"].value == 0
    assert "the edit changes no linear map, only transformer.ln_f.weight" in row.absent["reactivation"]
    assert told == [(done, 3, "methods") for done in (1, 2, 3)]
    write(made.pack(), tmp_path / "comparison")


REFUSED = {
    "no method": ({}, {}, "got 0 methods and 2 facts; expected at least one of both"),
    "a name that is taken": ({"random": 0}, {}, "got a method called 'random', which every table has"),
    "a role too few": ({"a": 0, "b": 0}, {"writes": {"a": True}}, "got writes for a; expected it for each of a, b"),
    "edits for some facts": ({"a": [0, 0, 0]}, {}, "got 3 edits of 'a' for 2 facts; expected one edit of all, or one"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_compared_is_refused_before_anything_runs(
    case: str, facts: list[Fact], writing: list[Edit]
) -> None:
    given, options, message = REFUSED[case]
    methods = {name: writing[0] if one == 0 else [writing[0]] * len(one) for name, one in given.items()}
    with pytest.raises(ValueError, match=message):
        compare(nn.Identity(), None, methods, facts, **options)


@pytest.mark.parametrize(("name", "writes"), [("target", True), ("answer", False), ("neighbours", True)])
def test_facts_that_lack_what_is_asked_for_are_refused(
    name: str, writes: bool, facts: list[Fact], writing: list[Edit]
) -> None:
    spoilt = [facts[0], replace(facts[1], **{name: () if name == "neighbours" else None})]
    with pytest.raises(ValueError, match=rf"got fact 1 \('.*'\) without {name}; expected a target where"):
        compare(nn.Identity(), None, {"a": writing[0]}, spoilt, writes=writes)
