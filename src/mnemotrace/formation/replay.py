r"""Consolidation: episodes that were lived once are replayed until a slow network knows them, or their world.

The hippocampus is a store of single exposures; the cortex is a denoiser. A step draws episodes, each with probability

.. math:: q_n = \frac{f}{N} + (1 - f)\, \frac{w_n\, p_n^\gamma}{\sum_m w_m\, p_m^\gamma},

and trains the cortex to denoise them (`formation.score`). `p` is a priority: how surprising, moving, recent or often
replayed an episode is. `w` is what is left of its trace. A priority that replay itself raises is a positive feedback:
with :math:`\gamma \le 1` it settles, above it runs away to one episode, and the floor `f` only slows that. The
effective number of episodes, :math:`2^{H(q)}`, tells; below a quarter of them a `ReplayCollapse` is warned of.

Few episodes replayed often are learnt by heart, and nothing else is (Funes); many give their world, and no episode.
Between them more replay can be worse: the held-out error has a minimum. `evaluation.census` measures all three.

Reference: McClelland, McNaughton, O'Reilly 1995 (two learners); Ambrogioni 2024; Shin et al. 2017 (interleaving with
samples of the old self). Cost: a training step each; masked replay adds fifteen forward passes of a batch to each.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mnemotrace.core.artifact import Artifact, library_version, within
from mnemotrace.core.errors import ReplayCollapse
from mnemotrace.core.memory import known_of
from mnemotrace.core.progress import Progress, silent
from mnemotrace.formation.night import Chooser, Night, dream, entropy
from mnemotrace.formation.noise import GAUSSIAN, LEVELS
from mnemotrace.formation.priority import Episodes, Priority, episodes_of, priority_of
from mnemotrace.formation.score import begin, train
from mnemotrace.memories.denoiser import TrainedDenoiser
from mnemotrace.memories.patterns import Patterns

COLLAPSED = 1 / 4
_POINTS, _DREAMS = 100, 2048


@dataclass(frozen=True, eq=False)
class Consolidation:
    """A cortex after replay, and how it came about.

    Attributes:
        cortex: what was trained.
        hippocampus: the episodes, their weights as far as they have faded.
        counts: `(n,)` how often each was replayed.
        probability: `(n,)` of each, at the last step.
        history: at up to a hundred steps: `steps`, `entropy` of the probabilities in bits, `effective` number of
            episodes; and `losses`, the means between them.
        manifest: provenance.
    """

    cortex: TrainedDenoiser
    hippocampus: Patterns
    counts: Int[Tensor, " n"]
    probability: Float[Tensor, " n"]
    history: Mapping[str, list[float]]
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "consolidation"

    def pack(self) -> Artifact:
        """Turn into an artifact.

        Raises:
            TypeError: the cortex is a network of yours, which only you can rebuild.
        """
        cortex, store = self.cortex.pack(), self.hippocampus.pack()
        tensors = {f"cortex.{name}": value for name, value in cortex.tensors.items()}
        tensors |= {f"hippocampus.{name}": value for name, value in store.tensors.items()}
        tensors |= {"counts": self.counts, "probability": self.probability}
        header = {"cortex": dict(cortex.header), "history": dict(self.history), "manifest": dict(self.manifest)}
        return Artifact(self.kind, header, tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Consolidation":
        """Rebuild from an artifact."""
        tensors, header = artifact.tensors, artifact.header
        return cls(
            TrainedDenoiser.unpack(Artifact(TrainedDenoiser.kind, header["cortex"], within(tensors, "cortex."))),
            Patterns.unpack(Artifact(Patterns.kind, {}, within(tensors, "hippocampus."))),
            tensors["counts"],
            tensors["probability"],
            header["history"],
            header["manifest"],
        )


def consolidate(
    episodes: Episodes | Patterns | Tensor | Any,
    cortex: TrainedDenoiser | None = None,
    *,
    steps: int,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    priority: Literal["uniform", "surprise", "affect", "recency", "count"] | Priority = "uniform",
    gamma: float = 1.0,
    floor: float = 0.1,
    interleave: float = 0.0,
    mask: Bool[Tensor, " d"] | None = None,
    fading: float = 0.0,
    recall: Callable[[Tensor], Tensor] | None = None,
    noise: Mapping[str, float] = GAUSSIAN,
    levels: tuple[float, float] = LEVELS,
    generator: torch.Generator,
    progress: Progress = silent,
) -> Consolidation:
    """Replay episodes to a cortex.

    Args:
        episodes: `(n, d)`, a store, `Episodes` with tags, or a memory with `patterns`.
        cortex: to go on with; it is not changed. None begins with a new one.
        steps: of training, `batch_size` replays each.
        batch_size: replays a step.
        learning_rate: at the first step; see `fit_denoiser`.
        priority: `uniform`; a tag: `surprise` (without the tag the cortex's present error), `affect` (its magnitude),
            `recency` (one over one plus the age); `count`, one plus the replays so far; or a callable
            `(cortex, episodes, counts) -> (n,)`. Looked up every tenth step, counts at each.
        gamma: power of the priority, at least 0; above 1 with `count` it is a runaway.
        floor: share of replay that goes to all alike, from 0 to 1.
        interleave: share of each batch that is made of samples of the cortex as it was before, in [0, 1).
        mask: True where an episode is replayed faithfully, its core; the cortex itself fills in the rest. None is all.
        fading: share of its trace that an episode loses with each replay, in [0, 1).
        recall: what the hippocampus gives back for the episodes chosen, `(b, d)` to `(b, d)`, such as a recall from
            noised cues; None gives back the episodes.
        noise: see `fit_denoiser`.
        levels: see `fit_denoiser`.
        generator: of draws, noise and first weights.
        progress: called after each step.

    Returns:
        The cortex, the hippocampus as it has faded, and the history.

    Raises:
        TypeError: no episodes.
        ValueError: a setting out of range, a priority without its tag, or interleaving without an old self.
        NonFiniteError: NaN or infinity in episodes, in what was recalled, or in the loss.

    Warns:
        ReplayCollapse: the effective number of episodes is below a quarter of their number.
    """
    lived = episodes_of(episodes)
    _check(steps, batch_size, rate=learning_rate, gamma=gamma, floor=floor, shares=(interleave, fading))
    if interleave and cortex is None:
        raise ValueError(f"got interleave={interleave} without a cortex; expected an old self to draw samples from")
    store = lived.patterns
    held = None if mask is None else known_of(mask, store.values)
    learner = begin(store.values, store.weights, cortex, generator)
    old = round(interleave * batch_size)
    dreams = dream(learner, min(_DREAMS, steps * old), generator=generator) if old else store.values[:0]
    chooser = Chooser(lived, priority_of(priority), priority == "count", gamma, floor, fading)
    night = Night(
        chooser,
        learner,
        core=None if held is None else held[:1],
        dreams=dreams,
        size=batch_size,
        old=old,
        recall=recall,
        every=-(-steps // _POINTS),
    )
    losses = train(
        learner,
        night.batches(generator),
        steps=steps,
        learning_rate=learning_rate,
        noise=noise,
        levels=levels,
        generator=generator,
        progress=progress,
    )
    numbers = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "gamma": gamma}
    numbers |= {"floor": floor, "interleave": interleave, "fading": fading}
    manifest = _manifest(priority, held, generator) | numbers | {"noise": dict(noise), "levels": list(levels)}
    learner.manifest = manifest | {"losses": losses}
    probability = chooser.probability(learner, night.counts)
    _warn_of_collapse(probability)
    faded = _faded(store, chooser.traces(night.counts))
    return Consolidation(learner, faded, night.counts, probability, night.history | {"losses": losses}, manifest)


def _manifest(priority: Any, core: Tensor | None, generator: torch.Generator) -> dict[str, Any]:
    return {
        "method": "consolidate",
        "priority": priority if isinstance(priority, str) else getattr(priority, "__name__", "callable"),
        "core": None if core is None else int(core[0].sum()),
        "seed": generator.initial_seed(),
        "version": library_version(),
    }


def _faded(store: Patterns, traces: Tensor) -> Patterns:
    """Return the same episodes under their handles, with what is left of them as weights."""
    faded = Patterns(store.values, weights=traces)
    faded.handles, faded.following = store.handles.clone(), store.following.clone()
    return faded


def _check(
    steps: int, batch_size: int, *, rate: float, gamma: float, floor: float, shares: tuple[float, float]
) -> None:
    if min(steps, batch_size) < 1 or not 0 < rate < math.inf:
        raise ValueError(
            f"got steps={steps}, batch_size={batch_size}, learning_rate={rate}; expected at least one step of one "
            "replay, and a positive rate"
        )
    if not 0 <= gamma < math.inf or not 0 <= floor <= 1:
        raise ValueError(
            f"got gamma={gamma} and floor={floor}; expected a power of at least 0, and a share from 0 to 1"
        )
    interleave, fading = shares
    if not (0 <= interleave < 1 and 0 <= fading < 1) or round(interleave * batch_size) == batch_size:
        raise ValueError(
            f"got interleave={interleave}, fading={fading}, batch_size={batch_size}; expected shares in [0, 1) that "
            "leave at least one replay a step"
        )


def _warn_of_collapse(probability: Tensor) -> None:
    effective = 2 ** entropy(probability)
    if effective < COLLAPSED * len(probability):
        warnings.warn(
            f"replay has collapsed onto {effective:.1f} of {len(probability)} episodes in effect; the others are "
            "forgotten by the cortex; lower gamma, to at most 1 for count, or raise floor",
            ReplayCollapse,
            stacklevel=3,
        )
