"""Is a memory gone, or only hidden? Fresh probes at every site, and the curve of relearning.

An edit of the last layer alone silences a memory and leaves its representation whole below. Two measures tell:

* a linear probe, trained afresh on the edited network's inputs at each site and tested on the memory;
* relearning: how fast a few steps of training bring the memory back.

Both stand beside the untouched network and, where there is one, a network that never had the memory ("naive"). A memory
is gone as far as these can see when the edited network looks like the naive one, not when its answers are wrong.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mnemotrace.adapters.hooks import forward
from mnemotrace.adapters.linear import sites as all_sites
from mnemotrace.core.applying import applied, apply
from mnemotrace.core.artifact import Artifact, fingerprint, library_version
from mnemotrace.core.edit import Edit
from mnemotrace.core.site import Site
from mnemotrace.evaluation.passes import Pass, by_example


@dataclass(frozen=True)
class Labelled:
    """Examples for a probe.

    Attributes:
        batches: what the network takes, examples first.
        labels: `(n,)` integers over all batches in order.
        position: `(n,)` which position of a sequence to probe; None takes the mean over positions.
    """

    batches: Sequence[Any]
    labels: Tensor
    position: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Depth:
    """How deep an edit reaches.

    Attributes:
        probe: accuracy on the memory by site: `before`, `after` and, with a naive network, `naive`.
        relearning: score of the memory after each number of training steps: `steps`, `after`, and whichever of
            `before`, `naive`, `random` was given.
        chance: accuracy of a guesser.
        manifest: provenance.
    """

    probe: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])
    relearning: Mapping[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])
    chance: float = 0.0
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "depth"

    def steps_to(self, level: float, which: str = "after") -> int | None:
        """Return how many training steps bring the score to `level`; None when none measured does."""
        pairs = zip(self.relearning["steps"], self.relearning[which], strict=True)
        return next((int(step) for step, score in pairs if score >= level), None)

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        return Artifact(self.kind, asdict(self))

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Depth":
        """Rebuild from an artifact."""
        return cls(**artifact.header)


@dataclass(frozen=True)
class Relearning:
    """How to teach the memory again.

    Attributes:
        loss: `loss(model, batch)`, a scalar.
        batches: one a step, cycled.
        score: `score(model)`, of the memory on data not trained on.
        steps: numbers of steps after which the score is taken, rising from 0.
        learning_rate: of Adam.

    Raises:
        ValueError: steps that do not rise, or no batch.
    """

    loss: Callable[[nn.Module, Any], Tensor]
    batches: Sequence[Any]
    score: Callable[[nn.Module], float]
    steps: Sequence[int] = (0, 1, 2, 5, 10, 20, 50)
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        """Check before anything is trained."""
        if not self.steps or min(self.steps) < 0 or list(self.steps) != sorted(set(self.steps)):
            raise ValueError(f"got steps {list(self.steps)}; expected numbers of steps that rise from 0")
        if not self.batches:
            raise ValueError("got no batch to learn from; expected at least one")


def depth(
    model: nn.Module,
    edit: Edit,
    *,
    train: Labelled | None = None,
    test: Labelled | None = None,
    sites: Mapping[str, Site] | None = None,
    relearning: Relearning | None = None,
    naive: nn.Module | None = None,
    random: Edit | None = None,
) -> Depth:
    """Probe an edited network and teach it again, beside the untouched and a naive one.

    Args:
        model: the network, unedited; left bit-exact.
        edit: what was done to it.
        train: what the probes learn from: labels of everything, the memory's included for a class, or those of other
            facts for a fact.
        test: the memory, with its true labels.
        sites: where to probe; None for all of `mt.sites(model)`.
        relearning: how to teach it again; None leaves that out.
        naive: a network of the same sites that never had the memory.
        random: an edit by a random trace of equal size (`evaluation.controls.random_trace`), taught beside.

    Returns:
        Depth, with whatever was asked for.

    Raises:
        ValueError: neither probes nor relearning were asked for, or the labels do not fit.
        ImportError: probes need scikit-learn, the extra `mnemotrace[probes]`.
    """
    if (train is None) != (test is None) or (train is None and relearning is None):
        raise ValueError("got no pair of train and test data and no relearning; expected at least one of both")
    probes: dict[str, dict[str, float]] = {}
    chance = 0.0
    if train is not None and test is not None:
        chosen = dict(sites) if sites is not None else all_sites(model)
        chance = 1 / len(train.labels.unique())
        with applied(model, edit):
            after = probe(model, chosen, train=train, test=test)
        series = {"before": probe(model, chosen, train=train, test=test), "after": after}
        if naive is not None:
            series["naive"] = probe(naive, chosen, train=train, test=test)
        probes = {name: {which: by[name] for which, by in series.items()} for name in chosen if name in after}
    curves: dict[str, list[float]] = {}
    if relearning is not None:
        starts = {"before": (model, None), "after": (model, edit), "random": (model, random), "naive": (naive, None)}
        curves = {"steps": [float(step) for step in relearning.steps]} | {
            which: relearn(network, change, relearning)
            for which, (network, change) in starts.items()
            if network is not None and (which != "random" or change is not None)
        }
    manifest = {"base": fingerprint(model), "of": dict(edit.manifest), "version": library_version()}
    return Depth(probes, curves, chance, manifest)


def probe(model: nn.Module, sites: Mapping[str, Site], *, train: Labelled, test: Labelled) -> dict[str, float]:
    """Train a fresh linear probe on what each site reads and return its accuracy on `test`.

    Features are standardised; the probe is scikit-learn's logistic regression with its default penalty.

    Raises:
        ValueError: labels and examples differ in number.
        ImportError: scikit-learn is missing.
    """
    classifier = linear_probe(max_iter=300)
    seen, unseen = features(model, sites, train), features(model, sites, test)
    accuracy: dict[str, float] = {}
    for name, x in seen.items():
        classifier.fit(x.numpy(), train.labels.numpy())
        accuracy[name] = float(classifier.score(unseen[name].numpy(), test.labels.numpy()))
    return accuracy


def linear_probe(*, max_iter: int) -> Any:
    """Make an untrained probe: scikit-learn's logistic regression on standardised features.

    Raises:
        ImportError: scikit-learn is missing.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise ImportError("probes need scikit-learn; pip install 'mnemotrace[probes]'") from error
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=max_iter, tol=1e-3))


