r"""How well names are learnt from one and from few examples, beside plain classifiers on the very same features.

A draw takes `n` examples of each name at random; every method learns from these, in the same order, and names all test
examples. Many draws are needed: with one example a name, accuracy on the published task has a standard deviation of
0.1 over draws. What can be said about a naming rule is the difference to the baselines on equal features:

* *nearest prototype*: the mean example, by cosine; and by distance, each feature in units of its unlabelled spread;
* *SVM* with a radial kernel, as wide as the features vary, and features as they are: they have one unit. With one
  example a name this is the nearest example, whatever the kernel;
* *SVM as published* (if asked for): the same, each feature standardised by mean and spread of the few examples that it
  learns from. With two of them every feature that differs at all counts alike: that is what cost it 0.15.

Intervals of a mean over draws are bootstrapped over draws and leave out the luck of the test examples, which all draws
share; of a single draw they are Wilson's. Cost: `draws` times learning and naming, `m d` a name.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemotrace.core.artifact import Artifact, library_version
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.progress import Progress, silent
from mnemotrace.evaluation.capacity import Rate, wilson
from mnemotrace.evaluation.protocol import check_protocol, warn_of_few
from mnemotrace.formation.naming import Namer

PUBLISHED = "SVM as published"
BASELINES = ("nearest prototype, cosine", "nearest prototype, distance", "SVM")
_RESAMPLES = 2000


@dataclass(frozen=True, eq=False)
class NamingEvidence:
    """Accuracy of naming rules and of baselines on the same features, draws and test examples.

    Attributes:
        counts: numbers of examples a name.
        accuracy: by method, `(counts, draws)`, float64.
        names: how many there are.
        tested: number of test examples.
        warnings: what is wrong with the protocol, in words.
        manifest: provenance.
    """

    counts: tuple[int, ...]
    accuracy: Mapping[str, Float[Tensor, "counts draws"]]
    names: int
    tested: int
    warnings: tuple[str, ...] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "naming_evidence"

    @property
    def chance(self) -> float:
        """Accuracy of a guesser, with names equally frequent."""
        return 1 / self.names

    def rate(self, method: str, count: int | None = None) -> Rate:
        """Return the mean accuracy over draws with its 95 % interval.

        Args:
            method: one of `accuracy`.
            count: examples a name; None is the first.

        Raises:
            ValueError: a method or count that was not measured.
        """
        if method not in self.accuracy or (count is not None and count not in self.counts):
            raise ValueError(
                f"got {method!r} with {count} examples; expected one of {', '.join(self.accuracy)}, with one of "
                f"{self.counts}"
            )
        found = self.accuracy[method][0 if count is None else self.counts.index(count)]
        if len(found) == 1:
            return wilson(float(found[0]), self.tested)
        source = torch.Generator().manual_seed(0)
        drawn = found[torch.randint(len(found), (_RESAMPLES, len(found)), generator=source)].mean(1)
        low, high = torch.quantile(drawn, torch.tensor([0.025, 0.975], dtype=drawn.dtype)).tolist()
        return Rate(float(found.mean()), low, high)

    def median(self, method: str, count: int | None = None) -> float:
        """Return the median accuracy over draws."""
        self.rate(method, count)
        return float(self.accuracy[method][0 if count is None else self.counts.index(count)].median())

    def table(self) -> str:
        """Lay mean accuracies out: a method a line, a count a column."""
        width = max(len(method) for method in self.accuracy)
        lines = [" ".join(["examples a name".ljust(width), *(f"{count:>6}" for count in self.counts)])]
        for method, found in self.accuracy.items():
            lines.append(" ".join([method.ljust(width), *(f"{value:6.3f}" for value in found.mean(1).tolist())]))
        return "\n".join(lines)

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        header = {"counts": list(self.counts), "methods": list(self.accuracy), "names": self.names}
        header |= {"tested": self.tested, "warnings": list(self.warnings), "manifest": dict(self.manifest)}
        return Artifact(self.kind, header, {f"accuracy.{i}": a for i, a in enumerate(self.accuracy.values())})

    @classmethod
    def unpack(cls, artifact: Artifact) -> "NamingEvidence":
        """Rebuild from an artifact."""
        header = dict(artifact.header)
        found = {name: artifact.tensors[f"accuracy.{i}"] for i, name in enumerate(header.pop("methods"))}
        header |= {name: tuple(header[name]) for name in ("counts", "warnings")}
        return cls(accuracy=found, **header)


def one_shot(
    features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], test: tuple[Tensor, Tensor], **options: Any
) -> NamingEvidence:
    """Measure with one example a name: `few_shot` with `counts=(1,)` and 150 draws."""
    return few_shot(features, labels, test, **({"counts": (1,), "draws": 150} | options))


def few_shot(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    test: tuple[Float[Tensor, "m d"], Int[Tensor, " m"]],
    *,
    namers: Mapping[str, Callable[[], Namer]] | None = None,
    counts: Sequence[int] = (1, 2, 5, 10, 20),
    draws: int = 20,
    unlabelled: Float[Tensor, "u d"] | None = None,
    published: bool = False,
    images: tuple[Tensor, Tensor] | None = None,
    generator: torch.Generator | None = None,
    progress: Progress = silent,
) -> NamingEvidence:
    """Measure naming rules and baselines on the same features.

    Args:
        features: that examples are drawn from.
        labels: whole numbers.
        test: features and labels.
        namers: by what they are called, functions without arguments that make a namer which knows nothing.
        counts: numbers of examples a name.
        draws: how often examples are drawn for each count.
        unlabelled: whose spread scales the distance to prototypes; None takes `features`, without their labels.
        published: also the published baseline; it warns where it learns from fewer than ten examples.
        images: training and test images, to be checked for overlap.
        generator: of the draws, and of new synapses; None is seeded with 0.
        progress: called after each draw.

    Returns:
        NamingEvidence, of the namers and of all baselines.

    Raises:
        ValueError: shapes that do not fit, a label with too few examples or none to test, or no draw.
        NonFiniteError: NaN or infinity.
        ProtocolError: an image in both halves.
        ImportError: scikit-learn is missing.
    """
    rows = _require(features, labels, test, counts, draws)
    generator = generator or torch.Generator().manual_seed(0)
    given = dict(namers or {})
    warned = () if images is None else check_protocol(*images)
    warned += warn_of_few(min(counts) * len(rows)) if published else ()
    baselines = _Baselines(features if unlabelled is None else unlabelled, published)
    names = [*given, *BASELINES, *([PUBLISHED] if published else [])]
    accuracy = {name: torch.zeros(len(counts), draws, dtype=torch.float64) for name in names}
    for i, count in enumerate(counts):
        for j in range(draws):
            drawn = torch.cat([row[torch.randperm(len(row), generator=generator)[:count]] for row in rows])
            drawn = drawn[torch.randperm(len(drawn), generator=generator)]
            x, y = features[drawn], labels[drawn]
            found = {name: _named(make(), x, y, test[0], generator) for name, make in given.items()}
            for name, guess in (found | baselines(x, y, test[0])).items():
                accuracy[name][i, j] = (guess == test[1]).double().mean()
            progress(i * draws + j + 1, len(counts) * draws, "draws")
    manifest = {"method": "few_shot", "draws": draws, "seed": generator.initial_seed(), "version": library_version()}
    manifest |= {"protocol": "not checked" if images is None else "checked"}
    return NamingEvidence(tuple(counts), accuracy, len(rows), len(test[1]), warned, manifest)


def _named(namer: Namer, x: Tensor, y: Tensor, test: Tensor, generator: torch.Generator) -> Tensor:
    namer.learn(x, y, generator=generator)
    return torch.tensor(namer.best(test))


@dataclass(frozen=True, eq=False)
class _Baselines:
    """Classifiers that learn from a few examples, with scales from unlabelled ones."""

    unlabelled: Tensor
    published: bool

    def __call__(self, x: Tensor, y: Tensor, test: Tensor) -> dict[str, Tensor]:
        known = y.unique()
        spread = self.unlabelled.std(0, correction=0)
        each = torch.where(spread > 0, spread, math.inf)  # what never varies says nothing
        prototypes = torch.stack([x[y == name].mean(0) for name in known])
        unit = [torch.nn.functional.normalize(t, dim=1) for t in (test, prototypes)]
        found = {
            BASELINES[0]: known[(unit[0] @ unit[1].T).argmax(1)],
            BASELINES[1]: known[torch.cdist(test / each, prototypes / each).argmin(1)],
            BASELINES[2]: _svm(x, y, test),
        }
        if self.published:
            own = x.std(0, correction=0) + 1e-5
            found[PUBLISHED] = _svm((x - x.mean(0)) / own, y, (test - x.mean(0)) / own)
        return found


def _svm(x: Tensor, y: Tensor, test: Tensor) -> Tensor:
    try:
        from sklearn.svm import SVC
    except ImportError as error:
        raise ImportError("the SVM baseline needs scikit-learn: pip install 'mnemotrace[probes]'") from error
    return torch.as_tensor(SVC(C=1.0, gamma="scale").fit(x.numpy(), y.numpy()).predict(test.numpy()))


def _require(
    features: Tensor, labels: Tensor, test: tuple[Tensor, Tensor], counts: Sequence[int], draws: int
) -> list[Tensor]:
    """Return, for each label, the rows that have it."""
    for x, y, what in ((features, labels, "features"), (*test, "test features")):
        if x.ndim != 2 or y.shape != (len(x),) or y.is_floating_point() or x.shape[1] != features.shape[1]:
            raise ValueError(
                f"got {what} of shape {tuple(x.shape)} with labels of {tuple(y.shape)} ({y.dtype}); expected (n, "
                f"{features.shape[-1]}) and n whole numbers"
            )
        require_finite(x, f"the {what}")
    rows = [(labels == name).nonzero()[:, 0] for name in labels.unique()]
    fewest = min((len(row) for row in rows), default=0)
    if len(rows) < 2 or not counts or min(counts) < 1 or max(counts) > fewest or draws < 1:
        raise ValueError(
            f"got counts={tuple(counts)} and draws={draws} for {len(rows)} names with at least {fewest} examples; "
            f"expected two names or more, counts from 1 to {fewest}, and at least 1 draw"
        )
    unknown = sorted(set(test[1].tolist()) - set(labels.tolist()))
    if unknown or len(test[1]) == 0:
        raise ValueError(
            f"got {len(test[1])} test examples with unknown labels {unknown}; expected some, of known ones"
        )
    return rows
