r"""The hippocampus of a mind: traces of single events, which fade, and an index from values to them.

An event is stored once, with an error of encoding that is smaller for gist than for detail and smaller when one is
moved: deviation :math:`\sigma_\text{role}(1 - a m)` a feature, where `m` is arousal and `a` its share in it. Each night
a trace loses a share :math:`f_\text{role}(1 - a m)` of what is left of it, so that it is read less and less surely
(`world.Code.read`), and is a weaker match for a cue.

A memory that is told again is retrieved, and so can change (`modification.reconsolidation`). How surprising the telling
is, is what the trace itself gives as its chance, :math:`-\sum_j \log p(v_j \mid x)`: little where both agree or nothing
was left of it, much where a fresh trace is contradicted.

Cost: O(n d) an addition, a change or a night, which copy the store.
"""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.memories.diffusion import DiffusionMemory
from mnemotrace.memories.patterns import Patterns
from mnemotrace.mind.lesion import Lesion
from mnemotrace.mind.remembered import CRITERION
from mnemotrace.mind.trace import Trace
from mnemotrace.mind.world import Code
from mnemotrace.modification.changes import Change
from mnemotrace.modification.reconsolidation import Reconsolidation

CUE = 0.3
_MEMORY, _TELLING, _WINDOW = 0.09, 0.01, 0.1


class Hippocampus:
    """Traces of events.

    Attributes:
        code: how a pattern is made and read.
        lesion: precision and fading.
        labile: the store under reconsolidation; None while there is nothing in it.
        following: the handle that comes next.
    """

    def __init__(self, code: Code, lesion: Lesion) -> None:
        """Begin with nothing."""
        self.code, self.lesion = code, lesion
        self.labile: Reconsolidation | None = None
        self.following = 0

    @property
    def memory(self) -> DiffusionMemory | None:
        """The patterns as an exact denoiser; None while there are none."""
        return None if self.labile is None else self.labile.memory

    def __len__(self) -> int:
        """Count traces."""
        return 0 if self.memory is None else len(self.memory)

    @property
    def handles(self) -> list[int]:
        """Handles in the order of the rows."""
        return [] if self.memory is None else self.memory.patterns.handles.tolist()

    def encode(
        self, attributes: Mapping[str, str], *, arousal: float, generator: torch.Generator
    ) -> Float[Tensor, " d"]:
        """Return the pattern that is stored of an event; what it does not say is zero, without error."""
        pattern = self.code.perceive(attributes)
        tokens = torch.randn(self.code.d, generator=generator)[self.code.tokens]
        if len(tokens):
            pattern[self.code.tokens] = torch.nn.functional.normalize(tokens, dim=0)
        error = torch.randn(self.code.d, generator=generator) * self._by_role("noise")
        return pattern + error * self.code.mask(tuple(attributes)) * (1 - self.lesion.arousal * arousal)

    def add(self, pattern: Float[Tensor, " d"]) -> int:
        """Store a pattern and return its handle."""
        if self.memory is None:
            found = self.following
            self.labile = Reconsolidation(
                _restored(pattern, found), variance=_MEMORY, noise=_TELLING, window=_WINDOW, alpha=0.0
            )
        else:
            (found,) = self.memory.patterns.add(pattern)
        self.following = found + 1
        return found

    def remove(self, handle: int) -> None:
        """Let a trace go, as if it had never been."""
        if self.memory is not None and self.handles == [handle]:
            self.labile = None
        elif self.memory is not None:
            self.memory.patterns.remove(handle)

    def retell(
        self, handle: int, pattern: Float[Tensor, " d"], attributes: Mapping[str, str], time: float
    ) -> tuple[Change, float]:
        """Let a memory be told again: it is retrieved, and strengthened, updated, or left beside a new one.

        Args:
            handle: of the memory.
            pattern: of the telling.
            attributes: what the telling says; of all else nothing is observed.
            time: in days.

        Returns:
            What was done, and the surprise in nats.

        Raises:
            KeyError: no trace of it is left.
        """
        read = self.code.read(self.pattern(handle)[None])
        assert self.labile is not None
        values = self.code.world.attributes
        chances = [read[name][0, values[name].values.index(value)] for name, value in attributes.items()]
        surprise = -float(torch.stack(chances).log().sum())
        self.labile.retrieve(handle, time=time)
        change = self.labile.observe(pattern, time=time, mask=self.code.mask(tuple(attributes)), surprise=surprise)
        if change.regime == "stored" and change.handle is not None:
            self.following = change.handle + 1
        return change, surprise

    def fade(self, traces: Mapping[int, Trace]) -> None:
        """Let a night pass over the traces."""
        if self.memory is None:
            return
        calm = 1 - self.lesion.arousal * torch.tensor([[traces[h].arousal] for h in self.handles])
        lost = self._by_role("fading") * calm
        if bool(lost.any()):
            self.memory.patterns.values = self.memory.patterns.values * (1 - lost)

    def pattern(self, handle: int) -> Float[Tensor, " d"]:
        """Return what is left of an event.

        Raises:
            KeyError: no trace of it is left.
        """
        if self.memory is None:
            raise KeyError(f"handle {handle}, of which the hippocampus has no trace")
        return self.memory.patterns.values[self.memory.patterns.rows(handle)[0]]

    def legible(self, handles: Iterable[int], cue: Mapping[str, str]) -> list[int]:
        """Return those of some traces in which each value of a cue can still be read."""
        some = list(handles)
        if self.memory is None or not some:
            return []
        store = self.memory.patterns
        rows = torch.searchsorted(store.handles, torch.tensor(some))  # handles ascend, and `rows` looks at them all
        read = self.code.read(store.values[rows], names=cue)
        sure = torch.ones(len(some), dtype=torch.bool)
        for name, value in cue.items():
            sure &= read[name][:, self.code.world.attributes[name].values.index(value)] > CRITERION
        return [handle for handle, kept in zip(some, sure.tolist(), strict=True) if kept]

    def _by_role(self, what: str) -> Float[Tensor, " d"]:
        """Return a setting for each feature; what belongs to no attribute is as gist."""
        found = torch.full((self.code.d,), float(getattr(self.lesion, f"gist_{what}")))
        found[self.code.mask(self.code.world.names("detail"))] = getattr(self.lesion, f"detail_{what}")
        return found


def _restored(pattern: Tensor, handle: int) -> DiffusionMemory:
    """Return a memory of one pattern under a handle that was never given before."""
    store = Patterns(pattern[None])
    store.handles, store.following = torch.tensor([handle]), torch.tensor(handle + 1)
    return DiffusionMemory(store, sigma=CUE)
