r"""Edge probabilities for more variables than can be enumerated: Markov chains over orders of the variables.

Given an order, each node chooses its parents among those before it on its own, so one order sums over very many graphs:

.. math:: P(\prec \mid D) \propto \prod_i \sum_{\pi \subseteq \mathrm{before}(i)} e^{\mathrm{local}(i, \pi)} .

A step takes one node out of the order and puts it back at a place drawn from the exact conditional distribution (a
Gibbs step; Kuipers and Moffa 2017), which needs `3 p` sums. Chains at lower temperatures `beta < 1` exchange states
with the one at 1. Then a graph is drawn given the order (Friedman and Koller 2003).

**Bias and its correction.** A graph that fits `L(G)` orders is drawn `L(G)` times too often: the prior is uniform over
pairs of order and graph, not over graphs. `L` is hard to count, but an unbiased weight is not: given the graph, the
order is uniform among its `L` orders, and `q(order | G) = prod_t 1 / (nodes that could come t-th)` sums to 1 over them,
so `E[q | G] = 1 / L(G)`. Weighting by `q` therefore gives the uniform prior over graphs. (Ellis and Wong 2008 weigh the
distinct graphs found by their scores instead.) Its price is a smaller effective size, which is reported: with some
twenty variables a few per cent of the graphs remain, with alarm's 37 next to none, and then nothing is corrected.

Cost: a step is `3 p k` comparisons and exponentials for each chain, `k` families a node.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor

from mnemotrace.modification.beliefs.candidates import Families, score_families
from mnemotrace.modification.beliefs.evidence import Evidence
from mnemotrace.modification.beliefs.families import Score
from mnemotrace.modification.beliefs.network import adjacency

EACH = 5  # graphs drawn from each order: cheap beside a sweep
ENOUGH = 100.0  # effective graphs below which weights would leave a few graphs to speak for all


@dataclass(frozen=True, eq=False)
class GraphSample:
    """Graphs drawn from an approximate posterior; always labelled as approximate.

    Attributes:
        parents: `(k, p)` int64, each node's parents as a bit mask; chain after chain.
        log_scores: `(k,)` log marginal likelihood of each graph.
        weights: `(k,)`, sum to 1.
        edges: `(p, p)` edge probabilities [from, to], weighted.
        modular: `(p, p)` the same with equal weights.
        moved: share of sweeps after which the order was another; NaN without a chain.
        r_hat: `(p, p)` split R-hat of each edge over chains (1 is good; an edge that never varies counts as 1).
        effective: number of graphs that the correcting weights are worth, `1 / sum w^2`, whether they are used or
            not; says nothing of autocorrelation.
        corrected: whether the weights correct towards a uniform prior over graphs. They do not, and all are equal,
            where fewer than `ENOUGH` graphs would remain effective: then the prior is the order-modular one.
        method: `order` or `bootstrap`.
        restricted: whether parents were left out beforehand.
        approximate: always True.
    """

    parents: Tensor
    log_scores: Tensor
    weights: Tensor
    edges: Tensor
    modular: Tensor
    moved: float
    r_hat: Tensor
    effective: float
    corrected: bool
    method: str
    restricted: bool
    approximate: bool = True

    def __len__(self) -> int:
        """How many graphs."""
        return len(self.parents)

    def best(self) -> Tensor:
        """Give the `(p,)` parents of the graph with the highest score among those drawn."""
        return self.parents[self.log_scores.argmax()]


def order_mcmc(
    score: Score,
    evidence: Evidence,
    *,
    max_parents: int = 3,
    candidates: int = 10,
    steps: int = 200,
    burn: int = 50,
    chains: int = 4,
    temperatures: Sequence[float] = (1.0, 0.5, 0.25),
    families: Families | None = None,
    generator: torch.Generator | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> GraphSample:
    """Draw graphs from the posterior by chains over orders.

    Args:
        score: BDeu or BGe.
        evidence: observed and intervened rows.
        max_parents: of a node.
        candidates: parents that a node may have (see `score_families`); the restriction is told in the result.
        steps: sweeps that are kept, with `EACH` graphs a chain; a sweep moves every node once.
        burn: sweeps before, discarded.
        chains: independent ones, at least 2, for R-hat.
        temperatures: of the tempered copies of each chain, the first 1.
        families: already scored; `max_parents` and `candidates` are then not used.
        generator: of the draws; None is seed 0.
        progress: called with sweeps done and all.

    Raises:
        ValueError: steps, chains or temperatures that make no chain; also as `score_families`.
    """
    _require(steps, burn, chains, temperatures)
    generator = generator or torch.Generator().manual_seed(0)
    known = families or score_families(score, evidence, max_parents=max_parents, most=candidates)
    p, heats = len(known), torch.tensor(temperatures, dtype=torch.float64)
    beta = heats.repeat(chains)  # copies of one chain lie side by side
    draws = torch.rand(len(beta), p, generator=generator)
    orders = draws.argsort(1)
    cold = torch.arange(chains) * len(heats)
    graphs: list[Tensor] = []
    logs: list[Tensor] = []
    weights: list[Tensor] = []
    moved = 0.0
    for sweep in range(burn + steps):
        before = orders
        orders, total = _sweep(orders, known, beta, generator)
        moved += float((orders[cold] != before[cold]).any(1).double().mean()) / (burn + steps)
        orders = _exchange(orders, total, heats, generator)
        if sweep >= burn:
            drawn = orders[cold].repeat_interleave(EACH, 0)
            parents, log = draw_parents(drawn, known, generator)
            graphs.append(parents.view(chains, EACH, -1))
            logs.append(log.view(chains, EACH))
            weights.append(log_orders(drawn, parents).view(chains, EACH))
        if progress is not None:
            progress(sweep + 1, burn + steps)
    logs_of, weights_of = torch.cat(logs, 1).flatten(), torch.cat(weights, 1).flatten()
    return summed(torch.cat(graphs, 1), logs_of, weights_of, method="order", restricted=known.restricted, moved=moved)


def summed(
    parents: Tensor, log_scores: Tensor, log_weights: Tensor, *, method: str, restricted: bool, moved: float = nan
) -> GraphSample:
    """Sum `(chains, steps, p)` graphs up to edge probabilities and diagnostics."""
    drawn = adjacency(parents)
    flat = drawn.flatten(0, 1).double()
    weights = torch.softmax(log_weights, 0)
    effective = float(1 / weights.square().sum())
    corrected = method == "order" and effective >= ENOUGH
    if not corrected:
        weights = torch.full_like(weights, 1 / len(weights))
    return GraphSample(
        parents=parents.flatten(0, 1),
        log_scores=log_scores,
        weights=weights,
        edges=torch.einsum("k,kij->ij", weights, flat).clamp(max=1),  # rounding
        modular=flat.mean(0),
        moved=moved,
        r_hat=split_r_hat(drawn),
        effective=effective,
        corrected=corrected,
        method=method,
        restricted=restricted,
    )


def draw_parents(orders: Tensor, families: Families, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw a graph for each of `(c, p)` orders: `(c, p)` bit masks and `(c,)` scores."""
    before = _before(orders)
    fits = _fits(before, families)
    noise = torch.rand(fits.shape, dtype=torch.float64, generator=generator).clamp_min(1e-300)
    chosen = torch.where(fits, families.scores - (-noise.log()).log(), -torch.inf).argmax(2)  # Gumbel
    rows = torch.arange(len(families)).expand_as(chosen)
    return families.masks[rows, chosen], families.scores[rows, chosen].sum(1)


