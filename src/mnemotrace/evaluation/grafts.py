"""How good a graft is: accuracy, agreement with the tuned network, calibration, and how far regions overlap.

    ECE = sum over bins b of |sum over i in b of (confidence_i - right_i)| / n

with bins of equal width over (0, 1] (Naeini et al. 2015; Guo et al. 2017). Written so it is a function of means over
examples, hence it gets the same bootstrap interval as the others. The estimate is biased upwards on few examples.

Cost: one forward pass a network; memory: `b t v` logits at a time.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mnemotrace.adapters.examples import Batch
from mnemotrace.adapters.hooks import evaluating, forward
from mnemotrace.core.applying import applied
from mnemotrace.core.edit import Edit
from mnemotrace.core.mask import Mask
from mnemotrace.evaluation.controls import bootstrap


@dataclass(frozen=True, eq=False)
class Answers:
    """What a network answers to some examples.

    Attributes:
        given: `n` answers; two networks agree where theirs are equal.
        confidence: probability that the network gives its own answer, in [0, 1].
        right: whether it is the wanted one.
    """

    given: Sequence[Any]
    confidence: Float[Tensor, " n"]
    right: Bool[Tensor, " n"]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % bootstrap interval over examples."""

    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Quality:
    """How a network answers.

    Attributes:
        accuracy: share of right answers.
        agreement: share of answers equal to those of the tuned network.
        calibration_error: expected calibration error.
    """

    accuracy: Estimate
    agreement: Estimate
    calibration_error: Estimate


Ask = Callable[[nn.Module, Any], Answers]


def answers_of(model: nn.Module, batches: Iterable[Batch]) -> Answers:
    """Ask a causal language model: the most probable token at each scored position, given the right ones before.

    An example's answer is the tuple of these tokens, its confidence their probabilities multiplied.
    """
    given: list[tuple[int, ...]] = []
    confidence: list[float] = []
    right: list[bool] = []
    with evaluating(model):
        for batch in batches:
            output: Any = forward(model, batch)
            best = output.logits[:, :-1].float().log_softmax(-1).max(-1)
            for row, scored in enumerate(batch.scored[:, 1:]):
                tokens = best.indices[row][scored]
                given.append(tuple(tokens.tolist()))
                confidence.append(float(best.values[row][scored].sum().exp()))
                right.append(bool((tokens == batch.input_ids[row, 1:][scored]).all()))
    return Answers(given, torch.tensor(confidence).clamp(max=1), torch.tensor(right))


def quality(
    model: nn.Module,
    graft: Mask | Edit | None,
    data: Any,
    *,
    tuned: nn.Module,
    ask: Ask = answers_of,
    bins: int = 15,
    resamples: int = 1000,
    generator: torch.Generator | None = None,
) -> Quality:
    """Measure a graft on examples, or with None the network as it is.

    Args:
        model: the base network; left bit-exact.
        graft: what is put in.
        data: what `ask` takes; best of neither fine-tuning nor the choice of the mask.
        tuned: the network to agree with.
        ask: `ask(model, data)`; for networks other than causal language models give your own.
        bins: of the calibration error.
        resamples: of the bootstrap.
        generator: source of randomness; None seeds one with 0.

    Raises:
        ValueError: answers that do not fit each other, or confidences outside [0, 1].
    """
    edit = graft.edit() if isinstance(graft, Mask) else graft
    theirs = ask(tuned, data)
    if edit is None:
        mine = ask(model, data)
    else:
        with applied(model, edit):
            mine = ask(model, data)
    generator = generator or torch.Generator().manual_seed(0)

    def estimate(columns: Tensor) -> Estimate:
        total: Callable[[Tensor], Tensor] = lambda means: means.abs().sum(-1)  # noqa: E731
        return Estimate(*bootstrap(total, columns, resamples=resamples, generator=generator))

    alike, gaps = _alike(mine, theirs), _gaps(mine.confidence, mine.right, bins)
    return Quality(estimate(mine.right[:, None].double()), estimate(alike[:, None]), estimate(gaps))


def expected_calibration_error(
    confidence: Float[Tensor, " n"], correct: Bool[Tensor, " n"], *, bins: int = 15
) -> float:
    """Return the mean distance between confidence and accuracy, over bins of confidence, in [0, 1].

    Args:
        confidence: probability given to the answer, in [0, 1].
        correct: whether the answer is right.
        bins: of equal width, each open on the left.

    Raises:
        ValueError: shapes that differ, no example, a confidence outside [0, 1], or no bin.
    """
    return float(_gaps(confidence, correct, bins).mean(0).abs().sum())


def agreement(first: Answers, second: Answers) -> float:
    """Return the share of examples that two networks answer alike, right or wrong, in [0, 1].

    Raises:
        ValueError: answers to different numbers of examples, or to none.
    """
    return float(_alike(first, second).mean())


def overlap_matrix(masks: Sequence[Mask]) -> Float[Tensor, "k k"]:
    """Return the Jaccard index of every two regions; symmetric, with ones on the diagonal."""
    return torch.tensor([[first.overlap(second) for second in masks] for first in masks])


def _alike(first: Answers, second: Answers) -> Tensor:
    """Return 1 for each example that gets the same answer twice, else 0."""
    if len(first.given) != len(second.given) or not first.given:
        raise ValueError(
            f"got {len(first.given)} and {len(second.given)} answers; expected equally many, at least one; ask both "
            "networks the same examples"
        )
    pairs = zip(first.given, second.given, strict=True)
    return torch.tensor([a == b for a, b in pairs], dtype=torch.float64)


def _gaps(confidence: Tensor, correct: Tensor, bins: int) -> Tensor:
    """Return `(n, bins)`: confidence minus correctness in the column of the example's bin, 0 elsewhere."""
    confidence = confidence.double()
    if confidence.shape != correct.shape or confidence.ndim != 1 or not len(confidence) or bins < 1:
        raise ValueError(
            f"got {tuple(confidence.shape)} confidences, {tuple(correct.shape)} answers and {bins} bins; expected "
            "(n,) of both, n at least 1, and at least one bin"
        )
    if not bool(((confidence >= 0) & (confidence <= 1)).all()):
        raise ValueError(
            f"got confidences from {float(confidence.min()):g} to {float(confidence.max()):g}; expected probabilities "
            "in [0, 1]; take the softmax of logits first"
        )
    place = ((confidence * bins).ceil() - 1).clamp(min=0).long()
    gaps = torch.zeros(len(confidence), bins, dtype=torch.float64)
    return gaps.scatter(1, place.cpu()[:, None], (confidence - correct.double()).cpu()[:, None])
