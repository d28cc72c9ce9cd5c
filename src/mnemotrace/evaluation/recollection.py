"""A recall beside its controls: sources, traces and weights that are not its own, and the ceiling of a linear recall.

A picture that comes back proves nothing by itself. Each row of the evidence changes one thing and measures the same:

| row | changed | what it shows |
|---|---|---|
| `own` | nothing | the recall |
| `wrong source`, `random source`, `zero source` | the unit that is recalled | whether the pointer matters |
| `donor, other class`, `donor, same class` | the trace: another image's | whose picture the trace makes it |
| `no trace` | neither switches nor gates | what is left for pointer and weights |
| `weights shuffled`, `untrained` | the weights | what learning has to do with it |
| `ceiling: class`, `ceiling: SITE` | a ridge decoder instead of the network | the best of linear recalls |

The donor's rows are compared twice: with the image that was cued, and with the donor. Decoders are fitted on other
images (`retrieval.prototypes`). A source counts as ignored when the picture from a zero source correlates with the
recall by .999 or more; evidence and recall then warn.

Reference: Adebayo et al. 2018 and Nie et al. 2018, for guided backpropagation. Cost: nine recalls of each image, a
comparison of each row with all images (`similarity`), and a ridge regression a site.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemotrace.adapters.hooks import evaluating
from mnemotrace.adapters.twins import untrained_twin
from mnemotrace.core.artifact import Artifact, fingerprint, library_version
from mnemotrace.core.errors import SourceIgnored
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.progress import Progress, silent
from mnemotrace.evaluation.capacity import Rate
from mnemotrace.evaluation.recalling import OTHER, SAME, Cued, ceilings, donors
from mnemotrace.evaluation.similarity import Likeness, Means, likeness
from mnemotrace.retrieval.backward import IGNORED, correlation
from mnemotrace.retrieval.prototypes import RIDGE
from mnemotrace.retrieval.rules import Rules

_RATES = ("identified", "in_class")
_MEANS = ("correlation", "high_pass", "edges", "structure")


@dataclass(frozen=True)
class Row:
    """One way of recalling, measured.

    Attributes:
        cued: likeness to the image whose unit was recalled.
        donor: likeness to the image whose trace was used, where that is another.
        note: of the row: the rank of a decoder.
    """

    cued: Likeness
    donor: Likeness | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class RecollectionEvidence:
    """A recall with its controls.

    Attributes:
        rows: by name, the recall first.
        images: by name of the row, `(shown, c, h, w)` of it; `original` and `donor, other class: original` beside.
        bits: of a sample's trace, by kind and in total: an upper bound.
        sensitivity: mean correlation of the recall with the picture from a `zero` and a `wrong` source.
        manifest: provenance: network, rules, seed, regulariser, what was left out and why.
    """

    rows: Mapping[str, Row]
    images: Mapping[str, Float[Tensor, "shown c h w"]]
    bits: Mapping[str, float]
    sensitivity: Mapping[str, float]
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "recollection_evidence"

    @property
    def source_ignored(self) -> bool:
        """Whether the recall does not depend on what was recalled."""
        return self.sensitivity["zero"] >= IGNORED

    def table(self) -> list[dict[str, Any]]:
        """Return a line a row: the name, then the numbers; those with a donor have two lines."""
        lines: list[dict[str, Any]] = []
        for name, row in self.rows.items():
            lines.append(_line(name, row.cued, row.note))
            if row.donor is not None:
                lines.append(_line(f"{name}, with the donor", row.donor, row.note))
        return lines

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        header = {"rows": {name: asdict(row) for name, row in self.rows.items()}, "images": list(self.images)}
        header |= {name: dict(getattr(self, name)) for name in ("bits", "sensitivity", "manifest")}
        return Artifact(self.kind, header, {f"image.{i}": image for i, image in enumerate(self.images.values())})

    @classmethod
    def unpack(cls, artifact: Artifact) -> "RecollectionEvidence":
        """Rebuild from an artifact."""
        head = artifact.header
        rows = {name: Row(_likeness(r["cued"]), _likeness(r["donor"]), r["note"]) for name, r in head["rows"].items()}
        images = {name: artifact.tensors[f"image.{i}"] for i, name in enumerate(head["images"])}
        return cls(rows, images, head["bits"], head["sensitivity"], head["manifest"])


def examine(
    model: nn.Module,
    images: Float[Tensor, "b c h w"],
    labels: Int[Tensor, " b"],
    *,
    rules: Rules | None = None,
    units: Int[Tensor, " b"] | None = None,
    learn: tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]] | None = None,
    sites: Sequence[str] = (),
    ridge: float = RIDGE,
    untrained: nn.Module | None = None,
    shown: int = 8,
    batch: int = 64,
    generator: torch.Generator,
    progress: Progress = silent,
) -> RecollectionEvidence:
    """Recall images and measure the recall beside its controls.

    Args:
        model: a classifier that takes a batch of images and gives `(b, k)`; it is not changed.
        images: that are cued, in the network's own input space; not seen by `learn`.
        labels: their classes.
        rules: of the recall; None is the published one.
        units: which output is recalled, one an image; None takes the class that the network says.
        learn: other images with labels, to fit the ceilings; None leaves the ceilings out.
        sites: modules whose output a ceiling is fitted on, beside the class.
        ridge: of the decoders, in units of the mean eigenvalue.
        untrained: the same architecture untrained; None copies the network and lets its modules draw anew.
        shown: how many images of each row are kept for a picture.
        batch: images that are recalled at a time.
        generator: of wrong units, random sources, donors, weights.
        progress: called after each row.

    Raises:
        TypeError: what the network gives is no `(b, k)` tensor.
        ValueError: other shapes, an image that has no donor, a site that does not exist, or modules that cannot draw
            anew.
        NonFiniteError: NaN or infinity in the images.

    Warns:
        SourceIgnored: the recall is the same from a zero source.
    """
    cued = _cued(model, images, labels, units, rules=rules or Rules.headline(), batch=batch)
    twin = untrained or untrained_twin(model, generator=generator)
    chosen = (generator.initial_seed(), ridge, "given" if untrained is not None else "its modules drew anew")
    other_class, same_class = donors(labels, generator=generator)
    borrowed = {OTHER: other_class, SAME: same_class}
    found: dict[str, Tensor] = {}
    rows: dict[str, Row] = {}
    ways = cued.ways(twin, borrowed, generator)
    for name, recall in ways.items():
        found[name] = recall()
        rows[name] = _measured(found[name], images, labels, borrowed.get(name))
        progress(len(rows), len(ways), "ways to recall")
    for name, decoded, note in ceilings(cued, learn, sites, ridge=ridge, progress=progress):
        found[name], rows[name] = decoded, Row(likeness(decoded, images, labels=labels), note=note)
    kept = {"original": images, **found, f"{OTHER}: original": images[other_class]}
    evidence = RecollectionEvidence(
        rows=rows,
        images={name: picture[:shown].detach().cpu().float() for name, picture in kept.items()},
        bits=cued.bits(),
        sensitivity={name: correlation(found["own"], found[f"{name} source"]) for name in ("zero", "wrong")},
        manifest=_manifest(cued, sites, chosen),
    )
    _warn(evidence)
    return evidence


def _cued(model: nn.Module, images: Tensor, labels: Tensor, units: Tensor | None, *, rules: Rules, batch: int) -> Cued:
    if images.ndim != 4 or labels.shape != (len(images),) or batch < 1:  # noqa: PLR2004
        raise ValueError(
            f"got images of shape {tuple(images.shape)}, labels of shape {tuple(labels.shape)} and batch={batch}; "
            "expected (b, c, h, w), one label an image, and a batch of at least one"
        )
    require_finite(images, "the images")
    with evaluating(model):
        parts: list[Any] = [model(part) for part in images.split(batch)]
    if not isinstance(parts[0], Tensor) or parts[0].ndim != 2:  # noqa: PLR2004
        what = tuple(parts[0].shape) if isinstance(parts[0], Tensor) else type(parts[0]).__name__
        raise TypeError(f"got {what} from the network; expected scores (b, k); wrap it in a module that returns them")
    outputs = torch.cat(parts)
    chosen = outputs.argmax(1) if units is None else units
    if chosen.shape != labels.shape or not bool(((chosen >= 0) & (chosen < outputs.shape[1])).all()):
        raise ValueError(
            f"got units of shape {tuple(chosen.shape)} up to {int(chosen.max())}; expected one an image, from 0 to "
            f"{outputs.shape[1] - 1}"
        )
    return Cued(model, images, chosen, outputs.shape[1], rules, batch)


def _measured(found: Tensor, images: Tensor, labels: Tensor, borrowed: Tensor | None) -> Row:
    donor = None if borrowed is None else likeness(found, images, labels=labels, own=borrowed)
    return Row(likeness(found, images, labels=labels), donor)


def _warn(evidence: RecollectionEvidence) -> None:
    if evidence.source_ignored:
        warnings.warn(
            f"source ignored: the recall correlates {evidence.sensitivity['zero']:.6f} with the picture from a zero "
            "source; what it shows comes from trace and weights; compare Rules.image() or Rules.guided(), and see the "
            "donor's rows",
            SourceIgnored,
            stacklevel=3,
        )


def _manifest(cued: Cued, sites: Sequence[str], chosen: tuple[int, float, str]) -> dict[str, Any]:
    seed, ridge, untrained = chosen
    return {
        "base": fingerprint(cued.model),
        "rules": asdict(cued.rules),
        "sites": list(sites),
        "seed": seed,
        "ridge": ridge,
        "untrained": untrained,
        "version": library_version(),
    }


def _line(name: str, found: Likeness, note: str) -> dict[str, Any]:
    line: dict[str, Any] = {"name": name}
    for measure in _MEANS:
        line |= {f"{measure}, {of}": value for of, value in asdict(getattr(found, measure)).items()}
    return line | {"identified": found.identified.value, "in class": found.in_class.value, "note": note}


def _likeness(head: Any) -> Any:
    if head is None:
        return None
    means = {name: Means(**head[name]) for name in _MEANS}
    return Likeness(**{**head, **means, **{name: Rate(**head[name]) for name in _RATES}})