def log_orders(orders: Tensor, parents: Tensor) -> Tensor:
    """Give `(c,)` log probabilities of drawing each order, uniformly at each place among the nodes that may come next.

    Its exponential has the mean 1 / (number of orders that fit) over the orders that fit the graph.
    """
    done = torch.zeros(len(orders), 1, dtype=torch.long)
    total = torch.zeros(len(orders), dtype=torch.float64)
    for place in range(orders.shape[1]):
        waiting = ((done >> torch.arange(orders.shape[1])) & 1) == 0
        free = (waiting & ((parents & ~done) == 0)).sum(1)
        total -= free.double().log()
        done = done | (1 << orders[:, place : place + 1])
    return total


def split_r_hat(drawn: Tensor) -> Tensor:
    """Compute split R-hat of each edge from `(chains, steps, p, p)` indicators (Gelman et al. 2013, 11.4)."""
    half = drawn.shape[1] // 2
    if half < 2:  # noqa: PLR2004
        return torch.full(drawn.shape[2:], torch.nan, dtype=torch.float64)
    parts = torch.cat([drawn[:, :half], drawn[:, half : 2 * half]]).double()
    within, between = parts.var(1).mean(0), parts.mean(1).var(0)
    ratio = ((half - 1) / half * within + between) / within
    return torch.where(within > 0, ratio, torch.where(between > 0, torch.inf, 1.0)).sqrt()


