r"""Approximate retrieval from large stores, by an inverted file of faiss, with a bound on its error.

Patterns are divided into cells around centres; a state is compared with the patterns of the cells nearest to it only.
By distance the nearest patterns are those of the highest score, since :math:`x^T y - \tfrac12 |y|^2` is
:math:`\tfrac12 |x|^2 - \tfrac12 |x - y|^2`; with `norms=False` cells and patterns are chosen by the inner product. The
`k` best found are scored exactly, with their weights, and summed. With :math:`Z` for their sum and :math:`R` for a
bound of all others'

.. math::
   |\hat y_k - \hat y| \le 2 \frac{R}{Z + R} \max_n |y_n|, \qquad
   R = \max_n w_n \left[(n - k)\, e^{s_k} + \sum_{i=1}^{K} e^{s_k} (K / i)^a \right], \quad K = k \left(1/q - 1\right) .

The first part is for what scores at most as much as the worst of those found, :math:`s_k`. The second, which vanishes
where all cells are probed, is for better ones in cells that were not: if they are as frequent there as in the probed
share `q` of the cells, there are `K`, and if they thin out exponentially as those found do, by :math:`a`, the mean
excess over :math:`s_k` without the best and two standard errors more, the `i`-th of them scores
:math:`s_k + a \log(K / i)`.

**What the bound is worth.** Where all cells are probed it is certain. Otherwise it holds if the cells farther away are
not richer in good patterns than the near ones: the best one found is trusted only if it stands out from that tail. So a
pattern that is missed shows as a large bound, unless a lone impostor stands out in its place. Of 495 000 retrievals
from 400 to 5000 random and clustered patterns, with 1 to 16 cells probed and 76 000 patterns missed, 16 errors were
above their bound, 2 of them misses; from 20 000 patterns none (`benchmarks/speed/retrieval.py`). On correlated patterns
the bound is often large where the answer is right. `tolerance` answers states whose bound is larger exactly.

A state needs the same precision for all features: noise by feature is another metric for each state, which no index
serves; take `lookup` there. The index holds a copy of the rows (4 n d bytes) and is of the rows as they were: build it
anew after a change of the store.

Reference: Johnson, Douze and Jegou 2021, Billion-scale similarity search with GPUs; Jegou et al. 2011 (inverted file).
Cost: building O(cells^2 d) for centres and O(n cells d) for the cells; a retrieval O((cells + n probes / cells) d).
"""

# faiss has no types of its own
# pyright: reportMissingImports=false

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.memories.lookup import Found, lookup
from mnemotrace.memories.scores import squared_norms, working_type

_PART = 16384
_TRAINING = 64
_LEAST = 39
_FEWEST = 8


