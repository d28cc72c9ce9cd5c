"""Climbing ends where no edge helps, the bootstrap keeps what is stable, and noise gives next to nothing."""

import networkx as nx
import pytest
import torch

from mnemotrace.modification.beliefs.candidates import score_families
from mnemotrace.modification.beliefs.dags import enumerate_dags
from mnemotrace.modification.beliefs.evidence import Evidence
from mnemotrace.modification.beliefs.families import BDeu, family_table
from mnemotrace.modification.beliefs.network import adjacency, draw_network
from mnemotrace.modification.beliefs.search import _ancestors, _changed, _moves, _resampled, bootstrap_edges, hill_climb


def sampled(p: int, n: int, seed: int) -> tuple[BDeu, Evidence]:
    g = torch.Generator().manual_seed(seed)
    net = draw_network(p, generator=g)
    return BDeu(net.arities), net.sample(n, generator=g) + net.sample(40, do={"x0": "1"}, generator=g)


@pytest.mark.parametrize("seed", range(3))
def test_restarts_find_the_best_of_all_graphs(seed: int) -> None:
    score, rows = sampled(4, 200, seed)
    dags, whole = enumerate_dags(4), family_table(score, rows)
    totals = sum(whole[i][dags.parents[:, i].long()] for i in range(4))
    found = hill_climb(score, rows, restarts=10)
    assert found.log_score == pytest.approx(float(totals.max()), abs=1e-9)  # type: ignore[union-attr]
    assert found.log_score == pytest.approx(
        sum(float(score.local(rows, i, [int(m)])) for i, m in enumerate(found.parents)), abs=1e-9
    )
    assert max(found.ends) == pytest.approx(found.log_score, abs=1e-9)
    assert found.approximate


def test_moves_are_all_changes_of_one_edge_without_a_cycle() -> None:
    score, rows = sampled(5, 60, 1)
    families = score_families(score, rows, max_parents=4)
    start = [0, 1, 2, 0, 0b1010]  # 0 > 1 > 2, 1 > 4, 3 > 4
    seen = set()
    for gain, move in _moves(start, families):
        after = _changed(start, move)
        total = sum(families.lookup[i][after[i]] - families.lookup[i][start[i]] for i in range(5))
        assert gain == pytest.approx(total, abs=1e-9)
        seen.add(tuple(after))
    wanted = set()
    edges = {(int(j), int(i)) for j, i in adjacency(torch.tensor(start)).nonzero()}
    for j in range(5):
        for i in range(5):
            if i == j:
                continue
            others = [edges | {(j, i)}] if (j, i) not in edges else [edges - {(j, i)}, edges - {(j, i)} | {(i, j)}]
            for other in others:
                if nx.is_directed_acyclic_graph(nx.DiGraph(list(other))):
                    wanted.add(tuple(sum(1 << a for a, b in other if b == k) for k in range(5)))
    wanted.discard(tuple(start))
    assert seen == wanted
    assert _ancestors(start) == [0, 1, 3, 0, 0b1011]


def test_the_bootstrap_keeps_a_strong_link_and_noise_has_few() -> None:
    g = torch.Generator().manual_seed(0)
    a = torch.randint(2, (300, 1), generator=g)
    values = torch.cat(
        [a, a ^ (torch.rand(300, 1, generator=g) < 0.1).long(), torch.randint(2, (300, 3), generator=g)], 1
    )
    found = bootstrap_edges(BDeu((2,) * 5), Evidence.observed(values), times=6)
    link = found.edges + found.edges.T
    assert float(link[0, 1]) == pytest.approx(1)
    assert float(link[2:, 2:].mean()) < 0.3
    assert (found.method, found.corrected, found.approximate) == ("bootstrap", False, True)
    assert bool(found.r_hat.isnan().all())
    best = found.best()
    whole = sum(float(BDeu((2,) * 5).local(Evidence.observed(values), i, [int(m)])) for i, m in enumerate(best))
    assert float(found.log_scores.max()) == pytest.approx(whole, abs=1e-9)


def test_rows_are_drawn_again_within_each_kind_of_intervention() -> None:
    intervened = torch.zeros(60, 2, dtype=torch.bool)
    intervened[20:50, 0] = intervened[50:, 1] = True
    rows = _resampled(intervened, torch.Generator().manual_seed(0))
    assert torch.equal(intervened[rows], intervened)
    assert len(rows.unique()) < 60


def test_wrong_settings_are_refused() -> None:
    score, rows = sampled(3, 10, 0)
    with pytest.raises(ValueError, match="restarts=-1"):
        hill_climb(score, rows, restarts=-1)
    with pytest.raises(ValueError, match="times=1; expected at least 2"):
        bootstrap_edges(score, rows, times=1)
