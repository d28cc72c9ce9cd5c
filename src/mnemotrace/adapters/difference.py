"""What training changed, as changes of parameters: whole, or thin where linear maps allow.

Task vectors and unlearning both end here: two values of each parameter become one change each. Cost: one pass over
the parameters; with a rank, a singular value decomposition in float64 of each changed matrix, O(o d min(o, d)).
Memory: one float32 copy of what differs.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mnemotrace.adapters.linear import sites as all_sites
from mnemotrace.core.edit import Change, Dense
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.lowrank import LowRank
from mnemotrace.core.site import Site


def difference(
    model: nn.Module, after: Mapping[str, Tensor], *, rank: int | None = None
) -> tuple[tuple[Change, ...], float]:
    """Return what must be added to a network's parameters to make them as given.

    Args:
        model: the network before; only read.
        after: new values by parameter name; those that are equal are left out.
        rank: most rank of the change of a linear map; biases, norms and embeddings stay whole. None keeps all whole.

    Returns:
        The changes, and the share of their squared norm that they keep of the difference, 1 when whole.

    Raises:
        ValueError: a rank below 1.
        NonFiniteError: a new value is NaN or infinite.
    """
    if rank is not None and rank < 1:
        raise ValueError(f"got rank={rank}; expected at least 1, or None to keep the changes whole")
    maps = _maps(model) if rank is not None else {}
    changes: list[Change] = []
    whole = kept = 0.0
    for name, values in after.items():
        require_finite(values, name)
        before = model.get_parameter(name).detach()
        dtype = torch.promote_types(torch.promote_types(values.dtype, before.dtype), torch.float32)
        delta = values.detach().to(before.device, dtype) - before.to(dtype)
        if not bool(delta.any()):
            continue
        found = [_thin(site, delta, rank or 0) for site in maps.get(name, ())] or [Dense(name, delta)]
        changes += found
        whole += float(delta.double().square().sum())
        kept += sum(change.norm() ** 2 if isinstance(change, LowRank) else float(change.values.double().square().sum())
                    for change in found)  # fmt: skip
    return tuple(changes), kept / whole if whole else 1.0


def _maps(model: nn.Module) -> dict[str, list[Site]]:
    """Return the linear maps that a parameter holds; a head tied to an embedding is none."""
    found: dict[str, list[Site]] = {}
    for site in all_sites(model).values():
        found.setdefault(site.weight, []).append(site)
    return found


def _thin(site: Site, delta: Tensor, rank: int) -> LowRank:
    u, s, v = torch.linalg.svd(site.view(delta).double(), full_matrices=False)
    root = s[:rank].sqrt()
    return LowRank(site, (u[:, :rank] * root).to(delta.dtype), (root[:, None] * v[:rank]).to(delta.dtype))
