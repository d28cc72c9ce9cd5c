r"""Splices: a network whose activations at one module are replaced row by row, as long as a block lasts.

The network's weights stay as they are, and so do rows that a mask leaves out. Cost: a copy of what the module gives,
and the change itself.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mnemotrace.adapters.hooks import patch
from mnemotrace.adapters.outputs import module_of, require_units, tensor_of, units_first
from mnemotrace.localisation.code import decoded
from mnemotrace.localisation.dictionary import Dictionary


@contextmanager
def changing(
    model: nn.Module, site: str, change: Callable[[Tensor], Tensor], mask: Tensor | None = None
) -> Generator[None, None, None]:
    """Replace what a module gives, row by row.

    Args:
        model: the network.
        site: name of a module that gives `(b, d)`, `(b, t, d)` or `(b, d, h, w)`.
        change: from rows `(n, d)` to rows; called with those of a batch.
        mask: `(b,)` or `(b, t)` bool, which rows are replaced; None replaces all.

    Raises:
        SelectionError: no such module.
        ValueError: a mask that does not fit.
    """
    module = module_of(model, site)

    def hook(output: Any) -> Any:
        whole = tensor_of(output, site).clone()
        rows = units_first(whole, module=module).movedim(1, -1)  # a view: what is written there is written to `whole`
        leading = tuple(rows.shape[:-1])
        here = torch.ones(leading, dtype=torch.bool) if mask is None else mask
        if tuple(here.shape) != leading[: here.ndim]:
            raise ValueError(
                f"got a mask of shape {tuple(here.shape)} at {site or 'the output'}, which gives rows {leading}; "
                "expected their leading axes; build the mask from the same batch"
            )
        here = here.to(rows.device)
        old = rows[here]
        rows[here] = change(old.reshape(-1, rows.shape[-1])).to(rows).view_as(old)
        return _put(output, whole)

    with patch(model, {site: hook}):
        yield


def _put(output: Any, tensor: Tensor) -> Any:
    """Give back what a module gave, with its first tensor replaced."""
    if isinstance(output, Tensor):
        return tensor
    if type(output) in (tuple, list):
        return type(output)((tensor, *output[1:]))
    raise TypeError(
        f"got {type(output).__name__} from a module; expected a tensor, or a tuple that starts with one; choose a "
        "module inside"
    )


@contextmanager
def silencing(
    model: nn.Module, dictionary: Dictionary, latents: Iterable[int], *, site: str | None = None
) -> Generator[None, None, None]:
    r"""Take away what latents say, :math:`x - \sum_j z_j d_j` over them, and nothing else, as long as the block lasts.

    Args:
        model: the network.
        dictionary: for what a module gives.
        latents: which.
        site: name of the module; None takes the dictionary's own.

    Raises:
        SelectionError: no such module.
        ValueError: a latent that is not there.
    """
    chosen = list(latents)
    require_units(chosen, dictionary.m, "the dictionary")
    off = torch.zeros(dictionary.m, dtype=torch.bool)
    off[chosen] = True

    def change(rows: Tensor) -> Tensor:
        code = dictionary.encode(rows)
        said = torch.where(off.to(rows.device)[code.indices], code.values, 0)
        return rows - decoded(replace(code, values=said), dictionary.decoder).to(rows)

    with changing(model, dictionary.site if site is None else site, change):
        yield
