"""Three readings of an answer: probability, teacher-forced, and what the network says by itself."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mnemotrace.adapters.answers import continue_from, read_answers, read_tokens, says
from mnemotrace.adapters.examples import Example
from tests.adapters.words import WORDS, word_tokenizer

EXAMPLES = [
    Example(prompt="the cat", answer="sat on"),
    Example(prompt="a", answer="mat"),
    Example(prompt="the dog ran", answer="far away home"),
    Example(prompt="on the", answer="mat ."),
]


class Next(nn.Module):
    """Always predicts the id after the one it reads; gives bare logits and keeps no cache."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return 5.0 * nn.functional.one_hot((input_ids + 1) % 17, 17).float()


def _table(model, tokenizer, text):
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.no_grad():
        return ids[0, 1:], model(input_ids=ids).logits[0, :-1].double().log_softmax(1)


def test_readings_equal_those_of_single_unpadded_forwards(tiny_lm):
    tokenizer = word_tokenizer()
    for example, reading in zip(EXAMPLES, read_tokens(tiny_lm, tokenizer, EXAMPLES, batch_size=3), strict=True):
        wanted, logs = _table(tiny_lm, tokenizer, example.joined)
        count = len(example.answer.split())
        wanted, logs = wanted[-count:], logs[-count:]
        mine = logs.gather(1, wanted[:, None])[:, 0]
        assert torch.equal(reading.ids, wanted)
        assert torch.equal(reading.predicted, logs.argmax(1))
        torch.testing.assert_close(reading.log_probability, mine, rtol=1e-4, atol=1e-5)
        assert reading.nll == pytest.approx(-float(mine.mean()), rel=1e-4)
        assert reading.probability == pytest.approx(math.exp(float(mine.mean())), rel=1e-4)


def test_the_standing_of_a_token_is_its_distance_from_a_drawn_one(tiny_gpt2):
    model, tokenizer = tiny_gpt2(vocab_size=17), word_tokenizer()
    (reading,) = read_tokens(model, tokenizer, EXAMPLES[:1])
    _, logs = _table(model, tokenizer, EXAMPLES[0].joined)
    logs = logs[-2:]
    drawn = torch.multinomial(logs.exp(), 200_000, replacement=True, generator=torch.Generator().manual_seed(0))
    sample = logs.gather(1, drawn)
    expected = (reading.log_probability - sample.mean(1)) / sample.std(1)
    torch.testing.assert_close(reading.standing, expected, rtol=0.02, atol=0.02)


def test_half_an_answer_is_a_share_but_no_match():
    tokenizer = word_tokenizer()
    right, half = read_tokens(
        Next(), tokenizer, [Example(prompt="the", answer="cat sat"), Example(prompt="the", answer="cat mat")]
    )
    assert (right.share, right.forced) == (1.0, True)
    assert (half.share, half.forced) == (0.5, False)


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama", "tiny_neox"])
def test_what_is_said_freely_equals_the_reference_generation(request, family):
    model, tokenizer = request.getfixturevalue(family)(vocab_size=17), word_tokenizer()
    prompts = ["the cat", "a", "the dog ran far", "on the", "the mat"]
    ours = continue_from(model, tokenizer, prompts, lengths=6, batch_size=2)
    for prompt, text in zip(prompts, ours, strict=True):
        inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        whole = model.generate(**inputs, max_new_tokens=6, do_sample=False, pad_token_id=3)
        expected = tokenizer.decode(whole[0, inputs["input_ids"].shape[1] :])
        assert text == expected.split("<eos>")[0].strip()
    assert any(ours)


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama", "tiny_neox"])
def test_an_answer_is_said_freely_exactly_when_it_is_matched_under_forcing(request, family):
    """The theorem of the module: greedy generation of all tokens is a teacher-forced match of all tokens."""
    model, tokenizer = request.getfixturevalue(family)(vocab_size=17), word_tokenizer()
    prompts = [f"{first} {second}" for first in WORDS[:6] for second in WORDS[:4]]
    said = [text.split() for text in continue_from(model, tokenizer, prompts, lengths=2)]
    pairs = [(prompt, words) for prompt, words in zip(prompts, said, strict=True) if len(words) == 2]
    other = {word: WORDS[i - 1] for i, word in enumerate(WORDS)}
    true = [Example(prompt=prompt, answer=" ".join(words)) for prompt, words in pairs]
    wrong = [Example(prompt=p, answer=f"{a} {other.get(b, WORDS[0])}") for p, (a, b) in pairs]
    assert len(true) > 10
    assert all(answer.free and answer.reading.forced for answer in read_answers(model, tokenizer, true))
    assert not any(answer.free or answer.reading.forced for answer in read_answers(model, tokenizer, wrong))


