r"""How a network takes an answer, read in three ways that are only ever given together.

With `p(i)` the probability of the i-th token of an answer given the prompt and the answer so far:

* probability: :math:`\exp(\tfrac1m \sum_i \log p(i))`, the geometric mean over the `m` tokens;
* teacher-forced: is every token the most probable one, each given the right ones before it?
* free: the network goes on by itself, always with the most probable token, from the prompt alone. Does what it says
  begin with the answer, and does the answer end there? One token more than the answer has is generated to see that:
  "Parisian" does not say "Paris".

The second is true whenever the third is, unless the tokenizer cuts prompt and answer differently when they come apart.
What flatters is the share of right tokens, which gives credit for half an answer; it is there, under its own name.

Cost: one forward pass, and `m + 1` short ones with cached keys and values. Prompts of equal length go together, so that
nothing is padded when generating. Logarithms are taken in float64; the pass holds `b t v` logits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemotrace.adapters.examples import Example, batches
from mnemotrace.adapters.hooks import evaluating, forward
from mnemotrace.adapters.scores import logits_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False)
class Reading:
    """What a network makes of `m` tokens, each given all the right ones before it.

    Attributes:
        ids: the tokens.
        predicted: the most probable token in the place of each.
        log_probability: of each, in nats.
        standing: how far each log-probability lies from that of a token drawn at this place, in standard deviations.
    """

    ids: Int[Tensor, " m"]
    predicted: Int[Tensor, " m"]
    log_probability: Float[Tensor, " m"]
    standing: Float[Tensor, " m"]

    @property
    def nll(self) -> float:
        """Mean negative log-probability of a token, in nats."""
        return -float(self.log_probability.mean())

    @property
    def probability(self) -> float:
        """Geometric mean of the probabilities, in [0, 1]."""
        return float(self.log_probability.mean().exp())

    @property
    def share(self) -> float:
        """Share of the tokens that are the most probable ones, in [0, 1]."""
        return float((self.predicted == self.ids).double().mean())

    @property
    def forced(self) -> bool:
        """Whether all of them are."""
        return bool((self.predicted == self.ids).all())


@dataclass(frozen=True, eq=False)
class Answer:
    """The three readings of one answer.

    Attributes:
        reading: token by token: probability, and teacher-forced matches.
        said: what the network said by itself after the prompt, one token longer than the answer.
        free: whether that is the answer.
    """

    reading: Reading
    said: str
    free: bool


def read_answers(
    model: nn.Module, tokenizer: "PreTrainedTokenizerBase", examples: Sequence[Example], *, batch_size: int = 32
) -> list[Answer]:
    """Read answers in all three ways, in the order of the examples.

    Args:
        model: a causal language model; left as it was.
        tokenizer: of the model; a fast one.
        examples: prompts with answers.
        batch_size: examples a forward pass.

    Raises:
        ValueError: an example has no prompt, or no token of its answer is read.
    """
    prompts = [example.prompt for example in examples if example.prompt is not None]
    if len(prompts) != len(examples):
        raise ValueError("got a text without a prompt; expected prompts with answers; use `read_tokens` for texts")
    readings = read_tokens(model, tokenizer, examples, batch_size=batch_size)
    lengths = [len(reading.ids) + 1 for reading in readings]
    said = continue_from(model, tokenizer, prompts, lengths=lengths, batch_size=batch_size)
    answers = [str(tokenizer.decode(reading.ids)) for reading in readings]  # as generated text is spelt
    return [Answer(r, text, says(text, answer)) for r, text, answer in zip(readings, said, answers, strict=True)]


def read_tokens(
    model: nn.Module, tokenizer: "PreTrainedTokenizerBase", examples: Sequence[Example], *, batch_size: int = 32
) -> list[Reading]:
    """Read the answers of examples, or whole texts but their first token, token by token in one pass.

    Raises:
        ValueError: nothing to predict in an example.
        TypeError: the model gives no logits.
    """
    device = next(model.parameters()).device
    readings: list[Reading] = []
    with evaluating(model):
        for batch in batches(tokenizer, examples, batch_size=batch_size, device=device) if examples else ():
            logits = logits_of(model, forward(model, batch))[:, :-1]
            wanted, scored = batch.input_ids[:, 1:], batch.scored[:, 1:]
            readings += [_reading(logits[i, keep], wanted[i, keep]) for i, keep in enumerate(scored)]
    empty = next((i for i, reading in enumerate(readings) if not len(reading.ids)), None)
    if empty is not None:
        raise ValueError(
            f"got nothing to predict in {examples[empty].joined[:60]!r}; expected a token with one before it; give a "
            "longer text, a prompt, or a tokenizer that starts texts with a token"
        )
    return readings


def _reading(logits: Float[Tensor, "m v"], ids: Int[Tensor, " m"]) -> Reading:
    logs = logits.double().log_softmax(1)
    mine = logs.gather(1, ids[:, None])[:, 0]
    mean = (logs.exp() * logs).sum(1)
    variance = (logs.exp() * (logs - mean[:, None]).square()).sum(1)
    standing = (mine - mean) / variance.clamp_min(1e-12).sqrt()  # a distribution without spread: everything is typical
    return Reading(ids.cpu(), logs.argmax(1).cpu(), mine.cpu(), standing.cpu())


def says(text: str, answer: str) -> bool:
    """Tell whether a text begins with an answer and the answer's last word ends there; white space does not count."""
    text, answer = " ".join(text.split()), " ".join(answer.split())
    goes_on = answer[-1:].isalnum() and text[len(answer) : len(answer) + 1].isalnum()
    return text.startswith(answer) and not goes_on