def features(model: nn.Module, sites: Mapping[str, Site], data: Labelled) -> dict[str, Tensor]:
    """Return what each site reads, `(n, d)`: at one position of an example, or the mean over positions.

    A site that is read several times in a pass counts with the mean; one whose rows are no examples is left out.

    Raises:
        ValueError: labels and examples differ in number.
    """
    found: dict[str, list[Tensor]] = {}
    reads: dict[str, list[Tensor]] = {}
    done = 0

    def finish() -> None:
        for name, parts in reads.items():
            found.setdefault(name, []).append(torch.stack(parts).mean(0).cpu())
        reads.clear()

    def receive(name: str, rows: Tensor, current: Pass) -> None:
        at = None if data.position is None else data.position[done : done + len(rows)]
        reads.setdefault(name, []).append(_pooled(rows, current, at))

    with by_example(model, sites, receive, finish):
        for batch in data.batches:
            forward(model, batch)
            finish()
            done = max((sum(map(len, parts)) for parts in found.values()), default=0)
    joined = {name: torch.cat(parts) for name, parts in found.items()}
    for name, x in joined.items():
        if len(x) != len(data.labels):
            raise ValueError(f"got {len(data.labels)} labels for {len(x)} examples at {name}; expected one an example")
    return joined


def _pooled(rows: Tensor, current: Pass, at: Tensor | None) -> Tensor:
    """Return `(b, d)`: the rows at given positions where positions are tokens, else the mean over positions."""
    keep = current.keep(rows)
    if at is not None and tuple(rows.shape[:2]) == current.leading:
        return rows[torch.arange(len(rows), device=rows.device), at.to(rows.device)]
    if keep is None:
        return rows.mean(1)
    return (rows * keep).sum(1) / keep.sum(1).clamp_min(1)


def relearn(model: nn.Module, edit: Edit | None, how: Relearning) -> list[float]:
    """Train all weights of a copy of the edited network and return its score of the memory at each of `how.steps`."""
    pupil = deepcopy(model).requires_grad_(True)
    if edit is not None:
        apply(pupil, edit)
    optimiser = torch.optim.Adam(pupil.parameters(), lr=how.learning_rate)
    curve: list[float] = []
    for step in range(max(how.steps) + 1):
        if step:
            optimiser.zero_grad()
            how.loss(pupil, how.batches[(step - 1) % len(how.batches)]).backward()
            optimiser.step()
        if step in how.steps:
            curve.append(float(how.score(pupil)))
    return curve


def label_all(labels: Iterable[str]) -> tuple[Tensor, list[str]]:
    """Number string labels in sorted order; returns `(n,)` and the names."""
    labels = list(labels)
    names = sorted(set(labels))
    index = {name: i for i, name in enumerate(names)}
    return torch.tensor([index[label] for label in labels]), names
