r"""What a family - a node and its parents - is worth, given evidence: BDeu for states, BGe for numbers.

BDeu, with `r` states of the node, `q` of its parents together and an equivalent sample size of `s` (Heckerman, Geiger
and Chickering 1995):

.. math:: \log p = \sum_j \Big[\log\frac{\Gamma(s/q)}{\Gamma(s/q + N_j)}
          + \sum_k \log\frac{\Gamma(s/qr + N_{jk})}{\Gamma(s/qr)}\Big].

BGe, the marginal likelihood of a normal with a normal-Wishart prior, for node and parents together, less that of the
parents (Geiger and Heckerman 2002, with the prior matrix corrected by Kuipers, Moffa and Heckerman 2014).

Both give equivalent graphs the same score. Rows in which a node was set are left out of its own family only. Parent
sets are scored together, a million entries at a time. Cost: BDeu O(u k) for `k` parent sets and `u` different rows, BGe
O(n p^2 + k p^3).
"""

# torch.linalg has no types of its own
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemotrace.modification.beliefs.dags import DAGs
from mnemotrace.modification.beliefs.evidence import Evidence

ENTRIES = 2**20  # held at once while families are scored
LARGEST_TABLE = 16  # variables; 2**16 sets of each
_EXACT = 2.0**53  # whole numbers that a double holds


class Score(Protocol):
    """The logarithm of how likely the values of a node are, given those of its parents."""

    def local(self, evidence: Evidence, node: int, parent_sets: Sequence[int], /) -> Float[Tensor, " k"]:
        """Score a node with each of several sets of parents, given as bit masks."""
        ...


@dataclass(frozen=True)
class BDeu:
    """Bayesian Dirichlet score with uniform prior, for states.

    Attributes:
        arities: number of states of each variable.
        ess: equivalent sample size of the prior; 1 trusts the data soonest.

    Raises:
        ValueError: fewer than two states, or an equivalent sample size that is not above 0.
    """

    arities: tuple[int, ...]
    ess: float = 1.0

    def __post_init__(self) -> None:
        """Check both."""
        if min(self.arities, default=0) < 2:  # noqa: PLR2004
            raise ValueError(f"got {self.arities} states; expected at least two of each variable")
        if not (math.isfinite(self.ess) and self.ess > 0):
            raise ValueError(f"got ess={self.ess}; expected an equivalent sample size above 0")

    def local(self, evidence: Evidence, node: int, parent_sets: Sequence[int]) -> Float[Tensor, " k"]:
        """Score a node with each of several sets of parents."""
        self._require(evidence)
        rows = evidence.about(node).long()
        rows, counts = torch.unique(rows, dim=0, return_counts=True) if len(rows) else (rows, rows.new_zeros(0))
        return in_parts(lambda sets: self._several(rows, counts, node, sets), parent_sets, len(rows))

    def _several(self, rows: Tensor, counts: Tensor, node: int, sets: Sequence[int]) -> Tensor:
        """Number the joint states of all the sets of parents one after another, and count in them together."""
        strides, sizes = self._strides(sets)
        ends = sizes.cumsum(0)
        if float(ends[-1]) >= _EXACT:
            raise ValueError(f"got {float(sizes.max()):.1e} joint states of one set of parents; expected fewer parents")
        cells = (strides @ rows.double().T + (ends - sizes)[:, None]).long().flatten()
        if ends[-1] <= 4 * len(cells):
            found, where = torch.arange(int(ends[-1])), cells
        else:  # most never occurred, and those add nothing
            found, where = torch.unique(cells, return_inverse=True)
        r = self.arities[node]
        n = torch.zeros(len(found) * r, dtype=torch.float64)
        n.index_add_(0, where * r + rows[:, node].repeat(len(sets)), counts.double().repeat(len(sets)))
        n = n.view(len(found), r)
        owner = torch.searchsorted(ends, found.double(), right=True)
        above, below = (self.ess / sizes)[owner], (self.ess / (sizes * r))[owner]
        worth = torch.lgamma(above) - torch.lgamma(above + n.sum(1))
        worth += (torch.lgamma(below[:, None] + n) - torch.lgamma(below)[:, None]).sum(1)
        return torch.zeros(len(sets), dtype=torch.float64).index_add_(0, owner, worth)

    def _strides(self, sets: Sequence[int]) -> tuple[Float[Tensor, "k p"], Float[Tensor, " k"]]:
        """Return what a state of each parent adds to the number of the joint state, and how many of those there are."""
        strides = torch.zeros(len(sets), len(self.arities), dtype=torch.float64)
        sizes: list[float] = []
        for row, mask in enumerate(sets):
            size = 1.0
            for j in members(mask):
                strides[row, j] = size
                size *= self.arities[j]
            sizes.append(size)
        return strides, torch.tensor(sizes, dtype=torch.float64)

    def _require(self, evidence: Evidence) -> None:
        if evidence.values.is_floating_point():
            raise TypeError(f"got {evidence.values.dtype} for BDeu; expected states as integers; BGe scores numbers")
        if evidence.p != len(self.arities):
            raise ValueError(f"got {evidence.p} variables; expected {len(self.arities)}")
        top = evidence.values.amax(0) if len(evidence) else torch.zeros(evidence.p, dtype=torch.long)
        for j, (state, arity) in enumerate(zip(top.tolist(), self.arities, strict=True)):
            if state >= arity:
                raise ValueError(f"got state {state} of variable {j}; expected states from 0 to {arity - 1}")


