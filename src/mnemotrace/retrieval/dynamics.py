"""Recall by dynamics: run the update of a memory from a cue until it comes to rest.

Works for whatever has an energy and a sweep (`core.memory.Memory`). Each state of a batch stops on its own: at rest,
when a sweep changes no feature by more than the tolerance; or in a cycle, when a state comes back exactly. Cycles are
found with one kept state (Brent 1980): it is renewed after 1, 2, 4, ... sweeps, and once it lies in the cycle, the
number of sweeps until it recurs is the length. Not coming to rest is a result and not an error.

Cost: `sweeps` calls at most, each with the states that still move; memory of three batches of states.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemotrace.core.artifact import library_version
from mnemotrace.core.memory import Memory, Recall, known_of, states_of


@torch.no_grad()
def recall(
    memory: Memory,
    cue: Float[Tensor, "*b d"],
    *,
    known: Bool[Tensor, "*b d"] | None = None,
    sweeps: int = 50,
    tolerance: float = 1e-6,
    trajectory: bool = False,
    generator: torch.Generator | None = None,
) -> Recall:
    """Run a memory from a cue to rest.

    Args:
        memory: anything with `d`, `energy` and `sweep`.
        cue: `(d,)` or `(b, d)`, where to begin; 0 for a feature that is not known, in memories of -1 and 1.
        known: features that are held as the cue has them, `(d,)` or `(b, d)`; None lets all move.
        sweeps: passes at most.
        tolerance: largest change of a feature, in the units of the patterns, that counts as rest.
        trajectory: keep the states after every pass; those at rest are repeated.
        generator: of the order of updates; None takes features as they come.

    Returns:
        Recall; `posterior` is set if the memory has one, of the cue.

    Raises:
        TypeError: the memory has no energy or sweep, or the cue is no floating-point tensor, or the mask not boolean.
        ValueError: another width, fewer than one sweep, or a negative tolerance.
        NonFiniteError: NaN or infinity in the cue.
    """
    _require_memory(memory)
    if sweeps < 1 or not tolerance >= 0:
        raise ValueError(f"got sweeps={sweeps}, tolerance={tolerance}; expected at least 1 sweep, and 0 or more")
    x = states_of(cue, memory.d).clone()
    held = known_of(known, x)
    kept, kept_at, renew_at = x.clone(), 0, 1
    steps, cycle = (torch.zeros(len(x), dtype=torch.long, device=x.device) for _ in range(2))
    moving = torch.ones(len(x), dtype=torch.bool, device=x.device)
    course, done = [x.clone()], 0
    for done in range(1, sweeps + 1):
        part = None if held is None else held[moving]
        new = memory.sweep(x[moving], known=part, generator=generator).to(x)
        change = (new - x[moving]).abs().amax(1)
        recurs = (new == kept[moving]).all(1) & (change > tolerance)
        x[moving] = new
        steps[moving] = done
        cycle[moving] = torch.where(recurs, done - kept_at, cycle[moving])
        moving[moving.clone()] = (change > tolerance) & ~recurs
        course += [x.clone()] if trajectory else []
        if not bool(moving.any()):
            break
        if done == renew_at:
            kept, kept_at, renew_at = x.clone(), done, 2 * renew_at
    posterior: Callable[[Tensor], Tensor] | None = getattr(memory, "posterior", None)
    return Recall(
        state=x,
        energy=memory.energy(x),
        steps=steps,
        converged=~moving & (cycle == 0),
        cycle=cycle,
        posterior=None if posterior is None else posterior(states_of(cue, memory.d)),
        trajectory=torch.stack(course) if trajectory else None,
        evaluations=done,
        manifest=_manifest(memory, sweeps, tolerance, generator),
    )


def _require_memory(memory: Any) -> None:
    missing = [name for name in ("d", "energy", "sweep") if not hasattr(memory, name)]
    if not missing:
        return
    advice = "give a memory such as mt.Hopfield(patterns)"
    if callable(memory) and "sweep" in missing:
        advice = "if it is a denoiser, recall from it with mnemotrace.retrieval.diffusion.recall_by_diffusion"
    raise TypeError(
        f"got a {type(memory).__name__} without {', '.join(missing)}; expected an energy and a sweep; {advice}"
    )


def _manifest(memory: Any, sweeps: int, tolerance: float, generator: torch.Generator | None) -> dict[str, Any]:
    seed = None if generator is None else generator.initial_seed()
    return {
        "method": "dynamics",
        "memory": getattr(memory, "kind", type(memory).__name__),
        "sweeps": sweeps,
        "tolerance": tolerance,
        "seed": seed,
        "version": library_version(),
    }
