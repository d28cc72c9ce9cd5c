r"""Task vectors: what fine-tuning changed, as an edit that adds, negates, scales and merges like any other.

:math:`\tau = \theta_{tuned} - \theta_{base}`; then :math:`\theta_{base} + \lambda \sum_i \tau_i` does several tasks,
:math:`\theta_{base} - \lambda \tau` forgets one, and :math:`\tau_C + \tau_B - \tau_A` carries what leads from A to B
over to C. This is the algebra of edits: `a + b`, `-a`, `0.8 * a`, `c + b - a`. :math:`\lambda` is one number for the
whole network, chosen on held-out data. Better sums of many: `modification.merging`.

Parameters of whole-number type and all buffers stay as they are; a tied parameter is compared once. Differences are
float32 (float64 for float64 parameters), so the tuned network comes back up to one rounding a weight.

Reference: Ilharco et al. 2023, Editing models with task arithmetic, section 2. Cost: one pass over the parameters, or
with `rank` an SVD of each matrix. Memory: one copy of what differs, or `r (o + d)` numbers a matrix.
"""

import warnings

import torch
from torch import Tensor, nn

from mnemotrace.adapters.difference import difference
from mnemotrace.core.applying import tied_names
from mnemotrace.core.artifact import fingerprint, library_version
from mnemotrace.core.edit import Edit
from mnemotrace.core.errors import EditError, NumericalWarning
from mnemotrace.core.site import Selection, select_names


def task_vector(base: nn.Module, tuned: nn.Module, *, select: Selection = None, rank: int | None = None) -> Edit:
    """Make the edit that turns a network into its fine-tuned self.

    Args:
        base: the network before fine-tuning; only read.
        tuned: the same network after it, with the same layout; only read.
        select: which parameters, as in `mt.sites` but by parameter name: a list of suffixes (`"mlp.c_proj.weight"`) or
            a regular expression. None for all.
        rank: most rank of the change of each linear map; its size falls from `o d` to `r (o + d)`. Biases, norms and
            embeddings stay whole. None keeps everything.

    Returns:
        The edit. Its manifest says what share `energy` of the squared norm the rank has kept, and which network it
        leads to (`tuned`).

    Raises:
        EditError: the networks have different layouts, or differ nowhere in what was selected.
        NonFiniteError: a tuned weight is NaN or infinite.
        SelectionError: nothing matches `select`.

    Warns:
        NumericalWarning: buffers differ, such as the running statistics of a batch norm, which no edit carries.
    """
    _check_layout(base, tuned)
    names = [name for name, parameter in base.named_parameters() if parameter.is_floating_point()]
    chosen = {name: tuned.get_parameter(name).detach() for name in select_names(names, select)}
    changes, energy = difference(base, chosen, rank=rank)
    if not changes:
        raise EditError(
            f"got two networks that are equal in all {len(chosen)} parameters compared; expected a tuned one; perhaps "
            "both names are one network, or the selection leaves out what was trained"
        )
    _warn_of_buffers(base, tuned)
    manifest = {"method": "task_vector", "rank": rank, "energy": energy, "base": fingerprint(base)}
    return Edit(changes, manifest | {"tuned": fingerprint(tuned), "version": library_version()})


def _check_layout(base: nn.Module, tuned: nn.Module) -> None:
    """Compare names, shapes, and which names are one tensor."""
    before, after = (dict(model.named_parameters(remove_duplicate=False)) for model in (base, tuned))
    odd = sorted(before.keys() ^ after.keys())
    if odd:
        raise EditError(
            f"got {', '.join(odd[:4])} in one network only ({len(odd)} parameters); expected two of one layout; merge "
            "adapters first, or untie the head in both or neither"
        )
    reshaped = [name for name in before if before[name].shape != after[name].shape]
    if reshaped:
        name = reshaped[0]
        raise EditError(
            f"got {name} of {tuple(before[name].shape)} and {tuple(after[name].shape)} ({len(reshaped)} parameters); "
            "expected one shape; where tokens were added, resize the embeddings of the base to the same vocabulary"
        )
    parted = [name for name, others in tied_names(base).items() if not all(_equal(after, name, n) for n in others)]
    if parted:
        raise EditError(
            f"got {parted[0]}, one tensor with {', '.join(tied_names(base)[parted[0]])} in the base and two in the "
            "tuned network; expected them tied in both; give a base with the two untied"
        )


def _equal(parameters: dict[str, nn.Parameter], name: str, other: str) -> bool:
    return parameters[name] is parameters[other] or torch.equal(parameters[name], parameters[other])


def _warn_of_buffers(base: nn.Module, tuned: nn.Module) -> None:
    after: dict[str, Tensor] = dict(tuned.named_buffers())
    floating = {name: buffer for name, buffer in base.named_buffers() if buffer.is_floating_point()}
    differ = [n for n, buffer in floating.items() if n in after and not torch.equal(buffer, after[n].to(buffer.device))]
    if differ:
        warnings.warn(
            f"{len(differ)} buffers differ, such as {differ[0]}, and no edit carries them; copy them from the tuned "
            "network, or estimate them anew with the edit applied",
            NumericalWarning,
            stacklevel=3,
        )
