"""What every memory system offers, and what a recall gives back.

An associative memory is an energy over states and one pass of the update that lowers it; nothing else is needed to
recall from it (`retrieval.dynamics.recall`). A denoiser says what the clean pattern is expected to be, given a noisy
one; nothing else is needed to recall by diffusion (`retrieval.diffusion`). Whatever has one of these two calls can be
recalled from, whoever made it.

Noise is always a standard deviation `sigma` of the difference between a state and the pattern behind it, in the units
of the patterns: a number for all features, or one a feature, `(d,)`, one a state, `(b, 1)`, or one each, `(b, d)`. A
feature with small noise is known, one with large noise is asked for. The inverse temperature of the same memory is
`beta = 1 / sigma**2`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mnemotrace.core.artifact import Artifact


@runtime_checkable
class Memory(Protocol):
    """An energy and one pass of its update."""

    @property
    def d(self) -> int:
        """Number of features of a state."""
        ...

    def energy(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """Return the energy of states; a pass of the update does not raise it."""
        ...

    def sweep(
        self,
        x: Float[Tensor, "b d"],
        *,
        known: Bool[Tensor, "#b d"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b d"]:
        """Return states after one pass over all features.

        Args:
            x: states.
            known: features that are held as they are; None updates all.
            generator: of the order of updates, where there is one; None goes through them as they come.
        """
        ...


@runtime_checkable
class Denoiser(Protocol):
    """What a clean pattern is expected to be, given a noisy one."""

    def __call__(self, x: Float[Tensor, "b d"], sigma: Tensor, /) -> Float[Tensor, "b d"]:
        """Return `E[y | x]` for `x = y + sigma * noise`; `sigma` broadcasts to `x`."""
        ...


@dataclass(frozen=True, eq=False)
class Recall:
    """What a memory gave back.

    Attributes:
        state: `(b, d)`, one a cue.
        energy: `(b,)` of the state; None where the memory has none.
        steps: `(b,)` passes, or noise levels, that were run.
        converged: `(b,)`: another pass would change nothing beyond the tolerance.
        cycle: `(b,)` length of the cycle that a state ended in; 0 where it ended in none.
        posterior: `(b, n)` probability of each stored pattern given the cue; None where nothing is stored as a list.
        trajectory: `(s, b, d)` states from the cue on, if it was asked for.
        evaluations: how many times the memory was called.
        manifest: provenance: method, settings, seed.
    """

    state: Float[Tensor, "b d"]
    energy: Float[Tensor, " b"] | None
    steps: Int[Tensor, " b"]
    converged: Bool[Tensor, " b"]
    cycle: Int[Tensor, " b"]
    posterior: Float[Tensor, "b n"] | None = None
    trajectory: Float[Tensor, "s b d"] | None = None
    evaluations: int = 0
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "recall"

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        named = {name: getattr(self, name) for name in _TENSORS}
        tensors = {name: tensor for name, tensor in named.items() if tensor is not None}
        return Artifact(self.kind, {"evaluations": self.evaluations, "manifest": dict(self.manifest)}, tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Recall":
        """Rebuild from an artifact."""
        tensors: dict[str, Any] = {name: artifact.tensors.get(name) for name in _TENSORS}
        return cls(**tensors, evaluations=artifact.header["evaluations"], manifest=artifact.header["manifest"])


_TENSORS = ("state", "energy", "steps", "converged", "cycle", "posterior", "trajectory")


def states_of(x: Any, d: int, name: str = "cue") -> Tensor:
    """Return states as `(b, d)` floating point, after checking them.

    Args:
        x: `(d,)` or `(b, d)`.
        d: expected width.
        name: what it is called in messages.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: another shape, or no state.
        NonFiniteError: NaN or infinity.
    """
    from mnemotrace.core.linalg import require_finite

    if not isinstance(x, Tensor) or not x.is_floating_point():
        what = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise TypeError(f"got {what} as {name}; expected a floating-point tensor; call .float() on it")
    rows = x[None] if x.ndim == 1 else x
    if rows.ndim != 2 or rows.shape[1] != d or len(rows) == 0:
        raise ValueError(
            f"got {name} of shape {tuple(x.shape)}; expected ({d},) or (b, {d}) with b >= 1; the memory has {d} "
            "features"
        )
    require_finite(rows, f"the {name}")
    return rows


def known_of(known: Any, x: Tensor) -> Tensor | None:
    """Return a mask that broadcasts to states, after checking it.

    Raises:
        TypeError: not boolean.
        ValueError: another width.
    """
    if known is None:
        return None
    if not isinstance(known, Tensor) or known.dtype != torch.bool:
        what = f"a mask of {known.dtype}" if isinstance(known, Tensor) else f"a {type(known).__name__}"
        raise TypeError(
            f"got {what}; expected a boolean tensor, True where a feature is known; compare, as in mask > 0"
        )
    mask = known[None] if known.ndim == 1 else known
    if mask.ndim != 2 or mask.shape[1] != x.shape[1] or mask.shape[0] not in (1, len(x)):
        raise ValueError(f"got a mask of shape {tuple(known.shape)}; expected ({x.shape[1]},) or {tuple(x.shape)}")
    return mask.expand(len(x), -1)


def sigma_of(sigma: Any, x: Tensor) -> Tensor:
    """Return noise that broadcasts to states, `(1 or b, 1 or d)`, after checking it.

    Raises:
        ValueError: another shape, or not above zero; infinite noise is allowed and means that nothing is known.
    """
    value = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    value = value.reshape(1, 1) if value.ndim == 0 else value[None] if value.ndim == 1 else value
    fits = value.ndim == 2 and value.shape[0] in (1, len(x)) and value.shape[1] in (1, x.shape[1])
    if not fits or not bool((value > 0).all()):
        what = f"shape {tuple(torch.as_tensor(sigma).shape)}" if not fits else "values that are not above 0"
        raise ValueError(
            f"got sigma with {what}; expected a positive standard deviation: a number, ({x.shape[1]},), "
            f"({len(x)}, 1) or {tuple(x.shape)}"
        )
    return value
