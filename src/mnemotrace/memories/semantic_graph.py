r"""Semantic memory as a graph: concepts that were met at certain times, felt in a certain way, linked by strength.

Nothing is simulated here: no pattern is completed and no scene drawn. A node has the times at which it was used, a
valence and an arousal; a link has a weight, a time and a relation, and a causal one counts as far as it is believed.
What can be computed from it is in `retrieval.spreading` and `retrieval.associating`.

Links that are given again add up. Links are kept as arrays, one entry for each direction; adding is collected and
joined when somebody reads. Cost: 32 bytes a link and direction; a million links are joined in a fraction of a second.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemotrace.core.artifact import Artifact, library_version
from mnemotrace.memories.links import Links, Record, joined

if TYPE_CHECKING:
    import networkx as nx


class SemanticGraph:
    """Nodes and links, added and removed by name.

    Valence and arousal of a node are those that were given for it, on average; a link counts as often as it was given.
    """

    kind = "semantic_graph"

    def __init__(self) -> None:
        """Begin with nothing."""
        self._names: list[str] = []
        self._place: dict[str, int] = {}
        self._valence: list[float] = []
        self._arousal: list[float] = []
        self._felt: list[int] = []
        self._tags: list[str] = []
        self._times: list[list[float]] = []
        self._records: list[Record] = []
        self._belief: dict[tuple[int, int], float] = {}
        self._links: Links | None = None

    # --- adding and removing --------------------------------------------------------------------------------------

    def add(
        self,
        node: str,
        *,
        time: float | None = None,
        valence: float | None = None,
        arousal: float | None = None,
        tag: str = "",
    ) -> None:
        """Add a node, or meet it again: its affect is the mean of what was given.

        Args:
            node: its name.
            time: at which it was used; None leaves no stamp.
            valence: from -1, unpleasant, to 1; None says nothing, which is 0 for a new node.
            arousal: from 0, calm, to 1; None likewise.
            tag: of what kind it is.

        Raises:
            ValueError: an empty name, or numbers out of range.
        """
        _require_affect(node, valence or 0.0, arousal or 0.0)
        if time is not None and not math.isfinite(time):
            raise ValueError(f"got time={time}; expected a finite number")
        if node not in self._place:
            self._place[node] = len(self._names)
            self._names.append(node)
            self._valence.append(0.0)
            self._arousal.append(0.0)
            self._felt.append(0)
            self._tags.append(tag)
            self._times.append([])
            self._links = None
        if valence is not None or arousal is not None:
            i = self._place[node]
            self._felt[i] += 1
            self._valence[i] += ((valence or 0.0) - self._valence[i]) / self._felt[i]
            self._arousal[i] += ((arousal or 0.0) - self._arousal[i]) / self._felt[i]
        if time is not None:
            self._times[self._place[node]].append(float(time))

    def use(self, nodes: Iterable[str], time: float) -> None:
        """Note that nodes were used, which makes them easier to retrieve.

        Raises:
            KeyError: a node that is not here; then none is noted.
        """
        places = [self.position(node) for node in nodes]
        if not math.isfinite(time):
            raise ValueError(f"got time={time}; expected a finite number")
        for place in places:
            self._times[place].append(float(time))

    def link(
        self,
        a: str,
        b: str,
        weight: float = 1.0,
        *,
        time: float = 0.0,
        relation: str = "",
        directed: bool = False,
        causal: bool = False,
    ) -> None:
        """Link two nodes, which are added if they are new; a link that is there already grows stronger.

        Args:
            a: from.
            b: to.
            weight: above 0.
            time: at which it was learnt.
            relation: what it says.
            directed: only from `a` to `b`.
            causal: `a` is a cause of `b`: the link is directed and counts as far as it is believed (`weigh_causes`).

        Raises:
            ValueError: a weight that is not above 0, or a node linked to itself.
        """
        if not (math.isfinite(weight) and weight > 0) or not math.isfinite(time):
            raise ValueError(f"got weight={weight} at time={time}; expected a finite weight above 0 and a finite time")
        if a == b:
            raise ValueError(f"got a link of {a!r} with itself; expected two nodes")
        for node in (a, b):
            if node not in self._place:
                self.add(node)
        self._records.append((self._place[a], self._place[b], weight, time, relation, directed or causal, causal))
        self._links = None

    def remove(self, node: str) -> None:
        """Forget a node and all its links, as if it had never been here.

        Raises:
            KeyError: no such node.
        """
        gone = self.position(node)
        for column in (self._names, self._valence, self._arousal, self._felt, self._tags, self._times):
            del column[gone]
        self._place = {name: i for i, name in enumerate(self._names)}
        self._records = [(a - (a > gone), b - (b > gone), *rest) for a, b, *rest in self._records if gone not in (a, b)]  # type: ignore[misc]
        self._belief = {(a - (a > gone), b - (b > gone)): p for (a, b), p in self._belief.items() if gone not in (a, b)}
        self._links = None

    def weigh_causes(self, probabilities: Mapping[tuple[str, str], float]) -> None:
        """Say how probable causal links are; those not named keep what was said before, 1 at first.

        Args:
            probabilities: (cause, effect) to probability, as `Beliefs.probabilities()` gives them; pairs that are not
                linked here change nothing.

        Raises:
            ValueError: a number outside 0 to 1; then none is taken.
        """
        for pair, p in probabilities.items():
            if not 0 <= p <= 1:
                raise ValueError(f"got probability {p} of {pair}; expected a number from 0 to 1")
        known = {(self._place[a], self._place[b]): float(p) for (a, b), p in probabilities.items()
                 if a in self._place and b in self._place}  # fmt: skip
        self._belief |= known
        self._links = None

    # --- reading --------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Count nodes."""
        return len(self._names)

    def __contains__(self, node: object) -> bool:
        """Tell whether a node is here."""
        return node in self._place

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names, in order of position."""
        return tuple(self._names)

    def position(self, node: str) -> int:
        """Return the position of a node.

        Raises:
            KeyError: no such node.
        """
        if node not in self._place:
            near = ", ".join(self._near(node)) or "nothing like it"
            raise KeyError(f"got node {node!r}; expected one of {len(self)} nodes, such as {near}")
        return self._place[node]

    @property
    def valence(self) -> Float[Tensor, " n"]:
        """Of each node, from -1 to 1."""
        return torch.tensor(self._valence, dtype=torch.float64)

    @property
    def arousal(self) -> Float[Tensor, " n"]:
        """Of each node, from 0 to 1."""
        return torch.tensor(self._arousal, dtype=torch.float64)

    def tag(self, node: str) -> str:
        """Return of what kind a node is."""
        return self._tags[self.position(node)]

    def times(self, node: str) -> tuple[float, ...]:
        """Return the times at which a node was used."""
        return tuple(self._times[self.position(node)])

    @property
    def all_times(self) -> Sequence[Sequence[float]]:
        """Times of use of every node."""
        return self._times

    @property
    def links(self) -> Links:
        """All links, both ways where they have no direction, equal ones added up; without those not believed at all."""
        if self._links is None:
            self._links = self._joined()
        return self._links

    def fan(self, node: str) -> int:
        """Count the nodes that a node leads to."""
        return int((self.links.source == self.position(node)).sum())

    def edges(self) -> list[tuple[str, str, dict[str, Any]]]:
        """List links as they were given."""
        keys = ("weight", "time", "relation", "directed", "causal")
        return [(self._names[a], self._names[b], dict(zip(keys, rest, strict=True))) for a, b, *rest in self._records]

    # --- other forms ----------------------------------------------------------------------------------------------

    @classmethod
    def of(
        cls,
        nodes: Sequence[str],
        sources: Int[Tensor, " m"],
        targets: Int[Tensor, " m"],
        weights: Float[Tensor, " m"] | None = None,
        *,
        directed: bool = False,
    ) -> SemanticGraph:
        """Make a graph of arrays.

        Raises:
            ValueError: names that occur twice, lengths that differ, positions that are not there, or weights that are
                not above 0.
        """
        made = cls()
        for node in nodes:
            made.add(node)
        weights = torch.ones(len(sources)) if weights is None else weights
        ends = torch.cat([sources, targets]) if len(sources) else torch.zeros(1, dtype=torch.long)
        fits = len(sources) == len(targets) == len(weights) and len(made) == len(nodes)
        if not fits or int(ends.min()) < 0 or int(ends.max()) >= max(len(nodes), 1):
            raise ValueError(
                f"got {len(nodes)} nodes ({len(made)} different) and {len(sources)} sources, {len(targets)} targets, "
                f"{len(weights)} weights; expected different nodes, equal lengths, and positions among the nodes"
            )
        if not bool((weights > 0).all()) or not bool(weights.isfinite().all()) or bool((sources == targets).any()):
            raise ValueError(
                "got weights that are not finite and above 0, or a node linked to itself; expected neither"
            )
        made._records = [
            (a, b, w, 0.0, "", directed, False)
            for a, b, w in zip(sources.tolist(), targets.tolist(), weights.double().tolist(), strict=True)
        ]
        return made

    @classmethod
    def from_networkx(cls, graph: nx.Graph) -> SemanticGraph:
        """Read a graph of networkx.

        Edges may have `weight`, `time`, `relation`, `directed`, `causal`; nodes `valence`, `arousal`, `tag`, `times`.
        """
        made = cls()
        for node, values in graph.nodes(data=True):
            made.add(str(node), **{k: values[k] for k in ("valence", "arousal", "tag") if k in values})
            for time in values.get("times", ()):
                made.use([str(node)], time)
        for a, b, values in graph.edges(data=True):
            given = {k: values[k] for k in ("weight", "time", "relation", "causal") if k in values}
            made.link(str(a), str(b), **given, directed=values.get("directed", graph.is_directed()))
        return made

    def to_networkx(self) -> nx.MultiDiGraph:
        """Return a directed multigraph, an edge for each link as it was given (`directed` tells)."""
        import networkx as nx

        graph = nx.MultiDiGraph()
        for i, name in enumerate(self._names):
            graph.add_node(
                name, valence=self._valence[i], arousal=self._arousal[i], tag=self._tags[i], times=tuple(self._times[i])
            )
        graph.add_edges_from(self.edges())
        return graph

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        columns = list(zip(*self._records, strict=True)) or [()] * 7
        header = {
            "nodes": self._names, "tags": self._tags, "relations": list(columns[4]),
            "belief": [[a, b, p] for (a, b), p in sorted(self._belief.items())],
            "manifest": {"method": "semantic graph", "version": library_version()},
        }  # fmt: skip
        counts = torch.tensor([len(times) for times in self._times], dtype=torch.long)
        tensors = {
            "valence": self.valence, "arousal": self.arousal, "counts": counts,
            "felt": torch.tensor(self._felt, dtype=torch.long),
            "times": torch.tensor([t for times in self._times for t in times], dtype=torch.float64),
            "ends": torch.tensor([columns[0], columns[1]], dtype=torch.long).reshape(2, -1),
            "numbers": torch.tensor([columns[2], columns[3]], dtype=torch.float64).reshape(2, -1),
            "flags": torch.tensor([columns[5], columns[6]], dtype=torch.bool).reshape(2, -1),
        }  # fmt: skip
        return Artifact(self.kind, header, tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> SemanticGraph:
        """Rebuild from an artifact."""
        header, tensors, made = artifact.header, artifact.tensors, cls()
        made._names, made._tags = list(header["nodes"]), list(header["tags"])
        made._place = {name: i for i, name in enumerate(made._names)}
        made._valence, made._arousal = tensors["valence"].tolist(), tensors["arousal"].tolist()
        made._felt = tensors["felt"].tolist()
        made._times = [part.tolist() for part in tensors["times"].split(tensors["counts"].tolist())]
        made._times = made._times or [[] for _ in made._names]
        lists = [
            *tensors["ends"].tolist(),
            *tensors["numbers"].tolist(),
            header["relations"],
            *tensors["flags"].tolist(),
        ]
        made._records = list(zip(*lists, strict=True))
        made._belief = {(a, b): p for a, b, p in header["belief"]}
        return made

    def _joined(self) -> Links:
        return joined(self._records, self._belief, len(self))

    def _near(self, node: str) -> list[str]:
        from difflib import get_close_matches

        return get_close_matches(str(node), self._names[:20_000], n=3) or self._names[:3]


def _require_affect(node: Any, valence: float, arousal: float) -> None:
    if not isinstance(node, str) or not node:
        raise ValueError(f"got {node!r} as a node; expected a name")
    if not (-1 <= valence <= 1 and 0 <= arousal <= 1):
        raise ValueError(
            f"got valence={valence} and arousal={arousal} of {node!r}; expected -1 to 1 and 0 to 1; scale ratings first"
        )
