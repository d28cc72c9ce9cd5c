r"""A small world: what can be the case in an event, and how a mind perceives it.

An event says one value of each attribute (`place` is `harbour`, `weather` is `fog`). An attribute is `gist`, what an
event was about, or `detail`, how it looked, sounded or smelt. A mind perceives a value as a row of a code,

.. math:: c_v = (e_v,\; u_v),

a one-hot block and, in a mind with synaesthesia, a random unit vector besides: the colour, taste or sound that the
value has for it. Blocks lie side by side, then come `separation` features that no two events share. A pattern is read
back by the posterior of a matched filter,

.. math:: p(v \mid x) = \mathrm{softmax}_v\left(x \cdot c_v / \sigma_r^2\right),

with :math:`\sigma_r^2` grown by the variance of errors that are known of. So an attribute of which nothing is left
reads as all values alike, and a redundant code is read more surely.

Reference: Rolls 2013 (pattern separation and completion); Luria 1968 (synaesthesia as a redundant code). Cost: O(d) an
event and O(k d) a reading.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemotrace.core.memory import states_of

Role = Literal["gist", "detail"]
READING = 0.45


@dataclass(frozen=True)
class Attribute:
    """One thing that an event says.

    Attributes:
        name: such as `place`.
        values: at least two, such as `harbour` and `market`.
        role: `gist` is what an event was about; `detail` is how it looked, sounded, smelt.
    """

    name: str
    values: tuple[str, ...]
    role: Role = "gist"

    def __post_init__(self) -> None:
        """Check names and role."""
        values = tuple(self.values)
        object.__setattr__(self, "values", values)
        if not self.name or len(values) < 2 or len(set(values)) < len(values):  # noqa: PLR2004
            raise ValueError(
                f"got attribute {self.name!r} with values {values}; expected a name and at least two different values"
            )
        if self.role not in ("gist", "detail"):
            raise ValueError(f"got role {self.role!r} of {self.name!r}; expected 'gist' or 'detail'")


class World:
    """What can be the case.

    Attributes:
        attributes: by name, in the order in which they were given.
    """

    def __init__(self, attributes: Sequence[Attribute]) -> None:
        """Take attributes.

        Args:
            attributes: at least one of them gist, names all different.

        Raises:
            ValueError: a name twice, or no gist.
        """
        named = {attribute.name: attribute for attribute in attributes}
        if len(named) < len(attributes) or not any(a.role == "gist" for a in attributes):
            told = ", ".join(f"{a.name} ({a.role})" for a in attributes) or "none"
            raise ValueError(f"got attributes {told}; expected different names, at least one of them of role 'gist'")
        self.attributes: Mapping[str, Attribute] = MappingProxyType(named)

    def names(self, role: Role | None = None) -> tuple[str, ...]:
        """Return the attributes' names, all or those of a role."""
        return tuple(name for name, a in self.attributes.items() if role is None or a.role == role)

    def check(self, attributes: Mapping[str, str]) -> dict[str, str]:
        """Return attributes in the order of the world.

        Raises:
            ValueError: none at all, an unknown name, or a value that the attribute does not have.
        """
        for name, value in attributes.items():
            if name not in self.attributes:
                raise ValueError(f"got attribute {name!r}; expected one of {', '.join(self.attributes)}")
            if value not in self.attributes[name].values:
                known = ", ".join(self.attributes[name].values)
                raise ValueError(f"got {name}={value!r}; expected one of {known}")
        if not attributes:
            raise ValueError(f"got no attribute; expected at least one of {', '.join(self.attributes)}")
        return {name: attributes[name] for name in self.attributes if name in attributes}

    def to_json(self) -> list[dict[str, Any]]:
        """Return plain values from which `from_json` makes the same world."""
        return [{"name": a.name, "values": list(a.values), "role": a.role} for a in self.attributes.values()]

    @classmethod
    def from_json(cls, found: Sequence[Mapping[str, Any]]) -> "World":
        """Make a world from plain values, `name`, `values` and `role` an attribute."""
        return cls([Attribute(a["name"], tuple(a["values"]), a["role"]) for a in found])


class Code:
    """How one mind perceives a world.

    Attributes:
        world: what is perceived.
        d: features of a pattern.
        books: `(k, w)` an attribute, the code of each value.
        blocks: where the attribute's features lie in a pattern.
        tokens: where the features lie that no two events share.
    """

    def __init__(self, world: World, *, synaesthesia: int = 0, separation: int = 0, seed: int = 0) -> None:
        """Draw a code.

        Args:
            world: what is perceived.
            synaesthesia: features that each value has besides its own.
            separation: features that each event has for itself.
            seed: of the synaesthetic features.
        """
        source = torch.Generator().manual_seed(seed)
        self.world, self.books, self.blocks, begin = world, dict[str, Tensor](), dict[str, slice](), 0
        for name, attribute in world.attributes.items():
            k = len(attribute.values)
            besides = torch.nn.functional.normalize(torch.randn(k, synaesthesia, generator=source), dim=1)
            self.books[name] = torch.cat([torch.eye(k), besides], 1)
            self.blocks[name] = slice(begin, begin + k + synaesthesia)
            begin += k + synaesthesia
        self.tokens = slice(begin, begin + separation)
        self.d = begin + separation

    def perceive(self, attributes: Mapping[str, str]) -> Float[Tensor, " d"]:
        """Return the pattern of values; what is not said is zero.

        Raises:
            ValueError: an attribute or value that the world does not have.
        """
        pattern = torch.zeros(self.d)
        for name, value in self.world.check(attributes).items():
            row = self.world.attributes[name].values.index(value)
            pattern[self.blocks[name]] = self.books[name][row]
        return pattern

    def read(
        self, patterns: Float[Tensor, "b d"], *, noise: float = 0.0, names: Iterable[str] | None = None
    ) -> dict[str, Float[Tensor, "b k"]]:
        """Return the probability of each value of each attribute.

        Args:
            patterns: one a row.
            noise: deviation of errors that they are known to carry, besides that of reading.
            names: attributes to read; None reads all.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another width.
            NonFiniteError: NaN or infinity.
        """
        rows = states_of(patterns, self.d, "patterns")
        return {
            name: torch.softmax(rows[:, self.blocks[name]] @ self.books[name].T / (READING**2 + noise**2), 1)
            for name in (self.books if names is None else names)
        }

    def mask(self, names: Sequence[str]) -> Bool[Tensor, " d"]:
        """Return which features belong to attributes."""
        found = torch.zeros(self.d, dtype=torch.bool)
        for name in names:
            found[self.blocks[name]] = True
        return found