@dataclass(frozen=True, eq=False)
class Index:
    """Patterns in cells, made by `Index.of`.

    Attributes:
        patterns: `(n, d)` rows, which are scored exactly.
        cells: how many there are.
        norms: whether patterns are found by distance, or by inner product.
    """

    patterns: Float[Tensor, "n d"]
    cells: int
    norms: bool
    _longest: float
    _file: Any

    @classmethod
    def of(
        cls, patterns: Float[Tensor, "n d"], *, cells: int | None = None, norms: bool = True, seed: int = 0
    ) -> "Index":
        """Divide patterns into cells.

        Args:
            patterns: rows on the CPU; read part by part.
            cells: at least 1; None takes three times the square root of `n`. At most one for every 39 patterns.
            norms: as in `lookup`.
            seed: of the clustering.

        Raises:
            ImportError: faiss is not installed; it is the extra `mnemotrace[faiss]`.
            ValueError: patterns of another shape, or no cell.
        """
        if patterns.ndim != 2 or len(patterns) == 0 or patterns.shape[1] == 0:
            raise ValueError(f"got patterns of shape {tuple(patterns.shape)}; expected (n, d), one pattern a row")
        n = len(patterns)
        wanted = round(3 * math.sqrt(n)) if cells is None else cells
        if wanted < 1:
            raise ValueError(f"got cells={cells}; expected at least 1")
        count = max(1, min(wanted, n // _LEAST))
        file = _filled(patterns, count, norms, seed)
        longest = float(squared_norms(patterns).max().sqrt())
        return cls(patterns, count, norms, longest, file)

    def lookup(
        self,
        x: Float[Tensor, "b d"],
        precision: float | Float[Tensor, "#b 1"],
        *,
        log_weights: Float[Tensor, " n"] | None = None,
        probes: int | None = None,
        top: int = 32,
        tolerance: float | None = None,
    ) -> Found:
        """Retrieve from the nearest cells.

        Args:
            x: states.
            precision: inverse squared noise, above 0: one number, or one a state.
            log_weights: of the patterns; None counts all alike.
            probes: cells to look into, from 1; all of them make the bound certain. None takes one in 24.
            top: patterns to sum, at least 8: the bound is taken from how they thin out.
            tolerance: largest bound to accept, in the units of the patterns; states beyond it are answered exactly, at
                the cost of a full pass for them. None accepts all.

        Returns:
            Mean, log-total of what was found (from below), and the bound; read at the top of the module when it holds.

        Raises:
            ValueError: states of another shape, a precision by feature or not above 0, `probes` or `top` out of range.
        """
        p = self._checked(x, precision, probes, top)
        rows, values, found = self._nearest(x, p, probes, min(top, len(self.patterns)))
        weighted, heaviest = found, 0.0
        if log_weights is not None:
            weighted, heaviest = found + log_weights.to(found)[rows], float(log_weights.max())
        inside = torch.logsumexp(weighted, 1)
        outside = _outside(found, len(self.patterns), self._file.nprobe / self.cells) + heaviest
        mean = (torch.softmax(weighted, 1).nan_to_num(0.0)[:, None] @ values)[:, 0]
        bound = 2 * self._longest * torch.sigmoid(outside - inside)
        again = (bound > tolerance).nonzero()[:, 0] if tolerance is not None else rows[:0, 0]
        if len(again) > 0:
            given = p if len(p) == 1 else p[again]
            exact = lookup(x[again], self.patterns, given, log_weights=log_weights, norms=self.norms)
            mean[again], inside[again], bound[again] = exact.mean, exact.log_total, 0.0
        return Found(mean, inside, bound)

    def _nearest(self, x: Tensor, p: Tensor, probes: int | None, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows, values and exact scores without weights; -inf where the cells held fewer than `k` patterns."""
        kind = working_type(x, self.patterns)
        self._file.nprobe = min(self.cells, probes or max(1, round(self.cells / 24)))
        rows = torch.from_numpy(self._file.search(_array(x), k)[1])
        absent, rows = rows < 0, rows.clamp_min(0)
        values = self.patterns[rows].to(kind)
        alike = (values @ x.to(kind)[:, :, None])[:, :, 0]
        if self.norms:
            alike = alike - 0.5 * values.square().sum(2)
        return rows, values, (p.to(kind) * alike).masked_fill(absent, -math.inf)

    def _checked(self, x: Tensor, precision: float | Tensor, probes: int | None, top: int) -> Tensor:
        d = self.patterns.shape[1]
        if x.ndim != 2 or x.shape[1] != d:
            raise ValueError(f"got states of shape {tuple(x.shape)}; expected (b, {d})")
        p = torch.as_tensor(precision, device=x.device)
        p = p.reshape(1, 1) if p.ndim == 0 else p
        if p.ndim != 2 or p.shape[0] not in (1, len(x)) or p.shape[1] != 1 or not bool((p > 0).all()):
            raise ValueError(
                f"got a precision of shape {tuple(p.shape)}, from {float(p.min()):.3g}; expected one number above 0, "
                f"or ({len(x)}, 1): an index has one metric; take lookup for noise by feature"
            )
        if top < _FEWEST or (probes is not None and probes < 1):
            raise ValueError(f"got top={top}, probes={probes}; expected at least {_FEWEST} patterns and 1 cell")
        return p


def _outside(found: Tensor, n: int, share: float) -> Tensor:
    """Return the logarithm of what the patterns that were not found add up to, if the module's condition holds.

    Args:
        found: `(b, k)` scores of those that were, best first; -inf where there were fewer.
        n: number of patterns.
        share: of the cells that were probed.
    """
    worst, k = found.amin(1), found.shape[1]
    total = worst + math.log(n - k) if n > k else torch.full_like(worst, -math.inf)
    if share < 1:
        spread = (found[:, 1:-1] - worst[:, None]).mean(1) * (1 + 2 / math.sqrt(k))
        count = k * (1 / share - 1)
        series = torch.log1p(math.log(max(count, 1)) * (max(count, 1) ** (1 - spread)).clamp_min(1))
        total = torch.logaddexp(total, worst + spread * math.log(max(count, 1)) + series)
    return torch.where(worst == -math.inf, math.inf, total)


def _filled(patterns: Tensor, cells: int, norms: bool, seed: int) -> Any:
    """Return an inverted file of faiss that holds the patterns."""
    faiss = _faiss()
    n, d = patterns.shape
    centres = faiss.IndexFlatL2(d) if norms else faiss.IndexFlatIP(d)
    metric = faiss.METRIC_L2 if norms else faiss.METRIC_INNER_PRODUCT
    file = faiss.IndexIVFFlat(centres, d, cells, metric)
    file.cp.seed, file.cp.niter, file.cp.max_points_per_centroid = seed, 10, _TRAINING
    file.cp.min_points_per_centroid = 1
    file.train(_array(patterns[:: max(1, n // (_TRAINING * cells))]))
    for i in range(0, n, _PART):
        file.add(_array(patterns[i : i + _PART]))
    return file


def _array(rows: Tensor) -> Any:
    return rows.detach().to("cpu", torch.float32).contiguous().numpy()


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ImportError("an index of patterns needs faiss; pip install 'mnemotrace[faiss]'") from error
    return faiss
