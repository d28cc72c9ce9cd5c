"""Put an edit into a model and take it out again, bit for bit.

Everything is checked before the first weight is written; if a new value turns out not to be finite, or writing stops
half-way (an interrupt, say), what was written is taken back. The update is computed in float32 at least
(float64 for float64 parameters and for changes stored so) from the exact stored weights and rounded once. Formats
with few digits swallow small updates: `Undo.rounding` says per parameter how much of the wanted change arrived. To add
several edits to a low-precision model add the edits, not the roundings: `apply(model, a + b)`.

Memory: one copy of each touched parameter, kept for the way back.
"""

import warnings
from collections.abc import Generator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from mnemotrace.core.artifact import fingerprint
from mnemotrace.core.edit import Change, Edit, parameters_of, stored_delta
from mnemotrace.core.errors import EditError, NumericalWarning
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.lowrank import LowRank

WANTED_COSINE = 0.99

# Writes to a parameter that were taken back since, so that an edit still recognises the weights that it left when a
# later edit has come and gone.
_TAKEN_BACK: MutableMapping[Any, int] = WeakTensorKeyDictionary()


@dataclass(frozen=True)
class Rounding:
    """How much of a wanted change a low-precision parameter took.

    Attributes:
        cosine: between the realised and the wanted change, in [-1, 1]; 1 is lossless.
        moved: share of the entries with a wanted change that changed at all, in [0, 1].
    """

    cosine: float
    moved: float


class _Saved(NamedTuple):
    parameter: nn.Parameter
    values: Tensor
    version: int


class Undo:
    """Gives a model its exact weights back: `undo = mt.apply(model, edit); undo()`.

    Attributes:
        rounding: loss by parameter name, for parameters of less than 32 bits.
        tied: other names that hold an edited parameter and therefore changed with it, by parameter name.
    """

    def __init__(
        self,
        originals: dict[str, _Saved],
        rounding: Mapping[str, Rounding],
        tied: Mapping[str, tuple[str, ...]],
    ) -> None:
        """Remember the parameters, their original values and their state after the edit."""
        self.rounding = rounding
        self.tied = tied
        self._originals = originals
        self._versions = {name: _version(saved.parameter) for name, saved in originals.items()}

    def __call__(self, *, force: bool = False) -> None:
        """Restore every parameter bit-exactly; once.

        Args:
            force: restore also what was changed since, and do nothing the second time.

        Raises:
            EditError: already undone, or a parameter was changed since (undo the later edit first).
        """
        if not self._originals and not force:
            raise EditError("got a second call of one undo; expected one; apply the edit again first")
        changed = [n for n, saved in self._originals.items() if _version(saved.parameter) != self._versions[n]]
        if changed and not force:
            raise EditError(
                f"got parameters changed since the edit ({', '.join(changed[:4])}); expected them untouched; "
                "undo later edits first, in reverse order"
            )
        _restore(self._originals)
        self._originals = {}


@contextmanager
def applied(model: nn.Module, edit: Edit, *, strict: bool = False) -> Generator[Undo, None, None]:
    """Apply an edit inside a `with` block; the exact weights are back after it, whatever happens inside.

    That includes training: what it did to the edited parameters is lost.

    Args:
        model: any network that has the edit's parameters.
        edit: what to add.
        strict: refuse a model whose fingerprint is not the one that the edit was made for.

    Raises:
        EditError: the edit does not fit; the model is untouched.
    """
    undo = apply(model, edit, strict=strict)
    try:
        yield undo
    finally:
        undo(force=True)


def apply(model: nn.Module, edit: Edit, *, strict: bool = False) -> Undo:
    """Apply an edit to a model in place and return the way back.

    Args:
        model: any network that has the edit's parameters.
        edit: what to add.
        strict: refuse a model whose fingerprint is not the one that the edit was made for. Off by default, since
            edits are applied one after another and transplanted between models.

    Returns:
        A callable that restores every parameter bit-exactly, with the rounding loss.

    Raises:
        EditError: a parameter is missing, of another shape, of a type that cannot be edited, or `strict` fails.
        NonFiniteError: the change or the new weights are not finite.
    """
    if strict:
        _check_base(model, edit)
    parameters = _validated(model, edit)
    originals: dict[str, _Saved] = {}
    rounding: dict[str, Rounding] = {}
    try:
        for name, parameter in parameters.items():
            wanted = _delta(name, parameter, edit)
            new = (parameter.detach().to(wanted.dtype) + wanted).to(parameter.dtype)
            require_finite(new, f"{name} after the edit")
            originals[name] = _Saved(parameter, parameter.detach().clone(), _version(parameter))
            if parameter.element_size() < 4:
                rounding[name] = _rounding(new, parameter.detach(), wanted)
            with torch.no_grad():
                parameter.copy_(new)
        _warn_of_rounding(rounding)
    except BaseException:
        _restore(originals)
        raise
    return Undo(originals, rounding, {n: t for n, t in tied_names(model).items() if n in parameters})


