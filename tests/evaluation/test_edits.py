"""What an edit of facts did, beside values by hand on a network of one table."""

import math
from statistics import harmonic_mean
from typing import Any

import pytest
import torch
from torch import nn

import mnemotrace as mt
from mnemotrace.adapters.examples import Example, batches
from mnemotrace.adapters.facts import Fact
from mnemotrace.core.artifact import read, write
from mnemotrace.core.edit import Dense, Edit
from mnemotrace.core.errors import EditError
from mnemotrace.evaluation.depth import Relearning
from mnemotrace.evaluation.edits import Baseline, Verdict, baseline, judge, judge_each
from mnemotrace.evaluation.generation import fluency
from mnemotrace.evaluation.worldly import from_world
from tests.evaluation.table import AFTER, BARE, BEFORE, CAT, EDIT, ID, SIZE, TEXTS, TOKENIZER, Table

pytest.importorskip("sklearn")


@pytest.fixture
def model() -> Table:
    fresh = Table()
    fresh.load_state_dict(BEFORE.state_dict())
    return fresh


def _baseline(model: nn.Module, facts: list[Fact] | None = None, **options: Any) -> Baseline:
    return baseline(model, TOKENIZER, facts or [CAT, BARE], **({"texts": TEXTS, "length": 4} | options))


def _judged(model: nn.Module, facts: list[Fact] | None = None, edit: Edit = EDIT, **options: Any) -> Verdict:
    facts = facts or [CAT, BARE]
    return judge(model, TOKENIZER, facts, edit, baseline=_baseline(model, facts), **options)


def _near(verdict: Verdict, name: str, value: float, before: float | None) -> None:
    assert verdict[name].value == pytest.approx(value, rel=1e-9), name
    assert verdict[name].before == (before if before is None else pytest.approx(before, rel=1e-9)), name


def test_every_measure_equals_its_value_by_hand(model: Table) -> None:
    found = _judged(model, [CAT])
    _near(found, "efficacy_probability", 0.7, 0.2)
    _near(found, "efficacy_forced", 1, 0)
    _near(found, "efficacy_free", 1, 0)
    _near(found, "efficacy_preference", 1, 0)
    _near(found, "efficacy_margin", 0.7 - 0.1, 0.2 - 0.6)
    _near(found, "paraphrase_probability", (0.7 + 0.3) / 2, (0.2 + 0.3) / 2)
    _near(found, "paraphrase_free", 1 / 2, 0)
    _near(found, "paraphrase_preference", 1 / 2, 0)
    _near(found, "paraphrase_margin", (0.6 - 0.1) / 2, (-0.4 - 0.2) / 2)
    rest = 0.1 / (SIZE - 2)  # of `away` after `ran`
    before, after = math.sqrt(0.5 * rest), math.sqrt(0.3 * rest)
    _near(found, "neighbourhood_probability", (after + 0.8) / 2, (before + 0.8) / 2)
    _near(found, "neighbourhood_tokens", (0 + 1) / 2, (1 / 2 + 1) / 2)
    _near(found, "neighbourhood_forced", 1 / 2, 1 / 2)
    _near(found, "neighbourhood_preference", 1 / 2, 1 / 2)  # the rival is shorter: `ran` against `ran away`
    _near(found, "locality_probability", (1 - (before - after) + 1) / 2, None)
    _near(found, "locality_forced", 1 / 2, None)
    _near(found, "locality_free", 1 / 2, None)
    _near(found, "portability_probability", math.sqrt(0.6 * 0.6), math.sqrt(0.3 * 0.2))
    _near(found, "portability_tokens", 1, 0)
    _near(found, "portability_free", 1, 0)
    assert found["efficacy_free"].n == 1 and found["efficacy_free"].column == "free"


def test_the_score_is_the_harmonic_mean_of_the_three_preferences(model: Table) -> None:
    found = _judged(model, [CAT])
    parts = [found[f"{part}_preference"] for part in ("efficacy", "paraphrase", "neighbourhood")]
    assert found["score"].value == pytest.approx(harmonic_mean([part.value for part in parts]))
    assert found["score"].before == 0 == found["efficacy_preference"].before


def test_the_ratio_of_perplexities_weighs_tokens(model: Table) -> None:
    fall = (BEFORE.table - AFTER.table).detach()
    sentences = [TOKENIZER(text)["input_ids"] for text in TEXTS]
    rises = [float(fall[ids[:-1], ids[1:]].sum()) for ids in sentences]
    expected = math.exp(sum(rises) / sum(len(ids) - 1 for ids in sentences))
    found = _judged(model, [CAT])["perplexity_ratio"]
    assert found.value == pytest.approx(expected) and found.n == 2
    assert found.interval[0] <= expected <= found.interval[1]


def test_values_are_means_over_facts_not_over_prompts(model: Table) -> None:
    two = Fact(prompt="a home", subject="home", answer="far", target="ran", paraphrases=("the home",))
    found = _judged(model, [CAT, two])
    small = 0.2 / (SIZE - 1)
    assert found["paraphrase_probability"].value == pytest.approx(((0.7 + 0.3) / 2 + small) / 2)
    assert found["paraphrase_probability"].n == 2 and found["neighbourhood_free"].n == 1


