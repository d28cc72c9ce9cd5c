"""Intervals of shares.

Reference: Wilson 1927, Probable inference, the law of succession, and statistical inference.
"""

from statistics import NormalDist

from torch import Tensor


def wilson(hits: Tensor, count: int | float, *, confidence: float = 0.95) -> tuple[Tensor, Tensor]:
    """Return the lower and upper end of Wilson's interval of the share `hits / count`, of any shape."""
    z2 = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    share = hits.double() / count
    middle = share + z2 / (2 * count)
    half = (z2 * (share * (1 - share) / count + z2 / (4 * count**2))).sqrt()
    return (middle - half) / (1 + z2 / count), (middle + half) / (1 + z2 / count)