@dataclass(frozen=True)
class BGe:
    """Bayesian Gaussian equivalent score, for numbers; standardise them, for the prior has variance one.

    Attributes:
        p: number of variables.
        alpha_mu: rows that the prior mean is worth.
    """

    p: int
    alpha_mu: float = 1.0

    def __post_init__(self) -> None:
        """Check the prior."""
        if not (math.isfinite(self.alpha_mu) and self.alpha_mu > 0):
            raise ValueError(f"got alpha_mu={self.alpha_mu}; expected a number of rows above 0")

    @property
    def alpha_w(self) -> float:
        """Degrees of freedom of the Wishart prior."""
        return self.p + self.alpha_mu + 1

    def local(self, evidence: Evidence, node: int, parent_sets: Sequence[int]) -> Float[Tensor, " k"]:
        """Score a node with each of several sets of parents."""
        if not evidence.values.is_floating_point():
            raise TypeError(f"got {evidence.values.dtype} for BGe; expected floating-point numbers; BDeu scores states")
        if evidence.p != self.p:
            raise ValueError(f"got {evidence.p} variables; expected {self.p}")
        rows = evidence.about(node).double()
        n, t = len(rows), self.alpha_mu * (self.alpha_w - self.p - 1) / (self.alpha_mu + 1)
        mean = rows.mean(0) if n else torch.zeros(self.p, dtype=torch.float64)
        spread = (rows - mean).T @ (rows - mean)
        posterior = t * torch.eye(self.p, dtype=torch.float64) + spread
        posterior = posterior + n * self.alpha_mu / (n + self.alpha_mu) * torch.outer(mean, mean)

        def several(sets: Sequence[int]) -> Tensor:
            parents = torch.tensor([[mask >> j & 1 for j in range(self.p)] for mask in sets], dtype=torch.bool)
            family = parents.clone()
            family[:, node] = True
            return self._subsets(posterior, t, n, family) - self._subsets(posterior, t, n, parents)

        return in_parts(several, parent_sets, self.p**2)

    def _subsets(self, posterior: Tensor, t: float, n: int, inside: Bool[Tensor, "k p"]) -> Float[Tensor, " k"]:
        """Return the log marginal likelihood of each of several sets of variables."""
        size = inside.double().sum(1)  # whole numbers would turn to single precision below
        free = self.alpha_w - self.p + size
        one = torch.eye(self.p, dtype=torch.float64)
        log_det = torch.linalg.slogdet(torch.where(inside[:, :, None] & inside[:, None, :], posterior, one))[1]
        each = self.alpha_w - self.p + torch.arange(1, self.p + 1, dtype=torch.float64)
        gammas = torch.cat([one[0, :1] - 1, (torch.lgamma((n + each) / 2) - torch.lgamma(each / 2)).cumsum(0)])
        scale = size / 2 * (math.log(self.alpha_mu / (n + self.alpha_mu)) - n * math.log(math.pi))
        return scale + gammas[size.long()] + free / 2 * size * math.log(t) - (n + free) / 2 * log_det


def in_parts(score: Callable[[Sequence[int]], Tensor], sets: Sequence[int], width: int) -> Float[Tensor, " k"]:
    """Score sets in parts of about `ENTRIES` entries, each set taking `width` of them."""
    step = max(1, ENTRIES // max(width, 1))
    parts = [score(sets[start : start + step]) for start in range(0, len(sets), step)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)


@lru_cache(maxsize=4096)
def members(mask: int) -> tuple[int, ...]:
    """List the nodes of a bit mask."""
    return tuple(j for j in range(mask.bit_length()) if mask >> j & 1)


def family_table(score: Score, evidence: Evidence, dags: DAGs | None = None) -> Float[Tensor, "p sets"]:
    """Score families: `[i, mask]` is node `i` with the parents in `mask`, minus infinity where `i` is among them.

    Args:
        score: of a family.
        evidence: rows.
        dags: score only the families of these graphs; the others are minus infinity too.

    Raises:
        ValueError: more than sixteen variables.

    Cost: `p 2**(p-1)` families without graphs; the table has `p 2**p` entries.
    """
    p = evidence.p
    if p > LARGEST_TABLE:
        raise ValueError(
            f"got {p} variables; expected at most {LARGEST_TABLE} in a table of families; leave out those that no plot "
            "relates, or use method='order'"
        )
    table = torch.full((p, 2**p), -torch.inf, dtype=torch.float64)
    for i in range(p):
        sets = dags.parent_sets[i] if dags else [mask for mask in range(2**p) if not mask >> i & 1]
        table[i, sets] = score.local(evidence, i, sets)
    return table