def test_what_the_facts_do_not_have_is_absent(model: Table) -> None:
    found = judge(model, TOKENIZER, [BARE], EDIT, baseline=_baseline(model, [BARE], texts=()))
    assert set(found) == {f"efficacy_{column}" for column in ("probability", "forced", "free", "tokens")}
    with pytest.raises(KeyError, match="'score', which was not measured; there are efficacy_probability"):
        found["score"]
    assert not [name for name in _judged(model, [CAT]) if name == "consistency"]
    assert "fluency" not in judge(model, TOKENIZER, [CAT], EDIT, baseline=_baseline(model, [CAT], length=0))


def test_locality_keeps_a_wrong_answer_that_stays_and_sees_a_right_one_that_is_new(model: Table) -> None:
    """A right answer is not what locality asks for: the edit that brings a neighbour's true answer changes it."""
    wrong = Fact(prompt="the cat", subject="cat", target="ran", neighbours=(Example(prompt="a home", answer="mat"),))
    new = Fact(prompt="the cat", subject="cat", target="ran", neighbours=(Example(prompt="the ran", answer="home"),))
    found = _judged(model, [wrong])
    assert (found["neighbourhood_free"].value, found["locality_free"].value) == (0, 1)
    found = _judged(model, [new])
    assert (found["neighbourhood_free"].value, found["locality_free"].value) == (1, 0)


def test_free_text_is_measured_for_fluency_and_against_references(model: Table) -> None:
    loops = Table(cat={"dog": 0.9}, dog={"cat": 0.9})
    edit = Edit((Dense("table", loops.table.detach() - BEFORE.table.detach()),))
    found = _judged(model, [CAT], edit, references=["cat and dog"])
    told = fluency(["the cat dog cat dog cat", "the cat sat <bos> <bos> <bos>"]).tolist()
    assert [found["fluency"].value, found["fluency"].before] == pytest.approx(told)
    assert found["consistency"].value > (found["consistency"].before or 0)
    with pytest.raises(ValueError, match="got 2 references for 1 facts; expected one a fact, or none"):
        _judged(model, [CAT], references=["a", "b"])


# --------------------------------------------------------------------------------------------- one edit a fact, alone


def test_the_same_edit_of_every_fact_is_judged_as_one_edit_of_all(model: Table) -> None:
    facts = [CAT, BARE]
    base = _baseline(model)
    one, each = judge(model, TOKENIZER, facts, EDIT, baseline=base), None
    each = judge_each(model, TOKENIZER, facts, [EDIT, EDIT], baseline=base)
    assert set(one) == set(each)
    for name, measure in one.items():
        assert each[name].value == pytest.approx(measure.value), name
    assert (one["perplexity_ratio"].n, each["perplexity_ratio"].n) == (len(TEXTS), 2)


def test_each_edit_is_judged_on_the_untouched_network_alone(model: Table) -> None:
    calls: list[tuple[int, int | None, str]] = []
    other = Edit((Dense("table", Table(dog={"sat": 0.9}).table.detach() - BEFORE.table.detach()),))
    base = _baseline(model)
    found = judge_each(model, TOKENIZER, [CAT, BARE], [EDIT, other], baseline=base, progress=lambda *c: calls.append(c))
    assert found["efficacy_probability"].value == pytest.approx((0.7 + 0.9) / 2)
    swapped = judge_each(model, TOKENIZER, [CAT, BARE], [other, EDIT], baseline=base)
    assert swapped["efficacy_probability"].value == pytest.approx((1 / SIZE + 0.4) / 2)
    assert calls == [(1, 2, "edits"), (2, 2, "edits")]
    assert judge_each(model, TOKENIZER, [CAT], [EDIT], baseline=_baseline(model, texts=())).get("score")
    with pytest.raises(ValueError, match="got 1 edits for 2 facts; expected one a fact; use `judge` for one edit"):
        judge_each(model, TOKENIZER, [CAT, BARE], [EDIT], baseline=base)


# ------------------------------------------------------------------------------------------- what is compared with what


def test_a_baseline_of_other_weights_is_refused(model: Table) -> None:
    base = _baseline(model)
    undo = mt.apply(model, EDIT)
    with pytest.raises(
        ValueError, match="got a model with other weights than the baseline was read from; expected the"
    ):
        judge(model, TOKENIZER, [CAT], EDIT, baseline=base)
    undo()
    assert judge(model, TOKENIZER, [CAT], EDIT, baseline=base)


def test_some_facts_of_a_baseline_are_enough_and_others_are_refused(model: Table) -> None:
    base = _baseline(model)
    assert judge(model, TOKENIZER, [BARE], EDIT, baseline=base)["efficacy_free"].n == 1
    with pytest.raises(ValueError, match="got the fact 'a cat', which is not in the baseline; expected facts that"):
        judge(model, TOKENIZER, [Fact(prompt="a cat", subject="cat", target="sat")], EDIT, baseline=base)
    with pytest.raises(ValueError, match="got no fact; expected facts that the baseline was read for"):
        judge(model, TOKENIZER, [], EDIT, baseline=base)


