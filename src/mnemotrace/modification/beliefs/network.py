r"""Bayesian networks with discrete variables: what the world is, as far as data can tell.

.. math:: p(x \mid do(I)) = \prod_{i \notin I} p(x_i \mid x_{pa(i)}) \prod_{i \in I} [x_i = \text{set value}]

A network samples evidence, by observation or under interventions, and scores it. It is the ground truth that learnt
graphs are compared with; `bif` reads published ones.

Reference: Pearl 2009, Causality (truncated factorisation). Cost: sampling and scoring are one gather a node,
O(n p); a table holds the product of the parents' and the node's numbers of states.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mnemotrace.core.errors import NonFiniteError, SelectionError
from mnemotrace.modification.beliefs.evidence import Evidence

SLACK = 1e-9  # of a row's sum from 1
MOST = 62  # a parent set is a bit mask in an int64


@dataclass(frozen=True, eq=False)
class BayesianNetwork:
    """A directed acyclic graph with a probability table for each variable.

    Attributes:
        names: of the variables, in the order of the columns of the evidence.
        states: the names of each variable's states; a value is an index into them.
        parents: of each variable, as indices; their order is that of the table's axes.
        tables: float64, one a variable, `(states of first parent, ..., own states)`; last axis sums to 1.
    """

    names: tuple[str, ...]
    states: tuple[tuple[str, ...], ...]
    parents: tuple[tuple[int, ...], ...]
    tables: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        """Check everything before anything is drawn.

        Raises:
            ValueError: wrong numbers, doubled names, a cycle, a table of another shape or not summing to 1.
        """
        p = len(self.names)
        lengths = {"states": len(self.states), "parents": len(self.parents), "tables": len(self.tables)}
        wrong = {name: count for name, count in lengths.items() if count != p}
        if wrong or not 0 < p <= MOST:
            raise ValueError(f"got {p} names and {wrong or lengths}; expected 1 to {MOST} names and as many of each")
        if len(set(self.names)) < p:
            raise ValueError(f"got the names {self.names}; expected each once; rename the doubled ones")
        for i in range(p):
            self._check(i)
        _order(self.parents, self.names)

    def _check(self, i: int) -> None:
        name, states, parents, table = self.names[i], self.states[i], self.parents[i], self.tables[i]
        if len(set(states)) < max(2, len(states)):
            raise ValueError(f"got the states {states} of {name!r}; expected at least two, each once")
        if len(set(parents)) < len(parents) or not set(parents) <= set(range(len(self.names))) - {i}:
            raise ValueError(f"got the parents {parents} of {name!r}; expected other variables, by index, each once")
        shape = (*(len(self.states[j]) for j in parents), len(states))
        if table.dtype != torch.float64 or table.shape != shape:
            got = f"{table.dtype} of shape {tuple(table.shape)}"
            raise ValueError(
                f"got a table {got} for {name!r}; expected float64 {shape}: parents first, own states last"
            )
        if not table.isfinite().all():
            raise NonFiniteError(f"got a table with NaN or infinity for {name!r}; expected probabilities")
        if bool((table < 0).any()) or not bool(((table.sum(-1) - 1).abs() < SLACK).all()):
            raise ValueError(f"got a table for {name!r} whose rows are not probabilities; divide each by its sum")

    def __len__(self) -> int:
        """How many variables there are."""
        return len(self.names)

    @property
    def arities(self) -> tuple[int, ...]:
        """How many states each variable has."""
        return tuple(len(states) for states in self.states)

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """All `(cause, effect)`, by index."""
        return tuple((j, i) for i, parents in enumerate(self.parents) for j in parents)

    @property
    def masks(self) -> tuple[int, ...]:
        """Each variable's parents as a bit mask."""
        return tuple(sum(1 << j for j in parents) for parents in self.parents)

    def adjacency(self) -> Tensor:
        """Give `(p, p)` bool, [from, to]."""
        return adjacency(torch.tensor(self.masks))

    def index(self, name: str) -> int:
        """Find a variable.

        Raises:
            SelectionError: no variable is called so.
        """
        if name not in self.names:
            raise SelectionError(f"got the variable {name!r}; expected one of {', '.join(self.names)}")
        return self.names.index(name)

    def set_to(self, do: Mapping[str, str]) -> dict[int, int]:
        """Translate `{name: state}` to indices.

        Raises:
            SelectionError: an unknown variable, or a state that it does not have.
        """
        found = {}
        for name, state in do.items():
            i = self.index(name)
            if state not in self.states[i]:
                raise SelectionError(f"got {name}={state!r}; expected one of {', '.join(self.states[i])}")
            found[i] = self.states[i].index(state)
        return found

    def sample(
        self, n: int, *, do: Mapping[str, str] | None = None, generator: torch.Generator | None = None
    ) -> Evidence:
        """Draw cases, parents before children.

        Args:
            n: how many, at least 1.
            do: states set from outside in every case; nothing else flows into these variables. None: observation.
            generator: of the draws; None is seed 0.

        Returns:
            Values `(n, p)`, and which of them were set.

        Raises:
            ValueError: no cases asked for.
            SelectionError: as `set_to`.
        """
        if n < 1:
            raise ValueError(f"got n={n}; expected at least one case")
        generator = generator or torch.Generator().manual_seed(0)
        forced = self.set_to(do or {})
        values = torch.zeros(n, len(self), dtype=torch.long)
        for i in _order(self.parents, self.names):
            if i in forced:
                values[:, i] = forced[i]
                continue
            chance = self._rows(i, values).cumsum(-1)
            draw = torch.rand(n, 1, dtype=torch.float64, generator=generator)
            # the sum may stop a rounding error short of 1
            values[:, i] = (draw >= chance).sum(-1).clamp(max=len(self.states[i]) - 1)
        intervened = torch.zeros(n, len(self), dtype=torch.bool)
        intervened[:, list(forced)] = True
        return Evidence(values, intervened)

    def log_prob(self, evidence: Evidence) -> Tensor:
        """Give `(n,)` log probabilities; a value that was set from outside counts as certain.

        Raises:
            ValueError: another number of variables, or a value that is no state.
        """
        values, top = evidence.values, torch.tensor(self.arities)
        if values.shape[1] != len(self) or values.is_floating_point():
            raise ValueError(f"got {values.dtype} {tuple(values.shape)}; expected states, (n, {len(self)}) long")
        if bool((values < 0).any()) or bool((values >= top).any()):
            raise ValueError(f"got values up to {values.amax(0).tolist()}; expected states below {top.tolist()}")
        total = torch.zeros(len(values), dtype=torch.float64)
        for i in range(len(self)):
            chance = self._rows(i, values).gather(1, values[:, i : i + 1])[:, 0]
            total += chance.log().masked_fill(evidence.intervened[:, i], 0.0)
        return total

    def _rows(self, i: int, values: Tensor) -> Tensor:
        """Look up variable i's distribution in each case: (n, own states)."""
        parents = self.parents[i]
        if not parents:
            return self.tables[i].expand(len(values), -1)
        return self.tables[i][tuple(values[:, j] for j in parents)]


