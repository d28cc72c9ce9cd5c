"""Contexts: sampled from the network itself, the same for one seed; facts as token ids behind them, in one column."""

from typing import Any

import pytest
import torch
from torch import nn

import mnemotrace as mt
from mnemotrace.adapters.facts import Tokens, tokens_of
from mnemotrace.core.errors import NonFiniteError
from mnemotrace.modification.contexts import aligned, contexts, in_contexts, place_of
from tests.adapters.layouts import build, footprint, unchanged
from tests.adapters.words import word_tokenizer

TOKENIZER = word_tokenizer()
SPECIAL = {0, 1, 2, 3}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """A Llama, whose blocks hand nothing on but hidden states."""
    return build("Llama")


# -------------------------------------------------------------------------------------------------------------- sampled


def test_the_same_generator_gives_the_same_texts_and_another_one_others(model: nn.Module) -> None:
    drawn = [contexts(model, TOKENIZER, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] == contexts(model, TOKENIZER)  # None is a seed of 0, not whatever came before
    assert drawn[0] != drawn[2]
    going_on = torch.Generator().manual_seed(0)
    assert contexts(model, TOKENIZER, generator=going_on) != contexts(model, TOKENIZER, generator=going_on)


def test_global_randomness_is_neither_used_nor_moved(model: nn.Module) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = contexts(model, TOKENIZER)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(6)
    assert contexts(model, TOKENIZER) == first


def test_half_have_one_length_and_half_the_other_and_each_begins_as_every_text_does(model: nn.Module) -> None:
    assert [len(c) for c in contexts(model, TOKENIZER)] == [1 + 5, 1 + 10] * 10
    assert [len(c) for c in contexts(model, TOKENIZER, count=4, lengths=(3, 1, 7))] == [1 + 3, 1 + 1, 1 + 7, 1 + 3]
    assert all(c[0] == 0 for c in contexts(model, TOKENIZER))
    assert [len(c) for c in contexts(model, word_tokenizer(bos=False), count=2)] == [5, 10]
    assert [len(c) for c in contexts(model, word_tokenizer(eos=True), count=2)] == [6, 11]


def test_each_token_is_one_of_the_five_most_probable_ones_of_this_network(model: nn.Module) -> None:
    """Oracle: every prefix in a plain pass. Another network's five are others."""
    missed: list[int] = []
    for network in (model, build("Llama", seed=1)):
        missed.append(0)
        for text in contexts(model, TOKENIZER, count=10):
            with torch.no_grad():
                logits = network(input_ids=torch.tensor([text])).logits[0]
            logits[:, list(SPECIAL)] = -torch.inf
            missed[-1] += sum(token not in row.topk(5).indices for row, token in zip(logits, text[1:], strict=False))
    assert missed[0] == 0 and missed[1] > 10


def test_without_a_start_token_it_begins_after_one_that_ends_or_starts_texts(model: nn.Module) -> None:
    """The start is where the network samples from, and no part of a text that has none."""
    (with_bos,) = contexts(model, TOKENIZER, count=1, lengths=(4,))
    (without,) = contexts(model, word_tokenizer(bos=False), count=1, lengths=(4,))
    assert with_bos == (0, *without)


@pytest.mark.parametrize("seed", range(3))
def test_special_tokens_are_never_drawn_even_where_they_are_likeliest(seed: int) -> None:
    model = build("Llama", seed=seed)
    head = model.get_output_embeddings()
    with torch.no_grad():
        head.weight[2] = head.weight.sum(0)
        head.weight[3] = -head.weight[2]
    drawn = {t for c in contexts(model, TOKENIZER) for t in c[1:]}
    assert drawn and not drawn & SPECIAL


def test_no_context_and_a_single_token_are_possible(model: nn.Module) -> None:
    assert contexts(model, TOKENIZER, count=0) == ()
    assert [len(c) for c in contexts(model, TOKENIZER, count=1, lengths=[1])] == [2]


def test_a_model_in_training_is_read_without_dropout_and_left_as_it_was() -> None:
    model = build("GPT2")
    wanted = contexts(model, TOKENIZER, count=4)
    model.train()
    model.transformer.h[0].eval()
    before = footprint(model)
    assert contexts(model, TOKENIZER, count=4) == wanted
    assert unchanged(model, before)


def test_bad_settings_and_networks_are_refused_and_leave_the_training_flags(model: nn.Module) -> None:
    for options, message in (
        ({"count": -1}, r"got count=-1, lengths=\(5, 10\); expected count >= 0 and lengths of at least 1"),
        ({"lengths": ()}, r"got count=20, lengths=\(\); expected"),
        ({"lengths": (5, 0)}, r"got count=20, lengths=\(5, 0\); expected"),
    ):
        with pytest.raises(ValueError, match=message):
            contexts(model, TOKENIZER, **options)
    broken = build("Llama").train()
    with torch.no_grad():
        broken.model.norm.weight[0] = float("nan")
    with pytest.raises(NonFiniteError, match="in the logits; look for NaN in the weights"):
        contexts(broken, TOKENIZER)
    assert all(module.training for module in broken.modules())


# ------------------------------------------------------------------------------------------------ facts behind contexts


@pytest.mark.parametrize(("bos", "eos"), [(False, False), (True, False), (True, True)])
def test_a_fact_stands_behind_each_context_and_a_full_stop(bos: bool, eos: bool) -> None:
    tokenizer = word_tokenizer(bos=bos, eos=eos)
    fact = mt.Fact("the cat and the cat sat on", "the cat", target="a mat")
    prefixes = [(0,) * bos + rest for rest in ((6, 5), (9,))]
    bare, *others = in_contexts(tokenizer, fact, prefixes, answer=fact.target)
    assert bare == tokens_of(tokenizer, fact, "a mat")
    for found, prefix in zip(others, prefixes, strict=True):
        assert tokenizer.decode(found.ids[len(prefix) :]) == ". the cat and the cat sat on a mat"
        assert found.ids[: len(prefix)] == prefix
        assert tokenizer.decode(found.ids[slice(*found.subject)]) == "the cat"
        assert found.subject[1] == len(prefix) + 1 + 5 and tokenizer.decode(found.answer) == "a mat"
    assert in_contexts(tokenizer, fact) == [tokens_of(tokenizer, fact)]


def test_a_subject_that_is_proposed_is_the_same_behind_a_context() -> None:
    fact = mt.Fact("the cat sat")  # no name in it: the longest word, the last of equals
    bare, later = in_contexts(TOKENIZER, fact, [(0, 4, 5)])
    assert later.subject[0] - bare.subject[0] == 2 + 1


def test_the_first_word_reads_as_it_does_in_the_middle_of_a_text(data_dir: Any) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(data_dir / "gpt2_tokenizer")
    prefix = tuple(tokenizer("Somebody came in")["input_ids"])
    _, later = in_contexts(tokenizer, mt.Fact("Ada Marsh lives in", "Ada Marsh"), [prefix], answer="Rome")
    assert list(later.ids) == tokenizer("Somebody came in. Ada Marsh lives in Rome")["input_ids"]
    assert tokenizer.decode(later.ids[slice(*later.subject)]) == " Ada Marsh"


def test_a_fact_is_looked_up_at_the_end_of_its_subject_or_prompt() -> None:
    tokens = Tokens((0, 4, 5, 6, 7, 8), (1, 3), 5)
    assert (place_of(tokens, "subject"), place_of(tokens, "prompt")) == (2, 4)
    with pytest.raises(ValueError, match="got lookup='noun'; expected 'subject' or 'prompt'"):
        place_of(tokens, "noun")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------ rows in columns


def test_rows_stand_with_what_is_looked_up_in_one_column(model: nn.Module) -> None:
    rows, lasts = [(4, 5, 6), (7, 8), (9, 10, 11, 12)], [2, 0, 1]
    found = aligned(rows, lasts, model)
    assert found.column == 2
    assert found.ids.tolist() == [[4, 5, 6, 0, 0], [0, 0, 7, 8, 0], [0, 9, 10, 11, 12]]
    assert found.mask.tolist() == [[1, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 1, 1, 1, 1]]


def test_a_row_longer_than_the_models_context_is_refused(model: nn.Module) -> None:
    aligned([(4,) * 64, (4,)], [0, 0], model)
    with pytest.raises(ValueError, match="got a row of 65 tokens, context included; expected at most the model's 64; "):
        aligned([(4,) * 65, (4,)], [0, 0], model)
    without = nn.Linear(1, 1)
    assert aligned([(4,) * 65], [0], without).ids.shape == (1, 65)
