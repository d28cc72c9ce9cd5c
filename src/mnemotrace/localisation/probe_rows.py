"""The rows of a probe: activations standardised by their training part, labels of -1 and 1, and who is right."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mnemotrace.localisation.probe_split import Split


@dataclass(frozen=True, eq=False)
class Rows:
    """What probes are fitted to and tested on, all on one device.

    Attributes:
        z: standardised activations, float64; a unit that is still in training is zero.
        y: labels.
        classes: the labels, rising.
        split: which rows are for what.
    """

    z: Float[Tensor, "n d"]
    y: Int[Tensor, " n"]
    classes: Int[Tensor, " c"]
    split: Split

    @classmethod
    def standardised(
        cls, x: Float[Tensor, "n d"], y: Int[Tensor, " n"], split: Split
    ) -> tuple["Rows", Float[Tensor, " d"], Float[Tensor, " d"]]:
        """Standardise by the training rows; returns also their means and deviations, of a still unit infinite."""
        rows = x.detach().double()
        seen = rows[torch.cat([split.fit, split.choose]).to(x.device)]
        mean, scale = seen.mean(0), seen.std(0)
        scale = torch.where(scale > 1e-12 * seen.abs().amax(0), scale, float("inf"))
        labels = y.to(x.device)
        return cls((rows - mean) / scale, labels, labels.unique(), split), mean, scale

    @property
    def targets(self) -> Float[Tensor, "n k"]:
        """Labels of -1 and 1: one column for two classes, where the second is 1, else one a class."""
        columns = self.classes[1:] if len(self.classes) == 2 else self.classes  # noqa: PLR2004
        return (self.y[:, None] == columns).double() * 2 - 1

    @property
    def train(self) -> Int[Tensor, " t"]:
        """Rows to fit on and to choose with."""
        return torch.cat([self.split.fit, self.split.choose]).to(self.z.device)

    @property
    def test(self) -> Int[Tensor, " t"]:
        """Rows to test on."""
        return self.split.test.to(self.z.device)

    def right(
        self, w: Float[Tensor, "k d"], b: Float[Tensor, " k"], *, at: Int[Tensor, " m"] | None = None
    ) -> Bool[Tensor, " m"]:
        """Tell which rows probes label rightly; the test rows where no others are given."""
        rows = self.test if at is None else at
        return labelled(self.z[rows] @ w.T + b, self.classes) == self.y[rows]

    def shuffled(self, generator: torch.Generator) -> "Rows":
        """Deal the labels anew."""
        return replace(self, y=self.split.shuffled(self.y.cpu(), generator).to(self.y.device))


def labelled(scores: Float[Tensor, "n k"], classes: Int[Tensor, " c"]) -> Int[Tensor, " n"]:
    """Return the label of the largest score; of one column, the second label where it is positive."""
    return classes[(scores[:, 0] > 0).long()] if scores.shape[1] == 1 else classes[scores.argmax(1)]
