"""One good graph by climbing, and edge frequencies by doing so on resampled evidence.

From a graph, the edge is added, removed or turned round that raises the score most, until none does; then some edges
are changed at random and it climbs again. This finds a local optimum, not a posterior. The bootstrap repeats it on
evidence drawn again with replacement, rows of one kind (what was set from outside) among themselves; the share of
graphs with an edge is a measure of stability and **approximate**: it is no posterior probability.

Reference: Heckerman, Geiger and Chickering 1995 (climbing); Friedman, Goldszmidt and Wyner 1999 (bootstrap). Cost: a
step looks up some `p * candidates` families; the bootstrap scores all families anew each time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mnemotrace.modification.beliefs.candidates import Families, score_families
from mnemotrace.modification.beliefs.evidence import Evidence
from mnemotrace.modification.beliefs.families import Score, members
from mnemotrace.modification.beliefs.order_mcmc import GraphSample, summed

TIE = 1e-9  # equivalent graphs score alike, up to rounding


@dataclass(frozen=True, eq=False)
class Climbed:
    """Where climbing ended.

    Attributes:
        parents: `(p,)` int64 bit masks.
        log_score: log marginal likelihood of the graph.
        ends: log score at the end of each climb, the first from the start.
        restricted: whether parents were left out beforehand.
        approximate: always True.
    """

    parents: Tensor
    log_score: float
    ends: tuple[float, ...]
    restricted: bool
    approximate: bool = True


def hill_climb(
    score: Score,
    evidence: Evidence,
    *,
    max_parents: int = 3,
    candidates: int = 10,
    restarts: int = 5,
    families: Families | None = None,
    generator: torch.Generator | None = None,
) -> Climbed:
    """Climb to a graph with a high score, from the empty graph.

    Args:
        score: BDeu or BGe.
        evidence: observed and intervened rows.
        max_parents: of a node.
        candidates: parents that a node may have (see `score_families`).
        restarts: climbs after the first, each from the best graph with random changes; one for every two nodes.
        families: already scored; `max_parents` and `candidates` are then not used.
        generator: of the restarts; None is seed 0.

    Raises:
        ValueError: restarts below 0; also as `score_families`.
    """
    if restarts < 0:
        raise ValueError(f"got restarts={restarts}; expected 0 or more")
    generator = generator or torch.Generator().manual_seed(0)
    known = families or score_families(score, evidence, max_parents=max_parents, most=candidates)
    p = len(known)
    best = _climb([0] * p, known)
    top = _total(best, known)
    ends = [top]
    for _ in range(restarts):
        start = list(best)
        for _ in range((p + 1) // 2):
            moves = list(_moves(start, known))
            pick = int(torch.randint(len(moves), (1,), generator=generator))
            start = _changed(start, moves[pick][1])
        found = _climb(start, known)
        ends.append(_total(found, known))
        if ends[-1] > top + TIE:
            best, top = found, ends[-1]
    return Climbed(torch.tensor(best), top, tuple(ends), known.restricted)


def bootstrap_edges(
    score: Score,
    evidence: Evidence,
    *,
    times: int = 50,
    max_parents: int = 3,
    candidates: int = 10,
    restarts: int = 1,
    generator: torch.Generator | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> GraphSample:
    """Climb on resampled evidence.

    Args:
        score: BDeu or BGe.
        evidence: observed and intervened rows.
        times: how often, at least 2.
        max_parents: of a node.
        candidates: parents that a node may have.
        restarts: of each climb.
        generator: of resampling and restarts; None is seed 0.
        progress: called with times done and all.

    Returns:
        The graphs, equally weighted, with their scores on the whole evidence; `r_hat` is NaN, for there is no chain.

    Raises:
        ValueError: fewer than two times; also as `score_families`.
    """
    if times < 2:  # noqa: PLR2004
        raise ValueError(f"got times={times}; expected at least 2")
    generator = generator or torch.Generator().manual_seed(0)
    graphs: list[Tensor] = []
    for done in range(times):
        again = evidence[_resampled(evidence.intervened, generator)]
        climbed = hill_climb(
            score, again, max_parents=max_parents, candidates=candidates, restarts=restarts, generator=generator
        )
        graphs.append(climbed.parents)
        if progress is not None:
            progress(done + 1, times)
    parents = torch.stack(graphs)
    logs = torch.zeros(times, dtype=torch.float64)
    for i in range(parents.shape[1]):
        sets, place = parents[:, i].unique(return_inverse=True)
        logs += score.local(evidence, i, sets.tolist())[place]
    restricted = candidates < parents.shape[1] - 1
    return summed(
        parents[:, None], logs, torch.zeros(times, dtype=torch.float64), method="bootstrap", restricted=restricted
    )


def _resampled(intervened: Tensor, generator: torch.Generator) -> Tensor:
    """Draw rows with replacement within each kind of intervention, so that every kind stays as large."""
    kinds = intervened.unique(dim=0, return_inverse=True)[1]
    rows = torch.empty(len(kinds), dtype=torch.long)
    for kind in range(int(kinds.max()) + 1):
        own = (kinds == kind).nonzero()[:, 0]
        rows[own] = own[torch.randint(len(own), (len(own),), generator=generator)]
    return rows


def _climb(parents: Sequence[int], families: Families) -> list[int]:
    now = list(parents)
    while True:
        moves = list(_moves(now, families))
        top = max((gain for gain, _ in moves), default=0.0)
        if top <= TIE:
            return now
        move = next(move for gain, move in moves if gain >= top - TIE)  # the first, whatever the rounding
        now = _changed(now, move)


Move = tuple[tuple[int, int], ...]  # (node, its new parents)


def _moves(parents: Sequence[int], families: Families) -> Iterator[tuple[float, Move]]:
    """Give all changes of one edge that leave no cycle, with what each gains."""
    above = _ancestors(parents)
    value = [families.lookup[i][mask] for i, mask in enumerate(parents)]
    for i, mask in enumerate(parents):
        own = families.lookup[i]
        for j in families.candidates(i):
            other = mask ^ 1 << j
            if other not in own:
                continue
            gain = own[other] - value[i]
            if other > mask:
                if not above[j] >> i & 1:
                    yield gain, ((i, other),)
                continue
            yield gain, ((i, other),)
            turned = parents[j] | 1 << i
            if turned in families.lookup[j] and not any(above[k] >> j & 1 for k in members(other)):
                yield gain + families.lookup[j][turned] - value[j], ((i, other), (j, turned))


def _changed(parents: Sequence[int], move: Move) -> list[int]:
    now = list(parents)
    for node, mask in move:
        now[node] = mask
    return now


def _ancestors(parents: Sequence[int]) -> list[int]:
    """Give the bit mask of each node's ancestors."""
    above: dict[int, int] = {}
    while len(above) < len(parents):
        for i, mask in enumerate(parents):
            direct = members(mask)
            if i not in above and all(j in above for j in direct):
                above[i] = mask
                for j in direct:
                    above[i] |= above[j]
    return [above[i] for i in range(len(parents))]


def _total(parents: Sequence[int], families: Families) -> float:
    return sum(families.lookup[i][mask] for i, mask in enumerate(parents))
