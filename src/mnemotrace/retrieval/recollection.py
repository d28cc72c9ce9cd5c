"""What a backward recall gives: pictures beside their controls. Cost: none."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.artifact import Artifact, within
from mnemotrace.retrieval.rules import Rules


@dataclass(frozen=True, eq=False)
class Recollection:
    """Pictures that a network recalled, beside their controls.

    Attributes:
        images: `(b, ...)`, in the shape of the network's input.
        source: what it was recalled from.
        rules: how.
        bits: of the trace that the rules used, a sample, by kind and in total.
        sensitivity: mean correlation over samples with the picture from no source (`zero`) and from a wrong one.
        unreversed: operations that have no rule and went back with their true gradient.
        controls: those pictures.
        manifest: provenance.
    """

    images: Float[Tensor, "b *input"]
    source: str
    rules: Rules
    bits: Mapping[str, float]
    sensitivity: Mapping[str, float] = field(default_factory=dict[str, float])
    unreversed: tuple[str, ...] = ()
    controls: Mapping[str, Float[Tensor, "b *input"]] = field(default_factory=dict[str, Tensor])
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "recollection"

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        tensors = {"images": self.images} | {f"control.{name}": image for name, image in self.controls.items()}
        header = {
            "source": self.source,
            "rules": asdict(self.rules),
            "bits": dict(self.bits),
            "sensitivity": dict(self.sensitivity),
            "unreversed": list(self.unreversed),
            "manifest": dict(self.manifest),
        }
        return Artifact(self.kind, header, tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Recollection":
        """Rebuild from an artifact."""
        header = dict(artifact.header)
        header |= {"rules": Rules(**header["rules"]), "unreversed": tuple(header["unreversed"])}
        tensors = artifact.tensors
        found = within(tensors, "control.")
        return cls(images=tensors["images"], controls=found, **header)


def correlation(a: Float[Tensor, "b *d"], b: Float[Tensor, "b *d"]) -> float:
    """Mean over samples of the correlation of two pictures; 0 for a constant one."""
    rows = [t.flatten(1).double() - t.flatten(1).double().mean(1, keepdim=True) for t in (a, b)]
    norms = rows[0].norm(dim=1) * rows[1].norm(dim=1)
    r = (rows[0] * rows[1]).sum(1) / torch.where(norms > 0, norms, torch.ones_like(norms))
    return float(r.mean())
