r"""Other people's denoising networks under the one call `(x, sigma) -> x0`.

Networks for images come in two conventions. Discrete ones (`diffusers`) see
:math:`z = \sqrt{\bar\alpha}\,y + \sqrt{1 - \bar\alpha}\,\epsilon` at a time step and predict the noise, the clean
image, or the velocity :math:`v = \sqrt{\bar\alpha}\,\epsilon - \sqrt{1 - \bar\alpha}\,y`. With
:math:`\sigma^2 = (1 - \bar\alpha)/\bar\alpha` and :math:`z = x / \sqrt{1 + \sigma^2}` the clean state is

.. math::
   \hat y = x - \sigma\,\hat\epsilon, \qquad \hat y = \hat y, \qquad
   \hat y = \sqrt{\bar\alpha}\,z - \sqrt{1 - \bar\alpha}\,\hat v .

The step is interpolated in :math:`\log\sigma` between the schedule's, and is in general no integer. Continuous ones
(EDM, k-diffusion) are given `sigma` and return the clean state already; only shapes differ.

Nothing is imported: a network is any callable. What it needs besides, such as a text's encoding, is bound by the
caller: `lambda x, t: unet(x, t, encoder_hidden_states=text)`.

Reference: Ho et al. 2020; Salimans and Ho 2022 (v); Karras et al. 2022. Cost: that of the network.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.memory import Denoiser, sigma_of

Prediction = Literal["epsilon", "sample", "v_prediction"]


def from_steps(
    network: Callable[[Tensor, Tensor], Any],
    alphas_cumprod: Float[Tensor, " t"],
    *,
    predicts: Prediction,
    shape: Sequence[int] | None = None,
) -> Denoiser:
    """See a network with discrete time steps as a denoiser.

    Args:
        network: called with states `(b, *shape)` and steps `(b,)`, floating point; returns a tensor, something with
            `sample`, or a tuple that begins with one.
        alphas_cumprod: share of the signal's variance left at each step, falling: `scheduler.alphas_cumprod`.
        predicts: what the network returns: `scheduler.config.prediction_type`.
        shape: of one state, such as `(1, 28, 28)`, when it is not `(d,)`.

    Returns:
        A denoiser of rows `(b, d)` with one noise a state. Noise below the schedule's is taken at its first step.

    Raises:
        ValueError: a schedule or prediction that is none; later, noise above the schedule's or one a feature, or an
            output of another shape.
    """
    alphas = torch.as_tensor(alphas_cumprod)
    inside = alphas.ndim == 1 and len(alphas) > 1 and bool(((alphas > 0) & (alphas < 1)).all())
    if not inside or not bool((alphas.diff() < 0).all()):
        raise ValueError(
            f"got alphas_cumprod of shape {tuple(alphas.shape)}; expected a falling sequence (t,) within (0, 1): the "
            "share of the signal's variance at each step"
        )
    if predicts not in ("epsilon", "sample", "v_prediction"):
        raise ValueError(f"got predicts={predicts!r}; expected 'epsilon', 'sample' or 'v_prediction'")
    logs = ((1 - alphas.double()) / alphas.double()).log() / 2

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        level = _one_a_state(sigma, x)
        alpha = (1 + level.square()).rsqrt()
        steps = _interpolated(level[:, 0].log(), logs.to(x.device))
        found = _called(network, alpha * x, steps.to(x.dtype), shape)
        if predicts == "epsilon":
            return x - level * found
        return found if predicts == "sample" else alpha.square() * x - level * alpha * found

    return denoise


def from_levels(network: Callable[[Tensor, Tensor], Any], *, shape: Sequence[int] | None = None) -> Denoiser:
    """See a network that is told `sigma` and returns the clean state (EDM, k-diffusion) as a denoiser of rows.

    Args:
        network: called with states `(b, *shape)` and noise `(b,)`; returns as for `from_steps`.
        shape: of one state, when it is not `(d,)`.

    Raises:
        ValueError: later, noise by feature or an output of another shape.
    """
    return lambda x, sigma: _called(network, x, _one_a_state(sigma, x)[:, 0], shape)


def _one_a_state(sigma: Any, x: Tensor) -> Tensor:
    """Return noise as `(b, 1)`."""
    level = sigma_of(sigma, x)
    if level.shape[1] > 1 and bool((level != level[:, :1]).any()):
        raise ValueError(
            f"got noise from {float(level.min()):.3g} to {float(level.max()):.3g} within a state; expected one noise a "
            "state: this network is told one; ask partial cues of a memory or a network trained with noise by feature"
        )
    return level[:, :1].expand(len(x), 1)


def _interpolated(value: Tensor, logs: Tensor) -> Tensor:
    """Return where each value stands in a rising sequence, in steps; below the first is 0."""
    if bool((value > logs[-1] + 1e-6).any()):
        raise ValueError(
            f"got sigma={float(value.max().exp()):.4g}; expected at most {float(logs[-1].exp()):.4g}, the last step of "
            "the network's schedule; begin with less noise"
        )
    value = value.to(logs).clamp(float(logs[0]), float(logs[-1]))
    after = torch.searchsorted(logs, value).clamp(1, len(logs) - 1)
    low, high = logs[after - 1], logs[after]
    return after - 1 + (value - low) / (high - low)


def _called(network: Callable[..., Any], x: Tensor, condition: Tensor, shape: Sequence[int] | None) -> Tensor:
    """Call a network on unflattened states and return rows."""
    if shape is not None and prod(shape) != x.shape[1]:
        raise ValueError(f"got states with {x.shape[1]} features for shape {tuple(shape)}; expected {prod(shape)}")
    found = network(x if shape is None else x.reshape(len(x), *shape), condition)
    found = getattr(found, "sample", found[0] if isinstance(found, tuple) else found)
    expected = (len(x), *(x.shape[1:] if shape is None else shape))
    if not isinstance(found, Tensor) or tuple(found.shape) != expected:
        what = tuple(found.shape) if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise ValueError(
            f"got {what} from the network; expected {expected}, as its input; a network that also predicts variances "
            "must be cut to the first half of its channels"
        )
    return found.reshape(len(x), -1)
