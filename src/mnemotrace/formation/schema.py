r"""Form a semantic memory: the Gaussian mixture that says best what episodes have in common.

Mixtures of each size are fitted by expectation and maximisation to a part of the episodes; the smallest size that
explains the others as well as the best one does, within a standard error, is then fitted to all. A size chosen on the
episodes themselves would end at one component an episode, which is an episodic memory.

Reference: Dempster, Laird, Rubin 1977; the fit is scikit-learn's. Cost: `O(n k d^2 + k d^3)` an iteration, a size.
"""

# scikit-learn has no types of its own
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.errors import NumericalWarning
from mnemotrace.core.memory import states_of
from mnemotrace.memories.gaussian import GaussianMixture


def fit_schema(
    episodes: Float[Tensor, "n d"],
    *,
    components: Sequence[int] = (1, 2, 3, 4, 6, 8),
    held_out: float = 0.2,
    spread: float = 1e-6,
    generator: torch.Generator | None = None,
) -> GaussianMixture:
    """Fit a Gaussian mixture with full covariances.

    Args:
        episodes: one a row; as many more than features as components are tried.
        components: sizes to try; a single one is not chosen but taken.
        held_out: share of the episodes, between 0 and 1, on which sizes are compared.
        spread: added to every variance, in squared units of the episodes; larger for few episodes or constant features.
        generator: of the split and the start; None seeds one with 0.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: another shape, or fewer episodes than the largest size needs.
        NonFiniteError: NaN or infinity.
        ImportError: scikit-learn is not installed.

    Warns:
        NumericalWarning: the fit did not converge.
    """
    if not isinstance(episodes, Tensor) or episodes.ndim != 2:
        shape = tuple(episodes.shape) if isinstance(episodes, Tensor) else type(episodes).__name__
        raise ValueError(f"got episodes {shape}; expected a tensor of shape (n, d), one episode a row")
    rows = states_of(episodes, episodes.shape[1], "episodes")
    source = generator or torch.Generator().manual_seed(0)
    order = torch.randperm(len(rows), generator=source)
    seed = int(torch.randint(2**31 - 1, (), generator=source))
    apart = round(held_out * len(rows)) if len(components) > 1 else 0
    sizes = sorted(components)
    if not sizes or sizes[0] < 1 or not 0 < held_out < 1 or len(rows) - apart < max(2, sizes[-1]) or not spread > 0:
        raise ValueError(
            f"got {len(rows)} episodes, components={tuple(components)}, held_out={held_out}, spread={spread}; expected "
            "sizes from 1, a share between 0 and 1 that leaves more episodes than components to fit, a spread above 0"
        )
    wide = rows.detach().double().cpu()[order].numpy()
    test, train = wide[:apart], wide[apart:]
    found = {size: _fit(train, size, spread, seed).score_samples(test) for size in sizes} if apart else {}
    best = _fit(wide, _smallest_good(found) if apart else sizes[0], spread, seed)
    if not best.converged_:
        warnings.warn(
            f"the fit of {best.n_components} components to {len(rows)} episodes did not converge; expected rest within "
            f"{best.max_iter} iterations; give more episodes or a larger spread",
            NumericalWarning,
            stacklevel=2,
        )
    parts = (torch.from_numpy(part).to(rows) for part in (best.means_, best.covariances_, best.weights_))
    means, covariances, weights = parts
    return GaussianMixture(means, covariances, weights=weights)


def _smallest_good(found: Mapping[int, Any]) -> int:
    """Return the smallest size that explains held-out rows as well as the best one does, within a standard error."""
    best = max(found, key=lambda size: found[size].mean())
    worse = {size: found[best] - scores for size, scores in found.items()}
    return next(size for size, gap in worse.items() if gap.mean() <= gap.std() / len(gap) ** 0.5)


def _fit(rows: Any, size: int, spread: float, seed: int) -> Any:
    """Fit one size; convergence is looked at by the caller."""
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture as Fit
    except ImportError as error:
        raise ImportError("fitting a schema needs scikit-learn: pip install 'mnemotrace[probes]'") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return Fit(size, n_init=3, max_iter=500, reg_covar=spread, random_state=seed).fit(rows)