def _sweep(orders: Tensor, families: Families, beta: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Move every node once; returns the orders and their log scores."""
    total = torch.zeros(len(orders), dtype=torch.float64)
    for node in torch.randperm(len(families), generator=generator).tolist():
        orders, total = _relocate(orders, node, families, beta, generator)
    return orders, total


def _relocate(
    orders: Tensor, node: int, families: Families, beta: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Take one node out and put it back by its exact conditional distribution."""
    c, p = orders.shape
    rest = orders[orders != node].view(c, p - 1)
    before = _before(rest, p)
    alone, after = _sums(before, families), _sums(before | (1 << node), families)
    prefix = torch.cat([torch.zeros(c, 1, dtype=torch.long), (1 << rest).cumsum(1)], 1)  # (c, p) places
    own = torch.where((families.masks[node] & ~prefix.unsqueeze(2)) == 0, families.scores[node], -torch.inf).logsumexp(
        2
    )
    early, late = alone.gather(1, rest), after.gather(1, rest)
    zero = torch.zeros(c, 1, dtype=torch.float64)
    # at place t: those before it do not have it as a parent, those behind it may
    left = torch.cat([zero, early.cumsum(1)], 1)
    right = torch.cat([late.flip(1).cumsum(1).flip(1), zero], 1)
    scores = own + left + right
    place = torch.multinomial(torch.softmax(beta[:, None] * scores, 1), 1, generator=generator)
    where = torch.arange(p).expand(c, p)
    source = (where - (where > place).long()).clamp(max=p - 2)
    return torch.where(where == place, node, rest.gather(1, source)), scores.gather(1, place)[:, 0]


def _exchange(orders: Tensor, total: Tensor, heats: Tensor, generator: torch.Generator) -> Tensor:
    """Let neighbouring temperatures of each chain exchange their orders (Metropolis)."""
    h = len(heats)
    orders, total = orders.clone().view(-1, h, orders.shape[1]), total.clone().view(-1, h)
    for low in range(h - 1):
        gain = (heats[low] - heats[low + 1]) * (total[:, low + 1] - total[:, low])
        yes = torch.rand(len(total), dtype=torch.float64, generator=generator).log() < gain
        for kept in (orders, total):
            kept[yes, low], kept[yes, low + 1] = kept[yes, low + 1].clone(), kept[yes, low].clone()
    return orders.flatten(0, 1)


def _before(orders: Tensor, p: int | None = None) -> Tensor:
    """Give, by node, the bit mask of all that come before it in each order: (c, p)."""
    bits = 1 << orders
    empty = torch.zeros(len(orders), p or orders.shape[1], dtype=torch.long)
    return empty.scatter(1, orders, bits.cumsum(1) - bits)


def _fits(before: Tensor, families: Families) -> Tensor:
    return (families.masks & ~before.unsqueeze(2)) == 0


def _sums(before: Tensor, families: Families) -> Tensor:
    """Sum over all families that fit: (c, p)."""
    return torch.where(_fits(before, families), families.scores, -torch.inf).logsumexp(2)


def _require(steps: int, burn: int, chains: int, temperatures: Sequence[float]) -> None:
    if steps < 1 or burn < 0 or chains < 2:  # noqa: PLR2004
        raise ValueError(f"got steps={steps}, burn={burn}, chains={chains}; expected at least 1, 0 and 2 of them")
    if not temperatures or temperatures[0] != 1 or not all(0 < t <= 1 for t in temperatures):
        raise ValueError(f"got temperatures {tuple(temperatures)}; expected 1 first, then numbers in (0, 1]")
