r"""Phase diagram of the smallest toy model: two features, one dimension; which of them is kept, or both on top of it.

Feature 1 has importance 1, feature 2 the importance `ratio`; both have the same `density` p. Three ideal networks can
be compared by hand (:math:`b_i = p/2` for a feature that is dropped, else 0):

* feature 1 alone, :math:`W = (1, 0)`: loss `ratio` :math:`(p/3 - p^2/4)`;
* feature 2 alone, :math:`W = (0, 1)`: loss :math:`p/3 - p^2/4`;
* superposition, :math:`W = (1, -1)`: :math:`|x_i - y_i| = \min(x_1, x_2)`, loss (1 + `ratio`) :math:`p^2/6`.

The least of these is what `predicted` says; training is free to do better, and does at the borders. A trained network
counts as superposition where :math:`\|W\|_F^2 > 1.25`: more than one dimension holds without interference. A network
without ReLU never has it: principal components have :math:`\|W\|_F^2 = 1`.

Reference: Elhage et al. 2022, Toy Models of Superposition, section 4. Cost: 9 x 9 cells of 4 starts, about 8 s.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mnemotrace.core.artifact import Artifact
from mnemotrace.organisms.toy import ToyModels

PHASES = ("first feature", "second feature", "superposition", "nothing")
CROWDED, EMPTY = 1.25, 0.5
DENSITIES = tuple(10 ** (-i / 4) for i in range(9))
RATIOS = tuple(10 ** (i / 4 - 1) for i in range(9))


@dataclass(frozen=True, eq=False)
class PhaseDiagram:
    """Trained networks over densities and importance ratios.

    Attributes:
        densities: of the rows.
        ratios: importance of feature 2 over that of feature 1, of the columns.
        weight: `(rows, columns, 2)`, the best network of each cell.
        losses: `(rows, columns, restarts)`.
        manifest: provenance; `linear` says whether there was a ReLU.
    """

    densities: tuple[float, ...]
    ratios: tuple[float, ...]
    weight: Float[Tensor, "a b two"]
    losses: Float[Tensor, "a b r"]
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "phase_diagram"

    @property
    def phases(self) -> Int[Tensor, "a b"]:
        """What each cell's network does, as index into `PHASES`."""
        squares = self.weight.square()
        found = squares.argmax(-1)
        found[squares.sum(-1) > CROWDED] = 2
        found[squares.sum(-1) < EMPTY] = 3
        return found

    @property
    def predicted(self) -> Int[Tensor, "a b"]:
        """Which of the ideal networks has the least loss, as index into `PHASES`; of a tie the first."""
        return ideal_losses(self.densities, self.ratios, linear=bool(self.manifest.get("linear"))).argmin(0)

    @property
    def agrees(self) -> Bool[Tensor, "a b"]:
        """Whether training ends in a phase whose ideal network has the least loss; of a tie in either."""
        ideal = ideal_losses(self.densities, self.ratios, linear=bool(self.manifest.get("linear")))
        mine = torch.cat([ideal, torch.full_like(ideal[:1], torch.inf)]).gather(0, self.phases[None])[0]
        return mine <= ideal.amin(0) * (1 + 1e-9)

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        header = {"densities": list(self.densities), "ratios": list(self.ratios), "manifest": dict(self.manifest)}
        tensors = {"weight": self.weight, "losses": self.losses, "phases": self.phases, "predicted": self.predicted}
        tensors["agrees"] = self.agrees
        return Artifact(self.kind, header | {"phases": list(PHASES)}, tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "PhaseDiagram":
        """Rebuild from an artifact."""
        header, tensors = artifact.header, artifact.tensors
        places = tuple(header["densities"]), tuple(header["ratios"])
        return cls(*places, tensors["weight"], tensors["losses"], header["manifest"])


def ideal_losses(
    densities: tuple[float, ...], ratios: tuple[float, ...], *, linear: bool = False
) -> Float[Tensor, "three a b"]:
    """Return the losses of the three ideal networks of each cell; without ReLU the third is no network at all."""
    p = torch.tensor(densities, dtype=torch.float64)[:, None]
    ratio = torch.tensor(ratios, dtype=torch.float64)[None]
    dropped = (p / 3 - p.square() / 4).expand(len(densities), len(ratios))
    both = torch.full_like(dropped, torch.inf) if linear else (1 + ratio) * p.square() / 6
    return torch.stack([ratio * dropped, dropped, both])


def phase_diagram(
    densities: tuple[float, ...] = DENSITIES,
    ratios: tuple[float, ...] = RATIOS,
    *,
    restarts: int = 4,
    steps: int = 1000,
    linear: bool = False,
    generator: torch.Generator | None = None,
) -> PhaseDiagram:
    """Train a network of two features and one dimension for every density and ratio of importances.

    Args:
        densities: in (0, 1]; by default nine from 1 to 0.01, evenly spaced on a logarithmic scale.
        ratios: of importances, above 0; by default nine from 0.1 to 10.
        restarts: starts a cell, of which the best is kept; a single one often ends in a local minimum.
        steps: of training.
        linear: leave out the ReLU; the control, which has no superposition.
        generator: source of randomness; None is one of seed 0.

    Raises:
        ValueError: nothing to train on, or values that cannot be.
    """
    if not densities or not ratios or min(ratios) <= 0:
        raise ValueError(
            f"got {len(densities)} densities and ratios {tuple(ratios)}; expected at least one of each, ratios above 0"
        )
    importance = torch.stack([torch.ones(len(ratios)), torch.tensor(ratios)], 1).repeat(len(densities), 1)
    density = torch.tensor(densities).repeat_interleave(len(ratios))
    found = ToyModels(2, 1, importance, density, linear).train(restarts=restarts, steps=steps, generator=generator)
    shape = len(densities), len(ratios)
    manifest = found.manifest | {"method": "phase diagram", "restarts": restarts}
    weight, losses = found.weight.view(*shape, 2), found.losses.view(*shape, restarts)
    return PhaseDiagram(tuple(densities), tuple(ratios), weight, losses, manifest)
