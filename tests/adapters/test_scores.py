import math

import pytest
import torch
from torch import nn

from mnemotrace.adapters.examples import Example, batches
from mnemotrace.adapters.scores import (
    LanguageScore,
    answer_probability,
    embed,
    likelihood,
    nll,
    perplexity,
    recall,
)
from tests.adapters.words import word_tokenizer

EXAMPLES = [
    Example(prompt="the cat", answer="sat on"),
    Example(text="the dog ran far away"),
    Example(prompt="a", answer="mat"),
]


@pytest.fixture
def model(tiny_gpt2):
    return tiny_gpt2(vocab_size=17)


def _by_hand(model, tokenizer, example):
    """Log-probabilities of the scored tokens, one example at a time, without padding."""
    ids = torch.tensor([tokenizer(example.joined)["input_ids"]])
    with torch.no_grad():
        table = model(input_ids=ids).logits[0, :-1].log_softmax(1)
    wanted = ids[0, 1:]
    start = 0 if example.text else -len(example.answer.split())
    return table.gather(1, wanted[:, None])[start:, 0], (table.argmax(1) == wanted)[start:]


def test_scores_equal_those_of_single_unpadded_forwards(model):
    tokenizer = word_tokenizer()
    ready = batches(tokenizer, EXAMPLES, batch_size=2)
    logs = [_by_hand(model, tokenizer, example)[0] for example in EXAMPLES]
    expected = torch.stack([-log.mean() for log in logs])
    torch.testing.assert_close(nll(model, ready), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(likelihood(model, ready), (-expected).exp(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(answer_probability(model, ready), likelihood(model, ready))
    assert perplexity(model, ready) == pytest.approx(math.exp(-torch.cat(logs).mean()), rel=1e-5)


def test_perplexity_weighs_tokens_not_examples(model):
    ready = batches(word_tokenizer(), EXAMPLES)
    assert perplexity(model, ready) != pytest.approx(float(nll(model, ready).mean().exp()), rel=1e-6)


def test_recall_needs_every_token_of_the_answer():
    tokenizer = word_tokenizer()

    class Next(nn.Module):
        """Always predicts the id after the one it reads; gives bare logits."""

        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, input_ids, attention_mask):
            return nn.functional.one_hot((input_ids + 1) % 17, 17).float()

    right, half, wrong = "cat sat on", "cat sat mat", "mat sat on"
    score = LanguageScore(tokenizer, "recall")
    found = score(Next(), [Example(prompt="the", answer=answer) for answer in (right, half, wrong)])
    assert found.tolist() == [1, 0, 0]
    assert found.dtype == torch.float32


def test_a_language_score_is_independent_of_the_batch_size(model):
    tokenizer = word_tokenizer()
    one, all_ = (LanguageScore(tokenizer, "likelihood", batch_size=size)(model, EXAMPLES) for size in (1, 8))
    torch.testing.assert_close(one, all_, rtol=1e-5, atol=1e-7)


def test_an_unknown_score_is_refused_before_a_model_runs():
    with pytest.raises(ValueError, match="kind='bleu'; expected one of recall, likelihood"):
        LanguageScore(word_tokenizer(), "bleu")


def test_scoring_leaves_training_flags_and_gradients_as_they_were(model):
    model.train()
    model.transformer.h[0].eval()
    flags = [module.training for module in model.modules()]
    ready = batches(word_tokenizer(), EXAMPLES)
    for score in (recall, nll, embed):
        assert not score(model, ready).requires_grad
    assert [module.training for module in model.modules()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_lone_token_has_nothing_to_predict(model):
    ready = batches(word_tokenizer(bos=False), [Example(text="the cat"), Example(text="cat")])
    with pytest.raises(ValueError, match="got example 1 of a batch of 2 with nothing to predict"):
        nll(model, ready)


def test_half_precision_is_scored_in_float32(model):
    ready = batches(word_tokenizer(), EXAMPLES)
    exact = nll(model, ready)
    rough = nll(model.bfloat16(), ready)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.02, atol=0.02)


def test_embedding_is_the_mean_over_real_tokens(model):
    tokenizer = word_tokenizer()
    found = embed(model, batches(tokenizer, EXAMPLES))
    for row, example in zip(found, EXAMPLES, strict=True):
        with torch.no_grad():
            hidden = model.transformer(torch.tensor([tokenizer(example.joined)["input_ids"]])).last_hidden_state
        torch.testing.assert_close(row, hidden[0].mean(0), rtol=1e-4, atol=1e-5)


def test_an_encoder_is_embedded_but_not_scored():
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    encoder = BertModel(BertConfig(vocab_size=17, **sizes))
    ready = batches(word_tokenizer(), EXAMPLES)
    assert embed(encoder, ready).shape == (3, 16)
    with pytest.raises(TypeError, match="BertModel, which gives no logits; expected a causal language model"):
        recall(encoder, ready)
    with pytest.raises(TypeError, match="gives no last_hidden_state"):
        embed(_Bare(), ready)


class _Bare(nn.Module):
    def forward(self, input_ids, attention_mask):
        return input_ids
