"""What a network says about facts."""

import math

import pytest
import torch

from mnemotrace.adapters.facts import Fact
from mnemotrace.core.artifact import fingerprint
from mnemotrace.core.errors import NonFiniteError
from mnemotrace.evaluation.sheets import Sheet, baseline, read_sheets
from tests.evaluation.table import BARE, BEFORE, CAT, ID, TEXTS, TOKENIZER, Table


@pytest.fixture
def model() -> Table:
    fresh = Table()
    fresh.load_state_dict(BEFORE.state_dict())
    return fresh


def _read(sheet: Sheet) -> list[object]:
    readings = [*(answer.reading for answer in sheet.answers), *(rival for rival in sheet.rivals if rival)]
    return [sheet.parts, sheet.stories, [(a.said, a.free) for a in sheet.answers], [r.nll for r in readings]]


def test_every_prompt_is_asked_for_the_wanted_answer_and_its_rival(model: Table) -> None:
    base = baseline(model, TOKENIZER, [CAT, BARE], length=2)
    cat, bare = base.sheets[CAT], base.sheets[BARE]
    assert cat.parts == ("efficacy", "paraphrase", "paraphrase", "neighbourhood", "neighbourhood", "portability")
    spelt = [[a.reading.ids.tolist() for a in cat.answers], [r and r.ids.tolist() for r in cat.rivals]]
    ran, sat = [ID["ran"]], [ID["sat"]]
    assert spelt == [
        [ran, ran, ran, [ID["ran"], ID["away"]], [ID["far"]], [ID["ran"], ID["home"]]],
        [sat, sat, sat, ran, ran, None],
    ]
    assert cat.stories[0].startswith("the cat sat ")
    assert (bare.parts, bare.rivals, bare.stories) == (("efficacy",), (None,), ())


def test_facts_read_together_are_read_as_alone(model: Table) -> None:
    many = [Fact(prompt=f"the {word}", subject=word, target="cat", generation=(word,)) for word in list(ID)[1:]]
    facts = [CAT, BARE, *many, *(Fact(prompt=f"a {f.subject}", subject=f.subject, target="mat") for f in many)]
    calls: list[tuple[int, int | None, str]] = []
    together = baseline(model, TOKENIZER, facts, length=3, batch_size=5, progress=lambda *c: calls.append(c))
    assert calls == [(16, 26, "facts"), (26, 26, "facts")]
    for fact in facts:
        (alone,) = read_sheets(model, TOKENIZER, [fact], how=together)
        assert _read(alone) == _read(together.sheets[fact])


def test_a_baseline_knows_its_network_and_its_texts(model: Table) -> None:
    base = baseline(model, TOKENIZER, [CAT], texts=TEXTS)
    assert base.base == fingerprint(model)
    loss = -float(BEFORE.table.detach()[[0, ID["the"], ID["cat"]], [ID["the"], ID["cat"], ID["sat"]]].sum())
    assert base.losses[0].tolist() == pytest.approx([loss, 3])
    assert baseline(model, TOKENIZER, [CAT]).losses.shape == (0, 2)


def test_a_fact_without_a_target_and_no_fact_are_refused(model: Table) -> None:
    with pytest.raises(ValueError, match=r"got a fact without a target \('the cat'\); expected what should be said"):
        baseline(model, TOKENIZER, [Fact(prompt="the cat", subject="cat", answer="sat")])
    with pytest.raises(ValueError, match="got no fact; expected at least one"):
        baseline(model, TOKENIZER, [])


def test_probabilities_that_are_not_finite_are_refused(model: Table) -> None:
    with torch.no_grad():
        model.table[ID["cat"]] = math.nan
    with pytest.raises(NonFiniteError, match="got non-finite probabilities from the network; expected finite ones"):
        baseline(model, TOKENIZER, [CAT])