def test_an_answer_that_the_tokenizer_does_not_know_is_not_said_by_everything():
    (answer,) = read_answers(Next(), word_tokenizer(), [Example(prompt="the", answer="zebra")])
    assert not answer.free


def test_a_word_that_goes_on_was_matched_under_forcing_but_not_said(data_dir):
    """The first piece of a word is no answer: teacher forcing cannot see that, free generation does."""
    from mnemotrace.adapters.hf import load_model

    model, tokenizer = load_model(data_dir / "stories260k")
    prompts = ["Once upon a time, there was a", "She was very", "The dog ran to the"]
    said = continue_from(model, tokenizer, prompts, lengths=8)
    pieces = [Example(prompt=p, answer=s.split()[0][:1]) for p, s in zip(prompts, said, strict=True)]
    words = [Example(prompt=p, answer=s.split()[0]) for p, s in zip(prompts, said, strict=True)]
    assert all(answer.free for answer in read_answers(model, tokenizer, words))
    assert not any(answer.free for answer in read_answers(model, tokenizer, pieces) if len(answer.said.split()[0]) > 1)


def test_readings_do_not_depend_on_the_batch(tiny_gpt2):
    model, tokenizer = tiny_gpt2(vocab_size=17), word_tokenizer()
    alone, together = (read_answers(model, tokenizer, EXAMPLES, batch_size=size) for size in (1, 4))
    for one, other in zip(alone, together, strict=True):
        assert (one.said, one.free) == (other.said, other.free)
        torch.testing.assert_close(one.reading.log_probability, other.reading.log_probability, rtol=1e-4, atol=1e-5)


def test_generation_stops_at_the_end_token_and_at_the_context():
    tokenizer = word_tokenizer(eos=True)
    assert continue_from(Next(), tokenizer, ["far away"], lengths=9) == ["home . <bos>"]  # which <eos> follows
    tokenizer.model_max_length = 5
    assert continue_from(Next(), tokenizer, ["the cat"], lengths=9) == ["sat on"]
    with pytest.raises(ValueError, match="got a prompt of 5 tokens for a context of 5; expected room for more"):
        continue_from(Next(), tokenizer, ["the cat sat on"], lengths=1)


def test_spaces_behind_a_prompt_do_not_matter():
    assert continue_from(Next(), word_tokenizer(), ["the ", "the"], lengths=[1, 2]) == ["cat", "cat sat"]


def test_the_model_keeps_its_flags(tiny_gpt2):
    model = tiny_gpt2(vocab_size=17).train()
    model.transformer.h[0].eval()
    read_answers(model, word_tokenizer(), EXAMPLES)
    assert model.training and not model.transformer.h[0].training and torch.is_grad_enabled()


@given(st.text("ab .", min_size=1).filter(str.strip), st.text("ab .,"))
def test_a_text_says_what_it_begins_with_as_whole_words(answer, rest):
    assert says(f" {answer}", answer)
    assert says(f"{answer} {rest}", answer)
    assert not says(f"x{answer}", answer)


def test_a_longer_word_does_not_say_a_shorter_one():
    assert not says("Parisian", "Paris")
    assert not says("1066", "10")
    assert says("Paris, of course", "Paris") and says("New\n York.", "New York") and says("U.S.A", "U.")


def test_texts_and_empty_prompts_are_refused():
    with pytest.raises(ValueError, match="got a text without a prompt; expected prompts with answers"):
        read_answers(Next(), word_tokenizer(), [Example(text="the cat")])
    with pytest.raises(ValueError, match="got nothing to predict in 'cat'; expected a token with one before it"):
        read_tokens(Next(), word_tokenizer(bos=False), [Example(prompt="", answer="cat")])
    with pytest.raises(ValueError, match="got the prompt '' without a token; expected at least one to go on from"):
        continue_from(Next(), word_tokenizer(bos=False), [""], lengths=1)
    assert read_tokens(Next(), word_tokenizer(), []) == []
