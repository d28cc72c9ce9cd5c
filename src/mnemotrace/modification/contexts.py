"""Contexts: what a prompt may come after, sampled from the network itself, and facts as rows of token ids in them.

A key or a value of one prompt alone is tied to that prompt. So they are averaged, and optimised, over the bare prompt
and over continuations of a few short texts that the network writes itself: top-5 sampling from its start token. The
prompt follows behind a full stop, in token ids, so that no text is tokenised twice; only a prompt's first word may read
otherwise in the middle of a text, and is tokenised as such.

Reference: Meng et al. 2022, Locating and editing factual associations in GPT, section 3.1 and appendix E.5.
Cost: a forward pass over `count` short rows a token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from jaxtyping import Int
from torch import Tensor, nn

from mnemotrace.adapters.facts import Fact, Tokens, located, tokens_of
from mnemotrace.adapters.hooks import evaluating
from mnemotrace.core.linalg import require_finite

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Contexts = Sequence[Sequence[int]]
Lookup = Literal["subject", "prompt"]
TOP = 5
SEPARATOR = ". "


def contexts(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    count: int = 20,
    lengths: Sequence[int] = (5, 10),
    generator: torch.Generator | None = None,
) -> tuple[tuple[int, ...], ...]:
    """Sample texts from a network, each token from its five most probable ones.

    Args:
        model: a causal language model; left as it was.
        tokenizer: of the model.
        count: how many, from 0; the published number is 20.
        lengths: sampled tokens, taken in turn, so that half of 20 have 5 and half 10.
        generator: source of randomness on the CPU; None seeds one with 0.

    Returns:
        Token ids, beginning with those that the tokenizer puts before every text. Special tokens are never drawn.

    Raises:
        ValueError: a negative count, or lengths that are not positive.
        NonFiniteError: the network gives NaN or infinite logits.
    """
    if count < 0 or not lengths or min(lengths) < 1:
        raise ValueError(f"got count={count}, lengths={tuple(lengths)}; expected count >= 0 and lengths of at least 1")
    generator = generator or torch.Generator().manual_seed(0)
    start = _start(tokenizer)
    seed: Any = start or [next((t for t in (tokenizer.bos_token_id, tokenizer.eos_token_id) if t is not None), 0)]
    device = next(model.parameters()).device
    ids = torch.tensor([seed] * count, device=device).view(count, len(seed))
    special: list[int] = list(tokenizer.all_special_ids)
    with evaluating(model):
        for _ in range(max(lengths) if count else 0):
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[:, -1].float()
            require_finite(logits, "the logits; look for NaN in the weights")
            logits[:, special] = -torch.inf
            top = logits.topk(min(TOP, logits.shape[1]))
            drawn = torch.multinomial(top.values.softmax(-1).cpu(), 1, generator=generator).to(device)
            ids = torch.cat([ids, top.indices.gather(1, drawn)], 1)
    drawn_ids: list[list[int]] = ids[:, len(seed) :].tolist()
    return tuple((*start, *row[: lengths[i % len(lengths)]]) for i, row in enumerate(drawn_ids))


def in_contexts(
    tokenizer: "PreTrainedTokenizerBase", fact: Fact, contexts: Contexts = (), *, answer: str | None = None
) -> list[Tokens]:
    """Read a fact alone, and after each context.

    Raises:
        ValueError: as `tokens_of`.
    """
    bare = tokens_of(tokenizer, fact, answer)
    if not contexts:
        return [bare]
    later = tokens_of(tokenizer, _after_a_text(fact), answer)
    skip = len(_start(tokenizer))
    return [bare, *(_moved(later, tuple(context), skip) for context in contexts)]


def place_of(tokens: Tokens, lookup: Lookup) -> int:
    """Return the position where a fact is looked up: the last token of its subject, or of its prompt.

    Raises:
        ValueError: another word.
    """
    if lookup not in get_args(Lookup):
        raise ValueError(f"got lookup={lookup!r}; expected 'subject' or 'prompt'")
    return tokens.last if lookup == "subject" else tokens.prompt - 1


def _after_a_text(fact: Fact) -> Fact:
    fact = located(fact)
    return replace(fact, prompt=SEPARATOR + fact.prompt)


def _moved(tokens: Tokens, context: tuple[int, ...], skip: int) -> Tokens:
    by = len(context) - skip
    first, stop = tokens.subject
    return Tokens(context + tokens.ids[skip:], (first + by, stop + by), tokens.prompt + by)


def _start(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Return what the tokenizer puts before every text: what an empty one and a full stop have in common."""
    empty: Any = tokenizer("", verbose=False)["input_ids"]
    stop: Any = tokenizer(SEPARATOR, verbose=False)["input_ids"]
    same = next((i for i, (a, b) in enumerate(zip(empty, stop, strict=False)) if a != b), len(empty))
    return list(empty[:same])


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of token ids, padded on both sides so that what is looked up stands in one column.

    Attributes:
        ids: token ids; 0 where there is none.
        mask: 1 where there is a token.
        column: where the fact is looked up in every row.
    """

    ids: Int[Tensor, "b t"]
    mask: Int[Tensor, "b t"]
    column: int


def aligned(rows: Sequence[Sequence[int]], lasts: Sequence[int], model: nn.Module) -> Rows:
    """Put rows under each other, their positions `lasts` in one column.

    Raises:
        ValueError: a row is longer than the model's context.
    """
    limit = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    longest = max(map(len, rows))
    if isinstance(limit, int) and longest > limit:
        raise ValueError(
            f"got a row of {longest} tokens, context included; expected at most the model's {limit}; shorten the "
            "prompt, or give contexts of fewer tokens"
        )
    column = max(lasts)
    width = column + max(len(row) - last for row, last in zip(rows, lasts, strict=True))
    ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    for i, (row, last) in enumerate(zip(rows, lasts, strict=True)):
        place = slice(column - last, column - last + len(row))
        ids[i, place], mask[i, place] = torch.tensor(row), 1
    device = next(model.parameters()).device
    return Rows(ids.to(device), mask.to(device), column)
