"""What recall without simulation gives back: readings of a cue as connected graphs, with the numbers of each node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mnemotrace.core.artifact import Artifact
from mnemotrace.retrieval.spreading import Affect


@dataclass(frozen=True)
class Reading:
    """A connected graph that makes sense of a cue.

    Attributes:
        nodes: names, the cue first, then in the order in which they were linked.
        edges: (from, to, probability) of its links.
        plausibility: mean log-probability of links plus mean log-activation of nodes; compare readings of a size.
        without: the hub that it does without; None for the one that had to do without none.
    """

    nodes: tuple[str, ...]
    edges: tuple[tuple[str, str, float], ...]
    plausibility: float
    without: str | None = None


@dataclass(frozen=True, eq=False)
class PlausibleGraph:
    """What a cue brings to mind.

    Attributes:
        readings: the best first.
        activation: of each node of all readings.
        probability: of retrieving each.
        latency: of retrieving each, in seconds when `F` is.
        affect: valence and arousal of the first reading, weighed by activation (for `actr` by its exponential).
        manifest: provenance: cue, method, settings.
    """

    readings: tuple[Reading, ...]
    activation: Mapping[str, float]
    probability: Mapping[str, float]
    latency: Mapping[str, float]
    affect: Affect
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind = "plausible_graph"

    @property
    def nodes(self) -> tuple[str, ...]:
        """Of the best reading."""
        return self.readings[0].nodes

    @property
    def edges(self) -> tuple[tuple[str, str, float], ...]:
        """Of the best reading."""
        return self.readings[0].edges

    @property
    def plausibility(self) -> float:
        """Of the best reading."""
        return self.readings[0].plausibility

    @property
    def runners_up(self) -> tuple[Reading, ...]:
        """The other readings."""
        return self.readings[1:]

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        names = ("activation", "probability", "latency", "manifest")
        header: dict[str, Any] = {name: dict(getattr(self, name)) for name in names}
        readings = [
            vars(one) | {"edges": [list(e) for e in one.edges], "nodes": list(one.nodes)} for one in self.readings
        ]
        return Artifact(self.kind, header | {"readings": readings, "affect": list(self.affect)})

    @classmethod
    def unpack(cls, artifact: Artifact) -> PlausibleGraph:
        """Rebuild from an artifact."""
        header = artifact.header
        readings = tuple(
            Reading(tuple(r["nodes"]), tuple((a, b, p) for a, b, p in r["edges"]), r["plausibility"], r["without"])
            for r in header["readings"]
        )
        valence, arousal = header["affect"]
        numbers = {name: header[name] for name in ("activation", "probability", "latency")}
        return cls(readings, **numbers, affect=(valence, arousal), manifest=header["manifest"])