def test_the_network_is_given_back_whatever_happens(model: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    model.train()
    base = _baseline(model)
    bits = model.table.detach().clone()
    judge(model, TOKENIZER, [CAT], EDIT, baseline=base)
    with pytest.raises(EditError):
        judge(model, TOKENIZER, [CAT], Edit((Dense("nothing", torch.zeros(1)),)), baseline=base)
    monkeypatch.setattr(model, "forward", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        judge(model, TOKENIZER, [CAT], EDIT, baseline=base)
    assert torch.equal(model.table, bits) and model.training and model.table.requires_grad


def test_the_same_generator_gives_the_same_intervals(model: Table) -> None:
    def drawn(seed: int | None) -> dict[str, Any]:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return dict(_judged(model, resamples=5, generator=generator))

    assert drawn(None) == drawn(0) == drawn(0) != drawn(1)


def test_old_answers_are_taught_again_if_asked_for(model: Table) -> None:
    (batch,) = batches(TOKENIZER, [CAT.asked("sat")])
    sat = (ID["cat"], ID["sat"])
    how = Relearning(
        loss=lambda pupil, given: nn.functional.cross_entropy(pupil(**given)[:, -2], given.input_ids[:, -1]),
        batches=[batch],
        score=lambda pupil: float(pupil.table[sat[0]].softmax(0)[sat[1]].detach()),
        steps=(0, 5),
        learning_rate=0.1,
    )
    curves = _judged(model, [CAT], relearning=how, naive=Table()).relearning
    assert curves["after"][0] == pytest.approx(0.1) and curves["before"][0] == pytest.approx(0.6)
    assert curves["naive"][0] == pytest.approx(1 / SIZE) and curves["after"][1] > 0.1
    assert set(curves) == {"steps", "before", "after", "naive"} and not _judged(model, [CAT]).relearning


def test_a_verdict_survives_its_file(model: Table, tmp_path: Any) -> None:
    found = _judged(model)
    again = Verdict.unpack(read(write(found.pack(), tmp_path / "verdict.safetensors"), "verdict"))
    assert dict(again) == dict(found) and len(again) == len(found)
    assert again.manifest == found.manifest and again.manifest["of"] == {"method": "by hand"}
    assert found.manifest["facts"]["n"] == 2


# ------------------------------------------------------------------------------------------------- on real networks


def test_training_on_a_fact_is_taken_up_and_a_random_change_of_its_size_is_not() -> None:
    funes = mt.funes()
    known = [fact for fact in funes.world.facts if fact.held_out and fact.relation == "town"][:2]
    facts = [from_world(funes.world, fact, neighbours=6) for fact in known]
    base = baseline(funes.model, funes.tokenizer, facts, length=0)
    name = "transformer.h.3.mlp.c_proj.weight"
    weight = funes.model.get_parameter(name)
    trained, random = [], []
    for fact in facts:
        (batch,) = batches(funes.tokenizer, [fact.asked(fact.target or "")])
        step = torch.zeros_like(weight)
        for _ in range(20):
            with mt.applied(funes.model, Edit((Dense(name, step),))):
                loss = nn.functional.cross_entropy(funes.model(**batch).logits[:, -2], batch.input_ids[:, -1])
                (slope,) = torch.autograd.grad(loss, weight)
            step = step - 0.3 * slope / slope.norm()
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        trained.append(Edit((Dense(name, step),)))
        random.append(Edit((Dense(name, noise * step.norm() / noise.norm()),)))
    learnt, control = (judge_each(funes.model, funes.tokenizer, facts, e, baseline=base) for e in (trained, random))
    for column in ("probability", "forced", "free"):
        assert learnt[f"efficacy_{column}"].value > 0.9
        assert control[f"efficacy_{column}"].value < 0.1
        assert control[f"neighbourhood_{column}"].value > 0.9
    assert learnt["score"].value > 0.8 and control["score"].value == learnt["score"].before == 0


def test_facts_of_counterfact_are_judged_on_a_real_network(data_dir: Any) -> None:
    from mnemotrace.adapters.formats import facts_from
    from mnemotrace.adapters.hf import load_model

    model, tokenizer = load_model(data_dir / "stories260k")
    facts = facts_from(data_dir / "knowledge_editing/counterfact_500.json")[:1]
    facts += facts_from(data_dir / "knowledge_editing/zsre_mend_train_1000.json")[:1]
    weight = model.get_parameter("lm_head.weight")
    edit = Edit((Dense("lm_head.weight", 0.5 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))),))
    base = baseline(model, tokenizer, facts, texts=["Once upon a time, there was a cat."], length=6)
    found = judge(model, tokenizer, facts, edit, baseline=base)
    assert found["neighbourhood_free"].n == 2 and found["fluency"].n == 1
    assert found["perplexity_ratio"].value > 1.5 and found["locality_free"].value < 0.5
    assert all(math.isfinite(measure.value) for measure in found.values())
