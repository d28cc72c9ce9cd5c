"""Exact beliefs: counts of graphs, identities of the scores, and what an update costs.

Binary variables, 500 random rows; an update scores all families, all graphs, and sums up all edges. CPU time, median of
five (three for six variables), one thread. Enumerating is done once a process and is timed apart.
"""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.figures import Figure, main
from mnemotrace.modification.beliefs.dags import COUNTS, enumerate_dags
from mnemotrace.modification.beliefs.evidence import Evidence
from mnemotrace.modification.beliefs.exact import edge_probabilities, log_joint
from mnemotrace.modification.beliefs.families import BDeu, BGe, family_table


def rows(n: int, p: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 2, (n, p), generator=torch.Generator().manual_seed(seed))


def seconds(call: Callable[[], object], times: int) -> float:
    """Return the median CPU time of a call."""
    taken: list[float] = []
    for _ in range(times):
        begin = time.process_time()
        call()
        taken.append(time.process_time() - begin)
    return sorted(taken)[times // 2]


def update(p: int) -> Callable[[], object]:
    """Return one whole update."""
    dags, evidence, score = enumerate_dags(p), Evidence.observed(rows(500, p)), BDeu((2,) * p)

    def call() -> object:
        return edge_probabilities(torch.softmax(log_joint(family_table(score, evidence), dags), 0), dags)

    return call


def identities() -> list[Figure]:
    """E2: predictions multiply up, equivalent graphs tie, an experiment leaves its own family alone."""
    score, data = BDeu((2, 2, 2, 2)), Evidence.observed(rows(60, 4))
    family, parents = 2, 0b1001
    steps = [
        float(score.local(data[: t + 1], family, [parents]) - score.local(data[:t], family, [parents]))
        for t in range(60)
    ]
    by_hand = 0.0
    for t in range(60):
        past, now = data.values[:t], data.values[t]
        same = past[(past[:, 0] == now[0]) & (past[:, 3] == now[3])]
        by_hand += math.log((float((same[:, 2] == now[2]).sum()) + 1 / 8) / (len(same) + 1 / 4))
    kinds = enumerate_dags(4).classes()
    ties = 0.0
    numbers = torch.randn(60, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for kind, evidence in ((score, data), (BGe(4), Evidence.observed(numbers))):
        joint = log_joint(family_table(kind, evidence), enumerate_dags(4))
        low = torch.full((int(kinds.max()) + 1,), torch.inf, dtype=torch.float64).scatter_reduce(
            0, kinds, joint, "amin"
        )
        ties = max(ties, float((joint - low[kinds]).max()))
    more = data + Evidence.observed(rows(40, 4, 1), do=[2])
    changed = (family_table(score, more) - family_table(score, data)).nan_to_num().abs().amax(1)
    return [
        Figure("E2 BDeu from the product of its predictions", abs(sum(steps) - by_hand), "<= 1e-9"),
        Figure("E2 largest difference within a class, BDeu and BGe", ties, "<= 1e-9"),
        Figure("E2 change of a node's own family by its experiments", float(changed[2]), "<= 0"),
        Figure("E2 least change of another family (control)", float(changed[[0, 1, 3]].min())),
    ]


def measure(quick: bool) -> list[Figure]:
    sizes = (2, 3, 4, 5) if quick else (2, 3, 4, 5, 6)
    counts, listing = 0, 0.0
    for p in sizes:
        begin = time.process_time()
        counts += len(enumerate_dags(p)) == COUNTS[p]
        listing = time.process_time() - begin
    found = [
        Figure("E1 numbers of nodes whose graphs are as many as published", counts, f">= {len(sizes)}", f"of {sizes}"),
        *identities(),
        Figure("update of four variables, ms", 1000 * seconds(update(4), 5)),
        Figure("E7 update of five variables, ms", 1000 * seconds(update(5), 5), "<= 50"),
    ]
    if quick:
        return found
    size = enumerate_dags(6).parents.nbytes / 2**20
    return [
        *found,
        Figure("E7 update of six variables, s", seconds(update(6), 3), "<= 3"),
        Figure("listing all graphs of six nodes once, s", listing, "", f"{size:.0f} MiB are kept"),
    ]


if __name__ == "__main__":
    main(measure, __doc__)
