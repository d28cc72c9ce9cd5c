r"""Latents as units: a network that ends in a dictionary's latents, so that whatever speaks of units speaks of them.

`latents(dictionary, model)` runs the network to the dictionary's site and gives dense codes. Recollections, top
examples, visualisations and concept cells take it with `site=None`; its module `pre` gives the pre-activations, which
have a gradient where a latent is off. Beside it what other traces need: the directions of latents for an eraser, and
where a latent is on, as a mask for collecting.

Erasing along a decoder row :math:`d` is :math:`x - d\,d^T (x - \mu)`: the space that the latent writes to is emptied,
of other latents' shares too. To take away only what the latent itself says, :math:`x - z_j d_j`, see
`evaluation.splicing.silencing`.

Cost: the network up to the site, and `m d` multiplications a position. Memory: `m` numbers a position, dense.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mnemotrace.adapters.hooks import evaluating, forward, stop_after
from mnemotrace.adapters.outputs import module_of, require_units, tensor_of, units_first
from mnemotrace.core.artifact import library_version
from mnemotrace.core.direction import Direction
from mnemotrace.core.errors import SelectionError
from mnemotrace.localisation.dictionary import Dictionary
from mnemotrace.stats.collect import mask_of

_IMAGE = 4


class Latents(nn.Module):
    """A network whose outputs are the latents of a dictionary; made by `latents`.

    Its modules: `network`, the network itself; `pre`, pre-activations; `gate`, what is chosen of them.
    """

    def __init__(self, network: nn.Module, dictionary: Dictionary, site: str) -> None:
        super().__init__()
        self.site, self.network = site, network
        self.pre, self.gate = _Reading(dictionary, site), _Choosing(dictionary)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Give codes: `(b, m)`, `(b, t, m)`, or `(b, m, h, w)` for a site with maps."""
        module, seen = module_of(self.network, self.site), list[Any]()
        with stop_after(module, seen.append):
            self.network(*args, **kwargs)
        if not seen:
            raise SelectionError(
                f"got site={self.site!r}, which did not run in the forward pass; expected a module that the "
                "network calls"
            )
        rows = units_first(tensor_of(seen[0], self.site), module=module).movedim(1, -1)
        return self.gate(self.pre(rows))


class _Reading(nn.Module):
    """Reads rows `(b, *positions, d)` with the encoder."""

    def __init__(self, dictionary: Dictionary, site: str) -> None:
        super().__init__()
        self.site = site
        for name in ("encoder", "encoder_bias", "bias"):
            self.register_buffer(name, getattr(dictionary, name))

    def forward(self, rows: Tensor) -> Tensor:
        encoder = self.get_buffer("encoder")
        if rows.shape[-1] != encoder.shape[1]:
            raise ValueError(
                f"got activations of width {rows.shape[-1]} at {self.site or 'the output'}; expected "
                f"{encoder.shape[1]}; name the module that the dictionary is for with site="
            )
        read = functional.linear(rows.to(encoder) - self.get_buffer("bias"), encoder, self.get_buffer("encoder_bias"))
        return read.movedim(-1, 1) if read.ndim >= _IMAGE else read


class _Choosing(nn.Module):
    """Keeps the `k` largest positive pre-activations, or those above a threshold; differentiable where kept."""

    def __init__(self, dictionary: Dictionary) -> None:
        super().__init__()
        self.k = dictionary.k if dictionary.threshold is None else None
        self.register_buffer("threshold", dictionary.threshold)

    def forward(self, pre: Tensor) -> Tensor:
        axis = 1 if pre.ndim >= _IMAGE else -1
        if self.k is not None:
            kept = torch.zeros_like(pre, dtype=torch.bool).scatter(axis, pre.topk(self.k, dim=axis).indices, True)
        else:
            threshold = self.get_buffer("threshold")
            beside = pre.ndim - 2 if axis == 1 else 0
            kept = pre > (threshold.view(-1, *[1] * beside) if threshold.ndim else threshold)
        return functional.relu(pre) * kept


def latents(dictionary: Dictionary, model: nn.Module, *, site: str | None = None) -> Latents:
    """See a network's latents as its units.

    Args:
        dictionary: for what a module of the network gives.
        model: the network; shared, so edits and erasers in it are seen.
        site: name of the module; None takes the dictionary's own.

    Returns:
        A module called as the network is; codes as `dictionary.encode(...)` gives them, dense.

    Raises:
        SelectionError: no such module.
    """
    name = dictionary.site if site is None else site
    module_of(model, name)
    return Latents(model, dictionary, name).train(model.training)


def direction_of(
    dictionary: Dictionary, latents: Sequence[int], *, mean: Float[Tensor, " d"] | None = None
) -> Direction:
    """Return the eraser of the space that latents write to, for `forgetting.concept.erasing`.

    Args:
        dictionary: of the module whose output is to be erased from.
        latents: which; rows that depend on each other count once.
        mean: where activations are left, such as their mean; None takes the dictionary's output bias.

    Raises:
        ValueError: no latent, or one that is not there.
    """
    chosen = list(latents)
    require_units(chosen, dictionary.m, "the dictionary")
    if not chosen:
        raise ValueError("got no latent; expected at least one")
    _, values, rows = torch.linalg.svd(dictionary.decoder[chosen].double(), full_matrices=False)
    basis = rows[values > values[0] * 1e-6]
    at = dictionary.output_bias if mean is None else mean
    manifest = {"method": "decoder rows", "latents": chosen, "of": dict(dictionary.manifest), "place": dictionary.site}
    return Direction(basis.T, basis, at.double(), manifest=manifest | {"version": library_version()})


def mask_of_latent(
    dictionary: Dictionary, model: nn.Module, latent: int, threshold: float = 0.0, *, site: str | None = None
) -> Callable[[Any], Tensor]:
    """Return where a latent is on, as `mask=` for `mt.collect`: evidence of the latent, for an engram of it.

    The mask runs the network once more for each batch, in a copy that shares its weights and has hooks of its own, so
    that nothing is collected from that run.

    Args:
        dictionary: for what a module of the network gives.
        model: the network that will be collected from.
        latent: which.
        threshold: on means above it; a high quantile of the latent keeps only its clear cases.
        site: name of the module; None takes the dictionary's own.

    Returns:
        From a batch to `(b, t)` bool, within its attention mask; `(b,)` for sites without positions or with maps (on
        anywhere).

    Raises:
        SelectionError: no such module.
        ValueError: a latent that is not there.
    """
    require_units([latent], dictionary.m, "the dictionary")
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    view = latents(dictionary, deepcopy(model, shared), site=site)

    def mask(batch: Any) -> Tensor:
        with evaluating(view):
            codes = units_first(forward(view, batch))[:, latent]  # type: ignore[arg-type]
        on = codes > threshold
        on = on.flatten(1).any(1) if on.ndim > 2 else on  # noqa: PLR2004
        present = mask_of(batch, None)
        return on & present.to(on.device) if present is not None and present.shape == on.shape else on

    return mask
