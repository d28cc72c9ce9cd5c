"""ROME: the closed form against a dense float64 one, one key throughout, and what is refused before it begins."""

import copy
from dataclasses import replace

import pytest
import torch

import mnemotrace as mt
from mnemotrace.adapters.examples import Example, batches, rows_of
from mnemotrace.adapters.linear import weight_of
from mnemotrace.core.errors import NonFiniteError, SelectionError
from mnemotrace.core.lowrank import LowRank
from mnemotrace.evaluation.controls import random_edit
from mnemotrace.modification.contexts import contexts
from mnemotrace.modification.keys import keys
from mnemotrace.modification.rome import parts, rank_one, rome, rome_each
from mnemotrace.modification.values import values
from mnemotrace.stats.moments import RIDGE, Statistics

LAYER, SITE = 3, "transformer.h.3.mlp.c_proj"
OPTIONS = {"layer": LAYER, "lookup": "prompt"}


def test_a_fact_that_is_written_is_said_in_other_words_too_and_a_random_change_of_its_size_says_nothing(bench) -> None:
    fact = bench.facts[0]
    edit = rome(bench.model, bench.tokenizer, fact, statistics=bench.statistics, **OPTIONS)
    assert bench.untouched() and not bench.says(fact)
    paraphrase = replace(fact, prompt=fact.paraphrases[0])
    with mt.applied(bench.model, edit):
        assert bench.says(fact) and bench.says(paraphrase)
        others = [replace(fact, prompt=e.prompt, subject=None, target=e.answer) for e in fact.neighbours]
        assert all(map(bench.says, others))
    with mt.applied(bench.model, random_edit(edit, torch.Generator().manual_seed(0))):
        assert not bench.says(fact)
    assert bench.untouched()


def test_the_closed_form_is_the_dense_one_in_float64(bench) -> None:
    prefixes = contexts(bench.model, bench.tokenizer, count=4)
    fact = bench.facts[1]
    options = {"contexts": prefixes, "lookup": "prompt"}
    found = values(bench.model, bench.tokenizer, [fact], layer=LAYER, **options)
    edit = rome(bench.model, bench.tokenizer, fact, layer=LAYER, statistics=bench.statistics, **options)
    (change,) = edit.changes
    k = keys(bench.model, bench.tokenizer, [fact], layers=LAYER, **options)[LAYER][:, 0]
    moments = bench.statistics[SITE]
    mean = moments.matrix() / moments.n
    mean += RIDGE * mean.diagonal().mean() * torch.eye(len(mean), dtype=mean.dtype)
    u = torch.linalg.solve(mean, k)
    wanted = found.deltas[:, :1] * (u / (u @ k))[None]
    off = change.left.double() @ change.right.double() - wanted
    assert off.norm() <= 1e-6 * wanted.norm()  # stored in float32
    left, right = rank_one(found.deltas[:, :1], u[:, None], k[:, None])
    assert (left @ right - wanted).norm() <= 1e-10 * wanted.norm()


def test_the_edited_map_gives_the_wanted_value_at_the_key(bench) -> None:
    prefixes = contexts(bench.model, bench.tokenizer, count=4)
    fact, options = bench.facts[2], {"contexts": prefixes, "lookup": "prompt"}
    found = values(bench.model, bench.tokenizer, [fact], layer=LAYER, **options)
    (edit,) = rome_each(bench.model, bench.tokenizer, [fact], layer=LAYER, statistics=bench.statistics, **options)
    k = keys(bench.model, bench.tokenizer, [fact], layers=LAYER, **options)[LAYER]
    assert torch.allclose(edit.changes[0].weight().double() @ k, found.deltas, rtol=1e-4, atol=1e-5)


def test_legacy_misses_the_value_at_the_averaged_key_as_published_code_does(bench) -> None:
    prefixes = contexts(bench.model, bench.tokenizer, count=4)
    fact, options = bench.facts[0], {"contexts": prefixes, "lookup": "prompt", "statistics": bench.statistics}
    one, legacy = (
        rome(bench.model, bench.tokenizer, fact, layer=LAYER, legacy=legacy, steps=3, **options).changes[0]
        for legacy in (False, True)
    )
    bare = keys(bench.model, bench.tokenizer, [fact], layers=LAYER, lookup="prompt")[LAYER][:, 0]
    mean = keys(bench.model, bench.tokenizer, [fact], layers=LAYER, contexts=prefixes, lookup="prompt")[LAYER][:, 0]
    for change, key, other in ((one, mean, bare), (legacy, bare, mean)):
        assert float(change.right[0].double() @ key) == pytest.approx(1, abs=1e-5)
        assert float(change.right[0].double() @ other) != pytest.approx(1, abs=1e-3)


def test_several_facts_are_written_one_after_another_and_can_be_taken_apart(bench) -> None:
    facts = bench.facts[:3]
    edit = rome(bench.model, bench.tokenizer, facts, statistics=bench.statistics, **OPTIONS)
    assert bench.untouched()
    with mt.applied(bench.model, edit):
        assert all(map(bench.says, facts))
    split = parts(edit)
    assert len(split) == 3
    total = sum(split[1:], split[0])
    assert torch.equal(total.changes[0].dense(), edit.changes[0].dense())
    with mt.applied(bench.model, split[0] + split[2]):
        assert bench.says(facts[0]) and not bench.says(facts[1]) and bench.says(facts[2])


