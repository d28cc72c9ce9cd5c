r"""Episodes: traces stored under the pointer that was active, and found again by a pointer like it.

A pointer alone carries no picture; a stored trace does. `Episodes` keeps both apart and visible: a `ModernHopfield`
network holds the pointers and, from a cue, says which one it is,

.. math:: p_n = \mathrm{softmax}_n\left(\beta x^T y_n - \tfrac\beta2 |y_n|^2\right),

and the trace of the likeliest comes back, whole. What the store costs is counted in bits (`bits`).

Reference: Ramsauer et al. 2021 for the lookup. Cost: a lookup is one product of the cues with all pointers, O(b n d),
and a copy of the traces found; adding and removing copy the store.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemotrace.core.artifact import Artifact, within
from mnemotrace.core.episode import EpisodicTrace
from mnemotrace.core.memory import states_of
from mnemotrace.memories.modern import ModernHopfield


@dataclass(frozen=True, eq=False)
class Episode:
    """What a cue found.

    Attributes:
        trace: of the likeliest episode, one a cue.
        handles: `(b,)`, which ones.
        posterior: `(b, n)` probability of each stored episode, in the order of the store.
        similarity: `(b,)` cosine of the cue with the stored pointer.
    """

    trace: EpisodicTrace
    handles: Int[Tensor, " b"]
    posterior: Float[Tensor, "b n"]
    similarity: Float[Tensor, " b"]


class Episodes(nn.Module):
    """A store from pointer to trace.

    Attributes:
        memory: the pointers.
        trace: the traces, sample by sample in the order of the pointers.
    """

    kind = "episodes"

    def __init__(
        self, pointers: Float[Tensor, "n d"], trace: EpisodicTrace, *, beta: float | Literal["auto"] = "auto"
    ) -> None:
        """Store episodes.

        Args:
            pointers: activation that points to each, such as of the last hidden layer.
            trace: of as many samples; strengths of units are not kept.
            beta: inverse temperature of the lookup, see `ModernHopfield`.

        Raises:
            TypeError: pointers that are no floating-point tensor, or no trace.
            ValueError: another number of pointers than samples.
            NonFiniteError: NaN or infinity among the pointers.
        """
        super().__init__()
        _require_pairs(pointers, trace)
        self.memory = ModernHopfield(pointers.detach().clone(), beta=beta)
        self.trace = trace.forgotten()

    def __len__(self) -> int:
        """Count episodes."""
        return len(self.memory)

    @property
    def d(self) -> int:
        """Width of a pointer."""
        return self.memory.d

    def add(self, pointers: Float[Tensor, "*m d"], trace: EpisodicTrace) -> list[int]:
        """Store further episodes; returns their handles.

        Raises:
            TypeError: no floating-point tensor, or no trace.
            ValueError: another width or number, or traces of another network.
        """
        rows = states_of(pointers, self.d, "pointers")
        _require_pairs(rows, trace)
        joined = EpisodicTrace.join([self.trace, trace.forgotten()])
        handles = self.memory.patterns.add(rows)
        self.trace = joined
        return handles

    def remove(self, handles: int | Sequence[int]) -> None:
        """Forget episodes, as if they had never been stored.

        Raises:
            KeyError: a handle that is not here.
            ValueError: nothing would be left.
        """
        gone = self.memory.patterns.rows(handles)
        kept = torch.ones(len(self), dtype=torch.bool)
        kept[gone.cpu()] = False
        self.memory.patterns.remove(handles)
        self.trace = self.trace[kept]

    def lookup(self, cue: Float[Tensor, "*b d"]) -> Episode:
        """Find the episodes that cues point to.

        Args:
            cue: `(d,)` or `(b, d)`, perhaps incomplete or noisy.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another width.
            NonFiniteError: NaN or infinity.
        """
        rows = states_of(cue, self.d)
        posterior = self.memory.posterior(rows)
        found = posterior.argmax(1)
        pointers = self.memory.patterns.values[found].to(rows.dtype)
        similarity = torch.cosine_similarity(rows, pointers, dim=1)
        return Episode(self.trace[found.cpu()], self.memory.patterns.handles[found], posterior, similarity)

    def bits(self) -> dict[str, float]:
        """Bits that the store holds for one episode: the trace by kind, the pointer, and in total."""
        values = self.memory.patterns.values
        pointer = 8.0 * values.element_size() * values.shape[1]
        found = self.trace.bits()
        return {**found, "pointer": pointer, "total": found["total"] + pointer}

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        memory, trace = self.memory.pack(), self.trace.pack()
        tensors = {f"memory.{name}": tensor for name, tensor in memory.tensors.items()}
        tensors |= {f"trace.{name}": tensor for name, tensor in trace.tensors.items()}
        return Artifact(self.kind, {"memory": dict(memory.header), "trace": dict(trace.header)}, tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Episodes":
        """Rebuild from an artifact."""
        parts = {
            part: Artifact(
                kind,
                artifact.header[part],
                within(artifact.tensors, f"{part}."),
            )
            for part, kind in (("memory", ModernHopfield.kind), ("trace", EpisodicTrace.kind))
        }
        trace = EpisodicTrace.unpack(parts["trace"])
        memory = ModernHopfield.unpack(parts["memory"])
        found = cls(memory.patterns.values, trace)
        found.memory = memory
        return found


def _require_pairs(pointers: Tensor, trace: EpisodicTrace) -> None:
    if not isinstance(trace, EpisodicTrace):
        raise TypeError(f"got a {type(trace).__name__}; expected an EpisodicTrace; make it with episode(model, images)")
    if not isinstance(pointers, Tensor) or not pointers.is_floating_point():
        what = pointers.dtype if isinstance(pointers, Tensor) else type(pointers).__name__
        raise TypeError(f"got {what} as pointers; expected a floating-point tensor (n, d); call .float() on it")
    if pointers.ndim != 2 or len(pointers) != len(trace):  # noqa: PLR2004
        raise ValueError(
            f"got pointers {tuple(pointers.shape)} and a trace of {len(trace)} samples; expected (n, d), one pointer a "
            "sample"
        )
