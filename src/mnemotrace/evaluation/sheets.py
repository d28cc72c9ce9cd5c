"""What a network says about facts: the answers that are wanted, their rivals, and free text, read for every fact alike.

A `Sheet` holds what one network said about one fact; a `Baseline` the sheets of the untouched network, for every edit
of it to be compared with. Cost: one pass over all prompts with two answers each, one short generation over all
prompts, and one pass over the texts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemotrace.adapters.answers import Answer, Reading, continue_from, read_answers, read_tokens
from mnemotrace.adapters.examples import Example
from mnemotrace.adapters.facts import Fact
from mnemotrace.core.artifact import fingerprint
from mnemotrace.core.errors import NonFiniteError
from mnemotrace.core.progress import Progress, silent

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TOGETHER = 16  # facts whose prompts are read together: some 200 prompts, so that batches are full


@dataclass(frozen=True, eq=False)
class Sheet:
    """What a network said about one fact.

    Attributes:
        parts: to which part each question belongs.
        answers: the wanted one of each.
        rivals: the other one; None where there is none.
        stories: free text, with the prompts that it goes on from.
    """

    parts: tuple[str, ...]
    answers: tuple[Answer, ...]
    rivals: tuple[Reading | None, ...]
    stories: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Baseline:
    """What the untouched network says, for every edit of it to be compared with.

    Attributes:
        sheets: by fact.
        texts: general texts.
        losses: of each text the sum of the negative log-probabilities and the number of tokens, `(n, 2)`.
        length: tokens of free text.
        batch_size: examples a forward pass.
        base: fingerprint of the network.
    """

    sheets: Mapping[Fact, Sheet]
    texts: tuple[str, ...]
    losses: Float[Tensor, "n 2"]
    length: int
    batch_size: int
    base: Mapping[str, str]


def baseline(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    facts: Sequence[Fact],
    *,
    texts: Sequence[str] = (),
    length: int = 100,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Baseline:
    """Read the untouched network once.

    Args:
        model: a causal language model, before any edit.
        tokenizer: of the model; a fast one.
        facts: each with a target.
        texts: general texts for the ratio of perplexities.
        length: tokens of free text for each of the facts' generation prompts, at most to the end of the context; 0 for
            none.
        batch_size: examples a forward pass.
        progress: called after every few facts.

    Raises:
        ValueError: no fact, or one without a target.
        NonFiniteError: the network's probabilities are not finite.
    """
    if not facts:
        raise ValueError("got no fact; expected at least one")
    lacking = next((fact for fact in facts if fact.target is None), None)
    if lacking is not None:
        raise ValueError(
            f"got a fact without a target ({lacking.prompt!r}); expected what should be said after the edit; set "
            "target=, or leave the fact out"
        )
    how = Baseline({}, tuple(texts), torch.empty(0, 2), length, batch_size, fingerprint(model))
    sheets = read_sheets(model, tokenizer, facts, how=how, progress=progress)
    losses = read_losses(model, tokenizer, how=how)
    return replace(how, sheets=dict(zip(facts, sheets, strict=True)), losses=losses)


def read_sheets(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    facts: Sequence[Fact],
    *,
    how: Baseline,
    progress: Progress | None = None,
) -> list[Sheet]:
    """Read what a network says about facts, with the settings of a baseline.

    Raises:
        NonFiniteError: its probabilities are not finite.
    """
    sheets: list[Sheet] = []
    for start in range(0, len(facts), _TOGETHER):
        sheets += _read(model, tokenizer, facts[start : start + _TOGETHER], how)
        (progress or silent)(len(sheets), len(facts), "facts")
    return sheets


def read_losses(model: nn.Module, tokenizer: "PreTrainedTokenizerBase", *, how: Baseline) -> Float[Tensor, "n 2"]:
    """Return of each of the baseline's texts the sum of the negative log-probabilities and the number of tokens."""
    texts = [Example(text=text) for text in how.texts]
    readings = read_tokens(model, tokenizer, texts, batch_size=how.batch_size)
    pairs = [(-float(reading.log_probability.sum()), len(reading.ids)) for reading in readings]
    return torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2)


def _questions(fact: Fact) -> list[tuple[str, Example, Example | None]]:
    """Return part, wanted and rival answer of every prompt."""
    target, old = str(fact.target), fact.answer
    found: list[tuple[str, Example, Example | None]] = [
        ("efficacy", fact.asked(target), fact.asked(old) if old else None)
    ]
    rivals = fact.variants(old) if old else [None] * len(fact.paraphrases)
    found += [("paraphrase", *pair) for pair in zip(fact.variants(target), rivals, strict=True)]
    found += [("neighbourhood", near, Example(prompt=near.prompt, answer=target)) for near in fact.neighbours]
    return found + [("portability", example, None) for example in fact.portability]


def _read(
    model: nn.Module, tokenizer: "PreTrainedTokenizerBase", facts: Sequence[Fact], how: Baseline
) -> Iterator[Sheet]:
    asked = [_questions(fact) for fact in facts]
    flat = [question for questions in asked for question in questions]
    size = how.batch_size
    answers = read_answers(model, tokenizer, [wanted for _, wanted, _ in flat], batch_size=size)
    rivals = iter(read_tokens(model, tokenizer, [rival for _, _, rival in flat if rival], batch_size=size))
    if not all(bool(answer.reading.log_probability.isfinite().all()) for answer in answers):
        raise NonFiniteError("got non-finite probabilities from the network; expected finite ones; take a smaller edit")
    prompts = [prompt for fact in facts for prompt in fact.generation] if how.length else []
    said = iter(continue_from(model, tokenizer, prompts, lengths=how.length, batch_size=size))
    taken = iter(answers)
    for fact, questions in zip(facts, asked, strict=True):
        stories = [f"{prompt} {text}" for prompt, text in zip(fact.generation if prompts else (), said, strict=False)]
        yield Sheet(
            tuple(part for part, _, _ in questions),
            tuple(islice(taken, len(questions))),
            tuple(next(rivals) if rival else None for _, _, rival in questions),
            tuple(stories),
        )
