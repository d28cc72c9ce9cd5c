"""Learn without forgetting: training that cannot touch some entries, and skills that keep to regions of their own.

A later task that is trained and grafted outside the regions of the earlier ones leaves their entries as they are, bit
for bit. What the network says can still change, since other entries do; that has to be measured.

Inside `confined` the frozen entries get no gradient, and after each step of any `torch.optim` optimiser they are
written back. The second is needed: weight decay and momentum move entries whose gradient is zero.

Memory: one byte for each entry of the parameters concerned, and a copy of the frozen ones. Cost: one masked write a
step.
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from mnemotrace.core.edit import Edit
from mnemotrace.core.errors import EditError
from mnemotrace.core.mask import Mask


@contextmanager
def confined(
    model: nn.Module, *, protected: Mask | Iterable[Mask] = (), allowed: Mask | None = None
) -> Generator[None, None, None]:
    """Keep training inside the block away from some entries, whatever optimiser takes the steps.

    Args:
        model: the network to be trained in place; hooks are gone after the block, and its training flags,
            `requires_grad` and gradients are not touched but for zeros in the gradients of frozen entries.
        protected: regions whose entries stay bit-identical.
        allowed: the only region whose entries may change; all other entries of all parameters stay. Buffers, such as
            running means, are no entries.

    Raises:
        ValueError: neither is given, so that nothing would be confined.
        EditError: a mask names a parameter that the model lacks, or of another shape.
    """
    masks = [protected] if isinstance(protected, Mask) else list(protected)
    if not masks and allowed is None:
        raise ValueError("got neither protected nor allowed entries; expected one of them; train without confinement")
    frozen = _frozen(model, masks, allowed)
    kept = {name: model.get_parameter(name).detach()[where].clone() for name, where in frozen.items()}

    def write_back(*_: object) -> None:
        with torch.no_grad():
            for name, where in frozen.items():
                model.get_parameter(name)[where] = kept[name]

    with ExitStack() as stack:
        stack.callback(write_back)
        stack.callback(register_optimizer_step_post_hook(write_back).remove)
        for name, where in frozen.items():
            parameter = model.get_parameter(name)
            if parameter.requires_grad:
                stack.callback(parameter.register_hook(_silenced(where)).remove)
        yield


@dataclass(frozen=True)
class Regions:
    """Skills by name, each in a region of its own.

    Attributes:
        masks: by name, in the order in which they were learned.

    Raises:
        EditError: two regions share entries.
    """

    masks: Mapping[str, Mask] = field(default_factory=dict[str, Mask])

    def __post_init__(self) -> None:
        """Check that no two regions meet."""
        seen: dict[str, Mask] = {}
        for name, mask in self.masks.items():
            for other, earlier in seen.items():
                shared = len(mask & earlier)
                if shared:
                    raise EditError(
                        f"got {shared} of the {len(mask)} entries of {name!r} in the region of {other!r}; expected "
                        "regions apart; graft the later one with protected=regions.union()"
                    )
            seen[name] = mask

    def add(self, name: str, mask: Mask) -> "Regions":
        """Return these regions and one more.

        Raises:
            ValueError: the name is taken.
            EditError: the region meets another.
        """
        if name in self.masks:
            raise ValueError(f"got a second region named {name!r}; expected a new name; {', '.join(self.masks)} exist")
        return replace(self, masks={**self.masks, name: mask})

    def union(self) -> Mask | None:
        """Return all entries that are taken, to be protected; None while there are none."""
        joined: Mask | None = None
        for mask in self.masks.values():
            joined = mask if joined is None else joined | mask
        return joined

    def edit(self) -> Edit:
        """Make the edit that puts all skills into the base network at once.

        Raises:
            ValueError: there is none.
        """
        joined = self.union()
        if joined is None:
            raise ValueError("got no region; expected at least one; add masks first")
        return joined.edit()


def _frozen(model: nn.Module, masks: list[Mask], allowed: Mask | None) -> dict[str, Tensor]:
    """Return, for each parameter that has some, which entries must stay."""
    parameters = dict(model.named_parameters())
    frozen: dict[str, Tensor] = {}
    if allowed is not None:
        frozen = {name: torch.ones_like(p, dtype=torch.bool) for name, p in parameters.items()}
        _fill(frozen, allowed, parameters, value=False)
    for mask in masks:
        for name in mask.regions:
            if name in parameters and name not in frozen:
                frozen[name] = torch.zeros_like(parameters[name], dtype=torch.bool)
        _fill(frozen, mask, parameters, value=True)
    return frozen


def _fill(frozen: dict[str, Tensor], mask: Mask, parameters: Mapping[str, Tensor], *, value: bool) -> None:
    for name, region in mask.regions.items():
        found = tuple(parameters[name].shape) if name in parameters else None
        if found != region.shape:
            raise EditError(
                f"got a mask of {name!r} with shape {region.shape}, which is {found or 'absent'} in the model; "
                "expected the network that the mask was made for, or a copy; give the mask of such a one"
            )
        frozen[name].view(-1)[region.indices.to(frozen[name].device)] = value


def _silenced(where: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient.masked_fill(where, 0)
