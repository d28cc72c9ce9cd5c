"""What may be given as an observation, a variance or a prior, checked before anything is changed."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemotrace.core.linalg import require_finite
from mnemotrace.core.memory import states_of


def observation_of(value: Any, mask: Any, d: int, name: str) -> tuple[Float[Tensor, " d"], Bool[Tensor, " d"]]:
    """Return an observation in float64, 0 outside its mask, and the mask; None is a mask of all features.

    Raises:
        TypeError: no floating-point tensor, or no boolean mask.
        ValueError: another shape, more than one row, or a mask without a feature.
        NonFiniteError: NaN or infinity inside the mask.
    """
    where = torch.ones(d, dtype=torch.bool) if mask is None else mask
    if not isinstance(where, Tensor) or where.dtype != torch.bool:
        what = f"of {where.dtype}" if isinstance(where, Tensor) else f"that is a {type(where).__name__}"
        raise TypeError(f"got a mask {what}; expected a boolean tensor, True where the {name} has a feature")
    if where.shape != (d,) or not bool(where.any()):
        what = f"of shape {tuple(where.shape)}" if where.shape != (d,) else "without a feature"
        raise ValueError(f"got a mask {what}; expected ({d},), with at least one feature that the {name} has")
    if isinstance(value, Tensor) and value.shape == (d,) and value.is_floating_point():
        value = torch.where(where.to(value.device), value, 0)
    rows = states_of(value, d, name)
    if len(rows) > 1:
        raise ValueError(f"got {len(rows)} rows as {name}; expected one, ({d},); give them one after the other")
    return rows[0].to(torch.float64), where.to(rows.device)


def variance_of(value: Any, d: int, name: str) -> Float[Tensor, " d"]:
    """Return a variance a feature, float64, of a number or `(d,)`.

    Raises:
        ValueError: another shape, or not above 0 and finite.
    """
    given = torch.as_tensor(value, dtype=torch.float64)
    if given.shape not in ((), (d,)) or not bool(((given > 0) & given.isfinite()).all()):
        least = float(given.min()) if given.numel() else 0.0
        raise ValueError(
            f"got {name} of shape {tuple(given.shape)}, from {least:.3g}; expected a finite variance above 0: "
            f"a number, or ({d},), one a feature; leave out a feature by a mask"
        )
    return given.expand(d).clone()


def prior_of(prior: Any, d: int) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Return mean and variance of memories that are not there yet.

    Raises:
        ValueError: another shape, or a variance that is not above 0.
        NonFiniteError: NaN or infinity in the mean.
    """
    mean = torch.as_tensor(prior[0], dtype=torch.float64)
    if mean.shape not in ((), (d,)):
        raise ValueError(f"got a prior mean of shape {tuple(mean.shape)}; expected a number, or ({d},)")
    require_finite(mean, "the prior mean")
    return mean.expand(d).clone(), variance_of(prior[1], d, "the prior's variance")


def number_of(value: Any, name: str, *, low: float, above: bool = False, high: float = math.inf) -> float:
    """Return a number in a range, `high` included if finite.

    Raises:
        ValueError: it is not in it.
    """
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not real or not (value > low if above else value >= low) or not (value <= high) or math.isinf(value):
        bound = f"{'above' if above else 'from'} {low:g}" + (f" to {high:g}" if math.isfinite(high) else "")
        raise ValueError(f"got {name}={value!r}; expected a finite number {bound}")
    return float(value)
