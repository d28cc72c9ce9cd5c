"""Probes read what is there and not what is gone; similarities are kept by what keeps them."""

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from mnemotrace.adapters.examples import Example
from mnemotrace.evaluation.encoder import ProbeScore, labels_of, similarity_kept

pytest.importorskip("sklearn")

WORDS = ("ant", "bee", "cat", "dog")


class Tokenizer:
    """One token a word, as much of a tokenizer as batches need."""

    is_fast, model_max_length, pad_token_id, eos_token_id = True, 10**9, 0, 0

    def __call__(self, texts: Sequence[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[WORDS.index(word) for word in text.split()] for text in texts]}


class Encoder(nn.Module):
    """Words as corners of a simplex, times a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(4))
        self.calls = 0

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
        self.calls += 1

        class Output:
            last_hidden_state = nn.functional.one_hot(input_ids, 4).float() @ self.weight

        return Output()


def examples(*words: str) -> list[Example]:
    return [Example(text=f"{word} {word}", label=word) for word in words for _ in range(3)]


def score(**options: object) -> ProbeScore:
    return ProbeScore(Tokenizer(), examples(*WORDS), **options)


def test_a_probe_reads_what_is_there_and_not_what_is_gone() -> None:
    encoder, probe = Encoder(), score()
    assert probe(encoder, examples("ant", "cat")).tolist() == [1.0] * 6
    with torch.no_grad():
        encoder.weight.copy_(torch.diag(torch.tensor([0.0, 0.0, 1.0, 1.0])))
    scores = probe(encoder, examples("ant", "bee", "cat"))
    assert scores[:6].mean() <= 0.5
    assert scores[6:].tolist() == [1.0] * 3


def test_a_fresh_probe_finds_what_only_moved_and_a_fixed_one_does_not() -> None:
    encoder, fresh, fixed = Encoder(), score(), score(fresh=False)
    assert fixed(encoder, examples("ant")).tolist() == [1.0] * 3
    with torch.no_grad():
        encoder.weight.copy_(torch.eye(4)[[1, 0, 2, 3]])
    assert fresh(encoder, examples("ant")).tolist() == [1.0] * 3
    assert fixed(encoder, examples("ant")).tolist() == [0.0] * 3


def test_a_probe_is_trained_once_a_state_of_the_network() -> None:
    encoder, probe = Encoder(), score()
    probe(encoder, examples("ant"))
    before = encoder.calls
    probe(encoder, examples("bee"))
    assert encoder.calls == before + 1
    with torch.no_grad():
        encoder.weight[3, 3] += 1e-6
    probe(encoder, examples("bee"))
    assert encoder.calls == before + 3


def test_chance_is_one_label_in_all() -> None:
    assert score().chance == 0.25


@pytest.mark.parametrize(
    ("train", "asked", "message"),
    [
        (examples("ant"), [], "got training examples of one label"),
        ([Example(text="ant")], [], "got example 0 without a label"),
        (examples("ant", "bee"), examples("cat"), "not trained on \\(cat\\)"),
    ],
)
def test_labels_that_do_not_fit_are_named(train: list, asked: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProbeScore(Tokenizer(), train)(Encoder(), asked)


def test_whole_numbers_are_labels_too() -> None:
    assert labels_of([Example(text="ant", label=3)]) == ["3"]


def test_similarities_survive_rotation_and_scale_and_not_noise(generator: torch.Generator) -> None:
    x = torch.randn(40, 8, generator=generator)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
    assert similarity_kept(x, 3 * x @ turn) == pytest.approx(1)
    assert abs(similarity_kept(x, torch.randn(40, 8, generator=generator))) < 0.2


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (torch.eye(3), torch.eye(4), "got 3 and 4 examples"),
        (torch.eye(2), torch.eye(2), "at least 3"),
        (torch.eye(3), torch.ones(3, 3), "all the same"),
    ],
)
def test_similarities_that_cannot_be_compared_are_an_error(
    before: torch.Tensor, after: torch.Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        similarity_kept(before, after)