def draw_network(
    p: int, *, arity: int = 2, max_parents: int = 2, concentration: float = 0.5, generator: torch.Generator
) -> BayesianNetwork:
    """Invent a network: a random order, up to `max_parents` parents before each, Dirichlet tables.

    Args:
        p: how many variables, named x0, x1, ...
        arity: states of each.
        max_parents: number of parents is uniform up to this, or up to as many as come before.
        concentration: of the Dirichlet; below 1 parents matter much.
        generator: of the draws.
    """
    order = torch.randperm(p, generator=generator).tolist()
    parents: list[tuple[int, ...]] = [()] * p
    for place, i in enumerate(order):
        count = int(torch.randint(min(place, max_parents) + 1, (1,), generator=generator))
        chosen = torch.randperm(place, generator=generator)[:count].tolist()
        parents[i] = tuple(sorted(order[k] for k in chosen))
    tables: list[Tensor] = []  # torch.distributions takes no generator, hence the private function
    for i in range(p):
        rows = torch.full((arity ** len(parents[i]), arity), concentration, dtype=torch.float64)
        drawn = torch._sample_dirichlet(rows, generator)  # pyright: ignore[reportPrivateImportUsage]
        tables.append((drawn / drawn.sum(-1, keepdim=True)).reshape(*[arity] * len(parents[i]), arity))
    states = tuple(str(s) for s in range(arity))
    return BayesianNetwork(tuple(f"x{i}" for i in range(p)), (states,) * p, tuple(parents), tuple(tables))


def adjacency(parents: Tensor) -> Tensor:
    """Unpack bit masks `(..., p)` to `(..., p, p)` bool, [from, to]."""
    bits = torch.arange(parents.shape[-1])
    return ((parents.unsqueeze(-2) >> bits.unsqueeze(-1)) & 1).bool()


def hamming(found: Tensor, truth: Tensor) -> int:
    """Count the structural Hamming distance of two `(p, p)` graphs: pairs with another edge, or turned round.

    Reference: Tsamardinos, Brown & Aliferis 2006, here between directed graphs, so a reversal costs 1.
    """
    wrong = found.bool() != truth.bool()
    return int((wrong | wrong.T).triu(1).sum())


def _order(parents: Sequence[Sequence[int]], names: Sequence[str]) -> list[int]:
    """Sort parents before children.

    Raises:
        ValueError: there is a cycle; its variables are named.
    """
    order: list[int] = []
    left = set(range(len(parents)))
    while left:
        ready = sorted(i for i in left if not left & set(parents[i]))
        if not ready:
            raise ValueError(f"got a cycle among {', '.join(names[i] for i in sorted(left))}; remove an edge of it")
        order += ready
        left -= set(ready)
    return order
