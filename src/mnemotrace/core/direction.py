r"""Direction: an affine eraser in activation space, as thin factors. It takes a concept out of what a network computes.

:math:`r(x) = x - L R\,(x - \mu)` with :math:`L` `left (d, r)`, :math:`R` `right (r, d)`, :math:`\mu` `mean (d)`. What
:math:`R` reads of :math:`x - \mu` is taken away along the columns of :math:`L`; the mean stays where it is.

A linear map that reads :math:`x` can read :math:`r(x)` instead at no cost, for
:math:`W r(x) + b = W' x + b'` with :math:`W' = W - (W L) R` and :math:`b' = b + (W L) R \mu`: a low-rank edit, and
exact. `as_edit` makes it. It must be the very tensor that the map reads: a direction found before a layer norm says
nothing about what comes out of it.

Cost: O(d r) a row; folding O(o d r) a map. Memory: `2 d r + d` numbers, float64, cast to the rows' type when used.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemotrace.core.artifact import Artifact, fingerprint, library_version
from mnemotrace.core.edit import Edit
from mnemotrace.core.errors import EditError
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.site import Site


@dataclass(frozen=True, eq=False)
class Direction:
    """What to take away from activations: `direction(x)` is `x - left @ right @ (x - mean)`, row by row.

    Attributes:
        left: along what is taken away.
        right: what it is read from.
        mean: of the activations that it was fitted to; it is left in place.
        evidence: numbers measured when it was fitted.
        manifest: provenance.

    Raises:
        ValueError: the factors do not fit each other.
    """

    left: Float[Tensor, "d r"]
    right: Float[Tensor, "r d"]
    mean: Float[Tensor, " d"]
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "direction"

    def __post_init__(self) -> None:
        """Check the shapes once, so that nothing later has to."""
        shapes = tuple(self.left.shape), tuple(self.right.shape), tuple(self.mean.shape)
        if shapes != ((self.d, self.rank), (self.rank, self.d), (self.d,)):
            raise ValueError(
                f"got left {shapes[0]}, right {shapes[1]}, mean {shapes[2]}; expected (d, r), (r, d), (d,)"
            )

    @property
    def d(self) -> int:
        """Width of the activations."""
        return self.left.shape[0]

    @property
    def rank(self) -> int:
        """How many dimensions are taken away."""
        return self.left.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of the factors and the mean."""
        return self.left.nbytes + self.right.nbytes + self.mean.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        """Erase from activations `(..., d)`; computed in float32 or better, returned in the type of `x`.

        Raises:
            ValueError: another width.
        """
        if x.shape[-1:] != (self.d,):
            raise ValueError(
                f"got activations {tuple(x.shape)}; expected {self.d} on the last axis; use the direction where it was "
                "fitted"
            )
        dtype = torch.promote_types(x.dtype, torch.float32)
        left, right, mean = (tensor.to(x.device, dtype) for tensor in (self.left, self.right, self.mean))
        wide = x.to(dtype)
        return (wide - (wide - mean) @ right.T @ left.T).to(x.dtype)

    def linear(self) -> "Direction":
        """Return the same eraser without its constant: `x - left @ right @ x`, for maps that have no bias.

        The two differ by a constant, so the covariance with the concept is zero after either. What is lost: the mean
        moves by `left @ right @ mean`, so that the change is no longer the least possible.
        """
        return replace(self, mean=torch.zeros_like(self.mean))

    def as_edit(self, model: nn.Module, sites: Mapping[str, Site]) -> Edit:
        """Fold the eraser into linear maps that read the erased tensor: exact, and free when the network runs.

        Args:
            model: the network; only read.
            sites: maps that read the very tensor that the direction is for, from `mt.sites`.

        Returns:
            A low-rank edit of weights and biases.

        Raises:
            EditError: a site is of another width, shares its weight with something that reads another tensor, or has no
                bias to take the constant.
        """
        changes = tuple(self._folded(model, site) for site in sites.values())
        manifest = {"method": "fold", "of": dict(self.manifest), "base": fingerprint(model)}
        return Edit(changes, manifest | {"version": library_version()})

    def _folded(self, model: nn.Module, site: Site) -> LowRank:
        _check_site(site, self.d)
        stored = model.get_parameter(site.weight).detach()
        dtype = torch.promote_types(stored.dtype, torch.float32)
        lost = -(site.view(stored).double() @ self.left.to(stored.device, torch.float64))
        right = self.right.to(stored.device, torch.float64)
        constant = -(right @ self.mean.to(right))
        if site.bias is not None:
            right = torch.cat([right, constant[:, None]], dim=1)
        elif bool((lost @ constant).any()):
            raise EditError(
                f"got site {site.name} without a bias; expected one, to take the constant of the eraser; fold "
                "direction.linear() instead, which erases as much and moves the mean, or erase where the tensor is "
                "made, with `erasing`"
            )
        return LowRank(site, lost.to(dtype), right.to(dtype))

    def to(self, *args: Any) -> "Direction":
        """Move or cast the factors and the mean, as `Tensor.to` does."""
        return replace(self, left=self.left.to(*args), right=self.right.to(*args), mean=self.mean.to(*args))

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        header = {"evidence": dict(self.evidence), "manifest": dict(self.manifest)}
        return Artifact(self.kind, header, {"left": self.left, "right": self.right, "mean": self.mean})

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Direction":
        """Rebuild from an artifact."""
        return cls(**artifact.tensors, evidence=artifact.header["evidence"], manifest=artifact.header["manifest"])


def _check_site(site: Site, d: int) -> None:
    if site.d != d:
        raise EditError(
            f"got site {site.name}, which reads {site.d} numbers; expected {d}; fold into maps that read the very "
            "tensor that the direction was fitted to"
        )
    others = (*site.tied, *site.readers)
    if others:
        raise EditError(
            f"got site {site.name}, whose weight serves {', '.join(others[:4])} too; expected a weight of its own, for "
            "the others read something else; erase where the tensor is made, with `erasing`"
        )
