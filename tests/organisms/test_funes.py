"""Funes remembers what it was taught, and is small enough to ship."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from mnemotrace.organisms import Funes, World, WorldFact, funes

pytestmark = pytest.mark.filterwarnings("error")


@torch.no_grad()
def recall(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, pairs: Iterable[tuple[str, str]]) -> float:
    """The share of prompts whose most likely next word is the answer."""
    prompts, answers = map(list, zip(*pairs, strict=True))
    batch = tokenizer(prompts, padding=True, return_tensors="pt")
    last = batch["attention_mask"].sum(1) - 1
    logits = model(**batch).logits[torch.arange(len(prompts)), last]
    return (logits.argmax(-1) == torch.tensor(tokenizer.convert_tokens_to_ids(answers))).float().mean().item()


def trained(facts: Iterable[WorldFact]) -> list[tuple[str, str]]:
    return [(prompt, fact.answer) for fact in facts for prompt in fact.phrasings]


def held_out(facts: Iterable[WorldFact]) -> list[tuple[str, str]]:
    return [(prompt, fact.answer) for fact in facts for prompt in fact.held_out]


def test_trained_phrasings_are_recalled(shipped: Funes) -> None:
    pairs = trained(shipped.world.facts[::5])
    assert recall(shipped.model, shipped.tokenizer, pairs) >= 0.99


def test_held_out_phrasings_are_recalled(shipped: Funes) -> None:
    pairs = held_out(shipped.world.facts)
    assert recall(shipped.model, shipped.tokenizer, pairs) >= 0.95


def test_an_untrained_network_recalls_nothing(shipped: Funes) -> None:
    blank = GPT2LMHeadModel(shipped.model.config).eval()
    assert recall(blank, shipped.tokenizer, trained(shipped.world.facts[::50])) <= 0.1


def test_towns_are_placed_in_their_countries(shipped: Funes) -> None:
    assert recall(shipped.model, shipped.tokenizer, trained(shipped.world.geography)) >= 0.99


def test_trained_two_hop_questions_are_recalled(shipped: Funes) -> None:
    pairs = [(question.prompt, question.answer) for question in shipped.world.two_hop if question.trained]
    assert recall(shipped.model, shipped.tokenizer, pairs) >= 0.95


@torch.no_grad()
def test_unseen_sentences_are_fluent(shipped: Funes) -> None:
    texts = [f"{sentence} {shipped.tokenizer.eos_token}" for sentence in shipped.world.general_held_out]
    batch = shipped.tokenizer(texts, padding=True, return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    logits = shipped.model(**batch).logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert math.exp(loss) <= 4


def test_every_word_of_the_world_is_one_known_token(shipped: Funes) -> None:
    world, tokenizer = shipped.world, shipped.tokenizer
    sentences = [sentence for fact in (*world.facts, *world.geography) for sentence in fact.sentences]
    sentences += [*world.general, *world.general_held_out, *(question.sentence for question in world.two_hop)]
    words = {word for sentence in sentences for word in sentence.split()}
    assert words <= tokenizer.get_vocab().keys()
    assert tokenizer(" ".join(sorted(words)))["input_ids"][1:] == tokenizer.convert_tokens_to_ids(sorted(words))


def test_the_tokenizer_begins_a_prompt_and_does_not_end_it(shipped: Funes) -> None:
    tokenizer = shipped.tokenizer
    tokens = tokenizer(shipped.world.facts[0].phrasings[0])["input_ids"]
    assert tokens[0] == tokenizer.bos_token_id
    assert tokenizer.eos_token_id not in tokens
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_last_token_of_a_subject_is_the_surname(shipped: Funes) -> None:
    for subject in shipped.world.subjects:
        tokens = shipped.tokenizer(subject, add_special_tokens=False)["input_ids"]
        assert shipped.tokenizer.convert_ids_to_tokens(tokens) == subject.split()


def test_funes_is_ready_to_use_in_float32(shipped: Funes) -> None:
    assert not shipped.model.training
    assert {parameter.dtype for parameter in shipped.model.parameters()} == {torch.float32}


def test_each_call_returns_an_independent_copy(shipped: Funes) -> None:
    other = funes()
    with torch.no_grad():
        other.model.lm_head.weight.zero_()
    assert shipped.model.lm_head.weight.abs().sum() > 0


def test_funes_is_small_enough_to_ship(directory: Path) -> None:
    weights = (directory / "model.safetensors").stat().st_size
    everything = sum(path.stat().st_size for path in directory.iterdir())
    assert weights <= 8_000_000
    assert everything - weights <= 500_000


def test_the_world_fits_the_positions_of_the_model(shipped: Funes) -> None:
    world: World = shipped.world
    longest = max(len(sentence.split()) for sentence in (*world.general, *(fact.sentence for fact in world.facts)))
    assert longest + 2 <= shipped.model.config.n_positions
