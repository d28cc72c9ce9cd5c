r"""Novelty gains: how much faster something new is learnt than something familiar.

A gain multiplies a learning rate, or the weight of an example. With `n_c` examples that name `c` has had so far,

.. math:: \eta = \eta_0\,\bigl[1 + (\lambda - 1)\,e^{-n_c/\tau}\bigr]

falls from :math:`\lambda` at the first example to 1. Novelty can also be that of the example, whatever its name: then
`n_c` is the largest cosine between it and what any name has had. The published gain is :math:`\lambda` for the first
five examples, of all names together, and 1 from then on. A gain that stays high learns fast and then destroys what it
has learnt: every synapse that was ever used comes to its bound. Cost: nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Familiarity:
    """What is known when an example comes.

    Attributes:
        examples: how many came before it, of all names.
        count: how many of its own name.
        cosine: the largest cosine between it and the sum of the examples of any name; 0 for the first.
    """

    examples: int
    count: int
    cosine: float


class Gain(Protocol):
    """How fast an example is learnt."""

    def __call__(self, familiarity: Familiarity, /) -> float:
        """Return a factor, at least 0."""
        ...


@dataclass(frozen=True)
class Constant:
    """The same gain for every example.

    Attributes:
        gain: at least 0.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        """Check the gain."""
        _require(self.gain, "gain")

    def __call__(self, familiarity: Familiarity, /) -> float:  # noqa: ARG002
        """Return the gain."""
        return self.gain


@dataclass(frozen=True)
class Once:
    """The published gain: high for the first examples of all names together, then divided by itself once.

    Attributes:
        gain: of the first examples, at least 0.
        examples: how many are the first.
    """

    gain: float
    examples: int = 5

    def __post_init__(self) -> None:
        """Check the gain and the number."""
        _require(self.gain, "gain")
        _require(self.examples, "examples")

    def __call__(self, familiarity: Familiarity, /) -> float:
        """Return the gain, or 1."""
        return self.gain if familiarity.examples < self.examples else 1.0


@dataclass(frozen=True)
class Decay:
    """A gain that falls as its name, or the example, becomes familiar.

    Attributes:
        gain: at no familiarity, at least 0.
        tau: familiarity at which a share of `1/e` of the extra gain is left, above 0: in examples by `count`; for the
            `cosine`, which ends at 1, take about 0.3.
        by: `count` of the examples of the same name, or largest `cosine` to those of any name.
    """

    gain: float = 10.0
    tau: float = 2.0
    by: Literal["count", "cosine"] = "count"

    def __post_init__(self) -> None:
        """Check all three."""
        _require(self.gain, "gain")
        if not 0 < self.tau < math.inf or self.by not in ("count", "cosine"):
            raise ValueError(f"got tau={self.tau}, by={self.by!r}; expected a positive number, and 'count' or 'cosine'")

    def __call__(self, familiarity: Familiarity, /) -> float:
        """Return a gain between `gain` and 1."""
        known = familiarity.count if self.by == "count" else max(0.0, familiarity.cosine)
        return 1 + (self.gain - 1) * math.exp(-known / self.tau)


_GAINS = {"constant": Constant, "once": Once, "decay": Decay}


def pack_gain(gain: Gain) -> dict[str, Any]:
    """Turn one of the gains here into JSON values.

    Raises:
        TypeError: a gain of the caller's own, which no file can hold.
    """
    name = next((name for name, kind in _GAINS.items() if type(gain) is kind), None)
    if name is None:
        raise TypeError(f"got a gain {gain!r}; expected Constant, Once or Decay in what is written to a file")
    return {"kind": name, **asdict(gain)}  # pyright: ignore[reportArgumentType]


def unpack_gain(values: Mapping[str, Any]) -> Gain:
    """Rebuild a gain from its JSON values."""
    return _GAINS[values["kind"]](**{name: value for name, value in values.items() if name != "kind"})


def _require(value: float, name: str) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"got {name}={value}; expected a finite number from 0; 1 is no gain")
