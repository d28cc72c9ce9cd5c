r"""Recall by simulation: a state settles onto traces, and a cortex imagines what they leave open.

The cue's features are known up to a noise, all others are drawn and denoised level by level (`recall_by_diffusion`),
several times over. The memory is the exact denoiser of the traces, so draws end as traces in proportion to their
posterior, and the confidence in a value is its mean probability over draws,

.. math:: \hat p(v \mid c) = \frac1S \sum_s p(v \mid x_s), \qquad x_s \sim p(x \mid c) .

A trace that contradicts the cue is no memory of it: they agree on an attribute if
:math:`\sum_v p(v \mid \text{cue})\, p(v \mid \text{trace})` is at least half of what chance would give. What stays open
is asked of the cortex in the same way, with all that is known held. A scene that it draws shows a value or not, and the
confidence in a value is the share of scenes that show it; none of them need have happened: this is where a simulating
mind confabulates.

Reference: Bartlett 1932; Schacter & Addis 2007 (constructive simulation); Ambrogioni 2024 (settling as reverse
diffusion). Cost: 6 calls with 16 states each, O(n d) a state in the hippocampus; the cortex as much, without n.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mnemotrace.memories.denoiser import TrainedDenoiser
from mnemotrace.mind.hippocampus import CUE, Hippocampus
from mnemotrace.mind.remembered import CRITERION
from mnemotrace.mind.world import Code
from mnemotrace.retrieval.diffusion import recall_by_diffusion

DRAWS, STEPS = 16, 6
CLEAN = 0.1

Chances = dict[str, Tensor]


@dataclass(frozen=True)
class Cue:
    """A cue as it is perceived.

    Attributes:
        names: attributes that it says.
        pattern: `(d,)`, with its errors.
        sigma: `(d,)`, infinite where it says nothing.
        noise: deviation of its errors.
    """

    names: tuple[str, ...]
    pattern: Tensor
    sigma: Tensor
    noise: float = 0.0


@dataclass(frozen=True)
class Simulated:
    """What a simulation ended with: probabilities of values by attribute, the memory it is of, and its cost."""

    chances: Chances
    handle: int | None
    evaluations: int
    samplers: int
    compared: int


def perceived(code: Code, cue: Mapping[str, str], noise: float, generator: torch.Generator) -> Cue:
    """Return a cue with errors of deviation `noise` on its features."""
    known, pattern = code.mask(tuple(cue)), code.perceive(cue)
    if noise:
        pattern = pattern + noise * known * torch.randn(code.d, generator=generator)
    sigma = torch.where(known, (CUE**2 + noise**2) ** 0.5, torch.inf)
    return Cue(tuple(cue), pattern, sigma, noise)


def settle(hippocampus: Hippocampus, cue: Cue, generator: torch.Generator) -> Simulated:
    """Settle onto traces; without one that fits the cue, nothing is probable and nothing is sampled."""
    memory, code = hippocampus.memory, hippocampus.code
    if memory is None:
        return Simulated({}, None, 0, 0, 0)
    row = int(memory.posterior(cue.pattern[None], sigma=cue.sigma)[0].argmax())
    trace, said = code.read(memory.patterns.values[row][None]), code.read(cue.pattern[None], noise=cue.noise)
    n = len(memory)
    if not all(_agree(trace[name][0], said[name][0]) for name in cue.names):
        return Simulated({}, None, 1, 0, n)
    states, evaluations = _drawn(memory, cue, generator, largest=10.0)
    chances = {name: found.mean(0) for name, found in code.read(states).items() if name not in cue.names}
    return Simulated(chances, int(memory.patterns.handles[row]), 1 + evaluations, 1, n)


def imagine(
    cortex: TrainedDenoiser, code: Code, cue: Cue, held: Mapping[str, str], *, top: float, generator: torch.Generator
) -> Simulated:
    """Let a cortex fill in what neither the cue nor what is `held` says.

    Args:
        cortex: what imagines.
        code: how it is read.
        cue: what is known for sure up to its noise.
        held: what was settled besides.
        top: noise at which a scene begins, in units of the spread: the largest that the cortex was trained at.
        generator: of the scenes.
    """
    if held:
        mask = code.mask(tuple(held))
        pattern = torch.where(mask, code.perceive(held), cue.pattern)
        cue = Cue((*cue.names, *held), pattern, cue.sigma.masked_fill(mask, CLEAN), cue.noise)
    states, evaluations = _drawn(cortex, cue, generator, largest=top * float(cortex.spread))
    scenes = {name: found for name, found in code.read(states).items() if name not in cue.names}
    chances = {name: (found > CRITERION).float().mean(0) for name, found in scenes.items()}
    return Simulated(chances, None, evaluations, 1, 0)


def _agree(a: Tensor, b: Tensor) -> bool:
    return float(a @ b) >= 1 / (2 * len(a))


def _drawn(
    denoiser: "TrainedDenoiser | torch.nn.Module", cue: Cue, generator: torch.Generator, *, largest: float
) -> tuple[Tensor, int]:
    """Return states that a sampler ended at, and how many states were denoised on the way."""
    known = cue.sigma.isfinite()
    found = recall_by_diffusion(
        denoiser,
        cue.pattern.expand(DRAWS, -1),
        sigma=cue.sigma.masked_fill(~known, 1.0),
        known=known,
        sampler="ddim",
        steps=STEPS,
        largest=largest,
        generator=generator,
    )
    return found.state, found.evaluations * DRAWS
