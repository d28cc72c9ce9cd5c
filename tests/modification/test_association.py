"""The Hebbian reading of an edit: added and removed associations sum to it, and each picks out its own key."""

import pytest
import torch

import mnemotrace as mt
from mnemotrace.adapters.linear import weight_of
from mnemotrace.modification.association import associations, promoted
from mnemotrace.modification.contexts import contexts
from mnemotrace.modification.keys import keys
from mnemotrace.modification.rome import rome

OPTIONS = {"layer": 3, "lookup": "prompt"}


@pytest.fixture(scope="module")
def edit(bench) -> mt.Edit:
    prefixes = contexts(bench.model, bench.tokenizer, count=3)
    return rome(
        bench.model, bench.tokenizer, bench.facts[:3], statistics=bench.statistics, contexts=prefixes, **OPTIONS
    )


def test_what_is_added_and_what_is_removed_sum_to_the_edit(bench, edit) -> None:
    read = associations(edit, bench.model, bench.tokenizer)
    total = sum((one.hebbian.dense() + one.antihebbian.dense() for one in read), torch.zeros(()))
    change = edit.changes[0].left.double() @ edit.changes[0].right.double()
    assert len(read) == 3
    assert (total - change).norm() <= 1e-12 * change.norm()


def test_the_old_value_of_the_first_fact_is_what_the_map_gives(bench, edit) -> None:
    first = associations(edit, bench.model, bench.tokenizer)[0]
    weight = weight_of(bench.model, first.site, dtype=torch.float64)
    assert torch.allclose(first.old, weight[:, :-1] @ first.key + weight[:, -1], atol=1e-10)


def test_a_later_fact_starts_from_what_the_earlier_ones_left(bench, edit) -> None:
    read = associations(edit, bench.model, bench.tokenizer)
    plain = weight_of(bench.model, read[2].site, dtype=torch.float64)
    before = plain[:, :-1] @ read[2].key + plain[:, -1]
    earlier = sum((one.hebbian.dense() + one.antihebbian.dense() for one in read[:2]), torch.zeros(()))
    assert torch.allclose(read[2].old, before + earlier @ read[2].key, atol=1e-9)


def test_the_direction_picks_its_key_out_where_plain_hebb_does_not(bench, edit) -> None:
    read = associations(edit, bench.model, bench.tokenizer)
    others = keys(bench.model, bench.tokenizer, bench.facts[3:], layers=3, lookup="prompt")[3]
    for one in read:
        assert one.reach == pytest.approx(1, abs=1e-4)
        plain = (one.key / one.key.square().sum()) @ others
        assert one.interference(others).abs().mean() < plain.abs().mean()


def test_the_new_value_promotes_the_target_more_than_the_old_one(bench, edit) -> None:
    one = associations(edit, bench.model, bench.tokenizer)[0]
    assert -1 <= one.cosine < 1
    size = bench.model.config.vocab_size
    old, new = promoted(bench.model, bench.tokenizer, [one.old, one.new], count=size)
    target = str(bench.facts[0].target)
    assert new.index(target) < old.index(target)
    assert bench.untouched()


def test_sums_and_other_models_are_refused(bench, edit) -> None:
    with pytest.raises(ValueError, match=r"got an edit by 'sum'; expected one by mt.rome"):
        associations(edit + edit, bench.model, bench.tokenizer)
    with mt.applied(bench.model, edit), pytest.raises(ValueError, match="got a model with fingerprint"):
        associations(edit, bench.model, bench.tokenizer)