def test_a_rank_one_edit_is_two_vectors_and_a_short_manifest(bench, tmp_path) -> None:
    edit = rome(bench.model, bench.tokenizer, bench.facts[0], statistics=bench.statistics, **OPTIONS)
    path = mt.save(edit, tmp_path / "edit.safetensors")
    d, d_k = weight_of(bench.model, bench.statistics.sites[SITE]).shape
    assert path.stat().st_size <= 2 * (d + d_k) * 4 + 4096
    found = mt.load(path)
    assert torch.equal(found.changes[0].left, edit.changes[0].left)


def test_the_same_seed_gives_the_same_edit(bench) -> None:
    one, two = (
        rome(
            bench.model, bench.tokenizer, bench.facts[0], statistics=bench.statistics, **OPTIONS,
            generator=torch.Generator().manual_seed(5),
        )
        for _ in range(2)
    )  # fmt: skip
    assert torch.equal(one.changes[0].dense(), two.changes[0].dense())


def test_a_bfloat16_model_is_edited_with_factors_in_float32(bench) -> None:
    model = copy.deepcopy(bench.model).bfloat16()
    data = batches(bench.tokenizer, [Example(text=f.prompt) for f in bench.facts] * 4)
    statistics = mt.collect(model, data, sites=mt.sites(model, ["mlp.c_proj"], layers=[3]), mask=rows_of)
    edit = rome(model, bench.tokenizer, bench.facts[0], statistics=statistics, steps=3, **OPTIONS)
    assert edit.changes[0].left.dtype == torch.float32
    assert torch.isfinite(edit.changes[0].dense()).all()


def test_what_does_not_fit_is_refused_and_nothing_changes(bench) -> None:
    model, tokenizer, fact, statistics = bench.model, bench.tokenizer, bench.facts[0], bench.statistics

    def write(*facts: mt.Fact, **options: object) -> object:
        return rome(model, tokenizer, facts or fact, **{"statistics": statistics, **OPTIONS, **options})

    cases = [
        (lambda: write(layer=9), ValueError, "got layer 9 of a GPT2LMHeadModel with 6 layers; expected 0 to 5"),
        (lambda: write(layer=1), ValueError, "got statistics without transformer.h.1.mlp.c_proj"),
        (lambda: write(replace(fact, target=None)), ValueError, "without a target"),
        (lambda: write(lookup="noun"), ValueError, "got lookup='noun'; expected 'subject' or 'prompt'"),
        (lambda: write(steps=0), ValueError, "got steps=0"),
    ]
    for run, kind, message in cases:
        with pytest.raises(kind, match=message):
            run()
    with pytest.raises(ValueError, match=r"got the subject 'Nobody', which is not in the prompt"):
        replace(fact, subject="Nobody")
    other = Statistics(statistics.moments, statistics.sites, {"base": {"architecture": "x", "weights": "y"}})
    with pytest.raises(ValueError, match=r"got statistics of network .*; expected statistics of this network"):
        write(statistics=other)
    assert bench.untouched()


def test_a_network_with_nan_is_refused_by_name(bench) -> None:
    model = copy.deepcopy(bench.model)
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[0, 0] = float("nan")
    statistics = Statistics(bench.statistics.moments, bench.statistics.sites, {})
    with pytest.raises(NonFiniteError, match="non-finite"):
        rome(model, bench.tokenizer, bench.facts[0], statistics=statistics, **OPTIONS)


def test_a_quantised_map_is_refused_with_the_remedy(bench) -> None:
    model = copy.deepcopy(bench.model)
    stored = model.transformer.h[3].mlp.c_proj
    quantised = torch.nn.Parameter((stored.weight.detach() * 100).to(torch.int8), requires_grad=False)
    float_weight = stored.weight.detach().clone()
    del stored.weight
    stored.weight = quantised
    stored.forward = lambda x: x @ float_weight + stored.bias
    statistics = Statistics(bench.statistics.moments, bench.statistics.sites, {})
    with pytest.raises(
        (SelectionError, ValueError), match="int8; load the model unquantised|load the model unquantised"
    ):
        rome(model, bench.tokenizer, bench.facts[0], statistics=statistics, **OPTIONS)


def test_a_slow_tokenizer_is_refused(bench) -> None:
    class Slow:
        is_fast = False
        all_special_ids: list[int] = []
        bos_token_id = eos_token_id = 0

        def __call__(self, *_: object, **__: object) -> dict[str, list[int]]:
            return {"input_ids": [2]}

        def build_inputs_with_special_tokens(self, ids: list[int]) -> list[int]:
            return ids

    with pytest.raises(ValueError, match="got the slow tokenizer Slow; expected a fast one"):
        rome(bench.model, Slow(), bench.facts[0], statistics=bench.statistics, contexts=(), **OPTIONS)


def test_a_tied_head_is_no_hindrance_and_stays(bench) -> None:
    assert bench.model.lm_head.weight is bench.model.transformer.wte.weight
    edit = rome(bench.model, bench.tokenizer, bench.facts[0], statistics=bench.statistics, steps=2, **OPTIONS)
    assert edit.parameters == (f"{SITE}.weight",)
    assert isinstance(edit.changes[0], LowRank) and not edit.changes[0].has_bias
