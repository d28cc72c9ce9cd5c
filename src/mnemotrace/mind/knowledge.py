"""What is known of events: notes, an index from values to them, and a graph of what they were about.

With a hippocampus every link holds. When it is lost, a link is as strong as nights have made it, `1 - exp(-r / tau)`
after `r` replays, detail leads to no event any more, and events that were hardly replayed are gone. Nothing else is
done to make the loss graded: early events have had more nights.

See `mind.knowing` for the equations. Cost: an intersection of sets a look-up; losing the hippocampus builds the graph
anew, O(n).
"""

import math
from collections.abc import Mapping

from mnemotrace.memories.semantic_graph import SemanticGraph
from mnemotrace.mind import knowing
from mnemotrace.mind.trace import Trace
from mnemotrace.mind.world import World


class Knowledge:
    """Notes, index and graph of events.

    Attributes:
        world: what can be the case.
        slowness: replays after which a link holds to 63 % without a hippocampus.
        organ: whether there is a hippocampus.
        traces: notes by handle.
        graph: events and concepts of gist.
    """

    def __init__(self, world: World, slowness: float) -> None:
        """Begin with nothing."""
        self.world, self.slowness, self.organ = world, slowness, True
        self.traces: dict[int, Trace] = {}
        self.graph = SemanticGraph()
        self._index: dict[tuple[str, str], set[int]] = {}

    def note(self, handle: int, trace: Trace) -> None:
        """Take a memory in."""
        self.file(handle, trace)
        knowing.learn(self.graph, self.world, handle, trace)

    def file(self, handle: int, trace: Trace) -> None:
        """Take a memory in whose links are in the graph already."""
        self.traces[handle] = trace
        for pair in trace.known.items():
            self._index.setdefault(pair, set()).add(handle)

    def learn(self, handle: int, known: Mapping[str, str]) -> None:
        """Know an event otherwise: index and links follow."""
        trace = self.traces[handle]
        self._drop(handle)
        trace.known = dict(known)
        self.note(handle, trace)

    def forget(self, handle: int) -> None:
        """Forget a memory; the concepts stay."""
        self._drop(handle)
        del self.traces[handle]

    def lose_hippocampus(self) -> None:
        """Keep what nights have given to the cortex."""
        self.organ, self.graph = False, SemanticGraph()
        for handle, trace in self.traces.items():
            if self.strength(handle) >= knowing.FAINT:
                knowing.learn(self.graph, self.world, handle, trace, self.strength(handle))

    def strength(self, handle: int) -> float:
        """Return how firmly an event's links hold.

        Raises:
            KeyError: no such memory.
        """
        if handle not in self.traces:
            raise KeyError(f"handle {handle}, which is not among the {len(self.traces)} memories")
        return 1.0 if self.organ else -math.expm1(-self.traces[handle].replays / self.slowness)

    def usable(self, cue: Mapping[str, str]) -> dict[str, str]:
        """Return the values of a cue by which events can be found."""
        gist = self.world.names("gist")
        return {name: value for name, value in cue.items() if self.organ or name in gist}

    def fitting(self, cue: Mapping[str, str]) -> list[int]:
        """Return the memories that have all values of a cue, earliest first; none for an empty cue."""
        sets = [self._index.get(pair, set[int]()) for pair in cue.items()]
        found = set.intersection(*sets) if sets else set[int]()
        return sorted(found if self.organ else (handle for handle in found if self.strength(handle) >= knowing.FAINT))

    def told(self, handles: list[int], asked: list[str], now: float) -> tuple[knowing.Shares, int]:
        """Return how surely some events say what is asked, and which of them comes to mind."""
        traces = {handle: self.traces[handle] for handle in handles}
        strength = {handle: 1.0 if self.organ else self.strength(handle) for handle in handles}
        return knowing.told(traces, strength, asked), knowing.foremost(traces, strength, now)

    def inferred(self, cue: Mapping[str, str], asked: list[str]) -> knowing.Shares:
        """Return what usually goes with the concepts of a cue."""
        return knowing.inferred(self.graph, self.world, cue, asked)

    def _drop(self, handle: int) -> None:
        for handles in self._index.values():
            handles.discard(handle)
        if knowing.episode(handle) in self.graph:
            self.graph.remove(knowing.episode(handle))
