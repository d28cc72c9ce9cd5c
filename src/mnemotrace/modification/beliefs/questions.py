r"""What to ask next: the intervention from which most is learnt about the graph.

Setting variable `i` to a state and looking at the rest tells, in expectation,

.. math:: I = \sum_G p(G) \sum_y p(y \mid G, do) \log_2 \frac{p(y \mid G, do)}{p(y \mid do)},

with `p(y | G)` the product of the predictive probabilities of all families but that of `i` (Murphy 2001; Tong and
Koller 2001). Mere looking competes with setting. Exact up to what is left out of the graphs: those that hold the first
.9999 of the probability, at most five thousand. Cost: O(graphs x joint states x p) a question.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.modification.beliefs.dags import DAGs
from mnemotrace.modification.beliefs.evidence import Evidence
from mnemotrace.modification.beliefs.families import BDeu, members

_MASS, _MOST, _STATES = 0.9999, 5000, 4096


@dataclass(frozen=True)
class Question:
    """What to set, and what it would tell.

    Attributes:
        variable: to set; None is to look without setting anything.
        state: to set it to.
        gain: expected information about the graph, in bits.
        gains: of each candidate, by (variable, state).
        mass: probability of the graphs that were considered.
    """

    variable: str | None
    state: str | None
    gain: float
    gains: dict[tuple[str, str] | None, float]
    mass: float


def ask(
    score: BDeu,
    evidence: Evidence,
    dags: DAGs,
    posterior: Float[Tensor, " G"],
    candidates: Mapping[tuple[str, str] | None, tuple[int, int] | None],
) -> Question:
    """Find the candidate that is expected to tell most; each has a name, and a node with a state."""
    joint = outcomes(score.arities)
    table = predictive_table(score, evidence, joint)
    kept, mass = likeliest(posterior)
    share, likely = posterior[kept] / posterior[kept].sum(), DAGs(dags.parents[kept])
    gains = {name: expected_gain(table, joint, likely, share, do) for name, do in candidates.items()}
    best = max(gains, key=lambda name: gains[name])
    variable, state = best or (None, None)
    return Question(variable, state, gains[best], gains, mass)


def outcomes(arities: Sequence[int]) -> Tensor:
    """Return all joint states, `(J, p)`.

    Raises:
        ValueError: too many of them.
    """
    joint = math.prod(arities)
    if joint > _STATES:
        raise ValueError(f"got {joint} joint states; expected at most {_STATES}; ask with fewer variables or states")
    return torch.cartesian_prod(*(torch.arange(a) for a in arities)).reshape(joint, len(arities))


def predictive_table(score: BDeu, evidence: Evidence, joint: Tensor) -> Float[Tensor, "p sets J"]:
    """Return the log-probability of a node's state in each joint state, for each set of parents."""
    p = evidence.p
    found = torch.zeros(p, 2**p, len(joint), dtype=torch.float64)
    for i in range(p):
        rows, r = evidence.about(i), score.arities[i]
        for mask in range(2**p):
            if mask >> i & 1:
                continue
            q, past, ahead = 1, torch.zeros(len(rows), dtype=torch.long), torch.zeros(len(joint), dtype=torch.long)
            for j in members(mask):
                past, ahead = past * score.arities[j] + rows[:, j], ahead * score.arities[j] + joint[:, j]
                q *= score.arities[j]
            counts = torch.bincount(past * r + rows[:, i], minlength=q * r).double().view(q, r) + score.ess / (q * r)
            found[i, mask] = (counts / counts.sum(1, keepdim=True)).log()[ahead, joint[:, i]]
    return found


def expected_gain(
    table: Float[Tensor, "p sets J"],
    joint: Tensor,
    dags: DAGs,
    posterior: Float[Tensor, " G"],
    do: tuple[int, int] | None,
) -> float:
    """Return the expected information, in bits, about the graph from one row with `do=(node, state)`."""
    rows = slice(None) if do is None else joint[:, do[0]] == do[1]
    log = torch.zeros(len(dags), int(joint[rows].shape[0]), dtype=torch.float64)
    for k in range(dags.p):
        if do is None or k != do[0]:
            log += table[k][:, rows].index_select(0, dags.parents[:, k].int())
    said = log.exp()
    mixed = posterior @ said
    return float((posterior @ (said * (log - mixed.log())).sum(1)) / math.log(2))


def likeliest(posterior: Float[Tensor, " G"]) -> tuple[Tensor, float]:
    """Return the graphs that hold the first .9999 of the probability, at most five thousand, and what they hold."""
    values, order = posterior.sort(descending=True)
    count = min(int((values.cumsum(0) < _MASS).sum()) + 1, _MOST, len(values))
    return order[:count], float(values[:count].sum())
