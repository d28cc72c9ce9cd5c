"""Found concepts: the value of a discovery, groups of examples with the criteria of their engrams, beside controls."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.evaluation.criteria import Criteria
from mnemotrace.localisation.agreement import Agreement, matching
from mnemotrace.localisation.clustering import Tried

_TENSORS = ("groups", "members", "kept", "judge", "confusion", "overlap")


@dataclass(frozen=True, eq=False)
class Concept:
    """One group of examples, and how its engram fares.

    Attributes:
        kind: where the group comes from: `discovered`, `labels`, `untrained` or `random`.
        name: number of the group, of the latent or of the class.
        examples: how many the engram comes from.
        held_out: how many judge it.
        score: silhouette, None where nothing was clustered.
        stability: Jaccard index, None likewise.
        criteria: the four, None where they could not be measured.
        reason: why not.
    """

    kind: str
    name: str
    examples: int
    held_out: int
    score: float | None
    stability: float | None
    criteria: Criteria | None
    reason: str = ""

    @property
    def proven(self) -> bool:
        """Whether every criterion's interval lies above that of matched random traces."""
        return self.criteria is not None and all(
            one.interval[0] > one.control_interval[1] for one in self.criteria.values()
        )


@dataclass(frozen=True, eq=False)
class Discovery:
    """Proposed concepts beside controls.

    Attributes:
        concepts: of all kinds, the discovered first.
        groups: `(n,)`, the discovered group of each example; -1 for noise. Of latents the strongest.
        members: `(n, k)`, the examples of each discovered concept; latents may share some.
        kept: `(n,)`, examples that are a target or a reference: all that are no noise.
        judge: `(n,)`, those that judged; the others proposed.
        agreement: of groups with the labels, on the examples that judged, by kind; empty without labels.
        confusion: `(k, c)`, examples that judged, by discovered concept and class; None without labels.
        overlap: `(k, c)`, cosines of discovered engrams and those of the labels; None without labels.
        classes: the labels, in the order of the axis `c`.
        stability: adjusted Rand index of the groups of two halves; of latents the smallest Jaccard index.
        null: the largest of the same where there is no structure.
        tried: the numbers of groups that were tried.
        absent: kinds that are missing, with the reason.
        manifest: provenance.
    """

    concepts: tuple[Concept, ...]
    groups: Int[Tensor, " n"]
    members: Bool[Tensor, "n k"]
    kept: Bool[Tensor, " n"]
    judge: Bool[Tensor, " n"]
    agreement: Mapping[str, Agreement]
    confusion: Int[Tensor, "k c"] | None
    overlap: Float[Tensor, "k c"] | None
    classes: tuple[int, ...]
    stability: float
    null: float
    tried: tuple[Tried, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict[str, str])
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "discovery"

    @property
    def structured(self) -> bool:
        """Whether the groups are more stable than groups of what has no structure."""
        return self.stability > self.null

    @property
    def found(self) -> tuple[int, ...]:
        """The discovered concepts that passed, by index; none where there is no structure."""
        mine = self.of("discovered")
        return tuple(i for i, one in enumerate(mine) if one.proven) if self.structured else ()

    def of(self, kind: str) -> tuple[Concept, ...]:
        """Return the concepts of a kind."""
        return tuple(one for one in self.concepts if one.kind == kind)

    def target(self, index: int) -> Int[Tensor, " t"]:
        """Return the examples that a discovered concept's engram comes from."""
        return (self.members[:, index] & ~self.judge).nonzero()[:, 0]

    def reference(self, index: int) -> Int[Tensor, " r"]:
        """Return the examples that its engram must spare."""
        return (self.kept & ~self.members[:, index] & ~self.judge).nonzero()[:, 0]

    def matches(self) -> dict[int, int]:
        """Pair discovered concepts with classes so that most examples agree; empty without labels."""
        return {} if self.confusion is None else {i: self.classes[j] for i, j in matching(self.confusion)}

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        header = {
            "concepts": [_plain(one) for one in self.concepts],
            "agreement": {kind: asdict(one) for kind, one in self.agreement.items()},
            "classes": list(self.classes),
            "stability": self.stability,
            "null": self.null,
            "tried": [asdict(one) for one in self.tried],
            "absent": dict(self.absent),
            "manifest": dict(self.manifest),
        }
        tensors = {name: getattr(self, name) for name in _TENSORS}
        return Artifact(self.kind, header, {name: one for name, one in tensors.items() if one is not None})

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Discovery":
        """Rebuild from an artifact."""
        values = dict(artifact.header)
        values["concepts"] = tuple(map(_concept, values["concepts"]))
        values["agreement"] = {
            kind: Agreement(**(one | {"chance": tuple(one["chance"])})) for kind, one in values["agreement"].items()
        }
        values["classes"] = tuple(values["classes"])
        values["tried"] = tuple(Tried(**one) for one in values["tried"])
        tensors: dict[str, Any] = {name: artifact.tensors.get(name) for name in _TENSORS}
        return cls(**values, **tensors)


def _plain(one: Concept) -> dict[str, Any]:
    values = {name: getattr(one, name) for name in one.__dataclass_fields__}
    return values | {"criteria": None if one.criteria is None else dict(one.criteria.pack().header)}


def _concept(values: Mapping[str, Any]) -> Concept:
    found = values["criteria"]
    return Concept(**{**values, "criteria": None if found is None else Criteria.unpack(Artifact("criteria", found))})
