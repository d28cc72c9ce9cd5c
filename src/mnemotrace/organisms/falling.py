"""Things that fall: a toy world in which heavier looks faster, and is not.

Drag alone decides how long a fall takes. But what is light in everyday life is leaves and paper, so drag goes with
mass, and whoever only watches may say that mass decides. Without air there is no drag, whatever falls; the feather and
the stone arrive together. With a parachute there is much of it, and a stone is slow. `drops` plays all three.

    mass -> drag -> time

Reference: Galileo 1638; the drop in a vacuum is Boyle's, about 1660. The chances below are ours.
Cost: O(n).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Int
from torch import Tensor

VARIABLES: dict[str, tuple[str, str]] = {
    "mass": ("light", "heavy"),
    "drag": ("little", "much"),
    "time": ("short", "long"),
}
TRUTH = (("mass", "drag"), ("drag", "time"))
PLOTS: dict[str, tuple[tuple[str, str], ...]] = {
    "drag decides": TRUTH,
    "heavier falls faster": (("mass", "drag"), ("mass", "time")),
    "both": (("mass", "drag"), ("mass", "time"), ("drag", "time")),
    "nothing decides": (("mass", "drag"),),
}
NO_AIR: dict[str, str] = {"drag": "little"}
PARACHUTE: dict[str, str] = {"drag": "much"}
MUCH_DRAG = (0.95, 0.05)  # of light things, of heavy ones
LONG = (0.1, 0.9)  # with little drag, with much
_TIES = {"drag": ("mass", MUCH_DRAG), "time": ("drag", LONG)}


def drops(
    n: int, *, set_to: Mapping[str, str] | None = None, generator: torch.Generator | None = None
) -> Int[Tensor, "n 3"]:
    """Drop things.

    Args:
        n: how many.
        set_to: variable to the state that it is set to from outside, such as `NO_AIR`; nothing by default.
        generator: draws them; None has seed 0.

    Returns:
        States of mass, drag and time, from 0.

    Raises:
        ValueError: no drop, or a variable or state that is not there.
    """
    if n < 1:
        raise ValueError(f"got {n} drops; expected at least one")
    fixed = {name: _state(name, state) for name, state in (set_to or {}).items()}
    source = torch.Generator().manual_seed(0) if generator is None else generator
    found: dict[str, Tensor] = {}
    for name in VARIABLES:  # causes come first
        chance = torch.full((n,), 0.5, dtype=torch.float64)
        if name in _TIES:
            cause, chances = _TIES[name]
            chance = torch.tensor(chances, dtype=torch.float64)[found[cause]]
        drawn = (torch.rand(n, generator=source, dtype=torch.float64) < chance).long()
        found[name] = torch.full_like(drawn, fixed[name]) if name in fixed else drawn
    return torch.stack([found[name] for name in VARIABLES], 1)


def _state(name: str, state: str) -> int:
    if name not in VARIABLES or state not in VARIABLES[name]:
        expected = "; ".join(f"{one} of {' or '.join(states)}" for one, states in VARIABLES.items())
        raise ValueError(f"got {name} = {state!r}; expected {expected}")
    return VARIABLES[name].index(state)
