r"""The best picture that a linear map could draw from a source: a prototype from a class, more from a richer source.

With sources :math:`s_i` and images :math:`x_i`, centred,

.. math:: W = (S^T S + \epsilon\,\bar\lambda I)^{-1} S^T X, \qquad \hat x(s) = \bar x + (s - \bar s) W,

where :math:`\bar\lambda` is the mean eigenvalue of :math:`S^T S`. From the one-hot code of a class this is the class
mean; from the activation of a layer it is the ceiling of every linear recall from that layer, whatever weights it runs
back through. It needs no switch and no gate, and has never seen the images that it is asked for.

Reference: ridge regression (Hoerl and Kennard 1970). Cost: O(n d^2 + d^3 + n d p), once; O(d p) an image.
"""

# torch.linalg has no types of its own
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.linalg import default_rcond, require_finite

RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class LinearDecoder:
    """A closed-form map from sources to images; call it with sources `(b, ...)`.

    Attributes:
        weight: `(d, p)` float64.
        source_mean: `(d,)` float64.
        image_mean: `(p,)` float64.
        shape: of one image.
        ridge: the regulariser, in units of the mean eigenvalue of the centred sources' second moment.
        rank: of the centred sources, eigenvalues below `default_rcond` of the largest counted as zero.
        count: images it was fitted on.
    """

    weight: Float[Tensor, "d p"]
    source_mean: Float[Tensor, " d"]
    image_mean: Float[Tensor, " p"]
    shape: tuple[int, ...]
    ridge: float
    rank: int
    count: int

    @classmethod
    def fit(
        cls, sources: Float[Tensor, "n ..."], images: Float[Tensor, "n ..."], *, ridge: float = RIDGE
    ) -> "LinearDecoder":
        """Fit to pairs; images that will be asked for must not be among them.

        Args:
            sources: one a row: a code of the class, or what a layer gave.
            images: of any shape.
            ridge: above 0; with 1e-3, a direction that varies a thousandth as much as the mean one counts half.

        Raises:
            ValueError: another number of sources than of images, fewer than two, sources that are all alike, or a
                ridge that is not positive.
            NonFiniteError: NaN or infinity among them.
        """
        if len(sources) != len(images) or len(sources) < 2:  # noqa: PLR2004
            raise ValueError(f"got {len(sources)} sources for {len(images)} images; expected one each, at least two")
        if not 0 < ridge < math.inf:
            raise ValueError(f"got ridge={ridge}; expected a positive, finite number, such as {RIDGE}")
        require_finite(sources, "the sources")
        require_finite(images, "the images")
        s, x = sources.flatten(1).double(), images.flatten(1).double()
        source_mean, image_mean = s.mean(0), x.mean(0)
        s, x = s - source_mean, x - image_mean
        second = s.T @ s
        values = torch.linalg.eigvalsh(second)
        if not float(values[-1]) > 0:
            raise ValueError(f"got {len(s)} sources that are all alike; expected sources that tell images apart")
        rank = int((values > values[-1] * default_rcond(len(values))).sum())
        second.diagonal().add_(ridge * float(values.mean()))
        weight = torch.cholesky_solve(s.T @ x, torch.linalg.cholesky(second))
        return cls(weight, source_mean, image_mean, tuple(images.shape[1:]), ridge, rank, len(s))

    def __call__(self, sources: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """Draw images, in the sources' floating-point type.

        Raises:
            ValueError: sources of another width.
        """
        rows = sources.flatten(1)
        if rows.shape[1] != len(self.weight):
            raise ValueError(
                f"got sources of {rows.shape[1]} numbers; expected {len(self.weight)}, as those it was fitted on"
            )
        found = self.image_mean + (rows.double() - self.source_mean) @ self.weight
        kind = sources.dtype if sources.is_floating_point() else torch.get_default_dtype()
        return found.to(kind).view(len(rows), *self.shape)