def continue_from(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    *,
    lengths: int | Sequence[int],
    batch_size: int = 32,
) -> list[str]:
    """Let a network go on with prompts, always with the most probable token.

    Args:
        model: a causal language model; left as it was.
        tokenizer: of the model; a fast one.
        prompts: what it goes on from; spaces at their end are dropped, for they belong to the word that follows.
        lengths: how many tokens, for all or for each; fewer where the text ends or the model's context does.
        batch_size: prompts of equal length that go together.

    Returns:
        What comes after each prompt, up to a token that ends texts.

    Raises:
        ValueError: a prompt has no token, or fills the context.
    """
    ids = [_prompt_ids(tokenizer, prompt.rstrip(" ")) for prompt in prompts]
    room, longest = _context(model, tokenizer), max(map(len, ids), default=0)
    if longest >= room:
        raise ValueError(
            f"got a prompt of {longest} tokens for a context of {room}; expected room for more; shorten it"
        )
    wanted = [lengths] * len(prompts) if isinstance(lengths, int) else lengths
    wanted = [min(count, room - len(prompt)) for count, prompt in zip(wanted, ids, strict=True)]
    order = sorted(range(len(ids)), key=lambda i: (len(ids[i]), wanted[i]))
    found: dict[int, list[int]] = {}
    end: Any = tokenizer.eos_token_id
    with evaluating(model):
        while order:
            size = sum(len(ids[i]) == len(ids[order[0]]) for i in order[:batch_size])
            chunk, order = order[:size], order[size:]
            rows = _greedy(model, [ids[i] for i in chunk], max(wanted[i] for i in chunk), end)
            found |= {i: row[: wanted[i]] for i, row in zip(chunk, rows, strict=True)}
    return [str(tokenizer.decode(found[i])) for i in range(len(ids))]


def _prompt_ids(tokenizer: "PreTrainedTokenizerBase", prompt: str) -> list[int]:
    """Return the tokens of a prompt up to its last character: a token that ends texts would end the answer."""
    encoded = tokenizer(prompt, return_offsets_mapping=True, verbose=False)
    inside = [i for i, (start, end) in enumerate(encoded["offset_mapping"]) if start < end]
    ids = encoded["input_ids"][: max(inside) + 1] if inside else encoded["input_ids"]
    if not ids:
        raise ValueError(f"got the prompt {prompt!r} without a token; expected at least one to go on from")
    return ids


def _context(model: nn.Module, tokenizer: "PreTrainedTokenizerBase") -> int:
    limit = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    return min(tokenizer.model_max_length, limit) if isinstance(limit, int) else tokenizer.model_max_length


def _greedy(model: nn.Module, prompts: list[list[int]], steps: int, end: int | None) -> list[list[int]]:
    """Continue prompts of one length by the most probable token; a row is cut before its `end`."""
    device = next(model.parameters()).device
    ids = torch.tensor(prompts, device=device)
    given: Tensor = ids
    memory: dict[str, Any] = {}
    ended = torch.zeros(len(ids), dtype=torch.bool, device=device)
    for _ in range(steps):
        output = forward(model, {"input_ids": given, "attention_mask": torch.ones_like(ids)} | memory)
        last = logits_of(model, output)[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, last], 1)
        cache = getattr(output, "past_key_values", None)
        given, memory = (ids, {}) if cache is None else (last, {"past_key_values": cache})
        ended |= last[:, 0] == (-1 if end is None else end)
        if ended.all():
            break
    rows = ids[:, len(prompts[0]) :].tolist()
    return [row[: row.index(end)] if end in row else row for row in rows]
