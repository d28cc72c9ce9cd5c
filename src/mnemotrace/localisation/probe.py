r"""Probes with few units: which units of a layer tell a label, how many are enough, and what chance would have told.

For labels of -1 and 1, one class against the rest where there are more than two,

.. math:: \min_{w, b} \frac1n \sum_i \log(1 + e^{-y_i (x_i w + b)}) + \lambda \lVert w \rVert_1

Rows are split by family of stimuli (the same person, picture or template is never on both sides), standardised by the
training rows, solved along a path of penalties, one of which unseen families choose; then the units that it uses are
fitted again without the penalty. Test families are read once, at the end. Beside it stand all units with a ridge (the
ceiling), `k` units (the curve), random labels of equal frequencies with as many units (the control), and how often each
unit is chosen on half the families (`stability`).

`evaluation.depth` and `evaluation.encoder` ask another question, is a memory hidden or gone, with scikit-learn's dense
probe; here the question is where it is.

Reference: Tibshirani 1996; control tasks, Hewitt and Liang 2019; `k`-sparse probes, Gurnee et al. 2023. Cost: for each
class three paths (fit, train, control) and `stability` solves. Memory: `n d` numbers in float64, twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mnemotrace.core.artifact import Artifact, library_version, within
from mnemotrace.core.linalg import require_finite
from mnemotrace.localisation.probe_controls import ceiling, control, curve, interval
from mnemotrace.localisation.probe_rows import Rows, labelled
from mnemotrace.localisation.probe_solvers import choose
from mnemotrace.localisation.probe_split import split_families
from mnemotrace.localisation.sparse_path import ClassPath, Path, class_path, shares
from mnemotrace.localisation.stability import stability as frequencies

_CONTROLS = 5


@dataclass(frozen=True, eq=False)
class Probe:
    """A sparse linear probe beside its ceiling and its controls.

    Attributes:
        directions: in units of the raw activations; one row for two labels, pointing to the second, else one a class.
        intercepts: `probe.scores(x)` is `x @ directions.T + intercepts`.
        support: units that are used; one of another column's zeros may be used with a weight that is small.
        frequency: how often a unit is used on half of the families; empty where it was not asked for.
        path: penalties, units used and loss on unseen families.
        curve: test accuracy of probes with at most `k` units a class, by `k`.
        classes: the labels, rising.
        accuracy: on test families.
        interval: of the accuracy, 95 %, test families drawn again.
        dense: test accuracy of all units.
        control: test accuracies of random labels with as many units.
        capacity: accuracies of the same on the rows that they were fitted to.
        chance: share of the most frequent label in the test.
        manifest: provenance.
    """

    directions: Float[Tensor, "k d"]
    intercepts: Float[Tensor, " k"]
    support: Bool[Tensor, "k d"]
    frequency: Float[Tensor, "k d"]
    path: Path
    curve: Mapping[int, float]
    classes: tuple[int, ...]
    accuracy: float
    interval: tuple[float, float]
    dense: float
    control: tuple[float, ...]
    capacity: tuple[float, ...]
    chance: float
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "probe"

    @property
    def selectivity(self) -> float:
        """Accuracy less the mean accuracy of random labels."""
        return self.accuracy - sum(self.control) / len(self.control)

    def scores(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Return log-odds of raw activations.

        Raises:
            ValueError: another width.
        """
        if x.shape[-1] != self.directions.shape[1]:
            raise ValueError(
                f"got activations {tuple(x.shape)}; expected {self.directions.shape[1]} on the last axis; "
                "use the probe where it was fitted"
            )
        return x.to(self.directions) @ self.directions.T + self.intercepts

    def predict(self, x: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
        """Return the label of raw activations."""
        return labelled(self.scores(x), torch.tensor(self.classes, device=self.directions.device))

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        tensors = {name: getattr(self, name) for name in ("directions", "intercepts", "support", "frequency")}
        tensors |= {f"path.{name}": getattr(self.path, name) for name in ("penalties", "units", "loss", "error")}
        numbers = ("accuracy", "dense", "chance")
        lists = ("classes", "interval", "control", "capacity")
        header = {name: getattr(self, name) for name in numbers} | {name: list(getattr(self, name)) for name in lists}
        header |= {"curve": [[k, value] for k, value in self.curve.items()], "chosen": list(self.path.chosen)}
        return Artifact(self.kind, header | {"manifest": dict(self.manifest)}, tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Probe":
        """Rebuild from an artifact."""
        header, tensors = dict(artifact.header), artifact.tensors
        path = Path(
            **within(tensors, "path."),
            chosen=tuple(header.pop("chosen")),
        )
        lists = {name: tuple(header.pop(name)) for name in ("classes", "interval", "control", "capacity")}
        curve = {int(k): value for k, value in header.pop("curve")}
        own = {name: value for name, value in tensors.items() if not name.startswith("path.")}
        return cls(**own, **lists, **header, path=path, curve=curve)  # type: ignore[arg-type]


def probe(
    x: Float[Tensor, "n d"],
    y: Int[Tensor, " n"],
    *,
    groups: Int[Tensor, " n"] | Sequence[Any] | None = None,
    backend: str = "auto",
    penalties: int = 20,
    stability: int = 50,
    test: float = 0.25,
    generator: torch.Generator | None = None,
) -> Probe:
    """Fit a probe with few units and everything that it has to be compared with.

    Args:
        x: activations, a row a stimulus, as `mt.responses` gives them; solved in float64 where they are.
        y: integer labels, two or more.
        groups: family of each row, of anything hashable; families are never divided. None: every row is its own.
        backend: `auto`, `skglm`, `celer`, `fista`, `saga`, `liblinear`, see `probe_solvers.choose`.
        penalties: on the path, at least 2; 20 from the largest to a fiftieth.
        stability: halves for the frequencies; 0 leaves them out.
        test: share of the families to test on; as large a share of the others chooses the penalty.
        generator: of splits, halves, controls and resamples; None is one of seed 0.

    Returns:
        Probe.

    Raises:
        ValueError: shapes that do not fit, one label only, too few families of a label, settings that cannot be.
        TypeError: labels that are no integers.
        NonFiniteError: NaN or infinity in the activations.
    """
    source = torch.Generator().manual_seed(0) if generator is None else generator
    _check(x, y, penalties, stability)
    backend = choose(backend, x.device)
    settings = {"backend": backend, "penalties": penalties, "stability": stability, "test": test}
    split = split_families(y.cpu(), groups, test=test, generator=source)
    rows, mean, scale = Rows.standardised(x, y, split)
    paths = [class_path(rows, c, penalties, backend) for c in range(rows.targets.shape[1])]
    used = torch.stack([path.weights != 0 for path in paths])
    weights = torch.stack([path.debiased[0] for path in paths])
    offsets = weights.new_tensor([path.debiased[1] for path in paths])
    right = rows.right(weights, offsets)
    directions = weights / scale
    halves = [_frequency(rows, c, path, settings, source) for c, path in enumerate(paths)]
    controls = [control(rows, used.sum(1).tolist(), penalties, backend, source) for _ in range(_CONTROLS)]
    return Probe(
        directions=directions.cpu(),
        intercepts=(offsets - directions @ mean).cpu(),
        support=used.cpu(),
        frequency=torch.stack(halves).float().cpu() if stability else torch.empty(len(paths), 0),
        path=Path.of(paths, shares(penalties)),
        curve=curve(rows, paths),
        classes=tuple(rows.classes.tolist()),
        accuracy=float(right.double().mean()),
        interval=interval(right.cpu(), split.family[split.test], source),
        dense=ceiling(rows),
        control=tuple(test for test, _ in controls),
        capacity=tuple(train for _, train in controls),
        chance=float(rows.y[rows.test].unique(return_counts=True)[1].max()) / len(split.test),
        manifest={
            "method": "sparse probe",
            **settings,
            "seed": source.initial_seed(),
            "rows": split.rows,
            "version": library_version(),
        },
    )


def _frequency(
    rows: Rows, c: int, path: ClassPath, settings: Mapping[str, Any], source: torch.Generator
) -> Float[Tensor, " d"]:
    return frequencies(
        rows.z[rows.train],
        rows.targets[rows.train, c],
        path.penalty,
        family=rows.split.family[rows.train.cpu()],
        subsamples=settings["stability"],
        start=path.solutions[path.chosen],
        backend=settings["backend"],
        generator=source,
    )


def _check(x: Tensor, y: Tensor, penalties: int, stability: int) -> None:
    if x.ndim != 2 or y.ndim != 1 or len(x) != len(y) or 0 in x.shape:  # noqa: PLR2004
        raise ValueError(
            f"got activations {tuple(x.shape)} and labels {tuple(y.shape)}; expected (n, d) and (n,); give a row and a "
            "label a stimulus"
        )
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise TypeError(f"got labels of {y.dtype}; expected integers; y.long() of a mask will do")
    if penalties < 2 or stability < 0:  # noqa: PLR2004
        raise ValueError(f"got penalties={penalties}, stability={stability}; expected at least 2 and 0")
    require_finite(x, "the activations")
