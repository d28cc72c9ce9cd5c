"""Variables by name, and rows of evidence read by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Variables:
    """Names, and the states of each; numbers have none.

    Attributes:
        names: in order.
        states: of each name; empty for numbers.
    """

    names: tuple[str, ...]
    states: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, variables: Mapping[str, Sequence[str]] | Sequence[str], score: str | None) -> Variables:
        """Read variables and check that the score fits them."""
        if score not in (None, "bdeu", "bge"):
            raise ValueError(f"got score={score!r}; expected bdeu for states or bge for numbers")
        discrete = isinstance(variables, Mapping)
        if isinstance(variables, str) or (score is not None and discrete != (score == "bdeu")):
            raise ValueError(
                f"got {type(variables).__name__} of variables and score={score!r}; expected {{name: states}} for bdeu "
                "and a list of names for bge"
            )
        names = tuple(variables)
        states = tuple(tuple(variables[n]) for n in names) if isinstance(variables, Mapping) else ()
        if not names or len(set(names)) < len(names) or any(len(set(s)) < max(len(s), 2) for s in states):
            raise ValueError(f"got variables {variables}; expected different names, each with two or more states")
        return cls(names, states)

    @property
    def p(self) -> int:
        """Number of variables."""
        return len(self.names)

    @property
    def continuous(self) -> bool:
        """Whether they are numbers."""
        return not self.states

    @property
    def arities(self) -> tuple[int, ...]:
        """Number of states of each."""
        return tuple(map(len, self.states))

    def index(self, name: str) -> int:
        """Return the position of a name.

        Raises:
            ValueError: no such variable.
        """
        if name not in self.names:
            raise ValueError(f"got the variable {name!r}; expected one of {', '.join(self.names)}")
        return self.names.index(name)

    def settings(self) -> list[tuple[str, str]]:
        """List all (variable, state)."""
        return [(name, state) for name, states in zip(self.names, self.states, strict=True) for state in states]

    def setting(self, name: str, state: str) -> tuple[int, int]:
        """Return the positions of a variable and a state.

        Raises:
            ValueError: no such variable or state.
        """
        i = self.index(name)
        if self.continuous or state not in self.states[i]:
            expected = "numbers" if self.continuous else f"one of {', '.join(self.states[i])}"
            raise ValueError(f"got {name} = {state!r}; expected {expected}")
        return i, self.states[i].index(state)

    def require_states(self, facts: Mapping[str, Any]) -> None:
        """Check that facts are states of their variables."""
        for name, state in facts.items():
            if not self.continuous:
                self.setting(name, state)

    def read(self, rows: Any) -> Tensor:
        """Return rows as `(n, p)`.

        Raises:
            TypeError: neither a tensor nor a list of mappings.
            ValueError: no row, another width, or names and states that are not there.
        """
        if isinstance(rows, Tensor):
            if rows.ndim != 2 or rows.shape[1] != self.p or not len(rows):  # noqa: PLR2004
                raise ValueError(f"got rows {tuple(rows.shape)}; expected (n, {self.p}) with at least one row")
            if rows.is_floating_point() != self.continuous:
                expected = "floating-point numbers" if self.continuous else "states as integers from 0"
                raise TypeError(f"got rows of {rows.dtype}; expected {expected}")
            return rows.double() if self.continuous else rows.long()
        found = [rows] if isinstance(rows, Mapping) else list(rows)
        if not found or not all(isinstance(row, Mapping) for row in found):
            raise TypeError(
                f"got {type(rows).__name__} as rows; expected a tensor or a list of {{name: state}}, not empty"
            )
        return torch.tensor([self._row(row) for row in found], dtype=torch.double if self.continuous else torch.long)

    def _row(self, row: Mapping[str, Any]) -> list[Any]:
        if set(row) != set(self.names):
            raise ValueError(
                f"got a row with {', '.join(sorted(row))}; expected all of {', '.join(self.names)}; rows with gaps are "
                "not scored"
            )
        return [float(row[n]) if self.continuous else self.setting(n, row[n])[1] for n in self.names]
