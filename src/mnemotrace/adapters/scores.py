"""How well a language model remembers examples, as one number each: the behaviour that the criteria are about.

With `p(i)` the probability of the i-th scored token given everything before it (teacher-forced; the tokens of the
answer, or all of a text but its first): `nll = -mean log p`, `likelihood = exp(-nll)`, the geometric mean of `p`,
`recall = 1` when every scored token is the most probable one, and `perplexity = exp` of the mean over all tokens of
all examples. Sums are float32 within an example, float64 across examples.

Cost: one forward pass; `b t v` logits are held at a time for a vocabulary of `v`, so choose the batch size by that.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mnemotrace.adapters.examples import Batch, Example, batches
from mnemotrace.adapters.hooks import evaluating, forward

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def recall(model: nn.Module, batches: Iterable[Batch]) -> Float[Tensor, " n"]:
    """Return 1 for each example whose scored tokens are all the most probable ones, else 0."""
    return torch.cat([(read.mean(read.hit.float()) == 1).float() for read in _readings(model, batches)])


def nll(model: nn.Module, batches: Iterable[Batch]) -> Float[Tensor, " n"]:
    """Return the mean negative log-probability of each example's scored tokens, in nats; low when remembered."""
    return torch.cat([-read.mean(read.log_probability) for read in _readings(model, batches)])


def likelihood(model: nn.Module, batches: Iterable[Batch]) -> Float[Tensor, " n"]:
    """Return the geometric mean of the probabilities of each example's scored tokens, in [0, 1]."""
    return (-nll(model, batches)).exp()


answer_probability = likelihood
"""The same number, under the name that reads well for prompts with answers."""


def perplexity(model: nn.Module, batches: Iterable[Batch]) -> float:
    """Return `exp` of the mean negative log-probability of a scored token, every token counting the same."""
    reads = [read.log_probability.double() for read in _readings(model, batches)]
    return float((-torch.cat(reads).mean()).exp())


def embed(model: nn.Module, batches: Iterable[Batch]) -> Float[Tensor, "n d"]:
    """Return the mean of the last hidden state over each example's tokens, as sentence encoders pool it.

    Raises:
        TypeError: the model gives no `last_hidden_state`.
    """
    trunk = getattr(model, "base_model", model)
    pooled: list[Tensor] = []
    with evaluating(model):
        for batch in batches:
            hidden = getattr(forward(trunk, batch), "last_hidden_state", None)
            if hidden is None:
                raise TypeError(
                    f"got {type(trunk).__name__}, which gives no last_hidden_state; expected a Hugging Face transformer"
                )
            weight = batch.attention_mask[..., None].float()
            pooled.append(((hidden.float() * weight).sum(1) / weight.sum(1)).cpu())
    return torch.cat(pooled)


Score = Callable[[nn.Module, Iterable[Batch]], Tensor]
SCORES: Mapping[str, Score] = {
    "recall": recall,
    "likelihood": likelihood,
    "answer_probability": answer_probability,
    "nll": nll,
}


@dataclass(frozen=True)
class LanguageScore:
    """A score as `mt.criteria` and `mt.calibrate` take it: `score(model, examples)`, one number an example.

    Attributes:
        tokenizer: of the model.
        kind: `recall`, `likelihood` (also called `answer_probability`), or `nll`, which falls as memory rises.
        batch_size: examples a forward pass.
        max_length: as in `batches`.
    """

    tokenizer: "PreTrainedTokenizerBase"
    kind: str = "recall"
    batch_size: int = 32
    max_length: int | None = None

    def __post_init__(self) -> None:
        """Check the kind before any model runs."""
        if self.kind not in SCORES:
            raise ValueError(f"got kind={self.kind!r}; expected one of {', '.join(SCORES)}")

    def __call__(self, model: nn.Module, examples: Sequence[Example]) -> Float[Tensor, " n"]:
        """Score examples, in their order."""
        device = next(model.parameters()).device
        ready = batches(self.tokenizer, examples, batch_size=self.batch_size, max_length=self.max_length, device=device)
        return SCORES[self.kind](model, ready)


@dataclass(frozen=True)
class _Reading:
    """What a model made of the scored tokens of one batch, on the CPU.

    Attributes:
        log_probability: of each token.
        hit: whether each was the most probable one.
        owner: the example that each belongs to.
        size: examples in the batch.
    """

    log_probability: Float[Tensor, " m"]
    hit: Bool[Tensor, " m"]
    owner: Int[Tensor, " m"]
    size: int

    def mean(self, values: Float[Tensor, " m"]) -> Float[Tensor, " b"]:
        """Average within each example."""
        total = torch.zeros(self.size).index_add(0, self.owner, values)
        return total / self.owner.bincount(minlength=self.size)


def _readings(model: nn.Module, batches: Iterable[Batch]) -> Iterator[_Reading]:
    with evaluating(model):
        for batch in batches:
            yield _read(model, batch)


def _read(model: nn.Module, batch: Batch) -> _Reading:
    logits = logits_of(model, forward(model, batch))
    scored = batch.scored[:, 1:]
    owner = scored.nonzero()[:, 0]
    empty = (owner.bincount(minlength=len(scored)) == 0).nonzero()
    if len(empty):
        raise ValueError(
            f"got example {int(empty[0])} of a batch of {len(scored)} with nothing to predict; expected a scored token "
            "with one before it; give longer texts, a prompt, or a tokenizer that starts texts with a token"
        )
    chosen = logits[:, :-1][scored].float()
    wanted = batch.input_ids[:, 1:][scored]
    log_probability = chosen.gather(1, wanted[:, None])[:, 0] - chosen.logsumexp(1)
    hit = chosen.argmax(1) == wanted
    return _Reading(log_probability.cpu(), hit.cpu(), owner.cpu(), len(scored))


def logits_of(model: nn.Module, output: Any) -> Tensor:
    """Return the logits in a model's output.

    Raises:
        TypeError: there are none.
    """
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if logits is None:
        raise TypeError(
            f"got {type(model).__name__}, which gives no logits; expected a causal language model; "
            "use `embed` for encoders"
        )
    return logits
