"""Memories that cite causes: what was observed never changes, what was made of it does.

An account holds facts, and explanations: the time was short because the mass was large. An explanation rests on edges.
When the probability that they all hold falls below a bound, it is told again under the most probable causes of the
same effect, as a new version beside the old ones; facts are read-only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

LOST = 0.05
Explanation = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Version:
    """One telling of a memory.

    Attributes:
        explains: effect to its causes; an effect without a cause is one whose cause is not among the variables.
        time: update at which it was told.
        support: probability that all edges of it held, then.
        reason: `remembered`, `revised` by evidence, or `restored` by hand.
    """

    explains: Explanation
    time: int
    support: float
    reason: Literal["remembered", "revised", "restored"]

    @property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """Edges (cause, effect) that it rests on."""
        return tuple((cause, effect) for effect, causes in self.explains.items() for cause in causes)


@dataclass(frozen=True)
class Account:
    """A memory of what happened and why.

    Attributes:
        id: its number.
        facts: variable to the state that was observed; read-only.
        versions: tellings, the present one last.
        note: of whoever made it.
    """

    id: int
    facts: Mapping[str, str]
    versions: tuple[Version, ...]
    note: str = ""

    def __post_init__(self) -> None:
        """Close the facts."""
        object.__setattr__(self, "facts", MappingProxyType(dict(self.facts)))

    @property
    def now(self) -> Version:
        """The present telling."""
        return self.versions[-1]

    @property
    def status(self) -> Literal["held", "revised"]:
        """`revised` when it is no longer told as it was first."""
        return "held" if self.now.explains == self.versions[0].explains else "revised"

    def text(self, version: int = -1) -> str:
        """Tell it in words."""
        return "; ".join(self._clause(effect, causes) for effect, causes in self.versions[version].explains.items())

    def told(self, version: Version) -> Account:
        """Return it with a further version."""
        return Account(self.id, self.facts, (*self.versions, version), self.note)

    def _clause(self, effect: str, causes: Sequence[str]) -> str:
        what = self._named(effect)
        if not causes:
            return f"{what}, for a reason that is not among the variables"
        return f"{what} because {' and '.join(map(self._named, causes))}"

    def _named(self, name: str) -> str:
        return f"{name} = {self.facts[name]}" if name in self.facts else name

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        versions = [
            {"explains": {e: list(c) for e, c in v.explains.items()}, "time": v.time, "support": v.support}
            | {"reason": v.reason}
            for v in self.versions
        ]
        return {"id": self.id, "facts": dict(self.facts), "versions": versions, "note": self.note}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Account:
        """Rebuild it."""
        versions = tuple(
            Version({e: tuple(c) for e, c in v["explains"].items()}, v["time"], v["support"], v["reason"])
            for v in values["versions"]
        )
        return cls(values["id"], values["facts"], versions, values["note"])


def checked(facts: Mapping[str, str], explains: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return explanations with tuples of causes, after checking the names.

    Raises:
        ValueError: a name that is no variable, an effect that causes itself, or nothing explained.
    """
    found = {effect: (causes,) if isinstance(causes, str) else tuple(causes) for effect, causes in explains.items()}
    unknown = ({*facts, *found} | {cause for causes in found.values() for cause in causes}) - set(names)
    if unknown or not found:
        what = f"the names {sorted(unknown)}" if unknown else "no explanation"
        raise ValueError(f"got {what}; expected effects and causes among {', '.join(names)}")
    for effect, causes in found.items():
        if effect in causes or len(set(causes)) < len(causes):
            raise ValueError(f"got causes {causes} of {effect}; expected other variables, each once")
    return found
