r"""Scores for encoders, which give no probabilities: what a fresh probe reads, and how much of the geometry is kept.

A probe is a logistic regression on standardised mean-pooled embeddings. A fixed one was trained on the network before
it was edited: it stands for whoever uses the embeddings, and tells what they lose. A fresh one is trained anew on the
network as it is. That is a hard test of an erasure: a topic whose embeddings all moved to one strange place is easy to
recognise, so accuracy falls to chance only when nothing tells the topic from the others. Between the two lies what is
hidden and not gone.

:math:`r = \mathrm{corr}(\cos(x_i, x_j), \cos(x'_i, x'_j))` over pairs :math:`i < j` says how much of the similarity
structure an edit has kept. Cost: one pass over the training examples for each state of the network, one over those
that are asked for.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemotrace.adapters.examples import Example, batches
from mnemotrace.adapters.scores import embed
from mnemotrace.evaluation.depth import linear_probe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FEWEST = 3


@dataclass(frozen=True, eq=False)
class ProbeScore:
    """Scores labelled examples: 1 where a probe names the right label, else 0.

    It is called as `mt.criteria` and `mt.calibrate` call scores: `score(model, examples)`. A fresh probe is trained
    whenever the weights have changed since (told by a hash of every bit of them); a fixed one on the network that it is
    first asked about, which for both of these is the untouched one.

    Attributes:
        tokenizer: of the model.
        train: labelled examples that the probe learns from; none of them should be asked for.
        fresh: train anew for every state of the network, or once.
        batch_size: examples a forward pass.
        max_length: as in `batches`.

    Raises:
        ValueError: fewer than two labels, or an example without one.
    """

    tokenizer: "PreTrainedTokenizerBase"
    train: Sequence[Example]
    fresh: bool = True
    batch_size: int = 64
    max_length: int | None = None
    _probes: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def __post_init__(self) -> None:
        """Check the labels before any model runs."""
        if len(set(labels_of(self.train))) < 2:
            raise ValueError("got training examples of one label; expected at least two, for a probe tells them apart")

    @property
    def chance(self) -> float:
        """Accuracy of a guesser."""
        return 1 / len(set(labels_of(self.train)))

    def __call__(self, model: nn.Module, examples: Sequence[Example]) -> Float[Tensor, " n"]:
        """Score examples, in their order.

        Raises:
            ValueError: an example without a label, or with one that the probe never saw.
            ImportError: scikit-learn is missing.
        """
        wanted = labels_of(examples)
        unknown = sorted(set(wanted) - set(labels_of(self.train)))
        if unknown:
            raise ValueError(
                f"got labels that the probe is not trained on ({', '.join(unknown[:4])}); expected some of its own; "
                "add examples of them to its training data"
            )
        probe = self._probe(model)
        named = probe.predict(self.embed(model, examples).numpy())
        return torch.tensor([float(name == label) for name, label in zip(named, wanted, strict=True)])

    def embed(self, model: nn.Module, examples: Sequence[Example]) -> Float[Tensor, "n d"]:
        """Return mean-pooled embeddings."""
        device = next(model.parameters()).device
        ready = batches(
            self.tokenizer,
            examples,
            batch_size=self.batch_size,
            max_length=self.max_length,
            positions="all",
            device=device,
        )
        return embed(model, ready)

    def _probe(self, model: nn.Module) -> Any:
        key = _hash(model) if self.fresh else "first"
        if key not in self._probes:
            seen = self.embed(model, self.train).numpy()
            self._probes[key] = linear_probe(max_iter=1000).fit(seen, labels_of(self.train))
        return self._probes[key]


def labels_of(examples: Sequence[Example]) -> list[str]:
    """Return the labels as strings.

    Raises:
        ValueError: an example has none.
    """
    missing = next((i for i, example in enumerate(examples) if example.label is None), None)
    if missing is not None:
        raise ValueError(f'got example {missing} without a label; expected {{"text": ..., "label": ...}} in every line')
    return [str(example.label) for example in examples]


def similarity_kept(before: Float[Tensor, "n d"], after: Float[Tensor, "n k"]) -> float:
    """Correlate the cosine similarities of all pairs of examples before an edit with those after it.

    Returns:
        Pearson's correlation in [-1, 1]; 1 when the geometry is the same up to a monotone line.

    Raises:
        ValueError: other examples, fewer than three, or similarities that are all the same.
    """
    if len(before) != len(after) or len(before) < _FEWEST:
        raise ValueError(f"got {len(before)} and {len(after)} examples; expected equally many, at least {_FEWEST}")
    pairs = torch.stack([_similarities(x) for x in (before, after)])
    pairs = pairs - pairs.mean(1, keepdim=True)
    size = pairs.norm(dim=1).prod()
    if size == 0:
        raise ValueError("got embeddings whose similarities are all the same; expected examples that differ")
    return float((pairs[0] @ pairs[1]) / size)


def _similarities(x: Tensor) -> Tensor:
    unit = nn.functional.normalize(x.double(), dim=1)
    i, j = torch.triu_indices(len(x), len(x), offset=1)
    return (unit @ unit.T)[i, j]


def _hash(model: nn.Module) -> str:
    """Identify the exact weights; a sample of them, as in `fingerprint`, could miss a sparse edit."""
    digest = hashlib.blake2b(digest_size=16)
    for parameter in model.parameters():
        digest.update(parameter.detach().flatten().cpu().view(torch.uint8).numpy().data)
    return digest.hexdigest()
