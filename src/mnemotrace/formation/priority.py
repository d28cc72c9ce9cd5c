"""Episodes with tags, and which of them ask to be replayed.

A priority is a function of the cortex, the episodes and their replay counts to one number at least 0 an episode; only
ratios matter. The tags come from whoever lived the episodes: when, how moved, how surprised.

Cost: O(n); `surprise` without its tag one pass of the cortex over all episodes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.linalg import require_finite
from mnemotrace.memories.denoiser import TrainedDenoiser
from mnemotrace.memories.patterns import Patterns

_PROBE = 0.5


@dataclass(frozen=True, eq=False)
class Episodes:
    """Single exposures with what was felt at them.

    Attributes:
        patterns: the store.
        time: `(n,)` when each was lived, in a unit of yours, later ones larger.
        affect: `(n,)` how moved, with either sign.
        surprise: `(n,)` how surprised, at least 0.
    """

    patterns: Patterns
    time: Float[Tensor, " n"] | None = None
    affect: Float[Tensor, " n"] | None = None
    surprise: Float[Tensor, " n"] | None = None

    def __post_init__(self) -> None:
        """Check the tags."""
        for name in ("time", "affect", "surprise"):
            tag = getattr(self, name)
            if tag is None:
                continue
            if tag.shape != (len(self.patterns),):
                raise ValueError(
                    f"got {name} of shape {tuple(tag.shape)} for {len(self.patterns)} episodes; expected one number "
                    "an episode"
                )
            require_finite(tag, f"the tag {name}")


class Priority(Protocol):
    """How much each episode asks to be replayed."""

    def __call__(self, cortex: TrainedDenoiser, episodes: Episodes, counts: Tensor, /) -> Tensor:
        """Return `(n,)`, at least 0 and not all zero."""
        ...


def episodes_of(given: Any) -> Episodes:
    """Return episodes of a tensor, a store, or whatever has `patterns`.

    Raises:
        TypeError: none of these.
        ValueError: a tensor of another shape.
    """
    inner = getattr(given, "patterns", None)
    if isinstance(given, Episodes):
        return given
    if isinstance(given, Patterns):
        return Episodes(given)
    if isinstance(inner, Patterns):
        return Episodes(inner)
    if isinstance(given, Tensor):
        return Episodes(Patterns(given))
    raise TypeError(
        f"got a {type(given).__name__}; expected episodes (n, d), a Patterns store, Episodes, or a memory with patterns"
    )


def priority_of(given: str | Priority) -> Priority:
    """Return a priority by name, or the callable given.

    Raises:
        ValueError: neither.
    """
    found: Any = PRIORITIES.get(given) if isinstance(given, str) else given
    if not callable(found):
        raise ValueError(f"got priority={given!r}; expected one of {', '.join(PRIORITIES)}, or a callable")
    return cast(Priority, found)


def checked(found: Any, n: int) -> Tensor:
    """Return priorities as float64, after checking them.

    Raises:
        ValueError: another shape, a negative or non-finite number, or all zero.
    """
    values = torch.as_tensor(found).detach().double()
    if values.shape != (n,) or not bool((values.isfinite() & (values >= 0)).all()) or not float(values.max()) > 0:
        low = f", from {float(values.min()):.3g}" if values.numel() else ""
        raise ValueError(
            f"got priorities of shape {tuple(values.shape)}{low}; expected ({n},), finite, none negative, not all zero"
        )
    return values


def uniform(cortex: TrainedDenoiser, episodes: Episodes, counts: Tensor, /) -> Tensor:  # noqa: ARG001
    """All alike."""
    return torch.ones(len(counts), dtype=torch.float64, device=counts.device)


def count(cortex: TrainedDenoiser, episodes: Episodes, counts: Tensor, /) -> Tensor:  # noqa: ARG001
    """One for having been lived, and one for each replay."""
    return 1.0 + counts.double()


def affect(cortex: TrainedDenoiser, episodes: Episodes, counts: Tensor, /) -> Tensor:  # noqa: ARG001
    """How moved, whichever way."""
    return _tag(episodes, "affect").abs()


def recency(cortex: TrainedDenoiser, episodes: Episodes, counts: Tensor, /) -> Tensor:  # noqa: ARG001
    """One over one plus the age, seen from the latest episode; its power `gamma` is a power law of forgetting."""
    time = _tag(episodes, "time").double()
    return 1 / (1 + time.max() - time)


def surprise(cortex: TrainedDenoiser, episodes: Episodes, counts: Tensor, /) -> Tensor:  # noqa: ARG001
    """The tag, or else how far off the cortex is when it denoises the episode at half a spread, the noise left out."""
    if episodes.surprise is not None:
        return episodes.surprise
    rows = episodes.patterns.values.to(cortex.centre)
    # plus a trifle: once all is known, all episodes are alike
    return (cortex(rows, _PROBE * cortex.spread) - rows).square().mean(1) + 1e-6 * cortex.spread.square()


PRIORITIES: Mapping[str, Priority] = {
    "uniform": uniform,
    "surprise": surprise,
    "affect": affect,
    "recency": recency,
    "count": count,
}


def _tag(episodes: Episodes, name: str) -> Tensor:
    tag = getattr(episodes, name)
    if tag is None:
        raise ValueError(f"got priority by {name} for episodes without it; expected Episodes(patterns, {name}=...)")
    return tag
