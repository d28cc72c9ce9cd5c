r"""Concepts as sums of few atoms: how much of a concept's vector do neurons, latents or other directions make up?

.. math:: v \approx \sum_j c_j a_j, \qquad c_j \ge 0

by non-negative least squares (no bound on how many), or greedily with at most `k` atoms: the atom that agrees most with
what is left enters, then all weights are fitted again (orthogonal matching pursuit, with non-negative weights).

With as many atoms as dimensions anything can be explained, so two things stand beside. *Held out*: a concept measured
on some stimuli is explained, and the sum is scored on the same concept measured on others; the ceiling is the first
measurement itself. *Rotated*: the same atoms turned by a random rotation, as many, as long and at the same angles to
each other, that know nothing of where concepts lie. For neurons that asks whether concepts are aligned with them.

Reference: Lawson and Hanson 1974; Pati et al. 1993; Bruckstein et al. 2008 (non-negative). Cost: O(k p d) a greedy sum,
and a decomposition of `d x d` a rotation; scipy (extra `probes`) solves the least squares.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.linalg import random_frame, require_finite

_DRAWS = 10


@dataclass(frozen=True, eq=False)
class Sums:
    """Concepts as non-negative sums of atoms.

    Attributes:
        weights: of the atoms, by concept.
        explained: share of each vector's squared length that its sum explains.
        held_out: the same on the concept measured elsewhere; None without one.
        ceiling: what the first measurement explains of the second; None without one.
        rotated: what rotated atoms explain: of the held-out vector where there is one; a draw a row.
    """

    weights: Float[Tensor, "m p"]
    explained: Float[Tensor, " m"]
    held_out: Float[Tensor, " m"] | None
    ceiling: Float[Tensor, " m"] | None
    rotated: Float[Tensor, "draws m"]


def sums(
    concepts: Float[Tensor, "m d"],
    atoms: Float[Tensor, "p d"],
    *,
    k: int | None = None,
    held_out: Float[Tensor, "m d"] | None = None,
    generator: torch.Generator | None = None,
) -> Sums:
    """Write concepts as non-negative sums of atoms.

    Args:
        concepts: directions, such as `mean_difference` of some stimuli.
        atoms: `torch.eye(d)` for neurons, a dictionary's decoder for latents.
        k: at most so many atoms a concept, chosen greedily; None for least squares with all.
        held_out: the same concepts, measured on other stimuli.
        generator: of the rotations; None is one of seed 0.

    Raises:
        ValueError: shapes that do not fit, a zero vector, `k` out of range.
        NonFiniteError: NaN or infinity.
        ImportError: scipy is missing.
    """
    _check(concepts, atoms, held_out, k)
    source = torch.Generator().manual_seed(0) if generator is None else generator
    v, a = concepts.detach().double().cpu(), atoms.detach().double().cpu()
    judged = v if held_out is None else held_out.detach().double().cpu()
    weights = _fitted(v, a, k)
    turned = [a @ random_frame(a.shape[1], a.shape[1], generator=source) for _ in range(_DRAWS)]
    return Sums(
        weights=weights,
        explained=_explained(v, weights @ a),
        held_out=None if held_out is None else _explained(judged, weights @ a),
        ceiling=None if held_out is None else _explained(judged, v),
        rotated=torch.stack([_explained(judged, _fitted(v, atoms, k) @ atoms) for atoms in turned]),
    )


def _fitted(v: Tensor, atoms: Tensor, k: int | None) -> Tensor:
    each = range(len(v))
    if k is None:
        return torch.stack([_least_squares(v[i], atoms) for i in each])
    return torch.stack([_greedy(v[i], atoms, k) for i in each])


def _greedy(v: Tensor, atoms: Tensor, k: int) -> Tensor:
    """Let atoms in one by one, best agreement first, until none agrees with what is left."""
    length = atoms.norm(dim=1)
    chosen: list[int] = []
    weights = v.new_zeros(len(atoms))
    for _ in range(k):
        agreement = atoms @ (v - weights @ atoms) / length
        agreement[chosen] = 0.0
        best = int(agreement.argmax())
        if float(agreement[best]) <= 1e-12 * float(v.norm()):
            break
        chosen.append(best)
        weights = v.new_zeros(len(atoms))
        weights[chosen] = _least_squares(v, atoms[chosen])
    return weights


def _least_squares(v: Tensor, atoms: Tensor) -> Tensor:
    try:
        from scipy.optimize import nnls
    except ImportError as error:
        raise ImportError("got no scipy; expected it for sums of atoms; pip install 'mnemotrace[probes]'") from error
    return torch.from_numpy(nnls(atoms.T.numpy(), v.numpy())[0])


def _explained(v: Tensor, by: Tensor) -> Tensor:
    return 1 - (v - by).square().sum(1) / v.square().sum(1)


def _check(concepts: Tensor, atoms: Tensor, held_out: Tensor | None, k: int | None) -> None:
    shapes = tuple(concepts.shape), tuple(atoms.shape)
    if concepts.ndim != 2 or atoms.ndim != 2 or concepts.shape[1] != atoms.shape[1]:  # noqa: PLR2004
        raise ValueError(f"got concepts {shapes[0]} and atoms {shapes[1]}; expected (m, d) and (p, d)")
    if held_out is not None and held_out.shape != concepts.shape:
        raise ValueError(
            f"got held-out concepts {tuple(held_out.shape)}; expected {shapes[0]}, the same measured again"
        )
    if k is not None and not 1 <= k <= len(atoms):
        raise ValueError(f"got k={k}; expected 1 to {len(atoms)}, the number of atoms")
    for name, rows in {"concepts": concepts, "atoms": atoms, "held-out concepts": held_out}.items():
        if rows is None:
            continue
        require_finite(rows, f"the {name}")
        still = (rows == 0).all(1)
        if bool(still.any()):
            raise ValueError(f"got row {int(still.nonzero()[0])} of the {name} all zero; expected some length; drop it")
