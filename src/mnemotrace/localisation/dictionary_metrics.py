r"""How good a dictionary is, from tensors alone: what it explains, how sparse it is, whether it finds what is there.

* explained variance :math:`1 - \sum\|x - \hat x\|^2 / \sum\|x - \bar x\|^2`: 0 for whoever always says the mean;
* density of a latent: the share of rows in which it is on; dead where 0, dense above a tenth; their sum is L0;
* MMCS, mean max cosine similarity: each known direction :math:`f_i` is given its most similar found one,
  :math:`\max_j \cos(f_i, d_j)`, signed, for latents are never negative. The mean is MMCS, the share above 0.9 what was
  recovered. It is not symmetric: spare latents cost nothing. `one_to_one` pairs instead (Hungarian), so that one latent
  cannot stand for two directions.

What latents say of concepts is in `localisation.dictionary_probing`.

Reference: Sharkey et al. 2022 (MMCS). Cost: one product of the two dictionaries, and `O(f m min(f, m))` to pair.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from mnemotrace.core.linalg import require_finite
from mnemotrace.localisation.code import Code

FOUND, DENSE = 0.9, 0.1


def explained_variance(x: Float[Tensor, "n d"], reconstruction: Float[Tensor, "n d"]) -> float:
    """Return the share of the variance of rows that their reconstruction explains; below 0 it is worse than the mean.

    Raises:
        ValueError: shapes that differ, or rows that are all the same.
        NonFiniteError: NaN or infinity.
    """
    if x.shape != reconstruction.shape or x.ndim != 2:  # noqa: PLR2004
        raise ValueError(f"got {tuple(x.shape)} and {tuple(reconstruction.shape)}; expected (n, d) twice")
    require_finite(x, "activations")
    require_finite(reconstruction, "their reconstruction")
    wide = x.double()
    total = float((wide - wide.mean(0)).square().sum()) if len(x) else 0.0
    if total == 0:
        raise ValueError(f"got {len(x)} rows without variance; expected rows that differ; give more of the data")
    return 1 - float((wide - reconstruction.double()).square().sum()) / total


def density(codes: Code | Float[Tensor, "n m"]) -> Float[Tensor, " m"]:
    """Return for each latent the share of rows in which it is on; the sum is L0.

    Raises:
        ValueError: no row.
    """
    if not len(codes):
        raise ValueError("got no row; expected at least one; the mask or the data may be empty")
    counts = codes.counts() if isinstance(codes, Code) else (codes != 0).sum(0)
    return counts.double() / len(codes)


def dead(densities: Float[Tensor, " m"]) -> float:
    """Return the share of latents that are never on; with more latents than features that alone is no defect."""
    return float((densities == 0).double().mean())


def dense(densities: Float[Tensor, " m"], *, above: float = DENSE) -> float:
    """Return the share of latents that are on in more than `above` of the rows."""
    return float((densities > above).double().mean())


@dataclass(frozen=True, eq=False)
class Match:
    """Which found direction stands for each known one.

    Attributes:
        cosines: of each known direction with its partner.
        partners: index of the partner; -1 where `one_to_one` leaves none, with cosine 0.
    """

    cosines: Float[Tensor, " f"]
    partners: Int[Tensor, " f"]

    @property
    def mmcs(self) -> float:
        """Mean cosine over known directions."""
        return float(self.cosines.mean())

    def recovered(self, *, above: float = FOUND) -> float:
        """Share of known directions whose partner is more alike than `above`."""
        return float((self.cosines > above).double().mean())


def match(known: Float[Tensor, "f d"], found: Float[Tensor, "m d"], *, one_to_one: bool = False) -> Match:
    """Find each known direction among found ones: a planted dictionary, or one trained from another seed.

    Args:
        known: directions of any length above 0.
        found: likewise.
        one_to_one: pair so that the sum of cosines is largest and no direction is used twice; needs scipy.

    Raises:
        ValueError: no direction, other widths, or a direction of length 0.
        NonFiniteError: NaN or infinity.
        ImportError: scipy is absent.
    """
    for name, tensor in (("known", known), ("found", found)):
        require_finite(tensor, f"{name} directions")
        if tensor.ndim != 2 or not len(tensor) or tensor.shape[1] != known.shape[-1]:  # noqa: PLR2004
            raise ValueError(
                f"got known {tuple(known.shape)} and found {tuple(found.shape)}; expected (f, d) and (m, d)"
            )
        if bool((tensor.norm(dim=1) == 0).any()):
            raise ValueError(f"got a {name} direction of length 0; expected directions; leave it out")
    cosines = normalize(known.double(), dim=1) @ normalize(found.double(), dim=1).T
    if not one_to_one:
        best = cosines.max(1)
        return Match(best.values, best.indices)
    rows, columns = _assigned(cosines)
    partners = torch.full((len(known),), -1)
    partners[rows] = columns
    own = cosines.gather(1, partners.clamp_min(0)[:, None])[:, 0]
    return Match(torch.where(partners < 0, 0.0, own), partners)


def _assigned(cosines: Tensor) -> tuple[Tensor, Tensor]:
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError("got no scipy; expected it for one_to_one; pip install 'mnemotrace[probes]'") from error
    rows, columns = linear_sum_assignment(cosines.cpu().numpy(), maximize=True)
    return torch.as_tensor(rows), torch.as_tensor(columns)