def _validated(model: nn.Module, edit: Edit) -> dict[str, nn.Parameter]:
    """Return the parameters to change, after every check that needs no arithmetic."""
    available = dict(model.named_parameters(remove_duplicate=False))
    chosen: dict[str, nn.Parameter] = {}
    for change in edit.changes:
        for name in parameters_of(change):
            if name not in available:
                raise EditError(
                    f"got an edit of parameter {name!r}, which {type(model).__name__} lacks; expected a model with the "
                    "layout that the edit was made for; see `edit.parameters` and `mt.sites(model)`"
                )
            chosen[name] = available[name]
            _check_parameter(name, available[name], change)
    if not chosen:
        raise EditError("got an edit without changes; expected at least one; nothing would happen")
    _check_identity(chosen)
    return chosen


def _check_parameter(name: str, parameter: nn.Parameter, change: Change) -> None:
    _check_storage(name, parameter)
    if isinstance(change, LowRank):
        wanted = (change.site.o, change.site.d) if name == change.site.weight else (change.site.o,)
        tensors = (change.left, change.right)
    else:
        wanted, tensors = change.shape, (change.values,)
    seen = _shape_seen(name, parameter, change)
    if seen != wanted:
        raise EditError(
            f"got parameter {name!r} of shape {tuple(parameter.shape)}, "
            f"{'without that part' if seen is None else f'seen as {seen}'}; expected {wanted}; "
            "the edit was made for another width"
        )
    for tensor in tensors:
        require_finite(tensor, f"the change of {name}")


def _check_storage(name: str, parameter: nn.Parameter) -> None:
    if not parameter.is_floating_point() or parameter.element_size() < 2 or parameter.is_meta:
        raise EditError(
            f"got parameter {name!r} of {parameter.dtype} on {parameter.device}; expected float16, bfloat16, float32 "
            "or float64 with values in memory; load the model unquantised"
        )
    if parameter.is_inference():
        raise EditError(
            f"got parameter {name!r}, made under torch.inference_mode; expected one that may be written to; load the "
            "model outside of inference mode"
        )


def _shape_seen(name: str, parameter: nn.Parameter, change: Change) -> tuple[int, ...] | None:
    """Return the shape that a change would be added to, None when the parameter has no such part."""
    if not isinstance(change, LowRank):
        return tuple(parameter.shape)
    view = change.site.view if name == change.site.weight else change.site.bias_view
    try:
        return tuple(view(parameter.detach()).shape)
    except IndexError:
        return None


def _check_identity(chosen: dict[str, nn.Parameter]) -> None:
    seen: dict[int, str] = {}
    for name, parameter in chosen.items():
        other = seen.setdefault(id(parameter), name)
        if other != name:
            raise EditError(
                f"got changes of {other!r} and of {name!r}, which are one tied parameter; expected one of them, or it "
                "would be edited twice; keep one name (`mt.sites` lists tied weights once)"
            )


def _check_base(model: nn.Module, edit: Edit) -> None:
    base = edit.manifest.get("base")
    actual = fingerprint(model)
    if base != actual:
        raise EditError(
            f"got a model with fingerprint {actual}; expected {base}; use the model that the edit was made for, or "
            "strict=False to apply it elsewhere"
        )


def _delta(name: str, parameter: nn.Parameter, edit: Edit) -> Tensor:
    """Sum all changes of one parameter in its stored shape, in float32 or better."""
    mine = [change for change in edit.changes if name in parameters_of(change)]
    dtype = torch.promote_types(parameter.dtype, torch.float32)
    if any(not isinstance(change, LowRank) and change.values.dtype == torch.float64 for change in mine):
        dtype = torch.float64
    total = torch.zeros(parameter.shape, dtype=dtype, device=parameter.device)
    for change in mine:
        site, values = stored_delta(change.to(parameter.device, dtype) if isinstance(change, LowRank) else change)[name]
        place = total if site is None else (site.view(total) if name == site.weight else site.bias_view(total))
        place += values.to(parameter.device, dtype)
    return total


def _rounding(new: Tensor, old: Tensor, wanted: Tensor) -> Rounding:
    realised = (new.float() - old.float()).double().flatten()
    aim = wanted.double().flatten()
    size = float((realised @ realised).sqrt() * (aim @ aim).sqrt())
    if not bool(aim.any()):
        return Rounding(1.0, 1.0)
    moved = float((realised[aim != 0] != 0).double().mean())
    return Rounding(float(realised @ aim) / size if size else 0.0, moved)


def _warn_of_rounding(rounding: Mapping[str, Rounding]) -> None:
    poor = {name: loss for name, loss in rounding.items() if loss.cosine < WANTED_COSINE}
    if poor:
        name, worst = min(poor.items(), key=lambda item: item[1].cosine)
        warnings.warn(
            f"{len(poor)} low-precision parameters took less than the wanted change: worst {name}, cosine "
            f"{worst.cosine:.3f}, {worst.moved:.0%} of entries moved; keep the model in float32, or carry the edit "
            "beside the weights with `edit.to_peft`",
            NumericalWarning,
            stacklevel=3,
        )


def _restore(originals: dict[str, _Saved]) -> None:
    with torch.no_grad():
        for parameter, values, version in originals.values():
            parameter.copy_(values)
            _TAKEN_BACK[parameter] = parameter._version - version


def _version(parameter: nn.Parameter) -> int:
    """Count the writes to a parameter, less those that were taken back."""
    return parameter._version - _TAKEN_BACK.get(parameter, 0)


def tied_names(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return, for each name of a parameter that has several, the other names of the same tensor."""
    groups: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return {n: tuple(m for m in group if m != n) for group in groups.values() if len(group) > 1 for n in group}
