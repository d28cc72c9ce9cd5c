r"""Reconstructive recall: what was kept of an episode, the rest from what usually goes with it, and which is which.

A cue knows some features, with noise :math:`\sigma`, and asks for the others, whose noise begins at ten times their
spread. The reversed diffusion lowers the noise of each feature from its own beginning, so that many draws together
follow the posterior of the memory given the cue. For each draw the memory says which of its parts it ended in, and the
part which features it fixes: those are the core. All others come from semantic memory, however sharp they look; a
feature that is asserted and was not fixed is a confabulation, true or not.

Reference: Ambrogioni 2024, section 6; equation 25 in its conditional form (`memories.core_memory`). Cost: `steps`
evaluations of the memory for `count` states, once a cue.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mnemotrace.core.artifact import Artifact, library_version
from mnemotrace.core.memory import Denoiser, known_of, states_of
from mnemotrace.retrieval.sampling import euler_maruyama, noise_grid

_TENSORS = ("samples", "episode", "posterior", "fixed", "known")
_FINER = 20.0  # the last level is this much finer than the cue's noise
_MOST = 0.5


@dataclass(frozen=True, eq=False)
class Asserted:
    """How often a feature is said to be there, and how often without being kept.

    Attributes:
        share: `(b, d)` of the samples in which it is.
        semantic: `(b, d)` of the samples in which it is, but neither the cue nor the episode of that sample has it:
            each of these is flagged.
    """

    share: Float[Tensor, "b d"]
    semantic: Float[Tensor, "b d"]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What was recalled of an episode, and where each feature comes from.

    Attributes:
        samples: `(b, c, d)` draws for each cue.
        episode: `(b, c)` part of the memory that each draw ended in.
        posterior: `(b, n)` probability of each part given the cue alone, exact; None where the memory is approximate.
        fixed: `(n, d)` features that each part fixes: its core.
        known: `(b, d)` features that the cue gave.
        manifest: provenance: settings, seed.
    """

    samples: Float[Tensor, "b c d"]
    episode: Int[Tensor, "b c"]
    posterior: Float[Tensor, "b n"] | None
    fixed: Bool[Tensor, "n d"]
    known: Bool[Tensor, "b d"]
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "reconstruction"

    @property
    def mean(self) -> Float[Tensor, "b d"]:
        """What is expected."""
        return self.samples.mean(1)

    @property
    def deviation(self) -> Float[Tensor, "b d"]:
        """Standard deviation of each feature over the draws: how unsure it is."""
        return self.samples.std(1, correction=0)

    @property
    def core_share(self) -> Float[Tensor, "b d"]:
        """Share of the draws in which a feature is fixed by the episode that the draw ended in."""
        return self.fixed[self.episode].to(self.samples).mean(1)

    def labels(self) -> list[list[str]]:
        """Say for each cue and feature `core` where most draws have it from an episode's core, else `semantic`."""
        return [["core" if most else "semantic" for most in row] for row in (self.core_share > _MOST).tolist()]

    def asserted(self, threshold: float = 0.5) -> Asserted:
        """Count the draws in which a feature is above a threshold, and those that have it from semantic memory only."""
        there = self.samples > threshold
        kept = self.fixed[self.episode] | self.known[:, None]
        return Asserted(there.to(self.samples).mean(1), (there & ~kept).to(self.samples).mean(1))

    def confabulated(self, truth: Float[Tensor, "b d"], threshold: float = 0.5) -> Float[Tensor, "b d"]:
        """Return the share of draws that assert what the event did not have.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another shape.
        """
        event = states_of(truth, self.samples.shape[2], "the event").expand(len(self.samples), -1)
        return ((self.samples > threshold) & (event <= threshold)[:, None]).to(self.samples).mean(1)

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        named = {name: getattr(self, name) for name in _TENSORS}
        tensors = {name: tensor for name, tensor in named.items() if tensor is not None}
        return Artifact(self.kind, {"manifest": dict(self.manifest)}, tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Reconstruction":
        """Rebuild from an artifact."""
        tensors: dict[str, Any] = {name: artifact.tensors.get(name) for name in _TENSORS}
        return cls(**tensors, manifest=artifact.header["manifest"])


@torch.no_grad()
def reconstruct(
    memory: Denoiser,
    cue: Float[Tensor, "*b d"],
    *,
    known: Bool[Tensor, "*b d"],
    sigma: float = 0.1,
    count: int = 100,
    steps: int = 120,
    largest: float = 10.0,
    generator: torch.Generator | None = None,
) -> Reconstruction:
    """Draw whole patterns for cues of which some features are known.

    Args:
        memory: a `Mixture` of episodes and a semantic memory; a single memory is one part; any denoiser is one part of
            which nothing is fixed.
        cue: `(d,)` or `(b, d)`; what it holds at unknown features is not read.
        known: True where the cue knows, `(d,)` or `(b, d)`.
        sigma: noise of the known features, in the units of the patterns; the scale on which episodes are told apart.
        count: draws a cue.
        steps: noise levels; at 120 what is drawn has variances about 6 % too large, at 50 about 17 %.
        largest: noise that unknown features begin at: ten times their spread, so that the beginning tells nothing.
        generator: source of randomness; None seeds one with 0.

    Raises:
        TypeError: no floating-point cue, or no boolean mask.
        ValueError: another shape, a number out of range, or a part of the memory that has no noise by feature.
        NonFiniteError: NaN or infinity in the known features, or in what the memory returns.
    """
    if count < 1 or steps < 1 or not 0 < sigma <= largest < float("inf"):
        raise ValueError(
            f"got count={count}, steps={steps}, sigma={sigma} and largest={largest}; expected at least one draw and "
            "one step, and 0 < sigma <= largest, finite"
        )
    held, rows = _read(cue, known, getattr(memory, "d", None))
    source = generator or torch.Generator().manual_seed(0)
    settings = {"sigma": sigma, "count": count, "steps": steps, "largest": largest, "seed": source.initial_seed()}
    drawn = [
        _draw(memory, row, mask, sigma=sigma, largest=largest, size=(count, steps), source=source)
        for row, mask in zip(rows, held, strict=True)
    ]
    samples = torch.stack(drawn)
    ends = _posterior(memory, samples.flatten(0, 1), torch.tensor(sigma / _FINER))
    asked = torch.where(held, sigma, torch.inf).to(rows)
    return Reconstruction(
        samples=samples,
        episode=ends.argmax(1).view(len(rows), count),
        posterior=None if getattr(memory, "approximate", False) else _posterior(memory, rows, asked),
        fixed=torch.stack([_fixed(part, rows) for part in getattr(memory, "parts", [memory])]),
        known=held,
        manifest={"method": "reconstruction", "version": library_version()} | settings,
    )


def _read(cue: Any, known: Any, d: int | None) -> tuple[Tensor, Tensor]:
    """Return the mask, and the cues with 0 where nothing is known, so that NaN may stand there."""
    if not isinstance(cue, Tensor) or cue.ndim == 0:
        raise TypeError(f"got a {type(cue).__name__} as cue; expected a floating-point tensor (d,) or (b, d)")
    if known is None:
        raise TypeError("got known=None; expected a boolean mask, True where the cue knows; without any, sample")
    held: Any = known_of(known, cue[None] if cue.ndim == 1 else cue)
    blank = torch.where(held, cue, torch.zeros_like(cue))
    return held, states_of(blank, cue.shape[-1] if d is None else d)


def _draw(
    memory: Denoiser,
    cue: Tensor,
    known: Tensor,
    *,
    sigma: float,
    largest: float,
    size: tuple[int, int],
    source: torch.Generator,
) -> Tensor:
    """Draw patterns for one cue; unknown features begin around what the known ones make expected."""
    count, steps = size
    noise = torch.where(known, sigma, largest).to(cue)[None]
    fresh = torch.randn(count, len(cue), generator=source, dtype=cue.dtype, device=source.device).to(cue.device)
    begin = torch.where(known, cue, memory(cue[None], noise) + largest * fresh)
    levels = noise_grid(noise, begin, steps=steps, smallest=sigma / _FINER)
    return euler_maruyama(memory, begin, levels, generator=source)


def _posterior(memory: Any, x: Tensor, sigma: Tensor) -> Tensor:
    """Probability of each part; a memory without parts is one."""
    alone = not hasattr(memory, "parts")
    return torch.ones(len(x), 1, dtype=x.dtype, device=x.device) if alone else memory.posterior(x, sigma)


def _fixed(part: Any, rows: Tensor) -> Tensor:
    """Features that a part fixes; whoever does not say fixes none."""
    none = torch.zeros(rows.shape[1], dtype=torch.bool, device=rows.device)
    return getattr(part, "fixed", none)
